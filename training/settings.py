"""What a training depends on besides the data and the seed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from arfj.errors import UsageError

SIDE = 28
INPUTS, CLASSES = SIDE * SIDE, 10
Optimiser = Literal["sgd", "adam"]
LATER = ("optimiser", "images", "weights_seed")
"""Fields that came after the first manifests; at their defaults, manifests and digests leave them out."""


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

    SGD or Adam on the cross-entropy of softmax over the ReLU outputs; the learning rate falls linearly over the epochs,
    from `rate` in the first to `rate * last_rate` in the last. Adam's usual rate is 0.001, not the default here.

    Attributes:
        hidden: neurons of the hidden dense layers; inputs 784 and outputs 10 are those of Fashion-MNIST.
        epochs: passes through the training images, reshuffled for each.
        batch: images a step.
        rate, last_rate: the learning rate of the first epoch, and the share of it that is left in the last.
        least, most: the test accuracy of the networks to keep; others are discarded.
        convolution: the layer before the dense ones, if there is one.
        optimiser: "sgd", or "adam" (Kingma & Ba, ICLR 2015: betas 0.9 and 0.999).
        images: the share of the training images that a network sees, a random subset drawn from its seed.
        weights_seed: where the initial weights are drawn from instead of the network's seed; networks of one
            `weights_seed` differ in the order of the images only (and in their subset, if they see a part).

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
    optimiser: Optimiser = "sgd"
    images: float = 1.0
    weights_seed: int | None = None

    def __post_init__(self) -> None:
        if not all(size >= 1 for size in self.hidden):
            raise UsageError(f"hidden layers of {self.hidden} neurons; expected at least 1 in each")
        if min(self.epochs, self.batch) < 1:
            raise UsageError(f"{self.epochs} epochs of batches of {self.batch}; expected at least 1 of both")
        if not (0 < self.rate < float("inf") and 0 < self.last_rate <= 1):
            raise UsageError(f"learning rate {self.rate} falling to {self.last_rate} of it; expected > 0 and in (0, 1]")
        if not 0 <= self.least <= self.most <= 1:
            raise UsageError(f"accuracies from {self.least} to {self.most}; expected 0 <= least <= most <= 1")
        if self.optimiser not in get_args(Optimiser):
            raise UsageError(f"optimiser {self.optimiser!r} is not known; expected {' or '.join(get_args(Optimiser))}")
        if not 0 < self.images <= 1:
            raise UsageError(f"a share {self.images} of the training images; expected a number in (0, 1]")
        if self.weights_seed is not None and self.weights_seed < 0:
            raise UsageError(f"initial weights from seed {self.weights_seed}; expected 0 or more")

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
        """All fields, for a manifest; those of `LATER` only where they are not the default."""
        unsaid = {
            field.name for field in fields(self) if field.name in LATER and getattr(self, field.name) == field.default
        }
        said = {name: value for name, value in asdict(self).items() if name not in unsaid}
        return {**said, "hidden": list(self.hidden)}

    def digest(self) -> str:
        """A short name for these settings, equal for equal ones."""
        return hashlib.sha256(json.dumps(self.as_json(), sort_keys=True).encode()).hexdigest()[:16]
