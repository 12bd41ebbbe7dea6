r"""Certificates: for every distribution with these moments, CVaR_eps of a loss of the network is at most a number.

What is claimed holds for all of P(mu, Sigma), whatever the shape of the distribution, and for the moments as they are
given: those that were estimated from samples carry an error of their own, about which nothing is claimed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from arfj.certify.cvar.descent import descend
from arfj.certify.cvar.lifting import Lifted, lifted
from arfj.certify.cvar.moments import Moments, checked_level
from arfj.certify.cvar.multipliers import Family, Support, constraints, reduced
from arfj.certify.cvar.recompute import Proof, proof_from
from arfj.certify.cvar.sdp import SOLVERS, solve_sdp
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
        seconds: wall clock.
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
        solvers: of cvxpy, in the order in which they are asked.
    """

    multipliers: Family = "diagonal"
    method: Method = "first-order"
    seconds: float | None = None
    solvers: Sequence[str] = SOLVERS

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
    options, began = options or Options(), time.perf_counter()
    checked_level(epsilon)
    given = constraints(net, options.multipliers, support)
    small, inner = reduced(given, loss)
    if options.method == "sdp":
        word = solve_sdp(small, inner, epsilon, options.seconds, options.solvers)
        theta, objective = word.theta, word.objective
        status = f"{word.status} ({word.solver})" if word.solver else word.status
    else:
        found = descend(small, inner, epsilon, options.seconds)
        theta, objective, status = None if found.proof is None else found.proof.theta, None, found.status
    proof = None if theta is None else proof_from(given, loss, theta, epsilon)
    return Certificate(proof, epsilon, options.method, status, objective, time.perf_counter() - began)


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
    """
    checked_level(epsilon)
    net = lifted(network, moments)
    classes = len(net.outputs)
    for name in (true, *(rivals or ())):
        if not 0 <= name < classes:
            raise UsageError(f"class {name} is none of the network's; expected 0 to {classes - 1}")
    if rivals is not None and true in rivals:
        raise UsageError(f"class {true} is the true class and no rival of itself; expected another class")
    asked = [j for j in range(classes) if j != true] if rivals is None else list(rivals)
    if not asked:
        raise UsageError("the network has one output, so there is no rival; expected at least two classes")
    options, began = options or Options(), time.perf_counter()
    found: dict[int, Certificate] = {}
    for left, j in zip(range(len(asked), 0, -1), asked, strict=True):
        mine = options
        if options.seconds is not None:
            share = (options.seconds - (time.perf_counter() - began)) / left
            mine = replace(options, seconds=max(share, 1e-3))
        found[j] = certify_loss(net, net.linear_loss(margin(classes, j, true)), epsilon, mine)
    return found


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
