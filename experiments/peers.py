r"""`python -m experiments.peers`: the attack beside the tools that put networks into mixed-integer programs.

Every tool builds the same problem by its own interface (`peers_child` does, in a process of its own): the least L1
change of an image that one network, or each of two, takes for the target. The tools of an instance run in turn on one
core, rotated from instance to instance; what they answer is replayed here through the networks in float64.

The peers are gurobi-machinelearning, PySCIPOpt-ML and OMLT. They are run in an environment of their own:

    python3.11 -m venv OTHER
    OTHER/bin/pip install gurobi-machinelearning==1.7.0 pyscipopt-ml==1.4.1 omlt==1.2.2 \
        gurobipy pyscipopt pyomo highspy scikit-learn
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arfj.cli import ANSWERED, Parser, checked_seconds, run
from arfj.data import bundled_images, bundled_nominal, bundled_outer
from arfj.errors import ArfjError, UsageError
from arfj.evaluate import Witness, replay
from arfj.network import Network
from arfj.report.store import Store
from experiments.peers_child import PACKAGES, VARIANTS, Instance
from experiments.tables import HERE, Row, put
from experiments.verify_benchmark import ONE_THREAD, cpu

ROWS = HERE / "rows" / "peers.jsonl"
MARK = "peers"
EXAMPLES = """\
  python -m experiments.peers                                print the table of the committed rows
  python -m experiments.peers --smoke                        one tiny instance; with --peer, for the peers as well
  python -m experiments.peers --run --peer OTHER/bin/python  measure what has no row yet
  python -m experiments.peers --run --true 0 2 --peer ...    other images
  python -m experiments.peers --write                        put the table into PERFORMANCE.md
"""
LIMIT = 600.0
GRACE = 120.0
"""Seconds beyond its time limit, imports among them, after which a process is ended."""
GAMMA = 0.2
TRUE = (1, 4, 7)
AGREE = 1e-3
"""Distances that differ by a smaller share agree."""
BEYOND = 1e19
"""A bound of this size is the tool's word for none."""
DECIDED = ("optimal", "infeasible")
BASE = ("arfj", "bab")

PROBLEMS: Mapping[str, Callable[[], tuple[Network, ...]]] = {
    "one network": lambda: (bundled_nominal(),),
    "two networks": lambda: (bundled_nominal(), bundled_outer()[0]),
}


@dataclass(frozen=True, eq=False)
class Task:
    """An instance, and what it is called."""

    problem: str
    networks: tuple[Network, ...]
    nominal: Any
    true: int
    target: int

    @property
    def instance(self) -> Instance:
        """As the child takes it; all networks have a ReLU behind their outputs."""
        layers = tuple(tuple((layer.weight, layer.bias) for layer in network.layers) for network in self.networks)
        return Instance(np.asarray(self.nominal), self.true, self.target, GAMMA, layers)


def tasks(classes: Sequence[int]) -> list[Task]:
    """The bundled images of these classes against one network and against two; the target is the class before."""
    images = bundled_images().nominal
    return [
        Task(problem, networks(), images[true], true, (true - 1) % 10)
        for problem, networks in PROBLEMS.items()
        for true in classes
    ]


def smoke_task() -> Task:
    """y = x in two dimensions at (0.8, 0.2): to lower x_0 to 1/6 is cheapest, so that the distance is 19/30."""
    same = Network.from_arrays([np.eye(2), np.eye(2)], [np.zeros(2), np.zeros(2)])
    return Task("smoke", (same,), np.array([0.8, 0.2]), 0, 1)


def measure(store: Store, work: Sequence[Task], interpreters: Mapping[str, str], seconds: float) -> None:
    """Run every tool on every instance that has no row yet; the first of an instance goes last on the next one."""
    contenders = [(tool, variant) for tool in interpreters for variant in VARIANTS[tool]]
    for index, task in enumerate(work):
        shift = index % len(contenders)
        for tool, variant in [*contenders[shift:], *contenders[:shift]]:
            key = f"{task.problem}/{task.true}/{tool}/{variant}"
            row = store.settled(key, seconds)
            if row is not None and row["status"] != "error":
                continue
            load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
            said = ask(task, tool, variant, interpreters[tool], seconds)
            seen = judged(task, said.pop("x"))
            facts = {
                "tool": tool,
                "variant": variant,
                "problem": task.problem,
                "networks": len(task.networks),
                "true": task.true,
                "target": task.target,
                **said,
                **seen,
                "threads": 1,
                "cpu": cpu(),
                "load": load,
            }
            store.append(key, seconds, facts)
            told = "no answer" if seen["distance"] is None else f"{seen['distance']:.5f}, hit: {seen['hit']}"
            print(f"{key}: {said['status']}, {said['seconds']:.1f} s, {told}", file=sys.stderr)


def ask(task: Task, tool: str, variant: str, interpreter: str, seconds: float) -> dict[str, Any]:
    """Run one tool on one instance: what it says, as in `peers_child.Answer`."""
    with tempfile.TemporaryDirectory() as folder:
        request, answer = Path(folder) / "request.npz", Path(folder) / "answer.json"
        task.instance.save(request)
        command = [interpreter, "-m", "experiments.peers_child", tool, variant, str(request), str(answer)]
        began = time.perf_counter()
        try:
            done = subprocess.run(  # noqa: S603 - an interpreter that the caller names
                [*command, f"{seconds:g}"],
                env=os.environ | ONE_THREAD,
                cwd=HERE.parent,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=seconds + GRACE,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return _no_answer("unproven", time.perf_counter() - began, "ended from outside")
        if not answer.is_file():
            line = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
            return _no_answer("error", time.perf_counter() - began, line.replace(str(HERE.parent), ".")[:300])
        said: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
    if said["bound"] is not None and not abs(said["bound"]) < BEYOND:
        said["bound"] = None
    return said


def _no_answer(status: str, seconds: float, message: str) -> dict[str, Any]:
    empty = dict.fromkeys(("x", "objective", "bound", "nodes", "size", "versions"))
    return {"status": status, "seconds": seconds, "message": message, **empty}


def judged(task: Task, x: Sequence[float] | None) -> dict[str, Any]:
    """What the networks say of an answer, put into [0, 1]: its distance, whether it is a hit, what it misses."""
    if x is None or not np.isfinite(x).all():
        return {"distance": None, "hit": None, "violation": None}
    nominal = np.asarray(task.nominal, dtype=np.float64)
    image = np.clip(np.asarray(x, dtype=np.float64), 0.0, 1.0)
    distance = float(np.abs(image - nominal).sum())
    seen = replay(Witness(image, nominal, task.true, task.target, GAMMA, distance, 0.0), task.networks)
    return {"distance": distance, "hit": seen.hit, "violation": seen.violation}


def check_peers(interpreter: str) -> dict[str, str]:
    """The interpreter of each tool.

    Raises:
        ArfjError: the interpreter does not run, or lacks a peer.
    """
    for tool in PACKAGES:
        if tool == "arfj":
            continue
        try:
            command = [interpreter, "-m", "experiments.peers_child", tool]
            done = subprocess.run(command, cwd=HERE.parent, capture_output=True, text=True, check=True)  # noqa: S603
            found = json.loads(done.stdout)
        except (OSError, subprocess.CalledProcessError, ValueError) as error:
            raise ArfjError(f"{interpreter} does not run as a Python interpreter with NumPy: {error}") from error
        lacking = [name for name in PACKAGES[tool] if name not in found]
        if lacking:
            cure = f"{interpreter} -m pip install {' '.join(lacking)}"
            raise ArfjError(f"{interpreter} has no {', '.join(lacking)}; install it there: {cure}")
    return {tool: sys.executable if tool == "arfj" else interpreter for tool in PACKAGES}


def wrong(row: Row, rows: Sequence[Row]) -> bool:
    """Whether the claim of a row contradicts what is known of its instance.

    Known are the least distance of an answer that replays, whoever found it, and the optimum that arfj proves by
    itself. A bound above the first is wrong, and so is "infeasible" beside it; an optimum is wrong if its distance is
    above the first, or, without a replayed hit, below the second. All up to a share of 1e-3.
    """
    same = [other for other in rows if (other["problem"], other["true"]) == (row["problem"], row["true"])]
    least = min((other["distance"] for other in same if other["hit"]), default=np.inf)
    ours = max((other["distance"] for other in same if _is_base(other) and other["status"] == "optimal"), default=0.0)
    if row["status"] == "infeasible":
        return bool(np.isfinite(least))
    room = least * (1.0 + AGREE)
    if row["bound"] is not None and row["bound"] > room:
        return True
    if row["status"] != "optimal":
        return False
    missing = row["distance"] is None
    return missing or row["distance"] > room or (not row["hit"] and row["distance"] < ours * (1.0 - AGREE))


def _is_base(row: Row) -> bool:
    return (row["tool"], row["variant"]) == BASE


def table(rows: Sequence[Row]) -> str:
    """Markdown: one line a problem, tool and variant.

    Raises:
        ArfjError: there are no rows.
    """
    last = list({row["key"]: row for row in rows}.values())
    if not last:
        raise ArfjError("there are no rows; measure them with --run, or name a file of rows with --rows")
    lines = [
        "| problem | tool | variant | solved | seconds, median | seconds, max | times arfj (bab) | wrong | hits |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for problem, tool in itertools.product(dict.fromkeys(row["problem"] for row in last), VARIANTS):
        for variant in VARIANTS[tool]:
            name = (problem, tool, variant)
            lines += _line([row for row in last if (row["problem"], row["tool"], row["variant"]) == name], last)
    facts = []
    misses = [row["violation"] for row in last if row["hit"] is False]
    if misses:
        facts.append(f"Answers that miss a condition by more than 1e-6: {len(misses)}, at most by {max(misses):.2g}")
    facts += [_versions(tool, last) for tool in VARIANTS if any(row["tool"] == tool for row in last)]
    facts.append(f"{', '.join(sorted({row['cpu'] for row in last}))}, one thread on one core")
    loads = [row["load"] for row in last if row.get("load") is not None]
    if loads:
        told = f"median {np.median(loads):.1f}, at most {max(loads):.1f}; the measurement itself makes 1"
        facts.append(f"Load average before a process: {told}")
    return "\n".join([*lines, "", *(f"- {fact}." for fact in facts)])


def _versions(tool: str, rows: Sequence[Row]) -> str:
    found = [row["versions"] for row in rows if row["tool"] == tool and row["versions"]]
    told = sorted({", ".join(f"{name} {version}" for name, version in each.items()) for each in found})
    return f"{tool}: {'; '.join(told) or 'of unknown version'}"


def _line(mine: Sequence[Row], rows: Sequence[Row]) -> list[str]:
    """The line of a problem, tool and variant, if there is anything to tell."""
    if not mine:
        return []
    problem = mine[0]["problem"]
    bad = [row for row in mine if wrong(row, rows)]
    solved = [row for row in mine if _solved(row, rows)]
    counted = [row for row in mine if row not in bad and (row["status"] in DECIDED or _timed_out(row))]
    others = [row["status"] for row in mine if row["status"] not in DECIDED and not _timed_out(row)]
    times = {row["true"]: _time(row, rows) for row in counted}
    ordered = sorted(times.values())
    limits = [_time(row, rows) for row in counted if not _solved(row, rows)]
    base = [row for row in rows if row["problem"] == problem and _is_base(row) and _solved(row, rows)]
    ratios = [times[row["true"]] / row["seconds"] for row in base if row["true"] in times]
    answers = [row for row in mine if row["distance"] is not None]
    counts = "".join(f", {others.count(word)} {word}" for word in dict.fromkeys(others))
    cells = (
        problem,
        mine[0]["tool"],
        mine[0]["variant"],
        f"{len(solved)} of {len(mine)}{counts}",
        _seconds(float(np.median(ordered)), ordered[len(ordered) // 2], limits) if ordered else "-",
        _seconds(ordered[-1], ordered[-1], limits) if ordered else "-",
        f"{'≥ ' if limits else ''}{np.exp(np.mean(np.log(ratios))):.2f} on {len(ratios)}" if ratios else "-",
        f"**{len(bad)} WRONG**" if bad else "0",
        f"{sum(row['hit'] for row in answers)} of {len(answers)}",
    )
    return [f"| {' | '.join(cells)} |"]


def _solved(row: Row, rows: Sequence[Row]) -> bool:
    return row["status"] in DECIDED and not wrong(row, rows)


def _timed_out(row: Row) -> bool:
    """Whether it used its time up and proved nothing."""
    return row["status"] == "unproven" and float(row["seconds"]) >= 0.95 * float(row["time_limit"])


def _time(row: Row, rows: Sequence[Row]) -> float:
    """Seconds; the time limit where the instance was not solved."""
    return float(row["seconds" if _solved(row, rows) else "time_limit"])


def _seconds(value: float, largest: float, limits: Sequence[float]) -> str:
    """A value, a lower bound where the largest time that enters it is a limit."""
    return f"{'≥ ' if limits and largest >= min(limits) else ''}{value:.1f}"


def check(rows: Sequence[Row]) -> None:
    """Be loud about wrong answers of arfj; those of others stand in the table.

    Raises:
        ArfjError: there are any.
    """
    last = list({row["key"]: row for row in rows}.values())
    bad = [row["key"] for row in last if row["tool"] == "arfj" and wrong(row, last)]
    if bad:
        raise ArfjError(f"{len(bad)} WRONG: {'; '.join(bad)}")


def main(argv: Sequence[str]) -> int:
    """Measure, print, or write the table."""
    parser = Parser("python -m experiments.peers", "The attack beside other tools.", EXAMPLES)
    parser.add_argument("--rows", type=Path, default=ROWS, metavar="FILE", help="where the rows are")
    parser.add_argument("--run", action="store_true", help="measure what has no row yet")
    parser.add_argument("--peer", metavar="PYTHON", help="an interpreter that has the peers, to be measured beside")
    parser.add_argument("--true", type=int, nargs="+", default=TRUE, metavar="CLASS", help="images, by their class")
    parser.add_argument("--time-limit", default=f"{LIMIT:g}", metavar="SECONDS", help="for one run (default 600)")
    parser.add_argument("--smoke", action="store_true", help="measure one tiny instance, into rows that are not kept")
    parser.add_argument("--write", action="store_true", help="replace the table in PERFORMANCE.md")
    options = parser.parse_args(argv)
    seconds = checked_seconds("--time-limit", options.time_limit)
    if not set(options.true) <= set(range(10)):
        raise UsageError("--true takes classes from 0 to 9")
    interpreters = {"arfj": sys.executable} if options.peer is None else check_peers(options.peer)
    if options.smoke:
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder) / "rows.jsonl")
            measure(store, [smoke_task()], interpreters, min(seconds, 60.0))
            return _tell(store.rows())
    store = Store(options.rows)
    if options.run:
        measure(store, tasks(options.true), interpreters, seconds)
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
