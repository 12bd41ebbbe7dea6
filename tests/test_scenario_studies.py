"""The scenario experiments: smoke forms, committed rows, the document."""

import re
import shlex

import numpy as np
import pytest

from arfj.certify.scenario import Safe
from arfj.cli import run
from arfj.network import Network
from experiments.__main__ import _parser, main
from experiments.committed import shown
from experiments.registry import SCENARIO
from experiments.scenario import control, crowned, depth, digits, joint, linear, million, sizes
from experiments.scenario.common import DOCUMENT, ROWS
from experiments.scenario.trained import trained
from experiments.studies import Scale, read


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smoke")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits, "load_fashion_mnist", lambda: pytest.fail("the smoke form asked for Fashion-MNIST"))
        assert run(main, ["scenario", "--smoke", "--jobs", "1", "--out", str(folder)]) == 0
    return folder


class TestSmoke:
    def test_every_sheet_is_written(self, smoke):
        rows = read(smoke / "results.jsonl")
        names = [sheet.name for study in SCENARIO for sheet in study.sheets(rows)]
        assert len(names) == len(set(names)) == 8
        assert all((smoke / f"{name}.csv").is_file() for name in names)
        assert [sentence for study in SCENARIO for sentence in study.violations(rows)] == []

    def test_a_second_run_makes_nothing_anew(self, smoke, capsys):
        before = (smoke / "results.jsonl").read_bytes()
        assert run(main, ["scenario", "--smoke", "--jobs", "1", "--out", str(smoke)]) == 0
        capsys.readouterr()
        assert (smoke / "results.jsonl").read_bytes() == before

    def test_rows_of_errors_are_no_rows(self):
        rows = [{"key": f"scenario/{name}/x", "status": "error"} for name in ("sizes", "linear", "joint", "depth")]
        assert [study.sheets(rows) for study in SCENARIO] == [[]] * len(SCENARIO)


class TestViolations:
    def test_they_are_seen(self):
        row = sizes.measured(581, 0.05, 1e-5, 3) | {"key": "scenario/sizes/a", "published": 580}
        assert sizes.violations([row]) == ["the formula gives 581, not 580"]
        far = {"key": "scenario/linear/1", "radius": 1.0, "models": 100, "paper": -1.0, "hoeffding": -4.1}
        assert len(linear.violations([far | {"discarding": 0.0, "true": 1.0}])) == 1
        assert len(linear.violations([far | {"discarding": -2.0, "true": 1.0}])) == 2
        told = {"key": "scenario/joint/a", "method": "joint", "sizing": "exact", "bound": 0.3}
        assert joint.violations([told]) == ["the bound of the joint (exact) is 0.300"]
        net = {"key": "scenario/digits/n/network", "network": "n", "accuracy": 1.0, "radius": 0.1}
        pair = {
            "key": "scenario/digits/n/0.5",
            "network": "n",
            "noise": 0.5,
            "0.1": {"ours_bound": 0.0, "hoeffding": 0.0},
        }
        assert len(digits.violations([net, pair])) == 1
        assert digits.violations([net, pair | {"noise": 0.05}]) == []
        deep = {"key": "scenario/depth/3", "deep": {"bound": 0.0}} | {name: {"bound": 1.0} for name in depth.KEPT}
        assert len(depth.violations([deep])) == len(depth.KEPT)


class TestParts:
    def test_hoeffding_on_a_linear_network(self):
        """The formula of the paper: g - R sqrt(2 ln(1 / eps) w'w)."""
        network = Network.from_arrays([[[2.0, 0.0], [0.0, 1.0]]], [[0.0, 0.0]], "linear")
        x, safe = np.array([1.0, 0.5]), Safe.margin(2, 0)
        assert crowned.hoeffding(network, safe, x, 0.1, 0.1) == pytest.approx(1.5 - 0.1 * np.sqrt(2 * np.log(10) * 5))
        assert crowned.worst(network, safe, x, 0.1) == pytest.approx(1.5 - 0.3)
        assert crowned.certified_radius(network, safe, x) == pytest.approx(0.5, abs=1e-3)

    @pytest.mark.parametrize("kind", ["relu", "tanh"])
    def test_lines_lie_below_trained_networks(self, kind):
        images, labels, tests, truth = digits.data(Scale("smoke"))
        network = trained(images, labels, (6, 5), kind, epochs=40)
        assert np.mean(network.classify(tests) == truth) > 0.9
        x, safe = digits.asked(network, tests, truth)
        rows, constant = crowned.line(network, safe, x, 0.1)
        inputs = x + np.random.default_rng(0).uniform(-0.1, 0.1, (2000, 8))
        assert (inputs @ rows + constant <= network(inputs) @ safe.rows[0] + 1e-9).all()

    def test_the_controller_brings_the_state_back(self):
        """Without links that fail and with them; without control the system grows."""
        loop = control.loop()
        assert np.abs(loop(np.ones((1, 300)))).max() < 0.1
        assert np.abs(np.linalg.matrix_power(loop.system, 200)).max() > 10
        s = loop.shifts(np.ones((1, 15)))[0]
        assert np.array_equal(s, s.T)
        assert (s > 0).sum() == 30


@pytest.fixture(scope="module")
def rows():
    return read(ROWS)


@pytest.mark.slow
def test_many_samples_of_a_large_network(capsys):
    """The command behind the figures of PERFORMANCE.md, in a short form with batches as large."""
    assert run(million.main, ["--samples", "11508"]) == 0
    told = capsys.readouterr().out
    assert re.search(r"most memory (\d+) MB", told)
    assert re.search(r"processors: .* ratio \d+\.\d\d", told)
    assert run(million.main, ["--samples", "10"]) == 2


class TestCommitted:
    def test_they_are_complete_and_hold(self, rows):
        asked = {task.key for study in SCENARIO for stage in study.stages for task in stage(Scale("full"), ())}
        assert {row["key"] for row in rows} == asked
        assert [sentence for study in SCENARIO for sentence in study.violations(rows)] == []

    def test_the_document_shows_them(self, rows):
        text = DOCUMENT.read_text(encoding="utf-8")
        for study in SCENARIO:
            assert shown(study, rows, text) == text, "run python -m experiments scenario --write"
        for name in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
            assert (DOCUMENT.parent / name).is_file(), name
        drawn = [name for study in SCENARIO for name in study.figures(rows)]
        assert [name for name in drawn if f"figures/{name}.png" not in text] == []
        commands = [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("    python -m ")]
        for command in commands:
            _parser().parse_args(shlex.split(command)[3:])

    def test_some_are_made_again(self, rows):
        """Bit for bit where nothing but our own arithmetic decides, else closely."""
        found = {row["key"]: row for row in rows}
        for published, asked in sizes.PUBLISHED.items():
            again = sizes.measured(published, *asked)
            assert found[f"scenario/sizes/{published:05d}"].items() >= again.items()
        again = joint.measured("joint", "exact")
        assert found["scenario/joint/joint/exact"]["bound"] == pytest.approx(again["bound"], abs=1e-5)
        assert found["scenario/depth/03"]["1"]["bound"] == pytest.approx(depth.measured(3)["1"]["bound"], rel=1e-9)
