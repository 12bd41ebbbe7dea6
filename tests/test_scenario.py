"""Certificates against random noise: sizes known from print and by hand, coverage, noise, batches, bad input."""

import json
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from arfj.certify.scenario import (
    Gaussian,
    L1Ball,
    Request,
    Safe,
    Source,
    Uniform,
    by_faces,
    certify,
    certify_by_surrogate,
    certify_networks,
    discards,
    exact_epsilon,
    exact_size,
    from_outputs,
    inner_sampler,
    paper_epsilon,
    paper_size,
    sizes,
    surrogate,
)
from arfj.data import bundled_images, bundled_nominal
from arfj.ensemble import d_in
from arfj.errors import ArfjError, UsageError
from arfj.network import Network

PRINTED = [
    (0.001, 1e-5, 1, 25026, 11508),
    (0.1, 1e-5, 1, 251, 110),
    (0.25, 1e-5, 1, 101, 41),
    (0.05, 1e-5, 3, 581, 324),
    (0.025, 5e-6, 3, 1217, 686),
    (0.1, 1e-5, 3, 291, 159),
    (0.05, 5e-6, 3, 609, 339),
]
LINE = Network.from_arrays([[[1.0, -2.0], [0.5, 1.0]]], [[0.3, 0.0]], "linear")
"""y = (x_0 + x_1 / 2 + 0.3, x_1 - 2 x_0): the margin of class 0 is 3 x_0 - x_1 / 2 + 0.3."""
FIRST = Safe.margin(2, 0)


class TestSizes:
    @pytest.mark.parametrize(("epsilon", "delta", "p", "paper", "exact"), PRINTED)
    def test_printed_and_exact(self, epsilon, delta, p, paper, exact):
        assert paper_size(epsilon, delta, p) == paper
        assert exact_size(epsilon, delta, p) == exact

    @pytest.mark.parametrize(("epsilon", "samples", "k"), [(0.001, 25026, 6), (0.1, 251, 6), (0.25, 101, 8)])
    def test_discards(self, epsilon, samples, k):
        assert discards(samples, epsilon, 1e-5) == k

    @given(st.integers(1, 3000), st.floats(1e-9, 0.9), st.integers(1, 20))
    def test_the_inverse(self, samples, delta, p):
        epsilon = exact_epsilon(samples, delta, p)
        if samples < p:
            assert epsilon == 1.0
            return
        assert sizes.tail(p - 1, samples, epsilon) <= delta
        assert sizes.tail(p - 1, samples, epsilon * (1 - 1e-9)) > delta
        assert exact_size(epsilon * (1 + 1e-12), delta, p) <= samples

    @given(st.integers(2, 3000), st.floats(0.01, 0.9), st.floats(1e-9, 0.9))
    def test_the_most_discards(self, samples, epsilon, delta):
        if (1 - epsilon) ** samples > delta:
            with pytest.raises(UsageError, match="too few"):
                discards(samples, epsilon, delta)
            return
        k = discards(samples, epsilon, delta)
        assert stats.binom.cdf(k, samples, epsilon) <= delta * (1 + 1e-9)
        assert k + 1 >= samples or stats.binom.cdf(k + 1, samples, epsilon) > delta * (1 - 1e-9)

    def test_printed_inverse(self):
        assert paper_epsilon(25026, 1e-5) == pytest.approx(0.001, rel=1e-4)
        assert paper_size(paper_epsilon(777, 1e-3, 4) * (1 + 1e-12), 1e-3, 4) <= 777

    def test_large_and_small(self):
        assert exact_size(1e-6, 1e-9, 100) < paper_size(1e-6, 1e-9, 100)
        with pytest.raises(UsageError, match="samples; expected at most"):
            exact_size(1e-15, 1e-5)

    @pytest.mark.parametrize("bad", [0.0, 1.0, -0.1, 1.5, math.nan])
    def test_no_probabilities(self, bad):
        with pytest.raises(UsageError, match="epsilon is"):
            exact_size(bad, 0.1)
        with pytest.raises(UsageError, match="delta is"):
            exact_size(0.1, bad)
        with pytest.raises(UsageError, match="epsilon is"):
            Request(epsilon=bad)
        with pytest.raises(UsageError, match="delta is"):
            exact_epsilon(10, bad)

    def test_no_program(self):
        with pytest.raises(UsageError, match="p is 0"):
            exact_size(0.1, 0.1, 0)
        with pytest.raises(UsageError, match="number of samples is 0"):
            exact_epsilon(0, 0.1)
        with pytest.raises(UsageError, match="no sizing 'other'"):
            sizes.size(0.1, 0.1, 1, "other")


REPETITIONS = 2000
SURE = 1e-6
"""The probability with which a sound certificate fails one of these tests."""


def quantile(noise, epsilon):
    """r(epsilon) of the margin 3 x_0 - x_1 / 2 + 0.3 at x = 0, in closed form."""
    if isinstance(noise, Gaussian):
        return 0.3 + noise.sigma * math.hypot(3, 0.5) * stats.norm.ppf(epsilon)
    # 3 u - v / 2, uniform: in the lower corner the density rises linearly, as long as no edge is met.
    span, height = 2 * noise.radius, 2 * epsilon * 3 * 0.5
    assert math.sqrt(height) < 0.5, "the corner"
    return 0.3 - 3.5 * noise.radius + span * math.sqrt(height)


class TestCoverage:
    """How often bounds lie above r(epsilon): at most delta, and exactly as often as the theorem says."""

    @pytest.mark.parametrize("noise", [Gaussian(0.2), Uniform(0.2)], ids=["gauss", "uniform"])
    @pytest.mark.parametrize("way", ["exact", "paper", "paper, none discarded", "300, discarded"])
    def test_failures(self, noise, way):
        epsilon, delta = 0.08, 0.05
        request = Request(
            epsilon,
            delta,
            samples=300 if way.startswith("300") else None,
            sizing="paper" if way.startswith("paper") else "exact",
            discard="none" not in way,
        )
        true = quantile(noise, epsilon)
        found = [certify(Source(LINE, np.zeros(2), noise, seed), FIRST, request) for seed in range(REPETITIONS)]
        failures = sum(one.bound > true for one in found)
        assert failures <= stats.binom.ppf(1 - SURE, REPETITIONS, delta)
        predicted = stats.binom.cdf(found[0].discarded, found[0].samples, epsilon)
        assert predicted <= delta
        low, up = stats.binom.ppf([SURE, 1 - SURE], REPETITIONS, predicted)
        assert low <= failures <= up

    def test_quantiles_are_right(self):
        rng = np.random.default_rng(0)
        for noise in (Gaussian(0.2), Uniform(0.2)):
            x = noise.draw(rng, 400_000, (2,))
            below = np.mean(3 * x[:, 0] - x[:, 1] / 2 + 0.3 < quantile(noise, 0.08))
            assert below == pytest.approx(0.08, abs=0.002)

    def test_a_minimum_over_rivals(self):
        """Three independent margins: min of N(1, s^2), known in closed form; p = 1."""
        network = Network.from_arrays([np.eye(3)], [np.ones(3)], "linear")
        safe, epsilon, delta = Safe(np.eye(3), np.zeros(3)), 0.1, 0.05
        true = 1 + 0.3 * stats.norm.ppf(1 - (1 - epsilon) ** (1 / 3))
        request = Request(epsilon, delta)
        found = [certify(Source(network, np.zeros(3), Gaussian(0.3), s), safe, request) for s in range(REPETITIONS)]
        assert {one.p for one in found} == {1}
        failures = sum(one.bound > true for one in found)
        low, up = stats.binom.ppf([SURE, 1 - SURE], REPETITIONS, (1 - epsilon) ** found[0].samples)
        assert low <= failures <= up

    def test_faces(self):
        """Both faces hold at once as often as promised."""
        network = Network.from_arrays([np.eye(2)], [np.zeros(2)], "linear")
        safe, request = Safe(np.eye(2), np.zeros(2)), Request(0.2, 0.1)
        failures = 0
        for seed in range(500):
            one, two = by_faces(Source(network, np.zeros(2), Gaussian(1.0), seed), safe, request)
            assert (one.epsilon, one.delta) == (0.1, 0.05)
            failures += stats.norm.sf(one.bound) * stats.norm.sf(two.bound) < 0.8
        assert failures <= stats.binom.ppf(1 - SURE, 500, 0.1)


class TestFaces:
    def test_each_has_samples_of_its_own(self):
        """Of one output and its negative: with shared samples the two bounds would be minimum and maximum of them."""
        drawn = []

        def noise(rng, count):
            drawn.append(rng.standard_normal(count))
            return drawn[-1]

        safe = Safe([[1.0], [-1.0]], [0.0, 0.0])
        one, two = by_faces(Source(lambda x: x, np.zeros(1), noise), safe, Request(0.2, 0.2))
        assert len(drawn) == 2
        assert not np.isin(drawn[0], drawn[1]).any()
        assert (one.bound, two.bound) == (drawn[0].min(), -drawn[1].max())

    def test_rows_are_handed_out_once(self):
        rows = np.arange(2.0 * exact_size(0.1, 0.1) + 1).reshape(-1, 1)
        found = by_faces(Source(lambda x: x, np.zeros(1), rows), Safe([[1.0], [1.0]], [0, 0]), Request(0.2, 0.2))
        assert [one.bound for one in found] == [0.0, float(exact_size(0.1, 0.1))]


class TestNoise:
    def test_uniform_on_the_l1_ball(self):
        """||e||_1^n is uniform on [0, R^n], and given it the direction is that of the sphere."""
        e = L1Ball(2.0).draw(np.random.default_rng(0), 20_000, (4,))
        lengths = np.abs(e).sum(axis=1)
        assert lengths.max() <= 2.0 * (1 + 1e-12)
        assert stats.kstest((lengths / 2) ** 4, "uniform").pvalue > 1e-3
        assert stats.kstest(np.abs(e[:, 0]) / lengths, stats.beta(1, 3).cdf).pvalue > 1e-3
        assert abs((e > 0).mean() - 0.5) < 0.01

    @pytest.mark.parametrize(
        "given",
        [
            stats.norm(0, 0.2),
            stats.multivariate_normal([0, 0], [[0.04, 0], [0, 0.04]]),
            stats.Normal(mu=0, sigma=0.2),
            lambda rng, count: rng.normal(0, 0.2, (count, 2)),
            np.random.default_rng(5).normal(0, 0.2, (1000, 2)),
            (np.random.default_rng(i).normal(0, 0.2, 2) for i in range(1000)),
            Gaussian(0.2),
            stats.gaussian_kde(np.random.default_rng(6).normal(0, 0.2, (2, 4000)), 0.01),
            stats.rv_histogram(np.histogram(stats.norm(0, 0.2).ppf(np.linspace(0, 1, 10_002)[1:-1]), 200)),
        ],
        ids=["univariate", "multivariate", "new", "function", "rows", "generator", "ours", "density", "histogram"],
    )
    def test_whatever_can_be_sampled(self, given):
        found = certify(Source(LINE, np.zeros(2), given), FIRST, Request(0.1, 0.01, 800))
        assert found.bound == pytest.approx(quantile(Gaussian(0.2), found.discarded / 800), abs=0.15)

    @pytest.mark.parametrize(
        "given",
        [stats.norm(0, 1), stats.multivariate_normal([0, 0], np.eye(2)), stats.uniform_direction(2), stats.Normal()],
        ids=["univariate", "multivariate", "directions", "new"],
    )
    def test_a_last_batch_of_one(self, given):
        """SciPy leaves out the first axis of a single multivariate draw."""
        rows = Source(LINE, np.zeros(2), given).rows
        found = certify(Source(LINE, np.zeros(2), given), FIRST, Request(0.1, 0.01, rows + 1))
        assert found.samples == rows + 1

    def test_images_keep_their_shape(self):
        shapes = []

        def function(x):
            shapes.append(x.shape[1:])
            return x.reshape(len(x), -1)[:, :2]

        noise = np.random.default_rng(0).normal(size=(50, 3, 2))
        certify(Source(function, np.zeros((3, 2)), noise), FIRST, Request(0.1, 0.1))
        assert set(shapes) == {(3, 2)}

    def test_clipping(self):
        seen = []

        def function(x):
            seen.append(x.copy())
            return x

        certify(Source(function, np.array([0.0, 1.0]), Gaussian(1.0), clip=True), FIRST, Request(0.1, 0.1))
        assert seen[0].min() == 0.0
        assert seen[0].max() == 1.0

    def test_the_seed_says_all(self):
        def bound(seed, **settings):
            return certify(Source(LINE, np.zeros(2), Uniform(0.1), seed), FIRST, Request(0.01, 1e-3, **settings)).bound

        assert bound(1) == bound(1)
        assert bound(1) != bound(2)
        assert bound(1, samples=20_000, threads=1) == bound(1, samples=20_000, threads=3)

    @pytest.mark.parametrize(
        ("noise", "words"),
        [
            (np.full((50, 2), np.nan), "noise holds NaN"),
            (np.zeros((50, 3)), r"shape \(22, 3\); expected numbers, shape \(22, 2\)"),
            (np.zeros((5, 2)), "5 rows, more are needed"),
            (iter([np.zeros(2)] * 5), "ended before"),
            (lambda rng, count: rng.normal(size=count), r"shape \(22,\)"),
            (np.full((50, 2), "a"), "expected numbers"),
        ],
    )
    def test_what_is_no_noise(self, noise, words):
        with pytest.raises(ArfjError, match=words):
            certify(Source(LINE, np.zeros(2), noise), FIRST, Request(0.1, 0.1))

    def test_what_is_no_noise_at_all(self):
        for wrong, words in ((3, "int is no noise"), (stats.qmc.Sobol(2, rng=0), "Sobol is no noise")):
            with pytest.raises(UsageError, match=words):
                Source(LINE, np.zeros(2), wrong)
        with pytest.raises(UsageError, match="a single number"):
            Source(LINE, np.zeros(2), np.array(3.0))
        for make in (Uniform, Gaussian, L1Ball):
            for wrong in (-1.0, math.nan, math.inf, 1e301):
                with pytest.raises(UsageError, match="expected a number >= 0"):
                    make(wrong)


class TestBatches:
    def test_memory_does_not_grow(self):
        """Of 200,000 samples of 100 inputs, 160 MB, no more than batches are held."""
        sizes_seen = []

        def function(x):
            sizes_seen.append(len(x))
            return x[:, :2]

        source = Source(function, np.zeros(100), Uniform(1.0))
        for kind in ("halfspace", "linf"):
            tracemalloc.start()
            certify(source, FIRST, Request(0.01, 1e-3, 200_000, set=kind))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 2e7
        assert max(sizes_seen) <= 4096
        assert sum(sizes_seen) == 400_000

    def test_many_discards(self):
        """Of 50,000 almost half: they are sorted now and then, not at every batch, and none is lost."""
        source = Source(LINE, np.zeros(2), Uniform(0.5), seed=3)
        found = certify(source, FIRST, Request(0.5, 1e-3, 50_000))
        y = np.concatenate(list(source.each(50_000, 0, lambda y: y)))
        assert found.discarded > 24_000
        assert found.bound == np.sort(y[:, 0] - y[:, 1])[found.discarded]

    def test_batches_are_those_of_one_product(self):
        """The bound is the order statistic of all margins, whatever the batches were."""
        source = Source(LINE, np.zeros(2), Uniform(0.5), seed=3)
        parts = [
            source.inputs(min(source.rows, 10_000 - at), 0, i) for i, at in enumerate(range(0, 10_000, source.rows))
        ]
        assert len(parts) > 2
        y = LINE(np.concatenate(parts))
        found = certify(source, FIRST, Request(0.01, 1e-3, 10_000))
        assert found.discarded > 50
        assert found.bound == np.sort(y[:, 0] - y[:, 1])[found.discarded]
        assert from_outputs(y, FIRST, Request(0.01, 1e-3)).bound == found.bound

    def test_a_large_network(self):
        """Layer by layer as the network itself."""
        rng = np.random.default_rng(0)
        weights = [rng.normal(size=(30, 300)), rng.normal(size=(300, 300)), rng.normal(size=(300, 3))]
        network = Network.from_arrays(weights, [rng.normal(size=w.shape[1]) for w in weights], "relu")
        source = Source(network, np.zeros(30), Gaussian(1.0))
        x = source.inputs(50, 0, 0)
        assert np.array_equal(source.outputs(x), network(x))


class TestRequests:
    def test_lambda_zero_is_the_half_space(self):
        """The ball's value is the half-space's minimum and not attained: p is 1."""
        source = Source(LINE, np.zeros(2), Gaussian(0.1))
        found = certify(source, FIRST, Request(0.1, 0.01, set="l2", regularise=0.0))
        assert (found.set, found.p, found.samples) == ("halfspace", 1, exact_size(0.1, 0.01))
        assert found.bound == certify(source, FIRST, Request(0.1, 0.01)).bound

    @pytest.mark.parametrize(("kind", "p"), [("l2", 3), ("linf", 3), ("l1", 3), ("box", 4)])
    def test_variables(self, kind, p):
        found = certify(Source(LINE, np.zeros(2), Gaussian(0.1)), FIRST, Request(0.1, 0.01, set=kind))
        assert (found.p, found.samples, found.discarded) == (p, exact_size(0.1, 0.01, p), 0)
        assert found.localised is not None

    def test_numbers_of_numpy(self):
        """As `as_json` gives them they are Python's."""
        request = Request(np.float32(0.5), np.float64(0.01), np.int64(100))
        found = certify(Source(LINE, np.zeros(2), Gaussian(0.1)), FIRST, request)
        assert json.loads(json.dumps(found.as_json()))["samples"] == 100
        assert exact_size(np.float32(0.5), 0.01, np.int64(3)) == exact_size(0.5, 0.01, 3)

    def test_discarding_is_never_worse(self):
        for seed in range(20):
            source = Source(LINE, np.zeros(2), Gaussian(0.1), seed)
            pair = [certify(source, FIRST, Request(0.05, 1e-3, 500, discard=d)) for d in (True, False)]
            assert pair[0].bound >= pair[1].bound
            assert (pair[0].discarded > 0, pair[1].discarded) == (True, 0)

    @pytest.mark.parametrize(
        ("settings", "words"),
        [
            ({"set": "cube"}, "no set 'cube'"),
            ({"regularise": -1.0}, "lambda is -1"),
            ({"samples": 10}, "10 samples are too few for epsilon 0.001"),
            ({"samples": 0}, "number of samples is 0"),
            ({"samples": 1e6}, "number of samples is 1000000.0; expected a whole number"),
            ({"samples": 10**13}, "at most 1e"),
            ({"samples": 10**12, "epsilon": 0.5}, "more than memory holds"),
            ({"threads": -1}, "number of threads is -1"),
        ],
    )
    def test_bad_requests(self, settings, words):
        with pytest.raises(UsageError, match=words):
            certify(Source(LINE, np.zeros(2), Gaussian(0.1)), FIRST, Request(**settings))

    @pytest.mark.parametrize(
        ("function", "words"),
        [
            (lambda x: x[:, 0], r"shape \(22,\), for 22 inputs; expected numbers of shape \(22, outputs\)"),
            (lambda x: x[:-1], r"shape \(21, 2\)"),
            (lambda x: np.hstack([x, x]), "gives 4 outputs, the safe set is one of 2"),
            (lambda x: np.where(x > 0, np.nan, x), "NaN or infinite"),
            (lambda x: np.full(x.shape, -np.inf), "NaN or infinite"),
            (lambda x: x.astype(str), "expected numbers"),
        ],
    )
    @pytest.mark.parametrize("kind", ["halfspace", "linf"])
    def test_bad_functions(self, function, words, kind):
        samples = 22 if kind == "halfspace" else 60
        with pytest.raises(ArfjError, match=words.replace("22", str(samples)).replace("21", str(samples - 1))):
            certify(Source(function, np.zeros(2), Gaussian(1.0)), FIRST, Request(0.1, 0.1, samples, set=kind))

    @pytest.mark.parametrize("noise", [Uniform(1e300), Gaussian(1e300), L1Ball(1e300)], ids=["uniform", "gauss", "l1"])
    def test_networks_that_overflow(self, noise):
        """Without a warning of NumPy's on the way."""
        network = Network.from_arrays([np.full((2, 3), 1e10)], [np.zeros(3)], "linear")
        for function in (network, network.graph()):
            with pytest.raises(ArfjError, match="NaN or infinite"):
                certify(Source(function, np.zeros(2), noise), Safe.margin(3, 0), Request(0.1, 0.1))

    @pytest.mark.parametrize("kind", ["halfspace", "l2", "linf", "l1", "box"])
    def test_margins_that_overflow(self, kind):
        """Outputs are finite, their margin is not: infinity less infinity sorts behind all numbers."""
        points = np.where(np.random.default_rng(0).random((200, 2)) < 0.5, 1e308, -1e308)
        with pytest.raises(ArfjError, match=r"NaN or infinite|too large|beyond floating point"):
            from_outputs(points, Safe([[9.0, 9.0]], [0.0]), Request(0.1, 0.1, set=kind))

    def test_what_is_said_holds(self):
        """Bounds are rounded down to what is printed, epsilons up."""
        found = from_outputs(np.full((100, 1), 2 / 3), Safe([[1.0]], [0.0]), Request(0.1, 0.01))
        assert "at least 0.666666 with" in found.sentence()
        assert "1 - 0.01, the" in found.sentence()
        for value, down, up in ((2 / 3, "0.666666", "0.666667"), (-2 / 3, "-0.666667", "-0.666666"), (-0.0, "0", "0")):
            assert (sizes.rounded(value), sizes.rounded(value, up=True)) == (down, up)
        with pytest.raises(UsageError, match=r"or an epsilon of 0\.0451 or more"):  # 0.045007...
            from_outputs(np.zeros((100, 1)), Safe([[1.0]], [0.0]), Request(0.01, 0.01))

    def test_bad_sets_and_sources(self):
        with pytest.raises(UsageError, match="target class is 2; expected 0 to 1"):
            Safe.margin(2, 0, [2])
        with pytest.raises(UsageError, match="true class itself"):
            Safe.margin(2, 0, [0])
        with pytest.raises(UsageError, match="not zero"):
            Safe([[0.0, 0.0]], [1.0])
        with pytest.raises(UsageError, match="make no safe set"):
            Safe([[1.0, 0.0]], [1.0, 2.0])
        with pytest.raises(UsageError, match="takes inputs of shape"):
            Source(LINE, np.zeros(3), Gaussian(1.0))
        with pytest.raises(UsageError, match="holds NaN"):
            Source(LINE, np.array([0, np.nan]), Gaussian(1.0))
        with pytest.raises(UsageError, match="seed is -1"):
            Source(LINE, np.zeros(2), Gaussian(1.0), seed=-1)
        with pytest.raises(UsageError, match="2 outputs, the safe set is one of 3"):
            certify(Source(LINE, np.zeros(2), Gaussian(1.0)), Safe.margin(3, 0), Request())
        with pytest.raises(UsageError, match="takes one half-space, not 2"):
            from_outputs(np.zeros((3107, 3)), Safe.margin(3, 0), Request(0.01, set="l2"))
        with pytest.raises(UsageError, match="shape"):
            from_outputs(np.zeros(3), FIRST)


class TestSurrogate:
    @pytest.mark.parametrize("layer", [1, 2])
    def test_it_lies_below(self, layer):
        """On 2,000 inputs, for all rivals at once."""
        network, x = bundled_nominal(), bundled_images().nominal[9]
        source, safe = Source(network, x, Uniform(0.005)), Safe.margin(10, 9)
        found = surrogate(source, safe, layer)
        inputs = source.inputs(2000, 0, 0)
        below, above = found.network(inputs), network(inputs) @ safe.rows.T + safe.offsets
        assert (below <= above).all()
        assert np.median(above - below) < 1.0

    def test_certificates(self):
        network, x = bundled_nominal(), bundled_images().nominal[9]
        source, safe = Source(network, x, Uniform(0.005)), Safe.margin(10, 9)
        deep = certify(source, safe, Request(0.01))
        shallow = [certify_by_surrogate(source, safe, layer, Request(0.01)) for layer in (1, 2, 3)]
        assert all(one.bound <= deep.bound for one in shallow)
        assert shallow[0].safe
        assert shallow[2].bound == pytest.approx(deep.bound, abs=0.5)

    def test_support(self):
        """Of clipped noise, of the l1 ball; the samples lie in it."""
        x = np.linspace(0, 1, 6)
        for noise, clip in (
            (Uniform(0.3), True),
            (Uniform(0.3), False),
            (L1Ball(0.7), False),
            (L1Ball(0.7), True),
            (Gaussian(1.0), True),
        ):
            source = Source(lambda x: x, x, noise, clip=clip)
            region = source.support()
            assert all(region.contains(one) for one in source.inputs(500, 0, 0))

    def test_refusals(self):
        network, x = bundled_nominal(), bundled_images().nominal[9]
        safe = Safe.margin(10, 9)
        for source, layer, words in (
            (Source(network, x, Gaussian(0.1)), 1, "bounded support"),
            (Source(network, x, Uniform(0.1)), 0, "expected 1 to 3"),
            (Source(network, x, Uniform(0.1)), 4, "4 of 4 hidden layers; expected 1 to 3"),
            (Source(Network.from_arrays([np.eye(784)], [np.zeros(784)], "linear"), x, Uniform(0.1)), 1, "has 0"),
            (Source(lambda x: x, x, Uniform(0.1)), 1, "a callable has none"),
        ):
            with pytest.raises(UsageError, match=words):
                surrogate(source, safe, layer)
        with pytest.raises(UsageError, match="certifies half-spaces, not l2"):
            certify_by_surrogate(Source(network, x, Uniform(0.1)), safe, 1, Request(set="l2"))


class TestParameters:
    def test_inner(self):
        network, x = bundled_nominal(), bundled_images().nominal[9]
        sampler = inner_sampler(network, 0.05)
        rng = np.random.default_rng(0)
        one, two = sampler(rng), sampler(rng)
        assert d_in(one, network) == pytest.approx(0.05)
        assert d_in(one, two) > 0.05
        safe = Safe.margin(10, 9)
        found = certify_networks(sampler, x, safe, Request(0.1, 0.01), seed=4)
        assert (found.samples, found.sizing, found.safe) == (44, "exact", True)
        rng = np.random.default_rng(4)
        assert found.bound == min((sampler(rng)(x[None]) @ safe.rows.T).min() for _ in range(44))

    def test_coverage(self):
        """y = theta x with theta ~ N(1, 1): the margin at x = 2 is N(2, 4)."""
        failures = 0
        repetitions = 500
        for seed in range(repetitions):
            values = 1 + np.random.default_rng(seed).standard_normal(29)
            networks = (Network.from_arrays([[[v, 0.0]]], [[0.0, 0.0]], "linear") for v in values)
            found = certify_networks(networks, [2.0], FIRST, Request(0.1, 0.05))
            failures += found.bound > 2 + 2 * stats.norm.ppf(0.1)
        low, up = stats.binom.ppf([SURE, 1 - SURE], repetitions, 0.9**29)
        assert low <= failures <= up

    def test_what_is_no_network(self):
        network = bundled_nominal()
        other = Network.from_arrays([np.ones((784, 3))], [np.ones(3)], "linear")
        for wrong, words in (
            (network, "one network is no sampler"),
            (lambda rng: 3, "int is no network"),
            ([network, other], "a network gives 3 outputs, the safe set is one of 10"),
        ):
            with pytest.raises(UsageError, match=words):
                certify_networks(wrong, np.zeros(784), Safe.margin(10, 9), Request(0.1, 0.01))

    def test_too_few(self):
        with pytest.raises(UsageError, match="there are 5 networks, 44 are needed"):
            certify_networks([bundled_nominal()] * 5, np.zeros(784), Safe.margin(10, 9), Request(0.1, 0.01))
