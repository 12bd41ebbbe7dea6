"""`python -m arfj.verify`: its document, its files and its errors."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from conftest import SEESAW, Ran, everything
from processes import LIMIT, started
from reference import random_network

from arfj.cli import run
from arfj.errors import NetworkError
from arfj.graph import Activation, Affine, Graph
from arfj.network import Dense, Network
from arfj.verify import Options, verify
from arfj.verify.__main__ import main
from arfj.verify.progress import telling, watched
from arfj.verify.search import Step
from arfj.verify.vnnlib import parse_property

BOX = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)(assert (>= X_0 {}))(assert (<= X_0 {}))"
ROBUST = BOX.format(0.0, 0.4) + "(assert (<= Y_0 Y_1))"
"""1 - x <= x on [0, 0.4]: never."""
FALSIFIED = BOX.format(0.25, 0.75) + "(assert (<= Y_0 Y_1))"
"""... on [0.25, 0.75]: from 0.5 on."""


@pytest.fixture
def call(capsys):
    """Call `python -m arfj.verify` in this process."""

    def run_it(*arguments):
        capsys.readouterr()
        return Ran(run(main, [str(argument) for argument in arguments]), *capsys.readouterr())

    return run_it


@pytest.fixture
def folder(tmp_path):
    SEESAW.save(tmp_path / "n.npz")
    (tmp_path / "robust.vnnlib").write_text(ROBUST)
    (tmp_path / "falsified.vnnlib").write_text(FALSIFIED)
    return tmp_path


def hard(folder):
    """A network and a property that take longer than a test may, and the paths of both."""
    network = random_network((20, 60, 60, 60, 2), 3, "linear")
    network.save(folder / "hard.npz")
    names = [f"X_{i}" for i in range(20)]
    text = "".join(f"(declare-const {name} Real)" for name in [*names, "Y_0", "Y_1"])
    text += "".join(f"(assert (>= {name} 0.0))(assert (<= {name} 1.0))" for name in names)
    lowest = network(np.random.default_rng(0).random((20000, 20)))[:, 0].min()
    (folder / "hard.vnnlib").write_text(text + f"(assert (<= Y_0 {lowest - 3:.6f}))")
    return folder / "hard.npz", folder / "hard.vnnlib"


# --- Answers ---------------------------------------------------------------------------------------------------------


def test_the_document_of_a_robust_network(call, folder):
    ran = call(folder / "n.npz", folder / "robust.vnnlib", "--json")
    document = json.loads(ran.out)
    assert (ran.status, ran.err) == (0, "")
    assert document.keys() >= {"verdict", "reason", "seconds", "branches", "counterexample"}
    assert (document["verdict"], document["counterexample"]) == ("robust", None)


def test_the_document_of_a_falsified_one(call, folder):
    document = json.loads(call(folder / "n.npz", folder / "falsified.vnnlib", "--json").out)
    assert document["verdict"] == "falsified"
    (x,), y = document["counterexample"]["x"], document["counterexample"]["y"]
    assert 0.5 <= x <= 0.75
    assert y == SEESAW([[x]])[0].tolist()


def test_the_answer_in_words(call, folder):
    assert call(folder / "n.npz", folder / "robust.vnnlib").out.startswith("robust: ")
    assert "x = 0." in call(folder / "n.npz", folder / "falsified.vnnlib").out


@pytest.mark.parametrize(("name", "word"), [("robust", "unsat\n"), ("falsified", "sat\n((X_0 ")])
def test_result_files(call, folder, name, word):
    results = folder / "new" / "r.txt"
    assert call(folder / "n.npz", folder / f"{name}.vnnlib", "--results", results).status == 0
    assert results.read_text().startswith(word)
    assert everything(folder / "new") == ["r.txt"]


def test_time_is_kept(call, folder):
    begun = time.perf_counter()
    ran = call(*hard(folder), "--time-limit", 2, "--json", "--results", folder / "r.txt")
    document = json.loads(ran.out)
    assert (ran.status, document["verdict"], document["reason"]) == (0, "unknown", "time limit")
    assert (folder / "r.txt").read_text() == "timeout\n"
    assert time.perf_counter() - begun < 20
    assert document["bound"] is None or document["bound"] <= 0


def test_a_keras_model(call, folder):
    keras = pytest.importorskip("keras", reason="needs pip install 'arfj[train]'")
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(2, activation="softmax")])
    model.layers[0].set_weights([np.array([[-1.0, 1.0]]), np.array([1.0, 0.0])])
    model.save(folder / "n.keras")
    assert json.loads(call(folder / "n.keras", folder / "robust.vnnlib", "--json").out)["verdict"] == "robust"
    document = json.loads(call(folder / "n.keras", folder / "falsified.vnnlib", "--json").out)
    assert document["verdict"] == "falsified"
    assert sum(document["counterexample"]["y"]) == pytest.approx(1.0)


def test_values_of_a_softmax_are_not_decided():
    network = Network((Dense(np.array([[-1.0, 1.0]]), np.array([1.0, 0.0]), "linear"),), softmax=True)
    assert verify(network, parse_property(ROBUST)).verdict == "robust"
    with pytest.raises(NetworkError, match="softmax"):
        verify(network, parse_property(BOX.format(0.0, 1.0) + "(assert (<= Y_0 0.5))"))


def test_probabilities_that_tie_by_rounding_falsify_nothing():
    """Logits (x - 900, -1000, 0): both first probabilities are 0 in float64, and the first is the larger one."""
    network = Network((Dense(np.array([[1.0, 0.0, 0.0]]), np.array([-900.0, -1000.0, 0.0]), "linear"),), softmax=True)
    text = "(declare-const Y_2 Real)" + BOX.format(0.0, 1.0)
    assert verify(network, parse_property(text + "(assert (<= Y_0 Y_1))")).verdict == "robust"


@pytest.mark.parametrize("kind", ["relu", "sigmoid", "tanh"])
def test_an_activation_of_the_input_alone(kind):
    graph = Graph(1, (Activation(0, kind),))
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 -1.0))(assert (<= X_0 1.0))"
    assert verify(graph, parse_property(text + "(assert (>= Y_0 1.5))")).verdict == "robust"
    assert verify(graph, parse_property(text + "(assert (>= Y_0 0.7))")).verdict == "falsified"


def test_the_identity():
    graph = Graph(1, (Affine((0,), (np.eye(1),), np.zeros(1)),))
    text = "(declare-const X_0 Real)(declare-const Y_0 Real)(assert (>= X_0 -1.0))(assert (<= X_0 1.0))"
    assert verify(graph, parse_property(text + "(assert (>= Y_0 1.5))")).verdict == "robust"
    assert verify(graph, parse_property(text + "(assert (>= Y_0 1.0))")).verdict == "falsified"


# --- What a user can get wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["n.npz"], 2, "PROPERTY"),
        ([], 2, "NETWORK"),
        (["n.npz", "robust.vnnlib", "--time-limit", "0"], 2, "positive number"),
        (["n.npz", "robust.vnnlib", "--time-limit", "-1"], 2, "positive number"),
        (["n.npz", "robust.vnnlib", "--time-limit", "inf"], 2, "positive number"),
        (["n.npz", "robust.vnnlib", "--time-limit", "nan"], 2, "positive number"),
        (["n.npz", "robust.vnnlib", "--time-limit", "soon"], 2, "no number"),
        (["n.npz", "robust.vnnlib", "--device", "tpu"], 2, "invalid choice"),
        (["n.npz", "robust.vnnlib", "--seed", "-1"], 2, "seed"),
        (["n.npz", "robust.vnnlib", "--results", "."], 2, "a folder"),
        (["n.npz", "robust.vnnlib", "--results", ""], 2, "empty"),
        (["n.npz", "robust.vnnlib", "--results", "n.npz/r"], 1, "cannot write"),
        (["no.npz", "robust.vnnlib"], 1, "no.npz"),
        (["n.npz", "no.vnnlib"], 1, "no.vnnlib does not exist"),
        (["n.npz", "n.npz"], 1, "n.npz"),
        (["robust.vnnlib", "n.npz"], 1, ""),
        (["n.npz", "other.vnnlib"], 1, "1 inputs and 2 outputs, the property 2 and 2"),
    ],
)
def test_wrong_arguments(call, folder, monkeypatch, arguments, status, words):
    monkeypatch.chdir(folder)
    (folder / "other.vnnlib").write_text("(declare-const X_1 Real)(assert (>= X_1 0))(assert (<= X_1 0))" + ROBUST)
    call(*arguments).is_error(status, words)


def test_a_gpu_that_is_not_there(call, folder, monkeypatch):
    jax = pytest.importorskip("jax")
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    call(folder / "n.npz", folder / "robust.vnnlib", "--device", "gpu").is_error(2, "finds no GPU")
    monkeypatch.setitem(sys.modules, "jax", None)
    call(folder / "n.npz", folder / "robust.vnnlib", "--device", "gpu").is_error(2, "needs JAX")


def test_help_starts_with_examples(call, capsys):
    with pytest.raises(SystemExit):
        call("--help")
    printed = capsys.readouterr().out
    assert printed.index("examples:") < printed.index("options:")


# --- Ctrl-C ----------------------------------------------------------------------------------------------------------


def test_ctrl_c_in_the_search_still_answers(call, folder, monkeypatch):
    from arfj.verify import portfolio

    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(portfolio, "descend", press)
    ran = call(folder / "n.npz", folder / "falsified.vnnlib", "--json", "--results", folder / "r.txt")
    document = json.loads(ran.out)
    assert (ran.status, document["verdict"], document["reason"]) == (130, "unknown", "interrupted")
    assert (folder / "r.txt").read_text() == "unknown\n"


def test_ctrl_c_while_reading_still_answers(call, folder, monkeypatch):
    from arfj.verify import files

    def press(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "load_network", press)
    ran = call(folder / "n.npz", folder / "robust.vnnlib")
    assert (ran.status, ran.out.splitlines()[0]) == (130, "unknown: interrupted")


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_that_c_code_swallows_is_heard_at_the_next_report():
    with watched(10.0) as progress:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            progress(Step("bounds", 1, None, 0, 1.0))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_line_tells_how_much_time_is_left():
    told = []
    telling(told.append, 60.0)(Step("splitting inputs", 3, -0.5, 7, 12.0))
    assert told == ["splitting inputs: 3 open, worst bound -0.5, 7 branches, 48 s left"]


def test_an_interrupted_search_tells_its_bound():
    network = random_network((20, 60, 60, 60, 2), 3, "linear")
    names = [f"X_{i}" for i in range(20)]
    text = "".join(f"(declare-const {name} Real)" for name in [*names, "Y_0", "Y_1"])
    text += "".join(f"(assert (>= {name} 0.0))(assert (<= {name} 1.0))" for name in names)
    lowest = network(np.random.default_rng(0).random((20000, 20)))[:, 0].min()
    told = []

    def press(step):
        told.append(step)
        if step.stage == "splitting ReLUs":
            raise KeyboardInterrupt

    outcome = verify(network, parse_property(text + f"(assert (<= Y_0 {lowest - 3:.6f}))"), Options(30), press)
    assert (outcome.verdict, outcome.interrupted) == ("unknown", True)
    assert outcome.bound == told[-1].worst
    assert outcome.branches == told[-1].branches


@pytest.mark.slow
def test_a_process_whose_time_is_up_ends_well(folder):
    """Also where the mixed-integer program is at work in a thread of its own then."""
    with started("-m", "arfj.verify", *hard(folder), "--time-limit", "5") as process:
        out, err = process.communicate(timeout=LIMIT)
    assert (process.returncode, err) == (0, "")
    assert out.startswith("unknown: time limit")


@pytest.mark.slow
@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_ctrl_c_of_a_process(folder):
    arguments = ["-m", "arfj.verify", *hard(folder), "--time-limit", "60", "--json", "--results", folder / "r.txt"]
    with started(*arguments) as process:
        time.sleep(6)
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, err
    assert json.loads(out)["verdict"] == "unknown"
    assert (folder / "r.txt").read_text() == "unknown\n"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="a shell")
@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_closed_streams(folder, closed):
    line = f'exec "$0" -m arfj.verify "$1" "$2" --results "$3" {closed}'
    files = [folder / "n.npz", folder / "robust.vnnlib", folder / "r.txt"]
    command = ["/bin/sh", "-c", line, sys.executable, *files]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
    assert (folder / "r.txt").read_text() == "unsat\n"


@pytest.mark.slow
def test_the_installed_command(folder):
    command = os.path.join(os.path.dirname(sys.executable), "arfj-verify")  # noqa: PTH118, PTH120
    if not os.path.exists(command):  # noqa: PTH110
        pytest.skip("arfj is not installed with its commands")
    done = subprocess.run([command, folder / "n.npz", folder / "robust.vnnlib"], capture_output=True, check=True)
    assert done.stdout.startswith(b"robust")
