"""`python -m experiments.scenario.million`: samples of a large network, next to their matrix products alone."""

from __future__ import annotations

import itertools
import os
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from arfj.certify.scenario import Request, Safe, Source, Uniform, certify
from arfj.certify.scenario.stream import available
from arfj.cli import ANSWERED, Parser, run
from arfj.errors import UsageError
from arfj.network import Network

SIZES = (784, 1024, 1024, 1024, 10)
EXAMPLES = """\
  python -m experiments.scenario.million                    a million samples: a minute on two free cores
  python -m experiments.scenario.million --samples 20000    a short form
"""


def main(argv: Sequence[str]) -> int:
    """Measure and print."""
    parser = Parser("python -m experiments.scenario.million", "A million samples of a 3 x 1024 network.", EXAMPLES)
    parser.add_argument("--samples", type=int, default=10**6, metavar="N", help="N, a million by default")
    samples = parser.parse_args(argv).samples
    if samples < 11508:
        raise UsageError(f"--samples is {samples}; expected 11508 or more")
    threads, load = available(), os.getloadavg()[0]
    before = rates(threads)
    source, safe = question()
    began, cpu = time.perf_counter(), time.process_time()
    found = certify(source, safe, Request(samples=samples))
    taken = (time.perf_counter() - began, time.process_time() - cpu)
    means = [0.5 * sum(pair) for pair in zip(before, rates(threads), strict=True)]
    work = 2.0 * samples * sum(one * two for one, two in itertools.pairwise(SIZES))
    print(f"{samples} samples of {'-'.join(map(str, SIZES))} by {threads} threads, load {load:.1f} before")
    print(f"bound {found.bound:.6f}, {found.discarded} discarded; most memory {memory():.0f} MB")
    for what, seconds, speed in zip(("wall clock", "processors"), taken, means, strict=True):
        floor = work / speed
        print(f"{what}: {seconds:.1f} s, matrix products alone {floor:.1f} s, ratio {seconds / floor:.2f}")
    return ANSWERED


def question() -> tuple[Source, Safe]:
    """A random network at a random input."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=pair) * np.sqrt(2.0 / pair[0]) for pair in itertools.pairwise(SIZES)]
    network = Network.from_arrays(weights, [np.zeros(size) for size in SIZES[1:]], "linear")
    x = rng.random(SIZES[0])
    return Source(network, x, Uniform(0.1)), Safe.margin(SIZES[-1], int(network.classify(x[None])[0]))


def rates(threads: int, products: int = 24) -> tuple[float, float]:
    """Operations a second, of the wall clock and of processors, of float64 products as large as the network's."""
    one, two = np.ones((1024, 1024)), np.ones((1024, 1024))
    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda _: float((one @ two)[0, 0]), range(threads)))
        began, cpu = time.perf_counter(), time.process_time()
        list(pool.map(lambda _: float((one @ two)[0, 0]), range(products * threads)))
        taken = time.perf_counter() - began, time.process_time() - cpu
    work = 2.0 * products * threads * 1024.0**3
    return work / taken[0], work / taken[1]


def memory() -> float:
    """The most that this process held, in MB."""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1024.0)


if __name__ == "__main__":
    sys.exit(run(main))
