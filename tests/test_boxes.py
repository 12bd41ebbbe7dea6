"""Bounds on many boxes: planes lie below the network, clipping keeps every counterexample, what is known stays true."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import KINDS, badly_scaled, exact_values, random_graph, random_region
from reference import random_network

from arfj.bounds import crown_bounds
from arfj.bounds.boxes import BoxProgram, clip
from arfj.graph import Activation, Affine, Graph
from arfj.region import Region
from arfj.verify import pool as pools
from arfj.verify.inputs import _shrunk, split_inputs
from arfj.verify.margins import margins_of, region_of
from arfj.verify.property import Case, Polyhedron
from arfj.verify.search import Clock


def points_in(low, up, rng):
    uniform = rng.uniform(low, up, size=(40, len(low)))
    corners = np.where(rng.random(uniform.shape) < 0.5, low, up)
    return np.clip(np.vstack([uniform, corners]), low, up)


def check_planes(planes, k, low, up, outputs, points):
    for lower, rows in zip(planes.lower[:, k], planes.rows[:, k].astype(np.longdouble), strict=True):
        least = (np.where(rows > 0, low, up) * rows).sum(axis=1)
        assert (points @ rows.T - least + lower <= outputs).all(), "a plane rises above the network"


def check_clip(planes, k, low, up, outputs, points, rng):
    """Thresholds that make about a third of the points counterexamples: none of them is cut off."""
    threshold = np.quantile(outputs.astype(np.float64), rng.choice([0.0, 0.1, 0.4]), axis=0)
    proven = np.concatenate(planes.lower[:, k] - threshold)[None]
    rows = np.concatenate(planes.rows[:, k])[None]
    unsafe = points[(outputs <= threshold).all(axis=1)]
    for cut in (clip, _shrunk):
        new_low, new_up = cut(low[None], up[None], proven, rows)
        assert ((new_low >= low) & (new_up <= up)).all()
        assert ((unsafe >= new_low) & (unsafe <= new_up)).all(), f"{cut.__name__} cuts a counterexample off"


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**20), scaled=st.sampled_from([0.0, 0.0, 3.0]), place=st.sampled_from([1.0, 1.0, 1e6]))
def test_boxes_in_boxes(kind, seed, scaled, place):
    """Boxes that are cut again and again, each with what was known of the box before."""
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, kind)
    graph = badly_scaled(graph, seed, scaled) if scaled else graph
    region = random_region(graph.inputs, rng, balls=False)
    low, up = region.lower[None] + (place if place > 1 else 0.0), region.upper[None] + (place if place > 1 else 0.0)
    whole = type(region).between(low[0], up[0])
    program = BoxProgram(graph, crown_bounds(graph, whole), low[0], up[0], 2)
    known = program.root()
    for _ in range(5):
        planes = program(low, up, known)
        for k in range(len(low)):
            points = points_in(low[k], up[k], rng)
            values = exact_values(graph, points)
            hidden = np.concatenate([np.zeros((len(points), 0)), *(values[site] for site in program.hidden)], axis=1)
            assert ((hidden >= planes.known[0, k]) & (hidden <= planes.known[1, k])).all(), "what is known is not true"
            check_planes(planes, k, low[k], up[k], values[-1], points)
            check_clip(planes, k, low[k], up[k], values[-1], points, rng)
        axis, middle = rng.integers(graph.inputs), 0.5 * (low + up)
        left_up, right_low = up.copy(), low.copy()
        left_up[:, axis] = right_low[:, axis] = middle[:, axis]
        low, up = np.concatenate([low, right_low]), np.concatenate([left_up, up])
        known = np.concatenate([planes.known, planes.known], axis=1)
        kept = rng.permutation(len(low))[:3]
        low, up, known = low[kept], up[kept], known[:, kept]


def test_known_is_of_its_own_box():
    """Bounds that two boxes hand on are not mixed up: both halves' are of the halves."""
    graph = random_graph(7, "dense")
    region = random_region(graph.inputs, np.random.default_rng(1), balls=False)
    low, up = region.centre - 1.0, region.centre + 1.0
    program = BoxProgram(graph, crown_bounds(graph, type(region).between(low, up)), low, up, 1)
    halves_low, halves_up = np.array([low, low]), np.array([up, up])
    halves_up[0, 0] = halves_low[1, 0] = region.centre[0]
    both = program(halves_low, halves_up, np.repeat(program.root(), 2, axis=1))
    for k in range(2):
        alone = program(halves_low[k : k + 1], halves_up[k : k + 1], program.root())
        assert both.lower[:, k] == pytest.approx(alone.lower[:, 0])
        assert both.known[:, k] == pytest.approx(alone.known[:, 0])
        again = program(halves_low[k : k + 1], halves_up[k : k + 1], both.known[:, k : k + 1])
        assert (again.lower[0, 0] >= both.lower[0, k] - 1e-5).all()


def test_clip_by_hand():
    """x + y >= 1.5 - ... on [0, 1]^2: the row -x - y + 1.5 <= 0 needs x, y >= 0.5; 2 x - 0.5 <= 0 needs x <= 0.25."""
    low, up = np.zeros((1, 2)), np.ones((1, 2))
    new = clip(low, up, np.array([[-0.5]]), np.array([[[-1.0, -1.0]]]))
    assert new[0] == pytest.approx(np.array([[0.5, 0.5]]), abs=1e-8)
    assert (new[0] <= 0.5).all()
    assert new[1].tolist() == [[1, 1]]
    new = clip(low, up, np.array([[-0.5]]), np.array([[[2.0, 0.0]]]))
    assert new[1] == pytest.approx(np.array([[0.25, 1.0]]), abs=1e-8)
    assert new[1][0, 0] >= 0.25
    empty = clip(low, up, np.array([[-0.5, -0.5]]), np.array([[[-1.0, -1.0], [2.0, 0.0]]]))
    assert empty[0][0, 0] > empty[1][0, 0]


@pytest.mark.parametrize("far", [0.0, 1e3, -1e7, 1e12])
def test_clip_keeps_what_lies_on_the_edge(far):
    """A counterexample on the plane itself; the margin of the clip alone has to keep it."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        low = far + rng.normal(size=3)
        up = low + rng.random(3) * 10.0 ** rng.uniform(-3, 3, size=3)
        row, x = rng.normal(size=3) * 10.0 ** rng.uniform(-4, 4), rng.uniform(low, up)
        x[1:] = np.where(row > 0, low, up)[1:]  # then the first input is cut off right behind x
        exact = ((np.where(row > 0, low, up).astype(np.longdouble) - x) * row).sum()
        # Far from 0 the clip relies on what every proven minimum is less by.
        margin = 1e-11 * np.abs(row) @ np.maximum(np.abs(low), np.abs(up)) if far else 0.0
        new_low, new_up = clip(low[None], up[None], np.array([[float(exact - margin)]]), row[None, None])
        assert ((x >= new_low) & (x <= new_up)).all()


def test_without_activations():
    graph = Graph(2, (Affine((0,), (np.array([[1.0], [-2.0]]),), np.zeros(1)),))
    low, up = np.zeros(2), np.ones(2)
    program = BoxProgram(graph, crown_bounds(graph, random_region(2, np.random.default_rng(0), False)), low, up)
    planes = program(np.array([low, low]), np.array([up, 0.5 * up]), np.repeat(program.root(), 2, axis=1))
    assert planes.lower[0] == pytest.approx(np.array([[-2.0], [-1.0]]), abs=1e-9)
    assert planes.known.shape == (2, 2, 0)


def test_beyond_float64():
    graph = badly_scaled(random_graph(1, "dense"), 0, 1)
    nodes = tuple(
        Affine(n.sources, tuple(1e200 * m for m in n.maps), n.bias) if isinstance(n, Affine) else n for n in graph.nodes
    )
    graph = Graph(graph.inputs, nodes)
    region = random_region(graph.inputs, np.random.default_rng(3), balls=False)
    low, up = region.centre - 1, region.centre + 1
    with np.errstate(all="ignore"):
        program = BoxProgram(graph, crown_bounds(graph, type(region).between(low, up)), low, up, 2)
        planes = program(low[None], up[None], program.root())
        assert not np.isnan(planes.lower).any()
        assert (planes.lower < 0).all()
        new_low, new_up = clip(low[None], up[None], planes.lower[0], planes.rows[0])
        assert np.array_equal(new_low[0], low)
        assert np.array_equal(new_up[0], up)


@pytest.mark.parametrize("seed", range(10))
def test_splitting_loses_no_part_of_the_box(seed):
    """|x - c| + |y - d| is at most 1e-7 near one point alone, wherever that is: also right beside every cut."""
    rng = np.random.default_rng(seed)
    for _ in range(10):
        c = rng.integers(1, 32, size=2) / 32 + rng.choice([0.0, 1e-3, -1e-3, 0.01, 0.02], size=2)
        eye = np.eye(2)
        nodes = (Affine((0,), (np.hstack([eye, -eye]),), np.concatenate([-c, c])), Activation(1, "relu"))
        graph = Graph(2, (*nodes, Affine((2,), (np.ones((4, 1)),), np.zeros(1))))
        case = Case(np.zeros(2), np.ones(2), (Polyhedron(np.array([[1.0]]), np.array([-1e-7])),))
        margins, low, up = margins_of(graph, case), np.zeros(2), np.ones(2)
        bounds = crown_bounds(margins.graph, Region.between(low, up))
        found = split_inputs(margins, bounds, (low, up), Clock(time.perf_counter() + 20))
        assert found.status == "found"
        assert margins.graph(found.x[None])[0, 0] <= 0


def test_boxes_from_disk(monkeypatch):
    """The same branches and the same answer, wherever open boxes are held."""
    network = random_network((5, 20, 20, 20, 2), 1, "linear")
    low, up = np.full(5, -1.0), np.full(5, 1.0)
    seen = network(np.random.default_rng(0).uniform(low, up, size=(20000, 5)))
    least = float((seen[:, 0] - seen[:, 1]).min())
    found = []
    for memory in (2**30, 1):
        monkeypatch.setattr(pools, "IN_MEMORY", memory)
        case = Case(low, up, (Polyhedron(np.array([[1.0, -1.0]]), np.array([0.3 * abs(least) - least])),))
        margins = margins_of(network.graph(), case)
        bounds = crown_bounds(margins.graph, region_of(case), every=False)
        found.append(split_inputs(margins, bounds, (low, up), Clock(time.perf_counter() + 30)))
    assert found[0].status == found[1].status == "proven"
    assert found[0].branches == found[1].branches > 128
