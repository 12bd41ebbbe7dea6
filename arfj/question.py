"""The question of an attack: which image should become what, for every network of an uncertainty set.

    min ||x - xbar||_1   s.t.  l <= x <= u, and for every scenario xi and every class j != t:
        y_t(xi) >= (1 + gamma) y_j(xi),   y_t(xi) >= 1e-3                                (ARFJ, Rambau & Richter 2025)

At gamma = 0 the first condition asks for 1e-3 more, so that a tie is no answer. Instead of "every scenario" a `Demand`
may ask for a share of them, or for the mean of the worst ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from arfj.ensemble import Ensemble
from arfj.errors import UsageError
from arfj.network import Floats, Network
from arfj.region import Region

MOST_GAMMA = 1e6
"""Beyond it (1 + gamma) times an output is larger than solvers can bear."""
LEAST_OUTPUT = 1e-3
"""The target's output must be at least this, so that an all-zero output is no answer."""


def required_margin(gamma: float) -> float:
    """How far the target must stand above (1 + gamma) times every other output: 1e-3 at gamma = 0, else 0."""
    return LEAST_OUTPUT if gamma == 0 else 0.0


WHOLE = 1e-9
"""Numbers of scenarios are whole up to this, so that 0.8 of five is four."""


@dataclass(frozen=True)
class Demand:
    """What is asked of the scenarios' slacks, which are >= 0 where a scenario is fooled (`condition_slack`).

        share rho:   at least m = ceil(rho |Z| - 1e-9) of the slacks are >= 0; all of them by default
        cvar beta:   max over tau of  tau - 1 / w sum_k max(tau - slack_k, 0)  >= 0,   w = max((1 - beta) |Z|, 1)

    The second is the mean of the worst w slacks (Rockafellar & Uryasev, J. Risk 2, 2000): of all with beta = 0; with
    w = 1 of the worst one alone, so that all are fooled. Its slacks are taken over the pre-activations of the output
    layer, min over r of (C h - d)_r (`class_rows`), which is concave in the last hidden layer h: the demand is linear
    in h and some more columns. Over the outputs it would not be, for max(a_t, 0) is convex.

    Attributes:
        share: rho in (0, 1].
        cvar: beta in [0, 1), or None where a share is asked for.

    Raises:
        UsageError: a number outside of these, or both.
    """

    share: float = 1.0
    cvar: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise UsageError(f"--share is {self.share:g}; expected a share of the networks, more than 0 and at most 1")
        if self.cvar is not None and not 0 <= self.cvar < 1:
            raise UsageError(f"--cvar is {self.cvar:g}; expected a number from 0 (the mean) to below 1")
        if self.cvar is not None and self.share != 1:
            raise UsageError("--share and --cvar exclude each other; give one of them")

    def fooled(self, count: int) -> int:
        """m: how many of `count` scenarios have to be fooled."""
        return max(1, math.ceil(self.share * count - WHOLE)) if self.cvar is None else count

    def worst(self, count: int) -> float:
        """w: how many of `count` scenarios the mean is taken over; 1 without one."""
        return 1.0 if self.cvar is None else max((1.0 - self.cvar) * count, 1.0)

    def soft(self, count: int) -> bool:
        """Whether it asks for less than to fool all of `count` scenarios."""
        return self.fooled(count) < count or self.worst(count) > 1 + WHOLE

    def of(self, slacks: ArrayLike) -> Floats:
        """The slack of the demand: the m-th largest of the slacks, or the mean of the worst w; (|Z|, ...) -> (...)."""
        given = np.asarray(slacks, dtype=np.float64)
        count = len(given)
        if not self.soft(count):
            return np.asarray(given.min(axis=0))
        ranked = np.sort(given, axis=0)
        if self.cvar is None:
            return np.asarray(ranked[count - self.fooled(count)])
        return np.asarray(np.tensordot(self.weights(count), ranked, 1))

    def weights(self, count: int) -> Floats:
        """How much the slacks weigh in ascending order: the worst w of a mean by 1 / w, the best m of a share by 1."""
        if self.cvar is None:
            return np.asarray(np.arange(count) >= count - self.fooled(count), dtype=np.float64)
        worst = self.worst(count)
        return np.asarray(np.clip(worst - np.arange(count), 0.0, 1.0) / worst)

    def as_json(self) -> dict[str, float]:
        """The keys of rows and files: `share` or `cvar`, none where all scenarios are asked for."""
        if self.cvar is not None:
            return {"cvar": self.cvar}
        return {} if self.share == 1 else {"share": self.share}


EVERY = Demand()
"""All scenarios are fooled."""


@dataclass(frozen=True, eq=False)
class Question:
    """One image, its class, the target, the scenarios, and what is asked of them.

    Attributes:
        nominal: xbar in the networks' input shape or flat, in [0, 1]; kept in the given shape.
        true, target: classes, 0-based and different.
        ensemble: the scenarios Z.
        gamma: relative margin >= 0.
        demand: how many scenarios have to be fooled, all by default.

    Raises:
        UsageError: anything that does not fit, in one line.
    """

    nominal: Floats
    true: int
    target: int
    ensemble: Ensemble
    gamma: float = 0.2
    demand: Demand = EVERY

    def __post_init__(self) -> None:
        image = np.array(self.nominal, dtype=np.float64)
        image.setflags(write=False)
        object.__setattr__(self, "nominal", image)
        first = self.ensemble.networks[0]
        if image.size != first.inputs:
            raise UsageError(f"the image has shape {image.shape}; the networks take {first.inputs} values")
        if not np.isfinite(image).all():
            raise UsageError("the image holds NaN or infinity; expected pixels in [0, 1]")
        if image.min() < 0 or image.max() > 1:
            raise UsageError(
                f"pixels range from {image.min():.16g} to {image.max():.16g}; expected [0, 1] (divide by 255?)"
            )
        if not 0 <= self.gamma <= MOST_GAMMA:
            raise UsageError(f"gamma is {self.gamma}; expected a number >= 0, {MOST_GAMMA:g} at most")
        if first.classes < 2:
            raise UsageError("the networks have one output, so no other class to be fooled into; expected two or more")
        for name in ("true", "target"):
            number = getattr(self, name)
            if not isinstance(number, int | np.integer):
                raise UsageError(f"--{name} is {number!r}; expected the number of a class, 0 to {first.classes - 1}")
            if not 0 <= number < first.classes:
                raise UsageError(
                    f"--{name} {number} is out of range; the networks give classes 0 to {first.classes - 1}"
                )
        if self.true == self.target:
            raise UsageError(f"true and target are both {self.true}; give another --target")

    @property
    def flat(self) -> Floats:
        """xbar as a vector of shape (n,)."""
        return self.nominal.ravel()

    @property
    def rivals(self) -> list[int]:
        """Every class but the target."""
        return [j for j in range(self.ensemble.networks[0].classes) if j != self.target]

    def region(self, radius: float = np.inf) -> Region:
        """{x in [0, 1]^n : ||x - xbar||_1 <= radius}."""
        return Region.around(self.flat, radius)

    def distance(self, x: Floats) -> float:
        """||x - xbar||_1 of a flat or shaped image."""
        return float(np.abs(x.ravel() - self.flat).sum())

    @property
    def soft(self) -> bool:
        """Whether less is asked than to fool all scenarios."""
        return self.demand.soft(len(self.ensemble))

    def slacks(self, x: Floats) -> Floats:
        """The least slack of every scenario's conditions at x, over the outputs (pre-activations for a mean)."""
        before = self.demand.cvar is not None
        rows = [
            network.preactivations(x.reshape(1, -1))[-1] if before else network(x.reshape(1, -1))
            for network in self.ensemble
        ]
        return np.array([condition_slack(row, self.target, self.gamma)[0] for row in rows])

    def slack(self, x: Floats) -> float:
        """The slack of the demand at x, the least one of all scenarios by default; an answer has slack >= 0."""
        return float(self.demand.of(self.slacks(x)))

    def counted(self, x: Floats) -> tuple[int, ...]:
        """The scenarios that the demand has to be met with at x: of a share the m that x fools best, else all."""
        count = len(self.ensemble)
        if self.demand.cvar is not None or not self.soft:
            return tuple(range(count))
        order = np.argsort(-self.slacks(x), kind="stable")[: self.demand.fooled(count)]
        return tuple(sorted(order.tolist()))

    def fooling(self, indices: Sequence[int]) -> Question:
        """The question that asks for all of these scenarios and for no other, whatever the demand is."""
        return Question(self.nominal, self.true, self.target, self.ensemble.subset(indices), self.gamma)

    def restricted(self, indices: Sequence[int]) -> Question:
        """The same question to some scenarios only: a relaxation.

        Raises:
            ValueError: under a soft demand, some scenarios without the others are none.
        """
        if not self.soft:
            return self.fooling(indices)
        if list(indices) != list(range(len(self.ensemble))):
            raise ValueError("a soft demand is made of all scenarios together; no part of it is a relaxation")
        return self


def condition_slack(outputs: Floats, target: int, gamma: float) -> Floats:
    """min(y_t - (1 + gamma) max_j y_j - margin, y_t - 1e-3) per row of outputs (batch, classes)."""
    reached = outputs[:, target]
    best = np.delete(outputs, target, axis=1).max(axis=1)
    return np.asarray(np.minimum(reached - (1.0 + gamma) * best - required_margin(gamma), reached - LEAST_OUTPUT))


def class_rows(network: Network, target: int, gamma: float) -> tuple[Floats, Floats]:
    """The class conditions as rows over the last hidden layer: C h >= d, C (classes, n_{K-1}), d (classes,).

    Given y_t >= 1e-3 > 0, y_t >= (1 + gamma) max(a_j, 0) + margin needs only the pre-activations:
    a_t - (1 + gamma) a_j >= margin for every j != t, and a_t >= 1e-3 (the last row).
    """
    last = network.layers[-1]
    rivals = [j for j in range(network.classes) if j != target]
    weights = np.vstack([last.weight[:, target] - (1.0 + gamma) * last.weight[:, rivals].T, last.weight[:, [target]].T])
    offsets = np.append(last.bias[target] - (1.0 + gamma) * last.bias[rivals], last.bias[target])
    least = np.append(np.full(len(rivals), required_margin(gamma)), LEAST_OUTPUT)
    return weights, least - offsets
