"""VNN-LIB 2.0: the same properties as in 1.0, what is refused, and the conformance suite of the standard."""

import contextlib
import io
import json
import re
import shutil
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from test_vnnlib import DYADIC, evaluated, properties

from arfj.cli import run
from arfj.errors import PropertyError
from arfj.verify.__main__ import main
from arfj.verify.vnnlib import parse_property, read_property

pytest.importorskip("vnnlib", reason="VNN-LIB 2.0 is read by the package vnnlib")

MOST_OF_THE_SUITE = 110
"""Of the 178 queries of its version 1.0.1, 117 are answered, 39 skipped as not supported; the others are errors."""
HEAD = """(vnnlib-version <2.0>)
(declare-network N
    (declare-input X float32 [1, 2])
    (declare-output Y real [3])
)
"""
BOX = "(assert (and (>= X[0,0] 0.0) (<= X[0,0] 1.0) (>= X[0,1] -1.0) (<= X[0,1] 1.0)))\n"


def test_a_file_by_hand(tmp_path):
    path = tmp_path / "a.vnnlib"
    path.write_text("; a comment\n" + HEAD + BOX + "(assert (or (<= Y[0] (* 2.0 Y[2])) (== Y[1] (- 0.5))))")
    prop = read_property(path)
    (case,) = prop.cases
    assert (prop.inputs, prop.outputs) == (2, 3)
    assert (case.lower.tolist(), case.upper.tolist()) == ([0, -1], [1, 1])
    assert [polyhedron.matrix.tolist() for polyhedron in case.unsafe] == [[[1, 0, -2]], [[0, 1, 0], [0, -1, 0]]]
    assert [polyhedron.offset.tolist() for polyhedron in case.unsafe] == [[0], [0.5, -0.5]]
    assert prop.declaration.network == "N"
    assert (prop.declaration.input.kind, prop.declaration.input.shape) == ("float32", (1, 2))
    assert (prop.declaration.output.kind, prop.declaration.output.shape) == ("real", (3,))


def test_elements_are_in_row_major_order():
    text = HEAD.replace("[1, 2]", "[2, 2]")
    bounds = [f"(assert (== X[{i},{j}] {10 * i + j}.0))" for i in (1, 0) for j in (0, 1)]
    assert parse_property(text + "\n".join(bounds)).cases[0].lower.tolist() == [0, 1, 10, 11]


def test_scalars_have_no_index():
    text = HEAD.replace("[1, 2]", "[]") + "(assert (<= X 1.0))(assert (>= X 0.0))"
    assert parse_property(text).cases[0].upper.tolist() == [1]


def test_decimals_are_not_rounded_on_the_way():
    low, high = "0.1000000000000000000001", "0.1000000000000000000002"
    text = HEAD.replace("[1, 2]", "[1]") + "(assert (>= X[0] {}))(assert (<= X[0] {}))"
    assert parse_property(text.format(low, high)).cases
    assert not parse_property(text.format(high, low)).cases


def test_unequal_is_less_or_greater():
    prop = parse_property(HEAD + BOX + "(assert (!= X[0,0] 0.5))(assert (!= Y[0] 1.0))")
    assert [(case.lower[0], case.upper[0]) for case in prop.cases] == [(0, 0.5), (0.5, 1)]
    assert prop.violated([0.25, 0], [0, 0, 0])
    assert not prop.violated([0.5, 0], [0, 0, 0])
    assert not prop.violated([0.25, 0], [1, 0, 0])


def in_2_0(text, names):
    """A 1.0 text of `properties` (numbers in plain form) in the words of 2.0."""
    body = re.sub(r"\(declare-const [^)]*\)", "", text)
    body = re.sub(r"([XY])_(\d)", r"\1[0,\2]", body).replace("(= ", "(== ")
    shapes = [f"(declare-{word} {name} real [1, {sum(n[0] == name for n in names)}])" for word, name in
              (("input", "X"), ("output", "Y"))]  # fmt: skip
    return f"(vnnlib-version <2.0>)(declare-network N {' '.join(shapes)})\n{body}"


@given(properties(DYADIC, plain=True))
def test_both_versions_mean_the_same(drawn):
    text, names, inputs, points = drawn
    prop = parse_property(in_2_0(text, names))
    for point in points:
        expected = evaluated(text, dict(zip(names, map(Fraction, point), strict=True)))
        assert prop.violated(point[:inputs], point[inputs:]) is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (HEAD.replace("float32", "real") + "(assert (<= X[0,0] Y[0]))", "line 6: inputs X and outputs Y"),
        (HEAD + "(assert (<= X[0,0] X[0,1]))", "line 6: X_0 and X_1 are compared"),
        (HEAD + "\n(assert (<= (* Y[0] Y[1]) 1.0))", "line 7: two variables are multiplied"),
        (HEAD + "(assert (<= Y[0] 1.0))", "X_0 has no lower bound"),
        (HEAD + "(assert (<= Y[3] 1.0))", "line 6: Index out of bounds"),
        (HEAD + "(assert (<= Z 1.0))", "line 6: Undeclared variable"),
        (HEAD + "(assert (<= Y[0] 1))", "line 6: Type mismatch"),
        (HEAD + "(assert (<= Y[0] 1e-3))", "instead of 1e-3"),
        (HEAD + "(assert (<= Y[0] 1.0)", "is no VNN-LIB 2.0"),
        (HEAD + "(assert (<= Y[99999999999999999999] 1.0))", "line 6: an index or a size"),
        (HEAD + "(assert (<= Y[4294967296] 1.0))", "line 6: an index or a size"),
        (HEAD.replace("[3]", "[4294967297]"), "line 4: an index or a size"),
        (HEAD.replace("[3]", "[999999999]") + BOX, "elements"),
        (HEAD.replace("[3]", "[0]") + BOX, "positive"),
        (HEAD.replace("real", "int8") + BOX, "Y is of type I8"),
        (HEAD.replace("real", "float16") + BOX, "Y is of type F16"),
        (HEAD.replace("<2.0>", "<3.0>") + BOX, "line 1"),
        (HEAD.replace(")\n    (declare-output", ")(declare-input Z real [1])\n(declare-output") + BOX, "2 inputs"),
        (HEAD.replace("[3])", "[3])(declare-output Z real [1])") + BOX, "2 outputs"),
        (HEAD.replace(")\n    (dec", ')(declare-hidden H real [1] "h")\n(dec') + BOX, "hidden node H"),
        (HEAD + HEAD[23:].replace("N", "M").replace("X", "A").replace("Y", "B") + BOX, "2 networks"),
        (HEAD.replace("[1, 2]", "[1, 2] initialized") + BOX, "line 3: an input with a default"),
        (HEAD + "(assert " + "(and " * 100_000 + "(<= Y[0] 1.0)" + ")" * 100_001, "nests over"),
    ],
)  # fmt: skip
def test_what_is_not_supported_is_named(text, words):
    with pytest.raises(PropertyError) as caught:
        parse_property(text, "a.vnnlib")
    assert words in str(caught.value)
    assert str(caught.value).startswith("a.vnnlib")
    assert "\n" not in str(caught.value)


def test_without_the_package_the_cure_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "vnnlib", None)
    with pytest.raises(PropertyError, match="pip install vnnlib"):
        parse_property(HEAD + BOX)


@pytest.mark.slow
def test_the_conformance_suite_of_the_standard(tmp_path, monkeypatch):
    """No verdict may be wrong; what the solver does not claim to support is skipped by the suite.

    The suite starts a process for each of its queries; here the command is called instead, which takes seconds.
    """
    suite = pytest.importorskip("vnntest.cli.run", reason="needs pip install vnnlib-satisfactory")
    runner = pytest.importorskip("vnntest.core.runner")

    def called(_, arguments, timeout=10, **__):
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(main, arguments)
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

    monkeypatch.setattr(runner, "run_solver_command", called)
    monkeypatch.chdir(tmp_path)
    suite.run("arfj", None, 60, False)
    report = json.loads((tmp_path / ".vnnlib-satisfactory" / "report.json").read_text())
    wrong = [result["test_id"] for result in report["results"] if result["outcome"] in ("fail", "error")]
    assert wrong == []
    assert report["summary"]["passed"] >= MOST_OF_THE_SUITE


@pytest.mark.slow
def test_the_suite_finds_the_command(tmp_path):
    """As its users call it: a process for each query of one operator, and its checks of the command line."""
    suite = shutil.which("vnnlib-satisfactory", path=Path(sys.executable).parent)
    if suite is None:
        pytest.skip("needs pip install vnnlib-satisfactory")
    solver = tmp_path / "arfj"
    solver.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m arfj.verify "$@"\n')
    solver.chmod(0o755)
    for check in ("opset", "vnnlib", "serialise-assignments"):
        subprocess.run([suite, "compliance", check, "--solver", str(solver)], cwd=tmp_path, check=True)
    line = [suite, "run", "--solver", str(solver), "--timeout", "60", "--test", "relu"]
    subprocess.run(line, cwd=tmp_path, check=True)
    summary = json.loads((tmp_path / ".vnnlib-satisfactory" / "report.json").read_text())["summary"]
    assert summary["passed"] == summary["total"] > 0
