"""The gradient attack: its moves, and slacks and gradients of networks of all widths."""

import numpy as np
import pytest
from reference import random_network

from arfj.attack import given, gradient
from arfj.question import Question


def test_directions_are_powers_of_the_gradient():
    before = np.random.default_rng(0).normal(size=(7, 5))
    before[3, 2] = 0.0
    before[5] = 0.0
    for turns in ([0, 0, 1, 1, 2, 3, 3], [1, 1, 1, 1, 1, 3, 3], [2] * 7):
        powers = np.array([0.0, 0.5, 1.0, 2.0])[turns][:, None]
        expected = before * np.abs(before) ** powers
        expected /= np.maximum(np.linalg.norm(expected, axis=1, keepdims=True), 1e-12)
        np.testing.assert_allclose(gradient._directions(before.copy(), np.array(turns)), expected, rtol=1e-14)


def test_changes_are_thresholded_towards_the_image():
    change = np.random.default_rng(0).normal(size=(3, 6))
    change[1] = 0.0
    distance = np.abs(change).sum(axis=1)
    expected = np.sign(change) * np.maximum(np.abs(change) * 0.99 - 0.15 * distance[:, None] / 6, 0.0)
    np.testing.assert_allclose(gradient._shrunk(change, distance, 0.5), expected, atol=1e-15)


@pytest.mark.parametrize("widths", [[(4, 3), (4, 3)], [(4, 3), (5,), (4, 3)], [(), (3,)], [()]])
def test_networks_of_all_widths_share_a_batch(widths, monkeypatch):
    """Slacks are those of every network's class conditions on its outputs, before their ReLU.

    The gradient is that of the sum of max(0, room - slack), by differences.
    """
    networks = [random_network((6, *of, 3), seed) for seed, of in enumerate(widths)]
    rng = np.random.default_rng(1)
    question = Question(rng.uniform(size=6), 0, 1, given(networks).ensemble, 0.1)
    batch, x, room = gradient.Batch(question), rng.uniform(size=(5, 6)), 0.5
    monkeypatch.setattr(gradient, "LEAK", 0.0)
    slack, slopes = batch.slack(x, room)

    def slacks(points):
        outputs = [network.preactivations(points)[-1] for network in networks]
        rivals = np.array([0, 2])
        return np.array(
            [np.column_stack([y[:, [1]] - 1.1 * y[:, rivals], y[:, 1] - 1e-3]).min(axis=1) for y in outputs]
        )

    def missed(points):
        return np.maximum(room - slacks(points), 0.0).sum(axis=0)

    np.testing.assert_allclose(slack, slacks(x).min(axis=0), rtol=1e-10)
    step, size = rng.normal(size=6), 1e-7
    expected = (missed(x + size * step) - missed(x - size * step)) / (2 * size)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(slopes @ batch.weight.T @ step, expected, atol=1e-5)
