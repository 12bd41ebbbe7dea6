"""Samples a second of a random network by NumPy and by JAX, and how far their certificates are apart.

`experiments.gpu_check` runs it: the same samples by both engines, then more of them by each alone. JAX is timed from
noise to certificate, so the noise, which NumPy draws by as many threads as there are cores, is timed alone as well.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from arfj.bounds.compiled import Engine
from arfj.certify.scenario import Request, Safe, ScenarioCertificate, Source, Uniform, certify
from arfj.certify.scenario.compiled import compile_seconds
from arfj.network import Network

Record = dict[str, Any]


@dataclass(frozen=True)
class Scale:
    """A network, and how many samples each engine gets."""

    sizes: tuple[int, ...] = (784, 1024, 1024, 1024, 10)
    numpy: int = 20_000
    jax: int = 400_000

    @property
    def name(self) -> str:
        """Its sizes."""
        return "-".join(map(str, self.sizes))


GPU, CPU, SMOKE = Scale(), Scale(jax=20_000), Scale((12, 24, 3), 2_000, 6_000)


def question(scale: Scale) -> tuple[Source, Safe]:
    """A random network at a random input, against all rivals of the class it gives."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=pair) * np.sqrt(2.0 / pair[0]) for pair in itertools.pairwise(scale.sizes)]
    network = Network.from_arrays(weights, [np.zeros(size) for size in scale.sizes[1:]], "linear")
    x = rng.random(scale.sizes[0])
    return Source(network, x, Uniform(0.1)), Safe.margin(scale.sizes[-1], int(network.classify(x[None])[0]))


def asked(source: Source, safe: Safe, engine: Engine, samples: int) -> ScenarioCertificate:
    """The certificate by an engine; NumPy has one batch at a time, its products all cores."""
    request = Request(0.01, 1e-5, samples, threads=1 if engine == "numpy" else 0)
    return certify(replace(source, engine=engine), safe, request)


def measured(scale: Scale) -> Iterator[Record]:
    """How far apart, then rates: of NumPy, of JAX, of the noise alone."""
    source, safe = question(scale)
    compiled = -compile_seconds()
    one, two = (asked(source, safe, engine, scale.numpy) for engine in ("numpy", "jax"))
    compiled += compile_seconds()
    apart = abs(one.bound - two.bound) / (1.0 + abs(one.bound))
    same = one.discarded == two.discarded
    yield {"what": "certificates", "largest_difference": apart, "same_discarded": same, "bound": one.bound}
    common = {"network": scale.name, "open": "-", "batch": source.rows}
    yield {**common, "what": "samples", "engine": "numpy", "rate": one.samples / one.seconds}
    found = asked(source, safe, "jax", scale.jax)
    rate = found.samples / found.seconds
    yield {**common, "what": "samples", "engine": "jax", "rate": rate, "compile_seconds": compiled}
    begun = time.perf_counter()
    drawn = sum(len(source.inputs(source.rows, 0, batch)) for batch in range(-(-scale.numpy // source.rows)))
    yield {**common, "what": "noise, one thread", "engine": "numpy", "rate": drawn / (time.perf_counter() - begun)}
