"""What a solver's word is worth: checked against the answer at hand, the cut-off, and the size of the weights."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from arfj.attack.regions import Corner
from arfj.attack.result import GAP_OPTIMAL
from arfj.encoding.eased import LARGEST
from arfj.question import Question
from arfj.solver import Solution
from arfj.solver.record import Status

LEAST_GAP = 1e-9
"""Between distances near 0."""
WEIGHTS = (1e-7, 1e7)
"""Outside of this range of a neuron's largest weight, a solver's tolerance of 1e-9 may hide or make an answer."""

CONDITIONS = 10 * WEIGHTS[1]
"""And beyond this the weights of outputs, times 1 + gamma."""


@dataclass(frozen=True)
class Proof:
    """What branch and bound came to, in distances.

    Attributes:
        bound: proven lower bound of the whole question (not only inside the cut-off).
        infeasible: proven on a model without cut-off.
        reason: why it is not better; empty where the optimum is proven.
    """

    bound: float
    infeasible: bool
    reason: str


INFEASIBLE = "the solver calls a model infeasible that holds an answer: numerical trouble"
"""Where one is known, or found later."""
WITHIN_TOLERANCES = "the solver calls a model infeasible that holds an answer within tolerances: numerical trouble"

CONTRADICTED = Proof(0.0, False, "a proven bound exceeds the distance of a later answer: numerical trouble")
"""What is left of a proof whose bound lies above an answer that was found later."""


def judged(question: Question, best: Corner | None, solution: Solution, radius: float) -> Proof:
    """A solver's word, checked against the best answer at hand and the cut-off radius of its model."""
    if (scale := badly_scaled(question)) is not None:
        return Proof(0.0, False, f"weights of size {scale:.0e} are beyond what floating-point proofs can bear")
    if solution.status == "infeasible":
        if best is None and not np.isfinite(radius):
            where = "meets the demand on the networks" if question.soft else "gives the target on every network"
            return Proof(0.0, True, f"no image in [0, 1] {where}")
        return Proof(0.0, False, INFEASIBLE)
    if best is not None and exceeds(solution.bound, best.distance):
        return Proof(0.0, False, "the solver's bound exceeds the distance of an answer: numerical trouble")
    bound = max(0.0, min(solution.bound, radius))
    return Proof(bound if np.isfinite(bound) else 0.0, False, solution.reason)


def believed(solution: Solution, largest: float) -> Solution:
    """What a solver says, without its proof where the terms of a row add up to more than `LARGEST`."""
    if largest <= LARGEST:
        return solution
    reason = f"sums of size {largest:.0e} in a model are beyond a solver's tolerances; --solver bab proves by itself"
    status: Status = "unknown" if solution.values is None else "feasible"
    return replace(solution, status=status, reason=reason, bound=-np.inf)


def exceeds(bound: float, distance: float) -> bool:
    """Whether a bound lies above an answer's distance by more than the gap that counts as closed.

    One that is off by more is no proof of such a gap, whatever a solver's tolerances explain.
    """
    return bound > distance * (1 + GAP_OPTIMAL) + LEAST_GAP


def badly_scaled(question: Question) -> float | None:
    """The largest incoming weight of a neuron that is too small or too large beside a solver's tolerances, if any.

    In class conditions those of the outputs stand times 1 + gamma: `CONDITIONS`.
    """
    for network in question.ensemble:
        for layer in network.layers:
            sizes = np.abs(layer.weight).max(axis=0)
            times = 1.0 + question.gamma if layer is network.layers[-1] else 1.0
            large = (sizes > WEIGHTS[1]) | (times * sizes > CONDITIONS)
            bad = sizes[(sizes > 0) & ((sizes < WEIGHTS[0]) | large)]
            if bad.size:
                return float(bad[0])
    return None
