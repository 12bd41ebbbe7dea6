r"""Bounds that need a solver: every network by its own small mixed-integer programs.

For one scenario with its class conditions and the ball ||x - xbar||_1 <= R, each neuron that is still unstable is
maximised with its phase fixed on, and its negative part with the phase fixed off. Every answer of the whole question
within distance R satisfies the constraints of every such program, so that its pre-activations obey

    a <= max {y : phase on}     (a <= 0 where no such point exists),
    a >= -max {s : phase off}   (a >= 0 where no such point exists).

The programs drop the other scenarios, which relaxes them. Whatever stops a program, its dual bound holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pyscipopt import quicksum

from arfj.bounds import Bounds
from arfj.encoding.problem import Neurons
from arfj.encoding.tight import encode_tight
from arfj.network import Floats
from arfj.question import Question
from arfj.solver.scip import build_model, tune_for_proof

MARGIN = 1e-6
"""Solver bounds are widened by this, absolute and relative: far above the feasibility tolerance of 1e-9."""

ROOM = 1e-4
"""The ball of the programs is larger than R by this share, so that no tolerance cuts an answer at distance R off."""

GAP = 0.1
"""A program stops at this relative gap; looser ones cost more in the end, for later programs inherit their bounds."""

SECONDS = 0.1
"""Limit of one program, unless another is given."""

LEAST_SECONDS = 0.02
"""Below this a program is not worth starting."""

GRACE = 60.0
"""Seconds after the deadline at which programs that did not end are given up."""

POLL = 0.01
"""Seconds between two looks at the threads."""


def tighten(
    question: Question,
    bounds: Sequence[Bounds],
    radius: float,
    deadline: float,
    threads: int = 1,
    seconds: float = SECONDS,
) -> list[Bounds]:
    """Bounds of every scenario that hold at every answer x of `question` with ||x - xbar||_1 <= radius.

    Args:
        question: image, target, scenarios.
        bounds: sound bounds over the ball, one record a scenario.
        radius: R, at least the distance of a known answer.
        deadline: `time.perf_counter()` value after which what is left stays as it was, as does what does not end.
        threads: scenarios at a time.
        seconds: limit of one program.
    """
    found = list(bounds)
    failures: list[BaseException] = []
    waiting = iter(enumerate(bounds))  # all threads draw from it
    over: list[int] = []
    stop: list[bool] = []

    def work() -> None:
        try:
            for index, bound in waiting:
                found[index] = tighten_scenario(question.restricted([index]), bound, radius, deadline, stop, seconds)
                over.append(index)
        except BaseException as error:
            failures.append(error)

    # Daemons, which neither a pool's end nor the interpreter's waits for: a program that never ends is given up.
    latest = max(deadline, time.perf_counter()) + GRACE
    try:
        for _ in range(min(threads, len(bounds))):
            threading.Thread(target=work, name="tighten", daemon=True).start()
        while len(over) < len(bounds) and not failures and time.perf_counter() < latest:
            time.sleep(POLL)
    finally:
        stop.append(True)  # else Ctrl-C would leave all programs running
    if failures:
        raise failures[0]
    return list(found)


def tighten_scenario(
    question: Question,
    bounds: Bounds,
    radius: float,
    deadline: float,
    stop: Sequence[bool] = (),
    seconds: float = SECONDS,
) -> Bounds:
    """`tighten` for a question with one scenario; nothing is changed any more once `stop` is filled.

    The second layer comes first and the first layer last: its bounds are exact over the ball already, its programs
    are the dearest, and they gain most from tight layers behind it.
    """
    hidden = len(bounds.lower) - 1
    for layer in [*range(1, hidden), 0][: hidden or 0]:
        unstable = np.flatnonzero((bounds.lower[layer] < 0) & (bounds.upper[layer] > 0))
        if not unstable.size or time.perf_counter() > deadline:
            continue
        lower, upper = bounds.lower[layer].copy(), bounds.upper[layer].copy()
        programs = _Programs.of(question, bounds, radius, layer)
        for neuron in unstable:
            if stop:
                return bounds
            _tighten_neuron(programs, int(neuron), lower, upper, deadline, seconds)
        bounds = bounds.replaced(layer, lower, upper)
    return bounds


def _tighten_neuron(
    programs: _Programs, neuron: int, lower: Floats, upper: Floats, deadline: float, seconds: float
) -> None:
    """Both sides of one neuron; where no answer has it on, its sign is decided and the other side is left."""
    for on in (True, False):
        left = min(seconds, deadline - time.perf_counter())
        if left < LEAST_SECONDS or (not on and upper[neuron] <= 0):
            continue
        extent = programs.extent(neuron, on, left)
        if extent is not None and on:
            upper[neuron] = min(upper[neuron], extent)
        elif extent is not None:
            lower[neuron] = max(lower[neuron], -extent)


@dataclass(frozen=True, eq=False)
class _Programs:
    """One scenario's model with the ball as a row; its objective changes from neuron to neuron of one layer."""

    model: Any
    columns: list[Any]
    neurons: Neurons

    @classmethod
    def of(cls, question: Question, bounds: Bounds, radius: float, layer: int) -> _Programs:
        encoding = encode_tight(question, [bounds])
        model, columns, _ = build_model(encoding.problem)
        tune_for_proof(model)
        model.setParam("limits/gap", GAP)
        # Short strong branching: a gain in these small programs, a loss in the joint model.
        model.setParam("branching/relpscost/maxreliable", 1.0)
        model.setParam("branching/relpscost/initcand", 8)
        moves = np.flatnonzero(encoding.problem.objective > 0)
        model.addCons(quicksum(columns[index] for index in moves) <= radius * (1.0 + ROOM) + ROOM)
        return cls(model, columns, encoding.neurons[0][layer])

    def extent(self, neuron: int, on: bool, seconds: float) -> float | None:
        """An upper bound of y (on) or s (off) with the phase fixed: 0 where no answer has it, None without a bound."""
        model = self.model
        phase = self.columns[self.neurons.z[neuron]]
        model.chgVarLb(phase, float(on))
        model.chgVarUb(phase, float(on))
        model.setObjective(self.columns[(self.neurons.y if on else self.neurons.s)[neuron]], "maximize")
        model.setParam("limits/time", seconds)
        try:
            model.optimizeNogil()
            infeasible = model.getStatus() == "infeasible"
            bound = float(model.getDualbound())
        except Exception:  # PySCIPOpt raises no other class when an LP breaks down: then there is no bound
            infeasible, bound = False, np.inf
        model.freeTransform()
        model.chgVarLb(phase, 0.0)
        model.chgVarUb(phase, 1.0)
        if infeasible:
            return 0.0
        return None if bound >= 1e19 else max(bound, 0.0) * (1.0 + MARGIN) + MARGIN
