"""One question from image to replayed answer: search and proof, then the file, then the judge.

Nothing is believed because a solver said so. The answer is clipped into its box, saved, loaded back and passed
through every network in float64; an answer that the networks do not confirm is repaired or withdrawn.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from threadpoolctl import ThreadpoolController

from arfj.attack.judge import Proof
from arfj.attack.options import Earlier, Options
from arfj.attack.parts import Divided
from arfj.attack.prove import Phase
from arfj.attack.regions import MARGIN, Corner, Regions, better_of
from arfj.attack.result import GAP_OPTIMAL, AttackResult, Status
from arfj.evaluate import Replay, Witness, load_witness, replay
from arfj.network import Floats
from arfj.question import Question

REPAIRS = 4
CHEAP = 1e-8
"""An answer stays as it is where the room in its class conditions costs less than this share of its distance."""
LIBRARIES = ThreadpoolController()
"""The BLAS libraries in use; to look for them takes milliseconds."""


def solve_question(
    question: Question,
    options: Options,
    witness: Path,
    label: str = "",
    told: Phase | None = None,
    earlier: Earlier | None = None,
    cores: Callable[[], int] | None = None,
) -> AttackResult:
    """Solve one question and replay the answer from its file.

    Args:
        question: image, target, scenarios.
        options: formulation, solver, limits.
        witness: where the answer is saved; no file is left there without an answer that replays.
        label: what the image is called in the result.
        told: told of the progress.
        earlier: answer and bound of an earlier run, to go on from.
        cores: how many of them this question may use at present, where that changes; else `options.threads`.

    Raises:
        SolverError: the solver is missing, unlicensed, or refuses the model.
        ArfjError: the witness cannot be written.
    """
    prover = Divided(question, options, told or (lambda _name, _step: None), earlier, cores)
    with LIBRARIES.limit(limits=1):  # products with eight columns: threads of the BLAS only get in each other's way
        proof = prover.prove()
    try:
        replayed, missed = _answer(question, prover.best, proof.bound, witness)
    except KeyboardInterrupt:  # what was found is not to be lost
        prover.interrupted = True
        replayed, missed = _answer(question, prover.best, proof.bound, witness)
    status, reason = _verdict(proof, replayed, missed)
    distance = None if replayed is None else replayed.distance
    return AttackResult(
        kind=question.ensemble.kind,
        true=question.true,
        target=question.target,
        alpha=question.ensemble.alpha,
        gamma=question.gamma,
        scenarios=len(question.ensemble),
        status=status,
        reason=reason,
        distance=distance,
        bound=proof.bound if distance is None else min(proof.bound, distance),
        seconds=prover.elapsed,
        nodes=prover.nodes,
        solver=options.engine,
        formulation=options.formulation,
        variables=prover.size[0],
        binaries=prover.size[1],
        constraints=prover.size[2],
        witness=None if replayed is None else str(witness),
        replay=replayed,
        label=label,
        active=prover.active,
        interrupted=prover.interrupted,
        demand=question.demand,
    )


def _verdict(proof: Proof, replayed: Replay | None, missed: str) -> tuple[Status, str]:
    """The word for what was proven and confirmed; never more than both allow."""
    if proof.infeasible:
        return "infeasible", proof.reason
    if replayed is None:
        return "unknown", missed or proof.reason or "no answer was found"
    if replayed.distance - proof.bound <= GAP_OPTIMAL * max(replayed.distance, 1e-9):
        return "optimal", ""
    return "feasible", proof.reason or "the gap is not closed"


def _answer(question: Question, best: Corner | None, bound: float, path: Path) -> tuple[Replay | None, str]:
    """The answer's replay, and what it misses if it is none."""
    return (None, "") if best is None else _confirmed(question, best, bound, path)


def _confirmed(question: Question, best: Corner, bound: float, path: Path) -> tuple[Replay | None, str]:
    """Save, load back and replay; where a condition is missed, ask for that much more and try again."""
    violation = 0.0
    for attempt in range(REPAIRS):
        margin = 2.0 * violation + 10.0**attempt * 1e-8 if attempt else 0.0
        corner: Corner | None = best
        # First without any room: where outputs react slowly, room in the conditions costs distance.
        if attempt or MARGIN * best.slope > CHEAP * best.distance:
            corner = Regions(question, margin).at(best.x)
            corner = corner if attempt else better_of(question, best.x, corner)
        if corner is None and attempt > 1:
            break
        outcome = _saved(question, best.x if corner is None else corner.x, bound, path)
        if outcome.hit:
            return outcome, ""
        violation = outcome.violation
    path.unlink(missing_ok=True)
    return None, f"the networks do not confirm the answer: a condition is missed by {violation:.2g}"


def _saved(question: Question, x: Floats, bound: float, path: Path) -> Replay:
    """Write the witness, and replay what was written."""
    image = np.clip(x, 0.0, 1.0).reshape(question.nominal.shape)
    distance = question.distance(image)
    witness = Witness(
        image,
        question.nominal,
        question.true,
        question.target,
        question.gamma,
        distance,
        min(bound, distance),
        question.demand,
    )
    witness.save(path)
    return replay(load_witness(path), question.ensemble)
