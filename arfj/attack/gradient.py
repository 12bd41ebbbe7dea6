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
from dataclasses import dataclass

import numpy as np

from arfj.network import Floats, Network
from arfj.question import Question, class_rows

LEAK = 0.1
SAMPLES, STEPS = 48, 400
POWERS: Sequence[Callable[[Floats], Floats]] = (np.ones_like, np.sqrt, np.positive, np.square)
"""|g|^p for p = 0, 1/2, 1 and 2; the samples take turns. `numpy.power` would take longer than the rest of a step."""


@dataclass(frozen=True, eq=False)
class _Scenario:
    """One network with its class conditions C h >= d, ready for batches."""

    network: Network
    rows: Floats
    least: Floats

    def slack_and_gradient(self, first: Floats, room: float) -> tuple[Floats, Floats]:
        """Least slack (batch,), and d max(0, room - slack) / d first-layer pre-activations (batch, n_1)."""
        before = [first]
        hidden = self.network.layers[:-1]
        value = np.maximum(first, 0.0) if hidden else first
        for layer in hidden[1:]:
            before.append(value @ layer.weight + layer.bias)
            value = np.maximum(before[-1], 0.0)
        slacks = value @ self.rows.T - self.least
        worst = slacks.argmin(axis=1)
        slack = slacks[np.arange(len(slacks)), worst]
        gradient = -self.rows[worst] * (slack < room)[:, None]
        for k in range(len(hidden) - 1, -1, -1):
            gradient = gradient * np.where(before[k] > 0, 1.0, LEAK)
            if k:
                gradient = gradient @ hidden[k].weight.T
        return slack, gradient


class Batch:
    """All scenarios behind one matrix product: their first layers stand side by side."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.scenarios = []
        for network in question.ensemble:
            rows, least = class_rows(network, question.target, question.gamma)
            if len(network.layers) == 1:
                # Without hidden layers the conditions act on the outputs themselves.
                rows, least = _output_rows(question, network.classes)
            self.scenarios.append(_Scenario(network, rows, least))
        self.weight = np.hstack([network.layers[0].weight for network in question.ensemble])
        self.bias = np.concatenate([network.layers[0].bias for network in question.ensemble])
        self.cuts = np.cumsum([network.layers[0].outputs for network in question.ensemble])[:-1]

    def slack(self, x: Floats, room: float = 0.0) -> tuple[Floats, Floats]:
        """The slack of the demand (batch,), by default the least one of all scenarios, and the gradient (batch, n)."""
        parts = np.split(x @ self.weight + self.bias, self.cuts, axis=1)
        if self.question.soft and self.question.demand.cvar is not None:
            room = np.inf
        slacks, gradients = zip(
            *(one.slack_and_gradient(part, room) for one, part in zip(self.scenarios, parts, strict=True)), strict=True
        )
        if self.question.soft:
            ranks = np.argsort(np.argsort(slacks, axis=0), axis=0)
            weights = self.question.demand.weights(len(slacks))[ranks]
            gradients = tuple(weight[:, None] * one for weight, one in zip(weights, gradients, strict=True))
        return self.question.demand.of(slacks), np.hstack(gradients) @ self.weight.T


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
    x = _starts(centre, rng, samples)
    room = 10.0 ** rng.uniform(-3, 0, samples)
    best = np.full(samples, np.inf)
    answers = np.tile(centre, (samples, 1))
    size = 0.5 * np.sqrt(len(centre) / 784)
    for step in range(steps):
        slack, gradient = batch.slack(x, float(room.max()))
        distance = np.abs(x - centre).sum(axis=1)
        fooled = slack > 1e-6
        better = fooled & (distance < best)
        best[better], answers[better] = distance[better], x[better]
        if time.perf_counter() > deadline:
            break
        pace = size * (0.02 + 0.98 * (1 + np.cos(np.pi * step / steps)) / 2)
        direction = _powered(gradient)
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        moved = x - pace * direction / np.maximum(length, 1e-12)
        x = np.clip(np.where(fooled[:, None], _shrunk(x, centre, pace), moved), 0.0, 1.0)
    order = np.argsort(best)
    return [answers[i] for i in order if np.isfinite(best[i])]


def _powered(gradient: Floats) -> Floats:
    """g |g|^p, row by row."""
    factor = np.abs(gradient)
    for turn, power in enumerate(POWERS):
        factor[turn :: len(POWERS)] = power(factor[turn :: len(POWERS)])
    return np.asarray(gradient * factor)


def _starts(centre: Floats, rng: np.random.Generator, samples: int) -> Floats:
    """The nominal image, and blends of it with uniform noise of growing strength (up to noise alone)."""
    strength = np.linspace(0.0, 1.0, samples)[:, None] ** 2
    sparse = rng.random((samples, len(centre))) < rng.random((samples, 1))
    return np.asarray(centre + strength * sparse * (rng.random((samples, len(centre))) - centre))


def _shrunk(x: Floats, centre: Floats, pace: float) -> Floats:
    """The change soft-thresholded by a share of its mean size, so that small changes vanish first."""
    change = x - centre
    threshold = 0.3 * pace * np.abs(change).mean(axis=1, keepdims=True)
    return np.asarray(centre + np.sign(change) * np.maximum(np.abs(change) * (1 - 0.02 * pace) - threshold, 0.0))
