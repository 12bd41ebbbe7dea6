r"""The `tight` formulation: the optimum of the model as printed, with everything that bounds can take out of it.

    min sum p + q,   x = xbar + p - q,  0 <= p <= u - xbar,  0 <= q <= xbar - l    (|.| needs no rows)
    stable off (u_k <= 0): y = 0;      stable on (l_k >= 0): y = W'x + b
    unstable:  W'x + b = y - s,  0 <= y <= u_k z,  0 <= s <= -l_k (1 - z),  z binary
    output layer: no variables; C h >= d over the last hidden layer (`arfj.question.class_rows`), or what a soft demand
                  asks of these rows (`arfj.encoding.demand`)

p or q is dropped where the pixel sits at its bound. The bounds l_k, u_k may hold only in the ball
||x - xbar||_1 <= R; then the model contains every answer within distance R, and so the optimum whenever R is at
least the distance of some answer. The ball itself needs no row: the solver's cut-off is tighter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from arfj.bounds import Bounds
from arfj.conflicts import Conflict, cliques, numbered
from arfj.encoding.demand import add_mean, add_share
from arfj.encoding.eased import largest_term
from arfj.encoding.problem import Builder, Encoding, Indices, Neurons, Parts
from arfj.network import Dense, Floats, Network
from arfj.question import Question, class_rows

LEAST_OPEN = 1e-8
"""Open neurons have u and -l of this size at least: smaller ones are 0 to a solver, or break it. Wider ones hold."""

Values = tuple[tuple[Indices, Floats], ...]
"""Columns and their values."""
Demanded = tuple[list[Parts], Callable[[Floats], Values]]
"""What a demand adds to the class rows of every scenario; the values of its own columns at an image."""


@dataclass(frozen=True, eq=False)
class Source:
    """The values that enter a layer, as columns: value = centre + sum of sign * column over the pieces.

    Attributes:
        centre: constant part, shape (n,).
        pieces: (columns, their positions in the layer's input, sign).
    """

    centre: Floats
    pieces: tuple[tuple[Indices, Indices, float], ...]

    def through(self, weight: Floats) -> tuple[Parts, Floats]:
        """W' value as row parts [(columns, coefficients (n_k, columns))], and its constant (n_k,)."""
        return [(columns, sign * weight[at].T) for columns, at, sign in self.pieces], self.centre @ weight


def encode_tight(
    question: Question,
    bounds: Sequence[Bounds],
    conflicts: Sequence[Sequence[Conflict]] | None = None,
    eased: Sequence[Floats] | None = None,
) -> Encoding:
    """The tight model of a question.

    Args:
        question: image, target and scenarios.
        bounds: pre-activation bounds of every scenario, valid for all x that may be the answer; those of a soft demand
            for all x of a ball, whether they are answers or not.
        conflicts: of every scenario, phases that no such x has together (`arfj.probe`), or None.
        eased: of every scenario, by how much less its class rows ask for (`arfj.encoding.eased`), or None.
    """
    builder = Builder()
    region = question.region()
    raised = np.flatnonzero(region.upper > region.centre)
    lowered = np.flatnonzero(region.centre > region.lower)
    p = builder.add_columns(len(raised), 0.0, (region.upper - region.centre)[raised], cost=1.0)
    q = builder.add_columns(len(lowered), 0.0, (region.centre - region.lower)[lowered], cost=1.0)
    image = Source(region.centre, ((p, raised, 1.0), (q, lowered, -1.0)))
    more, demanded = _demand(builder, question, bounds)
    room = eased or [np.zeros(one.classes) for one in question.ensemble]
    neurons = tuple(
        _encode_network(builder, question, network, bound, image, extra, less)
        for network, bound, extra, less in zip(question.ensemble, bounds, more, room, strict=True)
    )
    for mine, one, found in zip(neurons, bounds, conflicts or (), strict=conflicts is not None):
        _add_conflicts(builder, mine, one, found)
    ones = np.concatenate([np.ones(len(raised)), -np.ones(len(lowered))])
    where = (np.concatenate([raised, lowered]), np.concatenate([p, q]))
    pixels = sp.csr_matrix((ones, where), shape=(len(region.centre), builder.columns))

    def lift(x: Floats) -> Values:
        step = x - region.centre
        return ((p, np.maximum(step, 0.0)[raised]), (q, np.maximum(-step, 0.0)[lowered]), *demanded(x))

    return Encoding(builder.build(), pixels, region.centre, lift, neurons, largest_term(question, bounds))


def _encode_network(
    builder: Builder, question: Question, network: Network, bounds: Bounds, image: Source, more: Parts, less: Floats
) -> tuple[Neurons, ...]:
    """One scenario: hidden layers, then class rows C h >= d - less over the last of them, `more` on the left."""
    source = image
    layers: list[Neurons] = []
    for k, layer in enumerate(network.layers[:-1]):
        neurons = _encode_layer(builder, layer, source, bounds.lower[k], bounds.upper[k])
        alive = np.flatnonzero(neurons.y >= 0)
        source = Source(np.zeros(layer.outputs), ((neurons.y[alive], alive, 1.0),))
        layers.append(neurons)
    weights, least = class_rows(network, question.target, question.gamma)
    parts, shift = source.through(weights.T)
    builder.add_rows([*parts, *more], lower=least - less - shift)
    return tuple(layers)


def clear_of_zero(lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Bounds of a layer's neurons, those of open ones at least `LEAST_OPEN` from 0."""
    open_ = (lower < 0) & (upper > 0)
    return (
        np.where(open_, np.minimum(lower, -LEAST_OPEN), lower),
        np.where(open_, np.maximum(upper, LEAST_OPEN), upper),
    )


def _add_conflicts(builder: Builder, neurons: Sequence[Neurons], bounds: Bounds, conflicts: Sequence[Conflict]) -> None:
    """Of phases that no answer has together one at least is missing: sum of (1 - z) + sum of z >= 1.

    Pairs that make a clique are one row, of which at most one phase is there.
    """
    places = [(0, layer, int(k)) for layer, one in enumerate(neurons) for k in np.flatnonzero(one.z >= 0)]
    known = numbered(places, [bounds], [conflicts])
    columns = np.array([neurons[layer].z[k] for _, layer, k in places], dtype=np.intp)
    for literals in cliques(known):
        at, on = known.phases(literals)
        signs = np.where(on, 1.0, -1.0)
        builder.add_rows([(columns[at], signs[None])], upper=1.0 - float((~on).sum()))
    for literals in known.sets:
        if len(literals) != 2:
            at, on = known.phases(literals)
            signs = np.where(on, 1.0, -1.0)
            builder.add_rows([(columns[at], signs[None])], upper=len(at) - 1.0 - float((~on).sum()))


def _demand(builder: Builder, question: Question, bounds: Sequence[Bounds]) -> Demanded:
    """The columns and rows of a soft demand."""
    if not question.soft:
        return [[] for _ in bounds], lambda _: ()
    return (_share if question.demand.cvar is None else _mean)(builder, question, bounds)


def _share(builder: Builder, question: Question, bounds: Sequence[Bounds]) -> Demanded:
    """Pairs like those of neurons, so that solvers that branch on these branch on them, too."""
    z, s, more = add_share(builder, question, bounds, integer=True)
    builder.phases += zip(z.tolist(), s.tolist(), z.tolist(), strict=True)

    def own(x: Floats) -> Values:
        counts = np.isin(np.arange(len(z)), question.counted(x)).astype(np.float64)
        return ((z, counts), (s, 1.0 - counts))

    return more, own


def _mean(builder: Builder, question: Question, bounds: Sequence[Bounds]) -> Demanded:
    tau, e, more = add_mean(builder, question, bounds)

    def own(x: Floats) -> Values:
        slacks = question.slacks(x)
        best = max(float(np.sort(slacks)[int(np.ceil(question.demand.worst(len(slacks)))) - 1]), 0.0)
        return ((tau, np.array([best])), (e, np.maximum(best - slacks, 0.0)))

    return more, own


def _encode_layer(builder: Builder, layer: Dense, source: Source, lower: Floats, upper: Floats) -> Neurons:
    """y, s, z of one hidden layer; -1 where a neuron needs none."""
    on, off = lower >= 0, upper <= 0
    lower, upper = clear_of_zero(lower, upper)
    unstable = ~on & ~off
    count = int(unstable.sum())
    y, s, z = (np.full(layer.outputs, -1, dtype=np.intp) for _ in range(3))
    y[on] = builder.add_columns(int(on.sum()), np.maximum(lower[on], 0.0), upper[on])
    y[unstable] = builder.add_columns(count, 0.0, upper[unstable])
    s[unstable] = builder.add_columns(count, 0.0, -lower[unstable])
    z[unstable] = builder.add_columns(count, 0.0, 1.0, integer=True)
    for which in (on, unstable):
        parts, shift = source.through(layer.weight[:, which])
        eye = np.eye(int(which.sum()))
        tail = [(s[which], eye)] if which is unstable else []
        fixed = -shift - layer.bias[which]
        builder.add_rows([*parts, (y[which], -eye), *tail], fixed, fixed)
    eye, low, up = np.eye(count), lower[unstable], upper[unstable]
    builder.add_rows([(y[unstable], eye), (z[unstable], -np.diag(up))], upper=0.0)
    builder.add_rows([(s[unstable], eye), (z[unstable], -np.diag(low))], upper=-low)
    builder.phases += zip(y[unstable].tolist(), s[unstable].tolist(), z[unstable].tolist(), strict=True)
    return Neurons(y, s, z)
