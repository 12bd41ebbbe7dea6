"""`python -m arfj.certify cdf`, called like a user."""

import json

import numpy as np
import pytest
from conftest import Ran

from arfj.certify.__main__ import main
from arfj.cli import run
from arfj.network import Network


@pytest.fixture
def folder(tmp_path):
    network = Network.from_arrays([[[1.0, 0.0], [1.0, 1.0]], np.eye(2)], [[0.0, 0.0], [0.0, 0.0]], "linear")
    network.save(tmp_path / "net.npz")
    np.save(tmp_path / "x.npy", np.zeros(2))
    return tmp_path


@pytest.fixture
def cdf(folder, capsys):
    def call(*arguments):
        capsys.readouterr()
        given = ["cdf", "--network", folder / "net.npz", "--input", folder / "x.npy", *arguments]
        return Ran(run(main, [str(argument) for argument in given]), *capsys.readouterr())

    return call


UNIFORM = ("--free", "0,1", "--density", "beta:1,1;beta:1,1")


def test_json_has_the_keys(cdf, folder):
    """Outputs x + y and y of independent uniforms."""
    np.save(folder / "y.npy", np.array([1.0, 0.5, 3.0]))
    document = json.loads(cdf(*UNIFORM, "--at", folder / "y.npy", "--json").out)
    assert {"y", "lower", "upper", "regions", "outside_mass", "seconds"} <= document.keys()
    assert document["y"] == [1.0, 0.5, 3.0]
    assert document["lower"] == pytest.approx([0.5, 0.125, 1.0], abs=1e-10)
    assert document["upper"] == pytest.approx([0.5, 0.125, 1.0], abs=1e-10)
    assert document["outside_mass"] == 0
    assert document["regions"] == 1


def test_joint_points(cdf, folder):
    np.save(folder / "y.npy", np.array([[1.0, 0.5], [2.0, 0.25]]))
    document = json.loads(cdf(*UNIFORM, "--joint", "--at", folder / "y.npy", "--json").out)
    assert document["lower"] == pytest.approx([0.375, 0.25], abs=1e-10)
    assert document["upper"] == pytest.approx([0.375, 0.25], abs=1e-10)


def test_exact_gives_fractions(cdf, folder):
    np.save(folder / "y.npy", np.array([0.5]))
    document = json.loads(cdf(*UNIFORM, "--exact", "--at", folder / "y.npy", "--json").out)
    assert document["fractions"] == {"lower": ["1/8"], "upper": ["1/8"]}
    assert document["lower"] == document["upper"] == [0.125]


def test_a_mixture_from_a_file(cdf, folder):
    np.savez(folder / "m.npz", means=np.array([[0.2], [0.8]]), cov=np.array([[0.01]]))
    arguments = ("--free", "1", "--density", f"mixture:{folder / 'm.npz'}", "--box", "0:1", "--output", "1")
    document = json.loads(cdf(*arguments, "--quantile", "0.5", "--points", "3", "--json").out)
    assert document["outside_mass"] == pytest.approx(0.02275, abs=1e-5)
    assert document["lower"][1] == pytest.approx(0.5 - 0.02275 / 2, abs=1e-5)
    assert document["upper"][1] - document["lower"][1] == pytest.approx(document["outside_mass"], abs=1e-8)
    assert document["quantile"]["lower"] < 0.5 < document["quantile"]["upper"]
    inside = json.loads(cdf(*arguments, "--outside", "renormalise", "--points", "3", "--json").out)
    assert [inside["lower"][1], inside["upper"][1]] == pytest.approx([0.5, 0.5], abs=1e-9)


def test_the_table_says_what_is_claimed(cdf):
    ran = cdf("--free", "0", "--density", "gauss:0,1", "--box=-1:1", "--points", "4", "--classes")
    assert ran.status == 0
    assert "linear regions" in ran.out
    assert "lies outside the box" in ran.out
    assert "is assumed" in ran.out
    assert "Class 1 has a probability" in ran.out


def test_a_plot_is_written(cdf, folder):
    pytest.importorskip("matplotlib")
    ran = cdf(*UNIFORM, "--plot", folder / "p.png", "--samples", "500")
    assert ran.status == 0
    assert (folder / "p.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--free", "0,2", "--density", "beta:1,1;beta:1,1"), "not distinct indices"),
        (("--free", "a", "--density", "beta:1,1"), "holds no numbers"),
        (("--free", "0", "--density", "beta:1,1;beta:1,1"), "2 parts for 1 free inputs"),
        (("--free", "0", "--density", "cauchy:0,1", "--box", "0:1"), "is not known"),
        (("--free", "0", "--density", "beta:0.5,1"), "not bounded"),
        (("--free", "0", "--density", "gauss:0,1"), "--box is missing"),
        (("--free", "0", "--density", "gauss:0,-1", "--box", "0:1"), "not above 0"),
        (("--free", "0", "--density", "gauss:0,1", "--box", "1:0"), "is empty"),
        (("--free", "0", "--density", "gauss:0,1", "--box", "1:1"), "no mass"),
        (("--free", "0", "--density", "gauss:0,1", "--box", "0:1", "--exact"), "polynomial density"),
        (("--free", "0", "--density", "beta:1,1", "--output", "2"), "does not exist"),
        (("--free", "0", "--density", "beta:1,1", "--quantile", "1.5"), "between 0 and 1"),
        (("--free", "0", "--density", "beta:1,1", "--points", "0"), "expected 1 to"),
        (("--free", "0", "--density", "beta:1,1", "--joint", "--points", "1000"), "too many"),
        (("--free", "0", "--density", "beta:1,1", "--time-limit", "-1"), "positive number"),
        (("--free", "0", "--density", "beta:1,1", "--box", "zero"), "is no box"),
    ],
)
def test_wrong_usage_is_one_line(cdf, arguments, words):
    cdf(*arguments).is_error(2, words)


def test_many_free_inputs_are_told_beforehand(tmp_path, capsys):
    network = Network.from_arrays([np.ones((10, 1))], [[0.0]], "linear")
    network.save(tmp_path / "wide.npz")
    np.save(tmp_path / "x.npy", np.zeros(10))
    for count, status in ((7, 0), (10, 2)):
        free, density = ",".join(map(str, range(count))), ";".join(["beta:1,1"] * count)
        arguments = ["cdf", "--network", str(tmp_path / "wide.npz"), "--input", str(tmp_path / "x.npy"), "--free", free]
        assert run(main, [*arguments, "--density", density, "--points", "1"]) == status
        assert f"{count} free inputs: the box" in capsys.readouterr().err or status
