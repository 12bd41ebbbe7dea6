"""Pre-activation bounds, and the outward margin that covers their rounding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arfj.network import Floats

OUTWARD = 1e-11
"""Bounds are widened by this share of the magnitude of the summed terms: float64 rounding of a sum of n terms is below
n 2^-53 of it, 9e-14 for n = 784, and a backward pass chains a handful of such sums. Where n is above 2^14, the
magnitude is raised (`arfj.region.long_sum`)."""


@dataclass(frozen=True, eq=False)
class Bounds:
    """l_k <= W' x^(k-1) + b <= u_k for every layer and every x of a region.

    Attributes:
        lower, upper: one array (n_k,) per layer, k = 1..K.
    """

    lower: tuple[Floats, ...]
    upper: tuple[Floats, ...]

    @property
    def unstable(self) -> int:
        """How many hidden neurons have l < 0 < u."""
        pairs = zip(self.lower[:-1], self.upper[:-1], strict=True)
        return int(sum(((low < 0) & (up > 0)).sum() for low, up in pairs))

    def hold(self, preactivations: Sequence[Floats]) -> bool:
        """Whether pre-activations (batch, n_k) of every layer lie inside."""
        return all(
            bool(((low <= before) & (before <= up)).all())
            for before, low, up in zip(preactivations, self.lower, self.upper, strict=True)
        )

    def replaced(self, layer: int, lower: Floats, upper: Floats) -> Bounds:
        """These bounds intersected with others of one layer."""
        lows, ups = list(self.lower), list(self.upper)
        lows[layer] = np.maximum(lows[layer], lower)
        ups[layer] = np.minimum(ups[layer], upper)
        return Bounds(tuple(lows), tuple(ups))

    def intersect(self, other: Bounds) -> Bounds:
        """The tighter of both, neuron by neuron."""
        result = self
        for layer, (low, up) in enumerate(zip(other.lower, other.upper, strict=True)):
            result = result.replaced(layer, low, up)
        return result


def outward(lower: Floats, upper: Floats, magnitude: Floats) -> tuple[Floats, Floats]:
    """Widen bounds by the rounding error that sums of this magnitude may carry."""
    margin = OUTWARD * (magnitude + 1.0)
    return sound(lower - margin), -sound(-(upper + margin))


def sound(lower: Floats) -> Floats:
    """Lower bounds, -inf where one is no number: weights beyond float64 (infinity less infinity) prove nothing."""
    return np.where(np.isnan(lower), -np.inf, lower)
