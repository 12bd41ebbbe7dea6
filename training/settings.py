"""What a training depends on besides the data and the seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

from arfj.errors import UsageError

SIDE = 28
INPUTS, CLASSES = SIDE * SIDE, 10


@dataclass(frozen=True)
class Convolution:
    """A first layer of `filters` windows of `kernel` x `kernel` pixels, `stride` pixels apart, without padding.

    Raises:
        UsageError: a number below 1, or a window larger than an image.
    """

    filters: int
    kernel: int
    stride: int

    def __post_init__(self) -> None:
        if min(self.filters, self.kernel, self.stride) < 1 or self.kernel > SIDE:
            raise UsageError(f"{self}: expected numbers of at least 1, and windows of at most {SIDE} pixels")

    @property
    def outputs(self) -> int:
        """Number of neurons."""
        return self.filters * ((SIDE - self.kernel) // self.stride + 1) ** 2


@dataclass(frozen=True)
class Settings:
    """A method of training; the defaults are those of the bundled networks.

    SGD on the cross-entropy of softmax over the ReLU outputs; the learning rate falls linearly over the epochs,
    from `rate` in the first to `rate * last_rate` in the last.

    Attributes:
        hidden: neurons of the hidden dense layers; inputs 784 and outputs 10 are those of Fashion-MNIST.
        epochs: passes through the training images, reshuffled for each.
        batch: images a step.
        rate, last_rate: the learning rate of the first epoch, and the share of it that is left in the last.
        least, most: the test accuracy of the networks to keep; others are discarded.
        convolution: the layer before the dense ones, if there is one.

    Raises:
        UsageError: a value out of range.
    """

    hidden: tuple[int, ...] = (8, 8, 8)
    epochs: int = 50
    batch: int = 32
    rate: float = 0.1
    last_rate: float = 0.01
    least: float = 0.83
    most: float = 0.86
    convolution: Convolution | None = None

    def __post_init__(self) -> None:
        if not all(size >= 1 for size in self.hidden):
            raise UsageError(f"hidden layers of {self.hidden} neurons; expected at least 1 in each")
        if min(self.epochs, self.batch) < 1:
            raise UsageError(f"{self.epochs} epochs of batches of {self.batch}; expected at least 1 of both")
        if not (0 < self.rate < float("inf") and 0 < self.last_rate <= 1):
            raise UsageError(f"learning rate {self.rate} falling to {self.last_rate} of it; expected > 0 and in (0, 1]")
        if not 0 <= self.least <= self.most <= 1:
            raise UsageError(f"accuracies from {self.least} to {self.most}; expected 0 <= least <= most <= 1")

    @property
    def sizes(self) -> tuple[int, ...]:
        """n_0..n_K, inputs and outputs included."""
        first = () if self.convolution is None else (self.convolution.outputs,)
        return (INPUTS, *first, *self.hidden, CLASSES)

    @property
    def relus(self) -> int:
        """ReLUs of a network, those of its outputs included."""
        return sum(self.sizes[1:])

    def rate_of(self, epoch: int) -> float:
        """The learning rate of an epoch, counted from 0."""
        share = epoch / max(self.epochs - 1, 1)
        return self.rate * (1 + share * (self.last_rate - 1))

    def as_json(self) -> dict[str, Any]:
        """All fields, for a manifest."""
        return {**asdict(self), "hidden": list(self.hidden)}

    def digest(self) -> str:
        """A short name for these settings, equal for equal ones."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:16]
