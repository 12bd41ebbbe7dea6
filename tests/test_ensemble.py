"""Uncertainty sets: distances by hand, draws on the sphere, and what outer sampling keeps and counts."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arfj.ensemble import Ensemble, d_in, d_osd, inner_samples, outer_samples, sphere_l1
from arfj.errors import ArfjError, UsageError
from arfj.network import Network

IMAGES = np.zeros((4, 2))


def network(*biases):
    return Network.from_arrays([np.zeros((2, len(biases)))], [np.array(biases, dtype=float)], "linear")


def given_probability(p):
    """A network with outputs (p, 1 - p) everywhere: its d_osd to (1/2, 1/2) is 2 |p - 1/2|."""
    return network(np.log(p), np.log(1 - p))


def half(images):
    """An oracle that is no network."""
    return np.full((len(images), 2), 0.5)


class TestDistances:
    def test_d_in_by_hand(self):
        one = Network.from_arrays([np.array([[1.0, 2.0]]), np.array([[1.0], [1.0]])], [[0.0, 0.0], [3.0]])
        two = Network.from_arrays([np.array([[1.5, 1.0]]), np.array([[1.0], [1.0]])], [[0.0, -0.25], [1.0]])
        assert d_in(one, two) == d_in(two, one) == 0.5 + 1 + 0.25 + 2
        assert d_in(one, one) == 0

    def test_d_in_needs_one_architecture(self):
        with pytest.raises(UsageError, match="one architecture"):
            d_in(network(0, 0), network(0, 0, 0))

    def test_d_osd_by_hand(self):
        one, two = [[1, 0], [0.5, 0.5]], [[0.5, 0.5], [0.25, 0.75]]
        assert d_osd(one, two) == d_osd(two, one) == (0.5 + 0.5 + 0.25 + 0.25) / 2

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ([[0.5, 0.5, 0.0]], "one shape"),
            ([[0.5, 0.6]], "probabilities"),
            ([[1.5, -0.5]], "probabilities"),
            ([[np.nan, 1.0]], "probabilities"),
            ([0.5, 0.5], "shape"),
            (np.zeros((0, 2)), "shape"),
        ],
    )
    def test_d_osd_refuses(self, values, message):
        with pytest.raises(UsageError, match=message):
            d_osd(values, [[0.5, 0.5]])


class TestInner:
    @settings(deadline=None)
    @given(st.integers(1, 2000), st.floats(1e-6, 1e6), st.integers(0, 2**32))
    def test_on_the_sphere(self, size, radius, seed):
        point = sphere_l1(size, radius, np.random.default_rng(seed))
        assert point.shape == (size,)
        assert np.abs(point).sum() == pytest.approx(radius, rel=1e-12)

    def test_uniform_on_the_sphere(self):
        # In R^3 each |e_i| is Beta(1, 2): mean 1/3, variance 1/18; the eight octants are equally likely.
        rng = np.random.default_rng(0)
        points = np.array([sphere_l1(3, 1.0, rng) for _ in range(8000)])
        assert np.abs(points).mean(axis=0) == pytest.approx([1 / 3] * 3, abs=0.01)
        assert np.abs(points).var(axis=0) == pytest.approx([1 / 18] * 3, abs=0.003)
        octants = np.bincount((points > 0) @ [1, 2, 4], minlength=8)
        assert np.abs(octants - 1000).max() < 150

    def test_distance_is_epsilon(self):
        rng = np.random.default_rng(0)
        nominal = Network.from_arrays(
            [rng.normal(size=(50, 8)), rng.normal(size=(8, 3))], [rng.normal(size=8), rng.normal(size=3)]
        )
        for sample in inner_samples(nominal, 5, 0.05, seed=3):
            assert d_in(sample, nominal) == pytest.approx(0.05, rel=1e-9)

    def test_draws_are_nested_and_seeded(self):
        few, many = inner_samples(network(1, 2), 2, seed=7), inner_samples(network(1, 2), 5, seed=7)
        assert [n.fingerprint() for n in few] == [n.fingerprint() for n in many[:2]]
        assert len({n.fingerprint() for n in many}) == 5
        assert inner_samples(network(1, 2), 1, seed=8)[0].fingerprint() != few[0].fingerprint()

    def test_alpha_zero_is_no_sample(self):
        assert inner_samples(network(1, 2), 0) == ()

    @pytest.mark.parametrize(("alpha", "epsilon"), [(-1, 0.1), (1, -0.1), (1, np.nan), (1, np.inf)])
    def test_bad_options(self, alpha, epsilon):
        with pytest.raises(UsageError, match=r"alpha|epsilon"):
            inner_samples(network(1, 2), alpha, epsilon)

    def test_a_seed_below_zero(self):
        with pytest.raises(UsageError, match="seed is -1; expected 0 or more"):
            inner_samples(network(1, 2), 1, seed=-1)


class TestOuter:
    def test_keeps_the_near_ones_and_counts_the_others(self):
        draws = [given_probability(0.55), None, given_probability(0.7), given_probability(0.45), given_probability(0.5)]
        sample = outer_samples(iter(draws), half, IMAGES, 2, epsilon=0.2)
        assert sample.networks == (draws[0], draws[3])
        assert sample.distances == pytest.approx((0.1, 0.1))
        assert sample.discarded == 2

    def test_boundary_is_excluded(self):
        # d_osd is exactly 0.5 here, in floating point too.
        sample = outer_samples(
            [network(0.0, 0.0)] * 2, lambda x: [[0.75, 0.25]] * len(x), IMAGES, 1, epsilon=0.5 + 1e-9
        )
        assert sample.distances == (0.5,)
        with pytest.raises(ArfjError, match="out of reach"):
            outer_samples([network(0.0, 0.0)] * 2, lambda x: [[0.75, 0.25]] * len(x), IMAGES, 1, epsilon=0.5)

    def test_draws_no_more_than_needed(self):
        draws = itertools.repeat(given_probability(0.5))
        assert len(outer_samples(draws, half, IMAGES, 3).networks) == 3
        assert outer_samples(draws, half, IMAGES, 0).networks == ()

    def test_unreachable_alpha_ends_with_a_clear_error(self):
        with pytest.raises(ArfjError, match=r"only 0 of 100 .* nearest has 0\.8.*alpha = 5 is out of reach.*--epsilon"):
            outer_samples(itertools.repeat(given_probability(0.9)), half, IMAGES, 5)

    def test_rare_successes_are_not_enough(self):
        draws = itertools.cycle([given_probability(0.5)] + [given_probability(0.9)] * 19)
        with pytest.raises(ArfjError, match="only 5 of 100"):
            outer_samples(draws, half, IMAGES, 20)

    def test_draws_that_end(self):
        with pytest.raises(ArfjError, match="only 1 of 2"):
            outer_samples([given_probability(0.5), None], half, IMAGES, 2)

    def test_oracle_that_gives_no_probabilities(self):
        with pytest.raises(UsageError, match="probabilities"):
            outer_samples([given_probability(0.5)], lambda x: np.ones((len(x), 2)), IMAGES, 1)

    def test_oracle_sees_the_images_in_float64(self):
        seen = []

        def oracle(images):
            seen.append(images)
            return half(images)

        outer_samples([given_probability(0.5)], oracle, IMAGES.astype(np.float32), 1)
        assert [images.dtype for images in seen] == [np.float64]
        assert seen[0].shape == IMAGES.shape


class TestEnsemble:
    def test_alpha_does_not_count_the_nominal_network(self):
        three = (network(0, 1), network(1, 0), network(1, 1))
        assert Ensemble(three, "outer").alpha == 2
        assert Ensemble(three, "outer", nominal_included=False).alpha == 3
        assert len(Ensemble(three, "outer")) == 3
        assert tuple(Ensemble(three, "outer")) == three

    def test_subset(self):
        three = (network(0, 1), network(1, 0), network(1, 1))
        assert Ensemble(three, "outer").subset([2, 0]).networks == (three[2], three[0])

    @pytest.mark.parametrize(
        ("networks", "message"),
        [
            ((), "at least one"),
            ((network(0, 1), network(0, 1, 2)), "network 1 gives 3 classes, network 0 gives 2"),
            ((network(0, 1), Network.from_arrays([np.zeros((3, 2))], [np.zeros(2)])), "network 1 takes 3 inputs"),
        ],
    )
    def test_refused(self, networks, message):
        with pytest.raises(UsageError, match=message):
            Ensemble(networks, "given")
