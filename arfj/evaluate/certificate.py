"""A certificate of transfer: how probably the next network of a sampler is fooled, from those that were asked.

Nothing is assumed of the attack, of the networks or of the image; the only randomness is that of the sampler.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from scipy.special import betaincinv

from arfj.errors import ArfjError, UsageError

DELTA = 0.05
"""The probability of a wrong certificate that is allowed where nothing else is asked for."""

ROUNDING = 1e-9
"""What rounding may add to the recomputed probability, relative to delta."""

MOST = 1_000_000
"""Networks; the probability is recomputed term by term."""


@dataclass(frozen=True)
class TransferCertificate:
    """With confidence 1 - delta the next network of the sampler is fooled with at least this probability.

    Attributes:
        fooled: k, how many of the networks are fooled.
        networks: n, independent draws of one sampler that the choice of x did not depend on.
        delta: the probability, over the draw of the n networks, that the certificate is wrong is at most this.
        probability: the lower bound p.
    """

    fooled: int
    networks: int
    delta: float
    probability: float

    def as_json(self) -> dict[str, Any]:
        """The keys of the interface."""
        return {
            "fooled": self.fooled,
            "networks": self.networks,
            "delta": self.delta,
            "probability": self.probability,
        }

    def sentence(self) -> str:
        """What is claimed, and on what assumption; the bound is rounded down."""
        return (
            f"{self.fooled} of {self.networks} networks are fooled: with confidence 1 - {self.delta} the next "
            f"network of the same sampler is fooled with a probability of at least {percent(self.probability)} %. "
            f"{ASSUMPTION}"
        )


ASSUMPTION = (
    "This assumes that the networks were drawn independently by one sampler (the same method of training, other seeds) "
    "and that the answer was chosen without looking at them. Nothing is claimed for networks made in another way."
)


def percent(probability: float) -> str:
    """A lower bound in %, rounded down to one digit: what is printed is proven, too."""
    return f"{math.floor(1000 * probability) / 10:.1f}"


def transfer_certificate(fooled: int, networks: int, delta: float = DELTA) -> TransferCertificate:
    """The exact lower bound p of Clopper and Pearson: P(Bin(n, p) >= k) = delta; 0 if k = 0.

    It is the delta-quantile of Beta(k, n - k + 1), and delta^(1/n) if all n networks are fooled.

    Args:
        fooled: k, 0 <= k <= n.
        networks: n, 1 <= n <= 1,000,000.
        delta: in (0, 1).

    Raises:
        UsageError: k, n or delta is out of range.
        ArfjError: the bound did not pass its recomputation.

    Source: C. J. Clopper and E. S. Pearson, The use of confidence or fiducial limits illustrated in the case of the
    binomial, Biometrika 26, 1934.
    """
    checked_delta(delta)
    if networks < 1 or not 0 <= fooled <= networks:
        raise UsageError(f"{fooled} of {networks} networks cannot be fooled; expected n >= 1 and 0 <= k <= n")
    if networks > MOST:
        raise UsageError(f"{networks} networks are too many for an exact sum; expected {MOST} at most")
    if fooled == 0:
        return TransferCertificate(0, networks, delta, 0.0)
    probability = float(betaincinv(fooled, networks - fooled + 1, delta))
    recomputed = upper_tail(fooled, networks, probability) if 0 < probability < 1 else math.nan
    if not recomputed <= delta * (1 + ROUNDING):
        raise ArfjError(
            f"the certificate for {fooled} of {networks} networks at delta {delta} failed its recomputation "
            f"({recomputed}); use a delta that is not so near to 0 or 1"
        )
    return TransferCertificate(fooled, networks, delta, probability)


def checked_delta(delta: float) -> float:
    """Delta itself.

    Raises:
        UsageError: it does not lie in (0, 1).
    """
    if not 0 < delta < 1:
        raise UsageError(f"delta {delta} is no probability of error; expected a number between 0 and 1, such as 0.05")
    return delta


def upper_tail(k: int, n: int, p: float) -> float:
    """P(Bin(n, p) >= k), summed term by term for 0 < p < 1: no quantile and no beta function is trusted."""
    odds = p / (1 - p)
    term = math.exp(math.log(math.comb(n, k)) + k * math.log(p) + (n - k) * math.log1p(-p))
    terms = [term]
    for hits in range(k, n):
        term *= odds * (n - hits) / (hits + 1)
        terms.append(term)
    return math.fsum(terms)
