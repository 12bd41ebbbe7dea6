"""Rows that are committed, and the document that shows them."""

import gzip
import re
import shlex
from dataclasses import astuple

import numpy as np
import pytest
from paper_rows import rows_file

from arfj.attack import sampled
from arfj.cli import run
from arfj.data import bundled_images, bundled_inner, bundled_nominal, bundled_outer, manifest
from arfj.errors import ArfjError
from arfj.evaluate import Witness, cross_check, replay
from arfj.question import Question
from experiments import answers
from experiments.__main__ import _parser, main
from experiments.committed import packed, shown, take, write
from experiments.paper import grey_box, table3, table45, ten
from experiments.registry import PAPER
from experiments.sheets import Column, Sheet
from experiments.studies import Study, read

ROWS = table3.STUDY.rows
DOCUMENT = table3.STUDY.document


def test_an_interrupted_solve_leaves_no_row(monkeypatch):
    """With a row it would pass for one that had all of its time."""

    class Interrupted:
        interrupted = True

    monkeypatch.setattr(answers, "solve_question", lambda *_, **__: Interrupted())
    with pytest.raises(KeyboardInterrupt):
        ten.answer("FJAE", 1, 5.0)


class TestCommitting:
    def study(self, tmp_path, name="one", keys=("a/",)):
        sheet = Sheet(name, "T", [Column("key")], [("x",)])
        document = tmp_path / "d.md"
        rows = tmp_path / "rows.jsonl.gz"
        return Study(name, "t", (), lambda found: [sheet] if found else [], keys=keys, rows=rows, document=document)

    def test_take_keeps_the_rows_of_others_and_the_last_of_each_key(self, tmp_path):
        one, other = self.study(tmp_path), self.study(tmp_path, "two", ("b/",))
        source = rows_file(tmp_path / "r.jsonl", {"key": "b/1", "v": 0}, {"key": "a/1", "v": 1}, {"key": "a/1", "v": 2})
        take([one, other], source)
        first = one.rows.read_bytes()
        assert read(one.rows) == [{"key": "a/1", "v": 2}, {"key": "b/1", "v": 0}]
        take([one, other], source)
        assert one.rows.read_bytes() == first
        take([one], rows_file(tmp_path / "r.jsonl", {"key": "a/2"}, {"key": "b/1", "v": 9}))
        assert read(one.rows) == [{"key": "a/2"}, {"key": "b/1", "v": 0}]

    @pytest.mark.parametrize(
        ("row", "told"), [({"key": "c/1"}, "no rows of"), ({"key": "a/1", "status": "error"}, "an error as a/1")]
    )
    def test_take_refuses(self, tmp_path, row, told):
        study = self.study(tmp_path)
        with pytest.raises(ArfjError, match=told):
            take([study], rows_file(tmp_path / "r.jsonl", row))
        assert not study.rows.exists()

    def test_the_bytes_carry_no_date_and_no_name(self):
        data = packed([{"key": "b"}, {"key": "a"}])
        assert data[4:8] == b"\0\0\0\0"
        assert gzip.decompress(data) == b'{"key": "a"}\n{"key": "b"}\n'

    def test_write(self, tmp_path):
        study = self.study(tmp_path)
        take([study], rows_file(tmp_path / "r.jsonl", {"key": "a/1"}))
        study.document.write_text("before\n<!-- one -->\nold\n<!-- /one -->\nafter\n")
        assert write([study]) == [study.document]
        assert study.document.read_text() == (
            "before\n<!-- one -->\n**T**\n\n| key |\n|---|\n| x |\n<!-- /one -->\nafter\n"
        )
        study.document.write_text("no marks")
        with pytest.raises(ArfjError, match="lacks the marks"):
            write([study])
        assert study.document.read_text() == "no marks"

    @pytest.mark.parametrize("option", ["--smoke", "--run", "--rows=x"])
    def test_options_that_exclude_each_other(self, tmp_path, capsys, option):
        assert run(main, ["table2", option, "--out", str(tmp_path), "--write"]) == 2
        assert "committed rows" in capsys.readouterr().err

    def test_rows_that_are_not_there(self, tmp_path, capsys):
        assert run(main, ["table2", "--rows", str(tmp_path / "none.jsonl")]) == 1
        assert "name a file of rows with --rows" in capsys.readouterr().err
        assert run(main, ["table2", "--rows", str(rows_file(tmp_path / "r.jsonl"))]) == 0
        assert capsys.readouterr().err == "table2: no rows yet\n"


@pytest.fixture(scope="module")
def rows():
    return read(ROWS)


class TestCommitted:
    """The committed rows are of the full form, say what they say of networks that ship, and stand in the document."""

    def test_they_are_complete(self, rows):
        keys = {row["key"] for row in rows}
        asked = {task.key for study in PAPER for stage in study.stages for task in stage(ten.Scale("full"), ())}
        assert keys == asked
        assert len(keys) == 15 + 6 + 3 + 30 + 30
        assert {row["test_images"] for row in rows if "test_images" in row} == {10_000}
        assert [sentence for study in PAPER for sentence in study.violations(rows)] == []

    def test_the_document_shows_them(self, rows):
        text = DOCUMENT.read_text(encoding="utf-8")
        for study in PAPER:
            assert shown(study, rows, text) == text, "run python -m experiments paper --write"
        for name in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
            assert (DOCUMENT.parent / name).is_file(), name
        drawn = [name for study in PAPER for name in study.figures(rows)]
        assert [name for name in drawn if f"figures/{name}.png" not in text] == []
        commands = [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("    python -m ")]
        assert len(commands) >= 5
        for command in commands:
            _, _, module, *arguments = shlex.split(command)
            assert module == "experiments"
            _parser().parse_args(arguments)

    def test_answers_replay(self, rows):
        """Image, distance and hit are computed again, each answer on the scenarios of its kind."""
        images = bundled_images()
        counted = 0
        for row in rows:
            x = ten.answered(row)
            if x is None:
                continue
            counted += 1
            grey = row["role"] == "grey"
            ensemble = grey_box.scenarios(row["model"]) if grey else sampled(ten.KINDS[row["model"]]).ensemble
            question = Question(images.nominal[row["true"]], row["true"], row["target"], ensemble)
            witness = Witness(x, question.flat, row["true"], row["target"], 0.2, row["distance"], row["bound"])
            again = replay(witness, ensemble)
            assert again.hit, row["key"]
            assert again.distance == pytest.approx(row["distance"], abs=1e-9)
        assert counted == 60

    def test_means_are_those_of_the_evaluator(self, rows):
        """From the images alone, by the code behind `python -m arfj.evaluate`."""
        whole = table45.sheets(rows)[0]
        for _, asked, kind, *cells, _ in whole.rows:
            networks = (bundled_inner if asked == "inner" else bundled_outer)(held_out=True)
            checks = [
                cross_check(
                    Witness(ten.answered(row), ten.answered(row), row["true"], row["target"], 0.2, 0, 0), networks
                )
                for row in rows
                if row["key"].startswith(f"answer/{kind}/")
            ]
            parts = [(*astuple(one.rate), *astuple(one.probability), one.weak_confidence, one.margin) for one in checks]
            assert cells == pytest.approx(np.mean(parts, axis=0), abs=1e-4)

    def test_grey_box_counts(self, rows):
        (sheet,) = grey_box.sheets(rows)
        for line in sheet.rows:
            mine = [row for row in rows if row["key"].startswith(f"grey/{line[0]}/")]
            xs = [ten.answered(row) for row in mine]
            hits = sum(
                int(bundled_nominal().classify(x[None])[0]) == r["target"] for x, r in zip(xs, mine, strict=True)
            )
            assert line[2:4] == (10, hits)
            p = [bundled_nominal().probabilities(x[None])[0][row["target"]] for x, row in zip(xs, mine, strict=True)]
            assert line[5] == pytest.approx(np.mean(p), abs=1e-4)

    def test_networks_are_those_of_the_manifest(self, rows):
        """Accuracy on all test images, d_osd and d_in, measured when the bundle was made."""
        files = ["networks/nominal.npz", *(f"networks/outer_{index:02d}.npz" for index in range(5))]
        entries = {entry["file"]: entry for entry in manifest()["networks"]}
        found = {row["network"]: row for row in rows if row["key"].startswith("outer/")}
        for index, name in enumerate(files):
            assert found[index]["accuracy"] == pytest.approx(entries[name]["accuracy"], abs=1e-9)
            assert found[index]["d_osd"] == pytest.approx(entries[name]["d_osd"], abs=1e-9)
            assert found[index]["d_in"] == pytest.approx(entries[name]["d_in"], rel=1e-9)

    def test_orderings_of_the_paper(self, rows):
        over = [cell for line in table3.sheets(rows)[0].rows if line[2] == "IRAE" for cell in [line[-1]]]
        assert max(over) < 2e-4 + 5e-6, "IRAE lies at most 0.02 % above FJAE"
        rates = {(line[1], line[2]): line[3] for line in table45.sheets(rows)[0].rows}
        assert all(rates["inner", kind] == 1.0 for kind in ten.KINDS)
        assert rates["outer", "ORAE"] > rates["outer", "FJAE"] + 0.1


def test_makefile_runs_it():
    makefile = (DOCUMENT.parent.parent / "Makefile").read_text()
    assert re.search(r"^paper:.*\n\t.*experiments paper --run --out \$\(OUT\)/paper$", makefile, re.MULTILINE)
    assert "make paper " in makefile
