"""`python -m experiments.verify_benchmark`: the verifier on instances of VNN-COMP, beside a peer, as whole processes.

A folder of instances has one sub-folder a benchmark: networks (.onnx), properties (.vnnlib, .vnnlib.gz), and a
`verdicts.csv` with the columns onnx, vnnlib, verdict (sat, unsat, or anything else where nobody knows) and basis.
Seconds are wall clock around the process: start-up, reading and answering included. The tools run one after another
on one core each time, with one thread, and take turns in going first. A verdict that contradicts the expected one is
reported as wrong, and the command then exits with 1.

The peer, vibecheck-nn, is a program of its own under the GPL: it is run, in an environment of its own, never imported.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from arfj.cli import ANSWERED, Parser, run
from arfj.errors import ArfjError, UsageError
from arfj.report.store import Store
from experiments.processes import group
from experiments.tables import HERE, Row, put

Tool = Literal["arfj", "vibecheck"]
Verdict = Literal["sat", "unsat", "unknown", "timeout", "error"]

ROWS = HERE / "rows" / "verify_benchmark.jsonl"
MARK = "verify_benchmark"
EXAMPLES = """\
  python -m experiments.verify_benchmark                                   print the tables of the committed rows
  python -m experiments.verify_benchmark --smoke                           two tiny instances, made here
  python -m experiments.verify_benchmark --run acasxu --instances DIR      measure what has no row yet
  python -m experiments.verify_benchmark --run mnistfc acasxu-24 --instances DIR --peer OTHER/bin/python
  python -m experiments.verify_benchmark --write                           put the tables into PERFORMANCE.md
"""
GRACE = 30.0
"""Seconds beyond its time limit after which a process is ended."""
ONE_THREAD = dict.fromkeys(
    (
        "OMP_NUM_THREADS",
        "OPENBLAS_NUM_THREADS",
        "MKL_NUM_THREADS",
        "BLIS_NUM_THREADS",
        "NUMEXPR_NUM_THREADS",
        "VECLIB_MAXIMUM_THREADS",
    ),
    "1",
)
PACKAGES: Mapping[Tool, Sequence[str]] = {
    "arfj": ("arfj", "numpy", "scipy", "pyscipopt", "jax", "onnx", "onnxruntime"),
    "vibecheck": ("vibecheck-nn", "torch", "gurobipy", "numpy", "scipy", "onnx", "onnxruntime"),
}
DECIDED = ("sat", "unsat")


@dataclass(frozen=True)
class Specification:
    """What is measured.

    Attributes:
        folder: the benchmark's sub-folder.
        tools: who takes part; the peer only where --peer names it.
        seconds: time limit of an instance.
        most: instances, spread evenly over the list; None for all.
    """

    folder: str
    tools: tuple[Tool, ...] = ("arfj", "vibecheck")
    seconds: float = 60.0
    most: int | None = None


SPECIFICATIONS: Mapping[str, Specification] = {
    "mnistfc": Specification("mnistfc"),
    "acasxu-24": Specification("acasxu", most=24),
    "acasxu": Specification("acasxu", tools=("arfj",)),
}
SMOKE = Specification("tiny", seconds=20.0)


@dataclass(frozen=True)
class Instance:
    """A network, a property, and what is known about them (None: nothing)."""

    network: Path
    prop: Path
    expected: str | None

    @property
    def name(self) -> str:
        """Both files' names."""
        return f"{self.network.name}/{self.prop.name}"


@dataclass(frozen=True)
class Answer:
    """What a process said.

    Attributes:
        verdict: in VNN-COMP's words.
        seconds: wall clock of the process.
        inside: seconds as the tool counts them, without its start-up; None where it does not tell.
        branches: subproblems; None where it does not tell.
        message: why there is no verdict.
    """

    verdict: Verdict
    seconds: float
    inside: float | None = None
    branches: int | None = None
    message: str | None = None


def instances(folder: Path, most: int | None = None) -> list[Instance]:
    """The instances that `verdicts.csv` lists, or `most` of them, spread evenly.

    Raises:
        ArfjError: the list or a file that it names is missing.
    """
    try:
        with (folder / "verdicts.csv").open(encoding="utf-8", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except OSError as error:
        raise ArfjError(f"{folder} has no list of instances ({error.strerror}): it is to hold verdicts.csv") from error
    if most is not None and most < len(rows):
        rows = [rows[at * len(rows) // most] for at in range(most)]
    try:
        return [_instance(folder, row["onnx"], row["vnnlib"], row["verdict"]) for row in rows]
    except KeyError as error:
        raise ArfjError(f"{folder / 'verdicts.csv'} has no column {error}") from error


def _instance(folder: Path, network: str, prop: str, verdict: str) -> Instance:
    return Instance(_existing(folder / network), _existing(folder / prop), verdict if verdict in DECIDED else None)


def _existing(path: Path) -> Path:
    for candidate in (path, path.with_name(f"{path.name}.gz")):
        if candidate.is_file():
            return candidate
    raise ArfjError(f"verdicts.csv lists {path}, which does not exist")


def measure(
    store: Store, name: str, specification: Specification, folder: Path, interpreters: Mapping[Tool, str]
) -> None:
    """Run every tool on every instance that has no row yet; the tools take turns in going first."""
    tools = [tool for tool in specification.tools if tool in interpreters]
    for index, instance in enumerate(instances(folder / specification.folder, specification.most)):
        for tool in tools if index % 2 == 0 else reversed(tools):
            key = f"{name}/{instance.name}/{tool}"
            row = store.find(key)
            if row is not None and row.get("time_limit") == specification.seconds:
                continue
            load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
            answer = ask(tool, interpreters[tool], instance, specification.seconds)
            wrong = instance.expected is not None and answer.verdict in DECIDED and answer.verdict != instance.expected
            facts = {
                "benchmark": name,
                "onnx": instance.network.name,
                "vnnlib": instance.prop.name,
                "tool": tool,
                **vars(answer),
                "expected": instance.expected,
                "wrong": wrong,
                "first": tool == (tools[0] if index % 2 == 0 else tools[-1]),
                "threads": 1,
                "cpu": cpu(),
                "load": load,
                "versions": versions(tool, interpreters[tool]),
            }
            store.append(key, specification.seconds, facts)
            told = f"{name}, {instance.name}, {tool}: {answer.verdict}, {answer.seconds:.2f} s"
            print(f"{told}{f', WRONG, expected {instance.expected}' if wrong else ''}", file=sys.stderr)


def ask(tool: Tool, interpreter: str, instance: Instance, seconds: float) -> Answer:
    """Run one tool on one instance."""
    network, prop = str(instance.network), str(instance.prop)
    if tool == "arfj":
        command = ["-m", "arfj.verify", network, prop, "--time-limit", f"{seconds:g}", "--json"]
    else:
        command = ["-m", "vibecheck", "verify", prop, "--network", f"N={network}"]
        command += ["--timeout", f"{seconds:g}", "--device", "cpu"]
    begun = time.perf_counter()
    environment = os.environ | ONE_THREAD | {"CUDA_VISIBLE_DEVICES": ""}
    with _one_core(), group([interpreter, *command], environment) as process:
        try:
            out, log = process.communicate(timeout=seconds + GRACE)
        except subprocess.TimeoutExpired:
            return Answer("timeout", time.perf_counter() - begun, message="ended from outside")
        took = time.perf_counter() - begun
    answer = _ours(out, took) if tool == "arfj" else _theirs(out, log, took)
    if answer is not None:
        return answer
    message = (log.strip().splitlines() or [f"status {process.returncode}"])[-1]
    return Answer("error", took, message=message.replace(f"{instance.network.parent}{os.sep}", "")[:300])


def _ours(out: str, took: float) -> Answer | None:
    try:
        document = json.loads(out)
    except ValueError:
        return None
    words: Mapping[str, Verdict] = {"robust": "unsat", "falsified": "sat"}
    verdict = words.get(document["verdict"], "timeout" if document["reason"] == "time limit" else "unknown")
    message = None if verdict in DECIDED else document["reason"]
    return Answer(verdict, took, document["seconds"], document["branches"], message)


def _theirs(out: str, log: str, took: float) -> Answer | None:
    """What the first line says; the peer's exit status is 0 for unsat alone."""
    words: Mapping[str, Verdict] = {
        "sat": "sat",
        "unsat": "unsat",
        "unknown": "unknown",
        "timed-out": "timeout",
        "timeout": "timeout",
    }
    said = (out.strip().splitlines() or [""])[0]
    told = re.search(r"verdict: \S+\s+\(([\d.]+)s\)", log)
    return Answer(words[said], took, float(told.group(1)) if told else None) if said in words else None


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
    """Processes that begin in here stay on one core, where the platform can: some threads heed no variable."""
    if sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@functools.cache
def cpu() -> str:
    """The processor's name."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


@functools.cache
def versions(tool: Tool, interpreter: str) -> Mapping[str, str]:
    """Of Python and the packages that a tool needs, as its interpreter sees them.

    Raises:
        ArfjError: the interpreter does not run, or lacks the tool.
    """
    names = PACKAGES[tool]
    if interpreter == sys.executable:
        found = {name: importlib.metadata.version(name) for name in names if _has(name)}
        return {"python": platform.python_version()} | found
    script = (
        "import importlib.metadata as m, json, platform, sys\n"
        "have = {d.metadata['Name'].lower(): d.version for d in m.distributions()}\n"
        "print(json.dumps({'python': platform.python_version()} | {n: have[n] for n in sys.argv[1:] if n in have}))"
    )
    try:
        command = [interpreter, "-c", script, *names]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - named by the caller
        answer: dict[str, str] = json.loads(done.stdout)
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise ArfjError(f"{interpreter} does not run as a Python interpreter: {error}") from error
    if names[0] not in answer:
        raise ArfjError(f"{interpreter} has no {names[0]}; install it there: {interpreter} -m pip install {names[0]}")
    return answer


def _has(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line a benchmark and tool, then how many times as long one tool took as the other.

    Raises:
        ArfjError: there are no rows.
    """
    if not rows:
        raise ArfjError("there are no rows; measure them with --run, or name a file of rows with --rows")
    last = {row["key"]: row for row in rows}
    lines = [
        "| benchmark | tool | decided | wrong | seconds, median | seconds, max | median without start-up |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    ratios = []
    for name in dict.fromkeys(row["benchmark"] for row in last.values()):
        mine = [row for row in last.values() if row["benchmark"] == name]
        lines += [_line(name, tool, [row for row in mine if row["tool"] == tool]) for tool in PACKAGES]
        ratios.append(_ratio(name, mine))
    facts = sorted({f"{row['cpu']}, {row['threads']} thread, {_versions(row)}" for row in last.values()})
    loads = [row["load"] for row in last.values() if row.get("load") is not None]
    if loads:
        told = f"median {np.median(loads):.1f}, at most {max(loads):.1f}; the measurement itself makes 1"
        facts.append(f"Load average before a process: {told}")
    return "\n".join([*filter(None, lines), "", *filter(None, ratios), *(f"- {fact}." for fact in facts)])


def _versions(row: Row) -> str:
    return ", ".join(f"{name} {version}" for name, version in row["versions"].items())


def _line(name: str, tool: str, rows: Sequence[Row]) -> str:
    if not rows:
        return ""
    wrong = sum(row["wrong"] for row in rows)
    inside = [row["inside"] for row in rows if row["inside"] is not None]
    cells = (
        name,
        tool,
        f"{sum(row['verdict'] in DECIDED for row in rows)} of {len(rows)}",
        f"**{wrong} WRONG**" if wrong else "0",
        f"{np.median([row['seconds'] for row in rows]):.2f}",
        f"{max(row['seconds'] for row in rows):.2f}",
        f"{np.median(inside):.2f}" if inside else "-",
    )
    return f"| {' | '.join(cells)} |"


def _ratio(name: str, rows: Sequence[Row]) -> str:
    times = {(row["onnx"], row["vnnlib"], row["tool"]): row["seconds"] for row in rows if row["verdict"] in DECIDED}
    pairs = [
        (seconds, times[onnx, prop, "vibecheck"])
        for (onnx, prop, tool), seconds in times.items()
        if tool == "arfj" and (onnx, prop, "vibecheck") in times
    ]
    if not pairs:
        return ""
    ratio = float(np.exp(np.mean([np.log(ours / theirs) for ours, theirs in pairs])))
    return f"- {name}: arfj takes {ratio:.2f} times the seconds of vibecheck on {len(pairs)} instances both decide."


def check(rows: Sequence[Row]) -> None:
    """Be loud about verdicts that contradict the expected ones.

    Raises:
        ArfjError: there are any.
    """
    wrong = [f"{row['key']} is {row['expected']}, not {row['verdict']}" for row in rows if row["wrong"]]
    if wrong:
        raise ArfjError(f"{len(wrong)} WRONG: {'; '.join(wrong)}")


def smoke_instances(folder: Path) -> None:
    """Two instances of |x_0| + |x_1|: at least 2 on [1, 2]^2, and 0 at 0."""
    from onnx import TensorProto, helper, numpy_helper, save_model

    folder.mkdir(parents=True)
    first = np.array([[1, -1, 0, 0], [0, 0, 1, -1]], dtype=np.float32)
    tensors = [numpy_helper.from_array(first, "M"), numpy_helper.from_array(np.ones((4, 1), dtype=np.float32), "N")]
    nodes = [
        helper.make_node("MatMul", ["X", "M"], ["a"]),
        helper.make_node("Relu", ["a"], ["h"]),
        helper.make_node("MatMul", ["h", "N"], ["Y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "absolute",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [1, 1])],
        tensors,
    )
    save_model(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), folder / "abs.onnx")
    lines = ["onnx,vnnlib,verdict,basis"]
    for name, low, high, verdict in (("far", 1, 2, "unsat"), ("near", -1, 1, "sat")):
        box = "".join(f"(assert (>= X_{i} {low}.0))\n(assert (<= X_{i} {high}.0))\n" for i in range(2))
        names = "".join(f"(declare-const {variable} Real)\n" for variable in ("X_0", "X_1", "Y_0"))
        (folder / f"{name}.vnnlib").write_text(f"{names}{box}(assert (<= Y_0 0.5))\n", encoding="utf-8")
        lines.append(f"abs.onnx,{name}.vnnlib,{verdict},by hand")
    (folder / "verdicts.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(argv: Sequence[str]) -> int:
    """Measure, print, or write the tables."""
    parser = Parser("python -m experiments.verify_benchmark", "The verifier on instances of VNN-COMP.", EXAMPLES)
    parser.add_argument("--rows", type=Path, default=ROWS, metavar="FILE", help="where the rows are")
    parser.add_argument("--run", nargs="+", default=[], choices=sorted(SPECIFICATIONS), help="what to measure")
    parser.add_argument("--instances", type=Path, metavar="DIR", help="a folder with one sub-folder a benchmark")
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter that has vibecheck-nn, to be measured beside")
    parser.add_argument("--smoke", action="store_true", help="measure two tiny instances, into rows that are not kept")
    parser.add_argument("--table", action="store_true", help="print the tables only (what is done by default)")
    parser.add_argument("--write", action="store_true", help="replace the tables in PERFORMANCE.md")
    options = parser.parse_args(argv)
    if options.run and options.instances is None:
        raise UsageError("--run needs the folder of the instances: --instances DIR")
    interpreters: dict[Tool, str] = {"arfj": sys.executable}
    if options.peer is not None:
        interpreters["vibecheck"] = options.peer
        versions("vibecheck", options.peer)
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            smoke_instances(Path(folder) / SMOKE.folder)
            store = Store(Path(folder) / "rows.jsonl")
            measure(store, "smoke", SMOKE, Path(folder), interpreters)
            return _tell(store.rows())
    store = Store(options.rows)
    for name in options.run:
        measure(store, name, SPECIFICATIONS[name], options.instances, interpreters)
    rows = store.rows()
    if options.write:
        put({MARK: table(rows)})
    return _tell(rows)


def _tell(rows: Sequence[Row]) -> int:
    print(table(rows))
    check(rows)
    return ANSWERED


if __name__ == "__main__":
    sys.exit(run(main))
