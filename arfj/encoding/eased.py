r"""What tolerances amount to: class rows that they cannot close, and rows that are too large for them.

A solver meets rows and bounds to about 1e-9, and a network may make much of that: y = 5e-10 times a weight of 1e7 is
an output. In the `tight` model, with every row off by `TOLERANCE` of its terms and every ReLU by as much of its bounds,
the class rows C h >= d of a scenario can be off by

    e_0 = TOLERANCE,   e_k = |W_k|' e_(k-1) + TOLERANCE (2 + |W_k|' h_(k-1) + |b_k| + u_k - l_k),
    delta = |C| e_K + TOLERANCE (1 + |C| h_K + |d|),

where h bounds the layers' values. A model with C h >= d - delta that is called infeasible holds no answer that
tolerances have hidden. What it has for solutions need be no answers, and nothing is made of them.

The other way round, a row whose terms add up to 1e9 is met to 1e-9 by no float64 numbers at all: a solver then calls
parts of the search infeasible that hold answers, and its bound is too high (`largest_term`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arfj.bounds import Bounds
from arfj.encoding.demand import row_bounds
from arfj.network import Floats
from arfj.question import Question, class_rows

TOLERANCE = 2e-9
"""Twice what solvers are asked for, relative to the terms of a row."""

LARGEST = 1e7
"""Where the terms of a row add up to more, float64 numbers do not meet it to 1e-9, and what a solver has proven of the
model is not believed: bounds that were too high have been seen from 2e9 on, breakdowns from 3e8 on."""


def tolerated(question: Question, bounds: Sequence[Bounds]) -> list[Floats]:
    """delta of every scenario, shape (classes,) each.

    Args:
        question: image, target, scenarios, demand.
        bounds: pre-activation bounds of every scenario.
    """
    result = []
    for network, one in zip(question.ensemble, bounds, strict=True):
        most, error = np.ones(network.inputs), np.full(network.inputs, TOLERANCE)
        for layer, low, up in zip(network.layers[:-1], one.lower, one.upper, strict=False):
            size = np.abs(layer.weight)
            error = error @ size + TOLERANCE * (2.0 + most @ size + np.abs(layer.bias) + up - low)
            most = np.maximum(up, 0.0)
        weights, least = class_rows(network, question.target, question.gamma)
        delta = np.abs(weights) @ error + TOLERANCE * (1.0 + np.abs(weights) @ most + np.abs(least))
        if question.soft:  # its constants and columns are as large as the rows can be
            delta = delta + TOLERANCE * np.maximum(*np.abs(row_bounds(question, network, one))).max()
        result.append(delta)
    return result


def largest_term(question: Question, bounds: Sequence[Bounds], outputs: bool = False) -> float:
    """The most that the terms of a row, sum_j |A_rj| |v_j| and its side, can add up to over the bounds.

    Args:
        question: image, target, scenarios, demand.
        bounds: pre-activation bounds of every scenario.
        outputs: whether these have columns, as in the printed model.
    """
    sizes = [1.0]
    for network, one in zip(question.ensemble, bounds, strict=True):
        most = np.ones(network.inputs)
        for layer, low, up in zip(network.layers[:-1], one.lower, one.upper, strict=False):
            sizes += [float((most @ np.abs(layer.weight) + np.abs(layer.bias)).max())]
            sizes += [float(np.maximum(np.abs(low), np.abs(up)).max())]
            most = np.maximum(up, 0.0)
        if outputs:
            last = network.layers[-1]
            most_of_all = float((most @ np.abs(last.weight) + np.abs(last.bias)).max())
            sizes += [(2.0 + question.gamma) * most_of_all]  # of the row between two of them
        weights, least = class_rows(network, question.target, question.gamma)
        sizes += [float((np.abs(weights) @ most + np.abs(least)).max(initial=0.0))]
        if question.soft:
            sizes += [float(np.maximum(*np.abs(row_bounds(question, network, one))).max())]
    return float(np.nan_to_num(np.max(sizes), nan=np.inf))
