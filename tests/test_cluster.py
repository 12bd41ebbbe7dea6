"""The transfer study on engines that it does not name: joblib's own processes, and a Dask cluster."""

import collections
import os
import sys
import time
from pathlib import Path

import joblib
import pytest

from arfj.cli import run
from arfj.report.store import Store
from experiments.__main__ import main
from experiments.processes import group

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(sys.platform == "win32", reason="needs signals"),
]
ALWAYS, MOST = 20, 28
"""Tasks of the smoke mode: 2 clean images, 18 exact answers; 8 baselines at most, of answers found in time."""


def keys(folder):
    return [row["key"] for row in Store(folder / "results.jsonl").rows()]


def check_whole(folder):
    """Nothing is lost, and nothing stands there twice."""
    counts = collections.Counter(keys(folder))
    asked = [key for key in counts if key.startswith(("transfer/clean/", "transfer/exact/"))]
    assert len(asked) == ALWAYS
    assert len(asked) <= len(counts) <= MOST
    assert set(counts.values()) == {1}


def wait_for_rows(folder, count, process):
    until = time.monotonic() + 150
    while len(keys(folder)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "no rows"
        time.sleep(0.05)


def test_loky(tmp_path, workers_end):
    with joblib.parallel_config(backend="loky"):
        assert run(main, ["transfer", "--smoke", "--out", str(tmp_path), "--jobs", "2"]) == 0
    check_whole(tmp_path)
    assert {row["jobs"] for row in Store(tmp_path / "results.jsonl").rows()} == {2}


def test_dask_killed_half_way_then_one_worker_lost(tmp_path):
    pytest.importorskip("dask.distributed", reason="needs pip install 'arfj[dev]'")
    command = [sys.executable, str(Path(__file__).parent / "dask_study.py"), str(tmp_path)]
    root = str(Path(__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}

    with group(command, environment) as process:  # leaving it kills the whole group: cluster, workers and study
        wait_for_rows(tmp_path, 5, process)
    some = keys(tmp_path)
    assert 5 <= len(some) < ALWAYS

    with group([*command, "lose"], environment) as process:
        out, log = process.communicate(timeout=400)
        assert process.returncode == 0, log
    assert "killed a worker with" in log
    assert keys(tmp_path)[: len(some)] == some
    check_whole(tmp_path)
    assert "networks of the same training method" in out
