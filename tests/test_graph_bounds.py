"""Bounds of graphs of every kind: no point leaves them, whatever the scales, and exact optima fit inside."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import KINDS, badly_scaled, exact_values, points_of, random_graph, random_region
from reference import least_margin

from arfj.bounds import crown_bounds, interval_bounds, pre_activation_bounds
from arfj.bounds.backward import sites
from arfj.graph import Activation, Affine, Graph
from arfj.region import Region

METHODS = ["interval", "crown", "alpha-crown"]
SEEDS = st.integers(0, 2**20)


def check_inside(graph, bounds, points):
    """Exact values and those of the float64 forward pass."""
    for values in (exact_values(graph, points), graph.values(points)):
        for site, low, up in zip(sites(graph), bounds.lower, bounds.upper, strict=True):
            assert (values[site] >= low).all(), f"value {site} falls below its bound"
            assert (values[site] <= up).all(), f"value {site} rises above its bound"


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(seed=SEEDS)
def test_no_point_leaves(kind, seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, kind)
    region = random_region(graph.inputs, rng)
    points = np.array([x for x in points_of(region, rng, 40) if region.contains(x)])
    found = [pre_activation_bounds(graph, region, method) for method in METHODS]
    for bounds in found:
        check_inside(graph, bounds, points)
    for looser, tighter in itertools.pairwise(found):
        for k in range(len(looser.lower)):
            assert (tighter.lower[k] >= looser.lower[k] - 1e-7 * (1 + np.abs(looser.lower[k]))).all()
            assert (tighter.upper[k] <= looser.upper[k] + 1e-7 * (1 + np.abs(looser.upper[k]))).all()


@pytest.mark.parametrize("kind", ["dense", "wild", "leaky", "convolution"])
@settings(deadline=None, max_examples=20)
@given(seed=SEEDS, powers=st.sampled_from([1.0, 4.0, 10.0]), place=st.sampled_from([1.0, 1e-9, 1e7]))
def test_bad_scales(kind, seed, powers, place):
    """Weights of very different sizes, neurons that nearly cancel, boxes far from 0."""
    rng = np.random.default_rng(seed)
    graph = badly_scaled(random_graph(seed, kind), seed, powers)
    box = random_region(graph.inputs, rng, balls=False)
    region = Region.between(box.lower * place, box.upper * place)
    for bounds in (interval_bounds(graph, region), crown_bounds(graph, region, 5)):
        check_inside(graph, bounds, points_of(region, rng, 40))


@pytest.mark.parametrize("kind", ["dense", "ties", "leaky", "convolution"])
@pytest.mark.parametrize("seed", range(6))
def test_against_exact_optima(kind, seed):
    graph = random_graph(seed, kind, outputs=1)
    region = random_region(graph.inputs, np.random.default_rng(seed), balls=False)
    optima = []
    for sign in (1.0, -1.0):
        x, least = least_margin(graph, region.lower, region.upper, np.array([[sign]]), np.zeros(1))
        assert region.contains(x)
        optima.append(sign * least)
    for method in METHODS:
        bounds = pre_activation_bounds(graph, region, method)
        assert bounds.lower[-1][0] <= optima[0] + 1e-9
        assert bounds.upper[-1][0] >= optima[1] - 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_point(kind):
    graph = random_graph(3, kind)
    x = np.random.default_rng(0).normal(size=graph.inputs)
    bounds = pre_activation_bounds(graph, Region.between(x, x))
    values = graph.values(x[None])
    for site, low, up in zip(sites(graph), bounds.lower, bounds.upper, strict=True):
        assert low == pytest.approx(values[site][0], abs=1e-8)
        assert up == pytest.approx(values[site][0], abs=1e-8)


def test_an_affine_network_is_exact():
    """Also through several affine nodes, whose intervals alone would lose x - x."""
    eye = np.eye(2)
    nodes = (
        Affine((0,), (eye,), np.zeros(2)),
        Affine((0,), (-eye,), np.ones(2)),
        Affine((1, 2), (eye, eye), np.zeros(2)),
    )
    bounds = crown_bounds(Graph(2, nodes), Region.between([-5.0, 0.0], [5.0, 1.0]))
    assert bounds.lower[-1] == pytest.approx([1, 1], abs=1e-9)
    assert bounds.upper[-1] == pytest.approx([1, 1], abs=1e-9)


def test_activations_of_the_input():
    graph = Graph(
        2, (Activation(0, "relu"), Activation(1, "tanh"), Affine((2, 0), (np.eye(2), np.eye(2)), np.zeros(2)))
    )
    region = Region.between([-1.0, -2.0], [1.0, -1.0])
    for method in METHODS:
        bounds = pre_activation_bounds(graph, region, method)
        check_inside(graph, bounds, points_of(region, np.random.default_rng(0)))
        assert [low.tolist() for low in bounds.lower[:2]] == [[-1, -2], [0, 0]]


def test_known_bounds_are_kept():
    graph = random_graph(5, "dense")
    region = random_region(graph.inputs, np.random.default_rng(5), balls=False)
    known = crown_bounds(graph, region)
    again = crown_bounds(graph, region, 5, known, every=False)
    for k, (low, up) in enumerate(zip(again.lower, again.upper, strict=True)):
        assert (low >= known.lower[k]).all()
        assert (up <= known.upper[k]).all()
    check_inside(graph, again, points_of(region, np.random.default_rng(5)))


@pytest.mark.parametrize("scale", [1e150, 1e200, 1e300])
def test_beyond_float64_nothing_is_bounded(scale):
    """Infinity less infinity is no number; it must not pass for a bound."""
    rng = np.random.default_rng(0)
    maps = [rng.normal(size=shape) * scale for shape in ((2, 3), (3, 3), (3, 1))]
    nodes = [Affine((0,), (maps[0],), np.zeros(3)), Activation(1, "relu"), Affine((2,), (maps[1],), np.zeros(3))]
    nodes += [Activation(3, "relu"), Affine((4,), (maps[2],), np.zeros(1))]
    with np.errstate(all="ignore"):
        for method in METHODS:
            bounds = pre_activation_bounds(Graph(2, tuple(nodes)), Region.between([-1.0, -1.0], [1.0, 1.0]), method)
            assert not any(np.isnan(side).any() for side in (*bounds.lower, *bounds.upper))
            assert bounds.lower[-1][0] == -np.inf
            assert bounds.upper[-1][0] == np.inf
