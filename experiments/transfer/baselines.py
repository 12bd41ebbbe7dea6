r"""Attacks to hold beside exact answers, at the same L1 distance R: one that is longer fools more, whatever it is.

- `scaled`: the nominal network's least change, stretched: xbar + s (x - xbar), clipped into the box. Most pixels of a
  least change sit at their bounds and do not stretch, so what is left of R goes into gradient steps from there on the
  nominal network alone.
- `gradient`: projected gradient steps on all networks of the attack.
- `noise`: the same on the nominal network and copies of it whose weights are multiplied by 1 + `NOISE` times a normal.
- `logits`: the same on the networks' averaged outputs.

Half of the starts climb the mean over the networks of log p_target; the others sum_k w_k lead_k, where lead_k is by how
much network k's target output exceeds its others, and w = softmax(-lead / `SOFTNESS`), a smooth least lead. Of all that
steps come across, the image counts that fools most of the networks climbed on, and of those the one with the largest
mean of log p_target: what an attacker can see. Steps go along g |g|^p, as in `arfj.attack.gradient`, and back onto
{x in [0, 1]^n : ||x - xbar||_1 <= R} by the exact Euclidean projection: the change is soft-thresholded and clipped,
with the threshold that spends R (bisection).
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
STEPS, STARTS = 300, 16
SOFTNESS = 0.3
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


def leads(values: Floats, target: int) -> tuple[Floats, Floats]:
    """By how much the target leads (batch,), and the gradient of that with respect to the outputs (batch, classes)."""
    rivals = values.copy()
    rivals[:, target] = -np.inf
    best = rivals.argmax(axis=1)
    gradient = np.zeros_like(values)
    gradient[np.arange(len(values)), best] = -1.0
    gradient[:, target] = 1.0
    return values[:, target] - rivals.max(axis=1), gradient


def ascent(networks: Sequence[Network], x: Floats, target: int, averaged: bool) -> tuple[Floats, Floats, Floats]:
    """The gradients (batch, n) of both objectives of the module's docstring, and how good x is (batch,).

    The latter is the number of networks that are fooled, and a share of one for the mean of log p_target.
    """
    values, backs = zip(*(outputs(network, x) for network in networks), strict=True)
    sources = [np.mean(values, axis=0)] * len(values) if averaged else values
    found = [leads(source, target) for source in sources]
    least = np.array([lead for lead, _ in found])
    weights = np.exp(-(least - least.min(axis=0)) / SOFTNESS)
    weights /= weights.sum(axis=0)
    likelihood, lead, logs = np.zeros_like(x), np.zeros_like(x), np.zeros(len(x))
    for value in values:
        logs += log_softmax(value)[:, target] / len(values)
    for source, back, weight, (_, slope) in zip(sources, backs, weights, found, strict=True):
        pull = -np.exp(log_softmax(source))
        pull[:, target] += 1.0
        likelihood += back(pull / len(networks))
        lead += back(slope * weight[:, None])
    fooled = sum((leads(value, target)[0] > 0).astype(np.float64) for value in values)
    return likelihood, lead, np.asarray(fooled + np.exp(logs) / 2)


def climbed(
    networks: Sequence[Network],
    nominal: Floats,
    target: int,
    radius: float,
    seed: int,
    averaged: bool = False,
    start: Floats | None = None,
) -> Floats:
    """The best image within `radius` that gradient steps come across.

    They begin at blends of `start`, the nominal image if it is None, with noise.
    """
    rng = np.random.default_rng(seed)
    first = nominal if start is None else start
    noise = rng.random((STARTS, len(nominal))) - first
    x = projected(first + np.linspace(0.0, 0.2, STARTS)[:, None] * noise, nominal, radius)
    powers = np.resize(np.repeat(POWERS, 2), STARTS)[:, None]
    by_lead = np.resize([False, True], STARTS)[:, None]
    best, most = first, -np.inf
    for step in range(STEPS + 1):
        likelihood, slope, good = ascent(networks, x, target, averaged)
        place = int(good.argmax())
        if good[place] > most:
            best, most = x[place].copy(), float(good[place])
        gradient = np.where(by_lead, slope, likelihood)
        pace = 0.5 * np.sqrt(len(nominal) / 784) * (0.02 + 0.98 * (1 + np.cos(np.pi * step / STEPS)) / 2)
        direction = gradient * np.abs(gradient) ** powers
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        x = projected(x + pace * direction / np.maximum(length, 1e-12), nominal, radius)
    return best


def stretched(network: Network, nominal: Floats, x: Floats, target: int, radius: float, seed: int) -> Floats:
    """The least change x of a network as long as `radius`: stretched, then climbed on."""
    return climbed([network], nominal, target, radius, seed, start=scaled(nominal, x, radius))


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
        calls["scaled"] = partial(stretched, networks[0], question.flat, least, question.target, radius, seed)
    return calls
