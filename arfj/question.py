"""The question of an attack: which image should become what, for every network of an uncertainty set.

    min ||x - xbar||_1   s.t.  l <= x <= u, and for every scenario xi and every class j != t:
        y_t(xi) >= (1 + gamma) y_j(xi),   y_t(xi) >= 1e-3                                (ARFJ, Rambau & Richter 2025)

At gamma = 0 the first condition asks for 1e-3 more, so that a tie is no answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arfj.ensemble import Ensemble
from arfj.errors import UsageError
from arfj.network import Floats, Network
from arfj.region import Region

LEAST_OUTPUT = 1e-3
"""The target's output must be at least this, so that an all-zero output is no answer."""


def required_margin(gamma: float) -> float:
    """How far the target must stand above (1 + gamma) times every other output: 1e-3 at gamma = 0, else 0."""
    return LEAST_OUTPUT if gamma == 0 else 0.0


@dataclass(frozen=True, eq=False)
class Question:
    """One image, its class, the target, and the scenarios.

    Attributes:
        nominal: xbar in the networks' input shape or flat, in [0, 1]; kept in the given shape.
        true, target: classes, 0-based and different.
        ensemble: the scenarios Z.
        gamma: relative margin >= 0.

    Raises:
        UsageError: anything that does not fit, in one line.
    """

    nominal: Floats
    true: int
    target: int
    ensemble: Ensemble
    gamma: float = 0.2

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
            raise UsageError(f"pixels range from {image.min():g} to {image.max():g}; expected [0, 1] (divide by 255?)")
        if not (self.gamma >= 0 and np.isfinite(self.gamma)):
            raise UsageError(f"gamma is {self.gamma}; expected a number >= 0")
        for name in ("true", "target"):
            number = getattr(self, name)
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

    def slack(self, x: Floats) -> float:
        """The least slack of all conditions at x over all scenarios; an answer has slack >= 0."""
        return min(
            float(condition_slack(network(x.reshape(1, -1)), self.target, self.gamma)[0]) for network in self.ensemble
        )

    def restricted(self, indices: list[int]) -> Question:
        """The same question to some scenarios only: a relaxation."""
        return Question(self.nominal, self.true, self.target, self.ensemble.subset(indices), self.gamma)


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
