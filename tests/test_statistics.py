"""The statistics of a transfer study against hand-made numbers, loops, exact sums and simulated variances."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest, norm

from arfj.errors import ArfjError, UsageError
from experiments.transfer.statistics import (
    Components,
    Interval,
    a_priori_violation,
    clopper_pearson,
    cluster_bootstrap,
    paired_difference,
    power,
    variance_components,
)

NAN = math.nan


def study(seed, images=12, targets=9, share=0.8):
    """Two methods' outcomes and a mask with a valid cell in every row and column."""
    rng = np.random.default_rng(seed)
    easy, weak = rng.random((images, 1)), rng.random((1, targets))
    a, b = ((rng.random((images, targets)) < part * (easy + weak) / 2).astype(float) for part in (1.2, 0.7))
    mask = rng.random((images, targets)) < share
    mask[:, 0] = mask[0, :] = True
    return a, b, mask


class TestClopperPearson:
    @pytest.mark.parametrize(
        ("hits", "trials", "low", "high"),
        [
            (0, 10, 0.0, 0.3085),
            (10, 10, 0.6915, 1.0),
            (1, 10, 0.0025, 0.4450),
            (5, 10, 0.1871, 0.8129),
            (15, 15, 0.7820, 1.0),
            (0, 0, 0.0, 1.0),
        ],
    )
    def test_known_values(self, hits, trials, low, high):
        assert clopper_pearson(hits, trials) == pytest.approx((low, high), abs=5e-5)

    @given(st.integers(0, 40), st.integers(0, 40), st.floats(0.5, 0.999))
    def test_agrees_with_scipy(self, hits, misses, confidence):
        if hits + misses:
            expected = binomtest(hits, hits + misses).proportion_ci(confidence, method="exact")
            assert clopper_pearson(hits, hits + misses, confidence) == pytest.approx(tuple(expected), abs=1e-12)

    @pytest.mark.parametrize("trials", [1, 7, 50])
    def test_coverage(self, trials):
        hits = np.arange(trials + 1)
        low, high = clopper_pearson(hits, trials, 0.9)
        for p in np.linspace(0, 1, 301):
            chances = [math.comb(trials, k) * p**k * (1 - p) ** (trials - k) for k in hits]
            assert math.fsum(np.array(chances)[(low <= p) & (p <= high)]) >= 0.9 - 1e-12

    def test_shapes(self):
        low, high = clopper_pearson([[0], [3]], [3, 4, 5])
        assert low.shape == high.shape == (2, 3)
        assert low[1, 2] == clopper_pearson(3, 5)[0]

    @pytest.mark.parametrize("wrong", [(3, 2), (-1, 2), (0.5, 2), (1, 2.5), (NAN, 2), (1, NAN), (1, math.inf)])
    def test_no_share(self, wrong):
        with pytest.raises(UsageError, match="whole numbers"):
            clopper_pearson(*wrong)

    @pytest.mark.parametrize("confidence", [0, 1, 95, NAN])
    def test_no_confidence(self, confidence):
        with pytest.raises(UsageError, match="between 0 and 1"):
            clopper_pearson(1, 2, confidence)


def by_loops(outcomes, mask, resamples, seed):
    """The means of the resamples, a cell at a time, with the same multiplicities."""
    images, targets = mask.shape
    rng = np.random.default_rng(seed)
    r = rng.multinomial(images, np.full(images, 1 / images), size=resamples)
    c = rng.multinomial(targets, np.full(targets, 1 / targets), size=resamples)
    for b in range(resamples):
        found = [
            outcomes[i][j]
            for i in range(images)
            for j in range(targets)
            if mask[i][j]
            for _ in range(r[b][i] * c[b][j])
        ]
        if found:
            yield sum(found) / len(found)


class TestBootstrap:
    @pytest.mark.parametrize("seed", range(4))
    def test_against_loops(self, seed):
        a, b, mask = study(seed, images=4, targets=3, share=0.3)
        quantiles = [0.05, 0.95]
        one = cluster_bootstrap(a, mask, confidence=0.9, resamples=200, seed=seed)
        means = np.array(list(by_loops(a, mask, 200, seed)))
        assert (one.low, one.high) == pytest.approx(tuple(np.quantile(means, quantiles)), abs=1e-12)
        assert one.estimate == pytest.approx(a[mask].mean(), abs=1e-15)
        difference = paired_difference(a, b, mask, confidence=0.9, resamples=200, seed=seed)
        differences = 100 * (means - np.array(list(by_loops(b, mask, 200, seed))))
        assert (difference.low, difference.high) == pytest.approx(tuple(np.quantile(differences, quantiles)), abs=1e-9)
        assert difference.estimate == pytest.approx(100 * (a[mask].mean() - b[mask].mean()), abs=1e-12)

    def test_resamples_without_a_valid_cell_are_left_out(self):
        """On the diagonal of two by two, one resample in eight has no valid cell; the rest are 0, 1 or between."""
        values, mask = np.diag([0.0, 1.0]), np.eye(2, dtype=bool)
        assert len(list(by_loops(values, mask, 500, 3))) < 500
        assert cluster_bootstrap(values, mask, resamples=500, seed=3) == Interval(0.5, 0.0, 1.0)

    def test_same_seed_same_interval(self):
        a, b, mask = study(0)
        assert paired_difference(a, b, mask, seed=5) == paired_difference(a, b, mask, seed=5)
        assert paired_difference(a, b, mask, seed=5) != paired_difference(a, b, mask, seed=6)

    def test_more_than_one_chunk(self):
        a, _, mask = study(1)
        means = np.array(list(by_loops(a, mask, 1000, 2)))
        many = cluster_bootstrap(a, mask, resamples=1500, seed=2)
        assert cluster_bootstrap(a, mask, resamples=1000, seed=2).low == pytest.approx(np.quantile(means, 0.025))
        assert (many.low, many.high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.03)

    def test_what_is_masked_does_not_count(self):
        """Neither a number there nor an image or a target without a valid cell."""
        a, _, mask = study(2)
        plain = cluster_bootstrap(a, mask, resamples=300)
        wider, wide_mask = np.full((14, 11), NAN), np.zeros((14, 11), dtype=bool)
        wider[1:13, 1:10], wide_mask[1:13, 1:10] = np.where(mask, a, np.inf), mask
        assert cluster_bootstrap(wider, wide_mask, resamples=300) == plain

    def test_order_of_images_and_targets_does_not_matter(self):
        a, b, mask = study(3, images=20, targets=20)
        plain = paired_difference(a, b, mask, resamples=20_000)
        rng = np.random.default_rng(0)
        order = np.ix_(rng.permutation(20), rng.permutation(20))
        for other in ((a[order], b[order], mask[order]), (a.T, b.T, mask.T)):
            found = paired_difference(*other, resamples=20_000)
            assert found.estimate == pytest.approx(plain.estimate, abs=1e-9)
            assert (found.low, found.high) == pytest.approx((plain.low, plain.high), abs=1.0)

    def test_methods_exchanged(self):
        a, b, mask = study(4)
        forth, back = paired_difference(a, b, mask), paired_difference(b, a, mask)
        assert (back.low, back.high) == pytest.approx((-forth.high, -forth.low), abs=1e-12)
        assert paired_difference(a, a, mask) == Interval(0.0, 0.0, 0.0)

    def test_pairs_take_away_what_they_share(self):
        """Images alone vary, equally for both methods: the difference is sure, the shares are not."""
        a = np.repeat([[0.0], [1.0]] * 5, 8, axis=1)
        mask = np.ones((10, 8), dtype=bool)
        assert cluster_bootstrap(a, mask).high - cluster_bootstrap(a, mask).low > 0.4
        difference = paired_difference(a, a - 0.25, mask)
        assert (difference.low, difference.high) == pytest.approx((25, 25), abs=1e-12)

    @pytest.mark.parametrize(("image", "target", "residual"), [(1, 0, 0), (0, 1, 0), (0, 0, 1)])
    def test_variance_that_the_docstring_names(self, image, target, residual):
        """Component by component: I - 1 in I, T - 1 in T, and the residual some three times."""
        rng = np.random.default_rng(7)
        images, targets = 12, 8
        widths = []
        for seed in range(150):
            y = simulated(rng, images, targets, image, target, residual)
            found = cluster_bootstrap(y, np.ones_like(y, dtype=bool), confidence=0.6827, resamples=400, seed=seed)
            widths.append(((found.high - found.low) / 2) ** 2)
        expected = (
            image * (1 - 1 / images) / images
            + target * (1 - 1 / targets) / targets
            + residual * ((2 - 1 / images) * (2 - 1 / targets) - 1) / (images * targets)
        )
        assert np.mean(widths) == pytest.approx(expected, rel=0.15)


def simulated(rng, images, targets, image, target, residual):
    """Outcomes of the model with these variances."""
    rows, columns = rng.normal(size=(images, 1)), rng.normal(size=(1, targets))
    noise = rng.normal(size=(images, targets))
    return math.sqrt(image) * rows + math.sqrt(target) * columns + math.sqrt(residual) * noise


class TestDegenerate:
    @pytest.mark.parametrize("statistic", [cluster_bootstrap, variance_components])
    @pytest.mark.parametrize(
        ("mask", "message"),
        [
            (np.ones((1, 5)), "1"),
            (np.ones((5, 1)), "1"),
            ([[1, 1, 1], [0, 0, 0]], "1"),
            (np.zeros((3, 3)), "no cell is valid"),
            (np.zeros((0, 0)), "no cell is valid"),
        ],
    )
    def test_too_little(self, statistic, mask, message):
        mask = np.array(mask, dtype=bool)
        with pytest.raises(ArfjError, match=message) as caught:
            statistic(np.zeros(mask.shape), mask)
        assert "give" in str(caught.value) or "needs two of each" in str(caught.value)

    def test_components_that_cannot_be_told_apart(self):
        for mask in (np.eye(4), [[1, 1, 1]], [[1, 1, 0, 0], [0, 0, 1, 1]]):
            with pytest.raises(ArfjError, match="tell image, target and residual apart"):
                variance_components(np.zeros(np.shape(mask)), np.array(mask, dtype=bool))

    @pytest.mark.parametrize("statistic", [cluster_bootstrap, variance_components])
    def test_wrong_arrays(self, statistic):
        full = np.ones((3, 3), dtype=bool)
        with pytest.raises(UsageError, match="no finite number"):
            statistic(np.full((3, 3), NAN), full)
        with pytest.raises(UsageError, match="one shape"):
            statistic(np.zeros((3, 2)), full)
        with pytest.raises(UsageError, match="one shape"):
            statistic(np.zeros(3), full[0])
        with pytest.raises(UsageError, match="truth values"):
            statistic(np.zeros((3, 3)), np.ones((3, 3)))

    @pytest.mark.parametrize("option", [{"confidence": 1.0}, {"confidence": 95}, {"resamples": 0}])
    def test_wrong_options(self, option):
        with pytest.raises(UsageError, match="expected"):
            cluster_bootstrap(np.zeros((3, 3)), np.ones((3, 3), dtype=bool), **option)


class TestComponents:
    def test_by_hand(self):
        """[[1, 3], [5, 11]]: mean squares 36, 16 and 4 of images, targets and residual, so 16, 6 and 4."""
        found = variance_components([[1, 3], [5, 11]], np.ones((2, 2), dtype=bool))
        assert (found.mean, found.image, found.target, found.residual) == pytest.approx((5, 16, 6, 4))
        assert (found.images, found.targets, found.cells) == (2, 2, 4)
        assert (found.image_share, found.target_share) == (0.5, 0.5)
        assert found.standard_error(2) == pytest.approx(math.sqrt(16 / 2 + 6 / 2 + 4 / 4))
        assert found.standard_error(10) == pytest.approx(math.sqrt(16 / 2 + 6 / 10 + 4 / 20))
        assert found.standard_error(math.inf) == pytest.approx(math.sqrt(16 / 2))

    def test_against_pairs_of_cells(self):
        """Half the squared difference of two cells has a mean of its own in a row, in a column and apart; with holes.

        An image with one cell is in no pair of a row. Pairs are weighted by 1/N_i, by 1/N_j and equally.
        """
        y = np.array([[3.0, 9, 1, 4], [8, 0, 0, 0], [2, 6, 0, 11], [0, 7, 2, 0]])
        mask = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [1, 1, 0, 1], [0, 1, 1, 0]], dtype=bool)
        cells = list(np.argwhere(mask))
        within_rows = within_columns = everywhere = 0.0
        system = np.zeros((3, 3))
        for i, j in cells:
            for k, m in cells:
                half = (y[i, j] - y[k, m]) ** 2 / 2
                parts = np.array([i != k, j != m, (i, j) != (k, m)], dtype=float)  # image, target, residual differ
                for row, weight in enumerate(((i == k) / mask[i].sum(), (j == m) / mask[:, j].sum(), 1.0)):
                    system[row] += weight * parts
                within_rows += half * (i == k) / mask[i].sum()
                within_columns += half * (j == m) / mask[:, j].sum()
                everywhere += half
        expected = np.linalg.solve(system, [within_rows, within_columns, everywhere])
        found = variance_components(y, mask)
        assert (found.image, found.target, found.residual) == pytest.approx(tuple(np.maximum(expected, 0)), abs=1e-9)
        assert (expected > 0).sum() >= 2

    def test_negative_estimates_are_zero(self):
        found = variance_components([[0, 1], [1, 0]], np.ones((2, 2), dtype=bool))
        assert (found.image, found.target, found.residual) == (0, 0, 1)

    @pytest.mark.parametrize("share", [1.0, 0.5])
    def test_recovered_from_simulated_data(self, share):
        """Unbiased: the mean over many studies is the truth, with holes as well (image effects stay above zero)."""
        rng = np.random.default_rng(1)
        found = []
        for _ in range(300):
            y = simulated(rng, 20, 15, 2.0, 1.0, 0.5)
            mask = (rng.random(y.shape) < share * np.linspace(0.5, 1, 15)) | (share == 1)
            estimate = variance_components(np.where(mask, y, NAN), mask)
            found.append((estimate.image, estimate.target, estimate.residual))
        assert np.mean(found, axis=0) == pytest.approx((2.0, 1.0, 0.5), rel=0.06)

    @pytest.mark.parametrize("share", [1.0, 0.5])
    def test_standard_error_is_that_of_the_mean(self, share):
        """With a fixed mask, the means of many studies scatter by what the true components say."""
        rng = np.random.default_rng(2)
        mask = rng.random((10, 8)) < share
        truth = replace(variance_components(rng.normal(size=mask.shape), mask), image=2.0, target=1.0, residual=3.0)
        means = [simulated(rng, 10, 8, 2.0, 1.0, 3.0)[mask].mean() for _ in range(20_000)]
        assert np.std(means) == pytest.approx(truth.standard_error(truth.targets), rel=0.02)

    @given(st.integers(0, 1000))
    def test_order_and_roles(self, seed):
        a, b, mask = study(seed)
        plain = variance_components(a - b, mask)
        rng = np.random.default_rng(seed)
        order = np.ix_(rng.permutation(12), rng.permutation(9))
        moved = variance_components((a - b)[order] + 7, mask[order])
        turned = variance_components((b - a).T, mask.T)
        for found in (moved, replace(turned, image=turned.target, target=turned.image)):
            ours = (found.image, found.target, found.residual)
            assert ours == pytest.approx((plain.image, plain.target, plain.residual), abs=1e-9)

    def test_masked_rows_do_not_count(self):
        a, b, mask = study(5)
        wider = np.vstack([np.full((2, 9), NAN), a - b])
        assert variance_components(wider, np.vstack([np.zeros((2, 9), dtype=bool), mask])) == variance_components(
            a - b, mask
        )


def components(image, target, residual, images=40, targets=15):
    """As if every cell were valid."""
    return Components(0.1, image, target, residual, images, targets, 1 / images, 1 / targets, images * targets)


class TestPower:
    Z = norm.ppf(0.975) + norm.ppf(0.8)

    def error(self, parts, images, targets):
        image, target, residual = parts
        return math.sqrt(image / images + target / targets + residual / (images * targets))

    @pytest.mark.parametrize("points", [5, 7.5, 10, 20])
    @pytest.mark.parametrize("parts", [(0.01, 0.02, 0.3), (0.0, 0.02, 0.3), (0.01, 0.0, 0.3), (0.005, 0.02, 0.0)])
    def test_just_enough(self, points, parts):
        found = power(components(*parts), points=points)
        assert 100 * self.Z * self.error(parts, 40, found.targets) <= points
        assert found.targets == 1 or points < 100 * self.Z * self.error(parts, 40, found.targets - 1)
        assert found.detectable == pytest.approx(100 * self.Z * self.error(parts, 40, 15))
        assert found.limit == pytest.approx(100 * self.Z * math.sqrt(parts[0] / 40))

    def test_by_hand(self):
        """Targets alone vary, by 0.1 each: T >= (2.8016 * 0.1 / 0.1)^2 = 7.85."""
        assert power(components(0, 0.01, 0)).targets == 8

    def test_an_exact_number_is_enough(self):
        """(z / 0.1)^2 s^2 = T exactly, whatever rounding says."""
        for targets in range(1, 200):
            assert power(components(0, targets * (0.1 / self.Z) ** 2, 0)).targets == targets

    def test_too_few_images(self):
        limit = (0.1 / self.Z) ** 2 * 40
        assert power(components(limit * 1.001, 0.01, 0.1)).targets is None
        assert power(components(limit * 0.999, 0.01, 0.1)).targets > 1000
        found = power(components(limit * 4, 0.01, 0.1))
        assert found.limit == pytest.approx(20)
        assert found.sentence() == (
            "no number of targets shows 10 points: the images are too few (the limit is 20.0 points)"
        )

    def test_words(self):
        assert power(components(0, 0.01, 0)).sentence() == ("8 targets show 10 points; the present design shows 7.2")

    def test_nothing_varies(self):
        found = power(components(0, 0, 0))
        assert (found.targets, found.detectable, found.limit) == (1, 0, 0)

    def test_holes_ask_for_more_targets(self):
        rng = np.random.default_rng(3)
        y = simulated(rng, 30, 20, 0.001, 0.02, 0.3)
        full = variance_components(y, np.ones_like(y, dtype=bool))
        mask = rng.random(y.shape) < 0.4
        holes = variance_components(y, mask)
        holes = replace(holes, image=full.image, target=full.target, residual=full.residual)
        assert power(holes, points=20).targets > power(full, points=20).targets

    def test_power_is_what_it_says(self):
        """Normal studies of just so many targets reject at 5 % in about 80 %, with the true standard error."""
        parts = (0.01, 0.05, 0.2)
        targets = power(components(*parts), points=12).targets
        rng = np.random.default_rng(4)
        means = np.array([0.12 + simulated(rng, 40, targets, *parts).mean() for _ in range(4000)])
        rejected = np.abs(means) >= norm.ppf(0.975) * self.error(parts, 40, targets)
        assert rejected.mean() == pytest.approx(0.8, abs=0.03)

    @pytest.mark.parametrize(
        "wrong", [{"points": 0}, {"points": -5}, {"points": NAN}, {"level": 0}, {"chance": 1}, {"chance": 0.01}]
    )
    def test_wrong_options(self, wrong):
        with pytest.raises(UsageError):
            power(components(0.01, 0.02, 0.3), **wrong)


class TestScenarioBound:
    @pytest.mark.parametrize(
        ("alpha", "support", "delta", "violation"),
        [
            (5, 5, 0.05, 1.0),
            (5, 0, 0.05, 1 - 0.01 ** (1 / 5)),
            (5, 1, 0.05, 1 - 0.002 ** (1 / 4)),  # 0.7885
            (5, 3, 0.05, 1 - 0.001 ** (1 / 2)),
            (1, 0, 0.05, 0.95),
            (100, 2, 1e-5, 1 - (1e-5 / (100 * 4950)) ** (1 / 98)),
        ],
    )
    def test_known_values(self, alpha, support, delta, violation):
        assert a_priori_violation(alpha, support, delta) == pytest.approx(violation, rel=1e-12)

    @pytest.mark.parametrize("alpha", [1, 5, 50, 300])
    def test_condition_of_the_theorem(self, alpha):
        """sum over k < N of C(N, k) (1 - eps(k))^(N - k) = delta."""
        terms = [math.comb(alpha, k) * (1 - a_priori_violation(alpha, k, 0.05)) ** (alpha - k) for k in range(alpha)]
        assert math.fsum(terms) == pytest.approx(0.05, rel=1e-9)

    def test_order(self):
        for alpha in (5, 20):
            bounds = [a_priori_violation(alpha, k, 0.05) for k in range(alpha + 1)]
            assert bounds == sorted(bounds)
        assert a_priori_violation(500, 3, 0.05) < a_priori_violation(50, 3, 0.05) < a_priori_violation(50, 3, 0.01)
        assert 0 < a_priori_violation(10**6, 2, 0.05) < 1e-4

    @pytest.mark.parametrize("wrong", [(0, 0, 0.05), (5, 6, 0.05), (5, -1, 0.05), (5, 1, 0.0), (5, 1, 1.0)])
    def test_out_of_range(self, wrong):
        with pytest.raises(UsageError, match="expected"):
            a_priori_violation(*wrong)
