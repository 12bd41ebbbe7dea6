"""Sizes are the least ones, decided: against fractions, at ties, where floats end, and in bounded time."""

import math
import time
from fractions import Fraction

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from arfj.certify.scenario import discards, exact_epsilon, exact_size, sizes, tails
from arfj.errors import UsageError

CHANCES = st.one_of(
    st.floats(0.02, 0.98),
    st.sampled_from([2.0**-5, 0.125, 0.25, 0.5, 0.75, 0.875, 1 - 2.0**-5]),
    st.floats(1 - 1e-9, 1 - 2**-53),
)


def exact_tail(k, samples, epsilon):
    """P(Bin(N, eps) <= k) in fractions."""
    top, bottom = epsilon.as_integer_ratio()
    terms = (math.comb(samples, i) * top**i * (bottom - top) ** (samples - i) for i in range(k + 1))
    return Fraction(sum(terms), bottom**samples)


def neighbours(value):
    """The three floats around a tail: questions that rounding would answer wrongly."""
    middle = float(value)
    found = [middle, math.nextafter(middle, 0.0), math.nextafter(middle, 1.0)]
    return [one for one in found if 0 < one < 1]


class TestTails:
    @given(st.integers(1, 400), CHANCES, st.data())
    def test_enclosures(self, samples, epsilon, data):
        k = data.draw(st.integers(0, samples - 1))
        low, up = tails.enclosed(k, samples, epsilon)
        true = exact_tail(k, samples, epsilon)
        assert Fraction(low) <= true <= Fraction(up)
        assert Fraction(up) - Fraction(low) <= true * Fraction(1, 10**29)

    @pytest.mark.parametrize("n", [tails.SMALL, tails.SMALL + 1, 1000])
    def test_factorials(self, n):
        """Both sides of the place where Stirling's series begins, by a logarithm of integers."""
        with tails.localcontext(tails.CONTEXT):
            true = tails.Decimal(math.factorial(n)).ln()
            assert abs(tails._log_factorial(n) - true) < tails.Decimal("1e-57")

    @pytest.mark.parametrize(
        ("k", "samples", "epsilon", "tail"),
        [
            (0, 2, 0.5, 0.25),
            (0, 1, 0.5, 0.5),
            (1, 2, 0.5, 0.75),
            (0, 10, 0.75, 0.25**10),
            (10**5, 2 * 10**5 + 1, 0.5, 0.5),
        ],
    )
    def test_ties_hold(self, k, samples, epsilon, tail):
        assert tails.holds(k, samples, epsilon, tail)
        assert not tails.holds(k, samples, epsilon, math.nextafter(tail, 0.0))


class TestLeast:
    @given(st.integers(1, 60), st.integers(1, 8), CHANCES)
    def test_sizes(self, samples, p, epsilon):
        """Never one too small, and never one too large, with delta at and beside a tail."""
        assume(samples >= p)
        for delta in neighbours(exact_tail(p - 1, samples, epsilon)):
            found = exact_size(epsilon, delta, p)
            assert exact_tail(p - 1, found, epsilon) <= Fraction(delta)
            assert found == p or exact_tail(p - 1, found - 1, epsilon) > Fraction(delta)

    @given(st.integers(1, 60), CHANCES, st.data())
    def test_discards(self, samples, epsilon, data):
        k = data.draw(st.integers(0, samples - 1))
        for delta in neighbours(exact_tail(k, samples, epsilon)):
            if exact_tail(0, samples, epsilon) > Fraction(delta):
                with pytest.raises(UsageError, match="too few"):
                    discards(samples, epsilon, delta)
                continue
            found = discards(samples, epsilon, delta)
            assert exact_tail(found, samples, epsilon) <= Fraction(delta)
            assert found + 1 == samples or exact_tail(found + 1, samples, epsilon) > Fraction(delta)

    @given(st.integers(1, 60), st.integers(1, 8), st.floats(1e-12, 0.999))
    def test_epsilons(self, samples, p, delta):
        """The least float of all."""
        assume(samples >= p)
        found = exact_epsilon(samples, delta, p)
        assert exact_tail(p - 1, samples, found) <= Fraction(delta)
        assert exact_tail(p - 1, samples, math.nextafter(found, 0.0)) > Fraction(delta)

    @given(st.integers(-50, 50), st.integers(0, 100), st.integers(1, 100), st.integers(0, 100))
    def test_an_edge_is_found_from_any_guess(self, edge, low, wide, guess):
        up = low + wide
        found = sizes._edge(lambda n: n >= edge, min(max(guess, low + 1), up), low, up)
        assert found == min(max(edge, low + 1), up)

    @pytest.mark.parametrize("lie", [0.0, 5e-324, 1e-9, 0.5, 1.0, math.nan, math.inf])
    def test_beta_functions_that_lie(self, lie, monkeypatch):
        """They only say where to begin."""
        monkeypatch.setattr(sizes, "betaincc", lambda *_: lie)
        monkeypatch.setattr(sizes, "betainccinv", lambda *_: lie)
        assert exact_size(0.05, 1e-5, 3) == 324
        assert discards(25026, 0.001, 1e-5) == 6
        assert exact_epsilon(324, 1e-5, 3) == pytest.approx(0.04995901701646371, rel=1e-14)
        assert exact_epsilon(5, 1e-5, 5) == pytest.approx((1 - 1e-5) ** 0.2, rel=1e-12)


class TestExtremes:
    @pytest.mark.parametrize(
        ("epsilon", "delta", "size"),
        [(1e-9, 1e-5, 11512925460), (1e-3, 1e-300, 690431), (0.5, 5e-324, 1074), (1e-3, 1 - 2**-53, 1)],
    )
    def test_one_variable(self, epsilon, delta, size):
        """The least N >= ln(delta) / ln(1 - epsilon)."""
        assert exact_size(epsilon, delta) == size
        assert size == pytest.approx(math.log(delta) / math.log1p(-epsilon), abs=1, rel=1e-12)

    @pytest.mark.parametrize(
        ("epsilon", "delta", "p"),
        [
            (1e-3, 1e-5, 10**6),
            (0.5, 1e-300, 10**6),
            (1 - 2**-53, 1e-9, 10**6),
            (1e-3, 0.999999, 10**6),
            (0.3, 1e-5, 10**8),
        ],
    )
    def test_many_variables(self, epsilon, delta, p):
        """Within seconds; the normal approximation is near."""
        begun = time.process_time()
        found = exact_size(epsilon, delta, p)
        assert time.process_time() - begun < 20
        assert found == p or not tails.holds(p - 1, found - 1, epsilon, delta)
        spread = math.sqrt(found * epsilon * (1 - epsilon))
        assert abs(found * epsilon - p) < (math.sqrt(-2 * math.log(min(delta, 1 - delta))) + 1) * spread + 800

    def test_what_is_beyond(self):
        for epsilon, delta, p in ((1e-9, 1e-300, 1), (5e-324, 0.5, 1), (0.5, 0.5, 10**12)):
            with pytest.raises(UsageError, match="expected at most 1e"):
                exact_size(epsilon, delta, p)
        with pytest.raises(UsageError, match="at most 1e"):
            exact_size(0.5, 0.5, 10**400)
        for count in (0, 10**13, 10**400):
            with pytest.raises(UsageError, match="expected 1 or more, and at most 1e"):
                exact_epsilon(count, 0.1)

    def test_the_inverse(self):
        assert exact_epsilon(1, 5e-324) == 1.0
        assert exact_epsilon(10**12, 1e-5) == pytest.approx(-math.log(1e-5) / 10**12, rel=1e-9)
        assert exact_epsilon(5, 1e-5, 5) == pytest.approx((1 - 1e-5) ** 0.2, rel=1e-12)

    @pytest.mark.parametrize("samples", [10**6, 10**9])
    @pytest.mark.parametrize("delta", [1e-5, 0.9999])
    def test_many_discards(self, samples, delta):
        found = discards(samples, 0.5, delta)
        assert tails.holds(found, samples, 0.5, delta)
        assert not tails.holds(found + 1, samples, 0.5, delta)
