r"""Large neighbourhoods: most phases are held as they are at the best answer, those that are cheapest to flip are free.

A walk over linear regions flips one phase at a time. Here every scenario stands in one mixed-integer program, and all
binaries are fixed to the phases at the best answer x but for the neurons nearest to their kinks: those with the least

    |a_j(x)| / max_i |d a_j / d x_i|,

the L1 change that would bring the pre-activation a_j to 0 if x stayed in its region. The program's best answer is at
least as near as x; one that is nearer becomes x, and where none is, more neurons are set free. The answers are
starts for the proof and prove nothing themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from arfj.attack.descent import Corner, RegionProgram, phases_at
from arfj.bounds import pre_activation_bounds
from arfj.encoding import Encoding, Problem, encode_tight
from arfj.network import Floats, Network
from arfj.question import Question
from arfj.solver import Limits, solve

FREE, MOST_FREE, GROWTH = 24, 48, 4 / 3
"""Free neurons to begin with and at most; their number grows by this factor where nothing better was found."""
SECONDS = 1.5
"""Limit of one program."""
LEAST_SECONDS = 0.1
"""With less time left none is begun."""
ROOM = 1e-6
"""The ball of the bounds is larger than the distance of the best answer by this share, and by this much."""
GAIN = 1e-7
"""An answer counts as nearer if it is so by this share."""


def search_neighbourhoods(
    program: RegionProgram,
    corner: Corner,
    deadline: float,
    seed: int = 0,
    told: Callable[[Corner], None] | None = None,
    least: int = 1,
) -> Corner:
    """The nearest answer that larger and larger neighbourhoods of `corner` lead to.

    Args:
        program: of the question.
        corner: an answer.
        deadline: `time.perf_counter()` value at which to stop.
        seed: of the solver.
        told: called with every better answer.
        least: with fewer open neurons than this nothing is searched.

    Raises:
        KeyboardInterrupt: the user stopped a program; better answers have been told.
    """
    question = program.question
    if deadline - time.perf_counter() <= LEAST_SECONDS:
        return corner
    encoding = _encoded(question, corner.distance)
    free = FREE if encoding.problem.binaries >= least else 0
    while free and (left := deadline - time.perf_counter()) > LEAST_SECONDS:
        start = encoding.complete(corner.x, question.ensemble)
        problem, everything = _held(encoding, question, corner.x, start, free)
        limits = Limits(min(SECONDS, left), seed=seed, proving=True)
        solution = solve("scip", problem, limits, start)
        better = None
        if solution.values is not None:
            left = max(deadline - time.perf_counter(), LEAST_SECONDS)
            better = program.solve(phases_at(question, encoding.decode(solution.values)), left)
        if better is not None and better.distance < corner.distance * (1 - GAIN):
            corner = better
            if told is not None:
                told(corner)
        elif everything or free >= MOST_FREE or solution.status != "optimal":
            if solution.interrupted:
                raise KeyboardInterrupt
            break
        else:
            free = min(MOST_FREE, int(np.ceil(free * GROWTH)))
        if solution.interrupted:
            raise KeyboardInterrupt
    return corner


def _encoded(question: Question, distance: float) -> Encoding:
    region = question.region(distance * (1 + ROOM) + ROOM)
    return encode_tight(question, [pre_activation_bounds(network, region, "crown") for network in question.ensemble])


def _held(encoding: Encoding, question: Question, x: Floats, start: Floats, free: int) -> tuple[Problem, bool]:
    """The problem with all phases but `free` of them held as in `start`, and whether none is held."""
    columns, costs = [], []
    for network, layers in zip(question.ensemble, encoding.neurons, strict=True):
        for neurons, cost in zip(layers, kink_distances(network, x), strict=True):
            columns.append(neurons.z[neurons.z >= 0])
            costs.append(cost[neurons.z >= 0])
    binaries = np.concatenate(columns)
    held = binaries[np.argsort(np.concatenate(costs), kind="stable")[free:]]
    lower, upper = encoding.problem.lower.copy(), encoding.problem.upper.copy()
    lower[held] = upper[held] = np.round(start[held])
    # SCIP's own branching: on these small programs looking ahead costs more than it gains.
    return replace(encoding.problem, lower=lower, upper=upper, phases=()), not len(held)


def kink_distances(network: Network, x: Floats) -> list[Floats]:
    """|a_j(x)| / max_i |d a_j / d x_i| for every hidden neuron, layer by layer; infinite where nothing moves it."""
    before = network.preactivations(x.reshape(1, -1))
    result = []
    slopes = network.layers[0].weight
    for k, layer in enumerate(network.layers[:-1]):
        if k:
            slopes = (slopes * (before[k - 1][0] > 0)) @ layer.weight
        steepest = np.abs(slopes).max(axis=0)
        with np.errstate(divide="ignore", invalid="ignore"):
            result.append(np.where(steepest > 0, np.abs(before[k][0]) / steepest, np.inf))
    return result
