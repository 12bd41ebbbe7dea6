"""Runs of `python -m arfj.attack` on top of each other, beside each other, and interrupted."""

import json
import math
import os
import pickle
import re
import signal
import sys
import time

import numpy as np
import pytest
from conftest import everything
from joblib import parallel_config
from processes import LIMIT, started

from arfj.attack.run import Share, share_of_cores
from arfj.attack.solve import solve_question
from arfj.data import bundled_images, bundled_nominal, bundled_outer
from arfj.evaluate import load_witness, replay
from arfj.network import Network
from arfj.solver import Solution


@pytest.fixture
def no_solve(monkeypatch):
    """From the moment it is called, solving is an error of the test."""

    def forbid():
        def solve_question(*_arguments, **_names):
            pytest.fail("solved again")

        monkeypatch.setattr("arfj.attack.run.solve_question", solve_question)

    return forbid


@pytest.fixture
def solves(monkeypatch):
    """The labels of the questions that were solved."""
    from arfj.attack import run as module

    seen, solve_question = [], module.solve_question

    def counted(*arguments, **names):
        seen.append(arguments[3])
        return solve_question(*arguments, **names)

    monkeypatch.setattr(module, "solve_question", counted)
    return seen


def unproven(out):
    """Make the one row of a run look as if its time had run out after ten seconds."""
    path = out / "results.jsonl"
    row = json.loads(path.read_text())
    row |= {"status": "feasible", "reason": "time limit", "bound": 0.1, "time_limit": 10.0}
    path.write_text(json.dumps(row) + "\n")


class TestResume:
    def test_second_run_solves_nothing(self, attack, seesaw, no_solve):
        first = attack(*seesaw).results
        no_solve()
        assert attack(*seesaw).results == first

    def test_an_infeasible_question_is_settled(self, attack, files, out, no_solve):
        arguments = ["--networks", files / "dead.npz", "--image", files / "x.npy", "--output", out, "--json"]
        first = attack(*arguments).results
        no_solve()
        assert attack(*arguments, "--time-limit", 9999).results == first

    @pytest.mark.parametrize("options", [["--gamma", 0.3], ["--seed", 1], ["--formulation", "paper"]])
    def test_another_question_is_solved(self, attack, seesaw, solves, options):
        attack(*seesaw)
        attack(*seesaw, *options)
        assert solves == ["x", "x"]

    def test_another_network_is_solved(self, attack, seesaw, files, solves):
        attack(*seesaw)
        Network.from_arrays([[[-1.0, 1.0]]], [[1.0, 1e-9]]).save(files / "seesaw.npz")
        attack(*seesaw)
        assert solves == ["x", "x"]

    def test_more_time_solves_unproven_rows_only(self, attack, seesaw, out, solves):
        attack(*seesaw)
        attack(*seesaw, "--time-limit", 9999)
        assert solves == ["x"], "a proven row is settled for good"
        unproven(out)
        (kept,) = attack(*seesaw, "--time-limit", 5).results
        assert (kept["status"], kept["reason"], len(solves)) == ("feasible", "time limit", 1)
        (again,) = attack(*seesaw, "--time-limit", 20).results
        assert (again["status"], len(solves)) == ("optimal", 2)

    @pytest.mark.parametrize("damage", ["deleted", "truncated", "moved", "foreign"])
    def test_a_damaged_witness_is_solved_again(self, attack, seesaw, solves, damage):
        (result,) = attack(*seesaw).results
        path = result["witness"]
        match damage:
            case "deleted":
                os.remove(path)  # noqa: PTH107
            case "truncated":
                os.truncate(path, 100)
            case "moved":
                load_and_change(path, x=np.array([0.3]))
            case "foreign":
                load_and_change(path, x=np.array([0.6]), nominal=np.array([0.59]))
        (again,) = attack(*seesaw).results
        assert solves == ["x", "x"]
        assert again["distance"] == result["distance"]
        assert again["replay"] == result["replay"]

    def test_half_a_row_is_no_row(self, attack, seesaw, out, solves):
        attack(*seesaw)
        path = out / "results.jsonl"
        path.write_bytes(path.read_bytes()[:-40])
        attack(*seesaw)
        assert solves == ["x", "x"]
        assert len(path.read_text().splitlines()) == 1

    @pytest.mark.parametrize(
        ("change", "limit"),
        [
            ({"bound": 999.0}, 60),
            ({"bound": math.nan}, 60),
            ({"bound": -1.0}, 60),
            ({"bound": 0.0}, 60),
            ({"status": "proven", "time_limit": 100}, 60),
            ({"status": "feasible", "time_limit": 100}, 60),
            ({"status": "feasible", "bound": 999.0, "time_limit": 100}, 60),
            ({"seconds": "1e400"}, 60),
            ({"alpha": math.inf}, 60),
            ({"status": "feasible", "bound": 0.1, "time_limit": "abc"}, 60),
            ({"status": "feasible", "bound": 0.1, "time_limit": [1]}, 60),
            ({"distance": None}, 60),
        ],
    )
    def test_a_row_that_contradicts_itself_is_solved_again(self, attack, seesaw, out, solves, change, limit):
        (first,) = attack(*seesaw).results
        path = out / "results.jsonl"
        path.write_text(json.dumps(json.loads(path.read_text()) | change) + "\n")
        (again,) = attack(*seesaw, "--time-limit", limit).results
        assert solves == ["x", "x"]
        assert (again["status"], again["distance"]) == (first["status"], first["distance"])

    def test_a_row_that_is_nested_too_deep_is_none(self, attack, seesaw, out, solves):
        attack(*seesaw)
        path = out / "results.jsonl"
        path.write_text(path.read_text() + "[" * 100_000 + "\n")
        attack(*seesaw)
        assert solves == ["x"]

    def test_a_long_name_is_cut_by_its_bytes(self, attack, files, out):
        image = files / ("\N{SNOWMAN}" * 75 + ".npy")
        np.save(image, np.array([0.2]))
        (result,) = attack("--networks", files / "seesaw.npz", "--image", image, "--output", out, "--json").results
        assert load_witness(result["witness"]).true == result["true"]

    def test_the_table_of_a_resumed_run_is_the_same(self, attack, seesaw, no_solve):
        first = attack(*seesaw[:-1]).out
        no_solve()
        assert attack(*seesaw[:-1]).out == first


def load_and_change(path, **arrays):
    with np.load(path) as archive:
        content = dict(archive)
    np.savez(path, **(content | arrays))


@pytest.mark.parametrize("formulation", ["tight", "paper"])
def test_a_second_run_is_never_worse_than_the_first(attack, files, out, monkeypatch, formulation):
    """It starts from the answer and the bound that are there, however little time it has."""
    given = ("--networks", files / "seesaw.npz", files / "neighbour.npz", "--image", files / "x.npy", "--output", out)
    given += ("--solver", "scip", "--formulation", formulation)
    (first,) = attack(*given, "--json").results
    row = json.loads((out / "results.jsonl").read_text())
    (out / "results.jsonl").write_text(json.dumps(row | {"status": "feasible", "bound": 0.3, "time_limit": 1.0}) + "\n")

    def nothing(_name, _problem, *_limits):
        return Solution("unknown", "time limit reached", None, None, -np.inf, 0, 0.0)

    monkeypatch.setattr("arfj.attack.prove.solve", nothing)
    monkeypatch.setattr("arfj.attack.prove.warm_start", lambda *_given: None)
    (second,) = attack(*given, "--time-limit", 5, "--json").results
    assert second["distance"] == pytest.approx(first["distance"], rel=1e-6)
    assert second["bound"] == 0.3
    assert second["status"] == "feasible"


class TestCores:
    @pytest.mark.parametrize(
        ("cores", "n_jobs", "images", "expected"),
        [(8, -1, 10, 1), (8, -1, 1, 8), (8, -1, 3, 2), (8, 2, 10, 4), (8, 1, 10, 8), (8, -2, 10, 1), (2, 16, 9, 1)],
    )
    def test_of_each_process(self, monkeypatch, cores, n_jobs, images, expected):
        monkeypatch.setattr("arfj.attack.run.cpu_count", lambda: cores)
        assert share_of_cores(n_jobs, images) == expected

    def test_grow_in_all_processes_as_images_end(self, tmp_path):
        share = Share(tmp_path / "cores", 2)
        there = pickle.loads(pickle.dumps(share))  # noqa: S301
        assert (share(), there()) == (2, 2)
        for cores, expected in ((4, 4), (8, 8), (1, 2)):
            share.write(cores)
            assert (share(), there()) == (expected, expected)
        (tmp_path / "cores").write_text("")
        assert there() == 2, "a file that makes no sense is none"

    def test_the_last_image_has_them_all(self, attack, monkeypatch, tmp_path):
        """What a question may use changes while others end."""
        seen = {}

        def solve(question, options, witness, label, told=None, earlier=None, cores=None):
            until = time.monotonic() + LIMIT
            while question.true == 9 and cores() < 2 and time.monotonic() < until:
                time.sleep(0.01)
            seen[question.true] = options.threads, cores()
            return solve_question(question, options, witness, label, told, earlier)

        monkeypatch.setattr("arfj.attack.run.cpu_count", lambda: 2)
        monkeypatch.setattr("arfj.attack.run.solve_question", solve)
        arguments = ["--nominal", "--time-limit", 1e-3, "--output", tmp_path, "--json", "--n-jobs", 2]
        with parallel_config(backend="threading"):
            assert attack(*arguments).status == 0
        assert seen == {true: (1, 2 if true == 9 else 1) for true in range(10)}


@pytest.mark.slow
@pytest.mark.usefixtures("workers_end")
def test_two_processes_give_what_one_gives(attack, tmp_path):
    np.save(tmp_path / "x.npy", bundled_images().nominal[1])
    results = []
    for jobs in (1, 2):
        arguments = ["--nominal", "--time-limit", 1e-3, "--output", tmp_path / str(jobs), "--json"]
        results.append(attack(*arguments, "--n-jobs", jobs))
    assert [ran.status for ran in results] == [0, 0]
    labels = [[row["image"] for row in ran.results] for ran in results]
    assert labels[0] == labels[1]  # in the order of the questions, whichever ended first
    assert len(labels[0]) == 10
    for row in results[0].results + results[1].results:
        assert row["status"] in ("feasible", "unknown")
        assert row["reason"]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
@pytest.mark.usefixtures("hears_ctrl_c")
class TestInterrupt:
    def interrupted(self, out, *arguments, seconds):
        with started("-m", "arfj.attack", "--output", out, *arguments) as process:
            deadline = time.monotonic() + LIMIT
            while not out.exists() and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            printed, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert "Traceback" not in said
        assert said.rstrip().endswith("interrupted; what was finished is kept")
        assert not [name for name in everything(out) if name.endswith(".tmp")]
        return printed

    def test_the_incumbent_is_printed_and_kept(self, out):
        printed = self.interrupted(out, "--outer", "--alpha", 5, "--true", HARD, "--json", seconds=8)
        (result,) = json.loads(printed)["results"]
        assert (result["status"], result["replay"]["hit"]) == ("feasible", True)
        assert "interrupted" in result["reason"]
        (row,) = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
        assert row["distance"] == result["distance"]
        assert row["time_limit"] < 60, "so that the same command solves it again"
        assert replay(load_witness(result["witness"]), [bundled_nominal(), *bundled_outer()]).hit

    def test_several_at_a_time(self, out):
        """Ctrl-C on a terminal reaches the whole process group: the running images are kept, no others begin."""
        with started("-m", "arfj.attack", "--outer", "--n-jobs", "2", "--json", "--output", out) as process:
            time.sleep(14)
            os.killpg(process.pid, signal.SIGINT)
            printed, said = process.communicate(timeout=90)
        assert process.returncode == 130, said
        results = json.loads(printed)["results"]
        rows = [json.loads(row) for row in (out / "results.jsonl").read_text().splitlines()]
        assert len(rows) == len(results)
        assert 1 <= len(results) < 10
        stopped = [row for row in rows if row["reason"] == "interrupted"]
        assert stopped
        assert all((row["distance"] is None) == (row["replay"] is None) for row in rows)  # one may just have begun
        assert any(row["replay"] and row["replay"]["hit"] for row in rows)

    def test_without_an_answer(self, out):
        printed = self.interrupted(out, "--nominal", "--formulation", "paper", "--true", HARD, seconds=1)
        row = printed.splitlines()[1]
        assert re.search("unknown|feasible", row)
        assert "interrupted" in row


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["terminated", "killed"])
def test_workers_end_with_their_parent(out, how):
    """However the command itself is ended, its processes do not work on until their time limit."""
    with started("-m", "arfj.attack", "--outer", "--n-jobs", "2", "--json", "--output", out) as process:
        time.sleep(10)
        process.send_signal(how)
        assert process.wait(timeout=30) != 0
        deadline = time.monotonic() + 30
        while alive(process.pid) and time.monotonic() < deadline:
            time.sleep(0.2)
        assert not alive(process.pid)


def alive(group):
    """Whether a process of this group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


HARD = 0
"""Its outer problem takes far longer than the interrupt."""
