r"""Certificates: for every distribution with these moments, CVaR_eps of a loss of the network is at most a number.

What is claimed holds for all of P(mu, Sigma), whatever the shape of the distribution, and for the moments as they are
given: those that were estimated from samples carry an error of their own, about which nothing is claimed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from threadpoolctl import threadpool_limits

from arfj.certify.cvar.descent import descend
from arfj.certify.cvar.lifting import Lifted, lifted
from arfj.certify.cvar.moments import Moments, checked_level
from arfj.certify.cvar.multipliers import Constraints, Family, Problem, Support, constraints, reduced
from arfj.certify.cvar.recompute import Proof, proof_from
from arfj.certify.cvar.sdp import solve_sdp
from arfj.errors import UsageError
from arfj.graph import Graph
from arfj.network import Floats, Network

Method = Literal["sdp", "first-order"]
METHODS: tuple[Method, ...] = get_args(Method)


@dataclass(frozen=True, eq=False)
class Certificate:
    """sup CVaR_eps of a loss is at most `bound`.

    Attributes:
        proof: the multipliers and the form that prove it, or None: then nothing is known.
        epsilon: eps.
        method: what made the multipliers.
        status: the solver's word, which proves nothing.
        objective: the value that a solver reports, never used; None for the first-order method.
        seconds: wall clock, of all that were looked for together.
    """

    proof: Proof | None
    epsilon: float
    method: Method
    status: str
    objective: float | None
    seconds: float

    @property
    def bound(self) -> float | None:
        """The certified number, recomputed from the multipliers, or None where none stands."""
        return None if self.proof is None else self.proof.bound

    @property
    def holds(self) -> bool:
        """Whether CVaR_eps of the loss is certified to be at most 0."""
        return self.proof is not None and self.proof.bound <= 0


@dataclass(frozen=True)
class Options:
    """How bounds are looked for.

    Attributes:
        multipliers: the family of constraints.
        method: "sdp" (cvxpy), or "first-order" (descent, no solver).
        seconds: limit for all losses together, or None.
        solvers: of cvxpy, in the order in which they are asked; None for the usual ones (`sdp.usual`).
    """

    multipliers: Family = "diagonal"
    method: Method = "first-order"
    seconds: float | None = None
    solvers: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"the method {self.method!r} is not known; expected one of {', '.join(METHODS)}")


def certify_loss(
    net: Lifted, loss: Floats, epsilon: float, options: Options | None = None, support: Support | None = None
) -> Certificate:
    """Bound sup CVaR_eps of one loss.

    Args:
        net: the lifted network, with the moments of its input.
        loss: M_out of the loss, from `Lifted.linear_loss` or `Lifted.quadratic_loss`.
        epsilon: in (0, 1).
        options: by default diagonal multipliers by descent.
        support: a box in which all inputs lie (`support_in`): then the claim is about the distributions of P(mu,
        Sigma) on it.

    Raises:
        UsageError: eps out of range, an option that is not known.
        SolverError: cvxpy is missing.
    """
    options = options or Options()
    given = constraints(net, options.multipliers, support)
    return _certified([(given, [loss])], epsilon, options)[0]


def certify_classes(
    network: Network | Graph,
    moments: Moments,
    true: int,
    epsilon: float = 0.2,
    options: Options | None = None,
    rivals: Sequence[int] | None = None,
) -> Mapping[int, Certificate]:
    """One certificate for each rival j: of the loss f_j - f_true.

    All of them at most 0 says that each rival alone lies, in the mean over the worst share eps of inputs, below the
    true class; it says nothing of the largest rival (`maximum.certify_maximum` does).

    Raises:
        UsageError: a class out of range, the true class among the rivals, eps out of range.
        NetworkError: another activation than ReLU.
        SolverError: cvxpy is missing.
    """
    return certify_many(network, [(moments, true)], epsilon, options, rivals)[0]


def certify_many(
    network: Network | Graph,
    inputs: Sequence[tuple[Moments, int]],
    epsilon: float = 0.2,
    options: Options | None = None,
    rivals: Sequence[int] | None = None,
) -> list[Mapping[int, Certificate]]:
    """`certify_classes` for several inputs at once, each given by its moments and its true class.

    By descent, all rivals of all inputs go together; the time limit is one for all of them.

    Raises:
        UsageError, NetworkError, SolverError: as there.
    """
    checked_level(epsilon)
    options, names = options or Options(), list[list[int]]()
    asked: list[tuple[Constraints, list[Floats]]] = []
    for moments, true in inputs:
        net = lifted(network, moments)
        classes = len(net.outputs)
        names.append(_rivals(classes, true, rivals))
        losses = [net.linear_loss(margin(classes, j, true)) for j in names[-1]]
        asked.append((constraints(net, options.multipliers), losses))
    found = iter(_certified(asked, epsilon, options))
    return [{j: next(found) for j in mine} for mine in names]


def _rivals(classes: int, true: int, rivals: Sequence[int] | None) -> list[int]:
    """The rivals that are asked for, or all."""
    for name in (true, *(rivals or ())):
        if not 0 <= name < classes:
            raise UsageError(f"class {name} is none of the network's; expected 0 to {classes - 1}")
    if rivals is not None and not rivals:
        raise UsageError("rivals is empty; name at least one class, or leave it out for all of them")
    if rivals is not None and true in rivals:
        raise UsageError(f"class {true} is the true class and no rival of itself; expected another class")
    asked = [j for j in range(classes) if j != true] if rivals is None else list(rivals)
    if not asked:
        raise UsageError("the network has one output, so there is no rival; expected at least two classes")
    return asked


def _certified(
    asked: Sequence[tuple[Constraints, Sequence[Floats]]], epsilon: float, options: Options
) -> list[Certificate]:
    """The certificates of losses of one network, in their order; each is proven by the full problem."""
    checked_level(epsilon)
    began, found = time.perf_counter(), dict[int, Certificate]()
    # Matrices this small gain nothing by threads, and where other work runs they lose; what overflows proves nothing.
    with threadpool_limits(1), np.errstate(over="ignore", invalid="ignore"):
        whole = [Problem(given, loss) for given, losses in asked for loss in losses]
        small = [problem for given, losses in asked for problem in reduced(given, losses)]
        for places in _together(small, options.method):
            started, share = time.perf_counter(), len(places) / (len(whole) - len(found))
            left = None if options.seconds is None else max((options.seconds - (started - began)) * share, 1e-3)
            searched = _searched([small[place] for place in places], epsilon, options, left)
            for place, (theta, status, objective) in zip(places, searched, strict=True):
                proof = None if theta is None else proof_from(*whole[place], theta, epsilon)
                seconds = time.perf_counter() - started
                found[place] = Certificate(proof, epsilon, options.method, status, objective, seconds)
    return [found[place] for place in range(len(whole))]


def _together(problems: Sequence[Problem], method: Method) -> list[list[int]]:
    """Places of the problems that go together: those of one shape, by descent."""
    if method == "sdp":
        return [[place] for place in range(len(problems))]
    shapes: dict[tuple[int, ...], list[int]] = {}
    for place, (given, _) in enumerate(problems):
        shapes.setdefault(given.forms.shape, []).append(place)
    return list(shapes.values())


def _searched(
    problems: Sequence[Problem], epsilon: float, options: Options, seconds: float | None
) -> list[tuple[Floats | None, str, float | None]]:
    """Multipliers, status and the objective that a solver reports."""
    if options.method == "sdp":
        (problem,) = problems
        word = solve_sdp(*problem, epsilon, seconds, options.solvers)
        return [(word.theta, f"{word.status} ({word.solver})" if word.solver else word.status, word.objective)]
    found = descend(problems, epsilon, seconds)
    return [(None if one.proof is None else one.proof.theta, one.status, None) for one in found]


def margin(classes: int, rival: int, true: int) -> Floats:
    """The weights of the loss f_rival - f_true."""
    weights = np.zeros(classes)
    weights[rival], weights[true] = 1.0, -1.0
    return weights


def support_in(network: Network | Graph, lower: Floats, upper: Floats) -> Support:
    """The box of the inputs, and bounds of all preactivations over it (`arfj.bounds`).

    Raises:
        UsageError: an empty box, or one of another size.
    """
    from arfj.bounds import crown_bounds
    from arfj.bounds.backward import sites
    from arfj.graph import Activation
    from arfj.region import Region

    graph, region = network.graph(), Region.between(lower, upper)
    if graph.inputs != len(region.lower):
        raise UsageError(f"the box has {len(region.lower)} sides; the network takes {graph.inputs} inputs")
    found = crown_bounds(graph, region)
    order = {site: place for place, site in enumerate(sites(graph))}
    read = [order[node.source] for node in graph.nodes if isinstance(node, Activation)]
    below = [found.lower[place] for place in read] or [np.zeros(0)]
    above = [found.upper[place] for place in read] or [np.zeros(0)]
    return Support(region.lower, region.upper, np.concatenate(below), np.concatenate(above))
