"""`python -m arfj.certify cdf`, called like a user."""

import itertools
import json
import re
import signal
import subprocess
import sys
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from fractions import Fraction

import numpy as np
import pytest
from conftest import Ran
from hypothesis import given
from hypothesis import strategies as st

from arfj.certify.__main__ import main
from arfj.certify.cdf import command, report
from arfj.certify.cdf.distribution import Bounds
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


def test_classes_in_fractions(cdf):
    """ReLUs of x + y and y, uniform on [-1, 3]: class 0 wins where x >= 0, or y <= 0 and so that both are at most 0."""
    document = json.loads(cdf(*UNIFORM, "--box=-1:3", "--exact", "--classes", "--points", "1", "--json").out)
    assert document["fractions"]["classes"] == [
        {"lower": "13/16", "upper": "13/16"},
        {"lower": "3/16", "upper": "3/16"},
    ]
    assert document["classes"] == [{"lower": 0.8125, "upper": 0.8125}, {"lower": 0.1875, "upper": 0.1875}]
    assert "Class 0 has a probability from 0.812500000 to 0.812500000" in cdf(
        *UNIFORM, "--box=-1:3", "--exact", "--classes", "--points", "1"
    ).out  # fmt: skip


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
        (("--free", "0", "--density", "beta:1,1", "--samples", "50"), "name its file with --plot"),
        (("--free", "0", "--density", "beta:1,1", "--quantile", "1.5"), "between 0 and 1"),
        (("--free", "0", "--density", "beta:1,1", "--points", "0"), "expected 1 to"),
        (("--free", "0", "--density", "beta:1,1", "--joint", "--points", "1000"), "too many"),
        (("--free", "0", "--density", "beta:1,1", "--time-limit", "-1"), "positive number"),
        (("--free", "0", "--density", "beta:1,1", "--box", "zero"), "is no box"),
        (("--free", "0", "--density", "beta:1,1", "--box=1e300:1e305"), "scale the input"),
        (("--free", "0", "--density", "beta:1,1", "--box=0:1e-40"), "scale the input"),
        (("--free", "0", "--density", "beta:1,1", "--box=-1e308:1e308"), "scale the input"),
        (("--free", "0", "--density", "beta:1,1", "--box=nan:1"), "NaN or infinity"),
        (("--free", "0", "--density", "gauss:inf,1", "--box=0:1"), "not finite"),
        (("--free", "0", "--density", "gauss:0,1e200", "--box=0:1"), "too large"),
        (("--free", "0", "--density", "beta:1,1", "--plot", "p.jpg"), "is no picture"),
        (("--free", "0", "--density", "beta:1,1", "--plot", "p.png", "--joint"), "about one output"),
        (("--free", "0", "--density", "beta:1,1", "--joint", "--output", "1"), "not allowed with"),
        (("--free", "0", "--density", "beta:1,1", "--points", "3", "--at", "y.npy"), "not allowed with"),
        (("--free", "0", "--density", "beta:1,1", "--exact", "--quantile", "0.5"), "about points"),
        (("--free", "0", "--density", "mixture:"), "--box is missing"),
        (("--free", "0", "--density", "mixture:", "--box", "0:1"), "names no file"),
        (("--free", "0", "--density", "beta:1,1;gauss:0,1", "--box", "0:1"), "is not read"),
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


@pytest.mark.parametrize(("values", "words"), [(["a"], "holds <U1 values"), ([np.nan], "NaN"), ([], "is empty")])
@pytest.mark.parametrize("option", ["--at", "--box", "--input"])
def test_files_without_numbers_are_told_by_what_they_hold(cdf, folder, option, values, words):
    np.save(folder / "bad.npy", np.array(values))
    cdf(*UNIFORM, option, folder / "bad.npy").is_error(2, f"bad.npy {words}" if words != "NaN" else words)


@pytest.mark.parametrize("joint", [False, True])
def test_points_are_of_the_asked_shape(cdf, folder, joint):
    np.save(folder / "y.npy", np.zeros(3) if joint else np.zeros((2, 2)))
    cdf(*UNIFORM, *["--joint"] * joint, "--at", folder / "y.npy").is_error(2, "(points, 2)" if joint else "(points,)")
    np.save(folder / "y.npy", np.array([[np.nan, 0.0]]) if joint else np.array([np.inf]))
    cdf(*UNIFORM, *["--joint"] * joint, "--at", folder / "y.npy").is_error(2, "finite numbers")


def test_evenly_spread_points_are_those_of_a_grid(cdf, folder):
    """x + y and y: all combinations, in their order, and the same bounds as points of one's own."""
    even = json.loads(cdf(*UNIFORM, "--joint", "--points", "3", "--json").out)
    assert np.array(even["y"]) == pytest.approx(np.array(list(itertools.product((0.5, 1, 1.5), (0.25, 0.5, 0.75)))))
    np.save(folder / "y.npy", np.array(even["y"]))
    own = json.loads(cdf(*UNIFORM, "--joint", "--at", folder / "y.npy", "--json").out)
    assert own["lower"] == pytest.approx(even["lower"], abs=1e-12)
    assert own["upper"] == pytest.approx(even["upper"], abs=1e-12)
    exact = json.loads(cdf(*UNIFORM, "--joint", "--points", "3", "--exact", "--json").out)
    assert all(low <= Fraction(true) for low, true in zip(even["lower"], exact["fractions"]["lower"], strict=True))
    assert all(high >= Fraction(true) for high, true in zip(even["upper"], exact["fractions"]["upper"], strict=True))


def test_boxes_from_files(cdf, folder):
    """x on [0, 2], y on [1, 2]: P(x + y <= 2) = 1/4."""
    np.save(folder / "box.npy", np.array([[0, 1], [2, 2]]))
    np.save(folder / "y.npy", np.array([2.0]))
    document = json.loads(cdf(*UNIFORM, "--box", folder / "box.npy", "--at", folder / "y.npy", "--json").out)
    assert [document["lower"][0], document["upper"][0]] == pytest.approx([0.25, 0.25], abs=1e-11)
    cdf("--free", "0", "--density", "beta:1,1", "--box", folder / "box.npy").is_error(
        2, "expected numbers of shape (2, 1)"
    )


def test_tolerance_is_met_or_told(cdf):
    arguments = ("--free", "0,1", "--density", "beta:1.5,2;beta:2,2.5", "--points", "3", "--json")
    for tolerance in (0.2, 0.05):
        document = json.loads(cdf(*arguments, "--tolerance", tolerance).out)
        assert document["tolerance_met"]
        assert max(np.subtract(document["upper"], document["lower"])) <= tolerance
    few = json.loads(cdf(*arguments, "--tolerance", "1e-6", "--cells", "50").out)
    assert not few["tolerance_met"]
    assert "farther apart" in cdf(*arguments[:-1], "--tolerance", "1e-6", "--cells", "50").out


def test_sharp_densities_are_numbers(cdf):
    few = ("--points", "3", "--cells", "500", "--json")
    document = json.loads(cdf("--free", "0,1", "--density", "beta:900,900;beta:2,2", *few).out)
    assert np.isfinite(document["lower"]).all()
    assert (np.subtract(document["upper"], document["lower"]) >= 0).all()


def test_numbers_that_are_none_are_no_answer(cdf, monkeypatch):
    def broken(*_):
        return replaced(Bounds(np.array([np.nan]), np.array([1.0])))

    def replaced(bounds):
        return type("Found", (), {"bounds": bounds})()

    monkeypatch.setattr("arfj.certify.cdf.answers.refined", broken)
    cdf(*UNIFORM).is_error(1, "are no numbers")


@pytest.mark.parametrize("exact", [True, False])
def test_a_float_beside_an_atom_is_not_the_atom(cdf, folder, exact):
    """A constant 1/10 times 3/10 (both as floats), which lies between two floats: fractions can tell."""
    constant = Network.from_arrays([[[0.0]], [[0.3]]], [[0.1], [0.0]], "linear")
    constant.save(folder / "net.npz")
    np.save(folder / "x.npy", np.zeros(1))
    atom = Fraction(0.1) * Fraction(0.3)
    near = [float(atom), np.nextafter(float(atom), 1.0), np.nextafter(float(atom), 0.0)]
    np.save(folder / "y.npy", np.array(near))
    document = json.loads(
        cdf("--free", "0", "--density", "beta:1,1", "--at", folder / "y.npy", "--json", *["--exact"][: int(exact)]).out
    )
    expected = [float(Fraction(y) >= atom) for y in near]
    assert (np.array(document["lower"]) <= expected).all()
    assert (np.array(document["upper"]) >= expected).all()
    if exact:
        assert document["lower"] == document["upper"] == expected
        assert document["tolerance_met"]
        table = cdf("--free", "0", "--density", "beta:1,1", "--at", folder / "y.npy", "--exact").out
        assert len(set(re.findall(r"0\.0[23]\d+(?= )", table))) == len(near), "no two look alike"


@pytest.mark.parametrize("options", [(), ("--exact",), ("--softmax",), ("--segments", "2"), ("--json",)])
@pytest.mark.parametrize("last", [1e200, 1e-300])
def test_values_that_no_float_can_bear_are_told(cdf, folder, options, last):
    """In between they overflow, whatever the last layer makes of them."""
    weights = [1e200 * np.ones((2, 2)), 1e200 * np.ones((2, 2)), last * np.eye(2)]
    Network.from_arrays(weights, [np.zeros(2)] * 3, "linear").save(folder / "net.npz")
    ran = cdf(*UNIFORM, *options)
    assert (ran.status, ran.out, ran.err.count("\n")) == (2, "", 1)
    assert "scale its weights down" in ran.err


def test_a_mixture_without_components(cdf, folder):
    np.savez(folder / "m.npz", means=np.zeros((0, 2)), cov=np.eye(2))
    ran = cdf("--free", "0,1", "--density", f"mixture:{folder / 'm.npz'}", "--box", "0:1")
    ran.is_error(2, "no component")


@given(st.floats(1e-30, 1e30), st.integers(1, 9))
def test_numbers_are_rounded_to_the_side_that_is_asked_for(value, digits):
    down, up = (report.rounded(value, digits, side) for side in (ROUND_FLOOR, ROUND_CEILING))
    assert Decimal(down) <= Decimal(value) <= Decimal(up)
    assert Decimal(up) - Decimal(down) <= Decimal(10) ** (Decimal(value).adjusted() + 1 - digits)


def test_ends_of_a_quantile_are_rounded_outward(cdf, folder):
    """A constant 2/3, which no decimal number is."""
    Network.from_arrays([[[0.0]]], [[2 / 3]], "linear").save(folder / "net.npz")
    np.save(folder / "x.npy", np.zeros(1))
    said = cdf("--free", "0", "--density", "beta:1,1", "--quantile", "0.5").out
    low, high = map(float, re.search(r"lies between (\S+) and (\S+)\.\n", said).groups())
    assert low < 2 / 3 < high


def test_fractions_of_any_length():
    long = Fraction(7**9000, 3**9000)
    top, bottom = report.told(long).split("/")
    assert (len(top), len(bottom)) == (7606, 4295)
    assert [int(text[:2000]) for text in (top, bottom)] == [7**9000 // 10**5606, 3**9000 // 10**2295]
    assert report.told(Fraction(10**4000 + 7, 3)) == f"1{7:04000d}/3"
    assert [report.told(Fraction(*pair)) for pair in ((0, 1), (1, 1), (3, 8))] == ["0", "1", "3/8"]


def test_how_far_it_is_stands_on_a_terminal_only(cdf, monkeypatch):
    lines = []

    class Line:
        def __init__(self, text):
            lines.append(text)

        def __enter__(self):
            return lines.append

        def __exit__(self, *_):
            return None

    arguments = ("--free", "0,1", "--density", "beta:1.5,2;beta:2,2.5", "--points", "3", "--tolerance", "0.3")
    assert cdf(*arguments).err == ""
    monkeypatch.setattr(command, "status_line", Line)
    cdf(*arguments)
    assert lines[0] == "cutting the box into regions"
    assert re.fullmatch(r"\d+ of 1000000 cells, \d+ s left", lines[-1])


def test_interrupted(tmp_path):
    """Minutes of work, which Ctrl-C ends at once: status 130, nothing on stdout, no traceback."""
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(7, 24)), rng.normal(size=(24, 24)), rng.normal(size=(24, 2))]
    Network.from_arrays(weights, [np.zeros(24), np.zeros(24), np.zeros(2)], "linear").save(tmp_path / "net.npz")
    np.save(tmp_path / "x.npy", np.zeros(7))
    arguments = ["--network", tmp_path / "net.npz", "--input", tmp_path / "x.npy", "--free", "0,1,2,3,4,5,6"]
    started = [
        sys.executable,
        "-m",
        "arfj.certify",
        "cdf",
        *map(str, arguments),
        "--density",
        ";".join(["beta:1,1"] * 7),
    ]
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert "7 free inputs" in process.stderr.readline()  # the cost is told before anything is begun
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err == "interrupted; what was finished is kept\n"
