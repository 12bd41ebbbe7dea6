"""Noise on the parameters: networks as random draws, one input, and the same certificate.

What is certified is the output of the next network of the sampler at this input: that an image, or an adversarial
example, is safe against retraining or perturbed weights. Nothing is held but one network at a time, and its outputs.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from arfj.certify.scenario.certificate import Request, Safe, ScenarioCertificate, from_outputs
from arfj.certify.scenario.stream import finite
from arfj.ensemble import check_sampling, sphere_l1
from arfj.errors import UsageError
from arfj.graph import Graph
from arfj.network import Floats, Network

Sampler = Callable[[np.random.Generator], Network | Graph]
"""Draws one network from the generator that it is given, independently of those before it."""


def inner_sampler(nominal: Network, epsilon: float) -> Sampler:
    """The sampler of `arfj.ensemble.inner_samples`: uniform on the sphere d_in(N, nominal) = epsilon.

    Raises:
        UsageError: epsilon < 0.
    """
    check_sampling(0, epsilon)
    centre = nominal.parameters()
    return lambda rng: nominal.with_parameters(centre + sphere_l1(centre.size, epsilon, rng))


def certify_networks(
    networks: Sampler | Iterable[Network | Graph],
    x: ArrayLike,
    safe: Safe,
    request: Request | None = None,
    seed: int = 0,
) -> ScenarioCertificate:
    """The certificate of the next network at x.

    Args:
        networks: a sampler, or i.i.d. networks that the choice of x did not depend on; as many are taken as are needed.
        x: one input, in the networks' shape or flat.
        safe: the safe set.
        request: how sure, and by which sets.
        seed: of a sampler's draws.

    Raises:
        UsageError: there are too few networks, or what is drawn is none that fits. ArfjError: an output is no number.
    """
    request = request or Request()
    began = time.perf_counter()
    samples, expected = request.size(safe.rows.shape[1]), safe.rows.shape[1]
    outputs = np.array([_output(network, x, expected) for network in itertools.islice(_drawn(networks, seed), samples)])
    if len(outputs) < samples:
        raise UsageError(
            f"there are {len(outputs)} networks, {samples} are needed for epsilon {request.epsilon:g} and delta "
            f"{request.delta:g}; give more, or ask for a larger epsilon"
        )
    found = from_outputs(outputs, safe, request)
    sizing = request.sizing if request.samples is None else "given"
    return ScenarioCertificate(**{**vars(found), "sizing": sizing, "seconds": time.perf_counter() - began})


def _output(network: Network | Graph, x: ArrayLike, expected: int) -> Floats:
    """y of one network at x."""
    if not isinstance(network, (Network, Graph)):
        raise UsageError(f"{type(network).__name__} is no network; expected what load_network gives")
    if network.classes != expected:
        raise UsageError(f"a network gives {network.classes} outputs, the safe set is one of {expected}")
    with np.errstate(over="ignore", invalid="ignore"):
        found: Floats = finite(network(np.asarray(x, dtype=np.float64).reshape(1, -1)))[0]
    return found


def _drawn(networks: Sampler | Iterable[Network | Graph], seed: int) -> Iterator[Network | Graph]:
    if isinstance(networks, (Network, Graph)):
        raise UsageError("one network is no sampler; expected a function of a generator, or an iterable of networks")
    if not callable(networks):
        return iter(networks)
    rng = np.random.default_rng(seed)
    return (networks(rng) for _ in itertools.count())
