r"""Mixtures of Gaussians: masses of cells without discretisation in one and two inputs, between bounds in more.

    one input   w (Phi(b) - Phi(a)) for each component.
    two inputs  after whitening, the mass of a triangle is the sum over its edges P -> Q of that of the triangle 0, P,
                Q: sign(h) [(atan2(q, |h|) - atan2(p, |h|)) / 2 pi - (T(|h|, q / |h|) - T(|h|, p / |h|))],
                h the distance of the line from 0, p and q the places of P and Q along it, T the function of Owen.
    more        rules with a proven remainder (`cubature`).

Source: D. B. Owen, Tables for computing bivariate normal probabilities, Ann. Math. Stat. 27, 1956.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from arfj.certify.cdf.cubature import greatest, mean_values
from arfj.certify.cdf.mesh import UNIT, Array, Ints, volumes
from arfj.errors import UsageError
from arfj.network import Floats

CHUNK = 2**20
SPECIAL = 1e-15
"""What the sum of two values of Phi, or of two of T and two of atan2, may be off by."""
Pair = tuple[Floats, Floats]


@dataclass(frozen=True, eq=False)
class Mixture:
    """sum_k w_k N(m_k, S_k).

    Attributes:
        weights: w, shape (components,), not negative, of sum 1; what they are off by, to 1e-9, is divided out.
        means: m, shape (components, d).
        covariances: S, shape (components, d, d), or (1, d, d) where all components have the same.

    Raises:
        UsageError: shapes that do not fit, weights that are none, a covariance that is not positive definite.
    """

    weights: Floats
    means: Floats
    covariances: Floats

    def __post_init__(self) -> None:
        for name in ("weights", "means", "covariances"):
            array = np.array(getattr(self, name), dtype=np.float64)
            if not np.isfinite(array).all():
                raise UsageError(f"the {name} of a mixture hold NaN or infinity; expected finite numbers")
            object.__setattr__(self, name, array)
        shape, (count, d) = self.covariances.shape, (*self.means.shape, 0, 0)[:2]
        if self.means.ndim != 2 or self.weights.shape != (count,) or shape not in ((1, d, d), (count, d, d)):
            raise UsageError(
                f"a mixture has weights {self.weights.shape}, means {self.means.shape} and covariances {shape}; "
                "expected (components,), (components, d) and (components, d, d) or (1, d, d)"
            )
        if (self.weights < 0).any() or abs(float(self.weights.sum()) - 1) > 1e-9:
            raise UsageError(
                f"the weights of a mixture add up to {float(self.weights.sum()):.9g}, the least is "
                f"{float(self.weights.min()):.3g}; expected weights >= 0 of sum 1"
            )
        object.__setattr__(self, "weights", self.weights / self.weights.sum())
        even = np.allclose(self.covariances, np.swapaxes(self.covariances, 1, 2), rtol=1e-9, atol=0)
        if not even or (np.linalg.eigvalsh(self.covariances) <= 0).any():
            raise UsageError("a covariance of a mixture is not positive definite; expected a variance > 0 everywhere")

    @property
    def inputs(self) -> int:
        """The dimension d."""
        return int(self.means.shape[1])

    @property
    def whole(self) -> bool:
        """A Gaussian has mass outside every box."""
        return False

    @property
    def sharp(self) -> bool:
        """In one and two inputs there are closed forms."""
        return self.inputs <= 2

    @property
    def breaks(self) -> tuple[tuple[float, ...], ...]:
        """None."""
        return tuple(() for _ in range(self.inputs))

    @cached_property
    def _groups(self) -> list[tuple[Floats, Ints, float, float]]:
        """For components of one covariance: the whitening map, their numbers, the greatest value and its norm."""
        every = np.arange(len(self.weights))
        numbers = [every] if len(self.covariances) == 1 else [every[k : k + 1] for k in every]
        found = []
        for covariance, chosen in zip(self.covariances, numbers, strict=True):
            whitening = np.linalg.inv(np.linalg.cholesky(covariance))
            height = float(np.prod(np.diag(whitening)) / (2 * np.pi) ** (self.inputs / 2))
            found.append((whitening.T, chosen, height, float(np.abs(whitening).sum(axis=1).max())))
        return found

    @property
    def top(self) -> float:
        """The sum of the greatest values of the components."""
        return 1.000001 * float(sum(self.weights[chosen].sum() * height for _, chosen, height, _ in self._groups))

    @property
    def metric(self) -> Floats:
        """The whitening map of the first covariance."""
        return self._groups[0][0]

    def sample(self, count: int, rng: np.random.Generator) -> Floats:
        """Draws of all of space."""
        which = rng.choice(len(self.weights), count, p=self.weights / self.weights.sum())
        roots, normal = np.linalg.cholesky(self.covariances), rng.standard_normal((count, self.inputs))
        moved = normal @ roots[0].T if len(roots) == 1 else np.einsum("nij,nj->ni", roots[which], normal)
        return np.asarray(self.means[which] + moved)

    def greatest(self, points: Array, cells: Ints) -> Floats:
        """The sum of bounds for each component, from the distance of its mean to the cell."""
        result = np.zeros(len(cells))
        for whitening, chosen, height, norm in self._groups:
            corners, means = (points @ whitening)[cells], self.means[chosen] @ whitening
            result += height * greatest(corners, means, self.weights[chosen], self._slip(points, norm))
        return result

    def masses(self, points: Array, cells: Ints) -> Pair:
        """Bounds of the mass of each cell, from those of each component."""
        if self.inputs == 1:
            return self._of_intervals(points, cells)
        low, high = np.zeros(len(cells)), np.zeros(len(cells))
        if self.inputs > 2:
            volume, error = volumes(points, cells)
        for whitening, chosen, height, norm in self._groups:
            slip = self._slip(points, norm)
            if self.inputs == 2:
                self._of_triangles(points @ whitening, cells, (self.means[chosen] @ whitening, self.weights[chosen]),
                                   slip, low, high)  # fmt: skip
            else:
                least, most = self._of_simplices(
                    points, cells, (np.abs(volume), error), (whitening, chosen, height), slip
                )
                low, high = low + least, high + most
        return np.maximum(low, 0.0), high

    @cached_property
    def _worst(self) -> float:
        """The greatest condition number of a covariance: a factor of it is off by so many units, relative to itself."""
        return float(np.linalg.cond(self.covariances).max())

    def _slip(self, points: Array, norm: float) -> float:
        """How far a whitened difference x - m may be off: its map is off by a few units, and so is each product.

        The inverse of a Cholesky factor is off by more where the covariance is nearly singular, and that is in it, too.
        """
        size = float(np.abs(points).max(initial=0.0) + np.abs(self.means).max())
        return float(16 * self.inputs**2 * UNIT * self._worst * norm * size)

    def _of_intervals(self, points: Array, cells: Ints) -> Pair:
        from scipy.special import ndtr

        ends = np.sort(points[cells, 0], axis=1)
        mass, slip = np.zeros(len(cells)), 0.0
        for whitening, chosen, _, norm in self._groups:
            slip += float(self.weights[chosen].sum()) * self._slip(points, norm)
            for k in chosen:
                z = (ends - self.means[k, 0]) * whitening[0, 0]
                turned = np.where(z[:, :1] > 0, -z[:, ::-1], z)  # both in the lower tail: nothing cancels
                mass += self.weights[k] * (ndtr(turned[:, 1]) - ndtr(turned[:, 0]))
        margin = SPECIAL + slip
        return np.maximum(mass - margin, 0.0), mass + margin

    def _of_triangles(
        self, points: Floats, cells: Ints, group: tuple[Floats, Floats], slip: float, low: Floats, high: Floats
    ) -> None:
        """Adds to both bounds. A line integral of the density is at most 1 / sqrt(2 pi): so much is a slip worth."""
        edges = np.concatenate([cells[:, [0, 1]], cells[:, [1, 2]], cells[:, [2, 0]]])
        turned = edges[:, 0] > edges[:, 1]
        keys, inverse = np.unique(np.sort(edges, axis=1), axis=0, return_inverse=True)
        total, means, weights = np.zeros(len(keys)), *group
        step = max(1, CHUNK // len(keys))
        for at in range(0, len(means), step):
            chosen = slice(at, at + step)
            p = points[keys[:, 0]][:, None] - means[chosen]
            q = points[keys[:, 1]][:, None] - means[chosen]
            total += sectors(p, q) @ weights[chosen]
        signed = np.where(turned, -1.0, 1.0) * total[inverse.ravel()]
        mass = np.abs(signed.reshape(3, -1).sum(axis=0))
        margin = float(weights.sum()) * (3 * SPECIAL + 2 * slip)
        low += mass - margin
        high += mass + margin

    def _of_simplices(
        self, points: Array, cells: Ints, sizes: Pair, group: tuple[Floats, Ints, float], slip: float
    ) -> Pair:
        """Bounds for the components of one covariance; sizes are volumes and their errors."""
        whitening, chosen, height = group
        volume, error = sizes
        least, most = mean_values(
            (points @ whitening)[cells], self.means[chosen] @ whitening, self.weights[chosen], slip
        )
        relative = 1e-12 + 16 * self.inputs**2 * UNIT * self._worst
        return (
            np.maximum(volume - error, 0.0) * height * least * (1 - relative),
            (volume + error) * height * most * (1 + relative),
        )


def sectors(p: Floats, q: Floats) -> Floats:
    """The standard normal masses of the triangles 0, p, q, negative where these turn right; shapes (.., 2)."""
    from scipy.special import owens_t

    step = q - p
    length = np.sqrt((step**2).sum(axis=-1))
    along = step / np.where(length > 0, length, 1.0)[..., None]
    h = p[..., 0] * along[..., 1] - p[..., 1] * along[..., 0]
    a, b = (p * along).sum(axis=-1), (q * along).sum(axis=-1)
    size = np.abs(h)
    tiny = size < 1e-200  # a triangle without area
    safe = np.where(tiny, 1.0, size)
    angle = (np.arctan2(b, safe) - np.arctan2(a, safe)) / (2 * np.pi)
    mass = angle - (owens_t(safe, b / safe) - owens_t(safe, a / safe))
    return np.where(tiny, 0.0, np.sign(h) * mass)
