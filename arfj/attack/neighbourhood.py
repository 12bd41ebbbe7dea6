r"""Large neighbourhoods: most phases are held as they are at the best answer, those that are cheapest to flip are free.

A walk over linear regions flips one phase at a time. Here every scenario stands in one linear relaxation, and our own
branch and bound holds all phases as they are at the best answer x but for the neurons nearest to their kinks: those
with the least

    |a_j(x)| / max_i |d a_j / d x_i|,

the L1 change that would bring the pre-activation a_j to 0 if x stayed in its region. The best answer found is at least
as near as x; one that is nearer becomes x, and where none is, more neurons are set free. The answers are starts for
the proof and prove nothing themselves.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from arfj.attack.descent import relaxed
from arfj.attack.regions import Corner, RegionProgram, phases_at
from arfj.bab import Relaxation, Search
from arfj.conflicts import Phases
from arfj.network import Floats, Network
from arfj.question import Question

FREE, MOST_FREE, GROWTH = 24, 48, 4 / 3
"""Free neurons to begin with and at most; their number grows by this factor where nothing better was found."""
MOST = 0.65
"""No larger share of the open neurons is set free: that would be the proof, on bounds that are looser than its own."""
SECONDS = 1.5
"""Limit of one search."""
LEAST_SECONDS = 0.1
"""With less time left none is begun."""
GAIN = 1e-7
"""An answer counts as nearer if it is so by this share."""
RELIABLE = 4
"""A neuron is looked at beforehand until it was seen so often in both directions."""


def search_neighbourhoods(
    program: RegionProgram,
    corner: Corner,
    deadline: float,
    told: Callable[[Corner], None] | None = None,
    least: int = 1,
    known: Corner | None = None,
    most: int = MOST_FREE,
) -> Corner:
    """The nearest answer that larger and larger neighbourhoods of `corner` lead to.

    Args:
        program: of the question.
        corner: an answer.
        deadline: `time.perf_counter()` value at which to stop.
        told: called with every better answer.
        least: with fewer open neurons than this nothing is searched.
        known: an answer whose neighbourhoods have been searched: the search ends where it comes to it.
        most: free neurons, at most.
    """
    question = program.question
    best = corner

    def leaf(x: Floats, objective: float) -> float:
        nonlocal best
        left = max(deadline - time.perf_counter(), LEAST_SECONDS)
        found = program.solve(phases_at(question, np.clip(x, 0.0, 1.0)), left)
        if found is not None and found.distance < best.distance * (1 - GAIN):
            best = found
            if told is not None:
                told(best)
        return max(-best.distance, objective)

    if deadline - time.perf_counter() <= LEAST_SECONDS:
        return best
    search = Search(relaxed(question, corner.x), RELIABLE)
    neurons = len(search.relaxation.neurons)
    free = min(FREE, most, int(MOST * neurons)) if neurons >= least else 0
    while free and (left := deadline - time.perf_counter()) > LEAST_SECONDS:
        if known is not None and abs(best.distance - known.distance) <= GAIN * known.distance:
            break
        before = best
        until = time.perf_counter() + min(SECONDS, left)
        found = search.run(held(search.relaxation, question, best.x, free), -best.distance, until, GAIN, leaf=leaf)
        if best is not before:
            continue
        grown = min(most, int(np.ceil(free * GROWTH)))
        if free >= most or grown > MOST * neurons or not found.closed:
            break
        free = grown
    return best


def held(relaxation: Relaxation, question: Question, x: Floats, free: int) -> Phases:
    """The phases at x of all open neurons but the `free` ones nearest to their kinks."""
    costs = [kink_distances(network, x) for network in question.ensemble]
    before = [network.preactivations(x.reshape(1, -1)) for network in question.ensemble]
    mine = [costs[scenario][layer][neuron] for scenario, layer, neuron in relaxation.neurons]
    order = np.argsort(mine, kind="stable")
    phases = {}
    for number in order[free:].tolist():
        scenario, layer, neuron = relaxation.neurons[number]
        phases[number] = bool(before[scenario][layer][0, neuron] > 0)
    return phases


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
