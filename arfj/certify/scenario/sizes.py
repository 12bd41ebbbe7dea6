r"""How many samples a scenario program needs, how many of them may be discarded, and what a number of them certifies.

A convex program with p variables and N i.i.d. constraints has at most p constraints of support; the probability V that
its optimum violates the next constraint then obeys

    P(V > eps) <= P(Bin(N, eps) <= p - 1) = sum_{i < p} C(N, i) eps^i (1 - eps)^(N - i),

and a bound of one variable that is the (k + 1)-th smallest sample obeys P(V > eps) <= P(Bin(N, eps) <= k).

Sources: M. C. Campi and S. Garatti, The exact feasibility of randomized solutions of uncertain convex programs, SIAM J.
Optimization 19, 2008 (equality for fully supported programs: no smaller N will do); the printed size is Anderson and
Sojoudi's, Data-driven certification of neural networks with random input noise, Theorem 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from decimal import ROUND_CEILING, ROUND_FLOOR, Context
from typing import Literal, get_args

import numpy as np
from scipy.special import betaincc, betainccinv

from arfj.certify.scenario.tails import holds
from arfj.errors import UsageError

Sizing = Literal["exact", "paper"]
EPSILON, DELTA = 1e-3, 1e-5
"""Where nothing else is asked for: the probability of an unsafe output, and that of a wrong certificate."""
MOST = 10**12
"""Samples that nobody waits for."""


def checked(epsilon: float, delta: float, p: int = 1) -> None:
    """Refuse what is no question.

    Raises:
        UsageError: epsilon or delta outside (0, 1), or p < 1 or beyond `MOST`.
    """
    if not 0 < epsilon < 1:
        raise UsageError(f"epsilon is {epsilon}; expected a probability between 0 and 1, such as {EPSILON}")
    if not 0 < delta < 1:
        raise UsageError(f"delta is {delta}; expected a probability of error between 0 and 1, such as {DELTA}")
    if not 1 <= p <= MOST:
        raise UsageError(f"p is {p}; expected the number of variables of the program, 1 or more, at most {MOST:.0e}")


def size(epsilon: float, delta: float, p: int = 1, sizing: Sizing = "exact") -> int:
    """N, by the exact tail or by the printed formula.

    Raises:
        UsageError: as `exact_size` and `paper_size`, or another sizing.
    """
    if sizing not in get_args(Sizing):
        raise UsageError(f"there is no sizing {sizing!r}; expected one of {', '.join(get_args(Sizing))}")
    return exact_size(epsilon, delta, p) if sizing == "exact" else paper_size(epsilon, delta, p)


def paper_size(epsilon: float, delta: float, p: int = 1) -> int:
    """The least N >= (2 / eps) (ln(1 / delta) + p).

    Raises:
        UsageError: as `checked`, or the size is beyond `MOST`.
    """
    checked(epsilon, delta, p)
    wanted = (2.0 / float(epsilon)) * (p - math.log(delta))
    if wanted > MOST:
        raise UsageError(f"epsilon {epsilon} and p {p} ask for {wanted:.3g} samples; expected at most {MOST:.0e}")
    return math.ceil(wanted)


def exact_size(epsilon: float, delta: float, p: int = 1) -> int:
    """The least N with P(Bin(N, eps) <= p - 1) <= delta: the printed size brackets it from above.

    Raises:
        UsageError: as `paper_size`.
    """
    few, enough = p - 1, paper_size(epsilon, delta, p)
    guess = _first(lambda samples: tail(p - 1, samples, epsilon) <= delta, few, enough)
    return _edge(lambda samples: holds(p - 1, samples, epsilon, delta), guess, few, enough)


def exact_epsilon(samples: int, delta: float, p: int = 1) -> float:
    """The least eps with P(Bin(N, eps) <= p - 1) <= delta: what N samples certify; 1 where they are too few (N < p).

    Raises:
        UsageError: N < 1 or too large, or as `checked`.
    """
    checked(0.5, delta, p)
    _counted(samples)
    if samples < p:
        return 1.0
    guess = max(1, _rank(float(betainccinv(p, samples - p + 1, delta))))
    return _ranked(_edge(lambda rank: holds(p - 1, samples, _ranked(rank), delta), guess, 0, _rank(1.0)))


def paper_epsilon(samples: int, delta: float, p: int = 1) -> float:
    """(2 / N) (ln(1 / delta) + p), at most 1: what N samples certify by the printed formula.

    Raises:
        UsageError: N < 1, or as `checked`.
    """
    checked(0.5, delta, p)
    _counted(samples)
    return min(1.0, (2.0 / samples) * (p - math.log(delta)))


def discards(samples: int, epsilon: float, delta: float) -> int:
    """The largest k with P(Bin(N, eps) <= k) <= delta: so many of the smallest samples of a half-space may be dropped.

    Raises:
        UsageError: N is too small even for k = 0, or as `checked`.
    """
    enough(samples, epsilon, delta)
    guess = _first(lambda k: tail(k, samples, epsilon) > delta, 0, samples)
    return _edge(lambda k: not holds(k, samples, epsilon, delta), guess, 0, samples) - 1


def enough(samples: int, epsilon: float, delta: float, p: int = 1) -> None:
    """Refuse a number of samples that does not certify epsilon.

    Raises:
        UsageError: P(Bin(N, eps) <= p - 1) > delta, or as `checked`.
    """
    checked(epsilon, delta, p)
    _counted(samples)
    if samples < p or not holds(p - 1, samples, epsilon, delta):
        least = exact_epsilon(samples, delta, p)
        other = f", or an epsilon of {rounded(least, 3, up=True)} or more" if least < 0.999 else ""
        raise UsageError(
            f"{samples} samples are too few for epsilon {epsilon:g}, delta {delta:g} and p {p}; give "
            f"{exact_size(epsilon, delta, p)}{other}"
        )


def rounded(value: float, digits: int = 6, *, up: bool = False) -> str:
    """A bound as text, of so many digits: rounded to the side on which it still holds."""
    context = Context(prec=digits, rounding=ROUND_CEILING if up else ROUND_FLOOR)
    return f"{context.create_decimal(repr(value + 0.0)).normalize(context):g}"  # no -0


def tail(k: int, samples: int, epsilon: float) -> float:
    """P(Bin(N, eps) <= k), for 0 <= k < N; 1 for k >= N, 0 for k < 0: as good as floats have it. `tails` decides."""
    if k < 0:
        return 0.0
    return float(betaincc(k + 1, samples - k, epsilon)) if k < samples else 1.0


def _first(true: Callable[[int], bool], low: int, up: int) -> int:
    """The least whole number that is true, of those above `low`, where larger ones are as well; `up` is not asked."""
    while up - low > 1:
        middle = (low + up) // 2
        low, up = (low, middle) if true(middle) else (middle, up)
    return up


def _edge(true: Callable[[int], bool], guess: int, low: int, up: int) -> int:
    """As `_first`, from a guess that is good: mostly two questions are asked."""
    step = 1
    if guess >= up or true(guess):
        least = min(guess, up)
        while least - step > low and true(least - step):
            least, step = least - step, 2 * step
        return _first(true, max(least - step, low), least)
    while guess + step < up and not true(guess + step):
        guess, step = guess + step, 2 * step
    return _first(true, guess, min(guess + step, up))


def _rank(value: float) -> int:
    """Positive floats in their order, counted."""
    return int(np.float64(value).view(np.int64))


def _ranked(rank: int) -> float:
    return float(np.int64(rank).view(np.float64))


def _counted(samples: int) -> None:
    if not 1 <= samples <= MOST:
        raise UsageError(f"the number of samples is {samples}; expected 1 or more, and at most {MOST:.0e}")
