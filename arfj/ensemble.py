"""Uncertainty sets: the networks (scenarios) that one answer has to fool, and how they are sampled.

Inner sampling perturbs the weights of a network; outer sampling trains networks from scratch and keeps those whose
softmax outputs stay close to an oracle's (Rambau & Richter, JANO 7, 2025, section 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arfj.errors import ArfjError, UsageError
from arfj.network import Floats, Network

MOST_EPSILON = 1e6
"""Largest radius of sampling: weights stay numbers that a solver can bear."""
Kind = Literal["nominal", "inner", "outer", "given"]
Oracle = Callable[[Floats], ArrayLike]
"""Inputs (batch, n) -> class probabilities (batch, classes): all that a grey-box attack may ask of its target."""

EPSILON_INNER = 0.05
EPSILON_OUTER = 0.2
ALPHA = 5


@dataclass(frozen=True, eq=False)
class Ensemble:
    """The scenarios Z of one attack.

    Attributes:
        networks: at least one network, all of one input size and number of classes.
        kind: "nominal", "inner", "outer" or "given".
        nominal_included: whether networks[0] is the nominal network (not so in a grey-box attack).

    Raises:
        UsageError: no network, or networks that do not take the same inputs and give the same classes.
    """

    networks: tuple[Network, ...]
    kind: Kind
    nominal_included: bool = True

    def __post_init__(self) -> None:
        if not self.networks:
            raise UsageError("an uncertainty set needs at least one network; raise --alpha or give --networks")
        first = self.networks[0]
        for index, network in enumerate(self.networks):
            if network.inputs != first.inputs:
                raise UsageError(f"network {index} takes {network.inputs} inputs, network 0 takes {first.inputs}")
            if network.classes != first.classes:
                raise UsageError(f"network {index} gives {network.classes} classes, network 0 gives {first.classes}")

    def __iter__(self) -> Iterator[Network]:
        return iter(self.networks)

    def __len__(self) -> int:
        return len(self.networks)

    @property
    def alpha(self) -> int:
        """The number of sampled networks: the nominal one is not counted."""
        return len(self.networks) - int(self.nominal_included)

    def subset(self, indices: Iterable[int]) -> Ensemble:
        """Only the scenarios of these indices (a relaxation: its optimum bounds this ensemble's from below)."""
        return Ensemble(tuple(self.networks[i] for i in indices), self.kind, nominal_included=False)


def d_in(one: Network, other: Network) -> float:
    """d_in(N, N') = ||theta - theta'||_1 over all weights and biases of two networks of one architecture.

    Raises:
        UsageError: the architectures differ.
    """
    if one.sizes != other.sizes:
        raise UsageError(f"d_in needs one architecture; these are {one.sizes} and {other.sizes}")
    return float(np.abs(one.parameters() - other.parameters()).sum())


def d_osd(one: ArrayLike, other: ArrayLike) -> float:
    """d_osd(N, N') = ||O_N - O_N'||_1 / m, O the softmax outputs (m, classes) on the same m images.

    Raises:
        UsageError: the shapes differ, or the entries are not probabilities.
    """
    first, second = check_probabilities(one), check_probabilities(other)
    if first.shape != second.shape:
        raise UsageError(f"d_osd needs outputs of one shape; these are {first.shape} and {second.shape}")
    return float(np.abs(first - second).sum() / len(first))


def check_probabilities(values: ArrayLike) -> Floats:
    """`values` as float64 (m, classes), every row a probability vector.

    Raises:
        UsageError: it is none.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 2 or len(array) == 0:
        raise UsageError(f"class probabilities have shape {array.shape}; expected (images, classes)")
    if not np.isfinite(array).all() or (array < -1e-6).any() or (np.abs(array.sum(axis=1) - 1) > 1e-4).any():
        raise UsageError("the oracle's rows are not probabilities; expected softmax outputs that sum to one")
    return array


def sphere_l1(size: int, radius: float, rng: np.random.Generator) -> Floats:
    """A point drawn uniformly on the L1 sphere {e in R^size : ||e||_1 = radius}.

    |e_i| are independent exponentials, normalised; the signs are independent and fair.
    """
    lengths = rng.exponential(size=size)
    signs = rng.integers(0, 2, size=size) * 2.0 - 1.0
    return np.asarray(signs * lengths * (radius / lengths.sum()))


def inner_samples(nominal: Network, alpha: int, epsilon: float = EPSILON_INNER, seed: int = 0) -> tuple[Network, ...]:
    """`alpha` networks with d_in(N, nominal) = epsilon in uniformly random directions.

    The draws of one seed are nested: alpha = 20 starts with the networks of alpha = 5.

    Raises:
        UsageError: alpha < 0, epsilon < 0 or seed < 0.
    """
    check_sampling(alpha, epsilon)
    if seed < 0:
        raise UsageError(f"seed is {seed}; expected 0 or more")
    rng = np.random.default_rng(seed)
    centre = nominal.parameters()
    return tuple(nominal.with_parameters(centre + sphere_l1(centre.size, epsilon, rng)) for _ in range(alpha))


def check_sampling(alpha: int, epsilon: float) -> None:
    """Refuse a negative number of samples or a negative radius.

    Raises:
        UsageError: alpha < 0, or epsilon negative or larger than `MOST_EPSILON`.
    """
    if alpha < 0:
        raise UsageError(f"alpha is {alpha}; expected the number of sampled networks, 0 or more")
    if not 0 <= epsilon <= MOST_EPSILON:
        raise UsageError(f"epsilon is {epsilon:g}; expected a number >= 0, {MOST_EPSILON:g} at most")


@dataclass(frozen=True, eq=False)
class OuterSample:
    """What outer sampling kept and what it discarded.

    Attributes:
        networks: the kept ones, in the order in which they came.
        distances: their d_osd to the oracle.
        discarded: how many were drawn and not kept.
    """

    networks: tuple[Network, ...]
    distances: tuple[float, ...]
    discarded: int


def outer_samples(
    draws: Iterable[Network | None],
    oracle: Oracle,
    images: NDArray[np.floating],
    alpha: int,
    epsilon: float = EPSILON_OUTER,
    least_rate: float = 0.1,
) -> OuterSample:
    """Keep the first `alpha` networks of `draws` with d_osd(N, oracle) < epsilon.

    Args:
        draws: freshly trained networks; None stands for one that the trainer itself gave up (a dead output unit).
        oracle: the nominal network, asked for nothing but its probabilities on `images`.
        images: the m images of d_osd, shape (m, n).
        alpha: how many networks to keep.
        epsilon: the largest distance, itself excluded.
        least_rate: the acceptance rate below which the search is given up (after at least 10 / least_rate draws).

    Raises:
        ArfjError: the acceptance rate makes alpha unreachable, or `draws` ended too early.
        UsageError: bad alpha or epsilon, or an oracle that does not give probabilities.
    """
    check_sampling(alpha, epsilon)
    reference = check_probabilities(oracle(np.asarray(images, dtype=np.float64)))
    kept: list[Network] = []
    distances: list[float] = []
    seen = 0
    nearest = np.inf
    if alpha == 0:
        return OuterSample((), (), 0)
    for network in draws:
        seen += 1
        if network is not None:
            distance = d_osd(network.probabilities(images), reference)
            nearest = min(nearest, distance)
            if distance < epsilon:
                kept.append(network)
                distances.append(distance)
        if len(kept) == alpha:
            return OuterSample(tuple(kept), tuple(distances), seen - alpha)
        if seen >= 10 / least_rate and len(kept) < least_rate * seen:
            break
    raise ArfjError(
        f"only {len(kept)} of {seen} trained networks have d_osd < {epsilon} (the nearest has {nearest:.3g}); "
        f"alpha = {alpha} is out of reach: raise --epsilon or lower --alpha"
    )
