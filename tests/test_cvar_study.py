"""The study of worst-case CVaR: its smoke form, what it calls wrong, and its committed rows."""

import copy
import re
import shlex
import subprocess

import numpy as np
import pytest

from arfj.certify.cvar import Moments
from arfj.cli import run
from arfj.errors import ArfjError
from experiments.__main__ import _parser, main
from experiments.committed import shown
from experiments.cvar import classes, loop, scaling
from experiments.cvar.given import CLASS, CONTROLLER, GAIN, PLT, digits
from experiments.cvar.study import SCALING, STUDY
from experiments.studies import Scale, read

COMMITTED = pytest.mark.skipif(not STUDY.rows.exists(), reason="no rows yet: python -m experiments cvar --take FILE")


def test_smoke(tmp_path, capsys):
    assert run(main, ["cvar", "--smoke", "--jobs", "1", "--out", str(tmp_path), "--only", "loop"]) == 0
    printed = capsys.readouterr().out
    assert "| cvar | pairs | 0.50 | 1.00 | 20.8422 | -0.9698 | 0.1471 | 2.12530 |" in printed
    assert "| joint | pairs | 0.50 | 1.00 |" in printed
    assert "1.60556" in printed
    assert (tmp_path / "cvar_loop.csv").is_file()


def test_controller_and_digits():
    x = np.random.default_rng(0).normal(size=(9, 2))
    assert CONTROLLER(x) == pytest.approx(x @ GAIN.T)
    given = digits()
    assert given.network.sizes == (64, 32, 10)
    assert 0.97 <= given.accuracy <= 0.99
    assert given.moments.rank < 64, "pixels at the border are always 0"
    assert given.network.classify(given.moments.mean[None])[0] == CLASS


def test_confidence_and_cvar_coincide():
    for eps in loop.EPSILONS:
        assert loop.radius("confidence", eps) == pytest.approx(loop.radius("cvar", eps))
    assert loop.radius("set", 0.1) == 1


def test_table_two_turns_negative_with_a_scale_matrix_alone():
    for name, most in (("t", 0.5), ("t (2.5)", -0.5)):
        matched, scale = (classes.statistics(law, 50_000) for law in (name, f"{name}, Sigma as scale"))
        assert matched["cvar"] > 4
        assert scale["cvar"] < most
        assert matched["positive"] > scale["positive"]


def test_one_row_of_each_stage(tmp_path):
    (task,) = (task for task in scaling.stage(Scale("smoke"), ()) if task.key.endswith("first-order"))
    row = {"key": task.key, "time_limit": 20.0, **task.call()}
    assert row["mebibytes"] > 10
    assert "| 2 | 10 |" in scaling.sheets([row])[0].markdown()
    (task,) = scaling.together_stage(Scale("smoke"), ())
    row = {"key": task.key, **task.call()}
    assert row["apart"] < 1e-3
    assert "| diagonal | 2 |" in scaling.sheets([row])[0].markdown()
    row = {"key": "x", **classes.digits_bound(7, "diagonal", "first-order", 20.0)}
    assert classes.violations([row]) == []
    assert max(row["sampled"].values()) <= row["bound"]
    if PLT.is_file():
        row = {"key": "y", **classes.iris_bound("1/2", "products", "sdp", 20.0)}
        assert classes.violations([row]) == []
        worse = {**row, "bound": row["falsifier"] - 0.1}
        assert [sentence for sentence in classes.violations([worse]) if "above the bound" in sentence]
        assert [sentence for sentence in classes.violations([worse]) if "misses its reference" in sentence]


def test_a_process_that_is_ended_is_a_row(monkeypatch):
    def ended(status, words):
        done = subprocess.CompletedProcess([], status, "", words)
        monkeypatch.setattr(scaling.subprocess, "run", lambda *_, **__: done)
        return {"key": words, "time_limit": 20.0, **scaling.asked(2, 10, "sdp", 20.0)}

    monkeypatch.setattr(scaling, "GRACE", 0.01)
    late = {"key": "b", "time_limit": 0.01, **scaling.asked(2, 10, "sdp", 0.01)}
    assert (late["bound"], late["said"]) == (None, "none within 0.02 s")
    assert "| none within 0.02 s | - |" in scaling.sheets([late])[0].markdown()
    for words in ("memory allocation of 8799845768 bytes failed", "numpy._core._exceptions._ArrayMemoryError: no"):
        row = ended(-6, words)
        assert (row["bound"], row["said"]) == (None, "out of 12 GiB of memory")
    with pytest.raises(ArfjError, match=r"without an answer: KeyError: 'x'"):
        ended(1, "Traceback\nKeyError: 'x'")


def test_loops_that_are_wrong():
    truth = loop.TOGETHER @ loop.TOGETHER.T
    fixed = {"case": "cvar", "family": "pairs", "epsilon": 0.5, "r": 1.0, "shape": (1.1 * truth).tolist()}
    free = {**fixed, "case": "joint", "shape": (1.05 * truth).tolist()}
    assert loop.violations([fixed, free]) == []
    assert "does not hold" in loop.violations([{**fixed, "shape": (0.9 * truth).tolist()}])[0]
    assert "larger" in loop.violations([fixed, {**free, "shape": (1.2 * truth).tolist()}])[0]


@pytest.fixture(scope="module")
def rows():
    return read(STUDY.rows)


@COMMITTED
class TestCommitted:
    def test_they_are_complete(self, rows):
        asked = {task.key for stage in STUDY.stages for task in stage(Scale("full"), ())}
        keys = {row["key"] for row in rows}
        assert asked <= keys
        assert len(keys) > 80
        assert STUDY.violations(rows) == []
        assert all(row["status"] == "optimal" for row in rows)

    def test_those_of_costs_are_complete(self, rows):
        asked = {task.key for stage in SCALING.stages for task in stage(Scale("full"), ())}
        assert asked <= {row["key"] for row in rows}

    @pytest.mark.parametrize("study", [STUDY, SCALING])
    def test_the_document_shows_them(self, rows, study):
        text = study.document.read_text(encoding="utf-8")
        assert shown(study, rows, text) == text, f"run python -m experiments {study.name} --write"

    def test_the_document(self, rows):
        text = STUDY.document.read_text(encoding="utf-8")
        for name in re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", text):
            assert (STUDY.document.parent / name).is_file(), name
        for command in [line.split("#")[0].strip() for line in text.splitlines() if line.startswith("    python -m ")]:
            _parser().parse_args(shlex.split(command)[3:])

    def test_published_numbers(self, rows):
        by = {(row["case"], row["family"], row["epsilon"]): row for row in rows if row.get("part") == "loop"}
        for eps in loop.EPSILONS:
            one, other = by["confidence", "pairs", eps], by["cvar", "pairs", eps]
            assert np.array(one["shape"]) == pytest.approx(np.array(other["shape"]), rel=1e-4)
            assert np.linalg.det(one["shape"]) == pytest.approx(2.12530 * one["r"] ** 2, rel=1e-4)
            assert np.linalg.det(by["joint", "pairs", eps]["shape"]) == pytest.approx(1.6056 * one["r"] ** 2, rel=1e-4)

    def test_a_wrong_row_is_told(self, rows):
        changed = copy.deepcopy(rows)
        row = next(row for row in changed if row.get("part") == "digits")
        row["bound"] = row["falsifier"] - 1
        assert STUDY.violations(changed)


def test_digits_moments_are_those_of_the_training_images():
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn is not installed")
    images, labels = datasets.load_digits(return_X_y=True)
    train = np.random.default_rng(0).permutation(len(labels))[:1347]
    own = Moments.of(images[train][labels[train] == CLASS] / 16.0)
    given = digits()
    assert given.moments.mean == pytest.approx(own.mean)
    assert given.moments.covariance == pytest.approx(own.covariance)
    rest = np.setdiff1d(np.arange(len(labels)), train)
    share = (given.network.classify(images[rest] / 16.0) == labels[rest]).mean()
    assert share == pytest.approx(given.accuracy)
