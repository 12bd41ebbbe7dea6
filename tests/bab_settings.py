"""Questions, answers and bounds for the tests of our own branch and bound."""

import functools
import time
from fractions import Fraction

import numpy as np
from reference import exact_distance, random_question
from scipy.sparse import csr_matrix

from arfj.attack.gradient import gradient_answers
from arfj.attack.known import cut_off_radius
from arfj.bab import Relaxation, Search
from arfj.bounds import pre_activation_bounds

SECONDS = 30.0


def counted(monkeypatch):
    """The nodes of all `Search.excluded` from now on, a list of one number."""
    nodes, honest = [0], Search.excluded

    def excluded(search, *given):
        try:
            return honest(search, *given)
        finally:
            nodes[0] += search.nodes

    monkeypatch.setattr(Search, "excluded", excluded)
    return nodes


def first_answer(question):
    """An answer that is not the optimum, where one is easily found."""
    found = gradient_answers(question, 0, time.perf_counter() + 5.0)
    return None if not found else max(found, key=question.distance)


def setting(seed, scenarios=2, **sizes):
    """A question, an answer, and bounds over the ball of the answer's distance."""
    question = random_question(seed, scenarios, **sizes)
    x = first_answer(question)
    if x is None:
        return None
    radius = cut_off_radius(question.distance(x))
    return question, x, [pre_activation_bounds(network, question.region(radius)) for network in question.ensemble]


SETTINGS = {seed: found for seed in range(30) if (found := setting(seed)) is not None}
SEEDS = list(SETTINGS)[:10]
LARGER = [seed for seed in range(40, 60) if setting(seed, 3, inputs=10, hidden=(5, 5, 4), classes=4) is not None][:4]
assert (len(SEEDS), len(LARGER)) == (10, 4)


def larger(seed):
    return setting(seed, 3, inputs=10, hidden=(5, 5, 4), classes=4)


HARDER = (62, 70, 72)
"""Trees of some hundred nodes."""


@functools.cache
def harder(seed):
    return setting(seed, 5, inputs=12, hidden=(6, 6, 5), classes=4)


def relaxed(seed, column=None):
    question, x, bounds = SETTINGS[seed]
    relaxation = Relaxation(question, bounds)
    relaxation.maximise(column)
    relaxation.enter(x)
    return relaxation


@functools.cache
def exact_of(seed):
    return exact_distance(SETTINGS[seed][0])


def in_rationals(relaxation, multipliers, column):
    """The certified bound of these multipliers, each as it is in float64, without any rounding."""
    lower, upper = relaxation.sides
    value, used = Fraction(0), []
    for row, one in enumerate(multipliers.tolist()):
        side = float(upper[row] if one > 0 else lower[row])
        used.append(Fraction(one if np.isfinite(side) else 0.0))
        value += used[-1] * Fraction(side if np.isfinite(side) else 0.0)
    for index, line in enumerate(csr_matrix(relaxation.columns).toarray().tolist()):
        reduced = Fraction(int(index == column)) if column is not None else Fraction(0)
        reduced -= sum(Fraction(a) * m for a, m in zip(line, used, strict=True) if a)
        value += max(reduced * Fraction(float(end)) for end in (relaxation.low[index], relaxation.up[index]))
    cost = Fraction(int(column is None)) + (0 if relaxation.ball is None else used[relaxation.ball])
    mine = [used[row] for row in relaxation.pixel_rows.tolist()]
    for pixel, caps in enumerate(zip(*np.split(relaxation.caps, 2), strict=True)):
        total = sum(Fraction(w) * m for w, m in zip(relaxation.weights[pixel].tolist(), mine, strict=True))
        for sign, cap in zip((1, -1), caps, strict=True):
            value += max(-sign * total - cost, Fraction(0)) * Fraction(float(cap))
    return value


def columns_of(relaxation, question, x):
    """The relaxation's columns y, s at an image, in the order of its neurons, and the image's moves."""
    before = [network.preactivations(x[None]) for network in question.ensemble]
    values = np.array([before[scenario][layer][0, neuron] for scenario, layer, neuron in relaxation.neurons])
    return np.maximum(values, 0.0), np.maximum(-values, 0.0)


def relaxation_at(relaxation, phases):
    relaxation.hold(phases)
    return relaxation.solve()[0]
