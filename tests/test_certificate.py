"""The certificate of transfer against values known by hand, and its coverage by exact summation."""

import math
from dataclasses import FrozenInstanceError
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arfj.errors import ArfjError, UsageError
from arfj.evaluate import certificate, transfer_certificate
from arfj.evaluate.certificate import percent, upper_tail


@pytest.mark.parametrize(
    ("fooled", "networks", "delta", "probability"),
    [
        (15, 15, 0.05, 0.05 ** (1 / 15)),  # 0.8190
        (15, 15, 0.01, 0.01 ** (1 / 15)),  # 0.7356
        (1, 15, 0.05, 1 - 0.95 ** (1 / 15)),
        (1, 1, 0.05, 0.05),
        (0, 15, 0.05, 0.0),
        (5, 10, 0.025, 0.1871),  # the tables of the two-sided 95 % interval
        (9, 10, 0.025, 0.5550),
        (8, 10, 0.05, 0.4931),
    ],
)
def test_known_values(fooled, networks, delta, probability):
    assert transfer_certificate(fooled, networks, delta).probability == pytest.approx(probability, abs=5e-5)


def test_fifteen_of_fifteen():
    found = transfer_certificate(15, 15)
    assert found.as_json() == {"fooled": 15, "networks": 15, "delta": 0.05, "probability": found.probability}
    assert found.probability == pytest.approx(0.05 ** (1 / 15), rel=1e-14)
    assert "15 of 15" in found.sentence()
    assert "at least 81.8 %" in found.sentence()
    assert "without looking at them" in found.sentence()
    with pytest.raises(FrozenInstanceError):
        found.probability = 1.0


@pytest.mark.parametrize("networks", [1, 2, 15, 50])
@pytest.mark.parametrize("delta", [0.01, 0.05, 0.3])
def test_coverage(networks, delta):
    """Whatever the true p, the bound exceeds it with probability at most delta: summed over all outcomes."""
    bounds = [transfer_certificate(fooled, networks, delta).probability for fooled in range(networks + 1)]
    at_the_jumps = [min(1.0, bound * (1 + side)) for bound in bounds for side in (-1e-9, 1e-9)]
    for p in [*np.linspace(0, 1, 201), *at_the_jumps]:
        chances = [math.comb(networks, k) * p**k * (1 - p) ** (networks - k) for k in range(networks + 1)]
        wrong = math.fsum(chance for chance, bound in zip(chances, bounds, strict=True) if bound > p)
        assert wrong <= delta * (1 + 1e-9)


@given(st.integers(1, 60), st.floats(1e-6, 1 - 1e-6), st.data())
def test_bound_is_the_largest(networks, delta, data):
    """The tail at p is delta and not less, in exact arithmetic; more hits certify more, a smaller delta less."""
    fooled = data.draw(st.integers(1, networks))
    found = transfer_certificate(fooled, networks, delta).probability
    p = Fraction(found)
    exact = sum(math.comb(networks, k) * p**k * (1 - p) ** (networks - k) for k in range(fooled, networks + 1))
    assert float(exact) == pytest.approx(delta, rel=1e-8)
    assert upper_tail(fooled, networks, found) == pytest.approx(float(exact), rel=1e-11)
    assert transfer_certificate(fooled - 1, networks, delta).probability < found
    assert transfer_certificate(fooled, networks, delta / 2).probability < found
    assert found <= fooled / networks or delta > 0.3


@pytest.mark.parametrize(
    "wrong",
    [
        (1, 0, 0.05),
        (0, 0, 0.05),
        (1, 1_000_001, 0.05),
        (-1, 4, 0.05),
        (5, 4, 0.05),
        (1, 4, 0.0),
        (1, 4, 1.0),
        (1, 4, math.nan),
    ],
)
def test_out_of_range(wrong):
    with pytest.raises(UsageError, match="expected"):
        transfer_certificate(*wrong)


@pytest.mark.parametrize("lie", [0.83, 1.0, 0.0, math.nan])
def test_a_quantile_that_lies_is_not_believed(lie, monkeypatch):
    monkeypatch.setattr(certificate, "betaincinv", lambda *_: lie)
    with pytest.raises(ArfjError, match="failed its recomputation"):
        transfer_certificate(15, 15)


@pytest.mark.parametrize(
    ("probability", "text"), [(0.81896, "81.8"), (0.8199999, "81.9"), (0.0, "0.0"), (1.0, "100.0")]
)
def test_printed_bounds_are_rounded_down(probability, text):
    assert percent(probability) == text


def test_numbers_of_the_readme():
    assert [percent(transfer_certificate(15, 15, delta).probability) for delta in (0.05, 0.01)] == ["81.8", "73.5"]
