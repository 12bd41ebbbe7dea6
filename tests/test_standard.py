"""The commands of VNN-LIB 2.0: `verify`, `supports`, `--name`, `--version`."""

import re

import numpy as np
import pytest
from conftest import SEESAW, Ran

from arfj.cli import run
from arfj.verify.__main__ import main
from arfj.verify.standard import CAPABILITIES

pytest.importorskip("vnnlib", reason="needs pip install 'arfj[verify]'")

QUERY = """(vnnlib-version <2.0>)
(declare-network f (declare-input A {kind} [1]) (declare-output B {kind} [1, 2]))
(assert (and (>= A[0] {low}) (<= A[0] {high})))
(assert (<= B[0,0] B[0,1]))
"""


@pytest.fixture
def call(capsys):
    def run_it(*arguments):
        capsys.readouterr()
        return Ran(run(main, [str(argument) for argument in arguments]), *capsys.readouterr())

    return run_it


@pytest.fixture
def folder(tmp_path):
    SEESAW.save(tmp_path / "n.npz")
    for name, low, high in (("unsat", 0.0, 0.25), ("sat", 0.25, 0.75)):
        (tmp_path / f"{name}.vnnlib").write_text(QUERY.format(kind="real", low=low, high=high))
    return tmp_path


def onnx_file(folder, kind):
    """The seesaw network as ONNX, of an element type."""
    onnx = pytest.importorskip("onnx", reason="needs pip install 'arfj[verify]'")
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    weight = onnx.numpy_helper.from_array(np.array([[-1, 1]], dtype=dtype), "w")
    bias = onnx.numpy_helper.from_array(np.array([1, 0], dtype=dtype), "b")
    graph = onnx.helper.make_graph(
        [onnx.parser.parse_node("y = Gemm(x, w, b)")],
        "network",
        [onnx.helper.make_tensor_value_info("x", kind, (1, 1))],
        [onnx.helper.make_tensor_value_info("y", kind, (1, 2))],
        [weight, bias],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "n.onnx")
    return folder / "n.onnx"


# --- verify ----------------------------------------------------------------------------------------------------------


def test_unsat(call, folder):
    ran = call("verify", folder / "unsat.vnnlib", "--network", f"f={folder / 'n.npz'}")
    assert (ran.status, ran.out, ran.err) == (0, "unsat\n", "")


def test_sat_and_the_assignment(call, folder):
    ran = call("verify", folder / "sat.vnnlib", "--network", f"f={folder / 'n.npz'}", "--timeout", 10)
    word, first, x, second, *y = ran.out.splitlines()
    assert (ran.status, word, first, second) == (0, "sat", "A real [1]", "B real [1,2]")
    assert 0.5 <= float(x) <= 0.75
    assert [float(value) for value in y] == SEESAW([[float(x)]])[0].tolist()


def test_a_query_of_version_1_has_one_network_of_any_name(call, folder):
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
    (folder / "old.vnnlib").write_text(text + "(assert (>= X_0 0))(assert (<= X_0 0.25))(assert (<= Y_0 Y_1))")
    assert call("verify", folder / "old.vnnlib", "--network", f"any={folder / 'n.npz'}").out == "unsat\n"


def test_time_that_is_up(call, folder, monkeypatch):
    from arfj.verify import standard
    from arfj.verify.outcome import Outcome

    outcome = Outcome("unknown", "time limit", 1.0, 5, timed_out=True)
    monkeypatch.setattr(standard, "verify_file", lambda *_: outcome)
    ran = call("verify", folder / "sat.vnnlib", "--network", "f=n.npz")
    assert (ran.status, ran.out, ran.err) == (0, "timed-out\n", "unknown: time limit\n")


def test_ctrl_c(call, folder, monkeypatch):
    from arfj.verify import standard

    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(standard, "verify_file", press)
    ran = call("verify", folder / "sat.vnnlib", "--network", "f=n.npz")
    assert (ran.status, ran.out) == (130, "unknown\n")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "0 networks are given"),
        (["--network", "f=n.npz", "--network", "g=n.npz"], 2, "2 networks are given"),
        (["--network", "g=n.npz"], 2, "expected --network f=FILE"),
        (["--network", "n.npz"], 2, "NAME=FILE"),
        (["--network", "=n.npz"], 2, "NAME=FILE"),
        (["--network", "f="], 2, "NAME=FILE"),
        (["--network", "f=no.npz"], 1, "no.npz"),
        (["--network", "f=n.npz", "--timeout", "0"], 2, "--timeout 0"),
        (["--network", "f=n.npz", "--serialise-assignments", "here"], 2, "unrecognized"),
    ],
)
def test_wrong_arguments(call, folder, monkeypatch, arguments, status, words):
    monkeypatch.chdir(folder)
    call("verify", "sat.vnnlib", *arguments).is_error(status, words)


def test_element_types_must_be_those_of_the_file(call, folder):
    network = f"f={onnx_file(folder, 1)}"
    for kind, status in (("float32", 0), ("real", 0), ("float64", 1)):
        (folder / "q.vnnlib").write_text(QUERY.format(kind=kind, low=0.0, high=0.25))
        ran = call("verify", folder / "q.vnnlib", "--network", network)
        assert (ran.status, ran.out) == (status, "" if status else "unsat\n")
        assert ("for real numbers" in ran.err) == (kind != "real")
    assert "n.onnx has float32 where the query declares A as float64" in ran.err


# --- supports and the rest -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_capabilities_are_one_item_a_line(call, capability):
    ran = call("supports", capability)
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.endswith("\n")
    assert all(re.fullmatch(r"[A-Za-z0-9.]+", line) for line in ran.out.splitlines())


def test_some_capabilities(call):
    assert call("supports", "--vnnlib-versions").out == "1.0\n2.0\n"
    assert call("supports", "--onnx-element-types").out == "real\n"
    low, high = map(int, call("supports", "--onnx-opset-versions").out.split())
    assert low < 13 < high
    operators = set(call("supports", "--onnx-operators").out.split())
    assert {"Relu", "Conv", "Gemm", "Max"} <= operators
    assert not operators & {"Elu", "Exp", "Pow"}  # read for distributions alone


@pytest.mark.parametrize("arguments", [[], ["--everything"], ["--vnnlib-versions", "--onnx-operators"]])
def test_other_capabilities_are_wrong_usage(call, arguments):
    call("supports", *arguments).is_error(2, "expected one of --onnx-opset-versions")


def test_name_and_version(call):
    assert call("--name").out == "arfj\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", call("--version").out)
    call("--version", "please").is_error(2, "no argument")
