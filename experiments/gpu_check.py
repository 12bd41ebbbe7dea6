"""`python -m experiments.gpu_check`: what bounds and samples cost on a GPU, and whether they are sound there.

One command for a machine with a GPU, under five minutes. It needs JAX, NumPy, SciPy and onnx, and runs from a checkout
that is not installed (PYTHONPATH=.). The networks are random, 784-256xK-10, in a box with a few hundred open ReLUs;
their rows are shifted so that every property is true, and none is proven soon. The search runs in float32, the proofs
in float64; NumPy does the same in float64 beside it. Every proven bound must be what NumPy gets from the same
multipliers, and must lie below the network's value at a point of its subproblem. Scenario certificates take samples of
a random 784-1024x3-10 network there, in float64, and must be NumPy's up to rounding.

What was compiled is kept (`arfj.bounds.compiled`), so a second run tells how long loading takes in place of compiling.
"""

from __future__ import annotations

import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from arfj.bounds import Bounds, crown_bounds
from arfj.bounds.ascent import compile_seconds
from arfj.bounds.batched import Answer, PhaseProgram, Precision, Signs, Singles
from arfj.bounds.compiled import Engine
from arfj.bounds.reduce import Reduced, reduce
from arfj.certify.scenario.compiled import compile_seconds as forward_seconds
from arfj.cli import ANSWERED, Parser, run
from arfj.errors import ArfjError, UsageError
from arfj.graph import Activation, Graph
from arfj.network import Dense, Floats, Network, load_network
from arfj.region import Region
from arfj.verify import phases
from arfj.verify.falsify import gradient
from arfj.verify.margins import Margins, margins_of, region_of
from arfj.verify.phases import PhaseSearch
from arfj.verify.portfolio import Options, verify
from arfj.verify.property import Case, Polyhedron
from arfj.verify.search import Clock
from arfj.verify.vnnlib import read_property
from experiments.scenario import device
from experiments.verify_benchmark import DECIDED, cpu, instances, smoke_instances

Record = dict[str, Any]

EXAMPLES = """\
  PYTHONPATH=. python -m experiments.gpu_check                      on the GPU that JAX finds
  PYTHONPATH=. python -m experiments.gpu_check --instances DIR      verify instances of VNN-COMP on it, too
  python -m experiments.gpu_check --output gpu.json                 the document into a file as well
  python -m experiments.gpu_check --cpu                             the same networks on the CPU
  python -m experiments.gpu_check --smoke                           a small network, on a CPU if there is no GPU
"""
AGREEMENT = 1e-9
"""How far bounds from the same multipliers may differ, as a share of their size: both are float64."""
SPLITS = 10
"""Assumed phases of a subproblem, on average."""


@dataclass(frozen=True)
class Specification:
    """A random network and what is measured on it.

    Attributes:
        sizes: of its layers.
        unstable: open ReLUs that the box is to have.
        batches: subproblems of a call.
        search: subproblems of a call in branch and bound.
        seconds: of every measurement.
        largest: the batch at which growing ends; 0 where it is not tried.
    """

    sizes: tuple[int, ...]
    unstable: int = 300
    batches: tuple[int, ...] = (256, 1024, 4096)
    search: int = 1024
    seconds: float = 3.0
    largest: int = 0

    @property
    def name(self) -> str:
        """Its sizes."""
        return "-".join(map(str, self.sizes))


SPECIFICATIONS = tuple(
    Specification((784, *(256,) * layers, 10), largest=2**18 if layers == 6 else 0) for layers in (2, 4, 6)
)
ON_CPU = tuple(replace(one, batches=(256, 1024), largest=0) for one in SPECIFICATIONS)
SMOKE = Specification((12, 24, 3), unstable=12, batches=(16,), search=16, seconds=0.2, largest=64)


@dataclass(frozen=True, eq=False)
class Problem:
    """Rows that are above 0 on the whole box, though bounds do not show it: what `PhaseSearch` reads."""

    margins: Margins
    reduced: Reduced
    region: Region

    def search(self, engine: Engine, batch: int) -> PhaseSearch:
        """Branch and bound by an engine; the search of JAX is float32."""
        precision: Precision = "float32" if engine == "jax" else "float64"
        return PhaseSearch(self.margins, self.reduced, self.region, engine, precision, batch)


@dataclass(frozen=True, eq=False)
class Subproblems:
    """A batch, and for each of its subproblems a point that satisfies the assumed phases."""

    mixtures: Floats
    signs: Signs
    slopes: Singles
    betas: Singles
    points: Floats

    def bounded_by(self, program: PhaseProgram) -> Answer:
        """The answer from slopes of 1/2 and multipliers of 0."""
        return program(self.mixtures, self.signs, self.slopes, self.betas)


@dataclass
class Check:
    """A run: its deadline, what it found, and what is wrong."""

    deadline: float
    records: list[Record] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def late(self) -> bool:
        """Whether nothing more is to begin."""
        return time.perf_counter() > self.deadline

    def add(self, **facts: object) -> None:
        """Note a measurement, and tell of it."""
        self.records.append(facts)
        print(", ".join(f"{name} {_short(value)}" for name, value in facts.items()), file=sys.stderr)


def problem(specification: Specification) -> Problem:
    """The random network and a box with about so many open ReLUs (by bisection); always the same ones."""
    rng = np.random.default_rng(0)
    pairs = list(pairwise(specification.sizes))
    layers = tuple(
        Dense(
            rng.normal(scale=np.sqrt(2.0 / pair[0]), size=pair),
            rng.normal(scale=0.05, size=pair[1]),
            "relu" if index < len(pairs) else "linear",
        )
        for index, pair in enumerate(pairs, start=1)
    )
    graph = Network(layers).graph()
    centre = rng.uniform(0.1, 0.9, size=graph.inputs)
    true = int(graph(centre[None])[0].argmax())
    rivals = [j for j in range(graph.classes) if j != true]
    matrix = np.eye(graph.classes)[[true] * len(rivals)] - np.eye(graph.classes)[rivals]
    least, most = 0.0, 0.5
    for _ in range(12):
        epsilon = 0.5 * (least + most)
        bounds = crown_bounds(graph, Region.cube(centre, epsilon), every=False)
        least, most = (epsilon, most) if bounds.unstable < specification.unstable else (least, epsilon)
    region = Region.cube(centre, most)
    return _shifted(graph, region, matrix, rng)


def _shifted(graph: Graph, region: Region, matrix: Floats, rng: np.random.Generator) -> Problem:
    """Rows moved to 0 at half the way from what bounds prove to what descent reaches."""

    def moved(offset: Floats) -> tuple[Margins, Bounds, Case]:
        rows = tuple(Polyhedron(matrix[i : i + 1], offset[i : i + 1]) for i in range(len(matrix)))
        case = Case(region.lower, region.upper, rows)
        margins = margins_of(graph, case)
        return margins, crown_bounds(margins.graph, region_of(case), every=False), case

    margins, bounds, _ = moved(np.zeros(len(matrix)))
    reached = _descended(margins.graph, region, rng)
    margins, bounds, case = moved(-0.5 * (bounds.lower[-1] + reached))
    reduced = reduce(margins.graph, bounds)
    if reduced is None:
        raise ArfjError("the network is too large to be reduced")
    return Problem(margins, reduced, region_of(case))


def _descended(graph: Graph, region: Region, rng: np.random.Generator) -> Floats:
    """The least value of every row that signed gradient steps from some points reach."""
    rows = np.repeat(np.eye(graph.classes), 8, axis=0)
    x = rng.uniform(region.lower, region.upper, size=(len(rows), graph.inputs))
    least = np.full(len(rows), np.inf)
    for step in range(41):
        values = graph.values(x)
        least = np.minimum(least, (values[-1] * rows).sum(axis=1))
        length = 0.25 * (region.upper - region.lower) * 0.9**step
        x = np.clip(x - length * np.sign(gradient(graph, values, rows)), region.lower, region.upper)
    return np.asarray(least.reshape(graph.classes, -1).min(axis=1))


def subproblems(given: Problem, count: int) -> Subproblems:
    """Random rows and phases: each subproblem assumes what holds at a random point, so that it is not empty."""
    rng = np.random.default_rng(1)
    graph, region = given.reduced.graph, given.region
    points = rng.uniform(region.lower, region.upper, size=(count, graph.inputs))
    values = graph.values(points)
    before = [values[node.source] for node in graph.nodes if isinstance(node, Activation)]
    held = np.sign(np.concatenate(before, axis=1)).astype(np.int8)
    signs = np.where(rng.random(held.shape) < SPLITS / held.shape[1], held, 0).astype(np.int8)
    mixtures = np.eye(graph.classes)[rng.integers(graph.classes, size=count)]
    half = np.full(signs.shape, 0.5, dtype=np.float32)
    return Subproblems(mixtures, signs, half, np.zeros_like(half), points)


def measure(check: Check, specification: Specification) -> None:
    """Bounds and branches a second by NumPy and JAX; soundness of what JAX proves."""
    begun = time.perf_counter()
    given = problem(specification)
    name = {"network": specification.name, "open": given.search("numpy", 16).program.neurons}
    check.add(**name, what="problem", seconds=time.perf_counter() - begun)
    for engine, batch in _calls(specification):
        if not check.late:
            check.add(**name, **_bounds(given, engine, batch, specification.seconds))
    if not check.late:
        agreement(check, name, given, specification.batches[0])
    for engine in ("numpy", "jax"):
        if not check.late:
            check.add(**name, **_branches(given, engine, specification))
    if specification.largest and not check.late:
        check.add(**name, **_largest(check, given, specification))


def _calls(specification: Specification) -> Iterator[tuple[Engine, int]]:
    yield "numpy", specification.batches[0]
    for batch in specification.batches:
        yield "jax", batch


def _bounds(given: Problem, engine: Engine, batch: int, seconds: float) -> Record:
    program, chosen = given.search(engine, batch).program, subproblems(given, batch)
    compiled = -compile_seconds()
    answer = chosen.bounded_by(program)
    compiled += compile_seconds()
    begun, calls = time.perf_counter(), 0
    while calls == 0 or time.perf_counter() - begun < seconds:
        chosen.bounded_by(program)
        calls += 1
    rate = calls * batch / (time.perf_counter() - begun)
    return {
        "what": "bounds", "engine": engine, "batch": batch, "rate": rate, "compile_seconds": compiled,
        "mean_bound": float(answer.bound.mean()),
    }  # fmt: skip


def _branches(given: Problem, engine: Engine, specification: Specification) -> Record:
    """Two searches: the first compiles, or loads, what the second is timed with."""
    batch = specification.search if engine == "jax" else min(specification.search, 256)
    compiled = -compile_seconds()
    if engine == "jax":
        search = given.search(engine, batch)
        search.run(_clock(specification.seconds))
    compiled += compile_seconds()
    begun = time.perf_counter()
    with mock.patch.object(phases, "LATER", np.inf):  # what NumPy begins it ends, too
        finding = given.search(engine, batch).run(_clock(3 * specification.seconds))
    took = time.perf_counter() - begun
    return {
        "what": "branches", "engine": engine, "batch": batch, "rate": finding.branches / took,
        "compile_seconds": compiled, "branches": finding.branches, "status": finding.status,
    }  # fmt: skip


def _clock(seconds: float) -> Clock:
    return Clock(time.perf_counter() + seconds)


def agreement(check: Check, name: Mapping[str, Any], given: Problem, batch: int) -> None:
    """Hold what JAX proves against NumPy's bounds at the same multipliers, and against the network itself."""
    chosen = subproblems(given, batch)
    answer = chosen.bounded_by(given.search("jax", batch).program)
    exact = given.search("numpy", batch).program
    exact.steps = 0
    bound = exact(chosen.mixtures, chosen.signs, answer.slopes, answer.betas).bound
    beyond = (answer.bound - bound) / (1.0 + np.abs(bound))
    values = (given.margins.graph(chosen.points) * chosen.mixtures).sum(axis=1)
    above = int((answer.bound > values).sum())
    facts = {"largest_difference": float(np.abs(beyond).max()), "above_a_value": above}
    check.add(**name, what="agreement", engine="jax", batch=batch, **facts)
    if not np.abs(beyond).max() <= AGREEMENT:
        check.wrong.append(f"{name['network']}: a bound differs from NumPy's by {np.abs(beyond).max():.2g} of its size")
    if above:
        check.wrong.append(f"{name['network']}: {above} bounds lie above a value of the network")


def samples(check: Check, scale: device.Scale) -> None:
    """Scenario certificates: samples a second, and NumPy's certificate from the same samples."""
    for facts in device.measured(scale):
        check.add(**facts)
        if facts["what"] != "certificates":
            continue
        if not (facts["largest_difference"] <= AGREEMENT and facts["same_discarded"]):
            check.wrong.append(f"a certificate differs from NumPy's by {facts['largest_difference']:.2g} of its size")


def _largest(check: Check, given: Problem, specification: Specification) -> Record:
    """Four times the batch again and again, until the device is full, a call takes long, or it is large enough."""
    batch, fits, rate, reason = specification.batches[-1], 0, 0.0, "large enough"
    while batch <= specification.largest:
        begun = time.perf_counter()
        try:
            facts = _bounds(given, "jax", batch, 0.0)
        except (MemoryError, RuntimeError) as error:  # JAX' own errors are RuntimeErrors
            if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            reason = "the device is full"
            break
        fits, rate = batch, facts["rate"]
        if check.late or time.perf_counter() - begun > 30:
            reason = "time"
            break
        batch *= 4
    return {"what": "largest batch", "engine": "jax", "batch": fits, "rate": rate, "ended_by": reason}


def verified(check: Check, folder: Path, most: int, seconds: float) -> None:
    """Verify instances of every benchmark in a folder on the device."""
    for benchmark in sorted(path.parent for path in folder.glob("*/verdicts.csv")):
        for instance in instances(benchmark, most):
            if check.late:
                return
            compiled = -compile_seconds()
            network, prop = load_network(instance.network), read_property(instance.prop)
            outcome = verify(network, prop, Options(seconds, "gpu"))
            compiled += compile_seconds()
            verdict = {"robust": "unsat", "falsified": "sat"}.get(outcome.verdict, "unknown")
            check.add(
                what="instance", network=f"{benchmark.name}/{instance.name}", verdict=verdict,
                expected=instance.expected, seconds=outcome.seconds, compile_seconds=compiled,
                branches=outcome.branches, reason=outcome.reason,
            )  # fmt: skip
            if instance.expected and verdict in DECIDED and verdict != instance.expected:
                check.wrong.append(f"{benchmark.name}/{instance.name} is {instance.expected}, not {verdict}")


def machine() -> Record:
    """Device, processor and versions."""
    import jax

    device = jax.devices()[0]
    return {
        "device": str(device.device_kind), "platform": str(device.platform), "cpu": cpu(),
        "cores": os.cpu_count(), "threads": os.environ.get("OMP_NUM_THREADS"),
        "python": platform.python_version(), "numpy": np.__version__, "jax": jax.__version__,
    }  # fmt: skip


def table(records: Sequence[Record]) -> str:
    """Markdown: rates, each JAX row beside NumPy's of the same network."""
    lines = [
        "| network | open ReLUs | what | engine | batch | a second | times NumPy | seconds of compiling |",
        "|---|---:|---|---|---:|---:|---:|---:|",
    ]
    base: dict[tuple[str, str], float] = {}
    for row in records:
        if "rate" not in row:
            continue
        what = "bounds" if row["what"] == "largest batch" else row["what"]
        if row["engine"] == "numpy":
            base[row["network"], what] = row["rate"]
        known = base.get((row["network"], what))
        cells = (
            row["network"], str(row["open"]), row["what"], row["engine"], str(row["batch"]), f"{row['rate']:.0f}",
            f"{row['rate'] / known:.1f}" if known else "-", f"{row.get('compile_seconds', 0.0):.1f}",
        )  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    found = [row for row in records if row["what"] == "instance"]
    if found:
        decided = sum(row["verdict"] in DECIDED for row in found)
        seconds, compiled = (sum(row[name] for row in found) for name in ("seconds", "compile_seconds"))
        told = f"{decided} of {len(found)} instances decided in {seconds:.1f} s, {compiled:.1f} s of it compiling"
        lines += ["", f"- {told}."]
    for row in records:
        if row["what"] == "certificates":
            apart = f"differs from NumPy's by {row['largest_difference']:.1e} of its size"
            lines += [
                "",
                f"- a scenario certificate {apart}, {'as' if row['same_discarded'] else 'not as'} many discarded.",
            ]
    return "\n".join(lines)


def _short(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def main(argv: Sequence[str]) -> int:
    """Measure, and print the table and the document."""
    parser = Parser("python -m experiments.gpu_check", "Bounds and samples on a GPU.", EXAMPLES)
    parser.add_argument("--smoke", action="store_true", help="a small network, on a CPU if there is no GPU")
    parser.add_argument("--cpu", action="store_true", help="the same networks on the CPU, in smaller batches")
    parser.add_argument("--instances", type=Path, metavar="DIR", help="a folder with one sub-folder a benchmark")
    parser.add_argument("--most", type=int, default=8, metavar="N", help="instances of a benchmark (default 8)")
    parser.add_argument("--time-limit", type=float, default=10.0, metavar="S", help="of an instance (default 10)")
    parser.add_argument("--seconds", type=float, default=240.0, metavar="S", help="begin nothing after (default 240)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the document there, too")
    options = parser.parse_args(argv)
    begun = time.perf_counter()
    check = Check(begun + options.seconds)
    document = _device(options.smoke or options.cpu)
    for specification in (SMOKE,) if options.smoke else ON_CPU if options.cpu else SPECIFICATIONS:
        # Instances come last, but not in vain: networks leave them a third of the time.
        share = 1.0 if options.instances is None else 0.66
        check.deadline = begun + share * options.seconds
        measure(check, specification)
    check.deadline = begun + options.seconds
    if not check.late:
        samples(check, device.SMOKE if options.smoke else device.CPU if options.cpu else device.GPU)
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            smoke_instances(Path(folder) / "tiny")
            verified(check, Path(folder), 2, options.time_limit)
    if options.instances is not None:
        verified(check, options.instances, options.most, options.time_limit)
    document |= {"seconds": time.perf_counter() - begun, "compile_seconds": _compile_seconds()}
    text = json.dumps(document | {"wrong": check.wrong, "measured": check.records})
    if options.output is not None:
        options.output.write_text(f"{text}\n", encoding="utf-8")
    print(f"{table(check.records)}\n\n{text}")
    if check.wrong:
        raise ArfjError(f"WRONG: {'; '.join(check.wrong)}")
    return ANSWERED


def _compile_seconds() -> float:
    return compile_seconds() + forward_seconds()


def _device(smoke: bool) -> Record:
    try:
        found = machine()
    except ImportError:
        raise UsageError("JAX is missing: pip install 'jax[cuda13]'") from None
    if found["platform"] == "cpu" and not smoke:
        raise UsageError("JAX finds no GPU here; --cpu measures the CPU, --smoke tries everything in small")
    return found


if __name__ == "__main__":
    sys.exit(run(main))
