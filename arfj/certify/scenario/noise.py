"""Random noise on an input: anything that can be sampled, and where it may reach.

A noise draws (count, n) values; the input of a network is x = xbar + noise, clipped into [0, 1] where that is asked.
A law (`Uniform`, `Gaussian`, `L1Ball`, a SciPy distribution, a function) draws afresh from the generator that it is
given; a supply (an array of rows, an iterator of arrays) hands out every row once: the theorem wants independent
samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from arfj.errors import ArfjError, UsageError
from arfj.files import load_array
from arfj.network import Floats
from arfj.region import Region

LARGEST = 1e300
"""Radius or standard deviation."""
KINDS = "uniform:R, gauss:S, l1:R or a .npy file of rows"


class Noise(Protocol):
    """What draws."""

    @property
    def law(self) -> bool:
        """Whether threads may share it: calls depend on nothing but the generator that they are given."""

    def draw(self, rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Floats:
        """Noise of shape (count, n), n the product of `shape`."""

    def support(self, centre: Floats) -> Region | None:
        """A region that holds centre + noise, or None where there is none."""


@dataclass(frozen=True)
class Uniform:
    """Independent and uniform on [-R, R] in every entry: uniform on the linf ball of radius R."""

    radius: float
    law: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        _positive("the radius of uniform noise", self.radius)

    def draw(self, rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Floats:
        """Noise of shape (count, n)."""
        values = rng.random((count, int(np.prod(shape))))
        values *= 2.0 * self.radius  # in place: rng.uniform would make a second array
        values -= self.radius
        return values

    def support(self, centre: Floats) -> Region:
        """The box."""
        return Region(centre, *_outward(centre, self.radius))


@dataclass(frozen=True)
class Gaussian:
    """Independent N(0, sigma^2) in every entry."""

    sigma: float
    law: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        _positive("the standard deviation of Gaussian noise", self.sigma)

    def draw(self, rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Floats:
        """Noise of shape (count, n)."""
        values = rng.standard_normal((count, int(np.prod(shape))))
        values *= self.sigma
        return values

    def support(self, centre: Floats) -> None:
        """There is none."""


@dataclass(frozen=True)
class L1Ball:
    """Uniform on {e : ||e||_1 <= R}: of n + 1 exponentials n are taken, by their share of the sum, with fair signs."""

    radius: float
    law: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        _positive("the radius of l1 noise", self.radius)

    def draw(self, rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Floats:
        """Noise of shape (count, n)."""
        lengths = rng.exponential(size=(count, int(np.prod(shape)) + 1))
        signs = rng.integers(0, 2, size=(count, lengths.shape[1] - 1)) * 2.0 - 1.0
        return np.asarray(signs * lengths[:, :-1] * (self.radius / lengths.sum(axis=1, keepdims=True)))

    def support(self, centre: Floats) -> Region:
        """The ball, a little larger than its samples by rounding."""
        low, up = _outward(centre, self.radius)
        return Region(centre, low, up, self.radius * (1.0 + 1e-12) + 0.5 * float((up - low - 2.0 * self.radius).sum()))


@dataclass(frozen=True, eq=False)
class Distribution:
    """A distribution of `scipy.stats`: univariate in every entry by itself, or multivariate; a density estimate."""

    distribution: Any
    law: bool = field(default=False, init=False)

    def draw(self, rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Floats:
        """Noise of shape (count, n)."""
        size = int(np.prod(shape))
        if hasattr(self.distribution, "resample"):
            return _fitting(self.distribution.resample(count, seed=rng).T, count, shape)
        if hasattr(self.distribution, "ppf"):
            return _fitting(self.distribution.rvs(size=(count, size), random_state=rng), count, shape)
        if hasattr(self.distribution, "rvs"):
            values = np.asarray(self.distribution.rvs(size=count, random_state=rng))
            # A single draw comes without its first axis.
            return _fitting(values[None] if values.shape in {shape, (size,)} and count == 1 else values, count, shape)
        return _fitting(self.distribution.sample((count, size), rng=rng), count, shape)

    def support(self, centre: Floats) -> None:
        """Not asked for."""


@dataclass(frozen=True, eq=False)
class Function:
    """A function of a generator and a number: (rng, count) -> (count, ...)."""

    sampler: Callable[[np.random.Generator, int], Any]
    law: bool = field(default=False, init=False)

    def draw(self, rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Floats:
        """Noise of shape (count, n)."""
        return _fitting(self.sampler(rng, count), count, shape)

    def support(self, centre: Floats) -> None:
        """Not known."""


@dataclass(eq=False)
class Rows:
    """Given rows, i.i.d. by the word of who gives them; each is handed out once."""

    values: NDArray[np.generic]
    used: int = 0
    law: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.values.ndim == 0:
            raise UsageError("an array of noise is a single number; expected one draw a row")

    def draw(self, rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Floats:
        """Noise of shape (count, n)."""
        if self.used + count > len(self.values):
            raise UsageError(
                f"the array of noise has {len(self.values)} rows, more are needed; give more rows, for none is used "
                "twice, or a larger epsilon"
            )
        taken = self.values[self.used : self.used + count]
        self.used += count
        return _fitting(taken, count, shape)

    def support(self, centre: Floats) -> None:
        """Not known."""


@dataclass(eq=False)
class Stream:
    """An iterator that gives one array of noise after another, each of the shape of an input."""

    source: Iterator[Any]
    law: bool = field(default=False, init=False)

    def draw(self, rng: np.random.Generator, count: int, shape: tuple[int, ...]) -> Floats:
        """Noise of shape (count, n)."""
        taken = [np.asarray(one) for _, one in zip(range(count), self.source, strict=False)]
        if len(taken) < count:
            raise UsageError("the generator of noise ended before there were enough samples; let it go on")
        if len({one.shape for one in taken}) > 1:
            raise UsageError("the generator of noise gives arrays of several shapes; expected that of an input")
        return _fitting(np.stack(taken), count, shape)

    def support(self, centre: Floats) -> None:
        """Not known."""


def as_noise(given: Any) -> Noise:  # noqa: ANN401 - whatever can be sampled
    """A noise from one of ours, a SciPy distribution, an array of rows, an iterator, or a function (rng, count).

    Raises:
        UsageError: it is none of these.
    """
    if isinstance(given, (Uniform, Gaussian, L1Ball, Distribution, Function, Rows, Stream)):
        return cast(Noise, given)
    if isinstance(given, np.ndarray):
        return Rows(given)
    if hasattr(given, "rvs") or hasattr(given, "resample") or (hasattr(given, "sample") and hasattr(given, "icdf")):
        return Distribution(given)
    if isinstance(given, Iterator):
        return Stream(given)
    if callable(given):
        return Function(given)
    raise UsageError(
        f"{type(given).__name__} is no noise; expected an array of rows, an iterator, a scipy.stats distribution, or a "
        "function (rng, count)"
    )


def parsed(text: str) -> Noise:
    """The noise that the command line names.

    Raises:
        UsageError: it names none; ArfjError: its file cannot be read.
    """
    if text.endswith(".npy"):
        values = load_array(text)
        if values.ndim > 1:  # images: whatever their shape; of an empty file -1 would be no number
            values = values.reshape(len(values), math.prod(values.shape[1:]))
        return Rows(values)
    kind, _, number = text.partition(":")
    laws: dict[str, Callable[[float], Noise]] = {"uniform": Uniform, "gauss": Gaussian, "l1": L1Ball}
    try:
        return laws[kind](float(number))
    except (KeyError, ValueError):
        raise UsageError(f"--noise {text} is not known; expected {KINDS}") from None


def _fitting(values: Any, count: int, shape: tuple[int, ...]) -> Floats:  # noqa: ANN401 - what a user's sampler gives
    """Values as (count, n).

    Raises:
        ArfjError: another shape, no numbers, NaN or infinity.
    """
    array, size = np.asarray(values), int(np.prod(shape))
    fits = array.dtype.kind in "fiu" and array.shape in {(count, *shape), (count, size)}
    if not fits and not (array.dtype.kind in "fiu" and size == 1 and array.shape == (count,)):
        wanted = " or ".join(map(str, dict.fromkeys([(count, *shape), (count, size)])))
        raise ArfjError(
            f"the noise is an array of {array.dtype}, shape {array.shape}; expected numbers, shape {wanted}"
        )
    flat = array.astype(np.float64).reshape(count, size)
    if not np.isfinite(flat).all():
        raise ArfjError("the noise holds NaN or infinity; expected finite numbers, or the certificate would be void")
    return flat


def _outward(centre: Floats, reach: float) -> tuple[Floats, Floats]:
    """A box around centre +- reach that holds what rounds to its faces."""
    margin = 1e-14 * (np.abs(centre) + reach)
    return centre - reach - margin, centre + reach + margin


def _positive(what: str, value: float) -> None:
    if not 0 <= value <= LARGEST:  # beyond, draws overflow to infinity, which a ReLU may hide
        raise UsageError(f"{what} is {value}; expected a number >= 0, at most {LARGEST:.0e}")
