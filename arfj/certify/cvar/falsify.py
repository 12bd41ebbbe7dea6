r"""How much of a certificate is real: distributions of P(mu, Sigma) on which the network's own CVaR is large.

A distribution is a mixture of worst cases, with probability eps and second moment W / eps of [xi; 1], and the others;
every W with 0 <= W <= I and W_ee = eps gives one, and so does every mean of two such W. Tried are the W of the
certificate, which the bound's form attains, the two-radius ones (mean mu in both parts, all of the covariance or a
share of it in the worst cases), and those that shift the mean of the worst cases along a direction. The value found
is a lower bound on sup CVaR of the network itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import ortho_group

from arfj.certify.cvar.moments import Moments, checked_level
from arfj.certify.cvar.recompute import Proof
from arfj.certify.cvar.worst import Discrete, attaining, cvar, worst_of_white
from arfj.network import Floats

TRIES = 60
Loss = Callable[[ArrayLike], Floats]
"""Losses of a batch of inputs: (batch, n) -> (batch,)."""


@dataclass(frozen=True, eq=False)
class Falsifier:
    """A distribution with the given moments.

    Attributes:
        value: CVaR_eps of the network's loss on it.
        distribution: its points and weights.
    """

    value: float
    distribution: Discrete


@np.errstate(over="ignore", invalid="ignore")  # what overflows is no direction
def falsify(
    loss: Loss, moments: Moments, epsilon: float, proof: Proof | None = None, tries: int = TRIES, seed: int = 0
) -> Falsifier:
    """The largest CVaR found among distributions of P(mu, Sigma): sup CVaR is at least this.

    Args:
        loss: of the network itself.
        moments: mu and Sigma.
        epsilon: in (0, 1).
        proof: of a certificate, to start from.
        tries: distributions that are tried beside the first ones; fewer where the rank is above 64.
        seed: of the random ones.
    """
    checked_level(epsilon)
    rng = np.random.default_rng(seed)
    tails = _tails(loss, moments, epsilon, proof, rng)

    def tried(tail: Floats, turn: Floats | None) -> tuple[float, Discrete, Floats]:
        found = attaining(tail, moments, epsilon, turn)
        return cvar(loss(found.points), epsilon, found.weights), found, tail

    best = max((tried(tail, None) for tail in tails), key=lambda one: one[0])
    for _ in range(min(tries, max(4, tries * 64 // moments.rank)) if moments.rank else 0):
        share = rng.uniform(0.0, 1.0) ** 2
        tail = (1.0 - share) * best[2] + share * tails[rng.integers(len(tails))]
        found = tried(tail, _turn(moments.rank, rng))
        best = max(best, found, key=lambda one: one[0])
    return Falsifier(best[0], best[1])


def _turn(rank: int, rng: np.random.Generator) -> Floats | None:
    if rank == 1:
        return None
    return np.asarray(ortho_group.rvs(rank, random_state=rng))


def _tails(loss: Loss, moments: Moments, epsilon: float, proof: Proof | None, rng: np.random.Generator) -> list[Floats]:
    rank = moments.rank
    tails = [] if proof is None else [proof.worst.tail]
    for share in (1.0, 0.5, epsilon):  # epsilon: worst cases that are spread like all others
        tails.append(np.diag(np.append(np.full(rank, share), epsilon)))
    for direction in _directions(loss, moments, rng):
        form = np.zeros((rank + 1, rank + 1))
        form[:-1, -1] = form[-1, :-1] = 0.5 * direction
        tails.append(worst_of_white(form, epsilon).tail)
    return tails


def _directions(loss: Loss, moments: Moments, rng: np.random.Generator) -> list[Floats]:
    """Slopes of the loss in xi by differences, at the mean and about it."""
    rank = moments.rank
    if not rank:
        return []
    starts = np.vstack([np.zeros(rank), rng.standard_normal((4, rank))])
    found = []
    for start in starts:
        steps = np.vstack([start + 0.5 * np.eye(rank), start - 0.5 * np.eye(rank)])
        values = loss(moments.inputs(steps))
        slope = values[:rank] - values[rank:]
        if 0 < (largest := float(np.abs(slope).max())) < np.inf:  # whose square may be infinite
            found.append(slope / largest / np.linalg.norm(slope / largest))
    return found
