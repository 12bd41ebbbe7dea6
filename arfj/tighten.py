r"""Bounds that need a search: every network by its own small programs, then all of them together.

For one scenario with its class conditions and the ball ||x - xbar||_1 <= R, each neuron that is still open is maximised
with its phase held on, and its negative part with the phase held off (`arfj.bab`). Every answer of the whole question
within distance R satisfies the constraints of every such program, so that its pre-activations obey

    a <= max {y : phase on}     (a <= 0 where no such point exists),
    a >= -max {s : phase off}   (a >= 0 where no such point exists).

The programs of `tighten` drop the other scenarios, which relaxes them; they are searched to the end, or for a few
nodes. Those of `tighten_together` have all scenarios, and are linear programs, or searches of a few nodes: one image
has to fool all networks, which says most about the first layer, and the more the more networks there are; with them the
searches of one scenario may leave that layer out. Whatever stops a program, its certified bound holds. Points that one
of them comes across are points of all others: what a neuron reaches at them is known when its turn comes. Under a soft
demand no scenario's conditions are known to hold: the programs of `tighten` have the ball alone then, and there are no
others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from arfj.bab import Relaxation, Search
from arfj.bounds import Bounds
from arfj.conflicts import Conflict, numbered
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


class Narrowed(NamedTuple):
    """Bounds of one neuron."""

    scenario: int
    neuron: int
    lower: float
    upper: float


OfLayer = Callable[[Sequence[Bounds], int], Sequence[Narrowed]]
"""The bounds of a layer's neurons from those of all: `tighten_layer`, or several processes' parts of it."""


def tighten(
    question: Question, bounds: Sequence[Bounds], radius: float, deadline: float, most: float = np.inf
) -> list[Bounds]:
    """Bounds of every scenario that hold at every answer x of `question` with ||x - xbar||_1 <= radius.

    Args:
        question: image, target, scenarios.
        bounds: one record a scenario, sound over the ball, or at all of its answers that are nearer than the best one
            known; what comes of them holds where they do.
        radius: R, at least the distance of a known answer.
        deadline: `time.perf_counter()` value after which what is left stays as it was.
        most: branchings of a program.
    """
    return [
        tighten_scenario(question.fooling([index]), bound, radius, deadline, not question.soft, most)
        for index, bound in enumerate(bounds)
    ]


def tighten_scenario(
    question: Question,
    bounds: Bounds,
    radius: float,
    deadline: float,
    demanded: bool = True,
    most: float = np.inf,
    conflicts: Sequence[Conflict] = (),
    first: int = 0,
) -> Bounds:
    """`tighten` for a question with one scenario.

    From the last hidden layer to the first one: its bounds are exact over the ball already, and they gain most from
    tight layers behind it.

    Args:
        question: see `tighten`, as for bounds, radius, deadline, most.
        bounds: of the scenario.
        radius: R.
        deadline: in time.
        most: branchings of a program.
        demanded: whether the class conditions are constraints.
        conflicts: phases that no answer nearer than the best one known has together; the bounds hold at these then.
        first: the layer to end with; the last hidden one is never left out.
    """
    before: Relaxation | None = None
    reached = _reached([bounds])
    hidden = len(bounds.lower) - 1
    for layer in reversed(range(max(0, min(first, hidden - 1)), hidden)):
        if time.perf_counter() > deadline:
            break
        relaxation = Relaxation(question, [bounds], radius, demanded)
        if before is not None:
            relaxation.enter_of(before)
        search = Search(relaxation, conflicts=numbered(relaxation.neurons, [bounds], [conflicts]))
        found = [
            _narrowed(question, search, number, bounds, reached, deadline, most)
            for number, (_, where, _) in enumerate(relaxation.neurons)
            if where == layer
        ]
        (bounds,) = _with([bounds], layer, found)
        before = relaxation
    return bounds


def tighten_together(
    question: Question,
    bounds: Sequence[Bounds],
    answer: Floats,
    radius: float,
    deadline: float,
    most: int = 0,
    layers: int | None = None,
    of_layer: OfLayer | None = None,
) -> list[Bounds]:
    """`tighten` by programs that have all scenarios, layer by layer.

    Linear programs begin with the first layer, which gains most from them; searches with the last one.

    Args:
        question: image, target, scenarios; the demand is no soft one.
        bounds: as those of `tighten`.
        answer: an image; the pixels in which it differs are in the programs from the start.
        radius: R.
        deadline: `time.perf_counter()` value after which what is left stays as it was.
        most: branchings of a program; with 0 it is a linear program.
        layers: so many from the first one on, by default all.
        of_layer: bounds a layer, by default `tighten_layer`.
    """

    def alone(known: Sequence[Bounds], layer: int) -> list[Narrowed]:
        return tighten_layer(question, known, answer, radius, layer, deadline, most)

    of_layer = of_layer or alone
    found = list(bounds)
    order = range(max(len(one.lower) for one in bounds) - 1)[:layers]
    for layer in reversed(order) if most else order:
        if time.perf_counter() > deadline:
            break
        found = _with(found, layer, of_layer(found, layer))
    return found


def tighten_layer(
    question: Question,
    bounds: Sequence[Bounds],
    answer: Floats,
    radius: float,
    layer: int,
    deadline: float,
    most: int = 0,
    part: tuple[int, int] = (0, 1),
) -> list[Narrowed]:
    """Bounds of a layer's open neurons by programs with all scenarios.

    Args:
        question: see `tighten_together`, as for all others.
        bounds: of all layers.
        answer: an image.
        radius: R.
        layer: a hidden one.
        deadline: in time.
        most: branchings of a program.
        part: (first, step): every step-th open neuron alone, from the first on.

    Raises:
        ValueError: a soft demand.
    """
    if question.soft:
        raise ValueError("under a soft demand no scenario's conditions are known to hold")
    first, step = part
    relaxation = Relaxation(question, bounds, radius)
    relaxation.enter(answer)
    search = Search(relaxation)
    reached = _reached(bounds)
    numbers = [number for number, (_, where, _) in enumerate(relaxation.neurons) if where == layer]
    return [
        _narrowed(question, search, number, bounds[relaxation.neurons[number][0]], reached, deadline, most)
        for number in numbers[first::step]
    ]


def open_width(bounds: Sequence[Bounds]) -> float:
    """The widths of the open hidden neurons, added up."""
    pairs = [pair for one in bounds for pair in zip(one.lower[:-1], one.upper[:-1], strict=True)]
    return sum(float((upper - lower)[(lower < 0) & (upper > 0)].sum()) for lower, upper in pairs)


def _reached(bounds: Sequence[Bounds]) -> list[list[Floats]]:
    """Of every scenario's hidden layers what y and s are known to reach, (2, neurons) each."""
    return [[np.zeros((2, len(lower))) for lower in one.lower[:-1]] for one in bounds]


def _with(bounds: Sequence[Bounds], layer: int, found: Sequence[Narrowed]) -> list[Bounds]:
    """The bounds, a layer's narrowed where something was found."""
    result = list(bounds)
    for scenario in {one.scenario for one in found}:
        lower, upper = bounds[scenario].lower[layer].copy(), bounds[scenario].upper[layer].copy()
        for one in found:
            if one.scenario == scenario:
                lower[one.neuron], upper[one.neuron] = one.lower, one.upper
        result[scenario] = bounds[scenario].replaced(layer, lower, upper)
    return result


def _narrowed(
    question: Question,
    search: Search,
    number: int,
    bounds: Bounds,
    reached: Sequence[Sequence[Floats]],
    deadline: float,
    most: float = np.inf,
) -> Narrowed:
    """Both sides of one neuron; where no answer has it on, its sign is decided and the other side is left."""
    relaxation = search.relaxation
    scenario, layer, neuron = relaxation.neurons[number]
    lower, upper = float(bounds.lower[layer][neuron]), float(bounds.upper[layer][neuron])

    def leaf(x: Floats, objective: float) -> float:
        for network, known in zip(question.ensemble, reached, strict=True):
            for before, least in zip(network.preactivations(x[None]), known, strict=False):
                np.maximum(least, np.concatenate([before, -before]), out=least)
        return objective

    for on in (True, False):
        now = time.perf_counter()
        if deadline - now < LEAST_SECONDS or (not on and upper <= 0):
            continue
        relaxation.maximise((relaxation.y if on else relaxation.s)[number])
        known = float(reached[scenario][layer][0 if on else 1, neuron])
        found = search.run({number: on}, known, min(deadline, now + SECONDS), enough=GAP, most=most, leaf=leaf)
        extent = found.bound * (1.0 + MARGIN) + MARGIN if found.bound > 0 else 0.0
        if on:
            upper = min(upper, extent)
        else:
            lower = max(lower, -extent)
    return Narrowed(scenario, neuron, lower, upper)
