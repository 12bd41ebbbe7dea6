r"""The backward pass of linear relaxation, for NumPy and for `jax.numpy` alike.

A lower bound of c' v_t is carried back through the nodes: an affine node turns coefficients c on v_i into c M_ij' on
v_j, an activation turns them into slopes of the line below it where c >= 0 and of the line above it where c < 0, until

    c' v_t  >=  A x + const      for all x of the region, whose minimum is const - support(-A).

Splits of ReLUs enter as Lagrangian terms: where a >= 0 is assumed, -beta a (beta >= 0) is added, where a <= 0, +beta a
(beta-CROWN, Wang et al. 2021, eq. 5). For every choice of slopes and beta the bound is sound; their supergradient
follows from the relaxed network's forward pass at the minimising x.

Rounding: with m_i an upper bound of what |v_i| and the summed |terms| of node i can be, sum_i |c_i| m_i over all nodes
bounds what the arithmetic of the pass handled; `OUTWARD` times that is taken off.

All passes broadcast: coefficients have shape (..., n_i), lines and splits any shape that broadcasts to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from arfj.bounds.relaxation import Lines
from arfj.graph import Activation, Affine, Graph, Matrix
from arfj.network import Floats
from arfj.region import long_sum

Array = Any


@dataclass(frozen=True)
class AffineStep:
    """v = sum_j v_j M_j + b: the indices j."""

    sources: tuple[int, ...]


@dataclass(frozen=True)
class ActivationStep:
    """v = act(v_source)."""

    source: int
    kind: Any


Step = AffineStep | ActivationStep
Structure = tuple[Step, ...]
"""What a graph is without its numbers: hashable, so that programs compiled for it are found again."""

Weights = Sequence[tuple[tuple[Array, ...], Array] | None]
"""(M_j of all sources, b) of an affine node, None for an activation."""


def structure(graph: Graph) -> Structure:
    """The graph without its numbers."""
    return tuple(
        AffineStep(node.sources) if isinstance(node, Affine) else ActivationStep(node.source, node.kind)
        for node in graph.nodes
    )


def weights(graph: Graph) -> Weights:
    """The numbers of a graph, node by node."""
    return [(node.maps, node.bias) if isinstance(node, Affine) else None for node in graph.nodes]


def sites(graph: Graph) -> tuple[int, ...]:
    """Indices of the values that are bounded: what activations read, then the output unless an activation gives it."""
    found = [node.source for node in graph.nodes if isinstance(node, Activation)]
    if isinstance(graph.nodes[-1], Affine):
        found.append(len(graph.nodes))
    return tuple(dict.fromkeys(found))


def dense(matrix: Matrix) -> Floats:
    """The matrix with all its zeros."""
    return np.asarray(matrix if isinstance(matrix, np.ndarray) else matrix.toarray(), dtype=np.float64)


def absolute(matrix: Matrix) -> Matrix:
    """|M|, entry by entry."""
    return np.abs(matrix) if isinstance(matrix, np.ndarray) else csr_array(abs(matrix))


def sizes(graph: Graph, most: Mapping[int, Floats]) -> list[Floats]:
    """m_i of the module's docstring for every value, from `most[j]` >= |v_j| for the input and every activation."""
    result = [most[0] * long_sum(len(most[0]))]
    for index, node in enumerate(graph.nodes, start=1):
        if isinstance(node, Activation):
            result.append(np.maximum(most[index], result[node.source]))
            continue
        terms = [result[j] @ absolute(m) for j, m in zip(node.sources, node.maps, strict=True)]
        length = long_sum(sum(m.shape[0] for m in node.maps))
        result.append(np.asarray((sum(terms) + np.abs(node.bias)) * length))
    return result


@dataclass(frozen=True, eq=False)
class Pass:
    """What a backward pass met.

    Attributes:
        rows: A, shape (..., inputs).
        constant: const, shape (...).
        met: the coefficients on every activation's value, by its index.
        magnitude: what rounding is relative to, shape (...); 0 if no sizes were given.
    """

    rows: Array
    constant: Array
    met: dict[int, Array]
    magnitude: Array


@dataclass(frozen=True, eq=False)
class Split:
    """Assumed phases of an activation: sign +1 for a >= 0, -1 for a <= 0, 0 for none; and the multipliers beta >= 0."""

    sign: Array
    beta: Array


def backward(
    xp: Any,
    steps: Structure,
    numbers: Weights,
    target: int,
    coefficients: Array,
    lines: Mapping[int, Lines],
    slopes: Mapping[int, Array],
    splits: Mapping[int, Split] | None = None,
    sizes: Sequence[Array] | None = None,
) -> Pass:
    """Carry lower bounds of c' v_target back to the input.

    Args:
        xp: numpy or jax.numpy.
        steps: the graph's structure.
        numbers: its weights.
        target: the index of the bounded value.
        coefficients: c, shape (..., n_target).
        lines: by the index of every activation up to the target.
        slopes: the chosen slopes below, where they are not the lines' own.
        splits: assumed phases.
        sizes: m_i of every value, or None for no magnitude.
    """
    waiting: dict[int, Array] = {target: coefficients}
    constant = xp.zeros(coefficients.shape[:-1], dtype=coefficients.dtype)
    magnitude = constant
    met: dict[int, Array] = {}
    for index in range(target, 0, -1):
        rows = waiting.pop(index, None)
        if rows is None:
            continue
        step = steps[index - 1]
        if sizes is not None:
            magnitude = magnitude + abs(rows) @ sizes[index]
        if isinstance(step, ActivationStep):
            met[index] = rows
            line = lines[index]
            positive, negative = xp.maximum(rows, 0), xp.minimum(rows, 0)
            constant = constant + (negative * line.up_shift).sum(axis=-1)
            if line.low_shift is not None:
                constant = constant + (positive * line.low_shift).sum(axis=-1)
            before = positive * slopes.get(index, line.low_slope) + negative * line.up_slope
            if splits is not None and index in splits:
                before = before - splits[index].sign * splits[index].beta
            _add(waiting, step.source, before)
            continue
        maps, bias = _affine(numbers[index - 1])
        constant = constant + rows @ bias
        for source, matrix in zip(step.sources, maps, strict=True):
            _add(waiting, source, _times_transposed(rows, matrix))
    rows = waiting.get(0)
    if rows is None:
        rows = xp.zeros((*coefficients.shape[:-1], _inputs(steps, numbers)), dtype=coefficients.dtype)
    return Pass(rows, constant, met, magnitude)


def relaxed_forward(
    xp: Any,
    steps: Structure,
    numbers: Weights,
    target: int,
    x: Array,
    met: Mapping[int, Array],
    lines: Mapping[int, Lines],
    slopes: Mapping[int, Array],
) -> dict[int, Array]:
    """The pre-activations that the lines of a backward pass give at x (..., inputs), by the index of the activation.

    With a the returned ones, d bound / d slope = max(c, 0) a and d bound / d beta = -sign a.
    """
    last = max((index for index in met), default=0)
    values: dict[int, Array] = {0: x}
    before: dict[int, Array] = {}
    for index in range(1, min(last, target) + 1):
        step = steps[index - 1]
        if isinstance(step, ActivationStep):
            if index not in met or step.source not in values:
                continue
            line, a = lines[index], values[step.source]
            before[index] = a
            low = slopes.get(index, line.low_slope) * a
            if line.low_shift is not None:
                low = low + line.low_shift
            values[index] = xp.where(met[index] >= 0, low, line.up_slope * a + line.up_shift)
            continue
        if not all(source in values for source in step.sources):
            continue
        maps, bias = _affine(numbers[index - 1])
        total = bias
        for source, matrix in zip(step.sources, maps, strict=True):
            total = total + values[source] @ matrix
        values[index] = total
    return before


def _affine(numbers: tuple[tuple[Array, ...], Array] | None) -> tuple[tuple[Array, ...], Array]:
    if numbers is None:
        raise TypeError("an affine node without numbers")
    return numbers


def _add(waiting: dict[int, Array], index: int, rows: Array) -> None:
    waiting[index] = waiting[index] + rows if index in waiting else rows


def _times_transposed(rows: Array, matrix: Array) -> Array:
    if rows.ndim <= 2:
        return rows @ matrix.T
    flat = rows.reshape(-1, rows.shape[-1]) @ matrix.T  # one large product, not one an item
    return flat.reshape(*rows.shape[:-1], -1)


def _inputs(steps: Structure, numbers: Weights) -> int:
    for step, held in zip(steps, numbers, strict=True):
        if isinstance(step, AffineStep) and 0 in step.sources:
            return int(_affine(held)[0][step.sources.index(0)].shape[0])
    raise TypeError("no node reads the input")
