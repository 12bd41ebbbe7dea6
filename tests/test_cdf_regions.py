"""Linear regions: brute force over sign patterns, two ways to cut, complexes with holes, time limits."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
from cdf_cases import asked, bounds, random_network
from scipy.spatial import ConvexHull, HalfspaceIntersection

from arfj.certify.cdf import answers, regions
from arfj.certify.cdf.mesh import volumes
from arfj.certify.cdf.regions import Budget


@pytest.mark.parametrize(("d", "seed"), [(2, 0), (2, 1), (3, 2)])
def test_regions_against_all_sign_patterns(d, seed):
    """Every sign pattern of 7 neurons in one layer and 2 behind it: is there a point of it inside the box?"""
    network = random_network((d, 5, 2, 1), seed)
    this = asked(network)
    count = sum(_volume(network, signs) > 1e-12 for signs in itertools.product((False, True), repeat=7))
    assert this.pieces().regions == count


def _volume(network, signs):
    """Of a sign pattern's polytope, by scipy, which shares no code with ours."""
    from scipy.optimize import linprog

    (one, two), first, second = network.layers[:2], np.array(signs[:5]), np.array(signs[5:])
    rows, offsets = [one.weight.T], [one.bias]
    rows.append((one.weight * first @ two.weight).T)
    offsets.append((one.bias * first) @ two.weight + two.bias)
    turn = np.where(np.append(first, second), -1.0, 1.0)
    a, b = turn[:, None] * np.vstack(rows), turn * np.concatenate(offsets)
    a, b = np.vstack([a, np.eye(a.shape[1]), -np.eye(a.shape[1])]), np.append(b, -np.ones(2 * a.shape[1]))
    norms = np.linalg.norm(a, axis=1)
    inner = linprog(
        np.append(np.zeros(a.shape[1]), -1.0),
        A_ub=np.hstack([a, norms[:, None]]),
        b_ub=-b,
        bounds=[(None, None)] * (a.shape[1] + 1),
    )
    if inner.status != 0 or inner.x[-1] < 1e-9:
        return 0.0
    return ConvexHull(HalfspaceIntersection(np.hstack([a, b[:, None]]), inner.x[:-1]).intersections).volume


def test_two_ways_to_cut_agree(monkeypatch):
    """Polytopes that are pulled, and simplices that are bisected: other cells, the same law."""
    network = random_network((2, 6, 5, 2), 3)
    y = np.linspace(-1, 1, 7)
    low, high = bounds(network, y)
    monkeypatch.setattr(regions, "covers", lambda *_: False)
    other_low, other_high = bounds(network, y)
    assert np.abs(np.array([low - other_high, other_low - high])).max() < 1e-9
    assert (low <= other_high).all()
    assert (other_low <= high).all()


def test_a_budget_that_ends_gives_valid_bounds():
    network = random_network((2, 8, 8, 2), 8)
    y = np.linspace(-1, 1, 5)
    this = asked(network)
    tight = answers.one_output(this.pieces(), this, 0, y, Budget(), 1e-9).bounds
    few = Budget(5)
    pieces = this.pieces(few)
    assert not pieces.complete
    loose = answers.one_output(pieces, this, 0, y, few, 1e-9).bounds
    assert (loose.lower <= tight.upper).all()
    assert (loose.upper >= tight.lower).all()


@pytest.mark.parametrize(("sizes", "rounded"), [((2, 6, 6, 2), True), ((2, 8, 8, 2), False), ((3, 5, 4, 2), True)])
def test_polytopes_do_without_the_way_that_cannot_fail(monkeypatch, sizes, rounded):
    """Degenerate networks, many neurons through one point: the pulled simplices are a complex at once."""

    def never(*_):
        raise AssertionError("cells do not cover the box")

    monkeypatch.setattr(regions, "_pieces_of_simplices", never)
    monkeypatch.setattr(regions.simplices, "sliced", never)
    for seed in range(6):
        network = random_network(sizes, seed, rounded)
        this = asked(network)
        pieces = this.pieces()
        mesh, _ = regions.levels_cut(pieces, [np.linspace(-1, 1, 9), np.linspace(-1, 1, 5)], 10**6)
        volume, error = volumes(mesh.points, mesh.cells)
        assert np.abs(volume).sum() == pytest.approx(2.0 ** sizes[0], abs=1e-9 + error.sum())


def test_a_hole_in_a_complex_is_seen():
    network = random_network((2, 6, 2), 1)
    pieces = asked(network).pieces()
    mesh, _ = pieces.mesh
    assert regions.covers(mesh, pieces.lower, pieces.upper)
    for index in range(len(mesh.cells)):
        less = replace(mesh, cells=np.delete(mesh.cells, index, axis=0))
        assert not regions.covers(less, pieces.lower, pieces.upper)
    twice = replace(mesh, cells=np.concatenate([mesh.cells, mesh.cells[:1]]))
    assert not regions.covers(twice, pieces.lower, pieces.upper)


def test_a_time_limit_holds():
    """Looser bounds in about the time that was given: levels cut nothing once it is over."""
    import time

    this = asked(random_network((3, 24, 24, 24, 2), 0))
    budget, began = Budget(seconds=0.2), time.monotonic()
    pieces = this.pieces(budget)
    found = answers.one_output(pieces, this, 0, np.linspace(-1, 1, 40), budget, 1e-3).bounds
    assert (found.lower <= found.upper).all()
    assert time.monotonic() - began < 1.0
