"""One question from image to replayed answer: warm start -> bounds -> encoding -> solver -> polish -> replay.

Nothing is believed because a solver said so. The answer is clipped into its box, saved, loaded back and passed
through every network in float64; the proven bound holds for the whole question because the cut-off radius R, in which
the big-M constants are computed, is at least the distance of an answer that was itself checked.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from arfj.attack.descent import Corner, RegionProgram, descend, phases_at
from arfj.attack.result import GAP_OPTIMAL, AttackResult, Status
from arfj.attack.warm import warm_start
from arfj.bounds import Method, pre_activation_bounds
from arfj.encoding import Encoding, Formulation, encode_paper, encode_tight
from arfj.evaluate import Replay, Witness, load_witness, replay
from arfj.evaluate.replay import TOLERANCE
from arfj.network import Floats
from arfj.question import Question
from arfj.solver import Limits, Solution, SolverName, Step, solve

TIME_LIMIT = 600.0
WARM_SHARE, WARM_SECONDS = 0.1, 20.0
"""The warm start may take this share of the time limit, and at most this many seconds."""
RADIUS_ROOM = 1e-6
"""R exceeds the distance of the answer found first by this share, and by this much at least."""
REPAIRS = 3

Phase = Callable[[str, Step], None]
"""Told of every phase: its name, and incumbent, bound and nodes in distances; seconds since the start."""


@dataclass(frozen=True)
class Options:
    """How a question is solved; none of it changes the optimum.

    Attributes:
        formulation: "tight" or "paper".
        bounds: where the big-M constants come from.
        solver: "scip" or "gurobi".
        time_limit: seconds for one image, everything included.
        threads: solver threads.
        seed: of the warm start and the solver.
        memory: the solver's memory limit in MiB, or None.
    """

    formulation: Formulation = "tight"
    bounds: Method = "alpha-crown"
    solver: SolverName = "scip"
    time_limit: float = TIME_LIMIT
    threads: int = 1
    seed: int = 0
    memory: float | None = None


@dataclass(frozen=True, eq=False)
class _Proof:
    """What branch and bound came to, in distances.

    Attributes:
        bound: proven lower bound of the whole question (not only inside the cut-off).
        infeasible: proven on a model without cut-off.
        reason: why it is not better; empty where the optimum is proven.
    """

    bound: float
    infeasible: bool
    reason: str


def cut_off_radius(distance: float) -> float:
    """R for an answer at this distance: a little above, so that rounding cannot cut the answer off."""
    return distance * (1.0 + RADIUS_ROOM) + RADIUS_ROOM


def solve_question(
    question: Question, options: Options, witness: Path, label: str = "", told: Phase | None = None
) -> AttackResult:
    """Solve one question and replay the answer from its file.

    Args:
        question: image, target, scenarios.
        options: formulation, solver, limits.
        witness: where the answer is saved; no file is left there without an answer that replays.
        label: what the image is called in the result.
        told: told of the progress.

    Raises:
        SolverError: the solver is missing, unlicensed, or refuses the model.
        ArfjError: the witness cannot be written.
    """
    return _Run(question, options, witness, label, told or (lambda _name, _step: None)).result()


class _Run:
    """One solve: its clock, the best answer so far, and what the solver has spent."""

    def __init__(self, question: Question, options: Options, witness: Path, label: str, told: Phase) -> None:
        self.question = question
        self.options = options
        self.witness = witness
        self.label = label
        self.told = told
        self.began = time.perf_counter()
        self.best: Corner | None = None
        self.nodes = 0
        self.size = (0, 0, 0)
        self.interrupted = False

    def result(self) -> AttackResult:
        """Everything, in order."""
        try:
            proof = self.prove()
        except KeyboardInterrupt:  # outside of the solver, which listens for itself
            self.interrupted = True
            proof = _Proof(0.0, False, "interrupted")
        replayed, distance, reason = self.replayed(proof.bound)
        status: Status
        if proof.infeasible:
            status = "infeasible"
        elif replayed is None:
            status, reason = "unknown", reason or proof.reason
        else:
            proven = distance - proof.bound <= GAP_OPTIMAL * max(distance, 1e-9)
            status, reason = ("optimal", "") if proven else ("feasible", proof.reason or "the gap is not closed")
        return AttackResult(
            kind=self.question.ensemble.kind,
            true=self.question.true,
            target=self.question.target,
            alpha=self.question.ensemble.alpha,
            gamma=self.question.gamma,
            scenarios=len(self.question.ensemble),
            status=status,
            reason=reason,
            distance=None if replayed is None else distance,
            bound=proof.bound if replayed is None else min(proof.bound, distance),
            seconds=self.elapsed,
            nodes=self.nodes,
            solver=self.options.solver,
            formulation=self.options.formulation,
            variables=self.size[0],
            binaries=self.size[1],
            constraints=self.size[2],
            witness=None if replayed is None else str(self.witness),
            replay=replayed,
            label=self.label,
            interrupted=self.interrupted,
        )

    # -- the search ---------------------------------------------------------------------------------------------

    def prove(self) -> _Proof:
        """The optimum, as far as the time allows."""
        if self.options.formulation == "paper":
            return self.judged(self.optimise(encode_paper(self.question)), np.inf)
        self.warm_up()
        if self.best is None and not self.interrupted:
            # No answer, no ball: the solver's first answer makes one, or its proof that there is none ends it.
            solution = self.optimise(self.encoded(np.inf), first_answer=True)
            if self.best is None or self.interrupted or self.left <= 0:
                return self.judged(solution, np.inf)
        if self.best is None or self.interrupted:
            return _Proof(0.0, False, "interrupted")
        radius = cut_off_radius(self.best.distance)
        return self.judged(self.optimise(self.encoded(radius), self.best.x), radius)

    def warm_up(self) -> None:
        """An answer before any model is built."""
        share = min(WARM_SECONDS, WARM_SHARE * self.options.time_limit)
        self.say("searching an answer")
        try:
            self.best = warm_start(self.question, self.options.seed, time.perf_counter() + share, self.found)
        except KeyboardInterrupt:
            self.interrupted = True

    def encoded(self, radius: float) -> Encoding:
        """The tight model with bounds over the ball of this radius."""
        self.say("bounding")
        region = self.question.region(radius)
        bounds = [pre_activation_bounds(network, region, self.options.bounds) for network in self.question.ensemble]
        return encode_tight(self.question, bounds)

    def optimise(self, encoding: Encoding, start: Floats | None = None, first_answer: bool = False) -> Solution:
        """Hand a model to the solver; its answer, polished, is offered as the best one."""
        problem = encoding.problem
        self.size = (problem.variables, problem.binaries, problem.constraints)
        self.say("branch and bound")
        limits = Limits(
            self.left,
            self.options.threads,
            self.options.seed,
            self.options.memory,
            solutions=1 if first_answer else None,
            proving=start is not None,
        )
        given = None if start is None else encoding.complete(start, self.question.ensemble)
        solution = solve(self.options.solver, problem, limits, given, self.watch)
        self.nodes += solution.nodes
        self.interrupted = self.interrupted or solution.interrupted
        if solution.values is not None:
            self.offer(encoding.decode(solution.values), exact=solution.status == "optimal" and not first_answer)
        return solution

    def offer(self, x: Floats, exact: bool) -> None:
        """Polish a solver's answer in its linear region (and descend on, where it is not the optimum)."""
        program = RegionProgram(self.question)
        corner = program.solve(phases_at(self.question, x))
        if corner is None:
            if self.best is not None and self.question.slack(np.clip(x, 0.0, 1.0)) < -TOLERANCE:
                return  # the networks do not confirm it, and an answer is at hand
            corner = Corner(x, self.question.distance(x), phases_at(self.question, x), ())
        elif not exact and not self.interrupted:
            corner = descend(
                program, [corner.x], time.perf_counter() + max(2.0, 0.02 * self.options.time_limit), corner
            )
        if corner is not None and (self.best is None or corner.distance < self.best.distance):
            self.best = corner

    def judged(self, solution: Solution, radius: float) -> _Proof:
        """The solver's word, checked against the answer at hand and the cut-off."""
        if solution.status == "infeasible":
            if self.best is None and not np.isfinite(radius):
                return _Proof(0.0, True, "no image in [0, 1] gives the target on every network")
            return _Proof(0.0, False, "the solver calls a model infeasible that holds an answer: numerical trouble")
        if self.best is not None and solution.bound > self.best.distance * (1 + 1e-5) + 1e-5:
            return _Proof(0.0, False, "the solver's bound exceeds the distance of an answer: numerical trouble")
        return _Proof(max(0.0, min(solution.bound, radius)), False, solution.reason)

    # -- the replay ---------------------------------------------------------------------------------------------

    def replayed(self, bound: float) -> tuple[Replay | None, float, str]:
        """Save, load back and replay the best answer; repair it where the networks do not confirm it."""
        if self.best is None:
            return None, np.inf, ""
        corner: Corner | None = self.best
        violation = 0.0
        for attempt in range(REPAIRS):
            if attempt:
                margin = 2.0 * violation + 10.0**attempt * 1e-8
                corner = RegionProgram(self.question, margin).solve(phases_at(self.question, self.best.x))
            if corner is None:
                break
            outcome = self.saved(corner.x, bound)
            if outcome.hit:
                return outcome, outcome.distance, ""
            violation = outcome.violation
        self.witness.unlink(missing_ok=True)
        return None, np.inf, f"the networks do not confirm the answer: a condition is missed by {violation:.2g}"

    def saved(self, x: Floats, bound: float) -> Replay:
        """Write the witness, and replay what was written."""
        image = np.clip(x, 0.0, 1.0).reshape(self.question.nominal.shape)
        distance = self.question.distance(image)
        witness = Witness(
            image,
            self.question.nominal,
            self.question.true,
            self.question.target,
            self.question.gamma,
            distance,
            min(bound, distance),
        )
        witness.save(self.witness)
        return replay(load_witness(self.witness), self.question.ensemble)

    # -- clock and progress -------------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        """Seconds left."""
        return max(0.0, self.options.time_limit - self.elapsed)

    def say(self, phase: str) -> None:
        """Report a phase."""
        distance = None if self.best is None else self.best.distance
        self.told(phase, Step(distance, None, self.nodes, self.elapsed))

    def found(self, corner: Corner) -> None:
        """Keep and report a better answer of the warm start."""
        self.best = corner
        self.say("searching an answer")

    def watch(self, step: Step) -> None:
        """Report the solver's progress on the clock of this run."""
        known = [
            value for value in (step.incumbent, None if self.best is None else self.best.distance) if value is not None
        ]
        self.told(
            "branch and bound",
            replace(step, incumbent=min(known, default=None), nodes=self.nodes + step.nodes, seconds=self.elapsed),
        )
