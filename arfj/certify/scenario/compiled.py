r"""Outputs of a network by a program that JAX compiles, in float64, on the device that JAX finds.

    v_0 = x,   v_i = sum_j v_j M_ij + b_i   or   v_i = act(v_j)          (`arfj.graph`)

Batches are padded to one size, so that there is one program a network. A call returns before the device has computed:
the noise of the next batch is drawn meanwhile. Sums run in another order than NumPy's, so that outputs differ from its
own by rounding, and by nothing else: products are never made of float32 or TF32 numbers.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.sparse import csc_array, csr_array

from arfj.bounds.backward import ActivationStep, Structure, dense, structure
from arfj.bounds.compiled import Compiled, in_float64, keep_programs
from arfj.errors import ArfjError, UsageError
from arfj.graph import Affine, Graph, Matrix
from arfj.network import Floats, Network

MOST = 2**28
"""Entries of slots: 3 GiB. A network whose maps need more has a sparse map with a column that is full."""
DENSE = 2**24
"""Entries up to which a sparse map is multiplied as a dense one, 128 MiB: one fast product in place of many gathers."""

Array = Any
Numbers = tuple[tuple[tuple[Array, ...], Array] | None, ...]
"""Maps and bias of an affine node, None for an activation; a map is a matrix, or slots (`_slots`)."""


class Forward:
    """A network on the device: inputs (count, n) -> outputs (count, n_y), which `fetched` waits for.

    Args:
        function: the network.
        rows: the size of all batches: those with fewer inputs are padded.

    Raises:
        UsageError: JAX is missing. ArfjError: the device refuses, as where its memory is full.
    """

    def __init__(self, function: Network | Graph, rows: int) -> None:
        if importlib.util.find_spec("jax") is None:
            raise UsageError("the engine 'jax' needs JAX: pip install 'arfj[gpu]', and 'jax[cuda13]' for a GPU")
        graph = function.graph()
        self.rows = rows
        self._structure = structure(graph)
        keep_programs()
        with in_float64("jax"), _refusals():
            self._numbers = _placed(tuple(_numbers(graph)))

    def __call__(self, x: Floats) -> Array:
        """Outputs of up to `rows` inputs, padded; at once, for the device works on."""
        whole = x if len(x) == self.rows else np.concatenate([x, np.zeros((self.rows - len(x), x.shape[1]))])
        with in_float64("jax"), _refusals():
            return compiled()(self._structure, whole, self._numbers)


def fetched(outputs: Array, count: int) -> Floats:
    """The outputs of the first `count` inputs, once they are there.

    Raises:
        TypeError: they are no float64 numbers. ArfjError: the device refused.
    """
    with _refusals():
        found = np.asarray(outputs)[:count]
    if found.dtype != np.float64:
        raise TypeError(f"outputs came back as {found.dtype}; a certificate is about float64")
    return found


@functools.cache
def compiled() -> Compiled:
    """The forward pass as a compiled program."""
    return Compiled(_forward, fixed=1)


def compile_seconds() -> float:
    """What this process has spent in compiling so far; 0 where nothing is compiled."""
    return compiled().seconds if compiled.cache_info().currsize else 0.0


def _forward(steps: Structure, x: Array, numbers: Numbers) -> Array:
    values = [x]
    for step, pair in zip(steps, numbers, strict=True):
        if isinstance(step, ActivationStep):
            values.append(_activated(step.kind, values[step.source]))
        elif pair is not None:
            maps, bias = pair
            products = (_product(values[j], one) for j, one in zip(step.sources, maps, strict=True))
            values.append(sum(products, start=bias))
    return values[-1]


def _activated(kind: str, value: Array) -> Array:
    """As `arfj.graph.Activation`."""
    import jax.numpy as jnp

    match kind:
        case "relu":
            return jnp.maximum(value, 0.0)
        case "tanh":
            return jnp.tanh(value)
        case _:
            power = jnp.exp(-jnp.abs(value))
            return jnp.where(value >= 0, 1.0, power) / (1.0 + power)


def _product(value: Array, one: Array) -> Array:
    """v M."""
    import jax
    import jax.numpy as jnp

    if not isinstance(one, tuple):
        return jnp.matmul(value, one, precision=jax.lax.Precision.HIGHEST)
    rows, data = one
    start = jnp.zeros((value.shape[0], rows.shape[1]), dtype=value.dtype)
    return jax.lax.fori_loop(0, rows.shape[0], lambda t, total: total + value[:, rows[t]] * data[t], start)


def _numbers(graph: Graph) -> Iterator[tuple[tuple[Any, ...], Floats] | None]:
    for node in graph.nodes:
        yield (tuple(map(_map, node.maps)), node.bias) if isinstance(node, Affine) else None


def _map(matrix: Matrix) -> Floats | tuple[Array, Array]:
    if isinstance(matrix, csr_array) and matrix.shape[0] * matrix.shape[1] > DENSE:
        return _slots(matrix)
    return dense(matrix)


def _slots(matrix: csr_array) -> tuple[Array, Array]:
    """Rows and entries (most entries of a column, outputs): (v M)_j = sum_t v[rows[t, j]] data[t, j], absent ones 0."""
    columns = csc_array(matrix)
    counts = np.diff(columns.indptr)
    place = np.arange(columns.nnz) - np.repeat(columns.indptr[:-1], counts)
    column = np.repeat(np.arange(len(counts)), counts)
    shape = (int(counts.max(initial=1)), len(counts))
    if shape[0] * shape[1] > MOST:
        raise UsageError(f"a map of the network takes {shape[0]} x {shape[1]} entries on a GPU; use --device cpu")
    rows, data = np.zeros(shape, dtype=np.int32), np.zeros(shape)
    rows[place, column], data[place, column] = columns.indices, columns.data
    return rows, data


def _placed(tree: Any) -> Any:  # noqa: ANN401 - nested tuples of arrays
    import jax.numpy as jnp

    if isinstance(tree, tuple):
        return tuple(map(_placed, tree))
    return None if tree is None else jnp.asarray(tree)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """What JAX says of its device, in one line."""
    try:
        yield
    except RuntimeError as error:  # JAX' own errors are of this kind
        full = "RESOURCE_EXHAUSTED" in str(error)
        said = "its memory is full; end what else runs on it" if full else str(error).partition("\n")[0]
        raise ArfjError(f"the device refused: {said}; or leave out --device gpu") from error
