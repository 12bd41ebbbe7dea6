"""Mixtures of Gaussians in units of their own: features of unlike sizes do not make a covariance look singular.

What rounding may do to a whitening map grows with the condition number of the covariance, and deviations of 0.01 and
100 alone make that 1e8. In units that are powers of two, which round nothing, that of the correlations is left.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arfj.certify.cdf.gaussians import Mixture, Pair
from arfj.certify.cdf.mesh import Array, Ints
from arfj.network import Floats


@dataclass(frozen=True, eq=False)
class Rescaled(Mixture):
    """The law of x = s u, where u has the mixture of these weights, means and covariances.

    Attributes:
        scale: s, powers of two, shape (d,).
    """

    scale: Floats

    @property
    def top(self) -> float:
        """p(x) = p(u) / prod s."""
        return super().top / float(np.prod(self.scale))

    @property
    def metric(self) -> Floats:
        """That of u."""
        return np.asarray(super().metric / self.scale[:, None])

    def sample(self, count: int, rng: np.random.Generator) -> Floats:
        """Draws of x."""
        return np.asarray(super().sample(count, rng) * self.scale)

    def greatest(self, points: Array, cells: Ints) -> Floats:
        """p(x) = p(u) / prod s."""
        return np.asarray(super().greatest(points / self.scale, cells) / float(np.prod(self.scale)))

    def masses(self, points: Array, cells: Ints) -> Pair:
        """Those of u, which are the same."""
        return super().masses(points / self.scale, cells)


def in_units(mixture: Mixture) -> Mixture:
    """The same law with deviations near 1; the mixture itself where all inputs have the same unit."""
    if isinstance(mixture, Rescaled):
        return mixture
    deviations = np.sqrt(np.einsum("kii->ki", mixture.covariances).mean(axis=0))
    scale = 2.0 ** np.round(np.log2(deviations))
    if (scale == scale[0]).all():
        return mixture
    return Rescaled(mixture.weights, mixture.means / scale, mixture.covariances / np.outer(scale, scale), scale)
