"""The rows of our own relaxation (see `arfj.bab.relaxation`), and beside them what they have of the pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from arfj.bounds import Bounds
from arfj.encoding.demand import add_mean, add_share
from arfj.encoding.problem import Builder, Parts
from arfj.encoding.tight import Source, clear_of_zero
from arfj.network import Dense, Floats
from arfj.question import Question


class Rows:
    """Collects them.

    Args:
        centre: xbar.

    Attributes:
        builder: columns and rows, pixels left out.
        y, s, triangles: of every open neuron, columns and the row of both.
        pixel_rows: rows that have pixels.
        weights: of pixels in these, (pixels, rows).
        sizes: what image and bias add up to in these rows at most, for rounding.
    """

    def __init__(self, centre: Floats) -> None:
        self.centre = centre
        self.builder = Builder()
        self.builder.add_columns(0)  # a network may have no column at all
        self.y: list[int] = []
        self.s: list[int] = []
        self.triangles: list[int] = []
        self.pixel_rows: list[NDArray[np.intp]] = []
        self.weights: list[Floats] = []
        self.sizes: list[Floats] = []

    def add_layer(
        self, layer: Dense, source: Source | None, lower: Floats, upper: Floats
    ) -> tuple[Source, NDArray[np.intp]]:
        """The rows of one hidden layer over `source` (None: the pixels); what it hands on, and its open neurons."""
        on, off = lower >= 0, upper <= 0
        opened = np.flatnonzero(~on & ~off)
        lower, upper = clear_of_zero(lower, upper)
        alive = np.flatnonzero(~off)
        builder = self.builder
        y = builder.add_columns(len(alive), np.maximum(lower[alive], 0.0), upper[alive])
        s = builder.add_columns(len(opened), 0.0, -lower[opened])
        eye = np.eye(layer.outputs)
        parts = [(y, -eye[:, alive]), (s, eye[:, opened])]
        fixed = self._fixed(layer.weight, layer.bias, source, parts)
        builder.add_rows(parts, np.where(off, -np.inf, fixed), fixed)
        mine = y[np.searchsorted(alive, opened)]
        self.triangles += range(builder.rows, builder.rows + len(opened))
        builder.add_rows([(mine, np.diag(1.0 / upper[opened])), (s, np.diag(-1.0 / lower[opened]))], upper=1.0)
        self.y += mine.tolist()
        self.s += s.tolist()
        return Source(np.zeros(layer.outputs), ((y, alive, 1.0),)), opened

    def add_demand(self, question: Question, bounds: Sequence[Bounds]) -> list[Parts]:
        """The columns and rows of a soft demand; what it adds to the class rows of every scenario."""
        if question.demand.cvar is not None:
            return add_mean(self.builder, question, bounds)[2]
        first = self.builder.rows
        y, s, more = add_share(self.builder, question, bounds)
        self.triangles += range(first, first + len(y))
        self.y += y.tolist()
        self.s += s.tolist()
        return more

    def add_conditions(self, source: Source | None, weights: Floats, least: Floats, more: Parts) -> None:
        """C h >= d, with `more` on its left side."""
        parts = list(more)
        fixed = self._fixed(weights.T, -least, source, parts)
        self.builder.add_rows(parts or [(np.zeros(0, dtype=np.intp), np.zeros((len(least), 0)))], lower=fixed)

    def _fixed(self, weight: Floats, bias: Floats, source: Source | None, parts: Parts) -> Floats:
        """Add W' source to the row parts; returns what stands on the other side, -(W' constant + b)."""
        if source is not None:
            more, shift = source.through(weight)
            parts += more
            return np.asarray(-shift - bias)
        first = self.builder.rows
        self.pixel_rows.append(np.arange(first, first + weight.shape[1]))
        self.weights.append(weight)
        self.sizes.append(np.abs(self.centre) @ np.abs(weight) + np.abs(bias))
        return np.asarray(-(self.centre @ weight) - bias)

    def add_ball(self, radius: float) -> None:
        """||x - xbar||_1 <= R, over pixels alone; it is the last row."""
        self.builder.add_rows([(np.zeros(0, dtype=np.intp), np.zeros((1, 0)))], upper=radius)
