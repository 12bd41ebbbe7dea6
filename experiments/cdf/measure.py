"""What is measured: one row a call."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from arfj.certify.cdf import answers
from arfj.certify.cdf.activations import Layer, Pointwise, bounding_network, evaluate
from arfj.certify.cdf.densities import Axes, beta_axis
from arfj.certify.cdf.gaussians import Mixture
from arfj.certify.cdf.plot import dkw
from arfj.certify.cdf.question import Question, question
from arfj.certify.cdf.regions import Budget
from arfj.graph import Affine
from arfj.network import Floats, Network
from experiments.cdf.networks import diabetes, instance, iris_weights

POINTS, SIDE = 60, 20
"""Points of a curve, and of each side of the grid of joint distribution functions."""
TOLERANCE = 1e-3
"""U - L that instances with three free inputs are refined to, mass outside the box aside."""
BETAS = ((2.0, 2.0), (3.0, 2.0))
NOISE, FEATURE = 0.5, 2


def curve(asked: Question, output: int, samples: int) -> dict[str, Any]:
    """Bounds at evenly spread points beside Monte Carlo."""
    began = time.perf_counter()
    pieces = asked.pieces()
    cut = time.perf_counter() - began
    low, high = answers.output_range(pieces, output)
    y = np.linspace(float(low), float(high), POINTS)
    began = time.perf_counter()
    found = answers.one_output(pieces, asked, output, y, Budget(), 1e-9)
    seconds = time.perf_counter() - began
    values = np.sort(asked.sampled(samples, 1)[1][:, output])
    share = np.searchsorted(values, y, side="right") / samples
    lower, upper = found.bounds.lower, found.bounds.upper
    away = np.maximum(lower - share, share - upper).max(initial=0.0)
    return {
        "y": y.tolist(), "lower": lower.tolist(), "upper": upper.tolist(), "share": share.tolist(),
        "regions": pieces.regions, "enumerated": round(cut, 4), "seconds": round(seconds, 4), "samples": samples,
        "away": float(away), "band": dkw(samples), "apart": float((upper - lower).max()),
        "outside": 1 - float(found.cells.inside[0]),
    }  # fmt: skip


def iris(output: int, samples: int) -> dict[str, Any]:
    """The exact distribution function of one logit under beta densities."""
    weights, biases = iris_weights("relu")
    density = Axes(tuple(beta_axis(a, b, 0.0, 1.0) for a, b in BETAS))
    network = Network.from_arrays(weights, biases, "linear")
    return curve(question(network, np.zeros(2), (0, 1), density, np.zeros(2), np.ones(2)), output, samples)


def noise(samples: int) -> dict[str, Any]:
    """The distribution of the regression network under Gaussian noise on one feature of the first patient."""
    network, x = diabetes()
    value = float(x[0, FEATURE])
    density = Mixture(np.ones(1), np.array([[value]]), np.full((1, 1, 1), NOISE**2))
    reach = 6 * NOISE
    asked = question(network, x[0], (FEATURE,), density, np.array([value - reach]), np.array([value + reach]))
    return curve(asked, 0, samples)


def tanh_layers() -> list[Layer]:
    """The tanh network on the sepal features."""
    weights, biases = iris_weights("tanh")
    layers: list[Layer] = []
    for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        layers.append(Affine((len(layers),), (weight,), bias))
        if k < len(weights) - 1:
            layers.append(Pointwise(len(layers), "tanh"))
    return layers


def segments(count: int, samples: int) -> dict[str, Any]:
    """How far upper and lower network of so many segments are apart, whether they hold, whether they are nested."""
    layers = tanh_layers()
    x = np.random.default_rng(0).random((samples, 2))
    true = evaluate(layers, x)[-1]
    low, high = _both(layers, count, x)
    finer_low, finer_high = _both(layers, 2 * count, x)
    t = np.linspace(0, 1, 200)
    line = np.stack([t, 1 - t], axis=1)
    shown = _both(layers, count, line)
    return {
        "segments": count, "samples": samples, "gap": float((high - low).mean()), "worst": float((high - low).max()),
        "broken": int(((low > true) | (true > high)).sum()),
        "unnested": int(((finer_low < low - 1e-7) | (finer_high > high + 1e-7)).sum()),
        "t": t.tolist(), "low": shown[0][:, 0].tolist(), "high": shown[1][:, 0].tolist(),
        "true": evaluate(layers, line)[-1][:, 0].tolist(),
    }  # fmt: skip


def _both(layers: list[Layer], count: int, x: Floats) -> tuple[Floats, Floats]:
    found = np.concatenate(
        [bounding_network(layers, np.zeros(2), np.ones(2), count)(part) for part in np.array_split(x, 50)]
    )
    size = found.shape[1] // 2
    return found[:, :size], found[:, size:]


def missing(percent: int, place: int, samples: int, seconds: float) -> dict[str, Any]:
    """The joint distribution of the logits of an instance with missing features, on a grid over the range of each."""
    asked = instance(percent, place)
    began = time.perf_counter()
    budget = Budget(seconds=seconds)
    pieces = asked.pieces(budget)
    ranges = [answers.output_range(pieces, column) for column in range(3)]
    levels = [np.linspace(float(low), float(high), SIDE) for low, high in ranges]
    found = answers.grid(pieces, asked, levels, budget, TOLERANCE if len(asked.free) > 2 else 1e-7)
    took = time.perf_counter() - began
    lower, upper = found.bounds.lower, found.bounds.upper
    most = float(found.cells.inside[1])
    share = sampled_grid(asked, levels, samples)
    apart = upper - lower
    outside = 1 - float(found.cells.inside[0])
    return {
        "percent": percent, "place": place, "free": len(asked.free), "regions": pieces.regions,
        "cells": len(found.cells.least), "mean": float(apart.mean()), "worst": float(apart.max()),
        "outside": outside, "unsure": max(0.0, most - float(found.cells.inside[0])), "measured": round(took, 3),
        "samples": samples, "missed": float(((share < lower) | (share > upper)).mean()),
        "away": float(np.maximum(lower - share, share - upper).max(initial=0.0)), "band": dkw_joint(samples),
    }  # fmt: skip


def dkw_joint(count: int) -> float:
    """How far off shares of `count` samples may be anywhere on the grid, but for a probability of 1e-6 (Hoeffding)."""
    return float(np.sqrt(np.log(2 * SIDE**3 / 1e-6) / (2 * count)))


def sampled_grid(asked: Question, levels: list[Floats], samples: int) -> Floats:
    """Shares of samples below every point of a grid."""
    shape = tuple(len(level) + 1 for level in levels)
    counts = np.zeros(shape)
    step = 1_000_000
    for seed, at in enumerate(range(0, samples, step)):
        _, values = asked.sampled(min(step, samples - at), seed)
        places = [np.searchsorted(level, column) for level, column in zip(levels, values.T, strict=True)]
        counts += np.bincount(np.ravel_multi_index(places, shape), minlength=counts.size).reshape(shape)
    for axis in range(len(shape)):
        counts = counts.cumsum(axis=axis)
    return np.asarray(counts[tuple(slice(0, -1) for _ in shape)] / samples)
