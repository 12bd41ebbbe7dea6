r"""The smallest of many margins z_j = min_i (a_i' y_j + b_i), exactly as float64 has them, at the price of float32.

A forward pass in float32 comes with a proven bound of its error, sample by sample; only those samples that this error
leaves among the smallest are evaluated in float64. With u = 2^-24 and gamma_n = n u / (1 - n u) a layer
v -> act(W'v + b) of n inputs, whose computed value is v^, adds

    ||error_out||_2  <=  ||W||_2 ||error_in||_2 + gamma_(n+3) (||W||_F ||v^||_2 + ||b||_2),

for |W|'|v| <= ||W||_F ||v||_2 in Euclidean length, a ReLU moves no two values apart, and gamma holds for sums in any
order, with fused multiplications or without (Higham, Accuracy and Stability of Numerical Algorithms, section 3.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from arfj.certify.scenario.stream import Source
from arfj.errors import ArfjError, UsageError
from arfj.network import Floats, Network

WORTH = 2**16
"""Parameters from which on float32 pays."""
UNIT = 2.0**-24
SLACK = 1.001
"""On lengths that are summed in float32 themselves, and on what float64 adds."""
TINY = 2.0**-100
"""Times numbers of terms: what underflow may do."""

Singles = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer in float32, and the constants of the error bound."""

    weight: Singles
    bias: Singles
    relu: bool
    steep: float
    rounding: float
    offset: float


@dataclass(frozen=True, eq=False)
class Screen:
    """A network in float32."""

    layers: tuple[Layer, ...]

    @classmethod
    def of(cls, network: Network) -> Screen | None:
        """The screen of a network; None where it does not pay, or where weights do not fit into float32."""
        if sum(layer.weight.size for layer in network.layers) < WORTH:
            return None
        layers = []
        for layer in network.layers:
            terms = (layer.inputs + 3) * UNIT
            steep = float(np.linalg.norm(layer.weight, 2)) * (1.0 + 1e-8)
            frobenius, offset = float(np.linalg.norm(layer.weight)), float(np.linalg.norm(layer.bias))
            if terms > 0.1 or max(steep, frobenius, offset) > 1e18:
                return None
            gamma = SLACK * terms / (1.0 - terms)
            weight, bias = layer.weight.astype(np.float32), layer.bias.astype(np.float32)
            layers.append(
                Layer(weight, bias, layer.activation == "relu", steep, gamma * frobenius + TINY, gamma * offset + TINY)
            )
        return cls(tuple(layers))

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """Outputs (count, n_y) by float32, and a bound of ||error||_2 of each, shape (count,)."""
        value = x.astype(np.float32)
        error = UNIT * SLACK * length(value) + TINY
        for layer in self.layers:
            error = layer.steep * error + layer.rounding * length(value) + layer.offset
            value = value @ layer.weight
            value += layer.bias
            if layer.relu:
                np.maximum(value, 0.0, out=value)
        return value.astype(np.float64), SLACK * error


def length(values: Singles) -> Floats:
    """At least the Euclidean length of every row."""
    return np.asarray(SLACK * np.sqrt(np.einsum("ij,ij->i", values, values).astype(np.float64)))


@dataclass(frozen=True, eq=False)
class Margins:
    """z = min_i (a_i' y + b_i): rows a_i, shape (m, n_y), and offsets b_i, shape (m,)."""

    rows: Floats
    offsets: Floats

    def __call__(self, outputs: Floats) -> Floats:
        """Outputs (count, n_y) -> (count,).

        Raises:
            UsageError: another number of outputs.
        """
        if outputs.shape[1] != self.rows.shape[1]:
            raise UsageError(
                f"the function gives {outputs.shape[1]} outputs, the safe set is one of {self.rows.shape[1]}"
            )
        return np.asarray((outputs @ self.rows.T + self.offsets).min(axis=1))

    def error(self, outputs: Floats, error: Floats) -> Floats:
        """How far z may be off where outputs are off by `error` in Euclidean length."""
        steep = float(np.sqrt((self.rows**2).sum(axis=1)).max())
        size = steep * np.sqrt((outputs**2).sum(axis=1)) + float(np.abs(self.offsets).max())
        return np.asarray(steep * error + 1e-15 * (outputs.shape[1] + 4) * size)


def smallest(source: Source, margins: Margins, samples: int, keep: int, stream: int = 0, threads: int = 0) -> Floats:
    """The `keep` smallest of N margins, ascending, in float64.

    Raises:
        ArfjError: a sample is no number, or float32 erred by more than is proven (a broken matrix product).
    """
    screen = Screen.of(source.function) if isinstance(source.function, Network) else None
    best = np.empty(0)

    def work(x: Floats) -> Floats:
        if screen is None:
            return _least(margins(source.outputs(x)), keep)
        return _screened(source, margins, screen, x, keep, best[-1] if len(best) == keep else np.inf)

    for found in source.each(samples, stream, work, threads):
        best = _least(np.concatenate([best, found]), keep)
    return best


def _screened(source: Source, margins: Margins, screen: Screen, x: Floats, keep: int, most: float) -> Floats:
    """Those margins of a batch that may be among the smallest; `most` is not less than the largest of these."""
    outputs, error = screen(x)
    with np.errstate(invalid="ignore"):
        near, off = margins(outputs), margins.error(outputs, error)
        least = np.nan_to_num(near - off, nan=-np.inf)
    if most == np.inf and len(x) > keep:
        first = np.argpartition(least, keep - 1)[:keep]
        most = float(margins(source.outputs(x[first])).max())
    chosen = np.flatnonzero(least <= most)
    if not chosen.size:
        return np.empty(0)
    exact = margins(source.outputs(x[chosen]))
    wrong = np.abs(exact - near[chosen]) > off[chosen]
    if wrong.any():
        raise ArfjError("a float32 matrix product erred by more than rounding can; check the BLAS library of NumPy")
    return _least(exact, keep)


def _least(values: Floats, keep: int) -> Floats:
    return np.sort(np.partition(values, keep - 1)[:keep] if len(values) > keep else values)
