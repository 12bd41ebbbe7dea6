"""The tables in the README are printed by commands from committed rows."""

import json

import pytest

from arfj.cli import run
from arfj.report.store import Store
from experiments import proof_variants, table_bundled, tables
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
