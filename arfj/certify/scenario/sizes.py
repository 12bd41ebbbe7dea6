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
from typing import Literal, get_args

import numpy as np
from scipy.special import betaincc, betainccinv

from arfj.errors import ArfjError, UsageError

Sizing = Literal["exact", "paper"]
EPSILON, DELTA = 1e-3, 1e-5
"""Where nothing else is asked for: the probability of an unsafe output, and that of a wrong certificate."""
ROUNDING = 1e-9
"""What rounding may do to a recomputed probability, relative to delta."""
MOST = 10**12
"""Samples that nobody waits for; up to here the incomplete beta function is accurate."""


def checked(epsilon: float, delta: float, p: int = 1) -> None:
    """Refuse what is no question.

    Raises:
        UsageError: epsilon or delta outside (0, 1), or p < 1.
    """
    if not 0 < epsilon < 1:
        raise UsageError(f"epsilon is {epsilon}; expected a probability between 0 and 1, such as {EPSILON}")
    if not 0 < delta < 1:
        raise UsageError(f"delta is {delta}; expected a probability of error between 0 and 1, such as {DELTA}")
    if p < 1:
        raise UsageError(f"p is {p}; expected the number of variables of the program, 1 or more")


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
    wanted = (2.0 / epsilon) * (math.log(1.0 / delta) + p)
    if wanted > MOST:
        raise UsageError(f"epsilon {epsilon} and p {p} ask for {wanted:.3g} samples; expected at most {MOST:.0e}")
    return math.ceil(wanted)


def exact_size(epsilon: float, delta: float, p: int = 1) -> int:
    """The least N with P(Bin(N, eps) <= p - 1) <= delta: the printed size brackets it from above.

    Raises:
        UsageError: as `paper_size`.
        ArfjError: the size did not pass its recomputation.
    """
    few, enough = p - 1, paper_size(epsilon, delta, p)
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (few, middle) if tail(p - 1, middle, epsilon) <= delta else (middle, enough)
    _confirmed(p - 1, enough, epsilon, delta)
    return enough


def exact_epsilon(samples: int, delta: float, p: int = 1) -> float:
    """The least eps with P(Bin(N, eps) <= p - 1) <= delta: what N samples certify; 1 where they are too few (N < p).

    Raises:
        UsageError: N < 1, or as `checked`.
        ArfjError: it did not pass its recomputation.
    """
    checked(0.5, delta, p)
    _counted(samples)
    if samples < p:
        return 1.0
    epsilon = float(betainccinv(p, samples - p + 1, delta))
    while epsilon < 1 and tail(p - 1, samples, epsilon) > delta:
        epsilon = math.nextafter(epsilon, 1.0)
    if epsilon < 1:
        _confirmed(p - 1, samples, epsilon, delta)
    return epsilon


def paper_epsilon(samples: int, delta: float, p: int = 1) -> float:
    """(2 / N) (ln(1 / delta) + p), at most 1: what N samples certify by the printed formula.

    Raises:
        UsageError: N < 1, or as `checked`.
    """
    checked(0.5, delta, p)
    _counted(samples)
    return min(1.0, (2.0 / samples) * (math.log(1.0 / delta) + p))


def discards(samples: int, epsilon: float, delta: float) -> int:
    """The largest k with P(Bin(N, eps) <= k) <= delta: so many of the smallest samples of a half-space may be dropped.

    Raises:
        UsageError: N is too small even for k = 0, or as `checked`.
        ArfjError: k did not pass its recomputation.
    """
    enough(samples, epsilon, delta)
    k, beyond = 0, math.ceil(samples * epsilon) + 1  # half of the mass lies below the mean
    beyond = min(beyond, samples)
    while beyond - k > 1:
        middle = (k + beyond) // 2
        k, beyond = (middle, beyond) if tail(middle, samples, epsilon) <= delta else (k, middle)
    if delta > 0.5:
        while k + 1 < samples and tail(k + 1, samples, epsilon) <= delta:
            k += 1
    _confirmed(k, samples, epsilon, delta)
    return k


def enough(samples: int, epsilon: float, delta: float, p: int = 1) -> None:
    """Refuse a number of samples that does not certify epsilon.

    Raises:
        UsageError: P(Bin(N, eps) <= p - 1) > delta, or as `checked`.
    """
    checked(epsilon, delta, p)
    _counted(samples)
    if samples < p or tail(p - 1, samples, epsilon) > delta:
        raise UsageError(
            f"{samples} samples are too few for epsilon {epsilon:g}, delta {delta:g} and p {p}; give "
            f"{exact_size(epsilon, delta, p)}, or an epsilon of {exact_epsilon(samples, delta, p):.3g} or more"
        )


def tail(k: int, samples: int, epsilon: float) -> float:
    """P(Bin(N, eps) <= k), for 0 <= k < N; 1 for k >= N, 0 for k < 0."""
    if k < 0:
        return 0.0
    return float(betaincc(k + 1, samples - k, epsilon)) if k < samples else 1.0


def summed(k: int, samples: int, epsilon: float) -> float:
    """P(Bin(N, eps) <= k) for k < N, term by term: no beta function is trusted."""
    steps = np.arange(1, k + 1, dtype=np.float64)
    ratios = np.log((samples - steps + 1.0) / steps) + (math.log(epsilon) - math.log1p(-epsilon))
    logs = samples * math.log1p(-epsilon) + np.concatenate([[0.0], np.cumsum(ratios)])
    most = float(logs.max())
    return math.exp(most) * math.fsum(np.exp(logs - most).tolist())


def _confirmed(k: int, samples: int, epsilon: float, delta: float) -> None:
    if k < samples and not summed(k, samples, epsilon) <= delta * (1.0 + ROUNDING):
        raise ArfjError(
            f"P(Bin({samples}, {epsilon}) <= {k}) failed its recomputation; use an epsilon and a delta that are not so "
            "near to 0 or 1"
        )


def _counted(samples: int) -> None:
    if samples < 1:
        raise UsageError(f"the number of samples is {samples}; expected 1 or more")
