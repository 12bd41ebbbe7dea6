"""Independent outputs of a network under noise, batch by batch: never are all inputs held.

Batch i of stream s draws from a generator of its own, seeded by (seed, s, i): results depend neither on the number of
threads nor on who is ready first, and two streams share no sample. NumPy draws, whoever computes: inputs are the same
bit for bit on every device.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar, get_args

import numpy as np
from numpy.typing import ArrayLike

from arfj.bounds.compiled import Engine
from arfj.certify.scenario.compiled import Forward, fetched
from arfj.certify.scenario.noise import Noise, as_noise
from arfj.errors import ArfjError, UsageError
from arfj.graph import Graph
from arfj.network import Floats, Network
from arfj.region import Region

Function = Network | Graph | Callable[[Any], Any]
"""What is certified: inputs (batch, ...) -> outputs (batch, n_y)."""
T = TypeVar("T")

VALUES = 2**22
"""Float64 values that a batch may hold, inputs and layers together: 32 MiB a thread."""
MOST_ROWS = 4096
"""Inputs of a batch: more make matrix products no faster."""
AHEAD = 2
"""Batches that a device is given before the outputs of the first one are waited for."""


@dataclass(frozen=True, eq=False)
class Source:
    """Independent inputs x = centre + noise.

    Attributes:
        function: a network, or any callable on arrays (batch, ...) of the shape of `centre`.
        centre: xbar, in the shape of an input.
        noise: what is added.
        seed: of all draws.
        clip: whether inputs are clipped into [0, 1].
        engine: who evaluates networks: "numpy", or "jax", which compiles them for the device that JAX finds; float64
            both. A callable runs where it likes.

    Raises:
        UsageError: a centre that does not fit the network, or that holds NaN; an engine that is not known; what
            `as_noise` refuses.
    """

    function: Function
    centre: Floats
    noise: Noise
    seed: int = 0
    clip: bool = False
    engine: Engine = "numpy"

    def __post_init__(self) -> None:
        centre = np.asarray(self.centre, dtype=np.float64)
        if not np.isfinite(centre).all() or centre.size == 0:
            raise UsageError("the input in the middle holds NaN or infinity, or nothing; expected finite numbers")
        if isinstance(self.function, (Network, Graph)) and centre.size != self.function.inputs:
            raise UsageError(
                f"the input has shape {centre.shape}; the network takes inputs of shape {self.function.input_shape}"
            )
        if self.seed < 0:
            raise UsageError(f"the seed is {self.seed}; expected a number >= 0")
        if self.engine not in get_args(Engine):
            raise UsageError(f"there is no engine {self.engine!r}; expected one of {', '.join(get_args(Engine))}")
        object.__setattr__(self, "centre", centre)
        object.__setattr__(self, "noise", as_noise(self.noise))

    def support(self) -> Region | None:
        """A region that holds all inputs, or None."""
        flat = self.centre.ravel()
        if self.clip:
            found = self.noise.support(np.clip(flat, 0.0, 1.0)) if np.array_equal(flat, np.clip(flat, 0, 1)) else None
            if found is None:
                return Region.between(np.zeros_like(flat), np.ones_like(flat))
            return Region(
                found.centre, np.maximum(found.lower, 0.0), np.minimum(found.upper, 1.0), found.radius, found.norm
            )
        return self.noise.support(flat)

    @property
    def rows(self) -> int:
        """Inputs of a batch."""
        sizes: tuple[int, ...] = ()
        if isinstance(self.function, (Network, Graph)):
            sizes = self.function.sizes
        return int(np.clip(VALUES // max(sum(sizes), 2 * self.centre.size), 16, MOST_ROWS))

    def inputs(self, count: int, stream: int, batch: int) -> Floats:
        """`count` inputs (count, n)."""
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(stream, batch)))
        with np.errstate(over="ignore", invalid="ignore"):
            x = self.noise.draw(rng, count, self.centre.shape)
            x += self.centre.ravel()
        return np.clip(x, 0.0, 1.0, out=x) if self.clip else x

    def outputs(self, x: Floats) -> Floats:
        """f(x) by NumPy, or by the callable, checked: (count, n) -> (count, n_y)."""
        if isinstance(self.function, (Network, Graph)):
            with np.errstate(over="ignore", invalid="ignore"):  # what overflows is not finite, and said in one line
                return finite(_forward(self.function, x) if isinstance(self.function, Network) else self.function(x))
        found = self.function(x.reshape(len(x), *self.centre.shape))
        return shaped(found, len(x))

    def each(self, samples: int, stream: int, work: Callable[[Floats], T], threads: int = 0) -> Iterator[T]:
        """`work` of the outputs of every batch, in their order.

        Args:
            samples: N.
            stream: inputs of different streams are independent.
            work: a function of outputs (count, n_y); threads call it where noise and network are our own.
            threads: 0 for as many as this process may use.

        Raises:
            ArfjError: an output is no number, or the device refuses.
        """
        rows, function = self.rows, self.function
        batches = range(-(-samples // rows))
        threads = 1 if not self.noise.law or len(batches) == 1 else threads or available()

        def drawn(batch: int) -> Floats:
            return self.inputs(min(rows, samples - batch * rows), stream, batch)

        if self.engine == "jax" and isinstance(function, (Network, Graph)):
            forward = Forward(function, min(rows, samples))
            yield from (work(finite(found)) for found in _on_device(forward, _ordered(drawn, batches, threads)))
            return
        if threads == 1 or not isinstance(function, (Network, Graph)):
            yield from (work(self.outputs(drawn(batch))) for batch in batches)
            return
        from threadpoolctl import threadpool_limits

        # One batch a thread, each product on one core: cheaper than one product on all of them.
        with threadpool_limits(1):
            yield from _ordered(lambda batch: work(self.outputs(drawn(batch))), batches, threads)


def _ordered(job: Callable[[int], T], batches: Sequence[int], threads: int) -> Iterator[T]:
    """The job of every batch, in their order: by threads, a few of them ahead."""
    if threads == 1:
        yield from map(job, batches)
        return
    waiting: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for batch in batches:
                waiting.append(pool.submit(job, batch))
                if len(waiting) > threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _on_device(forward: Forward, inputs: Iterator[Floats]) -> Iterator[Floats]:
    """Outputs, in order: while the device is at one batch, the noise of the next is drawn and given to it."""
    waiting: deque[tuple[Any, int]] = deque()
    for x in inputs:
        waiting.append((forward(x), len(x)))
        if len(waiting) >= AHEAD:
            yield fetched(*waiting.popleft())
    while waiting:
        yield fetched(*waiting.popleft())


def _forward(network: Network, x: Floats) -> Floats:
    """network(x), bit for bit, without a copy of every layer."""
    for layer in network.layers:
        x = x @ layer.weight
        x += layer.bias
        if layer.activation == "relu":
            np.maximum(x, 0.0, out=x)
    return x


def available() -> int:
    """Threads that this process may use: its cores, or fewer where OMP_NUM_THREADS says so."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    return min(cores, int(wanted)) if wanted.isdigit() and int(wanted) > 0 else cores


def shaped(found: Any, count: int) -> Floats:  # noqa: ANN401 - what a user's callable gives
    """Outputs of a callable as (count, n_y).

    Raises:
        ArfjError: another shape, no numbers, NaN or infinity.
    """
    array = np.asarray(found)
    if array.dtype.kind not in "fiu" or array.ndim != 2 or len(array) != count or array.shape[1] == 0:
        raise ArfjError(
            f"the function gave an array of {array.dtype}, shape {array.shape}, for {count} inputs; expected numbers "
            f"of shape ({count}, outputs)"
        )
    return finite(array.astype(np.float64))


def finite(values: ArrayLike) -> Floats:
    """Samples that are numbers.

    Raises:
        ArfjError: NaN or infinity among them: no order of them would mean anything.
    """
    array = np.asarray(values, dtype=np.float64)
    if not np.isfinite(array).all():
        raise ArfjError("a sample of the outputs is NaN or infinite; mend the network, or bound the noise (--clip)")
    return array
