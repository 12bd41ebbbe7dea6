"""The search for the optimum and its proof: warm start, then branch and bound over as few scenarios as it takes.

A solver's word is checked against the answer at hand, and its bound holds for the whole question, up to that answer's
distance: the model has every answer that is nearer (its big-M constants hold in the ball of the cut-off radius R, which
is at least this distance, or were narrowed by searches for nearer answers), and fewer scenarios are a relaxation. Where
less is asked than to fool all of them, fewer scenarios are none: then all of them stand in the model from the start.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from arfj.attack.closing import Closing, Milestone
from arfj.attack.crew import Crew
from arfj.attack.descent import descend
from arfj.attack.gradient import gradient_answers
from arfj.attack.judge import CONTRADICTED, INFEASIBLE, WITHIN_TOLERANCES, Proof, believed, exceeds, judged
from arfj.attack.known import Known, cut_off_radius
from arfj.attack.options import Earlier, Options
from arfj.attack.regions import Corner, Regions, better_of, drawn_towards, phases_at
from arfj.attack.warm import warm_start
from arfj.bounds import Bounds
from arfj.encoding import Encoding, encode_paper, encode_tight
from arfj.encoding.eased import LARGEST, tolerated
from arfj.errors import SolverError
from arfj.evaluate.replay import TOLERANCE
from arfj.network import Floats
from arfj.question import Question
from arfj.solver import EnoughError, Limits, Solution, Step, solve

WARM_SHARE, WARM_LEAST, WARM_SECONDS = 0.15, 5.0, 20.0
"""The warm start may take this share of the time limit, at least and at most this many seconds (and half of it all)."""
PATIENCE = 0.25
"""Seconds per active scenario that a part may take before its bounds are tightened."""
EARLY_SECONDS, EARLY_TIMES, EARLY_SHARE = 1.0, 3, 0.5
"""A first try at the proof, before neighbourhoods of the first answer are searched, may take this long, with our own
search so many times as long, and this share of the time that the search has left."""
EARLY: Sequence[Milestone] = (0.5, 0.6), (1.0, 0.85), (2.0, 0.95)
"""Where our own search gives the try up."""
PROVEN = 9.5e-7
"""The search ends when bound and distance differ by less than this share: what a part leaves open, and as much for its
answers that are nearer than the best one by so little that nothing is made of them."""
NEARER, LIKELY = 1e-3, 0.8
"""After a first try that did not close, the same part is hard unless the answer has come nearer by this share, and so
near that the try's bound is at this share of its distance."""
FEW = 3
"""Fewer scenarios than this have the patience of so many."""
SOON, PROMISING = 0.25, 0.75
"""Another solver's proof that may be begun anew with better bounds is given up after this share of its trial, where its
bound is below this share of the distance: what it will close is well beyond that by then."""
Phase = Callable[[str, Step], None]
"""Told of every phase: its name, and incumbent, bound and nodes in distances; seconds since the start."""


class Prover:
    """One search: its clock, the best answer so far, and what the solver has spent.

    Attributes:
        best: the best answer known to meet the demand, by default to fool all scenarios, or None.
        bound: the best bound so far.
        reached: the best one that proofs of this search have come to over the whole ball, by itself and in this run.
        nodes: branch-and-bound nodes of all solves.
        size: variables, binaries and constraints of the last model.
        active: number of scenarios in the last model.
        interrupted: whether the user stopped it.
        known: of every scenario: bounds and conflicts.
        hard: whether these are improved by searches.
        failed: the distance at which a first try did not close, or infinite.
        optimum: the optimum of the last part.
        last: the search of the last part and its scenarios, if it was ours.
        begun: the scenarios that the first try came to need.
        crew: other processes.
        many: scenarios of the question that this one is a part of, for progress.
    """

    def __init__(
        self,
        question: Question,
        options: Options,
        told: Phase,
        earlier: Earlier | None = None,
        cores: Callable[[], int] | None = None,
        crew: Crew | None = None,
    ) -> None:
        self.question = question
        self.many = len(question.ensemble)
        self.options = options
        self.told = told
        self.regions = Regions(question)
        self.began = time.perf_counter()
        self.best: Corner | None = None
        self.bound = 0.0
        self.reached = 0.0
        self.nodes = 0
        self.size = (0, 0, 0)
        self.active = 0
        self.interrupted = False
        self.hard = options.bounds == "exact"
        self.failed = np.inf
        self.optimum: Floats = question.flat
        self.last: tuple[Closing, list[int]] | None = None
        self.begun: list[int] = []
        self.earlier = earlier
        self.crew = crew or Crew(cores or (lambda: options.threads))
        self.known = Known(question, self.crew, options.start, options.engine == "bab")

    def prove(self) -> Proof:
        """The optimum, as far as the time allows and the user lets it."""
        try:
            with self.crew:
                proof = self.searched()
        except KeyboardInterrupt:  # outside of the solver, which listens for itself
            self.interrupted = True
            proof = Proof(self.bound, False, "interrupted")
        contradicted = self.best is not None and exceeds(proof.bound, self.best.distance)
        return CONTRADICTED if contradicted else proof

    def searched(self) -> Proof:
        """Everything, in order."""
        if self.earlier is not None:
            self.bound = max(self.bound, self.earlier.bound)
            self.offer(self.earlier.x.ravel(), walk=False)
        if self.options.formulation == "paper":
            proof = self.solved_at_once(encode_paper(self.question))
            if proof.infeasible:
                return self.doubted(proof)
            self.bound = max(self.bound, proof.bound)
            return self.final(proof)
        self.warm_up()
        nothing = self.without_answer() if self.best is None else None
        return self.proven_lazily() if nothing is None else nothing

    def without_answer(self) -> Proof | None:
        """No answer, no ball: a proof that there is none (or the lack of one), or None once an answer is found."""
        alone = self.solved_singly()
        if alone is not None:
            return alone
        self.warm_up(patience=2.0)
        if self.best is None:
            proof = self.solved_freely()
            if self.best is None or self.interrupted or self.left <= 0:
                return proof
        return None

    def doubted(self, proof: Proof) -> Proof:
        """Before "infeasible" is said of the printed model, an answer is searched and the tight model asked."""
        self.warm_up()
        confirmed = self.without_answer() if self.best is None else None
        if confirmed is None:
            return Proof(0.0, False, INFEASIBLE)
        if confirmed.infeasible:
            return proof
        return replace(confirmed, reason=confirmed.reason or "the printed model is infeasible, the tight one is not")

    def solved_singly(self) -> Proof | None:
        """The proof that one scenario alone cannot be fooled, where one is suspected; None where none was found."""
        if self.question.soft:
            return None
        indices = range(len(self.question.ensemble))
        for index in indices if len(indices) > 1 else ():
            part = self.question.restricted([index])
            if self.interrupted or self.left <= 0:
                break
            if gradient_answers(part, self.options.seed, time.perf_counter() + min(1.0, self.left)):
                continue
            encoding, seconds = self.encoded(part, np.inf, [index]), 0.3 * self.left
            solution = self.optimise(part, encoding, solutions=1, seconds=seconds)
            if solution.status == "infeasible" and not self.doubtful(part, [index], seconds):
                return judged(self.question, self.best, solution, np.inf)
        return None

    def warm_up(self, patience: float = 1.0) -> None:
        """An answer before any model is built; `patience` times as long as usual."""
        share = min(WARM_SECONDS, max(WARM_SHARE * self.options.time_limit, WARM_LEAST), 0.5 * self.left) * patience
        self.say("search")
        deadline = time.perf_counter() + share
        tried = partial(self.tried, deadline)
        found = warm_start(self.question, self.options.seed, deadline, self.found, tried)
        if found is not None:
            self.found(found)

    def tried(self, deadline: float, corner: Corner) -> Corner | None:
        """A first short try at the proof: the best answer then, or None where the search need not go on."""
        self.found(corner)
        if self.options.formulation == "paper" or self.best is None:
            return corner
        before, active, now = self.best.distance, self.first(), time.perf_counter()
        most = EARLY_SECONDS * (EARLY_TIMES if self.options.engine == "bab" else 1)
        until = now + min(most, EARLY_SHARE * (deadline - now))
        try:
            while not self.interrupted and (seconds := until - time.perf_counter()) > 0:
                solution, _ = self.solved_part(self.best, active, seconds)
                if self.outgrown:
                    self.begun = active = self.extended(active)
                    continue
                open_ = solution.status == "feasible"
                self.failed = before if open_ else np.inf
                if open_:
                    self.crew.gather()  # while the search for an answer goes on, helpers begin
                break
        except SolverError:  # a model too large for a licence, say: the nearer the answer, the smaller it is
            return self.best
        if self.closed or self.interrupted:
            return None
        self.say("search")
        return self.best

    @property
    def outgrown(self) -> bool:
        """Whether the last part ended with a nearer answer that does not fool all networks."""
        return self.last is not None and self.last[0].outgrown

    @property
    def unlikely(self) -> bool:
        """Whether the first try failed, and what is known by now would hardly do better."""
        if self.best is None or not np.isfinite(self.failed):
            return False
        distance = self.best.distance
        return distance > self.failed * (1 - NEARER) or self.bound < LIKELY * distance

    @property
    def closed(self) -> bool:
        """Whether the bound meets the best answer."""
        best = self.best
        return best is not None and best.distance - self.bound <= PROVEN * max(best.distance, 1e-9)

    def solved_at_once(self, encoding: Encoding, solutions: int | None = None) -> Proof:
        """All scenarios in one model without a cut-off; optionally only until the first answer."""
        solution = self.optimise(self.question, encoding, solutions=solutions)
        if solution.values is not None:
            self.offer(encoding.decode(solution.values), walk=solution.status != "optimal" or solutions is not None)
        return judged(self.question, self.best, solution, np.inf)

    def solved_freely(self) -> Proof:
        """Any answer of all scenarios, from the tight model without a ball, or the proof that there is none."""
        everyone = list(range(len(self.question.ensemble)))
        proof = self.solved_at_once(self.encoded(self.question, np.inf, everyone), solutions=1)
        if proof.infeasible and (reason := self.doubtful(self.question, everyone)):
            return Proof(0.0, False, reason)
        return proof

    def doubtful(self, question: Question, indices: list[int], seconds: float = np.inf) -> str:
        """Why a model without a ball that is called infeasible need not be so; empty where it is.

        It has to be so, too, where class conditions ask for as much less as tolerances can amount to.
        """
        eased = tolerated(question, self.known.bounds_of(np.inf, indices))
        solution = self.optimise(question, self.encoded(question, np.inf, indices, eased), solutions=1, seconds=seconds)
        if solution.status == "infeasible":
            return ""
        return WITHIN_TOLERANCES if solution.values is not None or not solution.reason else solution.reason

    def proven_lazily(self) -> Proof:
        """Solve with few scenarios, look which others the optimum does not fool, add the worst, and so on.

        Every bound on the way holds for all scenarios; it is the proof once the best answer that fools all of them is
        no farther away. A part that does not close in a short while is solved again with tightened bounds.
        """
        active = self.first()
        if self.begun[: len(active)] == active:
            active = self.begun
        self.hard = self.hard or self.unlikely
        further = False
        while True:
            if self.best is None or self.interrupted:
                return self.final(Proof(self.bound, False, "interrupted"))
            if self.closed:  # by the first try, or in a smaller ball
                return self.final(Proof(self.bound, False, ""))
            if (smaller := self.divided(active, further)) is not None:
                return self.final(smaller)
            if self.hard:  # once a part was hard, those with more scenarios are
                self.learn(self.best, active, further)
            solution, proof = self.solved_part(self.best, active)
            if self.closed or self.interrupted or self.left <= 0:
                return self.final(proof)
            further = self.hard and np.isfinite(self.known.trial)
            following = self.following(solution, active)
            if following is None or self.left <= 0:
                return self.final(proof)
            further = further and following is active
            active = following

    def following(self, solution: Solution, active: list[int]) -> list[int] | None:
        """The scenarios of the next part, maybe the same ones again; None: all has been done."""
        answered = solution.status == "optimal" and solution.value is not None
        if len(active) < len(self.question.ensemble) and (answered or self.outgrown):
            return self.extended(active)
        better = solution.status in ("feasible", "unknown") and (not self.hard or np.isfinite(self.known.trial))
        self.hard = self.hard or better
        return active if better else None

    def divided(self, _active: list[int], _tried: bool) -> Proof | None:
        """The proof of smaller parts, in place of one that is out of reach; None: the search goes on with it.

        Here it always does; `arfj.attack.parts` knows smaller ones.

        Args:
            _active: scenarios of the part.
            _tried: whether it has stayed open with tightened bounds.
        """
        return None

    def final(self, proof: Proof) -> Proof:
        """The best bound so far with this part's reason, unless a later answer contradicts it."""
        if self.best is not None and exceeds(self.bound, self.best.distance):
            self.bound = 0.0
            return CONTRADICTED
        if not proof.reason and not self.closed and self.outgrown:  # a larger part would have been next
            proof = replace(proof, reason="interrupted" if self.interrupted else "time limit reached")
        return replace(proof, bound=self.bound)

    def first(self) -> list[int]:
        """The scenarios to begin with: those that hold the best answer back, or the nominal network alone.

        Under a soft demand all of them.
        """
        if self.question.soft:
            return list(range(len(self.question.ensemble)))
        return list(self.best.binding) if self.best is not None and self.best.binding else [0]

    def solved_part(self, best: Corner, active: list[int], seconds: float | None = None) -> tuple[Solution, Proof]:
        """One model with these scenarios; for a short while only, as long as its bounds can be tightened further.

        With `seconds` for no longer, as a first try.
        """
        patience = seconds or (self.known.trial if self.hard else PATIENCE * max(len(active), FEW))
        part = self.question.restricted(active)
        radius = cut_off_radius(best.distance)
        x: Floats | None
        if self.options.engine == "bab":
            solution, x = self.branched(part, radius, active, best.x, patience, seconds is not None)
        else:
            encoding = self.encoded(part, radius, active)
            trial = self.known.trial if self.hard and seconds is None else np.inf
            solution = self.optimise(part, encoding, best.x, seconds=patience, doubt=(SOON * trial, PROMISING))
            x = None if solution.values is None else exact(part, encoding.decode(solution.values))
        proof = judged(self.question, self.best, solution, radius)
        self.reached = max(self.reached, proof.bound)
        self.bound = max(self.bound, self.reached)
        if x is not None:
            self.optimum = x
            if not self.outgrown:
                self.offer(x, walk=solution.status != "optimal" and seconds is None)
        return solution, proof

    def branched(
        self,
        part: Question,
        radius: float,
        active: list[int],
        answer: Floats,
        seconds: float,
        trying: bool,
    ) -> tuple[Solution, Floats]:
        """Our own branch and bound on a part, maybe as a first try; the best answer to it."""
        self.say("bounding")
        bounds = self.known.bounds_of(radius, active)
        closing = self.closing(part, active, answer, np.inf, bounds)
        look = self.hard and self.outgrown
        if self.last is not None and self.last[1] == active[: len(self.last[1])]:
            closing.learn_from(self.last[0])
        self.last = closing, list(active)
        self.say("proof")
        solution = closing.run(min(self.left, seconds), look, EARLY if trying else self.doubts, trying)
        if closing.deduction is not None and self.best is not None:
            self.known.keep(self.best, active, closing.deduction.probed)
        self.nodes += solution.nodes
        self.interrupted = self.interrupted or solution.interrupted
        return solution, closing.best.x

    def closing(
        self, part: Question, active: list[int], answer: Floats, within: float, bounds: Sequence[Bounds]
    ) -> Closing:
        """Our own branch and bound on a part, which is outgrown where its answers are none of the whole question."""
        missing = [index for index in range(len(self.question.ensemble)) if index not in active]
        whole = partial(self.answered, self.question.restricted(missing)) if missing else None
        probed = self.known.probed_of(active) if self.hard else None
        across = self.known.across_of(active)
        told = self.watch, self.options.memory, whole, self.crew
        closing = Closing(part, bounds, answer, *told, within, probed, across)
        self.size, self.active = closing.size, len(active)
        return closing

    @property
    def doubts(self) -> Sequence[Milestone]:
        """Where a part is given up; here nowhere, `arfj.attack.climb` goes on with smaller balls."""
        return ()

    def answered(self, others: Question, x: Floats) -> bool:
        """Whether an answer to a part fools all others, too; if it is nearer than the best one it becomes that."""
        if others.slack(x) < 0:
            return False
        self.offer(x, walk=False)
        return True

    def learn(self, best: Corner, active: list[int], further: bool = False) -> None:
        """Better bounds of these scenarios, and their conflicts."""
        self.known.improve(best, active, lambda: self.left, self.say, further)

    def extended(self, active: list[int]) -> list[int]:
        """These scenarios and the one that the last part's answer fools least, or all where it fools them all."""
        missing = [index for index in range(len(self.question.ensemble)) if index not in active]
        slacks = [self.question.restricted([index]).slack(self.optimum) for index in missing]
        return active + ([missing[int(np.argmin(slacks))]] if min(slacks, default=0.0) < 0 else missing)

    def encoded(
        self, question: Question, radius: float, indices: list[int], eased: Sequence[Floats] | None = None
    ) -> Encoding:
        """The tight model of these scenarios with bounds over the ball of this radius; `eased`: see `encode_tight`."""
        self.say("bounding")
        return encode_tight(question, self.known.bounds_of(radius, indices), self.known.conflicts_of(indices), eased)

    def optimise(
        self,
        question: Question,
        encoding: Encoding,
        start: Floats | None = None,
        solutions: int | None = None,
        seconds: float = np.inf,
        doubt: Milestone = (np.inf, 0.0),
    ) -> Solution:
        """Hand a model to the solver; `doubt`: where it is given up."""
        problem = encoding.problem
        self.size = (problem.variables, problem.binaries, problem.constraints)
        self.active = len(question.ensemble)
        self.say("proof")
        given = None if start is None else encoding.complete(start, question.ensemble)
        limits = Limits(
            min(self.left, seconds),
            max(self.options.threads, self.crew.cores()),
            self.options.seed,
            self.options.memory,
            solutions=solutions,
            proving=start is not None,
            cores=self.crew.cores,
        )
        engine = self.options.engine
        watch = partial(self.watch, doubt=doubt) if encoding.largest <= LARGEST else self.watch_unproven
        solution = solve("scip" if engine == "bab" else engine, problem, limits, given, watch)
        solution = believed(solution, encoding.largest)
        if solution.reason == "interrupted" and not solution.interrupted:  # by `EnoughError`
            solution = replace(solution, reason="time limit reached")
        self.nodes += solution.nodes
        self.interrupted = self.interrupted or solution.interrupted
        return solution

    def offer(self, x: Floats, walk: bool) -> None:
        """Keep a solver's answer if it beats the best one; `walk` descends on from it.

        An answer to some scenarios only is first drawn towards the best one until it fools them all.
        """
        if self.best is not None and not walk and np.array_equal(x, self.best.x):
            return
        if self.best is not None and self.question.slack(x) < 0:
            x = drawn_towards(self.question, x, self.best.x)
            walk = True
        corner = better_of(self.question, x, self.regions.at(x))
        if corner is None and self.question.slack(x) >= -TOLERANCE:
            # The replay decides whether it stands.
            corner = Corner(x, self.question.distance(x), phases_at(self.question, x))
        elif corner is not None and walk and not self.interrupted:
            room = min(max(2.0, 0.02 * self.options.time_limit), self.left + 1.0)
            program = self.regions.program(corner.x)
            corner = descend(program, [corner.x], time.perf_counter() + room, corner)
        if corner is not None and (self.best is None or corner.distance < self.best.distance):
            self.best = corner

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
        self.told(phase, Step(distance, self.bound or None, self.nodes, self.elapsed))

    def found(self, corner: Corner) -> None:
        """Keep and report a better answer of the warm start."""
        if self.best is None or corner.distance < self.best.distance:
            self.best = corner
        self.say("search")

    def watch(self, step: Step, doubt: Milestone = (np.inf, 0.0)) -> None:
        """Report the solver's progress on the clock of this search; end it where it has come no farther than this."""
        distance = step.incumbent if self.best is None else self.best.distance
        bound = self.bound if step.bound is None else max(step.bound, self.bound)
        phase = f"proof, {self.active} of {self.many} networks"
        self.told(phase, Step(distance, bound, self.nodes + step.nodes, self.elapsed))
        if step.seconds > doubt[0] and distance is not None and bound < doubt[1] * distance:
            raise EnoughError

    def watch_unproven(self, step: Step) -> None:
        """Report the progress of a solver whose bounds are not believed."""
        self.watch(replace(step, bound=None))


def exact(question: Question, x: Floats) -> Floats:
    """A solver's answer without its tolerances: the optimum of its linear region (x itself where that fails)."""
    corner = Regions(question).at(x)
    return x if corner is None else corner.x
