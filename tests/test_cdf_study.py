"""The study of distributions: its tasks run in small, its tables come from rows, and rows that cannot be are told."""

import re

import numpy as np
import pytest

from arfj.certify.cdf import command
from experiments.cdf import measure, speed, study
from experiments.cdf.networks import trained
from experiments.committed import shown
from experiments.studies import Scale, read


def test_training_fits():
    x = np.random.default_rng(0).uniform(-1, 1, (60, 2))
    target = np.eye(2)[(x.sum(axis=1) > 0).astype(int)]
    for kind in ("relu", "tanh"):
        weights, biases = trained(x, target, (2, 6, 2), kind, classes=True, steps=200)
        hidden = x @ weights[0] + biases[0]
        hidden = np.tanh(hidden) if kind == "tanh" else np.maximum(hidden, 0)
        assert ((hidden @ weights[1] + biases[1]).argmax(axis=1) == target.argmax(axis=1)).mean() > 0.95


def test_small_rows_contradict_nothing():
    pytest.importorskip("sklearn")
    tasks = {task.key: task for task in study.tasks(Scale("smoke"), [])}
    rows = [{"key": key, **tasks[key].call()} for key in tasks if "missing" not in key or key.endswith("/1/00")]
    assert study.violations(rows) == []
    names = [sheet.name for sheet in study.sheets(rows)]
    assert names[:2] == ["cdf_curves", "cdf_segments"]
    assert set(study.figures(rows)) == {"cdf_iris", "cdf_iris_difference", "cdf_tanh"}


@pytest.mark.parametrize("row", [{"broken": 1}, {"unnested": 2}, {"away": 0.2, "band": 0.1}])
def test_impossible_rows_are_told(row):
    assert len(study.violations([{"key": "cdf/x", **row}])) == 1


@pytest.mark.skipif(not study.DATA.exists(), reason="the networks in ../shared/data/plt are not there")
def test_an_instance_is_as_good_as_the_published_mean():
    row = measure.missing(50, 0, 5000, 5.0)
    assert row["free"] == 2
    assert row["mean"] < study.PUBLISHED[50, 2][1]
    assert row["away"] <= row["band"]


def test_what_it_costs_is_measured_in_a_process_of_its_own():
    (first, second) = speed.stage(Scale("smoke"), [])
    rows = [{"key": task.key, **task.call()} for task in (first, second)]
    assert all(row["points"] == 100 and row["regions"] > 100 and row["cells"] > row["regions"] for row in rows)
    assert all(row["points_least"] <= row["points_first"] and row["reached"] for row in rows)
    assert rows[0]["apart"] < 1e-9
    (sheet,) = study.SPEED.sheets(rows)
    assert [line[1] for line in sheet.rows] == list(speed.DENSITIES.values())
    assert not study.SPEED.sheets([])
    assert {task.key for task in speed.stage(Scale("full"), [])} > {row["key"] for row in rows}


def test_the_code_of_the_document_runs(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", study.STUDY.document.read_text(encoding="utf-8"), re.DOTALL)
    exec(code, {})  # noqa: S102
    regions, *_, quantile = capsys.readouterr().out.splitlines()
    assert regions.startswith("4 [")
    assert quantile.startswith("Quantile(q=0.05, lower=-")


def test_the_options_of_the_document_exist():
    text = study.STUDY.document.read_text(encoding="utf-8")
    known = {option for action in command._parser()._actions for option in action.option_strings}
    known |= {"--run", "--out", "--smoke", "--take", "--write"}  # of python -m experiments
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)) <= known


def test_the_document_shows_the_committed_rows():
    rows = read(study.STUDY.rows)
    text = study.STUDY.document.read_text(encoding="utf-8")
    assert shown(study.STUDY, rows, text) == text
    assert study.violations(rows) == []
    costs = study.SPEED.document.read_text(encoding="utf-8")
    assert shown(study.SPEED, rows, costs) == costs
    for (percent, free), (count, width) in study.PUBLISHED.items():
        found = [row for row in rows if row["key"].startswith(f"cdf/missing/{percent}/{free}/")]
        assert len(found) == count or free == 3  # of these some are there, the document says how many
        outside = [row["outside"] - row["unsure"] for row in found]
        assert not found or np.mean([row["mean"] for row in found]) - np.mean(outside) <= width
