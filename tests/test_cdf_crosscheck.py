"""Exact misclassification probabilities beside certificates from samples: each must bear the other out."""

import numpy as np
import pytest
from scipy.stats import norm

from arfj.certify.cdf import answers
from arfj.certify.cdf.question import beta, question
from arfj.certify.cdf.regions import Budget
from arfj.certify.scenario import Gaussian, Uniform
from arfj.errors import UsageError
from arfj.network import Network
from experiments.cdf import crosscheck
from experiments.cdf.networks import random_network

SEESAW = Network.from_arrays([[[1.0, -1.0]]], [[0.9, 0.0]], "linear")
"""f_0 - f_1 = 2 x + 0.9: class 1 where x < -0.45."""


def seesaw(noise):
    return crosscheck.Case(lambda: (SEESAW, np.zeros(1)), noise)


def row(case, units=600.0):
    return {"key": crosscheck.PREFIX + "case", **crosscheck.compared(*case.asked(), units)}


def test_a_probability_known_by_hand():
    """Uniform noise on [-0.5, 0.5]: x < -0.45 with probability 0.05, and P(m < y) = y / 2 + 0.05."""
    found = row(seesaw(Uniform(0.5)))
    for low, high in (("p_low", "p_high"), ("margin_low", "margin_high")):
        assert found[low] <= 0.05 <= found[high]
        assert found[high] - found[low] < 1e-9
    assert found["below_quantile_high"] == pytest.approx(-0.1 * 0.05 * 2, abs=1e-6)
    assert found["above_quantile_high"] == pytest.approx(0.25 * 0.05 * 2, abs=1e-6)
    assert crosscheck.violations([found]) == []


def test_a_gaussian_probability():
    found = row(seesaw(Gaussian(0.25)), 4000.0)
    assert found["p_low"] <= norm.cdf(-0.45 / 0.25) <= found["p_high"]
    assert found["above_safe"]
    assert crosscheck.violations([found]) == []


@pytest.mark.parametrize(
    ("sizes", "seed", "radius"), [((2, 8, 8, 3), 1, 0.7), ((2, 8, 8, 3), 5, 0.3), ((3, 6, 5, 4), 0, 1.0)]
)
def test_random_networks_bear_each_other_out(sizes, seed, radius):
    """Both ways to the probability and both certificates: four numbers that may not contradict each other."""
    network, centre = random_network(sizes, seed), np.zeros(sizes[0])
    found = row(crosscheck.Case(lambda: (network, centre), Uniform(radius)))
    x = np.random.default_rng(2).uniform(-radius, radius, (50_000, sizes[0]))
    share = (network.classify(x) != network.classify(centre[None])).mean()
    assert 0.005 < found["p_high"] < 0.2
    assert found["p_high"] == pytest.approx(share, abs=0.01)
    assert crosscheck.violations([found]) == []


def test_the_margin_of_every_class_and_count():
    """m by halves against the definition: two to six classes, odd ones among them."""
    for classes in range(2, 7):
        network = random_network((2, 5, classes), classes)
        asked = question(
            network, np.zeros(2), (0, 1), beta([(1, 1)] * 2, -np.ones(2), np.ones(2)), -np.ones(2), np.ones(2)
        )
        x = np.random.default_rng(0).uniform(-1, 1, (200, 2))
        outputs = network(x)
        for true in range(classes):
            margin = answers.margin_question(asked, true).graph(x)[:, 0]
            rivals = np.delete(outputs, true, axis=1).max(axis=1)
            assert margin == pytest.approx(outputs[:, true] - rivals, abs=1e-12)
    with pytest.raises(UsageError, match="no margin of class 6"):
        answers.margin_question(asked, 6)
    single = question(random_network((2, 5, 1), 0), np.zeros(2), (0, 1), asked.density, asked.lower, asked.upper)
    with pytest.raises(UsageError, match="no margin of class 0"):
        answers.margin_question(single, 0)


def test_margins_below_zero_are_what_the_classes_leave():
    """P(m < 0) = 1 - P(class c), for every class; both from other cells."""
    network = random_network((2, 7, 6, 3), 4)
    asked = question(
        network, np.zeros(2), (0, 1), beta([(2, 2), (3, 2)], -np.ones(2), np.ones(2)), -np.ones(2), np.ones(2)
    )
    classes = answers.class_probabilities(asked.pieces(), asked, Budget())
    for true, (low, high) in enumerate(classes):
        margin = answers.margin_question(asked, true)
        found = answers.one_output(margin.pieces(), margin, 0, np.zeros(1), Budget(), 1e-9).bounds
        assert found.lower[0] <= 1 - low + 1e-15
        assert found.upper[0] >= 1 - high - 1e-15
        assert found.upper[0] - found.lower[0] < 1e-9


SOUND = {
    "key": crosscheck.PREFIX + "case", "p_low": 0.1, "p_high": 0.1, "margin_low": 0.1, "margin_high": 0.1,
    "below_safe": False, "above_safe": True, "above_likely": 1.0, "below_bound": -1.0, "below_quantile_high": -0.9,
    "above_bound": 0.1, "above_quantile_high": 0.2,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"margin_low": 0.2, "margin_high": 0.2}, "exclude each other"),
        ({"below_safe": True}, "eps below"),
        ({"above_safe": False}, "samples enough"),
        ({"below_bound": -0.8}, "above the exact quantile"),
        ({"above_bound": 0.3}, "above the exact quantile"),
    ],
)
def test_contradictions_are_told(change, words):
    assert crosscheck.violations([SOUND]) == []
    (sentence,) = crosscheck.violations([{**SOUND, **change}])
    assert words in sentence
    assert crosscheck.violations([{**SOUND, "above_safe": False, "above_likely": 0.5}]) == []
