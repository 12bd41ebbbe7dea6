"""Batches of subproblems: no point that keeps the assumed phases falls below its bound; NumPy and JAX agree."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import KINDS, badly_scaled, exact_values, points_of, random_graph, random_region
from reference import least_margin

from arfj.bounds import crown_bounds, interval_bounds
from arfj.bounds.backward import sites
from arfj.bounds.batched import PhaseProgram
from arfj.bounds.reduce import reduce
from arfj.graph import Activation, Affine, Graph
from arfj.region import Region

BATCH = 12


class Instance:
    """A random network over a box, reduced; points of the box, and what its activations read there."""

    def __init__(self, seed, kind, scaled=0.0):
        self.rng = np.random.default_rng(seed)
        graph = random_graph(seed, kind)
        graph = badly_scaled(graph, seed, scaled) if scaled else graph
        self.region = random_region(graph.inputs, self.rng, balls=False)
        bounds = (crown_bounds if seed % 2 else interval_bounds)(graph, self.region)
        self.reduced = reduce(graph, bounds)
        points = points_of(self.region, self.rng, 60)
        values = exact_values(graph, points)
        self.outputs = values[-1]
        before = [values[sites(graph)[site]][:, chosen] for site, chosen in self.reduced.neurons]
        self.before = np.concatenate([np.zeros((len(points), 0)), *before], axis=1)

    def program(self, engine="numpy", precision="float64", steps=6):
        reduced, region = self.reduced, self.region
        return PhaseProgram(reduced.graph, reduced.bounds, region, steps, engine, precision, reduced.sizes(region))

    def subproblems(self):
        """Mixtures, and phases that some point has; the first subproblem assumes nothing."""
        at = self.rng.integers(len(self.before), size=BATCH)
        assumed = self.rng.random((BATCH, self.before.shape[1])) < self.rng.random((BATCH, 1))
        assumed[0] = False
        signs = (np.sign(self.before[at]) * assumed).astype(np.int8)
        return self.rng.random((BATCH, self.outputs.shape[1])), signs

    def check(self, mixtures, signs, answer):
        values = self.outputs @ mixtures.T
        for k, sign in enumerate(signs):
            here = (sign * self.before >= 0).all(axis=1)
            assert (values[here, k] >= answer.bound[k]).all(), "a point falls below its bound"
        assert answer.bound.dtype == np.float64
        assert ((answer.slopes >= 0) & (answer.slopes <= 1) & (answer.betas >= 0)).all()
        assert np.array([self.region.contains(x) for x in answer.x]).all()


def wilder(rng, answer):
    """Multipliers that no search would choose; whatever they are, the bound has to hold."""
    return answer.slopes, (answer.betas * rng.choice([0.0, 1.0, 1e3]) + rng.random(answer.betas.shape)).astype(
        np.float32
    )


@pytest.mark.parametrize("kind", KINDS)
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**20), precision=st.sampled_from(["float32", "float64"]), scaled=st.sampled_from([0.0, 3.0])
)
def test_no_point_falls_below(kind, seed, precision, scaled):
    instance = Instance(seed, kind, scaled)
    program = instance.program("numpy", precision)
    mixtures, signs = instance.subproblems()
    answer = program(mixtures, signs)
    instance.check(mixtures, signs, answer)
    instance.check(mixtures, signs, program(mixtures, signs, *wilder(instance.rng, answer)))


JAX = [(1, "dense", "float32"), (1, "dense", "float64"), (4, "wild", "float32")]


@pytest.mark.parametrize(("seed", "kind", "precision"), JAX)
def test_in_jax(seed, kind, precision):
    """Padding changes nothing, and proofs are float64: float32 would be off by 1e-7, the margin is 1e-11."""
    pytest.importorskip("jax")
    instance = Instance(seed, kind)
    mixtures, signs = instance.subproblems()
    answer = instance.program("jax", precision, 4)(mixtures, signs)
    instance.check(mixtures, signs, answer)
    same = instance.program("numpy", precision, 4)(mixtures, signs)
    assert answer.bound == pytest.approx(same.bound, abs=1e-3 if precision == "float32" else 1e-10)


def test_proofs_of_jax_are_those_of_numpy():
    """At the same slopes and multipliers, whatever the precision of the search."""
    pytest.importorskip("jax")
    instance = Instance(1, "dense")
    mixtures, signs = instance.subproblems()
    start = instance.program()(mixtures, signs)
    found = [
        instance.program(engine, precision, 0)(mixtures, signs, start.slopes, start.betas).bound
        for engine, precision in (("numpy", "float64"), ("jax", "float32"))
    ]
    assert found[0] == pytest.approx(found[1], rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_bounds_are_close(seed):
    """With all phases assumed and enough steps the bound is nearly the optimum; with none it is below it."""
    instance = Instance(2 * seed + 1, "dense")
    graph, region = instance.reduced.graph, instance.region
    row = np.ones((1, instance.outputs.shape[1]))
    _, least = least_margin(graph, region.lower, region.upper, row, np.zeros(1))
    program = instance.program(steps=40)
    free = program(row, np.zeros((1, program.neurons), dtype=np.int8)).bound[0]
    assert free <= least + 1e-9
    cells = [[]]
    for _ in range(program.neurons):
        cells = [[*cell, sign] for cell in cells for sign in (1, -1)]
    signs = np.array(cells, dtype=np.int8).reshape(len(cells), program.neurons)
    split = program(np.tile(row, (len(cells), 1)), signs).bound
    assert split.min() <= least + 1e-9
    assert split.min() >= least - 0.1 * (least - free) - 0.05


def test_an_assumed_phase_by_hand():
    """y = x - 2 max(x, 0) = -|x| on [-1, 1]: at least -1; where x >= 0 is assumed, -x; where x <= 0, x."""
    nodes = (Affine((0,), (np.eye(1),), np.zeros(1)), Activation(1, "relu"))
    graph = Graph(1, (*nodes, Affine((0, 2), (np.eye(1), -2 * np.eye(1)), np.array([0.75]))))
    region = Region.between([-1.0], [1.0])
    program = PhaseProgram(graph, interval_bounds(graph, region), region)
    bound = program(np.ones((3, 1)), np.array([[0], [1], [-1]], dtype=np.int8)).bound
    assert -1.25 - 1e-9 <= bound[0] <= -0.25
    assert bound[1:] == pytest.approx([-0.25, -0.25], abs=1e-9)


def test_no_phases_to_assume_are_left():
    """A network without activations: bounds are exact, the answer has no neurons."""
    graph = Graph(2, (Affine((0,), (np.array([[1.0, 2.0], [-1.0, 1.0]]),), np.zeros(2)),))
    region = Region.between([0.0, 0.0], [1.0, 1.0])
    program = PhaseProgram(graph, interval_bounds(graph, region), region)
    answer = program(np.eye(2), np.zeros((2, 0), dtype=np.int8))
    assert answer.bound == pytest.approx([-1, 0], abs=1e-9)
    assert answer.score.shape == answer.slopes.shape == (2, 0)


def test_beyond_float64():
    nodes = (Affine((0,), (np.full((2, 2), 1e200),), np.zeros(2)), Activation(1, "relu"))
    graph = Graph(2, (*nodes, Affine((2,), (np.array([[1e200], [-1e200]]),), np.ones(1))))
    region = Region.between([-1.0, -1.0], [1.0, 1.0])
    with np.errstate(all="ignore"):
        program = PhaseProgram(graph, interval_bounds(graph, region), region)
        assert program(np.ones((1, 1)), np.zeros((1, 2), dtype=np.int8)).bound.tolist() == [-np.inf]
