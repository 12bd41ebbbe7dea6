"""Rules with a remainder: against finer rules, rules in fractions, and Hermite polynomials themselves."""

from __future__ import annotations

from fractions import Fraction
from math import factorial, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.polynomial.hermite_e import hermeval
from scipy.special import ndtr

from arfj.certify.cdf import cubature
from arfj.certify.cdf.quadrature import conical, rational


def simplices(count, d, size, seed):
    return size * np.random.default_rng(seed).normal(size=(count, d + 1, d))


def reference(corners, means, weights):
    """By a rule of degree 41 in three dimensions, or 15 in four: no remainder is left in small cells."""
    shares, masses = conical(corners.shape[2], 41 if corners.shape[2] == 3 else 15)
    at = np.einsum("qi,nij->nqj", shares, corners)
    squares = ((at[:, :, None] - means) ** 2).sum(axis=3)
    return np.einsum("nqk,q,k->n", np.exp(-0.5 * squares), masses, weights)


@given(st.integers(0, 10**6), st.floats(0.05, 0.8), st.floats(0, 4), st.integers(1, 5))
@settings(max_examples=25, deadline=None)
def test_bounds_hold_a_finer_rule(seed, size, spread, components):
    rng = np.random.default_rng(seed)
    corners = simplices(3, 3, size, seed) + spread * rng.normal(size=(3, 1, 3))
    means, weights = spread * rng.normal(size=(components, 3)), rng.random(components)
    true = reference(corners, means, weights)
    low, high = cubature.mean_values(corners, means, weights, 0.0)
    assert (low <= true + 1e-11).all()
    assert (true <= high + 1e-11).all()
    assert (cubature.greatest(corners, means, weights, 0.0) >= high - 1e-11).all()
    _, radius = cubature.balls(np.moveaxis(corners, 0, 2))
    assert (high - low <= 2.1 * cubature.ENOUGH * weights.sum())[radius < 1].all()


def test_four_inputs_have_shorter_ladders():
    corners, means = simplices(20, 4, 0.15, 1), np.zeros((1, 4))
    low, high = cubature.mean_values(corners, means, np.ones(1), 0.0)
    true = reference(corners, means, np.ones(1))
    assert ((low <= true) & (true <= high) & (high - low < 1e-5)).all()
    assert cubature.ladder(3) == (5, 9, 13, 17)
    assert cubature.ladder(4) == (5, 9)
    assert cubature.ladder(9) == (5,)


@pytest.mark.parametrize("size", [3.0, 10.0, 40.0])
def test_wide_cells_have_bounds_too(size):
    corners = simplices(4, 3, size, 3)
    corners -= corners.mean(axis=1, keepdims=True)
    means = np.array([[0.0, 0.0, 0.0], [300.0, 0.0, 0.0]])
    low, high = cubature.mean_values(corners, means, np.array([0.5, 0.5]), 0.0)
    shares = np.random.default_rng(0).dirichlet(np.ones(4), 200_000)
    for k, cell in enumerate(corners):
        sampled = 0.5 * np.exp(-0.5 * ((shares @ cell) ** 2).sum(axis=1))
        error = 6 * sampled.std() / np.sqrt(len(sampled)) + 1e-9
        assert low[k] <= sampled.mean() + error
        assert sampled.mean() - error <= high[k] <= 1


def test_cells_behind_all_components_have_next_to_nothing():
    corners = simplices(5, 3, 0.1, 5) + np.array([8.0, 0.0, 0.0])
    low, high = cubature.mean_values(corners, np.zeros((1, 3)), np.ones(1), 0.0)
    assert (low == 0).all()
    assert ((high < np.exp(-0.5 * 7**2)) & (high > 0)).all()


@pytest.mark.parametrize("degree", cubature.LADDER)
def test_the_inequality_of_cramer(degree):
    s = np.linspace(-12, 12, 100_001)
    hermite = hermeval(s, [0.0] * (degree + 1) + [1.0]) * np.exp(-(s**2) / 4)
    assert np.abs(hermite).max() <= cubature.CRAMER * sqrt(factorial(degree + 1))
    assert np.abs(hermite).max() >= 0.5 * sqrt(factorial(degree + 1))  # and it is no wild guess


def test_segments_against_the_error_function():
    """In one input the rule is that of Gauss, whose error is no small part of the remainder."""
    place, reach = (part.ravel() for part in np.meshgrid(np.linspace(0, 6, 61), [0.1, 0.2, 0.3, 0.5, 0.8, 1.5]))
    corners = np.stack([place - reach, place + reach], axis=1)[:, :, None]
    true = np.sqrt(2 * np.pi) * (ndtr(place + reach) - ndtr(place - reach)) / (2 * reach)
    low, high = cubature.mean_values(corners, np.zeros((1, 1)), np.ones(1), 0.0)
    assert ((low <= true) & (true <= high)).all()


@pytest.mark.parametrize("degree", [5, 9])
def test_remainders_are_moments(degree):
    """The mean of |y - c|^(n+1) over a cell and over the nodes, the first one in fractions by another rule."""
    corners = simplices(2, 3, 1.0, 7)
    steps = corners - corners.mean(axis=1, keepdims=True)
    found = cubature._remainders(np.moveaxis(steps, 0, 2), degree)
    shares, masses = rational(3, degree + 1)
    for row, step in zip(found, steps, strict=True):
        exact = [[Fraction(float(value)) for value in corner] for corner in step]
        total = Fraction(0)
        for share, mass in zip(shares, masses, strict=True):
            at = [sum(t * corner[j] for t, corner in zip(share, exact, strict=True)) for j in range(3)]
            total += mass * sum(value * value for value in at) ** ((degree + 1) // 2)
        nodes, weights = conical(3, degree)
        of_rule = ((nodes @ step) ** 2).sum(axis=1) ** ((degree + 1) // 2) @ weights
        assert row == pytest.approx((float(total) + of_rule) / sqrt(factorial(degree + 1)), rel=1e-8)


def test_what_distances_may_be_off_by_is_in_the_bounds():
    corners, means, slip = simplices(6, 3, 0.3, 9), np.array([[1.0, 0.5, -0.2]]), 1e-3
    low, high = cubature.mean_values(corners, means, np.ones(1), slip)
    for step in np.random.default_rng(2).normal(size=(20, 3)):
        moved = corners + slip * step / np.linalg.norm(step)
        true = reference(moved, means, np.ones(1))
        assert ((low <= true) & (true <= high)).all()
