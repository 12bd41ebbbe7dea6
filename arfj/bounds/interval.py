"""Interval bounds: exact in the first layer (support function of the region), interval arithmetic behind it."""

from __future__ import annotations

import numpy as np

from arfj.bounds.records import Bounds, outward
from arfj.network import Dense, Floats, Network
from arfj.region import Region


def first_layer(layer: Dense, region: Region) -> tuple[Floats, Floats]:
    """min and max of W' x + b over the region: closed form."""
    columns = layer.weight.T
    magnitude = region.magnitude(columns) + np.abs(layer.bias)
    lower = layer.bias - region.support(-columns)
    upper = layer.bias + region.support(columns)
    return outward(lower, upper, magnitude)


def propagate(layer: Dense, lower: Floats, upper: Floats) -> tuple[Floats, Floats]:
    """Interval arithmetic through ReLU and the next layer: bounds of W' max(a, 0) + b for l <= a <= u."""
    low, up = np.maximum(lower, 0.0), np.maximum(upper, 0.0)
    positive, negative = np.maximum(layer.weight, 0.0), np.minimum(layer.weight, 0.0)
    magnitude = up @ np.abs(layer.weight) + np.abs(layer.bias)
    return outward(low @ positive + up @ negative + layer.bias, up @ positive + low @ negative + layer.bias, magnitude)


def interval_bounds(network: Network, region: Region) -> Bounds:
    """Bounds of every pre-activation over the region."""
    low, up = first_layer(network.layers[0], region)
    lows, ups = [low], [up]
    for layer in network.layers[1:]:
        low, up = propagate(layer, low, up)
        lows.append(low)
        ups.append(up)
    return Bounds(tuple(lows), tuple(ups))
