"""Branch and bound over phases against exact optima; its pool, in memory and on disk; the programs at its leaves."""

import dataclasses
import time

import numpy as np
import pytest
from random_graphs import random_graph
from reference import least_margin, random_network

from arfj.bounds import Bounds, crown_bounds, interval_bounds
from arfj.bounds.reduce import reduce
from arfj.graph import Activation, Affine, Graph
from arfj.region import Region
from arfj.verify import pool as pools
from arfj.verify.margins import Margins, margins_of, region_of
from arfj.verify.mip import MOST_DELTA, TOLERANCE, solve_by_program, tolerated
from arfj.verify.phases import Nodes, PhaseSearch
from arfj.verify.pool import Pool
from arfj.verify.property import Case, Polyhedron
from arfj.verify.search import Clock


def clock(seconds=20.0):
    return Clock(time.perf_counter() + seconds)


def instance(seed, rows=2, sizes=(4, 5, 4, 3), share=1.0, polyhedra=1):
    """A case of a small network, its least margin moved to `share` times 1e-5 (of the margins' size) above 0."""
    rng = np.random.default_rng(seed)
    graph = random_network(sizes, seed, "linear").graph()
    middle = rng.normal(size=sizes[0])
    low, up = middle - rng.random(sizes[0]), middle + rng.random(sizes[0])
    unsafe = [(rng.normal(size=(rows, sizes[-1])), rng.normal(size=rows)) for _ in range(polyhedra)]
    least = min(least_margin(graph, low, up, *one)[1] for one in unsafe)
    shift = least - share * 1e-5 * (1 + abs(least))
    return graph, Case(low, up, tuple(Polyhedron(matrix, offset - shift) for matrix, offset in unsafe))


def prepared(graph, case, bound=interval_bounds):
    margins, region = margins_of(graph, case), region_of(case)
    return margins, reduce(margins.graph, bound(margins.graph, region)), region


def check(finding, margins, region, safe):
    assert finding.status == ("proven" if safe else "found"), finding.reason
    if not safe:
        assert region.contains(finding.x)
        assert margins.least(margins.graph(finding.x[None])).min() <= 0


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_against_exact_optima(seed, safe):
    graph, case = instance(seed, 1 + seed % 2, share=1.0 if safe else -1.0, polyhedra=1 + seed % 3)
    margins, reduced, region = prepared(graph, case)
    found = solve_by_program(margins, reduced, region, clock())
    check(found, margins, region, safe)
    if seed % 2 == 0:  # single rows: linear programs at the leaves decide
        check(PhaseSearch(margins, reduced, region).run(clock()), margins, region, safe)


@pytest.mark.parametrize("seed", range(6))
def test_no_wrong_proof_over_conjunctions(seed):
    """A mixture of rows need not close these in time, but it may never close one that has a counterexample."""
    graph, case = instance(seed, 3, share=-1.0)
    margins, reduced, region = prepared(graph, case, crown_bounds)
    assert PhaseSearch(margins, reduced, region, batch=8).run(clock(2.0)).status != "proven"


def test_smooth_activations_are_split_too():
    """tanh(4 x) - x > -0.2 on [0, 1.1]: lines alone do not show it, halves of the pre-activations do not either."""
    nodes = (Affine((0,), (np.array([[4.0]]),), np.zeros(1)), Activation(1, "tanh"))
    graph = Graph(1, (*nodes, Affine((2, 0), (np.eye(1), -np.eye(1)), np.zeros(1))))
    for level, status in ((-0.2, "open"), (5.0, "proven"), (0.3, "found")):
        case = Case(np.array([-0.5]), np.array([1.1]), (Polyhedron(np.array([[1.0]]), np.array([0.0 - level])),))
        if status == "proven":
            case = Case(case.lower, case.upper, (Polyhedron(np.array([[1.0]]), np.array([level])),))
        found = PhaseSearch(*prepared(graph, case)).run(clock())
        exact = min(np.tanh(4 * x) - x + case.unsafe[0].offset[0] for x in np.linspace(-0.5, 1.1, 2001))
        assert found.status != ("proven" if exact <= 0 else "found")


def nodes_of(rng, count, neurons=5):
    def singles():
        return rng.random((count, neurons)).astype(np.float32)

    signs = rng.integers(-1, 2, size=(count, neurons)).astype(np.int8)
    owner = rng.integers(3, size=count).astype(np.int32)
    return Nodes(rng.random((count, 2)), signs, singles(), singles(), singles(), -rng.random(count), owner)


@pytest.mark.parametrize("memory", [2**30, 1])
def test_pool(monkeypatch, memory, tmp_path):
    """It gives back what went in, least bounds first, in memory or from a file."""
    monkeypatch.setattr(pools, "IN_MEMORY", memory)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    rng = np.random.default_rng(0)
    pool = Pool(nodes_of(rng, 1))
    inside = []
    for _ in range(60):
        added = nodes_of(rng, int(rng.integers(1, 400)))
        pool.add(added)
        inside += [added.chosen(slice(k, k + 1)) for k in range(len(added.bound))]
        taken = pool.take(int(rng.integers(1, 300)))
        inside.sort(key=lambda node: node.bound[0])
        expected, inside = inside[: len(taken.bound)], inside[len(taken.bound) :]
        order = np.argsort(taken.bound)
        for name, array in vars(taken).items():
            assert np.array_equal(array[order], np.concatenate([getattr(one, name) for one in expected])), name
        assert len(pool) == len(inside)
        assert pool.worst == (inside[0].bound[0] if inside else None)
    assert bool(list(tmp_path.iterdir())) == (memory == 1)
    del pool
    assert not list(tmp_path.iterdir())


def test_search_from_disk(monkeypatch):
    """The same branches and the same answer, wherever open subproblems are held."""
    graph, case = instance(3, 2, (4, 8, 8, 2), share=2e3)
    found = []
    for memory in (2**30, 1):
        monkeypatch.setattr(pools, "IN_MEMORY", memory)
        margins, reduced, region = prepared(graph, case)
        found.append(PhaseSearch(margins, reduced, region, batch=16).run(clock(60)))
    assert found[0].status == found[1].status == "proven"
    assert found[0].branches == found[1].branches


def test_a_bound_that_is_no_number_stays_open(monkeypatch):
    graph, case = instance(1, 1, share=-1e3)
    margins, reduced, region = prepared(graph, case)
    search = PhaseSearch(margins, reduced, region)
    real = search.program

    class Broken:
        neurons, engine = real.neurons, real.engine

        def __call__(self, *arguments):
            answer = real(*arguments)
            return dataclasses.replace(answer, bound=np.full_like(answer.bound, np.nan), x=answer.x * 0 + region.upper)

    search.program = Broken()
    monkeypatch.setattr(search, "_candidate", lambda _: None)
    monkeypatch.setattr(search, "_leaf", lambda _: False)
    assert search.run(clock(1.0)).status == "open"


class TestProgram:
    """What the mixed-integer program may claim."""

    def solve(self, graph, low, up, matrix, offset):
        case = Case(np.array(low), np.array(up), (Polyhedron(np.array(matrix), np.array(offset)),))
        margins, reduced, region = prepared(graph, case)
        return solve_by_program(margins, reduced, region, clock()), tolerated(reduced, np.array([0]), region)

    def relu(self, weight, bias, out):
        nodes = (Affine((0,), (np.array(weight),), np.array(bias)), Activation(1, "relu"))
        return Graph(len(weight), (*nodes, Affine((2,), (np.array(out),), np.zeros(1))))

    def test_rows_that_are_too_large(self, monkeypatch):
        """max(x, 0) <= 2 on [-1, 2], so that -max(x, 0) + 3 stays above 0; the row of the ReLU has terms of 2."""
        graph = self.relu([[1.0]], [0.0], [[1.0]])
        monkeypatch.setattr("arfj.verify.mip.LARGEST", 4.9)
        assert self.solve(graph, [-1.0], [2.0], [[-1.0]], [3.0])[0].status == "open"
        monkeypatch.setattr("arfj.verify.mip.LARGEST", 5.1)
        assert self.solve(graph, [-1.0], [2.0], [[-1.0]], [3.0])[0].status == "proven"

    def test_coefficients_that_a_solver_drops(self):
        """max(1e-10 x, 0) reaches 0.5 where x reaches 1e10; SCIP reads 1e-10 as 0."""
        graph = self.relu([[1e-10]], [0.0], [[1.0]])
        found, delta = self.solve(graph, [-1e10], [1e10], [[-1.0]], [0.5])
        assert found.status != "proven"
        assert delta > MOST_DELTA

    def test_large_offsets(self):
        """max(x - B, 0) - max(x - B - 0.5, 0) reaches 0.5; the solver's tolerance is relative to B."""
        graph = self.relu([[1.0, 1.0]], [-1e8, -1e8 - 0.5], [[1.0], [-1.0]])
        found, delta = self.solve(graph, [1e8 - 1], [1e8 + 1], [[-1.0]], [0.5 - 1e-4])
        assert found.status != "proven"
        assert delta > MOST_DELTA

    def test_delta_is_above_what_tolerances_amount_to(self):
        """Every ReLU's value may be off by the tolerance times its range, in the worst direction."""
        graph = random_graph(4, "dense", outputs=1)
        region = Region.between(-np.ones(graph.inputs), np.ones(graph.inputs))
        reduced = reduce(graph, interval_bounds(graph, region))
        delta = tolerated(reduced, np.array([0]), region)
        last = graph.nodes[-1]
        gain = np.abs(last.maps[0]).sum()
        assert 0 < TOLERANCE * gain < delta < 1e-5

    def test_safe_by_less_than_its_tolerances_is_left_open(self):
        """Neither proven nor, without a point that is unsafe, found."""
        graph = self.relu([[1.0]], [0.0], [[1.0]])
        found, _ = self.solve(graph, [-1.0], [1.0], [[1.0]], [1e-12])
        assert found.status == "open"


def test_margins_keep_the_outputs_rounding():
    """0.3 * 1e9 h - 0.1 * 3e9 h is 0 or noise, depending on how it is summed: no bound may be surer than that."""
    w = np.random.default_rng(1).normal(size=(16, 1)) * 1e9
    graph = Graph(16, (Affine((0,), (np.hstack([w, 3 * w]),), np.array([1e11, 3e11])),))
    case = Case(-np.ones(16), np.ones(16), (Polyhedron(np.array([[0.3, -0.1]]), np.zeros(1)),))
    bounds = crown_bounds(margins_of(graph, case).graph, region_of(case))
    assert bounds.lower[-1][0] < -1e-5


def test_margins_by_hand():
    graph = Graph(2, (Affine((0,), (np.eye(2),), np.zeros(2)), Activation(1, "relu")))
    rows = (
        Polyhedron(np.array([[1.0, -1.0], [0.0, 2.0]]), np.array([0.5, -1.0])),
        Polyhedron(np.zeros((0, 2)), np.zeros(0)),
    )
    margins = margins_of(graph, Case(np.zeros(2), np.ones(2), (*rows, rows[0])))
    assert margins.owner.tolist() == [0, 0, 1, 2, 2]
    y = margins.graph([[3.0, 1.0]])
    assert y.tolist() == [[2.5, 1, -1, 2.5, 1]]
    assert margins.least(y).tolist() == [[2.5, -1, 2.5]]
    kept = margins.restricted(np.array([0, 2]))
    assert (kept.owner.tolist(), kept.polyhedra, kept.graph([[3.0, 1.0]]).tolist()) == (
        [0, 0, 1, 1],
        2,
        [[2.5, 1, 2.5, 1]],
    )
    assert isinstance(kept, Margins)
    assert isinstance(interval_bounds(kept.graph, Region.between(np.zeros(2), np.ones(2))), Bounds)
