"""The `paper` formulation: the model as printed, with indicator constraints and without any bounds of ours.

    min sum_j d_j   s.t.  -d_j <= x_j - xbar_j <= d_j,  d_j >= 0 (a row),  l <= x <= u, one copy of x per scenario,
                          the copies tied in a cycle;
    per neuron:  W'x + b = y - s,  y, s >= 0,  z + z' = 1,  z = 1 -> y <= 0,  z' = 1 -> s <= 0;
    per scenario: y_t >= (1 + gamma) y_j for every other class,  y_t >= 1e-3 (a variable bound).

A share of the scenarios has one binary more for each, by which its conditions are implied, and a row that counts them.

With the two rows and the slack that a solver adds for an indicator, this reading has the published sizes: 1772
variables (68 binary) and 2565 constraints for one network 784-8-8-8-10, 6712 (408) and 8334 for six.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from arfj.bounds import interval_bounds
from arfj.encoding.eased import largest_term
from arfj.encoding.problem import Builder, Encoding, Indicator, Indices, Neurons
from arfj.errors import UsageError
from arfj.network import Dense, Floats, Network
from arfj.question import LEAST_OUTPUT, Question, required_margin


def encode_paper(question: Question) -> Encoding:
    """The printed model of a question: Fischetti-Jo for one scenario, ARFJ for more.

    Raises:
        UsageError: a mean of the worst slacks is asked for, which no printed model has.
    """
    if question.soft and question.demand.cvar is not None:
        raise UsageError("--formulation paper has no mean of the worst networks; drop it, or --cvar")
    builder = Builder()
    centre = question.flat
    n = len(centre)
    eye = np.eye(n)
    d = builder.add_columns(n, -np.inf, np.inf, cost=1.0)
    copies = [builder.add_columns(n, 0.0, 1.0) for _ in question.ensemble]
    builder.add_rows([(copies[0], eye), (d, -eye)], upper=centre)
    builder.add_rows([(copies[0], eye), (d, eye)], lower=centre)
    builder.add_rows([(d, eye)], lower=0.0)
    if len(copies) > 1:
        for one, two in zip(copies, [*copies[1:], copies[0]], strict=True):
            builder.add_rows([(one, eye), (two, -eye)], 0.0, 0.0)
    count = len(copies)
    counts = builder.add_columns(count if question.soft else 0, 0.0, 1.0, integer=True)
    neurons = tuple(
        _encode_network(builder, question, network, copy, counts[[k]] if question.soft else None)
        for k, (network, copy) in enumerate(zip(question.ensemble, copies, strict=True))
    )
    if question.soft:
        builder.add_rows([(counts, np.ones((1, count)))], lower=question.demand.fooled(count))
    pixels = sp.csr_matrix((np.ones(n), (np.arange(n), copies[0])), shape=(n, builder.columns))

    def lift(x: Floats) -> tuple[tuple[Indices, Floats], ...]:
        met = np.isin(np.arange(len(counts)), question.counted(x)).astype(np.float64)
        return ((d, np.abs(x - centre)), *((copy, x) for copy in copies), (counts, met))

    bounds = [interval_bounds(network, question.region()) for network in question.ensemble]
    return Encoding(builder.build(), pixels, np.zeros(n), lift, neurons, largest_term(question, bounds, True))


def _encode_network(
    builder: Builder, question: Question, network: Network, x: Indices, counts: Indices | None
) -> tuple[Neurons, ...]:
    """One scenario with its own copy of x, and the binary by which it counts, if any."""
    layers: list[Neurons] = []
    entering = x
    for layer in network.layers:
        layers.append(_encode_layer(builder, layer, entering))
        entering = layers[-1].y
    target, others = entering[[question.target]], entering[question.rivals]
    ones = np.ones((len(others), 1))
    scaled = -(1.0 + question.gamma) * np.eye(len(others))
    if counts is None:
        builder.add_rows([(target, ones), (others, scaled)], lower=required_margin(question.gamma))
        builder.raise_lower(int(target[0]), LEAST_OUTPUT)
        return tuple(layers)
    for other in others.tolist():
        columns, values = (int(target[0]), other), (-1.0, 1.0 + question.gamma)
        builder.indicators.append(Indicator(int(counts[0]), columns, values, -required_margin(question.gamma)))
    builder.indicators.append(Indicator(int(counts[0]), (int(target[0]),), (-1.0,), -LEAST_OUTPUT))
    return tuple(layers)


def _encode_layer(builder: Builder, layer: Dense, entering: Indices) -> Neurons:
    """Every neuron of one layer: y, s, z, z' and two indicators; y alone and free where the layer is linear."""
    n = layer.outputs
    eye = np.eye(n)
    if layer.activation == "linear":
        y = builder.add_columns(n, -np.inf, np.inf)
        builder.add_rows([(entering, layer.weight.T), (y, -eye)], -layer.bias, -layer.bias)
        none = np.full(n, -1, dtype=np.intp)
        return Neurons(y, none, none, linear=True)
    y, s = builder.add_columns(n), builder.add_columns(n)
    z, second = (builder.add_columns(n, 0.0, 1.0, integer=True) for _ in range(2))
    builder.add_rows([(entering, layer.weight.T), (y, -eye), (s, eye)], -layer.bias, -layer.bias)
    builder.add_rows([(z, eye), (second, eye)], 1.0, 1.0)
    for binaries, quantities in ((z, y), (second, s)):
        for binary, quantity in zip(binaries, quantities, strict=True):
            builder.indicators.append(Indicator(int(binary), (int(quantity),), (1.0,), 0.0))
    return Neurons(y, s, z, on=0, second=second)
