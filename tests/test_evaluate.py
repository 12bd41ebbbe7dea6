"""The judge and the cross-check against answers computed by hand."""

import json
import math
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from processes import LIMIT

from arfj.cli import run
from arfj.errors import ArfjError, UsageError
from arfj.evaluate import Witness, cross_check, load_witness, replay
from arfj.evaluate.__main__ import main
from arfj.network import Network

IDENTITY = Network.from_arrays([np.eye(3)], [np.zeros(3)])


def constant(*numbers):
    """A network whose softmax is proportional to these numbers >= 1 at x = 0."""
    return Network.from_arrays([np.eye(3)], [[math.log(number) for number in numbers]])


def witness(x, true=0, target=1, gamma=0.2, nominal=None):
    x = np.asarray(x, dtype=float)
    start = np.zeros_like(x) if nominal is None else np.asarray(nominal, dtype=float)
    distance = float(np.abs(x - start).sum())
    return Witness(x, start, true, target, gamma, distance, distance)


# A: target, B: true, C: another class, D: a tie of true and target, which the first of them (true) wins.
FOUR = [constant(1, 5, 2), constant(6, 3, 1), constant(1, 2, 5), constant(4, 4, 2)]


class TestReplay:
    def test_known_answer(self):
        found = replay(witness([0.25, 0.5, 0.125], nominal=[0.5, 0.25, 0.125]), [IDENTITY, IDENTITY])
        assert found.hit
        assert found.distance == 0.5
        assert found.classes == (1, 1)
        assert found.margins == pytest.approx((0.2, 0.2), abs=1e-15)
        assert found.violation == 0

    @pytest.mark.parametrize(("short", "hit"), [(0.9e-6, True), (1.1e-6, False)])
    def test_margin_within_tolerance(self, short, hit):
        found = replay(witness([0.5, 0.6 - short, 0.1]), [IDENTITY])
        assert found.hit is hit
        assert found.violation == pytest.approx(short, rel=1e-6)

    @pytest.mark.parametrize(("short", "hit"), [(0.0, True), (0.9e-6, True), (1.1e-6, False), (1e-3, False)])
    def test_floor_of_the_output(self, short, hit):
        assert replay(witness([0.0, 1e-3 - short, 0.0]), [IDENTITY]).hit is hit

    @pytest.mark.parametrize(("lead", "hit"), [(0.0, False), (1e-3 - 1.1e-6, False), (1e-3 - 0.9e-6, True)])
    def test_gamma_zero_asks_for_a_lead(self, lead, hit):
        assert replay(witness([0.5, 0.5 + lead, 0.1], gamma=0.0), [IDENTITY]).hit is hit

    def test_tie_goes_to_the_first_class(self):
        tie = [0.5, 0.5, 0.1]
        assert not replay(witness(tie, true=0, target=1, gamma=1e-12), [IDENTITY]).hit
        assert replay(witness(tie, true=1, target=0, gamma=1e-12), [IDENTITY]).hit

    def test_one_missed_network_is_a_miss(self):
        found = replay(witness([0, 0, 0]), [FOUR[0], FOUR[1]])
        assert not found.hit
        assert found.classes == (1, 0)
        assert found.violation == pytest.approx(1.2 * math.log(6) - math.log(3))
        assert not replay(witness([0, 0, 0]), [FOUR[1], FOUR[0]]).hit

    def test_negative_outputs_of_a_linear_network(self):
        linear = Network.from_arrays([np.eye(2)], [[-3.0, -2.0]], "linear")
        found = replay(witness([0, 0]), [linear])
        assert found.classes == (1,)
        assert found.margins == pytest.approx((-2 + 1.2 * 3,))
        assert not found.hit

    def test_no_network_is_no_hit(self):
        with pytest.raises(UsageError, match="at least one network"):
            replay(witness([0, 1, 0]), [])

    @pytest.mark.parametrize("odd", [witness([0.0, 1.0]), witness([0, 1, 0], target=3), witness([0, 1, 0], true=7)])
    def test_what_does_not_fit(self, odd):
        with pytest.raises(UsageError, match=r"3|classes 0 to 2"):
            replay(odd, [IDENTITY])


class TestCrossCheck:
    def test_known_answer(self):
        check = cross_check(witness([0, 0, 0]), FOUR, "w").as_json()
        assert check == {
            "witness": "w",
            "networks": 4,
            "rate": {"target": 0.25, "true": 0.5, "other": 0.25},
            "probability": {
                "target": pytest.approx((0.625 + 0.3 + 0.25 + 0.4) / 4),
                "true": pytest.approx((0.125 + 0.6 + 0.125 + 0.4) / 4),
                "other": pytest.approx((0.25 + 0.1 + 0.625 + 0.2) / 4),
            },
            "weak_confidence": pytest.approx((0.5 - 0.3 + 0.125 + 0.0) / 4),
            "margin": pytest.approx((0.375 - 0.3 - 0.375 + 0.0) / 4),
            "certificate": {"fooled": 1, "networks": 4, "delta": 0.05, "probability": pytest.approx(1 - 0.95**0.25)},
        }

    def test_images_keep_their_shape(self):
        square = Network.from_arrays([np.eye(4)], [np.zeros(4)])
        assert cross_check(witness([[0, 1], [0, 0]]), [square]).rate.target == 1

    def test_needs_a_network(self):
        with pytest.raises(UsageError, match="at least one network"):
            cross_check(witness([0, 0, 0]), [])


class TestWitnessFile:
    def test_round_trip(self, tmp_path):
        path = tmp_path / "w.npz"
        before = Witness(np.array([[0.1, 1 / 3]]), np.array([[0.0, 1.0]]), 3, 2, 0.2, 0.75, 0.5)
        before.save(path)
        after = load_witness(path)
        assert np.array_equal(before.x, after.x)
        assert np.array_equal(before.nominal, after.nominal)
        assert (after.true, after.target, after.gamma, after.distance, after.bound) == (3, 2, 0.2, 0.75, 0.5)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"x": None}, "lacks x"),
            ({"bound": None, "true": None}, "lacks true, bound"),
            ({"x": [0.0, np.nan, 0.0]}, "NaN"),
            ({"x": [0.0, 1.5, 0.0]}, "leave"),
            ({"x": [0.0, 1.0]}, "expected the same"),
            ({"x": ["a", "b", "c"]}, "does not hold numbers"),
            ({"x": [1j, 0, 0]}, "does not hold numbers"),
            ({"target": 1.5}, "classes counted from 0"),
            ({"target": -1}, "classes counted from 0"),
            ({"target": 0}, "two classes"),
            ({"target": [1, 2]}, "does not hold numbers"),
            ({"target": np.inf}, "finite"),
            ({"true": np.nan}, "finite"),
            ({"gamma": np.nan}, "finite"),
            ({"gamma": -0.1}, "gamma"),
            ({"x": [], "nominal": []}, "expected the same"),
        ],
    )
    def test_odd_content(self, tmp_path, change, message):
        arrays = {"x": [0, 1, 0], "nominal": [0, 0, 0], "true": 0, "target": 1, "gamma": 0.2, "distance": 1, "bound": 1}
        arrays = {key: np.array(value) for key, value in (arrays | change).items() if value is not None}
        np.savez(tmp_path / "w.npz", **arrays)
        with pytest.raises(ArfjError, match=message) as caught:
            load_witness(tmp_path / "w.npz")
        assert "w.npz" in str(caught.value)


@pytest.fixture
def folder(tmp_path):
    for index, network in enumerate(FOUR):
        network.save(tmp_path / f"n{index}.npz")
    (tmp_path / "answers").mkdir()
    witness([0, 0, 0]).save(tmp_path / "answers" / "w.npz")
    return tmp_path


def networks(folder):
    return ["--networks", *(str(folder / f"n{index}.npz") for index in range(4))]


class TestCommand:
    def test_json_has_exactly_the_keys_of_the_interface(self, folder, capsys):
        path = str(folder / "answers" / "w.npz")
        assert run(main, [path, path, *networks(folder), "--json"]) == 0
        out, err = capsys.readouterr()
        document = json.loads(out)
        assert list(document) == ["results"]
        assert len(document["results"]) == 2
        keys = {"witness", "networks", "rate", "probability", "weak_confidence", "margin", "certificate"}
        assert document["results"][0].keys() == keys
        assert document["results"][0]["certificate"].keys() == {"fooled", "networks", "delta", "probability"}
        assert document["results"][0]["witness"] == path
        assert document["results"][0]["networks"] == 4
        assert document["results"][0]["rate"].keys() == {"target", "true", "other"}
        assert document["results"][0]["probability"].keys() == {"target", "true", "other"}
        assert err == ""

    def test_table_of_a_folder(self, folder, capsys):
        witness([1, 0, 0]).save(folder / "answers" / "v.npz")
        assert run(main, [str(folder / "answers"), *networks(folder)]) == 0
        out = capsys.readouterr().out
        assert out.index("v.npz") < out.index("w.npz") < out.index("mean")
        assert "25.0" in out
        assert "-0.0750" in out
        assert "next % >=: a lower bound" in out
        assert "confidence 1 - 0.05" in out
        assert "chosen without looking at them" in " ".join(out.split())

    def test_certified_share_is_rounded_down(self, folder, capsys):
        """One of four at delta 0.4: 1 - 0.6^(1/4) = 11.988... %, of which 11.9 is printed, and no mean of it."""
        witness([1, 0, 0]).save(folder / "answers" / "v.npz")
        assert run(main, [str(folder / "answers"), *networks(folder), "--delta", "0.4"]) == 0
        out = capsys.readouterr().out
        row, mean = (next(line for line in out.splitlines() if word in line) for word in ("-0.0750", "mean"))
        assert row.split("│")[-2].strip() == "11.9"
        assert mean.split("│")[-2].strip() == ""
        assert "confidence 1 - 0.4" in out

    def test_delta_of_the_document(self, folder, capsys):
        assert run(main, [str(folder / "answers"), *networks(folder), "--delta", "0.3", "--json"]) == 0
        (result,) = json.loads(capsys.readouterr().out)["results"]
        expected = {"fooled": 1, "networks": 4, "delta": 0.3, "probability": pytest.approx(1 - 0.7**0.25)}
        assert result["certificate"] == expected

    @pytest.mark.parametrize("delta", ["0", "1", "-0.1", "nan", "inf", "5%", "1e-400"])
    @pytest.mark.parametrize("form", [[], ["--json"]])
    def test_delta_that_is_none(self, folder, delta, form, capsys):
        assert run(main, [str(folder / "none.npz"), *networks(folder), f"--delta={delta}", *form]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert "delta" in err
        assert err.count("\n") == 1

    def test_help_starts_with_examples(self, capsys):
        with pytest.raises(SystemExit) as caught:
            run(main, ["--help"])
        assert caught.value.code == 0
        out = capsys.readouterr().out
        assert 0 < out.index("examples:") < out.index("positional arguments:")

    @pytest.mark.parametrize(
        "arguments", [[], ["w.npz"], ["--inner"], ["w.npz", "--inner", "--outer"], ["w.npz", "--network", "n"]]
    )
    def test_wrong_usage(self, arguments, capsys):
        assert run(main, arguments) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("error: ")
        assert err.count("\n") == 1

    @pytest.mark.parametrize("damage", ["truncated", "empty", "text", "pickle", "objects", "missing", "folder"])
    def test_broken_witness(self, folder, damage, capsys):
        path = folder / "answers" / "w.npz"
        data = path.read_bytes()
        path.unlink()
        match damage:
            case "truncated":
                path.write_bytes(data[: len(data) // 2])
            case "empty":
                path.write_bytes(b"")
            case "text":
                path.write_text("hello")
            case "pickle":
                path.write_bytes(pickle.dumps({"x": 1}))
            case "objects":
                np.savez(path, x=np.array([{}], dtype=object))
            case "folder":
                path.mkdir()
        assert run(main, [str(path), *networks(folder)]) == 1
        out, err = capsys.readouterr()
        assert out == ""
        assert err.count("\n") == 1
        assert "w.npz" in err
        assert ("pickle" in err) == (damage in ("pickle", "objects"))

    def test_witness_that_does_not_fit(self, folder, capsys):
        witness([0, 1, 0], target=3).save(folder / "answers" / "w.npz")
        assert run(main, [str(folder / "answers"), *networks(folder)]) == 2
        assert "target class 3" in capsys.readouterr().err

    @pytest.mark.parametrize("form", [(), ("--json",)])
    def test_outputs_that_overflow(self, folder, form, capsys):
        inputs, classes = FOUR[0].sizes[0], FOUR[0].classes
        weights = [np.zeros((inputs, 2)), np.full((2, classes), 1e200)]
        Network.from_arrays(weights, [np.full(2, 1e200), np.zeros(classes)], "linear").save(folder / "large.npz")
        assert run(main, [str(folder / "answers"), "--networks", str(folder / "large.npz"), *form]) == 2
        out, err = capsys.readouterr()
        assert (out, err.count("\n")) == ("", 1)
        assert "too large" in err


def command(*arguments, **options):
    # Buffered, as stdout is for users: what cannot be written is noticed at the flush.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    line = [sys.executable, "-m", "arfj.evaluate", *map(str, arguments)]
    return subprocess.run(line, check=False, text=True, env=environment, timeout=LIMIT, **options)


class TestProcess:
    def test_exit_status_and_streams(self, folder):
        done = command(folder / "answers", *networks(folder), "--json", capture_output=True)
        assert (done.returncode, done.stderr) == (0, "")
        json.loads(done.stdout)

    def test_verbose_shows_the_traceback_and_keeps_the_status(self, folder):
        done = command(folder / "none.npz", *networks(folder), "-v", capture_output=True)
        assert done.returncode == 1
        assert "Traceback" in done.stderr

    @pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")  # noqa: PTH110
    @pytest.mark.parametrize("form", [[], ["--json"]])
    def test_full_disk(self, folder, form):
        with open("/dev/full", "w") as full:  # noqa: PTH123
            done = command(folder / "answers", *networks(folder), *form, stdout=full, stderr=subprocess.PIPE)
        assert done.returncode == 1
        assert done.stderr == "error: the disk is full; free some space\n"

    @pytest.mark.parametrize("form", [[], ["--json"]])
    def test_reader_that_goes_away(self, folder, form):
        reader, writer = os.pipe()
        os.close(reader)
        done = command(folder / "answers", *networks(folder), *form, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        assert (done.returncode, done.stderr) == (0, "")

    def test_loads_no_heavy_module(self):
        heavy = {"tensorflow", "keras", "matplotlib", "pyscipopt", "gurobipy", "joblib"}
        code = f"import sys, arfj.evaluate.__main__; print(sorted({heavy} & set(sys.modules)))"
        done = subprocess.run([sys.executable, "-c", code], check=True, text=True, capture_output=True, timeout=LIMIT)
        assert done.stdout == "[]\n"
