"""Outcomes: no counterexample without a replay, result files by hand, onnxruntime as a second opinion."""

import gzip
import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import arfj
from arfj.errors import ArfjError, NetworkError, PropertyError
from arfj.verify.outcome import (
    Counterexample,
    Outcome,
    confirm_with_onnxruntime,
    nearest_float32,
    replay,
    replay_near_float32,
    standard_answer,
    write_result,
)
from arfj.verify.property import Case, Declaration, Polyhedron, Property, Tensor

AT_MOST_HALF = Polyhedron([[1.0, 0.0]], [-0.5])
"""y0 <= 0.5"""
PROP = Property((Case([0.0, 0.0], [1.0, 1.0], (AT_MOST_HALF,)),), 2, 2)
STANDARD = Property(
    PROP.cases, 2, 2, declaration=Declaration("N", Tensor("A", "real", (1, 2)), Tensor("B", "float32", (2,)))
)


def network(x):
    """y = (x0 + x1, x0 - x1)"""
    return x @ np.array([[1.0, 1.0], [1.0, -1.0]])


FOUND = replay(network, PROP, [0.25, 0.125])


# --- Replay ----------------------------------------------------------------------------------------------------------


def test_a_replayed_input_is_a_counterexample():
    assert (FOUND.x.tolist(), FOUND.y.tolist()) == ([0.25, 0.125], [0.375, 0.125])
    assert replay(network, PROP, np.array([[0.25], [0.125]])).x.shape == (2,)


@pytest.mark.parametrize("x", [[0.5, 0.125], [0.25, 0.25 + 2.0**-53], [-0.1, 0.1], [0.25, np.nan]])
def test_safe_outputs_and_inputs_outside_are_none(x):
    assert replay(network, PROP, x) is None


def test_a_network_that_gives_nan_proves_nothing():
    assert replay(lambda x: network(x) * np.nan, PROP, [0.25, 0.125]) is None


def test_nobody_else_makes_counterexamples():
    with pytest.raises(TypeError, match="replay alone"):
        Counterexample([0.25, 0.125], [0.375, 0.125])
    with pytest.raises(ValueError, match="read-only"):
        FOUND.x[0] = 0.0


@pytest.mark.parametrize(
    ("forward", "x"), [(network, [0.1]), (lambda x: x[:, :1], [0.1, 0.1]), (lambda x: x[0], [0, 0])]
)
def test_sizes_that_do_not_fit_are_refused(forward, x):
    with pytest.raises(PropertyError):
        replay(forward, PROP, x)


@given(st.lists(st.floats(0, 1), min_size=2, max_size=2), st.lists(st.booleans(), min_size=4, max_size=4))
def test_the_nearest_float32_stays_in_the_box(x, strict):
    tight = Case([x[0], 0.0], [1.0, x[1]], (), strict[:2], strict[2:])
    moved = nearest_float32(tight, x)
    changed = moved != x
    assert tight.within(moved)[changed].all()
    assert np.allclose(moved, x, rtol=2e-7, atol=1e-44)
    near = np.float32(x).astype(np.float64)
    usable = tight.within(near)
    assert (moved[usable] == near[usable]).all()


def test_a_counterexample_is_moved_to_float32_where_it_stays_one():
    found = replay_near_float32(network, PROP, [0.1, 0.3])
    assert found.x.tolist() == np.float32([0.1, 0.3]).astype(float).tolist()
    assert replay_near_float32(network, PROP, [0.4, 0.3]) is None


def test_a_counterexample_without_a_float32_beside_it_stays():
    fixed = Property((Case([0.1, 0.1], [0.1, 0.1], (AT_MOST_HALF,)),), 2, 2)
    assert replay_near_float32(network, fixed, [0.1, 0.1]).x.tolist() == [0.1, 0.1]
    edge = np.nextafter(0.5, 0)
    only_here = Property((Case([0, 0], [1, 1], (Polyhedron([[1, 0], [-1, 0]], [-edge, edge]),)),), 2, 2)
    assert replay_near_float32(network, only_here, [edge, 0]).x.tolist() == [edge, 0]


# --- Records and files -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sat", "", 1.0, 0), "not one of"),
        (("falsified", "", 1.0, 0), "needs a counterexample"),
        (("robust", "", 1.0, 0, FOUND), "no other verdict"),
        (("unknown", "", 1.0, 0), "reason"),
        (("robust", "", 1.0, 0, None, None, True), "time limit"),
    ],
)
def test_outcomes_that_contradict_themselves_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        Outcome(*arguments)


def test_the_document_has_the_keys_of_the_interface():
    document = json.loads(json.dumps(Outcome("falsified", "", 1.5, 3, FOUND).document()))
    assert document == {
        "verdict": "falsified",
        "reason": "",
        "seconds": 1.5,
        "branches": 3,
        "bound": None,
        "counterexample": {"x": [0.25, 0.125], "y": [0.375, 0.125]},
    }
    assert Outcome("robust", "", 1.5, 3).document()["counterexample"] is None


@pytest.mark.parametrize(
    ("outcome", "prop", "written", "printed"),
    [
        (Outcome("robust", "", 1.0, 1), PROP, "unsat\n", "unsat\n"),
        (Outcome("unknown", "no bound", 1.0, 1), PROP, "unknown\n", "unknown\n"),
        (Outcome("unknown", "time", 1.0, 1, timed_out=True), PROP, "timeout\n", "timed-out\n"),
        (
            Outcome("falsified", "", 1.0, 1, FOUND),
            PROP,
            "sat\n((X_0 0.25)\n(X_1 0.125)\n(Y_0 0.375)\n(Y_1 0.125))\n",
            "sat\n((X_0 0.25)\n(X_1 0.125)\n(Y_0 0.375)\n(Y_1 0.125))\n",
        ),
        (
            Outcome("falsified", "", 1.0, 1, FOUND),
            STANDARD,
            "sat\nA real [1,2]\n0.25\n0.125\nB float32 [2]\n0.375\n0.125\n",
            "sat\nA real [1,2]\n0.25\n0.125\nB float32 [2]\n0.375\n0.125\n",
        ),
    ],
)
def test_result_files_and_answers(tmp_path, outcome, prop, written, printed):
    write_result(tmp_path / "new" / "result.txt", outcome, prop)
    assert (tmp_path / "new" / "result.txt").read_text() == written
    assert standard_answer(outcome, prop) == printed


def test_numbers_in_result_files_read_back_exactly(tmp_path):
    found = replay(network, PROP, [1e-300, 0.1 + 1e-16])
    write_result(tmp_path / "r", Outcome("falsified", "", 1.0, 1, found), PROP)
    values = [float(line.strip("()").split()[1]) for line in (tmp_path / "r").read_text().splitlines()[1:]]
    assert values == [*found.x.tolist(), *found.y.tolist()]
    lines = standard_answer(Outcome("falsified", "", 1.0, 1, found), STANDARD).splitlines()
    assert [float(line) for line in (*lines[2:4], *lines[5:])] == values


def test_a_result_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ArfjError, match="cannot write"):
        write_result(tmp_path / "file" / "result", Outcome("robust", "", 1.0, 1), PROP)


# --- onnxruntime -----------------------------------------------------------------------------------------------------


@pytest.fixture
def onnx_file(tmp_path):
    """Write y = (x0 + x1 + shift, x0 - x1 + shift) as ONNX."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from onnx import TensorProto, helper, numpy_helper

    def write(shift=0.0, kind=TensorProto.FLOAT, shape=(1, 2), name="network.onnx", outputs=("y",)):
        dtype = helper.tensor_dtype_to_np_dtype(kind)
        weights = [
            numpy_helper.from_array(np.array([[1, 1], [1, -1]], dtype=dtype), "w"),
            numpy_helper.from_array(np.array([shift, shift], dtype=dtype), "b"),
            numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "flat"),
        ]
        nodes = [
            helper.make_node("Reshape", ["x", "flat"], ["f"]),
            helper.make_node("MatMul", ["f", "w"], ["m"]),
            *(helper.make_node("Add", ["m", "b"], [output]) for output in outputs),
        ]
        graph = helper.make_graph(
            nodes,
            "network",
            [helper.make_tensor_value_info("x", kind, shape)],
            [helper.make_tensor_value_info(output, kind, (1, 2)) for output in outputs],
            weights,
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        onnx.checker.check_model(model)
        content = model.SerializeToString()
        path = tmp_path / name
        path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
        return path

    return write


@pytest.mark.parametrize("shape", [(1, 2), ("batch", 2), (1, 1, 2, 1), (2,)])
def test_onnxruntime_agrees_whatever_the_shape(onnx_file, shape):
    path = onnx_file(shape=shape)
    assert confirm_with_onnxruntime(path, [0.25, 0.125], PROP)
    assert not confirm_with_onnxruntime(path, [0.5, 0.125], PROP)
    assert not confirm_with_onnxruntime(path, [-0.25, 0.125], PROP), "outside the box"


def test_packed_files_and_double_inputs(onnx_file):
    assert confirm_with_onnxruntime(onnx_file(name="a.onnx.gz"), [0.25, 0.125], PROP)
    assert confirm_with_onnxruntime(onnx_file(kind=11), [0.25, 0.25], PROP, tolerance=0)


def test_a_network_read_wrongly_is_not_confirmed(onnx_file):
    assert not confirm_with_onnxruntime(onnx_file(shift=0.25), FOUND.x, PROP)


def test_the_tolerance_is_for_float32_noise_only(onnx_file):
    """0.5 + 2^-20: in float32 just unsafe no more."""
    path = onnx_file(shift=2.0**-20)
    assert confirm_with_onnxruntime(path, [0.25, 0.25], PROP)
    assert not confirm_with_onnxruntime(path, [0.25, 0.25], PROP, tolerance=0)
    assert not confirm_with_onnxruntime(onnx_file(shift=2e-4), [0.25, 0.25], PROP)


def test_without_tolerance_strict_rows_are_strict(onnx_file):
    strict = Property((Case([0, 0], [1, 1], (Polyhedron([[1, 0]], [-0.5], [True]),)),), 2, 2)
    assert confirm_with_onnxruntime(onnx_file(), [0.25, 0.25], strict)
    assert not confirm_with_onnxruntime(onnx_file(), [0.25, 0.25], strict, tolerance=0)
    assert confirm_with_onnxruntime(onnx_file(), [0.25, 0.25], PROP, tolerance=0)


@pytest.mark.parametrize("shift", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_no_numbers_confirm_nothing(onnx_file, shift):
    assert not confirm_with_onnxruntime(onnx_file(shift=shift), FOUND.x, PROP)


def test_files_that_cannot_be_run_are_one_line(onnx_file, tmp_path):
    three = Property((Case(np.zeros(3), np.ones(3), ()),), 3, 2)
    (tmp_path / "broken.onnx").write_bytes(b"no onnx")
    (tmp_path / "cut.onnx.gz").write_bytes(gzip.compress(b"no onnx")[:-4])
    cases = [
        (onnx_file(), np.zeros(3), three, "has shape"),
        (onnx_file(name="two.onnx", outputs=("y", "z")), FOUND.x, PROP, "2 outputs"),
        (onnx_file(name="half.onnx", kind=10), FOUND.x, PROP, "float16"),
        (onnx_file(), FOUND.x, Property((Case([0, 0], [1, 1], ()),), 2, 3), "2 outputs"),
        (tmp_path / "broken.onnx", FOUND.x, PROP, "cannot run"),
        (tmp_path / "cut.onnx.gz", FOUND.x, PROP, "cannot be read"),
        (tmp_path / "none.onnx", FOUND.x, PROP, "does not exist"),
    ]
    for path, x, prop, words in cases:
        with pytest.raises(NetworkError) as caught:
            confirm_with_onnxruntime(path, x, prop)
        assert words in str(caught.value)
    with pytest.raises(PropertyError, match="3 numbers"):
        confirm_with_onnxruntime(onnx_file(), np.zeros(3), PROP)


# --- VNN-COMP's scripts ----------------------------------------------------------------------------------------------

SCRIPTS = Path(arfj.__file__).parent / "verify" / "vnncomp"


def script(name, *arguments, **environment):
    return subprocess.run(
        ["/bin/bash", SCRIPTS / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environment},
        check=False,
    )


@pytest.mark.parametrize("name", ["install_tool.sh", "prepare_instance.sh", "run_instance.sh"])
def test_scripts_refuse_another_protocol(name):
    done = script(name, "v2", "a", "b")
    assert (done.returncode, done.stderr.split()[0]) == (2, "usage:")


def test_an_instance_that_cannot_be_read_is_not_prepared(tmp_path):
    (tmp_path / "n.onnx").touch()
    assert script("prepare_instance.sh", "v1", "c", tmp_path / "n.onnx", tmp_path / "n.onnx").returncode == 0
    done = script("prepare_instance.sh", "v1", "c", tmp_path / "n.onnx", tmp_path / "p.vnnlib")
    assert (done.returncode, "p.vnnlib cannot be read" in done.stderr) == (1, True)


def test_an_instance_is_run_with_its_limit_and_without_the_older_answer(tmp_path):
    """The script is run from a copy, so that a stand-in for Python tells what it is called with."""
    place = tmp_path / "arfj" / "verify" / "vnncomp"
    place.mkdir(parents=True)
    (place / "run_instance.sh").write_bytes((SCRIPTS / "run_instance.sh").read_bytes())
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    stand_in = tmp_path / ".venv" / "bin" / "python"
    stand_in.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\nexit 1\n')
    stand_in.chmod(0o755)
    results = tmp_path / "r e s"
    results.write_text("unsat\n")
    done = script(place / "run_instance.sh", "v1", "acasxu", "a b.onnx", "p.vnnlib", results, "116")
    expected = ["-m", "arfj.verify", "a b.onnx", "p.vnnlib", "--time-limit", "116", "--results", str(results)]
    assert (done.returncode, done.stdout.splitlines()) == (1, expected)
    assert not results.exists()
