r"""Attacks to hold beside exact answers, at the same L1 distance R: one that is longer fools more, whatever it is.

- `scaled`: the nominal network's least change, stretched: xbar + s (x - xbar), clipped into the box, s such that its
  distance is R.
- `gradient`: projected gradient steps on the mean over the networks of the attack of log p_target.
- `noise`: the same on the nominal network and copies of it whose weights are multiplied by 1 + `NOISE` times a normal.
- `logits`: the same on log p_target of the networks' averaged outputs.

Steps go along g |g|^p, as in `arfj.attack.gradient`, and back onto {x in [0, 1]^n : ||x - xbar||_1 <= R} by the exact
Euclidean projection: the change is soft-thresholded and clipped, with the threshold that spends R (bisection).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np

from arfj.network import Floats, Network
from arfj.question import Question

POWERS = (0.0, 0.5, 1.0, 2.0)
LEAK = 0.1
"""Share of the gradient that neurons pass which are off."""
STEPS, STARTS = 300, 8
NOISE = 0.1
HALVINGS = 60
METHODS = ("scaled", "gradient", "noise", "logits")


def scaled(nominal: Floats, x: Floats, radius: float) -> Floats:
    """x moved away from (or towards) the nominal image until its distance is `radius`, as far as the box allows."""
    step = x - nominal

    def at(factor: float) -> Floats:
        return np.asarray(np.clip(nominal + factor * step, 0.0, 1.0))

    low, high = 0.0, 1.0
    while np.abs(at(high) - nominal).sum() < radius and high < 1e9:
        high *= 2.0
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if np.abs(at(middle) - nominal).sum() <= radius else (low, middle)
    return at(low)


def projected(x: Floats, nominal: Floats, radius: float) -> Floats:
    """The points of {z in [0, 1]^n : ||z - nominal||_1 <= radius} nearest to the rows of x, shape (batch, n).

    z - nominal = clip(soft(x - nominal, t), -nominal, 1 - nominal) with the least t >= 0 at which the distance is at
    most `radius`.
    """
    step = x - nominal
    size = np.abs(step)

    def at(threshold: Floats) -> Floats:
        shrunk = np.sign(step) * np.maximum(size - threshold[:, None], 0.0)
        return np.asarray(np.clip(shrunk, -nominal, 1.0 - nominal))

    low, high = np.zeros(len(x)), size.max(axis=1)
    inside = np.abs(at(low)).sum(axis=1) <= radius
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fits = np.abs(at(middle)).sum(axis=1) <= radius
        low, high = np.where(fits, low, middle), np.where(fits, middle, high)
    return np.asarray(nominal + at(np.where(inside, 0.0, high)))


def outputs(network: Network, x: Floats) -> tuple[Floats, Callable[[Floats], Floats]]:
    """Outputs (batch, classes), and what turns their gradients into those of x; off neurons pass `LEAK`."""
    before = network.preactivations(x)

    def back(gradient: Floats) -> Floats:
        for layer, value in zip(reversed(network.layers), reversed(before), strict=True):
            if layer.activation == "relu":
                gradient = gradient * np.where(value > 0, 1.0, LEAK)
            gradient = gradient @ layer.weight.T
        return gradient

    last = before[-1]
    return (np.maximum(last, 0.0) if network.layers[-1].activation == "relu" else last), back


def log_softmax(values: Floats) -> Floats:
    """log p of each row."""
    moved = values - values.max(axis=1, keepdims=True)
    return np.asarray(moved - np.log(np.exp(moved).sum(axis=1, keepdims=True)))


def likelihood(networks: Sequence[Network], x: Floats, target: int, averaged: bool) -> tuple[Floats, Floats, Floats]:
    """log p_target (batch,), its gradient (batch, n), and by how much the target leads (batch,) at worst.

    Averaged: of the mean outputs. Otherwise the mean over the networks, and the least lead of all.
    """
    values, backs = zip(*(outputs(network, x) for network in networks), strict=True)
    mean = np.mean(values, axis=0)
    sources = [mean] * len(values) if averaged else values
    total, gradient, leads = np.zeros(len(x)), np.zeros_like(x), []
    for source, back in zip(sources, backs, strict=True):
        logs = log_softmax(source)
        pull = -np.exp(logs)
        pull[:, target] += 1.0
        gradient += back(pull / len(networks))
        total += logs[:, target] / len(networks)
        leads.append(source[:, target] - np.delete(source, target, axis=1).max(axis=1))
    return total, gradient, np.min(leads, axis=0)


def climbed(
    networks: Sequence[Network], nominal: Floats, target: int, radius: float, seed: int, averaged: bool = False
) -> Floats:
    """The image within `radius` at which the target leads most, of those that gradient steps came across."""
    rng = np.random.default_rng(seed)
    noise = rng.random((STARTS, len(nominal))) - nominal
    x = projected(nominal + np.linspace(0.0, 0.2, STARTS)[:, None] * noise, nominal, radius)
    powers = np.resize(POWERS, STARTS)[:, None]
    best, most = nominal, -np.inf
    for step in range(STEPS + 1):
        _, gradient, lead = likelihood(networks, x, target, averaged)
        first = int(lead.argmax())
        if lead[first] > most:
            best, most = x[first].copy(), float(lead[first])
        pace = 0.5 * np.sqrt(len(nominal) / 784) * (0.02 + 0.98 * (1 + np.cos(np.pi * step / STEPS)) / 2)
        direction = gradient * np.abs(gradient) ** powers
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        x = projected(x + pace * direction / np.maximum(length, 1e-12), nominal, radius)
    return best


def noisy(network: Network, count: int, seed: int) -> tuple[Network, ...]:
    """The network, and copies with every weight and bias multiplied by 1 + `NOISE` times a standard normal."""
    rng, centre = np.random.default_rng(seed), network.parameters()
    copies = (network.with_parameters(centre * (1 + NOISE * rng.standard_normal(centre.size))) for _ in range(count))
    return (network, *copies)


def answers(question: Question, least: Floats | None, radius: float, seed: int) -> Mapping[str, Callable[[], Floats]]:
    """Every baseline of a question as a call that gives its image, flat.

    Args:
        question: its ensemble's first network is the nominal one.
        least: the nominal network's least change, or None where it has no answer.
        radius: R.
        seed: of starts and noise.
    """
    networks = question.ensemble.networks
    copies = noisy(networks[0], len(networks) - 1, seed)
    climb = partial(climbed, nominal=question.flat, target=question.target, radius=radius, seed=seed)
    calls: dict[str, Callable[[], Floats]] = {
        "gradient": partial(climb, networks),
        "noise": partial(climb, copies),
        "logits": partial(climb, networks, averaged=True),
    }
    if least is not None:
        calls["scaled"] = partial(scaled, question.flat, least, radius)
    return calls
