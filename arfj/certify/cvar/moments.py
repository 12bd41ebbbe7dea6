r"""What is known of the input: its mean and covariance, and the coordinates in which these are 0 and I.

    P(mu, Sigma) = {distributions with E x = mu, E (x - mu)(x - mu)' = Sigma},   x = mu + S xi,   S S' = Sigma

With F = [[S, mu], [0, 1]], Omega = E [x; 1][x; 1]' = F F', and a form [x; 1]' H [x; 1] is [xi; 1]' F' H F [xi; 1] with
E [xi; 1][xi; 1]' = I. Inputs that do not vary have no part in xi.

S S' is Sigma with the rounding of its eigenvalues on top, as worst-case CVaR does not fall where Sigma grows: it is a
minimum of Tr(Omega N) with N >= 0. Nothing is dropped as too small to matter: a network may read the difference of two
inputs that are nearly the same, or an input in units in which it is tiny.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from arfj.errors import UsageError
from arfj.network import Floats

TOLERANCE = 1e-9
"""How unsymmetric, and how negative in an eigenvalue, a covariance may be, relative to its largest entry."""


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and covariance of the input.

    Attributes:
        mean: mu, shape (n,).
        covariance: Sigma, shape (n, n), symmetric and positive semidefinite up to `TOLERANCE`.
        root: S, shape (n, rank), made here; rank is the number of inputs that vary.

    Raises:
        UsageError: shapes that do not fit, NaN, a covariance that is not symmetric or is indefinite.
    """

    mean: Floats
    covariance: Floats
    root: Floats = field(init=False)

    def __post_init__(self) -> None:
        mean, covariance = _numbers(self.mean, "the mean"), _numbers(self.covariance, "the covariance")
        size = len(mean) if mean.ndim == 1 else 0
        if not size or covariance.shape != (size, size):
            raise UsageError(
                f"the mean has shape {mean.shape}, the covariance {covariance.shape}; expected (n,) and (n, n)"
            )
        room = TOLERANCE * float(np.abs(covariance).max())
        apart = float(np.abs(covariance - covariance.T).max())
        if apart > room:
            raise UsageError(
                f"the covariance is not symmetric: entries differ by {apart:.3g}; average it with its transpose"
            )
        covariance = 0.5 * (covariance + covariance.T)
        least = float(np.linalg.eigvalsh(covariance)[0])
        if least < -room:
            raise UsageError(
                f"the covariance has the eigenvalue {least:.3g}; expected none below 0, as no distribution has it"
            )
        for name, array in (("mean", mean), ("covariance", covariance), ("root", _root(covariance))):
            array.setflags(write=False)
            object.__setattr__(self, name, array)

    @classmethod
    def of(cls, samples: ArrayLike) -> Moments:
        """Mean and covariance (divided by the number of samples less one) of rows, shape (samples, n).

        Raises:
            UsageError: fewer than two rows, or no numbers.
        """
        rows = _numbers(samples, "the data")
        if rows.ndim != 2 or len(rows) < 2 or not rows.shape[1]:
            raise UsageError(f"the data has shape {rows.shape}; expected (samples, n) with at least two samples")
        return cls(rows.mean(axis=0), np.atleast_2d(np.cov(rows, rowvar=False)))

    @property
    def size(self) -> int:
        """n, the number of inputs."""
        return len(self.mean)

    @property
    def rank(self) -> int:
        """The size of xi: the number of inputs that vary."""
        return int(self.root.shape[1])

    @property
    def factor(self) -> Floats:
        """F = [[S, mu], [0, 1]], shape (n + 1, rank + 1)."""
        last = np.zeros((1, self.rank + 1))
        last[0, -1] = 1.0
        return np.vstack([np.column_stack([self.root, self.mean]), last])

    @property
    def omega(self) -> Floats:
        """Omega = [[Sigma + mu mu', mu], [mu', 1]], shape (n + 1, n + 1)."""
        return np.asarray(self.factor @ self.factor.T)

    def inputs(self, xi: ArrayLike) -> Floats:
        """x = mu + S xi for rows xi: (batch, rank) -> (batch, n)."""
        return np.asarray(self.mean + np.asarray(xi, dtype=np.float64) @ self.root.T)

    def whitened(self, form: ArrayLike) -> Floats:
        """F' H F, shape (rank + 1, rank + 1), of a form H over [x; 1].

        Raises:
            UsageError: H is no symmetric matrix of shape (n + 1, n + 1).
        """
        given = symmetric(form, "the form", self.size + 1)
        return symmetrised(self.factor.T @ given @ self.factor)


def _root(covariance: Floats) -> Floats:
    """S with S S' >= Sigma up to rounding, shape (n, rank), from the eigenvalues of the correlations: then the units of
    the inputs do not matter.
    """
    size, moving = len(covariance), np.abs(covariance).max(axis=1) > 0
    inner = covariance[np.ix_(moving, moving)]
    root = np.zeros((size, len(inner)))
    if not len(inner):
        return root
    for scale in (np.sqrt(np.maximum(np.diag(inner), 0.0)), np.full(len(inner), np.sqrt(np.abs(inner).max()))):
        if not (scale > 0).all():
            continue
        values, vectors = np.linalg.eigh(inner / scale[:, None] / scale)
        # Below: covariances that are too large for their tiny variances, within the tolerance for all of Sigma.
        if values[0] >= -TOLERANCE * values[-1]:
            break
    least = 4.0 * size * np.finfo(float).eps * values[-1]
    root[moving] = scale[:, None] * vectors * np.sqrt(np.maximum(values, 0.0) + least)
    return root


def symmetric(form: ArrayLike, what: str, size: int) -> Floats:
    """A symmetric matrix of shape (size, size), `what` it is.

    Raises:
        UsageError: it is none.
    """
    given = _numbers(form, what)
    if given.shape != (size, size):
        raise UsageError(f"{what} has shape {given.shape}; expected ({size}, {size})")
    if np.abs(given - given.T).max() > TOLERANCE * np.abs(given).max():
        raise UsageError(f"{what} is not symmetric; average it with its transpose")
    return symmetrised(given)


def symmetrised(matrix: Floats) -> Floats:
    """(A + A') / 2 along the last two axes."""
    return np.asarray(0.5 * (matrix + np.swapaxes(matrix, -1, -2)))


def _numbers(values: ArrayLike, what: str) -> Floats:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise UsageError(f"{what} does not hold numbers; expected floating-point values") from None
    if not np.isfinite(array).all():
        raise UsageError(f"{what} holds NaN or infinity; expected finite numbers")
    return array


def checked_level(epsilon: float) -> float:
    """The level itself.

    Raises:
        UsageError: it does not lie in (0, 1).
    """
    if not 0 < epsilon < 1:
        raise UsageError(
            f"epsilon {epsilon} is no share of the worst cases; expected a number between 0 and 1, such as 0.2"
        )
    return float(epsilon)
