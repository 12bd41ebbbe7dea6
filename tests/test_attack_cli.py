"""The command `python -m arfj.attack`: its document, its errors, and what a second run finds of the first."""

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import DEAD_TARGET, NEIGHBOUR_DISTANCE, SEESAW, SEESAW_DISTANCE

from arfj.data import bundled_images, bundled_nominal, bundled_outer
from arfj.errors import SolverError
from arfj.evaluate import load_witness, replay
from arfj.network import Network
from arfj.solver import Solution, available

KEYS = {
    "kind", "true", "target", "alpha", "gamma", "scenarios", "status", "reason", "distance", "bound", "gap", "seconds",
    "nodes", "solver", "formulation", "variables", "binaries", "constraints", "witness", "replay",
}  # fmt: skip


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def seesaw(files, out):
    """Arguments of a question that is solved at once."""
    return ["--networks", files / "seesaw.npz", "--image", files / "x.npy", "--output", out, "--json"]


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


class TestDocument:
    def test_keys_of_the_interface(self, attack, seesaw):
        ran = attack(*seesaw)
        assert ran.status == 0
        (result,) = ran.results
        assert result.keys() >= KEYS
        assert result["replay"].keys() >= {"hit", "distance", "classes", "margins"}
        assert (result["kind"], result["true"], result["target"], result["alpha"]) == ("given", 0, 1, 0)
        assert (result["gamma"], result["scenarios"]) == (0.2, 1)
        assert (result["solver"], result["formulation"]) == ("scip", "tight")
        assert (result["status"], result["reason"]) == ("optimal", "")
        assert result["distance"] == pytest.approx(SEESAW_DISTANCE, rel=1e-6)
        assert result["bound"] <= result["distance"]
        assert result["gap"] == pytest.approx((result["distance"] - result["bound"]) / result["distance"], abs=1e-12)
        assert 0 <= result["gap"] <= 1e-6
        assert result["replay"]["hit"] is True
        assert result["replay"]["classes"] == [1]
        assert abs(result["replay"]["margins"][0]) < 1e-6

    def test_witness_stands_where_the_document_says(self, attack, seesaw):
        (result,) = attack(*seesaw).results
        witness = load_witness(result["witness"])
        assert (witness.true, witness.target, witness.gamma) == (0, 1, 0.2)
        assert witness.nominal == pytest.approx([0.2])
        assert replay(witness, [SEESAW]).as_json() == result["replay"]

    @pytest.mark.parametrize("formulation", ["tight", "paper"])
    @pytest.mark.parametrize("second", ["neighbour", "seesaw"])
    def test_two_networks(self, attack, files, out, formulation, second):
        networks = [files / "seesaw.npz", files / f"{second}.npz"]
        image = ["--image", files / "x.npy", "--formulation", formulation]
        (result,) = attack("--networks", *networks, *image, "--output", out, "--json").results
        expected = NEIGHBOUR_DISTANCE if second == "neighbour" else SEESAW_DISTANCE
        assert result["status"] == "optimal"
        assert result["distance"] == pytest.approx(expected, rel=1e-6)
        assert (result["alpha"], result["scenarios"], len(result["replay"]["margins"])) == (1, 2, 2)

    def test_gamma_zero_is_no_tie(self, attack, seesaw):
        (result,) = attack(*seesaw, "--gamma", 0).results
        assert result["distance"] == pytest.approx(0.3005, rel=1e-6)

    @pytest.mark.parametrize("formulation", ["tight", "paper"])
    def test_unreachable_target(self, attack, files, out, formulation):
        arguments = ["--image", files / "x.npy", "--formulation", formulation, "--output", out, "--json"]
        ran = attack("--networks", files / "dead.npz", *arguments)
        assert ran.status == 0
        (result,) = ran.results
        assert result["status"] == "infeasible"
        assert [result[key] for key in ("distance", "gap", "witness", "replay")] == [None] * 4
        assert everything(out) == ["results.jsonl"]

    def test_one_dead_scenario_is_enough(self, attack, files, out):
        networks = [files / "seesaw.npz", files / "dead.npz"]
        ran = attack("--networks", *networks, "--image", files / "x.npy", "--output", out, "--json")
        assert ran.results[0]["status"] == "infeasible"

    def test_table(self, attack, seesaw):
        ran = attack(*seesaw[:-1])
        assert ran.status == 0
        header, row, summary, where = ran.out.splitlines()
        assert header.split()[:4] == ["image", "true", "->", "target"]
        assert "0.34545" in row
        assert "optimal" in row
        assert row.endswith("hit")
        assert "1 optimal" in summary
        assert str(seesaw[-2]) in where

    def test_pictures_are_drawn(self, attack, seesaw, out):
        attack(*seesaw)
        assert [path.suffix for path in (out / "pictures").iterdir()] == [".png"]

    def test_image_shapes_are_kept(self, attack, files, out):
        np.save(files / "x.npy", np.array([[0.2]]))
        Network(SEESAW.layers, input_shape=(1, 1)).save(files / "shaped.npz")
        given = ("--image", files / "x.npy", "--output", out, "--json")
        (result,) = attack("--networks", files / "shaped.npz", *given).results
        assert load_witness(result["witness"]).x.shape == (1, 1)
        attack("--networks", files / "seesaw.npz", *given).is_error(2, "shape (1, 1)")

    def test_help_starts_with_examples(self, attack, capsys):
        with pytest.raises(SystemExit):
            attack("--help")
        text = capsys.readouterr().out
        assert text.index("--outer --alpha 5") < text.index("--epsilon")


USAGE = {
    "true and target are both 0": ["--true", 0, "--target", 0],
    "--target 2 is out of range": ["--target", 2],
    "--target -1 is out of range": ["--target", -1],
    "--true 7 is out of range": ["--true", 7, "--target", 1],
    "--gamma is -0.1": ["--gamma", -0.1],
    "--gamma is nan": ["--gamma", "nan"],
    "--time-limit is 0": ["--time-limit", 0],
    "--time-limit is nan": ["--time-limit", "nan"],
    "--memory-limit is 0": ["--memory-limit", 0],
    "--n-jobs is 0": ["--n-jobs", 0],
    "--seed is -1": ["--seed", -1],
    "not allowed with": ["--outer"],
    "drop --train": ["--train"],
    "drop --alpha 3": ["--alpha", 3],
    "invalid choice": ["--solver", "cplex"],
    "invalid float value": ["--gamma", "much"],
    "unrecognized arguments": ["--gama", "0.2"],
}


class TestWrongUsage:
    @pytest.mark.parametrize("words", USAGE)
    def test_options(self, attack, seesaw, out, words):
        attack(*seesaw, *USAGE[words]).is_error(2, words)
        assert not out.exists()

    def test_grey_box_and_networks(self, attack, seesaw, files):
        attack(*seesaw, "--grey-box", files / "seesaw.npz").is_error(2, "drop --grey-box")

    @pytest.mark.parametrize(
        ("words", "options"),
        [
            ("alpha is -1", ["--outer", "--alpha", -1]),
            ("alpha is -1", ["--inner", "--alpha", -1]),
            ("epsilon is -0.5", ["--inner", "--epsilon", -0.5]),
            ("--train", ["--outer", "--alpha", 6]),
            ("drop --alpha 2", ["--nominal", "--alpha", 2]),
            ("--outer", ["--inner", "--train"]),
            ("--true 12 is out of range", ["--nominal", "--true", 12]),
            ("not in the test set", ["--nominal", "--image", 10_000]),
        ],
    )
    def test_bundled_networks(self, attack, out, words, options):
        attack(*options, "--output", out).is_error(2, words)
        assert not out.exists()

    def test_too_few_networks_are_near(self, attack, out):
        attack("--outer", "--epsilon", 1e-9, "--output", out).is_error(1, "raise --epsilon or lower --alpha")
        assert not out.exists()

    def test_image_of_another_size(self, attack, files, out):
        np.save(files / "x.npy", np.array([0.2, 0.3]))
        arguments = ["--networks", files / "seesaw.npz", "--image", files / "x.npy", "--output", out]
        attack(*arguments).is_error(2, "(2,)")

    def test_networks_of_other_inputs_need_an_image(self, attack, files, out):
        attack("--networks", files / "seesaw.npz", "--output", out).is_error(2, "give --image")

    def test_networks_of_different_inputs(self, attack, files, out):
        networks = ["--networks", files / "seesaw.npz", files / "two.npz", "--image", files / "x.npy"]
        attack(*networks, "--output", out).is_error(2, "network 1 takes 2 inputs, network 0 takes 1")


class TestBadFiles:
    @pytest.mark.parametrize(
        ("pixels", "words"),
        [([np.nan], "NaN"), ([np.inf], "infinity"), ([1.5], "divide by 255"), ([-0.1], "expected [0, 1]")],
    )
    def test_pixels(self, attack, seesaw, files, out, pixels, words):
        np.save(files / "x.npy", np.array(pixels))
        attack(*seesaw).is_error(1, words)
        assert not out.exists()

    @pytest.mark.parametrize("name", ["seesaw.npz", "x.npy"])
    @pytest.mark.parametrize("damage", ["truncated", "empty", "text", "pickle", "objects", "missing", "folder"])
    def test_damage(self, attack, seesaw, files, out, name, damage):
        path = files / name
        content = path.read_bytes()
        path.unlink()
        match damage:
            case "truncated":
                path.write_bytes(content[: len(content) // 2])
            case "empty":
                path.write_bytes(b"")
            case "text":
                path.write_text("hello")
            case "pickle":
                path.write_bytes(pickle.dumps({"W0": 1}))
            case "objects" if name == "x.npy":
                np.save(path, np.array([{}], dtype=object), allow_pickle=True)
            case "objects":
                np.savez(path, W0=np.array([{}], dtype=object), b0=np.zeros(1))
            case "folder":
                path.mkdir()
        ran = attack(*seesaw)
        ran.is_error(1, name)
        assert ("pickle" in ran.err) == (damage in ("pickle", "objects"))
        assert not out.exists()

    def test_network_gives_another_class(self, attack, seesaw, files):
        np.save(files / "x.npy", np.array([0.9]))
        attack(*seesaw, "--true", 0, "--target", 1).is_error(1, "gives the image to class 1, not 0")

    def test_other_scenarios_may_give_another_class(self, attack, files, out):
        other = Network.from_arrays([[[1.0, -1.0]]], [[0.0, 0.9]])  # y0 = x, y1 = 0.9 - x: 0.2 is of class 1 already
        other.save(files / "other.npz")
        networks = [files / "seesaw.npz", files / "other.npz"]
        arguments = ["--image", files / "x.npy", "--output", out, "--json"]
        assert attack("--networks", *networks, *arguments).status == 0
        assert attack("--networks", *reversed(networks), *arguments, "--true", 0).status == 1

    def test_broken_grey_box(self, attack, tmp_path, out):
        (tmp_path / "box.npz").write_bytes(b"PK")
        attack("--grey-box", tmp_path / "box.npz", "--output", out).is_error(1, "box.npz")
        assert not out.exists()

    def test_grey_box_of_other_inputs(self, attack, files, out):
        ran = attack("--grey-box", files / "seesaw.npz", "--output", out)
        assert ran.status in (1, 2)
        ran.is_error(ran.status, "784")


class TestNoRoom:
    def test_a_file_is_in_the_way_of_the_folder(self, attack, seesaw, out):
        out.write_text("mine")
        attack(*seesaw).is_error(1, "cannot write")
        assert out.read_text() == "mine"

    def test_a_file_is_in_the_way_of_the_witnesses(self, attack, seesaw, out):
        out.mkdir()
        (out / "witnesses").write_text("mine")
        attack(*seesaw).is_error(1, "cannot write")
        assert everything(out) == ["witnesses"]

    def test_a_folder_is_in_the_way_of_the_rows(self, attack, seesaw, out):
        (out / "results.jsonl").mkdir(parents=True)
        ran = attack(*seesaw)
        assert ran.status == 1
        assert ran.err.count("\n") == 1
        assert "results.jsonl" in ran.err
        assert everything(out) == ["results.jsonl"]

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
    def test_no_permission(self, attack, seesaw, out):
        out.mkdir(mode=0o500)
        attack(*seesaw).is_error(1, "no permission")

    def test_no_licence(self, attack, seesaw, out, monkeypatch):
        def unlicensed(*_arguments):
            raise SolverError("Gurobi has no licence on this machine; use --solver scip")

        monkeypatch.setattr("arfj.attack.prove.solve", unlicensed)
        ran = attack(*seesaw, "--solver", "gurobi")
        assert (ran.status, ran.err) == (1, "error: Gurobi has no licence on this machine; use --solver scip\n")
        assert not [name for name in everything(out) if name != "results.jsonl"]

    def test_no_solver(self, attack, seesaw, monkeypatch):
        monkeypatch.setitem(sys.modules, "gurobipy", None)
        monkeypatch.delitem(sys.modules, "arfj.solver.gurobi", raising=False)
        ran = attack(*seesaw, "--solver", "gurobi")
        assert ran.status == 1
        assert "gurobi" in ran.err
        assert ran.err.count("\n") == 1


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

    def test_the_table_of_a_resumed_run_is_the_same(self, attack, seesaw, no_solve):
        first = attack(*seesaw[:-1]).out
        no_solve()
        assert attack(*seesaw[:-1]).out == first


def load_and_change(path, **arrays):
    with np.load(path) as archive:
        content = dict(archive)
    np.savez(path, **(content | arrays))


class TestBundled:
    def test_alpha_zero_is_nominal(self, attack, out):
        arguments = ["--true", 1, "--output", out, "--json"]
        documents = [attack(*kind, *arguments).results[0] for kind in (["--nominal"], ["--outer", "--alpha", 0])]
        for result in documents:
            assert (result["status"], result["alpha"], result["scenarios"]) == ("optimal", 0, 1)
        assert documents[0]["distance"] == pytest.approx(documents[1]["distance"], rel=1e-6)
        assert documents[0]["target"] == 0

    def test_inner_networks_come_from_the_seed(self, attack, out):
        arguments = ["--inner", "--alpha", 1, "--true", 1, "--output", out, "--json"]
        one, same, other = (attack(*arguments, "--seed", seed).results[0] for seed in (3, 3, 4))
        assert one == same
        assert one["witness"] != other["witness"]
        assert one["replay"]["hit"]

    @pytest.mark.slow
    def test_two_processes_give_what_one_gives(self, attack, tmp_path):
        np.save(tmp_path / "x.npy", bundled_images().nominal[1])
        results = []
        for jobs in (1, 2):
            arguments = ["--nominal", "--time-limit", 1e-3, "--output", tmp_path / str(jobs), "--json"]
            results.append(attack(*arguments, "--n-jobs", jobs))
        assert [ran.status for ran in results] == [0, 0]
        labels = [sorted(row["image"] for row in ran.results) for ran in results]
        assert labels[0] == labels[1]
        assert len(labels[0]) == 10
        for row in results[0].results + results[1].results:
            assert row["status"] in ("feasible", "unknown")
            assert row["reason"]


class TestGreyBox:
    def test_a_file(self, attack, tmp_path, out):
        bundled_nominal().save(tmp_path / "box.npz")
        arguments = ["--alpha", 1, "--true", 1, "--output", out, "--json"]
        (result,) = attack("--grey-box", tmp_path / "box.npz", *arguments).results
        assert (result["kind"], result["alpha"], result["scenarios"]) == ("outer", 1, 1)
        assert result["status"] == "optimal"
        assert replay(load_witness(result["witness"]), bundled_outer()[:1]).hit

    def test_a_callable_is_asked_for_probabilities_only(self):
        from arfj.attack import sampled

        asked = []

        def oracle(images):
            asked.append(images.shape)
            return bundled_nominal().probabilities(images)

        ensemble = sampled("outer", alpha=2, oracle=oracle).ensemble
        assert asked == [(50, 784)]
        assert not ensemble.nominal_included
        assert [n.fingerprint() for n in ensemble] == [n.fingerprint() for n in bundled_outer()[:2]]

    def test_needs_samples(self, attack, tmp_path, out):
        bundled_nominal().save(tmp_path / "box.npz")
        attack("--grey-box", tmp_path / "box.npz", "--alpha", 0, "--output", out).is_error(2, "--alpha 1 or more")

    def test_an_oracle_of_outputs_is_refused(self):
        from arfj.attack import sampled
        from arfj.errors import UsageError

        with pytest.raises(UsageError, match="not probabilities"):
            sampled("outer", alpha=1, oracle=bundled_nominal())


def started(*arguments):
    line = [sys.executable, "-m", "arfj.attack", *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
class TestInterrupt:
    def interrupted(self, out, *arguments, seconds):
        process = started("--output", out, *arguments)
        deadline = time.monotonic() + 30
        while not out.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(seconds)
        process.send_signal(signal.SIGINT)
        printed, said = process.communicate(timeout=30)
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
        line = [sys.executable, "-m", "arfj.attack", "--outer", "--n-jobs", "2", "--json", "--output", str(out)]
        process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        time.sleep(14)
        os.killpg(process.pid, signal.SIGINT)
        printed, said = process.communicate(timeout=60)
        assert process.returncode == 130, said
        results = json.loads(printed)["results"]
        rows = [json.loads(row) for row in (out / "results.jsonl").read_text().splitlines()]
        assert len(rows) == len(results)
        assert 1 <= len(results) < 10
        assert any(row["reason"] == "interrupted" and row["replay"]["hit"] for row in rows)

    def test_without_an_answer(self, out):
        printed = self.interrupted(out, "--nominal", "--formulation", "paper", "--true", HARD, seconds=1)
        row = printed.splitlines()[1]
        assert re.search("unknown|feasible", row)
        assert "interrupted" in row


HARD = 0
"""Its outer problem takes far longer than the interrupt."""


def test_the_dead_target_is_dead():
    assert DEAD_TARGET(np.linspace(0, 1, 11)[:, None])[:, 1].max() == 0


def test_an_error_of_the_solver_leaves_stdout_empty(attack, files, tmp_path, monkeypatch):
    """No document that looks like an answer: exit status 1 and one line."""

    def refuse(*_given, **_named):
        raise SolverError("the model is too large for this licence; use --solver scip")

    monkeypatch.setattr("arfj.attack.prove.solve", refuse)
    networks = ("--networks", files / "seesaw.npz", "--image", files / "x.npy", "--target", 1)
    attack(*networks, "--output", tmp_path / "out", "--json").is_error(1, "too large")


def test_a_second_run_is_never_worse_than_the_first(attack, files, out, monkeypatch):
    """It starts from the answer and the bound that are there, however little time it has."""
    given = ("--networks", files / "seesaw.npz", files / "neighbour.npz", "--image", files / "x.npy", "--output", out)
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


@pytest.mark.parametrize("solver", ["scip", "gurobi"])
@pytest.mark.parametrize("option", [("--time-limit", "inf"), ("--seed", 99999999999), ("--memory-limit", 1e30)])
def test_large_numbers(attack, files, out, solver, option):
    if not available(solver):
        pytest.skip(f"{solver} is not installed or has no licence")
    given = ("--networks", files / "seesaw.npz", "--image", files / "x.npy", "--output", out, "--json")
    (result,) = attack(*given, "--solver", solver, *option).results
    assert result["status"] == "optimal"


@pytest.mark.parametrize("name", ["²", "--5"])
def test_names_that_are_no_numbers(attack, files, out, name):
    attack("--networks", files / "seesaw.npz", f"--image={name}", "--output", out).is_error(1, "does not exist")
