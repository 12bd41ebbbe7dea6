r"""Whether P(Bin(N, eps) <= k) <= delta: decided, not estimated. No beta function is trusted, and no rounding.

With q = 1 - eps the tail is its last term times a sum that falls fast where k is below the mean (where it is not, the
tail is one less the other tail, which is that of Bin(N, q)):

    C(N, k) eps^k q^(N - k) (1 + r_k + r_k r_(k-1) + ...),   r_i = i q / ((N - i + 1) eps).

The logarithm of the term is that of three factorials, by Stirling's series, whose error is below its first term left
out. All in 64 decimal digits: what was left out and rounded is far below `SLACK`. A float is a fraction, so a tail
within `SLACK` of delta is compared in integers where these are short; where they are long, the answer is no, which
costs a sample at most.
"""

from __future__ import annotations

import functools
import math
from decimal import Context, Decimal, localcontext
from fractions import Fraction

CONTEXT = Context(prec=64)
SLACK = Decimal("1e-30")
"""Relative; logarithms are below 1e15 for numbers of samples up to 1e12, and known to some 1e-47."""
REST = Decimal("1e-34")
"""Relative: what may be left out of the sum."""
SHORT = 2**13
"""Bits of the integers that decide a tie: the quotient of longer ones hardly ever has the 53 bits of a float."""
SMALL = 256
"""Factorials up to here are multiplied out; above, Stirling's series is exact to 1e-60."""
HALF_LOG_TAU = Decimal("0.918938533204672741780329736405617639861397473637783412817151540482765695927")
BERNOULLI = (
    (1, 6), (-1, 30), (1, 42), (-1, 30), (5, 66), (-691, 2730), (7, 6), (-3617, 510), (43867, 798), (-174611, 330),
    (854513, 138), (-236364091, 2730), (8553103, 6),
)  # fmt: skip
"""B_2, B_4, ..., B_26."""


def holds(k: int, samples: int, epsilon: float, delta: float) -> bool:
    """Whether P(Bin(N, eps) <= k) <= delta for 0 <= k < N and 0 < eps <= 1; no where 1e-30 of delta are in doubt."""
    epsilon, delta = float(epsilon), float(delta)  # of NumPy's numbers, which decimals refuse
    if epsilon == 1.0:
        return True
    low, up = enclosed(int(k), int(samples), epsilon)
    target = Decimal(delta)
    if low <= target < up:
        return _equal_or_less(k, samples, epsilon, delta)
    return up <= target


@functools.lru_cache(maxsize=4096)
def enclosed(k: int, samples: int, epsilon: float) -> tuple[Decimal, Decimal]:
    """Two numbers with P(Bin(N, eps) <= k) between them, within 3 `SLACK` of each other."""
    with localcontext(CONTEXT):
        chance, other = Decimal(epsilon), 1 - Decimal(epsilon)
        if k <= samples * chance:
            tail = _tail(k, samples, chance, other)
        else:
            tail = 1 - _tail(samples - k - 1, samples, other, chance)  # at least 1/2: nothing is cancelled
        return tail * (1 - SLACK), tail * (1 + SLACK)


def _tail(k: int, samples: int, chance: Decimal, other: Decimal) -> Decimal:
    """P(Bin(N, chance) <= k), other = 1 - chance, for k up to the mean."""
    term = _log_factorial(samples) - _log_factorial(k) - _log_factorial(samples - k)
    term += k * chance.ln() + (samples - k) * other.ln()
    ratio, total, part = other / chance, Decimal(1), Decimal(1)
    for i in range(k, 0, -1):
        step = ratio * i / (samples - i + 1)
        part *= step
        total += part
        if step < 1 and part * step <= REST * total * (1 - step):  # ratios fall: the rest is below a geometric series
            break
    return term.exp() * total


@functools.lru_cache(maxsize=4096)
def _log_factorial(n: int) -> Decimal:
    if n <= SMALL:
        return Decimal(math.factorial(n)).ln()
    x = Decimal(n)
    series = sum(
        Decimal(top) / bottom / (2 * j * (2 * j - 1) * x ** (2 * j - 1))
        for j, (top, bottom) in enumerate(BERNOULLI, start=1)
    )
    return (x + Decimal("0.5")) * x.ln() - x + HALF_LOG_TAU + series


def _equal_or_less(k: int, samples: int, epsilon: float, delta: float) -> bool:
    """The same question in integers, or no where they are long."""
    if epsilon == delta == 0.5 and samples == 2 * k + 1:  # by symmetry, and the one tie of long integers
        return True
    top, bottom = epsilon.as_integer_ratio()
    if samples * bottom.bit_length() > SHORT:
        return False
    tail = sum(math.comb(samples, i) * top**i * (bottom - top) ** (samples - i) for i in range(k + 1))
    return Fraction(tail, bottom**samples) <= Fraction(delta)
