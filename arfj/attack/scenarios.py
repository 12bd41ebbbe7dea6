"""Which networks an attack has to fool: the bundled samples, fresh ones, or those of the user's files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from arfj.data import bundled_growth, bundled_images, bundled_nominal
from arfj.ensemble import (
    ALPHA,
    EPSILON_INNER,
    EPSILON_OUTER,
    Ensemble,
    Oracle,
    check_sampling,
    inner_samples,
    outer_samples,
)
from arfj.errors import ArfjError, UsageError
from arfj.network import Floats, Network

Sampling = Literal["nominal", "inner", "outer"]
Trainer = Callable[[Iterable[int]], Iterator[Network | None]]
"""Seeds -> freshly trained networks in that order, None for a seed that the trainer itself gave up."""

FRESH_SEEDS = 1_000_000
"""`--train` with seed s draws training seeds from (s + 1) times this on: far from the bundle's 0, 1, 2, ..."""


@dataclass(frozen=True, eq=False)
class Scenarios:
    """An ensemble, and how it came about.

    Attributes:
        ensemble: the networks to fool.
        discarded: how many sampled networks were not kept.
    """

    ensemble: Ensemble
    discarded: int = 0


def sampled(
    kind: Sampling,
    alpha: int | None = None,
    epsilon: float | None = None,
    seed: int = 0,
    oracle: Oracle | None = None,
    trainer: Trainer | None = None,
) -> Scenarios:
    """The nominal network of the bundle and its samples; in a grey-box attack the samples alone.

    Args:
        kind: "nominal", "inner" (weights perturbed by epsilon in L1) or "outer" (retrained, d_osd < epsilon).
        alpha: number of sampled networks, default 5 (0 for "nominal").
        epsilon: default 0.05 (inner) or 0.2 (outer).
        seed: of the inner draws, and of the training seeds.
        oracle: the attacked network of a grey-box attack: images (m, 784) -> probabilities (m, 10).
        trainer: trains fresh outer networks instead of taking the bundled ones.

    Raises:
        UsageError: another kind, options that exclude each other, alpha or epsilon out of range, or more outer networks
            asked for than the bundle has.
        ArfjError: too few networks are near enough to the oracle.
    """
    if kind not in get_args(Sampling):
        raise UsageError(f"{kind!r} names no sampling; expected one of {', '.join(get_args(Sampling))}")
    if oracle is not None and kind != "outer":
        raise UsageError(f"a grey-box attack knows no weights, so it has no {kind} scenarios; use --outer")
    if trainer is not None and kind != "outer":
        raise UsageError("--train samples outer networks; use it with --outer")
    if kind == "nominal" and alpha:
        raise UsageError(f"--nominal has no sampled networks; drop --alpha {alpha}, or use --inner or --outer")
    count = (0 if kind == "nominal" else ALPHA) if alpha is None else alpha
    radius = (EPSILON_INNER if kind == "inner" else EPSILON_OUTER) if epsilon is None else epsilon
    check_sampling(count, radius)
    nominal = bundled_nominal()
    if kind != "outer":
        return Scenarios(Ensemble((nominal, *inner_samples(nominal, count, radius, seed)), kind))
    draws = bundled_draws(count) if trainer is None else trainer(itertools.count(FRESH_SEEDS * (seed + 1)))
    sample = outer_samples(draws, oracle or nominal.probabilities, bundled_images().osd, count, radius)
    if oracle is None:
        return Scenarios(Ensemble((nominal, *sample.networks), kind), sample.discarded)
    if not sample.networks:
        raise UsageError("a grey-box attack needs sampled networks; give --alpha 1 or more")
    return Scenarios(Ensemble(sample.networks, kind, nominal_included=False), sample.discarded)


def bundled_draws(alpha: int) -> tuple[Network, ...]:
    """The 50 bundled outer samples in order, the held-out ones never among them.

    Raises:
        UsageError: alpha exceeds their number.
    """
    networks = bundled_growth("8-8-8")[1:]
    if alpha > len(networks):
        raise UsageError(
            f"the bundle has {len(networks)} outer samples for attacks (the held-out ones stay out); "
            f"alpha = {alpha} needs --train, which makes more"
        )
    return networks


def given(networks: Sequence[Network], alpha: int | None = None) -> Scenarios:
    """The user's networks, the first of them the nominal one.

    Raises:
        UsageError: networks that do not fit each other, or an alpha that does not count them.
    """
    ensemble = Ensemble(tuple(networks), "given")
    if alpha is not None and alpha != ensemble.alpha:
        raise UsageError(
            f"--networks gives {ensemble.alpha} sampled networks besides the nominal one; drop --alpha {alpha}"
        )
    return Scenarios(ensemble)


def nominal_class(ensemble: Ensemble, image: Floats) -> int:
    """The class of the image by the nominal network; by majority of the samples where there is none."""
    networks = ensemble.networks[:1] if ensemble.nominal_included else ensemble.networks
    votes = [int(network.classify(image.reshape(1, -1))[0]) for network in networks]
    return max(sorted(set(votes)), key=votes.count)


def check_true_class(ensemble: Ensemble, image: Floats, true: int) -> None:
    """Refuse an image that the nominal network does not give to its true class (the other scenarios may differ).

    Raises:
        ArfjError: it gives another class.
    """
    if not ensemble.nominal_included:
        return
    found = int(ensemble.networks[0].classify(image.reshape(1, -1))[0])
    if found != true:
        raise ArfjError(
            f"the nominal network gives the image to class {found}, not {true}; give --true {found}, or another image"
        )
