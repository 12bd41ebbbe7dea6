"""The attack's benchmark: rows written here give known tables, and the smoke mode measures instances known by hand."""

import json

import numpy as np
import pytest

from arfj.cli import run
from arfj.errors import ArfjError, SolverError
from arfj.report.store import Store
from experiments import attack_benchmark, tables
from experiments.attack_benchmark import MARK, SUITES, main
from experiments.attacks import alpha, cores, formulations, growth, measure, plots, seeds, ten, warm
from experiments.attacks import rows as told
from experiments.attacks.measure import Trace, run_cases, thinned
from experiments.attacks.plan import Instance, Plan, tiny_networks
from experiments.table_bundled import inserted

ROW = {
    "key": "ten/scip/1", "image": "00002", "kind": "outer", "true": 1, "target": 0, "alpha": 5, "gamma": 0.2,
    "scenarios": 6, "active": 4, "status": "optimal", "reason": "", "distance": 10.0, "bound": 10.0, "gap": 0.0,
    "seconds": 12.25, "nodes": 7, "solver": "scip", "formulation": "tight", "binaries": 30, "time_limit": 600.0,
    "replay": {"hit": True, "distance": 10.0},
}  # fmt: skip
OPEN = {"status": "feasible", "reason": "time limit reached", "bound": 7.5, "gap": 0.25, "seconds": 600.7}
MACHINE = {
    "machine": {"cpu": "C", "cores": 2, "versions": {"python": "3", "numpy": "2"}, "solver": "SCIP 10"},
    "jobs": 2,
}
MACHINE_LINE = "- C, 2 cores, 2 processes, python 3, numpy 2, SCIP 10."


def rows_file(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def body(table):
    """A table without its head."""
    return table.splitlines()[2:]


class TestTables:
    def test_ten(self):
        two = ROW | {"key": "ten/scip/2", "image": "00001", "true": 2, "target": 1, **OPEN}
        other = ROW | {"key": "ten/gurobi/1", "solver": "gurobi", "seconds": 3.0, "distance": 9.99999}
        whole = {"key": "ten/scip/together", "solver": "scip", "status": "feasible", "seconds": 301.0, "images": 10}
        assert body(ten.table([ROW | MACHINE, two, other, whole | {"optimal": 9, "jobs": 2}])) == [
            "| 00002 | 1 → 0 | 9.99999 | 12.2 | 3.0 |",
            "| 00001 | 2 → 1 | 10.00000 | ≥ 600 (gap 25.00 %) | - |",
            "",
            "- scip: 1 of 2 optimal, 2 replayed hits; 301.0 s wall clock for all 10 by 2 processes (goal: all optimal "
            "within 300 s, missed).",
            "- gurobi: 1 of 1 optimal, 1 replayed hits; not all ten together.",
            MACHINE_LINE,
        ]

    def test_cores(self):
        names = {"networks": "8-8-8", "machine": MACHINE["machine"], "jobs": 1}
        one = ROW | names | {"key": "cores/8-8-8/5/1/1", "processes": 1}
        two = one | {"key": "cores/8-8-8/5/1/2", "processes": 2, "seconds": 5.0}
        more = one | OPEN | {"key": "cores/16-16-16/5/4/2", "processes": 2, "networks": "16-16-16"}
        assert body(cores.table([more, two, one])) == [
            "| 8-8-8 | 5 | 1 → 0 | 1 | optimal | 12.2 | 7 | 10.00000 | 10.00000 | 0.00 % | - |",
            "| 8-8-8 | 5 | 1 → 0 | 2 | optimal | 5.0 | 7 | 10.00000 | 10.00000 | 0.00 % | 2.45 |",
            "| 16-16-16 | 5 | 1 → 0 | 2 | feasible | 600.7 | 7 | 10.00000 | 7.50000 | 25.00 % | - |",
            "",
            "- C, 2 cores, 1 process, python 3, numpy 2, SCIP 10.",
        ]

    @pytest.mark.parametrize(
        ("paper", "tight", "cell", "mean"),
        [
            ({"seconds": 80.0}, {"seconds": 5.0}, "16.00", "16.00"),
            (OPEN, {"seconds": 6.0}, "≥ 100.00", "≥ 100.00; paper open on 1, counted as the limit"),
            (
                {"seconds": 60.0},
                OPEN,
                "0.10 (tight open)",
                "0.10; tight open on class 1 with a gap of 25.00 %, counted as the limit, so that the mean bounds "
                "nothing",
            ),
            (
                OPEN,
                OPEN,
                "1.00 (tight open)",
                "1.00; paper open on 1, counted as the limit; tight open on class 1 with a gap of 25.00 %, counted as "
                "the limit, so that the mean bounds nothing",
            ),
        ],
    )
    def test_formulations(self, paper, tight, cell, mean):
        rows = [
            ROW | {"key": f"formulation/outer/{name}/1"} | facts
            for name, facts in (("paper/scip", paper), ("tight/bab", tight))
        ]
        first, empty, last = body(formulations.table(rows))
        assert first.split(" | ")[6] == cell
        assert (empty, last) == ("", f"- outer, bab: geometric mean of 1 ratios {mean}.")

    def test_formulations_with_other_limits_or_without_a_pair_give_no_ratio(self):
        paper = ROW | {"key": "formulation/nominal/paper/scip/1", "kind": "nominal"}
        tight = paper | {"key": "formulation/nominal/tight/scip/1", "time_limit": 60.0, **OPEN}
        alone = paper | {"key": "formulation/nominal/paper/scip/4", "true": 4, "target": 3}
        assert body(formulations.table([alone, paper, tight])) == [
            "| nominal | scip | scip | 1 → 0 | 12.2 | ≥ 60 (gap 25.00 %) | - | 7 | 7 |",
            "| nominal | scip | scip | 4 → 3 | 12.2 | - | - | 7 | - |",
        ]

    def test_the_mean_of_ratios_is_geometric(self):
        rows = [
            ROW
            | {"key": f"formulation/nominal/{name}/scip/{true}", "kind": "nominal", "true": true, "seconds": seconds}
            for name, true, seconds in (("paper", 1, 2.0), ("tight", 1, 1.0), ("paper", 4, 8.0), ("tight", 4, 1.0))
        ]
        assert formulations.table(rows).endswith("- nominal, scip: geometric mean of 2 ratios 4.00.")

    def test_alpha(self):
        late = ROW | {"key": "alpha/scip/20/1", "alpha": 20, "scenarios": 21, "active": 9, **OPEN}
        error = {"key": "alpha/gurobi/20/4", "true": 4, "alpha": 20, "solver": "gurobi", "status": "error", "gap": None}
        rows = [late | MACHINE, late | {"key": "alpha/scip/20/4", "true": 4, "seconds": 119.0, "status": "optimal"}]
        assert body(alpha.table([*rows, error | {"reason": "too large", "seconds": 0.1}])) == [
            "| 20 | 4 | gurobi | too large | - | - | - | - | - |",
            "| 20 | 1 → 0 | scip | feasible | 600.7 | 9 of 21 | 10.00000 | 7.50000 | 25.00 % |",
            "| 20 | 4 → 0 | scip | optimal | 119.0 | 9 of 21 | 10.00000 | 7.50000 | 25.00 % |",
            "",
            "- alpha = 20: 1 of 3 optimal within 120 s (goal: all).",
            MACHINE_LINE,
        ]

    def test_growth(self):
        six = ROW | {"key": "growth/conv/six/scip/1", "networks": "conv", **OPEN}
        alone = ROW | {"key": "growth/16-16-16/nominal/scip/4", "networks": "16-16-16", "true": 4, "target": 3}
        assert body(growth.table([six, alone | {"time_limit": 300.0}])) == [
            "| 16-16-16 | nominal | scip | 4 → 3 | optimal | 12.2 | 4 of 6 | 10.00000 | 10.00000 | 0.00 % | 30 |",
            "| conv | six | scip | 1 → 0 | feasible | 600.7 | 4 of 6 | 10.00000 | 7.50000 | 25.00 % | 30 |",
            "",
            "- 16-16-16, nominal, scip: 1 of 1 closed within 300 s, 1 replayed hits, largest gap 0.00 %.",
            "- conv, six, scip: 0 of 1 closed within 600 s, 1 replayed hits, largest gap 25.00 %.",
        ]

    def test_warm(self):
        """Held against the proven distance of `ten`, elsewhere against the best answer; a miss is no answer."""
        found = {"status": "feasible", "solver": None, "seconds": 4.5, "time_limit": 5.0, "bound": None}
        names = {"kind": "outer", "alpha": 5, "gamma": 0.2}
        rows = [
            {"key": f"warm/{seed}/{true}", "true": true, "target": true - 1, "seed": seed, "distance": distance}
            | found
            | names
            | {"replay": {"hit": hit}}
            for seed, true, distance, hit in [
                (0, 1, 10.4, True), (1, 1, 12.0, True), (0, 2, 8.0, True), (1, 2, 8.4, True), (2, 1, 1.0, False)
            ]
        ]  # fmt: skip
        assert body(warm.table([ROW, *rows])) == [
            "| 1 → 0 | 10.00000 | yes | 1.0400 | 1.2000 | - |",
            "| 2 → 1 | 8.00000 | no | 1.0000 | 1.0500 | - |",
            "",
            "- 4 of 5 answers fool all networks by replay; seconds: at most 4.5, asked for 5.",
            "- Distance by the best known: median 1.0450 (goal: within 1.05, reached), "
            "worst 1.2000 (goal: within 1.15, missed).",
        ]

    def test_seeds(self):
        rows = [
            ROW | {"key": f"seeds/scip/{seed}/1", "seed": seed, "seconds": seconds}
            for seed, seconds in ((0, 10.0), (1, 30.0), (2, 20.0))
        ]
        assert body(seeds.table(rows)) == [
            "| scip | 1 → 0 | 10.00000 | 10.0 | 30.0 | 20.0 | 20.0 | 3.00 |",
            "",
            "- scip: medians of 1 images, 20.0 s in all.",
        ]
        late = ROW | {"key": "seeds/scip/2/1", "seed": 2, **OPEN}
        assert body(seeds.table([*rows[:2], late]))[0].endswith("| ≥ 600 (gap 25.00 %) | 30.0 | ≥ 60.00 |")

    def test_seeds_take_the_cheap_images_of_ten(self):
        rows = [ROW, ROW | {"key": "ten/scip/2", "seconds": 60.5}, ROW | {"key": "ten/scip/4", **OPEN, "seconds": 9.0}]
        assert seeds.cheap(rows, "scip") == [1]
        assert [case.key for case in seeds.cases(Plan(solvers=("scip",)), rows)] == [
            "seeds/scip/0/1", "seeds/scip/1/1", "seeds/scip/2/1"
        ]  # fmt: skip

    def test_performance_shows_the_committed_rows(self):
        text = tables.REPORT.read_text(encoding="utf-8")
        rows = told.last(Store(attack_benchmark.ROWS).rows())
        for name, table in attack_benchmark.tables(rows).items():
            assert inserted(text, table, f"{MARK}:{name}") == text, "run python -m experiments.attack_benchmark --write"
        told.check(rows)

    def test_write(self, tmp_path, monkeypatch, capsys):
        report = tmp_path / "PERFORMANCE.md"
        monkeypatch.setattr(tables, "REPORT", report)
        report.write_text("".join(f"<!-- {MARK}:{name} -->\nold\n<!-- /{MARK}:{name} -->\n" for name in SUITES))
        assert run(main, ["--rows", str(rows_file(tmp_path / "r.jsonl", ROW)), "--write"]) == 0
        text = report.read_text()
        assert "old" not in text
        assert "<!-- attack_benchmark:ten -->\n| image | true → target | distance | scip s |\n" in text
        assert text.count(told.MISSING) == len(SUITES) - 1 == capsys.readouterr().out.count(told.MISSING)

    def test_short_limits_are_not_written(self, tmp_path, monkeypatch, capsys):
        """Nothing is measured, nothing written, whatever file the rows are for."""
        report, rows = tmp_path / "PERFORMANCE.md", tmp_path / "r.jsonl"
        monkeypatch.setattr(tables, "REPORT", report)
        monkeypatch.setattr(measure, "solved", lambda _case: pytest.fail("solved"))
        monkeypatch.setattr(ten, "_asked", lambda *_: pytest.fail("solved"))
        report.write_text("".join(f"<!-- {MARK}:{name} -->\nold\n<!-- /{MARK}:{name} -->\n" for name in SUITES))
        before = report.read_bytes()
        assert run(main, ["--short", "--rows", str(rows), "--write", "--plot", str(tmp_path / "plots")]) == 2
        assert "leave out --write or --short" in capsys.readouterr().err
        assert report.read_bytes() == before
        assert [path.name for path in tmp_path.iterdir()] == [report.name]


class TestChecks:
    @pytest.mark.parametrize(
        ("other", "wrong"),
        [
            ({"distance": 10.00001, "bound": 10.00001}, False),
            ({"distance": 10.1, "bound": 10.1}, True),  # an optimum that the first row beats
            ({"distance": 10.1, "bound": 10.1, "alpha": 10}, False),  # another question
            ({"distance": 10.1, "bound": 10.1, "networks": "conv"}, False),
            ({"distance": 10.1, "bound": 10.1, "networks": "8-8-8"}, True),
            ({"distance": 12.0, "bound": 9.0, "status": "feasible"}, False),
            ({"distance": None, "bound": 11.0, "status": "unknown", "replay": None}, True),
            ({"distance": None, "bound": 0.0, "status": "infeasible", "replay": None}, True),
        ],
    )
    def test_rows_that_contradict_each_other_are_loud(self, tmp_path, capsys, other, wrong):
        path = rows_file(tmp_path / "r.jsonl", ROW, ROW | {"key": "formulation/outer/paper/scip/1"} | other)
        assert run(main, ["--rows", str(path)]) == int(wrong)
        assert ("WRONG, an answer lies below" in capsys.readouterr().err) == wrong

    def test_an_answer_that_does_not_replay_contradicts_nothing(self):
        miss = ROW | {"key": "ten/gurobi/1", "distance": 5.0, "bound": 5.0, "replay": {"hit": False}}
        told.check([ROW, miss])
        with pytest.raises(ArfjError, match="1 WRONG"):
            told.check([ROW, miss | {"replay": {"hit": True}}])

    @pytest.mark.parametrize(
        "options", [["--true", "10"], ["--limit", "0"], ["--jobs", "0"], ["--run", "all"], ["--short"]]
    )
    def test_wrong_usage(self, options):
        assert run(main, options) == 2


class TestMeasuring:
    def test_smoke(self, tmp_path, capsys):
        """Every suite on questions whose least distance is 19/30."""
        assert run(main, ["--smoke", "--plot", str(tmp_path)]) == 0
        printed = capsys.readouterr().out
        assert "| x | 0 → 1 | 0.63333 |" in printed
        assert "- bab: 1 of 1 optimal, 1 replayed hits; " in printed
        assert "- outer, bab: geometric mean of 1 ratios " in printed
        assert "| 5 | 0 → 1 | bab | optimal |" in printed
        assert "| 16-16-16 | six | bab | 0 → 1 | optimal |" in printed
        assert "| 0 → 1 | 0.63333 | yes | 1.0000 | 1.0000 | 1.0000 |" in printed
        assert "- bab: medians of 1 images, " in printed
        assert told.MISSING not in printed
        assert {path.name for path in tmp_path.iterdir()} == {
            "alpha.png", "traces_formulation.png", "traces_alpha.png", "traces_growth.png", "traces_seeds.png"
        }  # fmt: skip

    def test_a_second_run_solves_no_more(self, tmp_path, monkeypatch):
        asked = []

        def solved(case):
            asked.append(case.key)
            if case.key.endswith("/2/4"):
                raise SolverError("too large")
            return ROW | {"status": "feasible"}

        monkeypatch.setattr(measure, "solved", solved)
        store = Store(tmp_path / "r.jsonl")
        plan = Plan("short", limit=9.0)
        for _ in range(2):
            run_cases(store, plan, alpha.cases(plan))
        assert asked == ["alpha/bab/1/1", "alpha/bab/1/4", "alpha/bab/2/1", "alpha/bab/2/4", "alpha/bab/2/4"]
        row = store.find("alpha/bab/2/4")
        assert (row["status"], row["reason"], row["time_limit"]) == ("error", "too large", 9.0)
        assert set(row["machine"]["versions"]) == {"python", "arfj", "numpy", "scipy"}
        run_cases(store, Plan("short", limit=5.0, only="1/1"), alpha.cases(Plan("short", limit=5.0)))
        assert len(asked) == 5  # there is a row with a larger limit
        run_cases(store, Plan("short", limit=10.0, only="1/1"), alpha.cases(Plan("short", limit=10.0)))
        assert asked[5:] == ["alpha/bab/1/1"]

    def test_what_is_interrupted_is_not_kept(self, tmp_path, monkeypatch):
        monkeypatch.setattr(measure, "solved", lambda _case: ROW | {"interrupted": True})
        store = Store(tmp_path / "r.jsonl")
        with pytest.raises(KeyboardInterrupt):
            run_cases(store, Plan("short"), alpha.cases(Plan("short")))
        assert store.rows() == []

    def test_ten_is_one_command_a_solver_and_is_not_asked_again(self, tmp_path, monkeypatch):
        lines = []

        def asked(line, _timeout):
            lines.append(line)
            results = [
                ROW | {"true": true, "replay": {"hit": True, "distance": 1.0, "margins": [0]}} for true in ten.ALL
            ]
            return (results, "") if "--true" not in line else (results[3:4], "")

        monkeypatch.setattr(ten, "_asked", asked)
        store = Store(tmp_path / "r.jsonl")
        for _ in range(2):
            ten.measure(Plan(jobs=2, solvers=("scip",)), store)
        assert len(lines) == 1
        assert lines[0][1:14] == [
            "-m", "arfj.attack", "--outer", "--alpha", "5", "--solver", "scip", "--time-limit", "600", "--n-jobs", "2",
            "--json", "--output",
        ]  # fmt: skip
        rows = store.rows()
        assert [row["key"] for row in rows] == [*(f"ten/scip/{true}" for true in ten.ALL), "ten/scip/together"]
        assert rows[0]["replay"] == {"hit": True, "distance": 1.0}
        assert (rows[-1]["optimal"], rows[-1]["hits"], rows[-1]["images"]) == (10, 10, 10)
        ten.measure(Plan(solvers=("scip",), true=(3,), limit=700.0), store)
        assert lines[1][6:8] == ["--true", "3"]
        assert store.rows()[-1]["key"] == "ten/scip/3"

    def test_a_command_that_fails_is_an_error_with_its_last_line(self, tmp_path, monkeypatch):
        monkeypatch.setattr(ten, "command", lambda *_: [ten.sys.executable, "-c", "raise SystemExit('no licence')"])
        store = Store(tmp_path / "r.jsonl")
        ten.measure(Plan("tiny"), store)
        (row,) = store.rows()
        assert (row["key"], row["status"], row["reason"]) == ("ten/bab/together", "error", "no licence")
        assert ten.table([row]).endswith(
            "- bab: 0 of 0 optimal, 0 replayed hits; all together: no licence." + _end(row)
        )

    def test_instances(self):
        for kind, count in formulations.KINDS.items():
            question = Instance("8-8-8", kind, count, 4).question
            assert (question.true, question.target, len(question.ensemble)) == (4, 3, 1 + count)
            assert question.ensemble.kind == kind
        conv = Instance("conv", "outer", 5, 7)
        assert (len(conv.ensemble), conv.ensemble.alpha, conv.label) == (6, 5, "00009")
        assert len(Instance("8-8-8", "outer", 50, 1).ensemble) == 51
        for network in tiny_networks():
            assert np.allclose(network([[1 / 6, 0.2]]) @ [[1.2], [-1.0]], 0.0)

    def test_paper_rows_have_the_keys_of_their_cases(self):
        keys = [case.key for case in formulations.cases(Plan())]
        assert len(keys) == 18
        assert {"formulation/nominal/paper/scip/1", "formulation/inner/tight/bab/4"} <= set(keys)

    def test_traces_are_thinned(self):
        trace = Trace()
        for k in range(1000):
            trace.told("proof", measure.Step(5.0, k / 1000, 0, 0.5 * k))
            trace.told("proof", measure.Step(5.0, k / 1000, 9, 0.5 * k + 0.1))  # says nothing new
        assert len(trace.points) == 1000
        points = thinned(trace.points)
        assert 30 < len(points) <= 60
        assert (points[0], points[-1]) == ((0.0, 5.0, 0.0), (499.5, 5.0, 0.999))
        assert points == sorted(set(points))
        assert thinned([(0.123, None, None), (1.0, 2.0, 1.0)]) == [(0.12, None, None), (1.0, 2.0, 1.0)]

    def test_plots_without_rows_are_none(self, tmp_path):
        assert plots.plots([ROW], tmp_path) == []


def _end(row):
    (line,) = told.machines([row])
    return f"\n{line}"
