r"""Soft demands in a model: what bounds of the class rows C h - d let its constants and columns be.

A share of the scenarios has z_k = 1 where scenario k counts, and M_k >= d - min C h over the ball:

    C h + M_k s_k >= d,   z_k + s_k <= 1,   sum_k z_k >= m

A mean of the worst w slacks has tau and e_k (`arfj.question.Demand`):

    (C h - d)_r + e_k >= tau for every row r,   tau - 1 / w sum_k e_k >= 0

At an answer the best tau is one of the slacks, so that 0 <= tau <= T, T = max over k of max slack_k, and
e_k = max(tau - slack_k, 0) needs no more than T - min slack_k; the last row leaves it no more than w T.

No class condition may have gone into the bounds: what is asked of a scenario is not known to hold.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from arfj.bounds import Bounds
from arfj.encoding.problem import Builder, Indices, Parts
from arfj.network import Floats, Network
from arfj.question import Question, class_rows

MARGIN = 1e-9
"""Bounds of class rows are widened by this share of the size of their terms, and by this much."""
INWARD = 1.0 - 1e-12
"""1 / w is taken smaller by this factor, so that rounding cannot cut an answer off."""


def row_bounds(question: Question, network: Network, bounds: Bounds) -> tuple[Floats, Floats]:
    """Lower and upper bounds of C h - d, shape (classes,) each, wherever `bounds` hold.

    By interval arithmetic over the last hidden layer and over the output layer's pre-activations, the better of both.
    """
    weights, least = class_rows(network, question.target, question.gamma)
    outputs = np.eye(network.classes)
    over_outputs = np.vstack(
        [outputs[question.target] - (1.0 + question.gamma) * outputs[question.rivals], outputs[[question.target]]]
    )
    shift = least + over_outputs @ network.layers[-1].bias  # d = shift - C b
    lower, upper = _interval(over_outputs, shift, bounds.lower[-1], bounds.upper[-1])
    if len(network.layers) > 1:
        hidden = [np.maximum(side[-2], 0.0) for side in (bounds.lower, bounds.upper)]
        low, up = _interval(weights, least, *hidden)
        lower, upper = np.maximum(lower, low), np.minimum(upper, up)
    return lower, upper


def _interval(weights: Floats, least: Floats, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """W v - d over a box, outward."""
    above, below = np.maximum(weights, 0.0), np.minimum(weights, 0.0)
    sizes = np.abs(weights) @ np.maximum(np.abs(lower), np.abs(upper)) + np.abs(least)
    room = MARGIN * (1.0 + sizes)
    return above @ lower + below @ upper - least - room, above @ upper + below @ lower - least + room


def big_m(question: Question, bounds: Sequence[Bounds]) -> list[Floats]:
    """M_k of every scenario, one a class row and at least 0."""
    return [
        np.maximum(-row_bounds(question, network, bound)[0], 0.0)
        for network, bound in zip(question.ensemble, bounds, strict=True)
    ]


def mean_limits(question: Question, bounds: Sequence[Bounds]) -> tuple[float, Floats]:
    """T, and the most that every e_k needs to be."""
    worst = question.demand.worst(len(question.ensemble))
    sides = [row_bounds(question, *pair) for pair in zip(question.ensemble, bounds, strict=True)]
    tau = max([0.0, *(float(upper.min()) for _, upper in sides)])
    most = np.array([tau - float(lower.min()) for lower, _ in sides])
    return tau, np.clip(most, 0.0, worst * tau * (1.0 + MARGIN))


def add_share(
    builder: Builder, question: Question, bounds: Sequence[Bounds], integer: bool = False
) -> tuple[Indices, Indices, list[Parts]]:
    """The columns z_k and s_k, where z_k + s_k <= 1 are the first rows; what class rows have of them."""
    count = len(question.ensemble)
    z, s = builder.add_columns(count, 0.0, 1.0, integer=integer), builder.add_columns(count, 0.0, 1.0)
    builder.add_rows([(z, np.eye(count)), (s, np.eye(count))], upper=1.0)
    builder.add_rows([(z, np.ones((1, count)))], lower=question.demand.fooled(count))
    return z, s, [[(s[[k]], m[:, None])] for k, m in enumerate(big_m(question, bounds))]


def add_mean(builder: Builder, question: Question, bounds: Sequence[Bounds]) -> tuple[Indices, Indices, list[Parts]]:
    """The columns tau and e_k, and their row; what class rows have of them."""
    count = len(question.ensemble)
    most, shortfalls = mean_limits(question, bounds)
    tau, e = builder.add_columns(1, 0.0, most), builder.add_columns(count, 0.0, shortfalls)
    share = INWARD / question.demand.worst(count)
    builder.add_rows([(tau, np.ones((1, 1))), (e, np.full((1, count), -share))], lower=0.0)
    ones = np.ones((question.ensemble.networks[0].classes, 1))
    return tau, e, [[(tau, -ones), (e[[k]], ones)] for k in range(count)]
