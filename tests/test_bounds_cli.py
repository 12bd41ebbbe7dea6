"""`python -m arfj.bounds`: its document and its errors; exact bounds against enumeration."""

import itertools
import json
from fractions import Fraction
from operator import mul

import numpy as np
import pytest
from conftest import Ran
from reference import exact_bounds as enumerated
from reference import random_network

from arfj.bounds import pre_activation_bounds
from arfj.bounds.__main__ import default_method, main
from arfj.cli import run
from arfj.errors import UsageError
from arfj.exact import exact_bounds
from arfj.graph import Activation, Affine, Graph
from arfj.network import Network
from arfj.region import Region

BY_HAND = Network.from_arrays([[[1.0, 1.0], [1.0, -1.0]], [[1.0], [1.0]]], [[-1.0, 0.0], [0.25]], "linear")
"""relu(x0 + x1 - 1) + relu(x0 - x1) + 0.25; over [0, 1]^2 it is between 0.25 and 1.25."""


@pytest.fixture
def bounds(capsys):
    """Call `python -m arfj.bounds` in this process."""

    def call(*arguments):
        capsys.readouterr()
        return Ran(run(main, [str(argument) for argument in arguments]), *capsys.readouterr())

    return call


@pytest.fixture
def given(tmp_path):
    """A network file and an image in the middle of its inputs."""
    BY_HAND.save(tmp_path / "n.npz")
    np.save(tmp_path / "x.npy", np.array([0.5, 0.5]))
    return [tmp_path / "n.npz", "--image", tmp_path / "x.npy"]


# --- The document ----------------------------------------------------------------------------------------------------


def test_the_document_has_the_keys_of_the_interface(bounds, given):
    ran = bounds(*given, "--box", 1, "--json")
    document = json.loads(ran.out)
    assert ran.status == 0
    assert document.keys() >= {"layers", "unstable", "seconds"}
    assert [layer.keys() for layer in document["layers"]] == [{"lower", "upper"}] * 2
    assert document["layers"][0]["lower"] == pytest.approx([-1, -1])
    assert document["layers"][0]["upper"] == pytest.approx([1, 1])
    assert document["unstable"] == 2


@pytest.mark.parametrize("method", ["interval", "crown", "alpha-crown", "exact"])
def test_every_method_answers(bounds, given, method):
    document = json.loads(bounds(*given, "--box", 1, "--method", method, "--json").out)
    (low,), (up,) = document["layers"][1].values()
    assert low <= 0.25
    assert up >= 1.25
    assert document["method"] == method
    if method == "exact":
        assert (low, up) == (pytest.approx(0.25, abs=1e-6), pytest.approx(1.25, abs=1e-6))
        assert document["late"] == 0


@pytest.mark.parametrize(("option", "reach"), [("--box", 0.2), ("--l1", 0.1), ("--l2", 0.2 / np.sqrt(2))])
def test_the_sets(bounds, given, option, reach):
    """x0 + x1 - 1 and x0 - x1 move by 2 eps, R and sqrt(2) R."""
    document = json.loads(bounds(*given, option, reach, "--json").out)
    extent = {"--box": 0.4, "--l1": 0.1, "--l2": 0.2}[option]
    assert document["layers"][0]["upper"] == pytest.approx([extent, extent])


def test_the_set_is_cut_with_the_pixels(bounds, given, tmp_path):
    np.save(tmp_path / "x.npy", np.array([0.0, 1.0]))
    document = json.loads(bounds(*given, "--box", 0.25, "--json").out)
    assert document["layers"][0]["lower"] == pytest.approx([-0.25, -1])
    assert document["layers"][0]["upper"] == pytest.approx([0.25, -0.5])


def test_the_table(bounds, given):
    ran = bounds(*given, "--box", 1)
    assert ran.status == 0
    assert "alpha-crown" in ran.out
    assert "2 unstable hidden neurons" in ran.out
    assert ran.err == ""


def test_shapes_of_images(bounds, tmp_path):
    Network(random_network((784, 2, 2), 0).layers, (28, 28, 1)).save(tmp_path / "n.npz")
    for shape in ((784,), (28, 28), (28, 28, 1)):
        np.save(tmp_path / "x.npy", np.full(shape, 0.5))
        assert bounds(tmp_path / "n.npz", "--image", tmp_path / "x.npy", "--box", 0.1).status == 0
    np.save(tmp_path / "x.npy", np.full((1, 784), 0.5))
    bounds(tmp_path / "n.npz", "--image", tmp_path / "x.npy", "--box", 0.1).is_error(2, "(1, 784)")


def test_other_kinds_of_networks(bounds, given, tmp_path):
    eye = np.eye(2)
    nodes = (Affine((0,), (eye,), np.zeros(2)), Activation(1, "tanh"), Affine((0, 2), (eye, eye), np.zeros(2)))
    Graph(2, nodes).save(tmp_path / "n.npz")
    document = json.loads(bounds(*given, "--box", 0.25, "--json").out)
    assert document["layers"][1]["lower"][0] <= 0.25 + np.tanh(0.25)
    assert document["layers"][1]["upper"][0] >= 0.75 + np.tanh(0.75)
    bounds(*given, "--box", 0.25, "--method", "exact").is_error(2, "tanh")


def test_the_default_method_is_bearable():
    wide = Affine((0,), (np.ones((1, 3000)),), np.zeros(3000))
    deep = Affine((2,), (np.ones((3000, 3000)),), np.zeros(3000))
    last = Affine((4,), (np.ones((3000, 1)),), np.zeros(1))
    large = Graph(1, (wide, Activation(1, "relu"), deep, Activation(3, "relu"), last))
    assert default_method(BY_HAND.graph()) == "alpha-crown"
    assert default_method(large) == "crown"


# --- What a user can get wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ([], 2, "--box --l1 --l2 is required"),
        (["--box", 1, "--l1", 1], 2, "not allowed with"),
        (["--box", -0.1], 2, ">= 0"),
        (["--l1", "nan"], 2, ">= 0"),
        (["--l2", "much"], 2, "invalid float"),
        (["--box", 1, "--method", "guess"], 2, "invalid choice"),
        (["--box", 1, "--time-limit", 0], 2, "--time-limit"),
        (["--l2", 0.1, "--method", "exact"], 2, "L2"),
        (["--box", 1, "--image", "nowhere.npy"], 1, "nowhere.npy"),
        (["--box", 1, "--frobnicate"], 2, "unrecognized"),
    ],
)
def test_wrong_arguments(bounds, given, arguments, status, words):
    bounds(*given, *arguments).is_error(status, words)


@pytest.mark.parametrize(
    ("image", "status", "words"),
    [(np.zeros(3), 2, "shape (3,)"), (np.array([0.5, np.nan]), 1, "NaN"), (np.array([0.0, 2.0]), 1, "[0, 1]")],
)
def test_images_that_do_not_fit(bounds, given, tmp_path, image, status, words):
    np.save(tmp_path / "x.npy", image)
    bounds(*given, "--box", 0.1).is_error(status, words)


@pytest.mark.parametrize("method", ["interval", "crown", "alpha-crown"])
def test_weights_that_overflow(bounds, given, tmp_path, method):
    network = Network.from_arrays([np.full((2, 2), 1e200)] * 3, [np.zeros(2)] * 3, "linear")
    network.save(tmp_path / "n.npz")
    bounds(*given, "--box", 0.1, "--method", method).is_error(1, "scale the network's weights down")


def test_a_missing_network_and_a_missing_image(bounds, given, tmp_path):
    bounds(tmp_path / "no.npz", *given[1:], "--box", 1).is_error(1, "no.npz")
    bounds(given[0], "--box", 1).is_error(2, "--image")


def test_help_starts_with_examples(bounds, capsys):
    with pytest.raises(SystemExit):
        bounds("--help")
    printed = capsys.readouterr().out
    assert "examples:" in printed
    assert "default: alpha-crown" in printed


# --- Exact bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("radius", [0.4, np.inf])
def test_exact_bounds_are_those_of_enumeration(seed, radius):
    network = random_network((3, 3, 3, 2), seed, "linear" if seed % 2 else "relu")
    region = Region.around(np.random.default_rng(seed).random(3), radius)
    found = exact_bounds(network, region)
    assert (found.late, found.interrupted) == (0, False)
    for mine, expected in zip((found.bounds.lower, found.bounds.upper), enumerated(network, region), strict=True):
        sign = 1.0 if mine is found.bounds.lower else -1.0
        for one, other in zip(mine, expected, strict=True):
            assert (sign * (other - one) >= -1e-9).all(), "not sound"
            assert np.allclose(one, other, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("seed", "sizes", "factor"), [(1, (2, 4, 4, 2, 2), 1e4), (22, (3, 3, 2, 2), 1e5), (22, (3, 3, 2, 2), 10.0)]
)
def test_exact_bounds_of_layers_that_are_large_together(seed, sizes, factor):
    """A solver's bounds were too narrow by a third: nodes that it called infeasible held points."""
    rng = np.random.default_rng(seed)
    rng.integers(2, 4), rng.integers(2, 4), [rng.integers(2, 5) for _ in sizes[1:-1]]
    weights = [factor * rng.normal(size=shape) for shape in itertools.pairwise(sizes)]
    powers = factor ** np.arange(1.0, len(sizes))
    biases = [0.3 * power * rng.normal(size=size) for power, size in zip(powers, sizes[1:], strict=True)]
    network = Network.from_arrays(weights, biases, "linear")
    points = rng.random((20_000, sizes[0]))
    found = exact_bounds(network, Region.between(np.zeros(sizes[0]), np.ones(sizes[0])), 2.0)
    for low, up, values in zip(found.bounds.lower, found.bounds.upper, network.preactivations(points), strict=True):
        room = 1e-12 * np.abs(values).max()
        assert (low <= values.min(axis=0) + room).all()
        assert (up >= values.max(axis=0) - room).all()
    assert (found.late == 0) == (factor == 10.0)


@pytest.mark.parametrize("open_ones", [0, 2])
@pytest.mark.parametrize("large", [1e3, 1e8, 1e10, 1e12, 1e14])
def test_exact_bounds_hold_where_large_values_cancel(large, open_ones):
    """Biases that the last layer takes away again: what their rounding takes belongs to the margin, or it is told."""
    rng, stable = np.random.default_rng(int(np.log10(large))), 6
    first = rng.normal(size=(3, stable + open_ones))
    bias = np.append(large * (1 + rng.random(stable)), -0.5 * first[:, stable:].sum(axis=0))
    last = rng.normal(size=(stable + open_ones, 1))
    offset = -bias[:stable] @ last[:stable]
    network = Network.from_arrays([first, last], [bias, offset], "linear")
    found = exact_bounds(network, Region.between(np.zeros(3), np.ones(3)))

    def value(x):
        sums = [
            sum(map(mul, map(Fraction, x), map(Fraction, w)), Fraction(b)) for w, b in zip(first.T, bias, strict=True)
        ]
        terms = (max(one, Fraction(0)) * Fraction(w) for one, w in zip(sums, last[:, 0], strict=True))
        return sum(terms, Fraction(offset[0]))

    values = [value(x) for x in itertools.product([0.0, 1.0], repeat=3)]
    assert Fraction(found.bounds.lower[-1][0]) <= min(values)
    assert Fraction(found.bounds.upper[-1][0]) >= max(values)
    assert (found.late == 0) == (large < 1e8)


def test_exact_bounds_of_a_residual_graph_hold_samples_and_are_reached():
    rng = np.random.default_rng(3)
    first, second, last = (rng.normal(size=shape) for shape in ((3, 4), (4, 4), (4, 2)))
    nodes = (
        Affine((0,), (first,), rng.normal(size=4)),
        Activation(1, "relu"),
        Affine((2,), (second,), rng.normal(size=4)),
        Activation(3, "relu"),
        Affine((2, 4), (last, last), np.zeros(2)),
    )
    graph, region = Graph(3, nodes), Region.cube(np.full(3, 0.5), 0.5)
    found = exact_bounds(graph, region).bounds
    points = np.stack(np.meshgrid(*[np.linspace(0, 1, 41)] * 3), axis=-1).reshape(-1, 3)
    y = graph(points)
    assert (found.lower[-1] <= y.min(axis=0)).all()
    assert (found.upper[-1] >= y.max(axis=0)).all()
    assert np.allclose([found.lower[-1], found.upper[-1]], [y.min(axis=0), y.max(axis=0)], atol=0.2)
    rough = pre_activation_bounds(graph, region)
    assert (found.lower[-1] >= rough.lower[-1]).all()


def test_without_time_the_bounds_are_sound_and_not_looser():
    network = random_network((3, 6, 6, 2), 1)
    region = Region.around(np.full(3, 0.5))
    found, rough = exact_bounds(network, region, seconds=1e-6), pre_activation_bounds(network, region)
    assert found.late > 0
    points = np.random.default_rng(0).random((500, 3))
    assert found.bounds.hold(network.preactivations(points))
    assert all((one >= other).all() for one, other in zip(found.bounds.lower, rough.lower, strict=True))


def test_what_is_finished_survives_ctrl_c():
    network = random_network((3, 4, 4, 2), 1)
    region = Region.around(np.full(3, 0.5))

    def press(layer, done, asked):
        raise KeyboardInterrupt

    found = exact_bounds(network, region, progress=press)
    assert found.interrupted
    assert found.late > 0
    assert found.bounds.hold(network.preactivations(np.random.default_rng(0).random((500, 3))))


def test_large_networks_are_refused():
    network = random_network((3, 200, 200, 2), 0)
    with pytest.raises(UsageError, match="at most 150"):
        exact_bounds(network, Region.around(np.full(3, 0.5)))
