r"""The statistics of a transfer study: images in rows, target networks in columns, one outcome a cell.

A cell counts only where its mask is set (the target gives the clean image its true class). Images and targets are both
samples, and every answer meets every target, so cells of one row or one column depend on each other: all that is said
here of a mean takes rows and columns as the units, not cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv, gammaln, ndtri

from arfj.errors import ArfjError, UsageError

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
RESAMPLES = 10_000
CHUNK = 1_000
"""Resamples that are drawn at a time; the draws of a seed depend on it."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its interval, in the units of the values (`paired_difference`: percentage points)."""

    estimate: float
    low: float
    high: float


def clopper_pearson(hits: ArrayLike, trials: ArrayLike, confidence: float = CONFIDENCE) -> tuple[Floats, Floats]:
    """The exact two-sided interval of a binomial share: low and high, in the common shape of `hits` and `trials`.

    With q = (1 - confidence)/2, low is the q-quantile of Beta(k, n - k + 1), and high the (1 - q)-quantile of
    Beta(k + 1, n - k); low = 0 at k = 0, high = 1 at k = n, and n = 0 says nothing: (0, 1). It takes the trials as
    independent, which cells are within one row (one answer, targets drawn independently) and not in the whole matrix.

    Raises:
        UsageError: not 0 <= hits <= trials in whole numbers, or a confidence outside (0, 1).

    Source: C. J. Clopper and E. S. Pearson, Biometrika 26, 1934.
    """
    _check_share("confidence", confidence)
    k, n = np.broadcast_arrays(np.asarray(hits, dtype=np.float64), np.asarray(trials, dtype=np.float64))
    if not ((k >= 0) & (k <= n) & (k == np.floor(k)) & (n == np.floor(n)) & np.isfinite(n)).all():
        raise UsageError("hits and trials must be whole numbers with 0 <= hits <= trials")
    q = (1 - confidence) / 2
    # The quantiles have no parameters 0: there the ends are known.
    low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, q), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - q), 1.0)
    return low, high


def cluster_bootstrap(
    values: ArrayLike,
    mask: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    r"""The mean over the valid cells, with the percentile interval of the pigeonhole bootstrap.

    Rows and columns are drawn with replacement, independently; with their multiplicities r and c the mean of a
    resample is r'(V * M)c / r'Mc, for the outcomes V and the mask M, shape (images, targets). Rows and columns
    without a valid cell are not drawn; a resample without one has no mean and is left out.

    It is conservative about the residual: on a balanced matrix the variance of the resampled means is in expectation
    about s_image^2/I + s_target^2/T + 3 s_res^2/(I T), with a 1 in place of the 3 in truth (no bootstrap of two crossed
    factors is exact: McCullagh, Bernoulli 6, 2000). It is not conservative about few rows or columns: each
    component is short by the factor (I - 1)/I or (T - 1)/T, as in any bootstrap of a mean.

    Raises:
        ArfjError: fewer than two images or two targets have a valid cell: nothing tells how much they vary.
        UsageError: the shapes differ, a valid cell is not finite, or an option is out of range.

    Source: A. B. Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1, 2007.
    """
    estimates, means = _bootstrapped([values], mask, confidence, resamples, seed)
    return _percentile(estimates[0], means[0], confidence)


def paired_difference(
    a: ArrayLike,
    b: ArrayLike,
    mask: ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Mean of a minus mean of b in percentage points, both over the same images, targets, mask and resamples.

    The interval is that of `cluster_bootstrap`; what makes an image or a target easy for both methods cancels.

    Raises:
        ArfjError, UsageError: as `cluster_bootstrap`.
    """
    estimates, means = _bootstrapped([a, b], mask, confidence, resamples, seed)
    return _percentile(100 * (estimates[0] - estimates[1]), 100 * (means[0] - means[1]), confidence)


@dataclass(frozen=True)
class Components:
    """The model y_ij = mean + image_i + target_j + residual_ij, estimated from the valid cells.

    Attributes:
        mean: over the valid cells.
        image, target, residual: the variances s_image^2, s_target^2, s_res^2, each at least 0.
        images, targets: I and T, those with a valid cell.
        image_share, target_share: sum_i N_i^2 / N^2 and sum_j N_j^2 / N^2 with N_i, N_j the valid cells of a row or
            column, N of all; 1/I and 1/T if every cell is valid, and more otherwise.
        cells: N.
    """

    mean: float
    image: float
    target: float
    residual: float
    images: int
    targets: int
    image_share: float
    target_share: float
    cells: int

    @property
    def per_image(self) -> float:
        """The part of the variance of the mean that no further target takes away."""
        return self.image * self.image_share

    @property
    def per_target(self) -> float:
        """The rest of it, times T; new targets are taken to be valid as often as the present ones."""
        return self.targets * (self.target * self.target_share + self.residual / self.cells)

    def standard_error(self, targets: float) -> float:
        """Of the mean over so many targets; math.inf gives the limit.

        sqrt(s_image^2/I + s_target^2/T + s_res^2/(I T)) if every cell is valid; otherwise 1/image_share and
        1/target_share, the effective numbers, stand for I and T, and N for I T.
        """
        return math.sqrt(self.per_image + self.per_target / targets)


def variance_components(values: ArrayLike, mask: ArrayLike) -> Components:
    r"""Estimate how outcomes, or paired differences a - b, vary between images, between targets and from cell to cell.

    Moments, unbiased for every mask: the sums of squares within rows U_a = sum_ij (y_ij - y_i.)^2, within columns U_b,
    and U_e = N sum_ij (y_ij - y_..)^2 have the expectations

        (N - I) (s_target^2 + s_res^2),   (N - T) (s_image^2 + s_res^2),
        (N^2 - sum N_i^2) s_image^2 + (N^2 - sum N_j^2) s_target^2 + (N^2 - N) s_res^2,

    which are solved for the variances; negative ones are then set to 0.

    Raises:
        ArfjError: the valid cells do not tell the three apart.
        UsageError: the shapes differ, or a valid cell is not finite.

    Source: K. Gao and A. B. Owen, Efficient moment calculations for variance components in large unbalanced crossed
    random effects models, Electronic Journal of Statistics 11, 2017.
    """
    (y,), valid = _checked([values], mask)
    rows, columns, N = valid.sum(axis=1), valid.sum(axis=0), float(valid.sum())
    I, T = int((rows > 0).sum()), int((columns > 0).sum())  # noqa: E741 - the symbol of the formula
    squares_rows, squares_columns = float(rows @ rows), float(columns @ columns)
    apart = N * N - squares_rows - squares_columns + N  # ordered pairs of cells that share no row and no column
    if N in (I, T):  # otherwise two cells share neither row nor column, and `apart` is positive
        raise ArfjError(
            f"{N:.0f} valid cells of {I} images and {T} targets do not tell image, target and residual apart; "
            "give images that share targets, and targets that share images"
        )
    mean = float(y.sum() / N)
    deviations = valid * (y - mean)
    total = float((deviations**2).sum())
    # The mean is taken off first, so that a large one costs no digits.
    within_rows = total - float((deviations.sum(axis=1) ** 2 / np.maximum(rows, 1)).sum())
    within_columns = total - float((deviations.sum(axis=0) ** 2 / np.maximum(columns, 1)).sum())
    target_and_residual, image_and_residual = within_rows / (N - I), within_columns / (N - T)
    residual = (
        image_and_residual * (N * N - squares_rows) + target_and_residual * (N * N - squares_columns) - N * total
    ) / apart
    return Components(
        mean=mean,
        image=max(image_and_residual - residual, 0.0),
        target=max(target_and_residual - residual, 0.0),
        residual=max(residual, 0.0),
        images=I,
        targets=T,
        image_share=squares_rows / N**2,
        target_share=squares_columns / N**2,
        cells=int(N),
    )


@dataclass(frozen=True)
class Power:
    """What a design can show.

    Attributes:
        points: the difference that is asked for, in percentage points.
        targets: the least number of targets that shows it with these images; None if no number does.
        detectable: the least difference that the present design shows, in percentage points.
        limit: what `detectable` tends to with ever more targets and the same images.
    """

    points: float
    targets: int | None
    detectable: float
    limit: float

    def sentence(self) -> str:
        """The answer in words."""
        if self.targets is None:
            return (
                f"no number of targets shows {self.points:g} points: the images are too few "
                f"(the limit is {self.limit:.1f} points)"
            )
        return f"{self.targets} targets show {self.points:g} points; the present design shows {self.detectable:.1f}"


def power(differences: Components, *, points: float = 10.0, level: float = 0.05, chance: float = 0.8) -> Power:
    """How many targets show a difference of `points` in a two-sided test at `level`, with probability `chance`.

    The least T with points/100 >= (z_{1 - level/2} + z_chance) se(T), se as in `Components.standard_error`. The normal
    law is that of many images and targets; with fewer than some twenty of either the answer is on the low side.

    Args:
        differences: `variance_components` of the paired differences a - b (outcomes 0 or 1).
        points: of 100, positive.
        level: the probability of seeing a difference where there is none, in (0, 1).
        chance: the power that is asked for, in (0, 1).

    Raises:
        UsageError: an option is out of range.
    """
    _check_share("level", level)
    _check_share("chance", chance)
    if not 0 < points < math.inf:
        raise UsageError(f"a difference of {points} points cannot be shown; expected a positive number")
    quantiles = float(ndtri(1 - level / 2) + ndtri(chance))
    if quantiles <= 0:
        raise UsageError(f"chance {chance} is reached without any data at level {level}; give a larger chance")

    def detectable(targets: float) -> float:
        return 100 * quantiles * differences.standard_error(targets)

    targets = _least_targets(differences, (points / (100 * quantiles)) ** 2)
    return Power(points, targets, detectable(differences.targets), detectable(math.inf))


def _least_targets(differences: Components, allowed: float) -> int | None:
    """The least T whose mean has at most the variance `allowed`."""
    spare = allowed - differences.per_image
    if spare <= 0:
        return None
    # An exact integer stays one when rounding has put it just above.
    return max(1, math.ceil(differences.per_target / spare * (1 - 1e-12)))


def a_priori_violation(alpha: int, support: int, delta: float) -> float:
    """eps(k): with confidence 1 - delta a new scenario defeats the decision with probability at most eps(k).

    eps(k) = 1 - (delta / (N C(N, k)))^(1/(N - k)) for k < N and eps(N) = 1, for a decision that satisfies all of its N
    independent scenarios, without any convexity; k is judged after the decision is made.

    The nominal network is no scenario, as it is not sampled. For alpha = 5 the bound says nearly nothing (0.79 at
    k = 1, delta = 0.05): fresh networks, asked afterwards, say more (`arfj.evaluate.transfer_certificate`).

    Args:
        alpha: N, the sampled networks in the model.
        support: k, the size of a support sub-sample: sampled networks that by themselves lead to the same decision,
            by the same deterministic rule. An irreducible one (none can be left out) gives the best bound.
        delta: in (0, 1).

    Raises:
        UsageError: not 0 <= support <= alpha, alpha < 1, or delta is out of range.

    Source: M. C. Campi, S. Garatti and F. A. Ramponi, A general scenario theory for nonconvex optimization and decision
    making, IEEE Transactions on Automatic Control 63(12), 2018, Theorem 1 with equal weights.
    """
    _check_share("delta", delta)
    if alpha < 1 or not 0 <= support <= alpha:
        raise UsageError(
            f"{support} of {alpha} scenarios cannot be a support; expected 0 <= support <= alpha, alpha >= 1"
        )
    if support == alpha:
        return 1.0
    log_subsets = gammaln(alpha + 1) - gammaln(support + 1) - gammaln(alpha - support + 1)
    return float(-np.expm1((math.log(delta) - math.log(alpha) - log_subsets) / (alpha - support)))


def _bootstrapped(
    outcomes: list[ArrayLike], mask: ArrayLike, confidence: float, resamples: int, seed: int
) -> tuple[Floats, Floats]:
    """The means of all cells, shape (methods,), and those of the resamples, shape (methods, at most resamples)."""
    _check_share("confidence", confidence)
    if resamples < 1:
        raise UsageError(f"{resamples} resamples give no interval; expected 1 or more, such as {RESAMPLES}")
    values, valid = _checked(outcomes, mask)
    rows, columns = valid.any(axis=1), valid.any(axis=0)
    values, valid = values[:, rows][:, :, columns], valid[rows][:, columns]
    images, targets = valid.shape
    if images < 2 or targets < 2:
        raise ArfjError(
            f"an interval over images and targets needs two of each with valid cells; there are {images} and {targets}"
        )
    means = np.concatenate(list(_resampled(values, valid, resamples, np.random.default_rng(seed))), axis=1)
    if not means.shape[1]:
        raise ArfjError("no resample held a valid cell; give more images and targets, or more resamples")
    return values.sum(axis=(1, 2)) / valid.sum(), means


def _resampled(values: Floats, valid: Floats, resamples: int, rng: np.random.Generator) -> Iterator[Floats]:
    images, targets = valid.shape
    for start in range(0, resamples, CHUNK):
        count = min(CHUNK, resamples - start)
        r = rng.multinomial(images, np.full(images, 1 / images), size=count).astype(np.float64)
        c = rng.multinomial(targets, np.full(targets, 1 / targets), size=count).astype(np.float64)
        cells = ((r @ valid) * c).sum(axis=1)
        sums = ((r @ values) * c).sum(axis=2)  # (methods, count)
        yield sums[:, cells > 0] / cells[cells > 0]


def _percentile(estimate: float, means: Floats, confidence: float) -> Interval:
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(estimate), float(low), float(high))


def _checked(outcomes: list[ArrayLike], mask: ArrayLike) -> tuple[Floats, Floats]:
    """The outcomes, 0 where they do not count, shape (methods, images, targets), and the mask as 0 and 1."""
    valid = np.asarray(mask)
    arrays = [np.asarray(values, dtype=np.float64) for values in outcomes]
    if valid.ndim != 2 or any(array.shape != valid.shape for array in arrays):
        shapes = ", ".join(str(array.shape) for array in [*arrays, valid])
        raise UsageError(f"outcomes and mask must be matrices (images, targets) of one shape; they have {shapes}")
    if valid.dtype != np.bool_:
        raise UsageError(f"the mask must hold truth values; its type is {valid.dtype}")
    if not valid.any():
        raise ArfjError("no cell is valid: no target gives any clean image its true class; give other targets")
    kept = np.where(valid, np.stack(arrays), 0.0)
    if not np.isfinite(kept).all():
        raise UsageError("a valid cell holds no finite number; mask what was not measured")
    return kept, valid.astype(np.float64)


def _check_share(name: str, value: float) -> None:
    if not 0 < value < 1:
        raise UsageError(f"{name} {value} is out of range; expected a number between 0 and 1")
