"""The complete verifier: root bounds, descent, then branch and bound beside a mixed-integer program.

No method closes everything. What is cheap comes first: most properties end at the root, in a fraction of a second.
A proof is one of our own bounds, evaluated in float64 with its rounding covered, or a program that is infeasible with
room for its solver's tolerances. A counterexample is one only after its replay.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from arfj.bounds import Bounds, crown_bounds
from arfj.bounds.batched import Precision
from arfj.bounds.compiled import Device, Engine
from arfj.bounds.reduce import Reduced, reduce
from arfj.errors import NetworkError, UsageError
from arfj.graph import Graph
from arfj.network import Floats, Network
from arfj.verify.falsify import descend
from arfj.verify.inputs import split_inputs
from arfj.verify.margins import Confirm, Margins, chosen_bounds, margins_of, region_of
from arfj.verify.mip import MOST_OPEN, solve_by_program
from arfj.verify.outcome import INTERRUPTED, Counterexample, Outcome, Verdict, replay, replay_near_float32
from arfj.verify.phases import PhaseSearch
from arfj.verify.property import Case, Property
from arfj.verify.search import Clock, Finding, Progress, Step, silent

FEW_INPUTS = 12
"""Inputs that vary, up to which the input is split."""
ROOT_STEPS = 8
RESTARTS = 8
PHASES_ALONE = 3.0
"""Seconds of branch and bound before a mixed-integer program runs beside it."""

TIME_LIMIT = "time limit"
CONTRADICTED = "a counterexample in float64 that onnxruntime, in the file's own precision, does not confirm"
LOG = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(frozen=True)
class Options:
    """What a verification may use.

    Attributes:
        seconds: wall clock.
        device: "cpu" (NumPy), or "gpu" (JAX; its search runs in float32, its proofs in float64).
        seed: of the descents' starts.
    """

    seconds: float = 60.0
    device: Device = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.seconds > 0:
            raise UsageError(f"the time limit is {self.seconds}; expected seconds above 0")
        if self.seed < 0:
            raise UsageError(f"the seed is {self.seed}; expected 0 or more")

    @property
    def engine(self) -> Engine:
        """Who bounds batches of subproblems."""
        return "jax" if self.device == "gpu" else "numpy"

    @property
    def precision(self) -> Precision:
        """Of searches, not of proofs."""
        return "float32" if self.device == "gpu" else "float64"


def verify(
    network: Network | Graph,
    prop: Property,
    options: Options | None = None,
    progress: Progress = silent,
    confirmed: Confirm | None = None,
) -> Outcome:
    """Decide a property.

    Args:
        network: what is asked about.
        prop: the question; its sizes must be the network's.
        options: limits.
        progress: told what is going on, at most five times a second.
        confirmed: a second opinion on a replayed counterexample; one that it does not share counts for nothing, and the
            search goes on.

    Returns:
        `robust` only with a proof, `falsified` only with a replayed counterexample, else `unknown` with its reason.

    Raises:
        NetworkError: the network does not have the property's sizes, or ends in a softmax of which it asks values.
    """
    options = options or Options()
    graph = network.graph()
    if (graph.inputs, graph.classes) != (prop.inputs, prop.outputs):
        raise NetworkError(
            f"the network has {graph.inputs} inputs and {graph.classes} outputs, the property {prop.inputs} and "
            f"{prop.outputs}; give the property that was written for this network"
        )
    if network.softmax and not prop.compares:
        raise NetworkError(
            "the network ends in a softmax, over which properties may compare outputs with each other and no more; "
            "export the network without it"
        )
    begun = time.perf_counter()
    clock = Clock(begun + options.seconds, begun, progress)
    if prop.vacuous:
        return Outcome("robust", prop.vacuous, 0.0, 0)
    with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float64 proves nothing
        return _Verification(network, graph, prop, options, clock, confirmed).run()


class _Verification:
    """One property, case by case."""

    def __init__(
        self,
        network: Network | Graph,
        graph: Graph,
        prop: Property,
        options: Options,
        clock: Clock,
        confirmed: Confirm | None = None,
    ) -> None:
        self.network, self.graph, self.prop, self.options, self.clock = network, graph, prop, options, clock
        self.confirmed, self.contradicted = confirmed, False
        self.known: tuple[bytes, Counterexample] | None = None
        self.rng = np.random.default_rng(options.seed)
        self.branches = 0
        self.least = np.inf
        self.proofs: list[str] = []
        self.open_reason = ""
        self.interrupted = False
        self.told: Step | None = None
        self.tell, clock.progress = clock.progress, self._note

    def run(self) -> Outcome:
        """All cases at their roots, then those that stay open, each with its share of the time that is left."""
        waiting: list[tuple[Case, Margins, Bounds]] = []
        for case in self.prop.cases:
            found = self._guarded(functools.partial(self._first, case), None)
            if not isinstance(found, Finding):
                waiting.append((case, *found))
            elif (outcome := self._settled(found)) is not None:
                return outcome
        for position, (case, margins, bounds) in enumerate(waiting):
            clock = self.clock.within(self.clock.left / (len(waiting) - position))
            search = functools.partial(self._second, case, margins, bounds, clock)
            outcome = self._settled(self._guarded(search, _worst(margins, bounds)))
            if outcome is not None:
                return outcome
        if self.contradicted and not self.interrupted:
            return self._outcome("unknown", CONTRADICTED)
        if self.open_reason:
            return self._outcome("unknown", self.open_reason)
        return self._outcome("robust", "; ".join(dict.fromkeys(self.proofs)))

    def _guarded(self, search: Callable[[], T], bound: float | None) -> T | Finding:
        """What a search gives, unless time is over or the user has interrupted."""
        if self.interrupted or self.clock.over:
            return Finding("open", INTERRUPTED if self.interrupted else TIME_LIMIT, bound=bound)
        self.told = None
        try:
            return search()
        except KeyboardInterrupt:
            self.interrupted = True
            return self._interrupted()

    def _settled(self, finding: Finding) -> Outcome | None:
        """Take a finding down; the outcome if it ends the verification."""
        self.branches += finding.branches
        if finding.status == "found" and finding.x is not None:
            counterexample = self._replayed(finding.x)
            if counterexample is not None:
                return self._outcome("falsified", finding.reason, counterexample)
            finding = Finding("open", "a candidate did not survive its replay", bound=finding.bound)
        if finding.status == "proven":
            self.proofs.append(finding.reason)
            return None
        self.open_reason = finding.reason if self.interrupted else self.open_reason or finding.reason
        self.least = min(self.least, -np.inf if finding.bound is None else finding.bound)
        return None

    def _replayed(self, x: Floats) -> Counterexample | None:
        if self.known is not None and self.known[0] == x.tobytes():  # a search has asked
            return self.known[1]
        found = replay_near_float32(self.network, self.prop, x)
        if found is not None and self.network.softmax:
            found = replay(self.network.probabilities, self.prop, found.x)  # what the file itself gives
        if found is not None and self.confirmed is not None and not self.confirmed(found.x):
            self.contradicted = True
            return None
        if found is not None:
            self.known = x.tobytes(), found
        return found

    def _interrupted(self) -> Finding:
        """What was known when Ctrl-C came."""
        told = self.told
        if told is None:
            return Finding("open", INTERRUPTED)
        return Finding("open", INTERRUPTED, bound=told.worst, branches=max(0, told.branches - self.branches))

    def _note(self, step: Step) -> None:
        self.told = step
        self.tell(step)

    def _outcome(self, verdict: Verdict, reason: str, counterexample: Counterexample | None = None) -> Outcome:
        timed_out = verdict == "unknown" and reason == TIME_LIMIT
        bound = float(self.least) if verdict == "unknown" and np.isfinite(self.least) else None
        seconds = time.perf_counter() - self.clock.begun
        return Outcome(verdict, reason, seconds, self.branches, counterexample, bound, timed_out)

    def _first(self, case: Case) -> Finding | tuple[Margins, Bounds]:
        """The root of a case: what is cheap."""
        if not case.unsafe:
            return Finding("proven", "nothing is unsafe")
        margins = margins_of(self.graph, case, lambda x: self._replayed(x) is not None)
        return self._root(margins, case, None, self.clock)

    def _second(self, case: Case, margins: Margins, bounds: Bounds, clock: Clock) -> Finding:
        """Branch on the inputs where few of them vary, else on ReLUs."""
        if int((case.upper > case.lower).sum()) <= FEW_INPUTS:
            run = functools.partial(split_inputs, margins, bounds, (case.lower, case.upper))
            return _beside_program(margins, lambda: reduce(margins.graph, bounds), case, clock, run)
        found = self._root(margins, case, bounds, clock)
        return found if isinstance(found, Finding) else self._branch(*found, case, clock)

    def _root(
        self, margins: Margins, case: Case, known: Bounds | None, clock: Clock
    ) -> Finding | tuple[Margins, Bounds]:
        """Bounds over the whole box, then descent: plain and short first; optimised, from `known` bounds, and long."""
        worst = None if known is None else _worst(margins, known)
        clock.tell("bounds" if known is None else "optimised bounds", margins.polyhedra, worst, every=0.0)
        steps, restarts = (0, RESTARTS) if known is None else (ROOT_STEPS, 4 * RESTARTS)
        bounds = crown_bounds(margins.graph, region_of(case), steps, known, every=False, deadline=clock.deadline)
        margins, bounds = _open(margins, bounds)
        if not margins.polyhedra:
            return Finding("proven", f"root bounds ({'alpha-' if steps else ''}CROWN)", branches=1)
        x = descend(margins, margins.inside[0], restarts, self.rng, clock.within(0.1 * self.options.seconds))
        return (margins, bounds) if x is None else Finding("found", "projected gradient descent", x, branches=1)

    def _branch(self, margins: Margins, bounds: Bounds, case: Case, clock: Clock) -> Finding:
        reduced = None if clock.over else reduce(margins.graph, bounds)
        if reduced is None:
            reason = TIME_LIMIT if clock.over else "the network is too large to branch on"
            return Finding("open", reason, bound=_worst(margins, bounds), branches=1)
        region = region_of(case)
        search = PhaseSearch(margins, reduced, region, self.options.engine, self.options.precision)
        if not search.program.neurons or search.smooth:
            return search.run(clock)
        return _beside_program(margins, lambda: reduced, case, clock, search.run)


def _beside_program(
    margins: Margins,
    reduced: Callable[[], Reduced | None],
    case: Case,
    clock: Clock,
    run: Callable[[Clock], Finding],
) -> Finding:
    """What `run` finds, or a mixed-integer program beside it."""
    with _Beside(margins, reduced, case, clock) as beside:
        found = run(beside.clock)
    other = beside.finding
    if found.status == "open" and other is not None and other.status != "open":
        return Finding(other.status, other.reason, other.x, other.bound, found.branches + other.branches)
    return found


class _Beside:
    """A mixed-integer program in a thread of its own, which begins late and ends the search if it is first."""

    def __init__(self, margins: Margins, reduced: Callable[[], Reduced | None], case: Case, clock: Clock) -> None:
        self.finding: Finding | None = None
        self.clock = Clock(clock.deadline, clock.begun, clock.progress, threading.Event(), clock.branches)
        self.own = Clock(clock.deadline, clock.begun)

        def work() -> None:
            if self.own.stop.wait(min(PHASES_ALONE, max(clock.left, 0.0))):
                return
            try:
                network = reduced()
                if network is None or sum(len(places) for _, places in network.neurons) > MOST_OPEN:
                    return
                self.finding = solve_by_program(margins, network, region_of(case), self.own)
            except Exception:
                LOG.info("the mixed-integer program failed; the search goes on without it", exc_info=True)
                return
            if self.finding.status != "open":
                self.clock.stop.set()

        self.thread = threading.Thread(target=work, name="mixed-integer program", daemon=True)

    def __enter__(self) -> _Beside:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.own.stop.set()
        self.thread.join(1.0)


def _open(margins: Margins, bounds: Bounds) -> tuple[Margins, Bounds]:
    """The polyhedra that the bounds leave open, with their rows' bounds."""
    least = margins.least(bounds.lower[-1][None])[0]
    kept = np.flatnonzero(~(least > 0))
    if not kept.size:
        return Margins(margins.graph, margins.owner[:0]), bounds
    return margins.restricted(kept), chosen_bounds(bounds, margins.rows_of(kept))


def _worst(margins: Margins, bounds: Bounds) -> float:
    return float(margins.least(bounds.lower[-1][None])[0].min())
