"""Lines below and above activations hold on their whole interval, in NumPy and in JAX."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from random_graphs import activation

from arfj.bounds.interval import monotone
from arfj.bounds.relaxation import relax

KINDS = ["relu", "sigmoid", "tanh"]
every_kind = pytest.mark.parametrize("kind", KINDS)
ENDS = [0.0, -0.0, 5e-324, 1e-300, 1e-12, 1e-9, 1e-3, 0.25, 1.0, 3.0, 9.0, 18.5, 19.5, 40.0, 750.0, 1e6, 1e12]
NUMBER = st.one_of(st.sampled_from([*ENDS, *(-end for end in ENDS)]), st.floats(-25, 25), st.floats(-1e3, 1e3))
PAIRS = st.lists(st.tuples(NUMBER, NUMBER).map(sorted), min_size=1, max_size=20)


def places(low, up):
    """Points of every interval, shape (points, intervals): even ones, and many near both ends and near 0."""
    share = np.concatenate([np.linspace(0, 1, 60), np.geomspace(1e-18, 0.5, 60), 1 - np.geomspace(1e-16, 0.5, 60)])
    points = low + share[:, None] * (up - low)
    near = np.array([[0.0], *([s * t] for s in (1, -1) for t in np.geomspace(1e-6, 20, 60))])
    points = np.vstack([points, near + 0 * low, low, up])
    return np.clip(points, low, up).astype(np.longdouble)


def check(kind, lines, low, up):
    a = places(low, up)
    value = activation(kind, a)
    shift = 0.0 if lines.low_shift is None else np.asarray(lines.low_shift)
    # what the bounds take off for rounding, relative to the terms
    spare = 1e-300 + 1e-15 * np.maximum(np.abs(low), np.abs(up)) if kind == "relu" else 0.0
    assert (np.asarray(lines.low_slope) * a + shift <= value + spare).all()
    assert (np.asarray(lines.up_slope) * a + np.asarray(lines.up_shift) >= value - spare).all()


@every_kind
@settings(deadline=None, max_examples=150)
@given(pairs=PAIRS)
def test_lines_hold(kind, pairs):
    low, up = np.array(pairs).T
    check(kind, relax(np, kind, low, up), low, up)


@every_kind
def test_lines_hold_on_many_intervals(kind):
    rng = np.random.default_rng(0)
    ends = rng.normal(size=(2, 3000)) * 10.0 ** rng.uniform(-9, 3, size=(2, 3000))
    ends[1, ::3] = ends[0, ::3] + 10.0 ** rng.uniform(-12, -6, size=1000)  # narrow ones
    low, up = np.sort(ends, axis=0)
    check(kind, relax(np, kind, low, up), low, up)


@every_kind
def test_in_jax(kind):
    jax = pytest.importorskip("jax")
    low, up = np.sort(np.random.default_rng(1).normal(size=(2, 400)) * 4, axis=0)
    with jax.enable_x64(True):
        lines = relax(jax.numpy, kind, jax.numpy.asarray(low), jax.numpy.asarray(up))
        assert lines.up_slope.dtype == np.float64
        check(kind, lines, low, up)


@every_kind
def test_lines_are_close(kind):
    """They meet the curve: at both ends of a chord, at a tangent's point."""
    low, up = np.array([-2.0, -3.0, 0.5, -1.0, -0.3]), np.array([1.0, -0.5, 2.0, 5.0, 0.2])
    lines = relax(np, kind, low, up)
    a = places(low, up)
    gap = lines.up_slope * a + lines.up_shift - activation(kind, a)
    assert gap.min(axis=0) == pytest.approx(np.zeros(5), abs=1e-5)
    below = activation(kind, a) - (lines.low_slope * a + (0.0 if lines.low_shift is None else lines.low_shift))
    assert below.min(axis=0) == pytest.approx(np.zeros(5), abs=1e-5)
    assert gap.max() < 4


def test_relu_by_hand():
    low, up = np.array([-1.0, -3.0, 0.0, -2.0, 0.0]), np.array([3.0, 1.0, 2.0, 0.0, 0.0])
    lines = relax(np, "relu", low, up)
    assert lines.up_slope.tolist() == [0.75, 0.25, 1.0, 0.0, 1.0]
    assert lines.up_shift.tolist() == [0.75, 0.75, 0.0, 0.0, 0.0]
    assert lines.low_slope.tolist() == [1.0, 0.0, 1.0, 0.0, 1.0]
    assert lines.open.tolist() == [True, True, False, False, False]
    assert lines.low_shift is None


@every_kind
@settings(deadline=None, max_examples=80)
@given(pairs=PAIRS)
def test_values_from_bounds(kind, pairs):
    low, up = np.array(pairs).T
    value = activation(kind, places(low, up))
    least, most = monotone(kind, (low, up))
    assert (least <= value).all()
    assert (value <= most).all()
    assert (most - least <= activation(kind, up) - activation(kind, low) + 1e-14).all()
