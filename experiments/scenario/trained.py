"""Classifiers of chosen layers, trained in NumPy by Adam on the cross-entropy: the same seed, the same bits."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from arfj.graph import Activation, Affine, Graph, Kind, Node
from arfj.network import Floats, Network

RATE, DECAY, BATCH = 1e-3, (0.9, 0.999), 64
Singles = NDArray[np.float32]


@dataclass
class Trainer:
    """Weights and biases in float32, and Adam's moments."""

    parts: list[Singles]
    moments: list[tuple[Singles, Singles]] = field(default_factory=list)
    steps: int = 0

    def step(self, gradients: Sequence[Singles]) -> None:
        """One step of Adam."""
        self.moments = self.moments or [(np.zeros_like(p), np.zeros_like(p)) for p in self.parts]
        self.steps += 1
        one, two = DECAY
        for part, (mean, square), gradient in zip(self.parts, self.moments, gradients, strict=True):
            mean[:] += (1 - one) * (gradient - mean)
            square[:] += (1 - two) * (gradient * gradient - square)
            part[:] -= RATE * (mean / (1 - one**self.steps)) / (np.sqrt(square / (1 - two**self.steps)) + 1e-8)


def trained(
    x: Floats, labels: NDArray[np.int64], hidden: Sequence[int], kind: Kind = "relu", epochs: int = 5, seed: int = 0
) -> Network | Graph:
    """A network of these hidden layers, linear at its end; a `Network` where it has ReLU."""
    rng = np.random.default_rng(seed)
    sizes = (x.shape[1], *hidden, int(labels.max()) + 1)
    parts: list[Singles] = []
    for fan_in, fan_out in itertools.pairwise(sizes):
        limit = np.sqrt(6.0 / (fan_in + fan_out))
        parts += [rng.uniform(-limit, limit, (fan_in, fan_out)).astype(np.float32), np.zeros(fan_out, np.float32)]
    trainer, images = Trainer(parts), x.astype(np.float32)
    for batch in _batches(rng, len(images), epochs):
        trainer.step(_gradients(parts, images[batch], labels[batch], kind))
    weights, biases = [p.astype(np.float64) for p in parts[::2]], [p.astype(np.float64) for p in parts[1::2]]
    if kind == "relu":
        return Network.from_arrays(weights, biases, "linear")
    nodes: list[Node] = []
    for weight, bias in zip(weights, biases, strict=True):
        nodes += [Affine((len(nodes),), (weight,), bias), Activation(len(nodes) + 1, kind)]
    return Graph(sizes[0], tuple(nodes[:-1]))


def _batches(rng: np.random.Generator, count: int, epochs: int) -> Iterator[NDArray[np.intp]]:
    for _ in range(epochs):
        order = rng.permutation(count)
        yield from (order[at : at + BATCH] for at in range(0, count, BATCH))


def _gradients(parts: Sequence[Singles], x: Singles, labels: NDArray[np.int64], kind: Kind) -> list[Singles]:
    """Of the mean cross-entropy."""
    values = [x]
    for at in range(0, len(parts), 2):
        z = values[-1] @ parts[at] + parts[at + 1]
        values.append(z if at + 2 == len(parts) else np.maximum(z, 0) if kind == "relu" else np.tanh(z))
    z = values[-1] - values[-1].max(axis=1, keepdims=True)
    back = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    back[np.arange(len(x)), labels] -= 1.0
    back /= len(x)
    gradients: list[Singles] = []
    for at in range(len(parts) - 2, -1, -2):
        value = values[at // 2]
        gradients = [value.T @ back, back.sum(axis=0), *gradients]
        if at:
            back = back @ parts[at].T * ((value > 0) if kind == "relu" else 1.0 - value * value)
    return gradients
