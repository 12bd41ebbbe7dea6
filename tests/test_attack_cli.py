"""The command `python -m arfj.attack`: its document and its errors."""

import os
import pickle
import sys

import numpy as np
import pytest
from conftest import DEAD_TARGET, NEIGHBOUR_DISTANCE, SEESAW, SEESAW_DISTANCE, everything

from arfj.data import bundled_nominal, bundled_outer
from arfj.errors import SolverError
from arfj.evaluate import load_witness, replay
from arfj.network import Network
from arfj.solver import available

KEYS = {
    "kind", "true", "target", "alpha", "gamma", "scenarios", "status", "reason", "distance", "bound", "gap", "seconds",
    "nodes", "solver", "formulation", "variables", "binaries", "constraints", "witness", "replay",
}  # fmt: skip


class TestDocument:
    def test_keys_of_the_interface(self, attack, seesaw):
        ran = attack(*seesaw)
        assert ran.status == 0
        (result,) = ran.results
        assert result.keys() >= KEYS
        assert result["replay"].keys() >= {"hit", "distance", "classes", "margins"}
        assert (result["kind"], result["true"], result["target"], result["alpha"]) == ("given", 0, 1, 0)
        assert (result["gamma"], result["scenarios"]) == (0.2, 1)
        assert (result["solver"], result["formulation"]) == ("bab", "tight")
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
        assert result["solver"] == ("bab" if formulation == "tight" else "scip")  # there is no printed one for bab

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
            ("--train", ["--outer", "--alpha", 51]),
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

    def test_a_file_in_the_place_of_a_folder(self, attack, files, out):
        out.mkdir()
        (out / "witnesses").write_text("")
        arguments = ["--networks", files / "seesaw.npz", "--image", files / "x.npy", "--output", out]
        attack(*arguments).is_error(1, "witnesses")

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

    def test_grey_box_whose_outputs_overflow(self, attack, tmp_path, out):
        nominal = bundled_nominal()
        nominal.with_parameters(1e150 * nominal.parameters()).save(tmp_path / "box.npz")
        attack("--grey-box", tmp_path / "box.npz", "--output", out).is_error(2, "scale its weights down")

    def test_grey_box_of_other_classes(self, attack, tmp_path, out):
        Network.from_arrays([np.ones((784, 2))], [np.zeros(2)]).save(tmp_path / "box.npz")
        attack("--grey-box", tmp_path / "box.npz", "--output", out).is_error(2, "has 2 classes")

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


@pytest.mark.parametrize("kind", ["Outer", "given", None])
def test_a_kind_of_sampling_that_is_none(kind):
    from arfj.attack import sampled
    from arfj.errors import UsageError

    with pytest.raises(UsageError, match="names no sampling"):
        sampled(kind)


def test_the_dead_target_is_dead():
    assert DEAD_TARGET(np.linspace(0, 1, 11)[:, None])[:, 1].max() == 0


def test_an_error_of_the_solver_leaves_stdout_empty(attack, files, tmp_path, monkeypatch):
    """No document that looks like an answer: exit status 1 and one line."""

    def refuse(*_given, **_named):
        raise SolverError("the model is too large for this licence; use --solver scip")

    monkeypatch.setattr("arfj.attack.prove.solve", refuse)
    networks = ("--networks", files / "seesaw.npz", "--image", files / "x.npy", "--target", 1)
    attack(*networks, "--solver", "scip", "--output", tmp_path / "out", "--json").is_error(1, "too large")


@pytest.mark.parametrize("solver", ["bab", "scip", "gurobi"])
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
