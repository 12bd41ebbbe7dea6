"""Beta densities whose parameters are no whole numbers: between bounds on each simplex."""

from __future__ import annotations

from dataclasses import dataclass
from math import lgamma

import numpy as np

from arfj.certify.cdf.densities import Pair
from arfj.certify.cdf.mesh import Array, Ints, volumes
from arfj.network import Floats


@dataclass(frozen=True)
class Betas:
    """Independent beta densities with parameters >= 1 on a box.

    log p is concave. On a simplex with corners v_i and centroid c it is therefore at least the affine function through
    its values at the corners, and at most its tangent at c; with the mean of x - c being 0 and exp convex, the mean of
    p over the simplex lies between
        exp(mean of log p(v_i))   and   mean of exp(log p(c) + grad log p(c) (v_i - c)),
    which are as near to each other as the square of its size; and below the value at the point of the simplex's box
    that is nearest to the mode.

    Attributes:
        parameters: (a, b) for each input.
        lower, upper: the box.
    """

    parameters: tuple[tuple[float, float], ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]

    @property
    def inputs(self) -> int:
        """The dimension d."""
        return len(self.parameters)

    @property
    def whole(self) -> bool:
        """All of its mass lies in the box."""
        return True

    @property
    def sharp(self) -> bool:
        """In one input there is a distribution function."""
        return self.inputs == 1

    @property
    def breaks(self) -> tuple[tuple[float, ...], ...]:
        """None."""
        return tuple(() for _ in self.parameters)

    @property
    def top(self) -> float:
        """The product of the values at the modes."""
        modes = np.array([[_mode(a, b) for a, b in self.parameters]])
        return float(np.exp(self._logarithm(modes, 1 - modes)[0])) * (1 + 1e-9)

    @property
    def metric(self) -> Floats:
        """Widths of the box are 1."""
        return np.diag(1 / (np.array(self.upper) - np.array(self.lower)))

    def sample(self, count: int, rng: np.random.Generator) -> Floats:
        """Independent draws."""
        t = np.stack([rng.beta(a, b, count) for a, b in self.parameters], axis=1)
        return np.asarray(np.array(self.lower) + (np.array(self.upper) - np.array(self.lower)) * t)

    def greatest(self, points: Array, cells: Ints) -> Array:
        """The values at the point of the cell's box that is nearest to the mode."""
        modes = np.array([_mode(a, b) for a, b in self.parameters])
        t, s = (side[cells] for side in self._places(points))
        nearest = np.clip(modes, t.min(axis=1), t.max(axis=1)), np.clip(1 - modes, s.min(axis=1), s.max(axis=1))
        return np.asarray(np.exp(self._logarithm(*nearest)) * (1 + 1e-9) + 1e-300)  # not 0 where it underflows

    def masses(self, points: Array, cells: Ints) -> Pair:
        """In one input differences of the distribution function; else the volume times bounds of the mean."""
        volume, error = volumes(points, cells)
        t, s = (side[cells] for side in self._places(points))
        if self.inputs == 1:
            from scipy.special import betainc

            ((a, b),) = self.parameters
            mass = betainc(a, b, t.max(axis=(1, 2))) - betainc(a, b, t.min(axis=(1, 2)))
            return np.maximum(mass - 1e-12, 0.0), mass + 1e-12
        least = np.exp(self._logarithm(t, s).mean(axis=1)) * (1 - 1e-9)
        most = np.minimum(self._tangent_mean(t, s) * (1 + 1e-9) + 1e-300, self.greatest(points, cells))
        size = np.abs(volume)
        return np.maximum(size - error, 0.0) * least, (size + error) * most

    def _tangent_mean(self, t: Floats, s: Floats) -> Floats:
        """The mean of exp(log p(c) + grad log p(c) (v_i - c)) over the corners of each cell."""
        first, second = np.array(self.parameters).T - 1
        centre, rest = t.mean(axis=1), s.mean(axis=1)
        slope = first / np.maximum(centre, 1e-300) - second / np.maximum(rest, 1e-300)
        height = self._logarithm(centre, rest)[:, None] + np.einsum("nij,nj->ni", t - centre[:, None], slope)
        return np.asarray(np.exp(np.minimum(height, 700.0)).mean(axis=1))

    def _places(self, points: Array) -> tuple[Floats, Floats]:
        """Where points are in the box, from either side: t and 1 - t, neither of which has lost digits near 0."""
        low, high = np.array(self.lower), np.array(self.upper)
        one, two = (points - low) / (high - low), (high - points) / (high - low)
        return np.clip(one, 0.0, 1.0), np.clip(two, 0.0, 1.0)

    def _logarithm(self, t: Floats, s: Floats) -> Floats:
        """log p at places t of [0, 1]^d, s = 1 - t, shapes (.., d): powers of sharp densities overflow, it does not."""
        from scipy.special import xlogy

        total = np.zeros(t.shape[:-1])
        for k, (a, b) in enumerate(self.parameters):
            constant = lgamma(a + b) - lgamma(a) - lgamma(b) - np.log(self.upper[k] - self.lower[k])
            total += constant + xlogy(a - 1, t[..., k]) + xlogy(b - 1, s[..., k])
        return total


def _mode(a: float, b: float) -> float:
    return 0.5 if a == b == 1 else (a - 1) / (a + b - 2)
