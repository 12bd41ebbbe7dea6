"""The tables in the README are printed by commands from committed rows."""

import json
import os
import sys
import time
from dataclasses import replace

import numpy as np
import pytest

from arfj.cli import run
from arfj.errors import ArfjError
from arfj.report.store import Store
from experiments import peers, proof_variants, table_bundled, tables
from experiments.processes import group
from experiments.table_bundled import MARK, README, ROWS, inserted, last_rows, main, table, take

BEGIN, END = f"<!-- {MARK} -->", f"<!-- /{MARK} -->"

ROW = {
    "key": "a", "image": "00002", "kind": "nominal", "true": 1, "target": 0, "scenarios": 1, "status": "optimal",
    "distance": 2.0, "bound": 1.99, "gap": 0.005, "seconds": 1.25, "nodes": 7, "replay": {"hit": True},
    "witness": "/home/me/w.npz",
}  # fmt: skip


def rows_file(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_readme_shows_the_committed_rows():
    text = README.read_text(encoding="utf-8")
    assert inserted(text, table(last_rows(ROWS)), MARK) == text, "run python -m experiments.table_bundled --write"


def test_committed_rows_are_proven_by_replay():
    for row in last_rows(ROWS):
        assert row["witness"] is None
        assert row["replay"] is None or row["replay"]["hit"]
        assert row["distance"] is None or row["bound"] <= row["distance"]


def test_known_table(tmp_path):
    unanswered = ROW | {"kind": "outer", "scenarios": 6, "status": "unknown", "distance": None, "gap": None, "bound": 0}
    rows = last_rows(rows_file(tmp_path / "r.jsonl", ROW | {"distance": 9.0}, unanswered | {"replay": None}, ROW))
    assert table(rows).splitlines()[2:] == [
        "| 00002 | 1 → 0 | FJAE | 2.00000 | 1.99000 | 0.50 % | 1.2 | 7 |",
        "| 00002 | 1 → 0 | ORAE | - | 0.00000 | - | 1.2 | 7 |",
        "",
        "- FJAE (`--nominal`, 1 network): 1 of 1 proven optimal, 1 replayed hits, mean distance 2.00000, "
        "largest gap 0.50 %, 1 s in all.",
        "- ORAE (`--outer`, 6 networks): 0 of 1 proven optimal, 0 replayed hits, mean distance -, "
        "largest gap -, 1 s in all.",
    ]


def test_take_forgets_where_the_witnesses_lay(tmp_path):
    source = rows_file(tmp_path / "r.jsonl", ROW, ROW | {"distance": 1.995})
    take(source, tmp_path / "taken.jsonl")
    assert [json.loads(line) for line in (tmp_path / "taken.jsonl").read_text().splitlines()] == [
        ROW | {"distance": 1.995, "witness": None}
    ]


def test_write(tmp_path, monkeypatch, capsys):
    readme = tmp_path / "README.md"
    monkeypatch.setattr(table_bundled, "README", readme)
    readme.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    source = rows_file(tmp_path / "r.jsonl", ROW)
    assert run(main, ["--rows", str(source), "--write"]) == 0
    printed = capsys.readouterr().out
    assert readme.read_text() == f"before\n{BEGIN}\n{printed}{END}\nafter\n"
    readme.write_text("no marks")
    assert run(main, ["--rows", str(source), "--write"]) == 1
    assert readme.read_text() == "no marks"


@pytest.mark.parametrize("content", ["", "not a row\n"])
def test_no_rows(tmp_path, capsys, content):
    path = tmp_path / "r.jsonl"
    path.write_text(content)
    assert run(main, ["--rows", str(path)]) == 1
    assert "make benchmark" in capsys.readouterr().err


def test_performance_shows_the_committed_rows():
    text = tables.REPORT.read_text(encoding="utf-8")
    rows = Store(proof_variants.ROWS).rows()
    assert inserted(text, proof_variants.table(rows), proof_variants.MARK) == text


def test_variants_agree_on_every_optimum_that_they_prove():
    optima = {}
    for row in Store(proof_variants.ROWS).rows():
        if row["status"] == "optimal":
            optima.setdefault((row["problem"], row["true"]), []).append(row["distance"])
    assert len(optima) >= 15
    for distances in optima.values():
        assert max(distances) == pytest.approx(min(distances), rel=1e-6)


def test_variants_measure_what_is_missing(tmp_path, monkeypatch, capsys):
    """The smoke mode: one question, one variant beside the default; a second run has nothing to do."""
    one = next(proof_variants.questions("one network"))
    monkeypatch.setattr(proof_variants, "questions", lambda _problem: iter([one]))
    monkeypatch.setattr(proof_variants, "PROBLEMS", {"one network": (proof_variants.DEFAULT, "all scenarios at once")})
    path = tmp_path / "rows.jsonl"
    assert run(proof_variants.main, ["--rows", str(path), "--run"]) == 0
    assert "| one network | all scenarios at once | 1 of 1 |" in capsys.readouterr().out
    before = path.read_bytes()
    assert run(proof_variants.main, ["--rows", str(path), "--run"]) == 0
    assert path.read_bytes() == before


@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
def test_of_a_measured_process_nothing_is_left():
    """Its child, which would sleep on, ends with it: else their pipe would stay open."""
    child = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True)"
    begun = time.monotonic()
    with group([sys.executable, "-c", child]) as process:
        pid = int(process.stdout.readline())
        process.wait(timeout=30)
        os.kill(pid, 0)
        pipe = os.dup(process.stdout.fileno())
    with os.fdopen(pipe) as rest:
        assert rest.read() == ""
    assert time.monotonic() - begun < 30


PEER = {
    "key": "p/1/arfj/bab", "problem": "p", "true": 1, "tool": "arfj", "variant": "bab", "status": "optimal",
    "seconds": 2.0, "distance": 5.0, "bound": 5.0, "hit": True, "violation": 0.0, "time_limit": 60.0, "cpu": "C",
    "load": 1.25, "versions": {"python": "3"},
}  # fmt: skip
OTHER = PEER | {"key": "p/1/omlt/big-M", "tool": "omlt", "variant": "big-M", "seconds": 8.0}


class TestPeers:
    def test_smoke(self, capsys):
        """The answer is known by hand: x_0 from 0.8 to 1/6."""
        assert run(peers.main, ["--smoke"]) == 0
        told = capsys.readouterr()
        assert "| smoke | arfj | bab | 1 of 1 |" in told.out
        assert "smoke/0/arfj/bab: optimal" in told.err
        assert "0.63333, hit: True" in told.err

    def test_known_table(self):
        late = {"key": "a", "true": 4, "seconds": 61.0, "status": "unproven", "distance": 6.0, "bound": 1.0}
        large = {"key": "b", "tool": "gurobi-machinelearning", "variant": "x = xbar + p - q", "status": "too large"}
        none = {"distance": None, "bound": None, "hit": None, "violation": None, "versions": None}
        leaky = {"hit": False, "violation": 3e-5}
        rows = [PEER, PEER | {"key": "c", "true": 4}, OTHER, OTHER | late | leaky, PEER | large | none]
        assert peers.table([PEER | {"seconds": 9.0}, *rows]).splitlines()[2:] == [
            "| p | arfj | bab | 2 of 2 | 2.0 | 2.0 | 1.00 on 2 | 0 | 2 of 2 |",
            "| p | gurobi-machinelearning | x = xbar + p - q | 0 of 1, 1 too large | - | - | - | 0 | 0 of 0 |",
            "| p | omlt | big-M | 1 of 2 | ≥ 34.0 | ≥ 60.0 | ≥ 10.95 on 2 | 0 | 1 of 2 |",
            "",
            "- Answers that miss a condition by more than 1e-6: 1, at most by 3e-05.",
            "- arfj: python 3.",
            "- gurobi-machinelearning: of unknown version.",
            "- omlt: python 3.",
            "- C, one thread on one core.",
            "- Load average before a process: median 1.2, at most 1.2; the measurement itself makes 1.",
        ]

    @pytest.mark.parametrize(
        ("claim", "cells"),
        [
            ({"distance": 5.1}, "1 of 2 | 8.0 | 8.0 | 4.00 on 1 | **1 WRONG** | 2 of 2"),
            (
                {"status": "infeasible", "distance": None, "bound": None, "hit": None},
                "1 of 2 | 8.0 | 8.0 | 4.00 on 1 | **1 WRONG** | 1 of 1",
            ),
            # Out of time, but with a bound that an answer refutes.
            (
                {"status": "unproven", "distance": 6.0, "bound": 5.5, "seconds": 60.0},
                "1 of 2 | 8.0 | 8.0 | 4.00 on 1 | **1 WRONG** | 2 of 2",
            ),
            (
                {"status": "unproven", "distance": 6.0, "bound": 4.5, "seconds": 60.0},
                "1 of 2 | ≥ 34.0 | ≥ 60.0 | ≥ 10.95 on 2 | 0 | 2 of 2",
            ),
            # It gave up long before its limit.
            (
                {"status": "unproven", "distance": 6.0, "bound": 4.5, "seconds": 3.0},
                "1 of 2, 1 unproven | 8.0 | 8.0 | 4.00 on 1 | 0 | 2 of 2",
            ),
        ],
    )
    def test_only_what_is_right_or_out_of_time_counts_in_seconds_and_ratios(self, claim, cells):
        rows = [PEER, PEER | {"key": "p/4/arfj/bab", "true": 4}, OTHER, OTHER | {"key": "a", "true": 4} | claim]
        assert peers.table(rows).splitlines()[3] == f"| p | omlt | big-M | {cells} |"

    def test_a_tool_with_wrong_answers_alone_has_no_seconds(self):
        wrong = OTHER | {"distance": 4.0, "bound": 4.0, "hit": False}
        assert peers.table([PEER, wrong]).splitlines()[3] == (
            "| p | omlt | big-M | 0 of 1 | - | - | - | **1 WRONG** | 0 of 1 |"
        )

    def test_write(self, tmp_path, monkeypatch, capsys):
        report = tmp_path / "PERFORMANCE.md"
        monkeypatch.setattr(tables, "REPORT", report)
        report.write_text("before\n<!-- peers -->\nold\n<!-- /peers -->\nafter\n")
        assert run(peers.main, ["--rows", str(rows_file(tmp_path / "r.jsonl", PEER)), "--write"]) == 0
        assert report.read_text() == f"before\n<!-- peers -->\n{capsys.readouterr().out}<!-- /peers -->\nafter\n"

    @pytest.mark.parametrize(
        ("claim", "wrong"),
        [
            ({}, False),
            ({"distance": 5.004, "bound": 4.999}, False),
            ({"distance": 5.1, "bound": 5.0}, True),  # an optimum that another answer beats
            ({"distance": 4.9, "bound": 4.9, "hit": False}, True),  # below the proven one, and no answer
            ({"distance": 4.999, "bound": 4.999, "hit": False}, False),
            ({"distance": 6.0, "bound": 3.0, "status": "unproven"}, False),
            ({"distance": 6.0, "bound": 5.5, "status": "unproven"}, True),
            ({"distance": None, "bound": None, "status": "unproven", "hit": None}, False),
            ({"distance": None, "bound": None, "status": "infeasible", "hit": None}, True),
        ],
    )
    def test_a_claim_is_held_against_what_is_known(self, claim, wrong):
        assert peers.wrong(OTHER | claim, [PEER, OTHER | claim]) == wrong
        assert ("**1 WRONG**" in peers.table([PEER, OTHER | claim])) == wrong
        peers.check([PEER, OTHER | claim])

    def test_a_better_answer_of_a_peer_is_loud(self, tmp_path, capsys):
        better = OTHER | {"distance": 4.5, "bound": 4.5}
        path = rows_file(tmp_path / "r.jsonl", PEER, better)
        assert run(peers.main, ["--rows", str(path)]) == 1
        assert "1 WRONG: p/1/arfj/bab" in capsys.readouterr().err
        assert not peers.wrong(better, [PEER, better])

    def test_tools_take_turns_and_a_second_run_asks_no_more(self, tmp_path, monkeypatch):
        asked = []

        def ask(task, tool, variant, _interpreter, _seconds):
            asked.append((task.true, tool, variant))
            x = [1 / 6, 1.5] if tool == "omlt" else None  # 1.5 is put into [0, 1]
            status = "optimal" if tool == "omlt" else "too large"
            return {"x": x, "status": status, "seconds": 1.0, "bound": None, "versions": None}

        monkeypatch.setattr(peers, "ask", ask)
        store, first = Store(tmp_path / "r.jsonl"), peers.smoke_task()
        for _ in range(2):
            peers.measure(store, [first, replace(first, problem="more", true=1, target=0)], {"arfj": "", "omlt": ""}, 9)
            assert asked == [
                (0, "arfj", "bab"), (0, "arfj", "SCIP"), (0, "arfj", "Gurobi"),
                (0, "omlt", "big-M"), (0, "omlt", "partition"),
                (1, "arfj", "SCIP"), (1, "arfj", "Gurobi"),
                (1, "omlt", "big-M"), (1, "omlt", "partition"), (1, "arfj", "bab"),
            ]  # fmt: skip
        rows = store.rows()
        assert [row["hit"] for row in rows] == [None, None, None, True, True, None, None, False, False, None]
        assert rows[3]["distance"] == pytest.approx(0.8 - 1 / 6 + 0.8)
        assert rows[7]["violation"] == pytest.approx(1.2 - 1 / 6)
        assert "x" not in rows[3]

    def test_a_process_without_an_answer_is_an_error_with_its_last_line(self):
        said = peers.ask(peers.smoke_task(), "no such tool", "", sys.executable, 5.0)
        assert said["status"] == "error"
        assert said["message"] == "KeyError: 'no such tool'"

    def test_instances_are_those_of_the_proof_variants(self):
        found = peers.tasks([4])
        assert [(task.problem, len(task.networks), task.true, task.target) for task in found] == [
            ("one network", 1, 4, 3), ("two networks", 2, 4, 3)
        ]  # fmt: skip
        for task in found:
            question = list(proof_variants.questions(task.problem))[4]
            assert np.array_equal(task.nominal, question.flat)
            assert [n.fingerprint() for n in task.networks] == [n.fingerprint() for n in question.ensemble]

    def test_an_environment_without_the_peers_is_one_line(self, monkeypatch):
        with pytest.raises(ArfjError, match="does not run"):
            peers.check_peers("/no/such/python")
        monkeypatch.setattr(peers, "PACKAGES", {"arfj": ("arfj",), "omlt": ("omlt-that-nobody-made",)})
        with pytest.raises(ArfjError, match="pip install omlt-that-nobody-made"):
            peers.check_peers(sys.executable)

    @pytest.mark.parametrize("options", [["--true", "10"], ["--time-limit", "0"]])
    def test_wrong_usage(self, options):
        assert run(peers.main, options) == 2

    def test_performance_shows_the_committed_rows(self):
        rows = Store(peers.ROWS).rows()
        if not rows:
            pytest.skip("not measured yet")
        text = tables.REPORT.read_text(encoding="utf-8")
        assert inserted(text, peers.table(rows), peers.MARK) == text
        peers.check(rows)
