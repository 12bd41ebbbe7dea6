r"""A graph under construction: what the readers of ONNX and Keras files put their layers together from.

Linear layers are written down with index arrays. A layer that moves values about is run on the array of their places
0, 1, 2, ...; what comes out says where each output reads, with -1 for padding. A convolution then has the entries

    M[reads[c, p, k], places[f, p]] = W[f, c, k]     (channels c, f; positions p; kernel offsets k)

for the files' own order of values, channels first or last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from arfj.errors import NetworkError
from arfj.graph import Activation, Affine, Graph, Kind, Matrix, Node
from arfj.network import Floats, Network
from arfj.simplify import simplified

Places = NDArray[np.int64]
"""Flat places of values, -1 for none."""

MOST = 1e6
"""Larger constants are not read where a value is added to one and it is taken away again: digits of the value go."""
NO_BOUND = 1e30
"""A bound of this size is none: exporters write the largest float32."""
_LARGEST = 2**27
"""Entries of one sparse map: some GiB while it is made."""


@dataclass(frozen=True)
class Tensor:
    """The value v_index of the graph, seen in a shape (row-major)."""

    index: int
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """The number of values."""
        return int(np.prod(self.shape))

    @property
    def places(self) -> Places:
        """0, 1, 2, ... in this shape."""
        return np.arange(self.size).reshape(self.shape)

    def reshaped(self, shape: Sequence[int]) -> Tensor:
        """The same values in another shape of the same size."""
        return Tensor(self.index, tuple(int(size) for size in shape))


class Builder:
    """Collects nodes; every method appends what it needs and returns the result as a `Tensor`."""

    def __init__(self, input_shape: Sequence[int]) -> None:
        self.input = Tensor(0, tuple(input_shape))
        self._dense = 0  # how many layers have a dense matrix
        self._sparse = False  # whether there are convolutions or poolings
        self._nodes: list[Node] = []

    def _append(self, node: Node, shape: Sequence[int]) -> Tensor:
        self._nodes.append(node)
        return Tensor(len(self._nodes), tuple(shape))

    def linear(self, source: Tensor, matrix: Matrix, bias: ArrayLike, shape: Sequence[int]) -> Tensor:
        """v M + b of a dense layer; the bias is broadcast to `shape`."""
        self._dense += 1
        return self._append(Affine((source.index,), (matrix,), _filled(bias, shape)), shape)

    def sparse(self, source: Tensor, matrix: csr_array, bias: ArrayLike, shape: Sequence[int]) -> Tensor:
        """v M + b of a convolution or pooling; the bias is broadcast to `shape`."""
        self._sparse = True
        return self._append(Affine((source.index,), (matrix,), _filled(bias, shape)), shape)

    def combine(self, terms: Sequence[tuple[Tensor, Places, ArrayLike]], offset: ArrayLike = 0.0) -> Tensor:
        """sum of factor v[places] + offset, element by element; all places have the result's shape."""
        shape = terms[0][1].shape
        _check_count(shape)
        maps: dict[int, csr_array] = {}
        for source, places, factor in terms:
            out = np.arange(places.size).reshape(shape)
            matrix = sparse_map(places, out, factor, (source.size, places.size))
            maps[source.index] = maps[source.index] + matrix if source.index in maps else matrix
        return self._append(Affine(tuple(maps), tuple(maps.values()), _filled(offset, shape)), shape)

    def take(self, source: Tensor, places: Places, factor: ArrayLike = 1.0, offset: ArrayLike = 0.0) -> Tensor:
        """factor v[places] + offset, element by element; no node where only the shape changes."""
        if (
            not np.any(offset)
            and np.all(np.equal(factor, 1.0))
            and np.array_equal(places.ravel(), source.places.ravel())
        ):
            return source.reshaped(places.shape)
        return self.combine([(source, places, factor)], offset)

    def scale(self, source: Tensor, factor: ArrayLike = 1.0, offset: ArrayLike = 0.0) -> Tensor:
        """factor v + offset under NumPy's broadcasting, which may enlarge v."""
        shape = np.broadcast_shapes(source.shape, np.shape(factor), np.shape(offset))
        return self.take(source, np.broadcast_to(source.places, shape), factor, offset)

    def add(self, one: Tensor, two: Tensor, factor: float = 1.0) -> Tensor:
        """v + factor w under NumPy's broadcasting."""
        places = np.broadcast_arrays(one.places, two.places)
        return self.combine([(one, places[0], 1.0), (two, places[1], factor)])

    def activate(self, source: Tensor, kind: Kind) -> Tensor:
        """act(v); ReLU twice is ReLU once."""
        last = self._nodes[source.index - 1] if source.index else None
        if kind == "relu" and isinstance(last, Activation) and last.kind == "relu":
            return source
        return self._append(Activation(source.index, kind), source.shape)

    def leaky(self, source: Tensor, slope: ArrayLike) -> Tensor:
        """s v + (1 - s) ReLU(v), which is v where v >= 0 and s v elsewhere; s is broadcast to v's shape."""
        factor = checked(slope)
        if np.broadcast_shapes(source.shape, factor.shape) != source.shape:
            raise NetworkError(f"slopes of shape {factor.shape} do not fit values of shape {source.shape}")
        if not np.any(factor):
            return self.activate(source, "relu")
        positive = self.activate(source, "relu")
        return self.combine([(source, source.places, factor), (positive, source.places, 1.0 - factor)])

    def curved(self, source: Tensor, kind: str) -> Tensor:
        """act(v) for an activation that no graph holds; `certify.cdf` has a builder that takes some.

        Raises:
            NetworkError: always, here.
        """
        raise NetworkError(f"the activation {kind} is read by python -m arfj.certify cdf alone; expected relu, say")

    def product(self, one: Tensor, two: Tensor) -> Tensor:
        """v w under NumPy's broadcasting, as `curved`.

        Raises:
            NetworkError: always, here.
        """
        raise NetworkError("its input 1 depends on the network's input; expected a constant")

    def larger(self, one: Tensor, two: Tensor) -> Tensor:
        """max(v, w) = v + ReLU(w - v) under NumPy's broadcasting."""
        return self.add(one, self.activate(self.add(two, one, -1.0), "relu"))

    def absolute(self, source: Tensor) -> Tensor:
        """|v| = ReLU(v) + ReLU(-v)."""
        return self.add(self.activate(source, "relu"), self.activate(self.scale(source, -1.0), "relu"))

    def clip(self, source: Tensor, lower: float, upper: float) -> Tensor:
        """min(max(v, l), u) = u - ReLU(u - max(v, l)) with max(v, l) = l + ReLU(v - l); infinite bounds do nothing."""
        lower, upper = -np.inf if lower <= -NO_BOUND else lower, np.inf if upper >= NO_BOUND else upper
        if lower > upper or np.isnan(lower) or np.isnan(upper):
            raise NetworkError(f"clipping to [{lower}, {upper}] is empty; expected the lower bound first")
        checked([bound for bound in (lower, upper) if np.isfinite(bound)])
        value = source
        if np.isfinite(lower):
            value = self.scale(self.activate(self.scale(value, 1.0, -lower), "relu"), 1.0, lower)
        if np.isfinite(upper):
            value = self.scale(self.activate(self.scale(value, -1.0, upper), "relu"), -1.0, upper)
        return value

    def maximum(self, source: Tensor, reads: Places, shape: Sequence[int]) -> Tensor:
        """max over the last axis of v[reads], shape (outputs, window), by halves: max(v, w) = v + ReLU(w - v)."""
        self._sparse = True
        if (reads.max(axis=1) < 0).any():
            raise NetworkError("a window holds nothing but padding; expected smaller pads")
        # A place that the window reads anyway stands for the padding, and changes no maximum.
        value = self.take(source, np.where(reads < 0, reads.max(axis=1, keepdims=True), reads).T)
        while (count := len(value.places)) > 1:
            left, right = value.places[: count // 2], value.places[count // 2 : count // 2 * 2]
            rest = value.places[count // 2 * 2 :]
            more = self.activate(self.combine([(value, right, 1.0), (value, left, -1.0)]), "relu")
            none = np.full_like(rest, -1)
            value = self.combine(
                [(value, np.concatenate([left, rest]), 1.0), (more, np.concatenate([more.places, none]), 1.0)]
            )
        return value.reshaped(shape)

    def finish(self, output: Tensor, input_shape: Sequence[int], softmax: bool = False) -> Network | Graph:
        """The network with this output: dense layers with ReLU as a `Network`, all else as a simplified `Graph`."""
        if output.index == 0:  # the input itself, perhaps in another shape
            output = self.combine([(output, output.places, 1.0)])
        shape = tuple(input_shape) or (self.input.size,)
        graph = simplified(Graph(self.input.size, tuple(self._nodes[: output.index]), shape))
        # An affine node that no dense layer made is better left sparse: normalisation of the input, a bound of a ReLU.
        affine = sum(isinstance(node, Affine) for node in graph.nodes)
        chain = None if self._sparse or affine > self._dense else graph.dense_chain()
        return replace(chain or graph, softmax=softmax)


def elu(builder: Builder, source: Tensor, slope: float) -> Tensor:
    """v where v >= 0 and a (exp(v) - 1) elsewhere, as (1 - a) ReLU(v) + a elu(v) with the elu of a = 1.

    Raises:
        NetworkError: a is negative, or the builder takes no curved activation.
    """
    if not slope >= 0:
        raise NetworkError(f"ELU with alpha {slope:g} falls below 0; expected alpha >= 0")
    curved = builder.curved(source, "elu")
    return (
        curved
        if slope == 1
        else builder.combine(
            [(builder.activate(source, "relu"), source.places, 1.0 - slope), (curved, source.places, slope)]
        )
    )


def checked(constants: ArrayLike) -> Floats:
    """Constants beside which values keep their digits in sums such as l + ReLU(v - l).

    Raises:
        NetworkError: one is larger than `MOST`.
    """
    array = np.asarray(constants, dtype=np.float64)
    if not (np.abs(array) <= MOST).all():
        raise NetworkError(
            f"a constant of {np.abs(array).max():g} would take values' digits; expected {MOST:g} at most"
        )
    return array


def _filled(values: ArrayLike, shape: Sequence[int]) -> Floats:
    return np.array(np.broadcast_to(np.asarray(values, dtype=np.float64), tuple(shape))).ravel()


def _check_count(shape: Sequence[int]) -> None:
    count = math.prod(shape)
    if count > _LARGEST:
        raise NetworkError(f"a layer has {count} connections, more than {_LARGEST}; expected a smaller network")


def sparse_map(rows: Places, columns: Places, data: ArrayLike, shape: tuple[int, int]) -> csr_array:
    """The matrix of these entries, which are broadcast against each other; negative rows are left out.

    Raises:
        NetworkError: more entries than fit into memory.
    """
    _check_count(np.broadcast_shapes(rows.shape, columns.shape, np.shape(data)))
    rows, columns, data = np.broadcast_arrays(rows, columns, np.asarray(data, dtype=np.float64))
    keep = (rows >= 0) & (data != 0)
    return csr_array((data[keep], (rows[keep], columns[keep])), shape=shape)


def windows(
    places: Places,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    pads: Sequence[tuple[int, int]],
) -> Places:
    """What each window reads: places of shape (channels, *space) -> (channels, *positions, *kernel), -1 in the padding.

    Raises:
        NetworkError: a window that is larger than the padded input.
    """
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    padded = np.pad(places, [(0, 0), *pads], constant_values=-1)
    if any(span > size for span, size in zip(spans, padded.shape[1:], strict=True)):
        raise NetworkError(f"a window of {tuple(spans)} does not fit its padded input of {padded.shape[1:]}")
    axes = tuple(range(1, places.ndim))
    view = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=axes)
    steps = [slice(None, None, step) for step in (*strides, *dilations)]
    return np.asarray(view[(slice(None), *steps)])


def same_pads(space: Sequence[int], spans: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) along each axis so that ceil(size / stride) windows fit; the odd one of them comes after."""
    pads = []
    for size, span, step in zip(space, spans, strides, strict=True):
        whole = max((-(-size // step) - 1) * step + span - size, 0)
        pads.append((whole // 2, whole - whole // 2))
    return pads


def convolution(reads: Places, weight: Floats, groups: int, inputs: int, places: Places) -> csr_array:
    """The map of a convolution.

    Args:
        reads: shape (channels, positions, offsets).
        weight: W, shape (filters, channels / groups, offsets).
        groups: filters and channels are cut into so many parts, each filter reads the channels of its part.
        inputs: the number of values it reads.
        places: where the outputs stand, shape (filters, positions).
    """
    filters, channels, offsets = weight.shape
    parts, positions = filters // groups, reads.shape[1]
    return sparse_map(
        reads.reshape(groups, 1, channels, positions, offsets),
        places.reshape(groups, parts, 1, positions, 1),
        weight.reshape(groups, parts, channels, 1, offsets),
        (inputs, places.size),
    )


def average(reads: Places, counts: ArrayLike, inputs: int, places: Places) -> csr_array:
    """The map of average pooling: reads of shape (channels, positions, offsets), divided by the counts.

    Args:
        reads: shape (channels, positions, offsets).
        counts: what each sum is divided by, broadcast to (channels, positions).
        inputs: the number of values it reads.
        places: where the outputs stand, shape (channels, positions).

    Raises:
        NetworkError: a count of 0.
    """
    if not np.all(counts):
        raise NetworkError("a window holds nothing but padding; expected smaller pads")
    share = np.broadcast_to(1.0 / np.asarray(counts, dtype=np.float64), places.shape)
    return sparse_map(reads, places[..., None], share[..., None], (inputs, places.size))
