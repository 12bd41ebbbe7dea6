r"""Densities of the inputs, and their masses on simplices between bounds that hold.

    Axes      a product of piecewise polynomials, one for each input, in Bernstein form: beta densities with whole
              parameters among them. Integrated exactly by quadrature; in fractions without any rounding.

Beta densities with other parameters are in `betas`, Gaussians in `gaussians`.

A density answers with `masses`, bounds of its integral over each cell, and `greatest`, an upper bound of its values
there.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Any, Protocol

import numpy as np

from arfj.certify.cdf import blossoms
from arfj.certify.cdf.mesh import UNIT, Array, Ints, volumes
from arfj.certify.cdf.quadrature import nodes
from arfj.errors import UsageError
from arfj.network import Floats

CHUNK = 2**17
"""Values at nodes that are worked on at a time: they stay in the cache."""
Pair = tuple[Array, Array]


class Density(Protocol):
    """What the bounds need to know of a density on a box."""

    @property
    def inputs(self) -> int:
        """The dimension d."""

    @property
    def whole(self) -> bool:
        """Whether all of its mass lies in the box."""

    @property
    def sharp(self) -> bool:
        """Whether bounds of masses are apart by rounding only: then finer cells have no better ones."""

    @property
    def breaks(self) -> tuple[tuple[float, ...], ...]:
        """Where cells must be cut, for each input: on no cell does the density change its formula."""

    def masses(self, points: Array, cells: Ints) -> Pair:
        """Bounds of the integral over each cell, shapes (cells,)."""

    def greatest(self, points: Array, cells: Ints) -> Array:
        """An upper bound of the density on each cell, shape (cells,)."""

    @property
    def top(self) -> float:
        """An upper bound of the density."""

    @property
    def metric(self) -> Floats:
        """A matrix A, shape (d, d): in x A the density is about as steep in all directions."""

    def sample(self, count: int, rng: np.random.Generator) -> Floats:
        """Draws, shape (count, d), some of them outside the box unless `whole`."""


@dataclass(frozen=True)
class Axis:
    """A piecewise polynomial on [breaks[0], breaks[-1]] that is a density of one input.

    On the piece between l and u it is sum_k c_k B_(k,n)((x - l) / (u - l)), B_(k,n)(t) = C(n, k) t^k (1 - t)^(n - k).
    With coefficients that are not negative it is not negative, evaluation is a chain of convex combinations, and it is
    at most the greatest of them.

    Attributes:
        breaks: ascending, one more than pieces.
        coefficients: c_0 .. c_n of each piece; what the integral is off by, to 1e-9, is divided out.

    Raises:
        UsageError: breaks that do not rise, a coefficient below 0, or an integral that is not 1 (to 1e-9).
    """

    breaks: tuple[float, ...]
    coefficients: tuple[tuple[float | Fraction, ...], ...]

    def __post_init__(self) -> None:
        if len(self.breaks) != len(self.coefficients) + 1 or not self.coefficients or not all(self.coefficients):
            raise UsageError("a piecewise polynomial needs one more break than pieces, and coefficients in each piece")
        values = [*self.breaks, *(c for piece in self.coefficients for c in piece)]
        if not np.isfinite(np.array(values, dtype=float)).all():
            raise UsageError("a piecewise polynomial holds NaN or infinity; expected finite breaks and coefficients")
        if any(not one < two for one, two in zip(self.breaks, self.breaks[1:], strict=False)):
            raise UsageError(f"the breaks {list(self.breaks)} of a density do not rise; expected ascending ones")
        least = min(min(piece) for piece in self.coefficients)
        if least < 0:
            raise UsageError(
                f"a density has the Bernstein coefficient {float(least)}, and may be negative; "
                "expected coefficients >= 0 (raise the degree, or cut the piece)"
            )
        if abs(self.integral - 1) > 1e-9:
            raise UsageError(f"a density integrates to {float(self.integral):.6g}; expected 1")
        if (integral := self.integral) != 1:
            exact = tuple(tuple(Fraction(c) / integral for c in piece) for piece in self.coefficients)
            object.__setattr__(self, "coefficients", exact)

    @property
    def integral(self) -> Fraction:
        """In fractions: the mean coefficient times the width, piece by piece."""
        total = Fraction(0)
        for low, high, piece in zip(self.breaks, self.breaks[1:], self.coefficients, strict=False):
            total += (Fraction(high) - Fraction(low)) * sum(Fraction(c) for c in piece) / len(piece)
        return total

    @property
    def degree(self) -> int:
        """The greatest degree of a piece."""
        return max(map(len, self.coefficients)) - 1

    @property
    def top(self) -> float:
        """An upper bound of its values."""
        return float(max(max(piece) for piece in self.coefficients))

    @property
    def steepness(self) -> float:
        """An upper bound of the size of its derivative inside pieces: n max |c_(k+1) - c_k| / width."""
        found = [0.0]
        for low, high, piece in zip(self.breaks, self.breaks[1:], self.coefficients, strict=False):
            steps = [abs(float(b) - float(a)) for a, b in itertools.pairwise(piece)]
            found.append((len(piece) - 1) * max(steps, default=0.0) / (high - low))
        return 1.001 * max(found)

    @cached_property
    def _table(self) -> Floats:
        """The coefficients of all pieces, raised to one degree: shape (n + 1, pieces)."""
        return np.array([_raised(piece, self.degree) for piece in self.coefficients], dtype=np.float64).T

    def pieces_at(self, x: Floats) -> tuple[Floats, Floats]:
        """For cells with corners at x, shape (cells, corners): coefficients, and where in its piece each corner is."""
        breaks = np.array(self.breaks, dtype=np.float64)
        which = np.searchsorted(breaks[1:-1], x.mean(axis=1))
        low = breaks[which]
        t = (x.T - low) / (breaks[which + 1] - low)
        return self._table[:, which], np.clip(t, 0.0, 1.0)

    def __call__(self, x: Array, inside: Array) -> Array:
        """Its values at x, on the pieces that hold `inside` (a point of the same cell)."""
        inner = (
            np.array([Fraction(b) for b in self.breaks[1:-1]], dtype=object) if x.dtype == object else self.breaks[1:-1]
        )
        if not len(inner):
            return self._piece(0, x)
        which, result = np.searchsorted(inner, inside), np.zeros(x.shape, x.dtype)
        for index in range(len(self.coefficients)):
            chosen = which == index
            result[chosen] = self._piece(index, x[chosen])
        return result

    def _piece(self, index: int, x: Array) -> Array:
        exact = x.dtype == object
        low, high = self.breaks[index], self.breaks[index + 1]
        low, high = (Fraction(low), Fraction(high)) if exact else (low, high)  # type: ignore[assignment]
        t = (x - low) / (high - low)
        if not exact:
            t = np.clip(t, 0.0, 1.0)
        start: list[Any] = [Fraction(c) if exact else float(c) for c in self.coefficients[index]]
        values = [t * 0 + c for c in start]
        while len(values) > 1:  # de Casteljau
            values = [(1 - t) * one + t * two for one, two in itertools.pairwise(values)]
        return np.asarray(values[0])


def _raised(piece: Sequence[float | Fraction], degree: int) -> list[Fraction]:
    """The same polynomial in Bernstein form of a higher degree: c_k' = k / m c_(k-1) + (1 - k / m) c_k."""
    found = [Fraction(c) for c in piece]
    for m in range(len(found), degree + 1):
        found = [
            Fraction(k, m) * (found[k - 1] if k else 0) + (1 - Fraction(k, m)) * (found[k] if k < m else 0)
            for k in range(m + 1)
        ]
    return found


@dataclass(frozen=True)
class Axes:
    """A product of densities of one input each.

    Attributes:
        axes: one for each input.
    """

    axes: tuple[Axis, ...]

    @property
    def inputs(self) -> int:
        """The dimension d."""
        return len(self.axes)

    @property
    def whole(self) -> bool:
        """All of its mass lies in the box."""
        return True

    @property
    def sharp(self) -> bool:
        """Polynomials are integrated exactly."""
        return True

    @property
    def breaks(self) -> tuple[tuple[float, ...], ...]:
        """Those inside the box."""
        return tuple(axis.breaks[1:-1] for axis in self.axes)

    @property
    def degree(self) -> int:
        """Of the product."""
        return sum(axis.degree for axis in self.axes)

    @property
    def top(self) -> float:
        """An upper bound of the density."""
        return float(np.prod([axis.top for axis in self.axes]))

    @property
    def metric(self) -> Floats:
        """Widths of the box are 1."""
        return np.diag([1 / (axis.breaks[-1] - axis.breaks[0]) for axis in self.axes])

    def sample(self, count: int, rng: np.random.Generator) -> Floats:
        """Each Bernstein polynomial is a beta density: they are mixed by coefficients times widths."""
        result = np.zeros((count, self.inputs))
        for column, axis in enumerate(self.axes):
            parts = [
                (low, high, k, len(piece) - 1, float(c) * (high - low) / len(piece))
                for low, high, piece in zip(axis.breaks, axis.breaks[1:], axis.coefficients, strict=False)
                for k, c in enumerate(piece)
            ]
            weights = np.array([part[-1] for part in parts])
            which = rng.choice(len(parts), count, p=weights / weights.sum())
            low, high, k, n = (np.array([part[i] for part in parts])[which] for i in range(4))
            result[:, column] = low + (high - low) * rng.beta(k + 1, n - k + 1)
        return result

    def greatest(self, points: Array, cells: Ints) -> Array:
        """The product over inputs of (p(l) + p(u) + steepness (u - l)) / 2 on [l, u], or of the greatest value."""
        if points.dtype == object:
            return np.full(len(cells), Fraction(self.top) * 2)
        result = np.ones(len(cells))
        for axis, x in zip(self.axes, points.T, strict=True):
            at = x[cells]
            low, high, middle = at.min(axis=1), at.max(axis=1), at.mean(axis=1)
            bound = (axis(low, middle) + axis(high, middle) + axis.steepness * (high - low)) / 2
            result *= np.minimum(bound * (1 + 1e-12) + 1e-12 * axis.top, axis.top)
        return result * (1 + 1e-12)

    def masses(self, points: Array, cells: Ints) -> Pair:
        """The volume times the mean of the polynomial over a rule that is exact for its degree.

        A value is off by at most (8 (n + 4) + 2 terms) u of the greatest value, for the roundings of t, of n steps of
        convex combinations and of the sum of so many terms, together with those of the nodes: `_rounding`. All terms
        are positive, so nothing cancels.
        """
        volume, error = volumes(points, cells)
        volume = abs(volume)
        if points.dtype == object:
            mass = volume * self._exact_means(points, cells)
            return mass, mass
        _, weights = nodes(self.inputs, self.degree, exact=False)
        mean = np.ones(len(cells))
        step = max(1, CHUNK // len(weights))
        for at in range(0, len(cells), step):
            corners = points[cells[at : at + step]]
            value: Array | float = 1.0
            for axis, x in zip(self.axes, np.moveaxis(corners, 2, 0), strict=True):
                value = value * blossoms.values(*axis.pieces_at(x), self.degree)
            mean[at : at + step] = value @ weights if self.axes else 1.0
        mass = volume * mean
        margin = error * self.top + volume * self._rounding(points) + 2 * len(weights) * UNIT * mass
        return np.maximum(mass - margin, 0.0), mass + margin

    def _exact_means(self, points: Array, cells: Ints) -> Array:
        """In fractions, by a rule in fractions."""
        shares, weights = nodes(self.inputs, self.degree, exact=True)
        corners = points[cells]
        value: Array | int = 1
        for axis, x in zip(self.axes, np.moveaxis(corners, 2, 0), strict=True):
            value = value * axis(x @ shares.T, np.repeat(x.mean(axis=1)[:, None], len(weights), axis=1))
        return value @ weights if self.axes else np.ones(len(cells), object)

    def _rounding(self, points: Array) -> float:
        """By how much a mean value may be off: values and nodes as in `masses`, in units of the greatest value."""
        total = 0.0
        for axis, x in zip(self.axes, points.T, strict=True):
            place = (
                8 * UNIT * float(np.abs(x).max(initial=0.0)) * (self.inputs + 2)
            )  # of a node, and of t times the width
            summed = blossoms.terms(self.inputs, axis.degree)
            relative = axis.steepness * place / axis.top + UNIT * (8 * (axis.degree + 4) + 2 * summed)
            total += relative
        return self.top * total


def beta_axis(a: float, b: float, low: float, high: float) -> Axis:
    """The density of l + (u - l) B, B ~ Beta(a, b) with whole a, b: (n + 1) / (u - l) B_(a-1,n)(t), n = a + b - 2."""
    degree = round(a) + round(b) - 2
    coefficients = [Fraction(0)] * (degree + 1)
    coefficients[round(a) - 1] = (degree + 1) / (Fraction(high) - Fraction(low))
    return Axis((low, high), (tuple(coefficients),))
