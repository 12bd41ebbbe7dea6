"""`python -m arfj.certify cvar` as a user calls it."""

import json
import subprocess
import sys

import numpy as np
import pytest
from conftest import Ran

from arfj.certify.__main__ import main
from arfj.certify.cvar import Moments, Options, certify_classes
from arfj.certify.cvar import command as commands
from arfj.certify.cvar.barrier import Barrier
from arfj.cli import run
from arfj.network import Network

NETWORK = Network.from_arrays(
    [[[1.0, -1.0, 0.5], [0.5, 1.0, -1.0]], [[1.0, -1.0, 0.0], [-0.5, 1.0, 0.3], [0.2, 0.1, -1.0]]],
    [[0.1, 0.0, 0.2], [0.5, 0.0, -0.2]],
    "linear",
)


@pytest.fixture
def given(tmp_path):
    NETWORK.save(tmp_path / "net.npz")
    rows = np.random.default_rng(0).normal(size=(50, 2)) * 0.3 + [1.0, 0.0]
    np.save(tmp_path / "data.npy", rows)
    np.save(tmp_path / "mean.npy", rows.mean(axis=0))
    np.save(tmp_path / "cov.npy", np.cov(rows.T))
    np.save(tmp_path / "three.npy", np.eye(3))
    np.save(tmp_path / "skew.npy", np.array([[1.0, 0.5], [0.0, 1.0]]))
    np.save(tmp_path / "indefinite.npy", np.array([[1.0, 2.0], [2.0, 1.0]]))
    np.save(tmp_path / "nan.npy", np.array([[np.nan, 0.0], [1.0, 1.0]]))
    np.save(tmp_path / "words.npy", np.array([["a", "b"]]))
    return tmp_path


@pytest.fixture
def certify(given, capsys, monkeypatch):
    monkeypatch.chdir(given)

    def call(*arguments):
        capsys.readouterr()
        status = run(main, ["cvar", "--network", "net.npz", *map(str, arguments)])
        return Ran(status, *capsys.readouterr())

    return call


@pytest.mark.parametrize("method", ["first-order", "sdp"])
def test_json(certify, given, method):
    ran = certify("--data", "data.npy", "--true", 0, "--method", method, "--multipliers", "pairs", "--json")
    assert ran.status == 0
    found = json.loads(ran.out)
    assert {"bounds", "certified", "epsilon", "method", "solver_status", "recomputed", "empirical", "seconds"} <= set(
        found
    )
    assert (found["epsilon"], found["method"], found["recomputed"]) == (0.2, method, True)
    assert set(found["bounds"]) == {"1", "2"}
    rows = np.load(given / "data.npy")
    expected = certify_classes(NETWORK, Moments.of(rows), 0, 0.2, Options("pairs", method))
    for j, bound in found["bounds"].items():
        assert bound == pytest.approx(expected[int(j)].bound, abs=1e-6)
        beside = found["empirical"]
        assert beside["cvar"][j] <= bound
        assert beside["falsifier"][j] <= bound
        assert beside["gap"][j] == pytest.approx(bound - beside["falsifier"][j])
    assert found["certified"] == all(bound <= 0 for bound in found["bounds"].values())


def test_the_same_moments_in_files(certify):
    one = json.loads(certify("--data", "data.npy", "--true", 0, "--json").out)
    two = json.loads(certify("--mean", "mean.npy", "--cov", "cov.npy", "--true", 0, "--target", 2, "--json").out)
    assert list(two["bounds"]) == ["2"]
    assert two["bounds"]["2"] == pytest.approx(one["bounds"]["2"], abs=1e-9)
    assert two["empirical"]["samples"] is None
    assert two["empirical"]["cvar"] is None


def test_table(certify):
    ran = certify("--data", "data.npy", "--true", 0, "--multipliers", "products")
    assert ran.status == 0
    for words in (
        "Worst-case CVaR of f_rival - f_0",
        "certified: epsilon 0.2, products multipliers",
        "no solver's word",
    ):
        assert words in ran.out.replace("\n", " ")
    assert "nan" not in ran.out


def test_what_is_printed_is_proven():
    for bound in (0.12341, -0.12349, -1e-9, 12345678.9, -12345678.9, 4.56789e150, -4.56789e150):
        assert bound <= float(commands._up(bound)) <= bound + 1e-4 + 3e-4 * (abs(bound) > commands.LONG) * abs(bound)
    assert commands._up(None) == "-"


def test_an_interrupt_in_the_middle_of_a_stack(certify, monkeypatch):
    step, seen = Barrier.hessian, []

    def interrupted(self, *rest):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt
        return step(self, *rest)

    monkeypatch.setattr(Barrier, "hessian", interrupted)
    ran = certify("--data", "data.npy", "--true", 0)
    assert (ran.status, ran.out) == (130, "")
    assert "interrupted" in ran.err


@pytest.mark.parametrize("mean", [1e150, 1e200])
def test_numbers_that_are_too_large_are_unknown_or_told(certify, given, mean):
    np.save(given / "far.npy", np.full(2, mean))
    ran = certify("--mean", "far.npy", "--cov", "cov.npy", "--true", 0, "--json")
    assert (ran.status, ran.err) == (0, "")
    found = json.loads(ran.out)
    for j, bound in found["bounds"].items():
        assert bound is None or bound >= found["empirical"]["falsifier"][j]


def test_a_share_that_is_next_to_nothing_is_unknown(certify, given):
    ran = certify("--data", "data.npy", "--true", 0, "--epsilon", 1e-300, "--json")
    assert (ran.status, ran.err) == (0, "")
    assert set(json.loads(ran.out)["bounds"].values()) == {None}


def test_unknown_is_no_certificate(certify, monkeypatch):
    found = certify_classes(NETWORK, Moments([1.0, 0.0], np.eye(2)), 0)
    empty = {j: type(one)(None, 0.2, "sdp", "error (no multipliers)", None, 0.0) for j, one in found.items()}
    monkeypatch.setattr(commands, "certify_classes", lambda *_: empty)
    ran = certify("--data", "data.npy", "--true", 0, "--method", "sdp", "--json")
    document = json.loads(ran.out)
    assert document["bounds"] == {"1": None, "2": None}
    assert document["certified"] is False
    assert document["recomputed"] is False
    assert "unknown" in certify("--data", "data.npy", "--true", 0, "--method", "sdp").out


def test_time_limit(certify):
    found = json.loads(
        certify("--data", "data.npy", "--true", 0, "--multipliers", "products", "--time-limit", "0.001", "--json").out
    )
    assert "time limit" in found["solver_status"]
    assert all(bound is not None for bound in found["bounds"].values())


@pytest.mark.parametrize(
    ("arguments", "status", "told"),
    [
        (["--true", 0], 2, "give --data FILE.npy, or --mean"),
        (["--data", "data.npy", "--mean", "mean.npy", "--true", 0], 2, "needed once"),
        (["--mean", "mean.npy", "--true", 0], 2, "--cov is missing"),
        (["--cov", "cov.npy", "--true", 0], 2, "--mean is missing"),
        (["--data", "none.npy", "--true", 0], 1, "none.npy does not exist"),
        (["--data", "three.npy", "--true", 0], 2, "expected (samples, 2)"),
        (["--data", "mean.npy", "--true", 0], 2, "one input a row"),
        (["--data", "nan.npy", "--true", 0], 2, "NaN"),
        (["--data", "words.npy", "--true", 0], 2, "expected real numbers"),
        (["--mean", "mean.npy", "--cov", "three.npy", "--true", 0], 2, "expected (2,) and (2, 2)"),
        (["--mean", "mean.npy", "--cov", "skew.npy", "--true", 0], 2, "not symmetric"),
        (["--mean", "mean.npy", "--cov", "indefinite.npy", "--true", 0], 2, "eigenvalue -1"),
        (["--data", "data.npy", "--true", 3], 2, "expected 0 to 2"),
        (["--data", "data.npy", "--true", 0, "--target", 0], 2, "no rival of itself"),
        (["--data", "data.npy", "--true", 0, "--epsilon", 0], 2, "between 0 and 1"),
        (["--data", "data.npy", "--true", 0, "--epsilon", 1], 2, "between 0 and 1"),
        (["--data", "data.npy", "--true", 0, "--time-limit", "0"], 2, "--time-limit"),
        (["--data", "data.npy", "--true", 0, "--method", "magic"], 2, "magic"),
        (["--data", "data.npy"], 2, "--true"),
    ],
)
def test_errors(certify, arguments, status, told):
    certify(*arguments).is_error(status, told)


def test_a_missing_cvxpy_is_one_line(certify, monkeypatch):
    monkeypatch.setitem(sys.modules, "cvxpy", None)
    certify("--data", "data.npy", "--true", 0, "--method", "sdp").is_error(1, "arfj[certify]")
    assert certify("--data", "data.npy", "--true", 0).status == 0


def test_help_and_loading_are_light():
    code = "import arfj.certify.cvar.command, sys; print('cvxpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
