"""The experiments on bounds and verification, in their smoke modes; what they print is known by hand."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from arfj.cli import run
from arfj.network import Dense, Network
from arfj.region import Region
from arfj.report.store import Store
from experiments import bounds_quality, ensemble_bounds, gpu_check, tables, verify_benchmark
from experiments.scenario import device
from experiments.table_bundled import inserted

ROW = {
    "key": "b/n.onnx/p.vnnlib/arfj", "benchmark": "b", "onnx": "n.onnx", "vnnlib": "p.vnnlib", "tool": "arfj",
    "verdict": "unsat", "seconds": 1.0, "inside": 0.5, "expected": "unsat", "wrong": False, "threads": 1, "cpu": "C",
    "versions": {"python": "3"}, "time_limit": 60.0,
}  # fmt: skip
PEER = ROW | {"key": "b/n.onnx/p.vnnlib/vibecheck", "tool": "vibecheck", "seconds": 4.0, "inside": None}


class TestVerifyBenchmark:
    def test_smoke(self, capsys):
        assert run(verify_benchmark.main, ["--smoke"]) == 0
        assert "| smoke | arfj | 2 of 2 | 0 |" in capsys.readouterr().out

    def test_known_table(self):
        other = {"key": "o", "onnx": "m.onnx", "verdict": "timeout", "seconds": 61.0, "inside": 60.0}
        text = verify_benchmark.table([ROW | {"load": 0.5}, ROW | other | {"load": 1.25}, PEER])
        assert text.splitlines()[2:] == [
            "| b | arfj | 1 of 2 | 0 | 31.00 | 61.00 | 30.25 |",
            "| b | vibecheck | 1 of 1 | 0 | 4.00 | 4.00 | - |",
            "",
            "- b: arfj takes 0.25 times the seconds of vibecheck on 1 instances both decide.",
            "- C, 1 thread, python 3.",
            "- Load average before a process: median 0.9, at most 1.2; the measurement itself makes 1.",
        ]

    def test_performance_shows_the_committed_rows(self):
        rows = Store(verify_benchmark.ROWS).rows()
        if not rows:
            pytest.skip("not measured yet")
        text = tables.REPORT.read_text(encoding="utf-8")
        assert inserted(text, verify_benchmark.table(rows), verify_benchmark.MARK) == text
        assert not any(row["wrong"] for row in rows)

    def test_no_rows(self, tmp_path, capsys):
        assert run(verify_benchmark.main, ["--rows", str(tmp_path / "none.jsonl")]) == 1
        assert "--run" in capsys.readouterr().err

    def test_a_wrong_verdict_is_loud(self, tmp_path, capsys):
        path = tmp_path / "rows.jsonl"
        path.write_text(json.dumps(ROW | {"verdict": "sat", "wrong": True}) + "\n")
        assert run(verify_benchmark.main, ["--rows", str(path)]) == 1
        told = capsys.readouterr()
        assert "**1 WRONG**" in told.out
        assert "b/n.onnx/p.vnnlib/arfj is unsat, not sat" in told.err

    def test_a_verdict_is_held_against_the_expected_one_and_a_second_run_asks_no_more(
        self, tmp_path, monkeypatch, capsys
    ):
        verify_benchmark.smoke_instances(tmp_path / "acasxu")
        asked = []

        def ask(tool, _interpreter, instance, _seconds):
            asked.append((tool, instance.prop.name))
            return verify_benchmark.Answer("unsat", 1.0, 0.1, 3)

        monkeypatch.setattr(verify_benchmark, "ask", ask)
        monkeypatch.setattr(verify_benchmark, "versions", lambda _tool, _interpreter: {"python": "3"})
        arguments = ["--rows", str(tmp_path / "r.jsonl"), "--instances", str(tmp_path), "--peer", "x"]
        for _ in range(2):
            assert run(verify_benchmark.main, [*arguments, "--run", "acasxu-24"]) == 1
            assert asked == [
                ("arfj", "far.vnnlib"),
                ("vibecheck", "far.vnnlib"),
                ("vibecheck", "near.vnnlib"),
                ("arfj", "near.vnnlib"),
            ]
        assert "2 WRONG" in capsys.readouterr().err
        rows = Store(tmp_path / "r.jsonl").rows()
        assert [(row["wrong"], row["first"]) for row in rows] == [
            (False, True), (False, False), (True, True), (True, False)
        ]  # fmt: skip

    @pytest.mark.parametrize(
        ("out", "verdict"), [("sat\n((X_0 0))\n", "sat"), ("unsat\n", "unsat"), ("timed-out\n", "timeout"), ("", None)]
    )
    def test_the_peers_first_line_is_its_verdict(self, out, verdict):
        answer = verify_benchmark._theirs(out, "x\n[vibecheck] verdict: sat  (2.48s)\n", 3.0)
        assert (answer and answer.verdict) == verdict
        assert answer is None or answer.inside == 2.48

    def test_a_network_that_cannot_be_read_is_an_error_with_its_line(self, tmp_path):
        verify_benchmark.smoke_instances(tmp_path / "tiny")
        (tmp_path / "tiny" / "abs.onnx").write_bytes(b"nothing")
        instance = verify_benchmark.instances(tmp_path / "tiny")[0]
        answer = verify_benchmark.ask("arfj", sys.executable, instance, 5.0)
        assert answer.verdict == "error"
        assert answer.message.startswith("error: ")
        assert str(tmp_path) not in answer.message

    def test_instances_are_spread_evenly_and_must_exist(self, tmp_path):
        names = [f"{index}.vnnlib" for index in range(10)]
        (tmp_path / "n.onnx.gz").write_bytes(b"")
        for name in names:
            (tmp_path / name).write_bytes(b"")
        lines = "".join(f"n.onnx,{name},unknown,nobody knows\n" for name in names)
        (tmp_path / "verdicts.csv").write_text("onnx,vnnlib,verdict,basis\n" + lines)
        chosen = verify_benchmark.instances(tmp_path, 4)
        assert [instance.prop.name for instance in chosen] == ["0.vnnlib", "2.vnnlib", "5.vnnlib", "7.vnnlib"]
        assert {instance.expected for instance in chosen} == {None}
        assert chosen[0].network.name == "n.onnx.gz"
        (tmp_path / "3.vnnlib").unlink()
        with pytest.raises(verify_benchmark.ArfjError, match="does not exist"):
            verify_benchmark.instances(tmp_path)

    def test_run_needs_a_folder(self, capsys):
        assert run(verify_benchmark.main, ["--run", "mnistfc"]) == 2
        assert "--instances" in capsys.readouterr().err


class TestBoundsQuality:
    def test_smoke(self, capsys):
        assert run(bounds_quality.main, ["--smoke"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split("|")[1].strip() for line in lines[2:]] == ["0.5", "1.5"]

    def test_performance_shows_the_committed_rows(self):
        text = tables.REPORT.read_text(encoding="utf-8")
        shown = bounds_quality.table(Store(bounds_quality.ROWS).rows())
        assert inserted(text, shown, bounds_quality.MARK) == text

    def test_alpha_crown_closes_most_of_the_gap_everywhere(self):
        rows = Store(bounds_quality.ROWS).rows()
        assert len(rows) == 6 * 10 * len(bounds_quality.RADII)
        assert min(bounds_quality.closed([row]) for row in rows) >= 0.7

    def test_a_program_known_by_hand(self):
        """y = relu(x) + relu(-x) on [-1, 1]: at x = 0 both triangles reach up to 1/2."""
        layers = (Dense(np.array([[1.0, -1.0]]), np.zeros(2)), Dense(np.ones((2, 1)), np.zeros(1), "linear"))
        region = Region(np.zeros(1), -np.ones(1), np.ones(1))
        bounds = bounds_quality.linear_program_bounds(Network(layers), region)
        assert bounds.lower[0] == pytest.approx([-1, -1])
        assert bounds.upper[0] == pytest.approx([1, 1])
        assert bounds.lower[1] == pytest.approx([0])
        assert bounds.upper[1] == pytest.approx([1])  # (1 + x) / 2 + (1 - x) / 2

    @pytest.mark.parametrize("radius", [0.3, 1.0, np.inf])
    def test_no_sample_leaves_the_programs_bounds_and_no_bound_is_narrower(self, radius):
        rng = np.random.default_rng(1)
        layers = tuple(
            Dense(rng.normal(size=size), rng.normal(size=size[1]), kind)
            for size, kind in (((5, 4), "relu"), ((4, 4), "relu"), ((4, 2), "linear"))
        )
        network, centre = Network(layers), rng.uniform(size=5)
        region = Region.around(centre, radius)
        bounds = bounds_quality.linear_program_bounds(network, region)
        points = np.clip(centre + rng.laplace(size=(4000, 5)) * 0.3, 0, 1)
        inside = points[np.abs(points - centre).sum(axis=1) <= radius]
        values = network.graph().values(inside)
        for before, low, up in zip(values[1::2], bounds.lower, bounds.upper, strict=True):
            assert (before >= low - 1e-6).all()
            assert (before <= up + 1e-6).all()
        alpha = bounds_quality.METHODS["alpha-crown"](network, region)
        for layer in range(3):
            assert (bounds.lower[layer] >= alpha.lower[layer] - 1e-6).all()
            assert (bounds.upper[layer] <= alpha.upper[layer] + 1e-6).all()


class TestGpuCheck:
    ABSENT = ("rich", "pyscipopt", "joblib", "threadpoolctl", "onnxruntime", "tensorflow", "gurobipy", "matplotlib")

    @pytest.mark.slow
    def test_smoke_without_any_package_but_four(self, tmp_path):
        pytest.importorskip("jax")
        code = (
            f"import sys\nsys.modules.update(dict.fromkeys({self.ABSENT!r}))\n"
            "from arfj.cli import run\nfrom experiments import gpu_check\nsys.exit(run(gpu_check.main))"
        )
        root = Path(gpu_check.__file__).parent.parent
        command = [sys.executable, "-W", "error", "-c", code, "--smoke", "--output", str(tmp_path / "o.json")]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        document = json.loads((tmp_path / "o.json").read_text())
        assert json.loads(done.stdout.splitlines()[-1]) == document
        assert document["wrong"] == []
        assert document["compile_seconds"] > 0
        assert [row["verdict"] for row in document["measured"] if row["what"] == "instance"] == ["unsat", "sat"]
        engines = {(row["what"], row["engine"]) for row in document["measured"] if "rate" in row}
        assert engines == {(what, by) for what in ("bounds", "branches") for by in ("numpy", "jax")} | {
            ("largest batch", "jax"), ("samples", "numpy"), ("samples", "jax"), ("noise, one thread", "numpy")
        }  # fmt: skip
        assert "| 12-24-3 | 12 | bounds | jax | 16 |" in done.stdout
        assert "| 12-24-3 | - | samples | jax | 4096 |" in done.stdout

    def test_without_a_gpu_it_says_how_to_go_on(self, capsys):
        jax = pytest.importorskip("jax")
        if jax.default_backend() != "cpu":
            pytest.skip("there is a GPU")
        assert run(gpu_check.main, []) == 2
        assert "--smoke" in capsys.readouterr().err

    def test_problems_are_true_and_open(self):
        given = gpu_check.problem(gpu_check.SMOKE)
        assert given.reduced.bounds.unstable == pytest.approx(gpu_check.SMOKE.unstable, abs=3)
        assert (given.reduced.bounds.lower[-1] < 0).all()
        points = np.random.default_rng(2).uniform(given.region.lower, given.region.upper, size=(2000, 12))
        assert (given.margins.graph(points) > 0).all()

    def test_the_points_are_in_their_subproblems(self):
        given = gpu_check.problem(gpu_check.SMOKE)
        chosen = gpu_check.subproblems(given, 64)
        before = given.reduced.graph.values(chosen.points)[1]
        assert (before * chosen.signs >= 0).all()
        assert np.abs(chosen.signs).sum() > 64

    @pytest.mark.parametrize(("moved", "found"), [(0.0, 0), (-1e-3, 1), (1e3, 2)])
    def test_bounds_that_are_no_bounds_are_seen(self, monkeypatch, moved, found):
        given = gpu_check.problem(gpu_check.SMOKE)
        search = gpu_check.Problem.search

        def moving(self, engine, batch):
            if engine == "numpy":
                return search(self, engine, batch)
            made = gpu_check.PhaseSearch(self.margins, self.reduced, self.region, "numpy", "float32", batch)
            program = made.program
            made.program = lambda *a: replace(answer := program(*a), bound=answer.bound + moved)
            return made

        monkeypatch.setattr(gpu_check.Problem, "search", moving)
        check = gpu_check.Check(np.inf)
        gpu_check.agreement(check, {"network": "n"}, given, 16)
        assert len(check.wrong) == found

    @pytest.mark.parametrize(("moved", "wrong"), [(1e-12, 0), (1e-6, 1)])
    def test_certificates_that_differ_are_seen(self, monkeypatch, moved, wrong):
        pytest.importorskip("jax")
        asked = device.asked

        def moving(source, safe, engine, samples):
            found = asked(source, safe, engine, samples)
            return replace(found, bound=found.bound + moved) if engine == "jax" else found

        monkeypatch.setattr(device, "asked", moving)
        check = gpu_check.Check(np.inf)
        gpu_check.samples(check, device.SMOKE)
        assert len(check.wrong) == wrong
        assert len(check.records) == 4
        assert "differs from NumPy's by" in gpu_check.table(check.records)


class TestEnsembleBounds:
    def test_smoke(self, capsys):
        assert run(ensemble_bounds.main, ["--smoke"]) == 0
        assert "| 10 | 0." in capsys.readouterr().out

    def test_the_report_shows_the_rows(self):
        text = tables.REPORT.read_text(encoding="utf-8")
        rows = Store(ensemble_bounds.ROWS).rows()
        assert len(rows) == 10 * len(ensemble_bounds.RADII)
        assert inserted(text, ensemble_bounds.table(rows), ensemble_bounds.MARK) == text

    def test_one_call_is_nearly_as_good(self):
        for row in Store(ensemble_bounds.ROWS).rows():
            assert row["crown"] - row["together"] > 0.7 * (row["crown"] - row["alpha"])
