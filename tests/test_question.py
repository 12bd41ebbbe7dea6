"""Questions: bad input in one line, and class conditions that mean the same in every form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import random_network

from arfj.ensemble import Ensemble
from arfj.errors import UsageError
from arfj.network import Network
from arfj.question import LEAST_OUTPUT, Question, class_rows, condition_slack, required_margin

NETWORK = random_network((4, 3, 3), 0)
ENSEMBLE = Ensemble((NETWORK, random_network((4, 3, 3), 1)), "given")
IMAGE = np.array([0.0, 0.25, 0.5, 1.0])
GOOD = {"nominal": IMAGE, "true": 0, "target": 2, "ensemble": ENSEMBLE, "gamma": 0.2}


class TestBadInput:
    def test_one_output(self):
        lonely = Network.from_arrays([np.ones((4, 1))], [np.zeros(1)])
        with pytest.raises(UsageError, match="one output, so no other class"):
            Question(**{**GOOD, "ensemble": Ensemble((lonely,), "given"), "true": 0, "target": 0})

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"gamma": 1e7}, "1e[+]06 at most"),
            ({"nominal": IMAGE[:3]}, r"shape \(3,\); the networks take 4"),
            ({"nominal": np.zeros((0,))}, "the networks take 4"),
            ({"nominal": np.array([0, np.nan, 0, 0])}, "NaN"),
            ({"nominal": np.array([0, np.inf, 0, 0])}, "infinity"),
            ({"nominal": IMAGE * 255}, r"range from 0 to 255; expected \[0, 1\] \(divide by 255\?\)"),
            ({"nominal": IMAGE - 1e-9}, "range from -1e-09"),
            ({"gamma": -0.1}, "gamma is -0.1; expected a number >= 0"),
            ({"gamma": float("nan")}, "gamma is nan"),
            ({"gamma": float("inf")}, "gamma is inf"),
            ({"true": -1}, "--true -1 is out of range; the networks give classes 0 to 2"),
            ({"true": 3}, "--true 3 is out of range"),
            ({"target": 3}, "--target 3 is out of range"),
            ({"target": -1}, "--target -1 is out of range"),
            ({"true": 1.5}, "--true is 1.5; expected the number of a class, 0 to 2"),
            ({"nominal": np.array([0, 0, 0, 1 + 1e-9])}, r"from 0 to 1\.000000001; expected"),
            ({"target": 0}, "true and target are both 0; give another --target"),
        ],
    )
    def test_one_line(self, change, message):
        with pytest.raises(UsageError, match=message) as caught:
            Question(**{**GOOD, **change})
        assert "\n" not in str(caught.value)


class TestRecord:
    def test_image_keeps_its_shape_and_cannot_change(self):
        image = IMAGE.reshape(2, 2).copy()
        question = Question(**{**GOOD, "nominal": image})
        image[0, 0] = 0.7
        assert question.nominal.shape == (2, 2)
        assert question.flat.tolist() == IMAGE.tolist()
        with pytest.raises(ValueError, match="read-only"):
            question.nominal[0, 0] = 1

    def test_distance_region_rivals(self):
        question = Question(**GOOD)
        x = np.array([0.5, 0.25, 0.0, 1.0])
        assert question.distance(x) == question.distance(x.reshape(2, 2)) == 1.0
        assert question.rivals == [0, 1]
        assert question.region().reach == 0 + 1 + 0.75 + 0.5 + 1
        assert question.region(1.0).contains(x)
        assert not question.region(0.99).contains(x)

    def test_slack_is_that_of_the_worst_scenario(self):
        question = Question(**GOOD)
        differing = 0
        for x in np.random.default_rng(3).random((50, 4)):
            each = [question.restricted([i]).slack(x) for i in range(2)]
            assert question.slack(x) == min(each)
            differing += each[0] != each[1]
        assert differing > 10
        assert len(question.restricted([1]).ensemble) == 1


class TestConditions:
    def test_by_hand(self):
        outputs = np.array([[1.0, 1.2], [1.0, 1.3], [0.0, 0.0], [0.0, 0.002], [3.0, 1.2]])
        expected = [1.2 - 1.2, 1.3 - 1.2, -LEAST_OUTPUT, 0.001, 1.2 - 3.6]
        assert condition_slack(outputs, 1, 0.2) == pytest.approx(np.array(expected))
        # at gamma 0 a tie is no answer
        assert condition_slack(np.array([[1.0, 1.0], [1.0, 1.002]]), 1, 0.0) == pytest.approx([-1e-3, 1e-3])
        assert (required_margin(0.0), required_margin(0.2)) == (LEAST_OUTPUT, 0.0)

    @settings(deadline=None, max_examples=200)
    @given(
        seed=st.integers(0, 2**20),
        gamma=st.sampled_from([0.0, 0.2, 1.5]),
        activation=st.sampled_from(["relu", "linear"]),
        hidden=st.integers(1, 4),
        classes=st.integers(2, 5),
    )
    def test_rows_mean_the_conditions(self, seed, gamma, activation, hidden, classes):
        """C h >= d holds exactly where the outputs meet the conditions (the rows hold for pre-activations)."""
        rng = np.random.default_rng(seed)
        target = int(rng.integers(classes))
        network = random_network((hidden, classes), seed, activation)
        h = rng.exponential(size=(60, hidden)) * rng.choice([1e-3, 1.0], size=(60, 1))
        weights, least = class_rows(network, target, gamma)
        rows = (h @ weights.T - least).min(axis=1)
        slack = condition_slack(network(h), target, gamma)
        assert weights.shape == (classes, hidden)
        clear = (np.abs(rows) > 1e-12) & (np.abs(slack) > 1e-12)
        assert np.array_equal(rows[clear] > 0, slack[clear] > 0)

    def test_rows_by_hand(self):
        network = Network.from_arrays([[[1.0, 2.0], [3.0, 5.0]]], [[0.1, 0.2]])
        weights, least = class_rows(network, 1, 0.5)
        assert weights == pytest.approx(np.array([[2 - 1.5, 5 - 4.5], [2, 5]]))
        assert least == pytest.approx([-(0.2 - 0.15), 1e-3 - 0.2])
