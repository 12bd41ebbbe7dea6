r"""A gradient attack on all scenarios at once: answers that fool every network, as starts for the exact search.

Each sample of a batch alternates between two moves. Where some scenario is not fooled, a step down the gradient of

    sum over xi of max(0, kappa - slack(xi, x)),   slack = the least of the scenario's class conditions,

taken along g |g|^p (p = 0 is steepest descent in L2, larger p moves fewer pixels further, as L1 likes it); where all
are fooled, the change is soft-thresholded towards the nominal image. Steps shrink as a cosine. Off neurons pass a
small share of the gradient back, so that a dead target can be revived.

Of a share of the scenarios, the sum is over those that the sample fools best; of the mean of the worst slacks, the
gradient is that of the mean itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from arfj.network import Floats, Network
from arfj.question import Question, class_rows

LEAK = 0.1
SAMPLES, STEPS = 48, 400
POWERS: Sequence[Callable[[Floats], Floats]] = (np.ones_like, np.sqrt, np.positive, np.square)
"""|g|^p for p = 0, 1/2, 1 and 2; the samples take turns. `numpy.power` would take longer than the rest of a step."""


class _Alike:
    """Networks of the same widths with their class conditions C h >= d, ready for batches.

    Args:
        networks: K of them.
        conditions: C and d of each, over the last hidden layer, or over the first one's pre-activations where there is
            no hidden layer.
    """

    def __init__(self, networks: Sequence[Network], conditions: Sequence[tuple[Floats, Floats]]) -> None:
        self.count, self.hidden = len(networks), len(networks[0].layers) - 1
        layers = list(zip(*(network.layers for network in networks), strict=True))
        self.weight = np.hstack([layer.weight for layer in layers[0]])
        self.bias = np.concatenate([layer.bias for layer in layers[0]])
        self.later = [
            (np.stack([layer.weight for layer in mine]), np.stack([layer.bias for layer in mine])[:, None])
            for mine in layers[1:-1]
        ]
        self.rows = np.stack([rows for rows, _ in conditions])
        self.least = np.stack([least for _, least in conditions])[:, None]

    def slack_and_gradient(self, first: Floats, room: float) -> tuple[Floats, Floats]:
        """Least slacks (K, batch), and d max(0, room - slack) / d first-layer pre-activations (K, batch, n_1)."""
        before = [first.reshape(len(first), self.count, -1).transpose(1, 0, 2)]
        value = np.maximum(before[0], 0.0) if self.hidden else before[0]
        for weight, bias in self.later:
            before.append(value @ weight + bias)
            value = np.maximum(before[-1], 0.0)
        slacks = value @ self.rows.transpose(0, 2, 1) - self.least
        worst = slacks.argmin(axis=2)
        slack = np.take_along_axis(slacks, worst[:, :, None], axis=2)
        gradient = np.where(slack < room, -self.rows[np.arange(self.count)[:, None], worst], 0.0)
        for k in range(self.hidden - 1, -1, -1):
            gradient = gradient * np.where(before[k] > 0, 1.0, LEAK)
            if k:
                gradient = gradient @ self.later[k - 1][0].transpose(0, 2, 1)
        return slack[:, :, 0], gradient


class Batch:
    """All scenarios behind one matrix product: their first layers side by side, those of the same widths together.

    Attributes:
        weight, bias: of the first layers, (inputs, columns) and (columns,).
    """

    def __init__(self, question: Question) -> None:
        self.question = question
        alike: dict[tuple[int, ...], list[Network]] = {}
        for network in question.ensemble:
            alike.setdefault(tuple(layer.outputs for layer in network.layers), []).append(network)
        self.groups = [_Alike(networks, [self._conditions(one) for one in networks]) for networks in alike.values()]
        self.weight = np.hstack([group.weight for group in self.groups])
        self.bias = np.concatenate([group.bias for group in self.groups])
        self.cuts = np.cumsum([len(group.bias) for group in self.groups])[:-1]

    def _conditions(self, network: Network) -> tuple[Floats, Floats]:
        """Without hidden layers they act on the outputs themselves."""
        if len(network.layers) == 1:
            return _output_rows(self.question, network.classes)
        return class_rows(network, self.question.target, self.question.gamma)

    def slack(self, x: Floats, room: float = 0.0) -> tuple[Floats, Floats]:
        """The slack of the demand (batch,), by default the least one of all scenarios.

        And its gradient, over the first layers' pre-activations of all scenarios: `weight` takes it to the pixels.
        """
        parts = np.split(x @ self.weight + self.bias, self.cuts, axis=1)
        if self.question.soft and self.question.demand.cvar is not None:
            room = np.inf
        found = [group.slack_and_gradient(part, room) for group, part in zip(self.groups, parts, strict=True)]
        slacks = np.concatenate([slack for slack, _ in found])
        gradients = [gradient for _, gradient in found]
        if self.question.soft:
            weights = self.question.demand.weights(len(slacks))[np.argsort(np.argsort(slacks, axis=0), axis=0)]
            shares = np.split(weights, np.cumsum([group.count for group in self.groups])[:-1])
            gradients = [share[:, :, None] * one for share, one in zip(shares, gradients, strict=True)]
        sides = [one.transpose(1, 0, 2).reshape(len(x), -1) for one in gradients]
        return self.question.demand.of(slacks), np.hstack(sides)


def _output_rows(question: Question, classes: int) -> tuple[Floats, Floats]:
    """The class conditions over the outputs of a network of one layer."""
    identity = Network.from_arrays([np.eye(classes), np.eye(classes)], [np.zeros(classes), np.zeros(classes)])
    return class_rows(identity, question.target, question.gamma)


def gradient_answers(
    question: Question, seed: int, deadline: float, samples: int = SAMPLES, steps: int = STEPS
) -> Sequence[Floats]:
    """Flat images that fool every scenario, nearest first; empty when none was found.

    Args:
        question: image, target, scenarios.
        seed: of the random starts.
        deadline: `time.perf_counter()` value after which the best found so far is returned.
        samples: batch size.
        steps: moves of each sample.
    """
    rng = np.random.default_rng(seed)
    batch = Batch(question)
    centre = question.flat
    turns = np.sort(np.arange(samples) % len(POWERS))  # samples with the same power stand together
    x = _starts(centre, rng, samples)[np.argsort(np.arange(samples) % len(POWERS), kind="stable")]
    room = float((10.0 ** rng.uniform(-3, 0, samples)).max())
    best = np.full(samples, np.inf)
    answers = np.tile(centre, (samples, 1))
    size = 0.5 * np.sqrt(len(centre) / 784)
    for step in range(steps):
        slack, gradient = batch.slack(x, room)
        fooled = slack > 1e-6
        near, far = np.flatnonzero(fooled), np.flatnonzero(~fooled)
        change = x[near] - centre
        distance = np.abs(change).sum(axis=1)
        better = distance < best[near]
        best[near[better]], answers[near[better]] = distance[better], x[near[better]]
        if time.perf_counter() > deadline:
            break
        pace = size * (0.02 + 0.98 * (1 + np.cos(np.pi * step / steps)) / 2)
        x[near] = centre + _shrunk(change, distance, pace)
        x[far] -= pace * _directions(gradient[far] @ batch.weight.T, turns[far])
        np.clip(x, 0.0, 1.0, out=x)
    order = np.argsort(best)
    return [answers[i] for i in order if np.isfinite(best[i])]


def _directions(gradient: Floats, turns: NDArray[np.intp]) -> Floats:
    """g |g|^p, row by row, of length 1 (or 0), in place of g; p is that of the row's turn, and turns do not fall."""
    cuts = np.searchsorted(turns, np.arange(1, len(POWERS)))
    for mine, power in zip(np.split(gradient, cuts), POWERS, strict=True):
        np.multiply(mine, power(np.abs(mine)), out=mine)
    lengths = np.sqrt(np.einsum("ij,ij->i", gradient, gradient))
    gradient /= np.maximum(lengths, 1e-12)[:, None]
    return gradient


def _starts(centre: Floats, rng: np.random.Generator, samples: int) -> Floats:
    """The nominal image, and blends of it with uniform noise of growing strength (up to noise alone)."""
    strength = np.linspace(0.0, 1.0, samples)[:, None] ** 2
    sparse = rng.random((samples, len(centre))) < rng.random((samples, 1))
    return np.asarray(centre + strength * sparse * (rng.random((samples, len(centre))) - centre))


def _shrunk(change: Floats, distance: Floats, pace: float) -> Floats:
    """Changes of these sizes soft-thresholded by a share of their mean, so that small ones vanish first."""
    threshold = 0.3 * pace * (distance / change.shape[1])[:, None]
    left = np.abs(change) * (1 - 0.02 * pace)
    left -= threshold
    return np.copysign(np.maximum(left, 0.0, out=left), change)
