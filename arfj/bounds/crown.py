r"""Backward linear bounds (CROWN, Zhang et al. 2018), and the same with optimised slopes (alpha-CROWN, Xu et al. 2021).

A lower bound of c' a^k, a^k the pre-activations of layer k, is carried backwards through the layers. With L the
coefficients on the post-activations y^j of a layer with bounds l < 0 < u,

    y >= alpha a        (any alpha in [0, 1]; used where L >= 0)
    y <= u / (u - l) (a - l)                     (used where L < 0)

turn it into a linear function A x + const of the input, whose minimum over the region is const - support(-A).
For every alpha this is sound. Its supergradient in alpha follows from a forward pass of the relaxed network at
the minimising x, so that slopes are optimised in NumPy with one backward and one forward sweep a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from arfj.bounds.interval import first_layer, propagate
from arfj.bounds.records import OUTWARD, Bounds
from arfj.network import Dense, Floats, Network
from arfj.region import Region

STEPS = 30
STEP_SIZE = 0.25


@dataclass(frozen=True, eq=False)
class _Relaxation:
    """Slope and intercept of the chord y <= slope (a - l), per neuron of one hidden layer, and which are unstable."""

    active: Floats
    unstable: Floats
    slope: Floats
    lower: Floats

    @classmethod
    def of(cls, lower: Floats, upper: Floats) -> _Relaxation:
        unstable = (lower < 0) & (upper > 0)
        width = np.where(unstable, upper - lower, 1.0)
        slope = np.where(unstable, upper / width, (lower >= 0).astype(np.float64))
        return cls((lower >= 0).astype(np.float64), unstable.astype(np.float64), slope, np.where(unstable, lower, 0.0))

    def first_slopes(self) -> Floats:
        """alpha = 1 where the neuron is more often on, else 0: the least area."""
        return np.where(self.unstable > 0, (self.slope > 0.5).astype(np.float64), self.active)


def minimise(
    layers: Sequence[Dense],
    lower: Sequence[Floats],
    upper: Sequence[Floats],
    region: Region,
    coefficients: Floats,
    constants: Floats,
    steps: int = 0,
) -> Floats:
    """Lower bounds of C y + d over the region, y the post-activations of the last of `layers`.

    Args:
        layers: the first layers of a network, each followed by ReLU.
        lower: sound lower pre-activation bounds of each of them.
        upper: sound upper ones.
        region: where x lies.
        coefficients: C, shape (rows, n_k).
        constants: d, shape (rows,).
        steps: ascent steps on the slopes; 0 is plain CROWN.

    Returns:
        Sound lower bounds (rows,), rounding covered.
    """
    relaxations = [_Relaxation.of(low, up) for low, up in zip(lower, upper, strict=True)]
    slopes = [np.tile(r.first_slopes(), (len(coefficients), 1)) for r in relaxations]
    best = np.full(len(coefficients), -np.inf)
    momentum = [np.zeros_like(s) for s in slopes]
    scale = [np.zeros_like(s) for s in slopes]
    for step in range(steps + 1):
        value, signs, input_rows = _backward(layers, relaxations, slopes, region, coefficients, constants)
        best = np.maximum(best, value)
        if step == steps:
            break
        gradients = _slope_gradients(layers, relaxations, slopes, region, signs, input_rows)
        for s, g, m, v, r in zip(slopes, gradients, momentum, scale, relaxations, strict=True):
            m[...] += 0.2 * (g - m)
            v[...] += 0.05 * (g * g - v)
            s[...] += STEP_SIZE * 0.94**step * r.unstable * m / (np.sqrt(v) + 1e-12)
            np.clip(s, 0.0, 1.0, out=s)
            s[...] = np.where(r.unstable > 0, s, r.active)
    return best


def _backward(
    layers: Sequence[Dense],
    relaxations: Sequence[_Relaxation],
    slopes: Sequence[Floats],
    region: Region,
    coefficients: Floats,
    constants: Floats,
) -> tuple[Floats, list[Floats], Floats]:
    """One backward pass: the bound, the coefficients met at every layer's outputs, and those on the input."""
    rows, total = coefficients, constants.astype(np.float64)
    magnitude = np.abs(total)
    met: list[Floats] = []
    for layer, relaxation, alpha in zip(reversed(layers), reversed(relaxations), reversed(slopes), strict=True):
        met.append(rows)
        negative = np.minimum(rows, 0.0)
        shift = -negative * (relaxation.slope * relaxation.lower)
        before = np.where(rows >= 0, rows * alpha, rows * relaxation.slope)
        terms = before * layer.bias
        total = total + shift.sum(axis=1) + terms.sum(axis=1)
        magnitude = magnitude + np.abs(shift).sum(axis=1) + np.abs(terms).sum(axis=1)
        # Cancellation inside the products is bounded by the sum of absolute products.
        magnitude = magnitude + np.abs(before) @ _row_sizes(layer)
        rows = before @ layer.weight.T
    value = total - region.support(-rows)
    magnitude = magnitude + region.magnitude(rows)
    return value - OUTWARD * (magnitude + 1.0), met[::-1], rows


def _row_sizes(layer: Dense) -> Floats:
    """sum_i |W_ij| per neuron j: what one unit of coefficient on its pre-activation can amount to."""
    return np.asarray(np.abs(layer.weight).sum(axis=0))


def _slope_gradients(
    layers: Sequence[Dense],
    relaxations: Sequence[_Relaxation],
    slopes: Sequence[Floats],
    region: Region,
    met: Sequence[Floats],
    input_rows: Floats,
) -> list[Floats]:
    """d bound / d alpha of every layer: the relaxed network evaluated at the minimising input of each row."""
    value = region.maximiser(-input_rows)
    gradients: list[Floats] = []
    for layer, relaxation, alpha, rows in zip(layers, relaxations, slopes, met, strict=True):
        before = value @ layer.weight + layer.bias
        gradients.append(np.where(rows >= 0, rows * before, 0.0) * relaxation.unstable)
        value = np.where(rows >= 0, alpha * before, relaxation.slope * (before - relaxation.lower))
    return gradients


def crown_bounds(network: Network, region: Region, steps: int = 0) -> Bounds:
    """CROWN bounds (steps = 0) or alpha-CROWN bounds of every pre-activation, each intersected with intervals'."""
    low, up = first_layer(network.layers[0], region)
    lows, ups = [low], [up]
    for k, layer in enumerate(network.layers[1:], start=1):
        rows = np.vstack([layer.weight.T, -layer.weight.T])
        offsets = np.concatenate([layer.bias, -layer.bias])
        value = minimise(network.layers[:k], lows, ups, region, rows, offsets, steps)
        low, up = propagate(layer, low, up)
        low, up = np.maximum(low, value[: layer.outputs]), np.minimum(up, -value[layer.outputs :])
        lows.append(low)
        ups.append(up)
    return Bounds(tuple(lows), tuple(ups))
