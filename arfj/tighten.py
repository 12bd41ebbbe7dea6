r"""Bounds that need a search: every network by its own small programs.

For one scenario with its class conditions and the ball ||x - xbar||_1 <= R, each neuron that is still open is maximised
with its phase held on, and its negative part with the phase held off (`arfj.bab`). Every answer of the whole question
within distance R satisfies the constraints of every such program, so that its pre-activations obey

    a <= max {y : phase on}     (a <= 0 where no such point exists),
    a >= -max {s : phase off}   (a >= 0 where no such point exists).

The programs drop the other scenarios, which relaxes them. Whatever stops a program, its certified bound holds. Points
that one of them comes across are points of all others: what a neuron reaches at them is known when its turn comes.
Under a soft demand no scenario's conditions are known to hold, and the programs have the ball alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from arfj.bab import Relaxation, Search
from arfj.bounds import Bounds
from arfj.network import Floats
from arfj.question import Question

MARGIN = 1e-9
"""Bounds are widened by this, absolute and relative, so that none lies on an answer."""

GAP = 1e-4
"""A program is over at this relative gap; looser ones gain little time, for most of it goes by before."""

SECONDS = 0.4
"""Limit of one program."""

LEAST_SECONDS = 0.001
"""Below this a program is not worth starting."""


def tighten(question: Question, bounds: Sequence[Bounds], radius: float, deadline: float) -> list[Bounds]:
    """Bounds of every scenario that hold at every answer x of `question` with ||x - xbar||_1 <= radius.

    Args:
        question: image, target, scenarios.
        bounds: sound bounds over the ball, one record a scenario.
        radius: R, at least the distance of a known answer.
        deadline: `time.perf_counter()` value after which what is left stays as it was.
    """
    return [
        tighten_scenario(question.fooling([index]), bound, radius, deadline, not question.soft)
        for index, bound in enumerate(bounds)
    ]


def tighten_scenario(
    question: Question, bounds: Bounds, radius: float, deadline: float, demanded: bool = True
) -> Bounds:
    """`tighten` for a question with one scenario; with `demanded` its class conditions are constraints.

    From the last hidden layer to the first: its bounds are exact over the ball already, and they gain most from tight
    layers behind it.
    """
    before: Relaxation | None = None
    reached = [np.zeros((2, len(lower))) for lower in bounds.lower[:-1]]
    for layer in reversed(range(len(bounds.lower) - 1)):
        if time.perf_counter() > deadline:
            break
        relaxation = Relaxation(question, [bounds], radius, demanded)
        if before is not None:
            relaxation.enter_of(before)
        lower, upper = bounds.lower[layer].copy(), bounds.upper[layer].copy()
        search = Search(relaxation)
        for number, (_, where, _) in enumerate(relaxation.neurons):
            if where == layer:
                _tighten_neuron(question, search, number, lower, upper, reached, deadline)
        bounds = bounds.replaced(layer, lower, upper)
        before = relaxation
    return bounds


def _tighten_neuron(
    question: Question,
    search: Search,
    number: int,
    lower: Floats,
    upper: Floats,
    reached: Sequence[Floats],
    deadline: float,
) -> None:
    """Both sides of one neuron; where no answer has it on, its sign is decided and the other side is left."""
    (network,) = question.ensemble
    relaxation = search.relaxation
    _, layer, neuron = relaxation.neurons[number]

    def leaf(x: Floats, objective: float) -> float:
        for before, most in zip(network.preactivations(x[None]), reached, strict=False):
            np.maximum(most, np.concatenate([before, -before]), out=most)
        return objective

    for on in (True, False):
        now = time.perf_counter()
        if deadline - now < LEAST_SECONDS or (not on and upper[neuron] <= 0):
            continue
        relaxation.maximise((relaxation.y if on else relaxation.s)[number])
        known = float(reached[layer][0 if on else 1, neuron])
        found = search.run({number: on}, known, min(deadline, now + SECONDS), enough=GAP, leaf=leaf)
        extent = found.bound * (1.0 + MARGIN) + MARGIN if found.bound > 0 else 0.0
        if on:
            upper[neuron] = min(upper[neuron], extent)
        else:
            lower[neuron] = max(lower[neuron], -extent)
