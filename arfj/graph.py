r"""Networks as affine maps and activations: the one form that bounds, branch and bound and encodings read.

    v_0 = x,   v_i = sum_j v_j M_ij + b_i          (`Affine`, all sources j < i)
               v_i = act(v_j)                      (`Activation`)

Every value is a flat row vector, in the order in which its network's file holds it. Dense layers, convolutions,
average pooling, batch normalisation, residual additions and reshapes are affine; leaky ReLU is s v + (1 - s) ReLU(v)
and max pooling a tree of max(v, w) = v + ReLU(w - v), so ReLU, sigmoid and tanh are all that is left.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

from arfj.errors import NetworkError
from arfj.files import save_arrays
from arfj.network import Dense, Floats, Network, batch_of, frozen, softmax, softmax_of

Matrix = Floats | csr_array
"""Shape (inputs, outputs), float64: dense, or sparse where few entries differ from 0."""
Kind = Literal["relu", "sigmoid", "tanh"]
Arrays = dict[str, NDArray[np.generic]]

UNIT = 2.0**-53
"""The unit roundoff of float64."""
LOST = 1e-12
"""What composing affine maps may round off, a tenth of what every bound is moved outward by."""

_LARGEST = 2**27
"""Entries of the dense matrices that `Graph.dense_chain` makes of sparse ones: a GiB."""


@dataclass(frozen=True, eq=False)
class Affine:
    """sum_j v_j M_j + b.

    Attributes:
        sources: the indices j of the values it reads, each once, at least one.
        maps: M_j, shape (size of v_j, outputs).
        bias: b, shape (outputs,).

    Raises:
        NetworkError: sources, maps and bias that do not fit each other, NaN or infinity.
    """

    sources: tuple[int, ...]
    maps: tuple[Matrix, ...]
    bias: Floats

    def __post_init__(self) -> None:
        sources, bias = tuple(int(source) for source in self.sources), frozen(self.bias, "a bias vector")
        maps = tuple(_frozen_map(matrix) for matrix in self.maps)
        if not sources or len(set(sources)) != len(sources) or len(sources) != len(maps):
            raise NetworkError(f"an affine node has the sources {sources} and {len(maps)} maps; expected one map each")
        for matrix in maps:
            if bias.ndim != 1 or matrix.shape[1:] != bias.shape or 0 in matrix.shape:
                raise NetworkError(f"a map of shape {matrix.shape} does not fit its bias of shape {bias.shape}")
        for name, value in (("sources", sources), ("maps", maps), ("bias", bias)):
            object.__setattr__(self, name, value)

    def __call__(self, values: list[Floats]) -> Floats:
        """The value, shape (batch, outputs), of the values before it, shapes (batch, size)."""
        pairs = zip(self.sources, self.maps, strict=True)
        return np.asarray(sum((values[source] @ matrix for source, matrix in pairs), start=self.bias))


@dataclass(frozen=True, eq=False)
class Activation:
    """act(v_source), element by element.

    Raises:
        NetworkError: a kind that is not known.
    """

    source: int
    kind: Kind

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise NetworkError(f"activation {self.kind!r} is not known; expected 'relu', 'sigmoid' or 'tanh'")

    @property
    def sources(self) -> tuple[int, ...]:
        """The one value that it reads, as `Affine.sources`."""
        return (self.source,)

    def __call__(self, values: list[Floats]) -> Floats:
        """The value, of the shape of its source."""
        value = values[self.source]
        match self.kind:
            case "relu":
                return np.maximum(value, 0.0)
            case "tanh":
                return np.tanh(value)
            case "sigmoid":
                power = np.exp(-np.abs(value))  # never overflows
                return np.where(value >= 0, 1.0, power) / (1.0 + power)


Node = Affine | Activation


def _frozen_map(matrix: Matrix) -> Matrix:
    if not isinstance(matrix, csr_array):
        return frozen(matrix, "a map", order="C")
    # Rows sorted, no entry twice: then no reader of the matrix needs to write into it.
    copy: csr_array = matrix.astype(np.float64)
    copy.sum_duplicates()
    if not np.isfinite(copy.data).all():
        raise NetworkError("a map holds NaN or infinity; retrain or export the network again")
    for part in (copy.data, copy.indices, copy.indptr):
        part.setflags(write=False)
    return copy


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as nodes in topological order.

    Attributes:
        inputs: n_0, the size of v_0.
        nodes: node i - 1 gives v_i; the last one gives the outputs.
        input_shape: the shape of one input; its product is `inputs`. Default: flat.
        softmax: whether its file ends in a softmax over these outputs, which was taken off.

    Raises:
        NetworkError: a node that reads a later value, or sizes that do not fit.
    """

    inputs: int
    nodes: tuple[Node, ...]
    input_shape: tuple[int, ...] = ()
    softmax: bool = False

    def __post_init__(self) -> None:
        shape = self.input_shape or (self.inputs,)
        if min(shape) < 1 or int(np.prod(shape)) != self.inputs:
            raise NetworkError(f"input shape {shape} does not have the {self.inputs} values of the input")
        if not self.nodes:
            raise NetworkError("a network needs at least one node")
        object.__setattr__(self, "nodes", tuple(self.nodes))
        object.__setattr__(self, "input_shape", tuple(int(size) for size in shape))
        _ = self.sizes  # checks all nodes

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of v_0, v_1, ..., as many as nodes and one more."""
        sizes = [self.inputs]
        for index, node in enumerate(self.nodes, start=1):
            if any(not 0 <= source < index for source in node.sources):
                raise NetworkError(f"node {index} reads the values {node.sources}; expected earlier ones only")
            sizes.append(_size(index, node, sizes))
        return tuple(sizes)

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return self.sizes[-1]

    def graph(self) -> Graph:
        """Itself, as `Network.graph`."""
        return self

    def values(self, x: ArrayLike) -> list[Floats]:
        """v_0, v_1, ..., shapes (batch, size), for inputs of shape (batch, ...)."""
        values = [batch_of(x, self.input_shape)]
        for node in self.nodes:
            values.append(node(values))
        return values

    def __call__(self, x: ArrayLike) -> Floats:
        """Output values in float64: (batch, ...) -> (batch, classes)."""
        return self.values(x)[-1]

    def probabilities(self, x: ArrayLike) -> Floats:
        """softmax of the outputs: (batch, ...) -> (batch, classes), rows summing to one."""
        return softmax(self(x))

    def classify(self, x: ArrayLike) -> NDArray[np.intp]:
        """The class of the largest output (the first of them in a tie): (batch, ...) -> (batch,)."""
        return np.asarray(np.argmax(self(x), axis=1))

    def fingerprint(self) -> str:
        """SHA-256 over nodes, maps and biases: equal for equal graphs, whichever maps are held sparse."""
        digest = hashlib.sha256(repr(("graph", self.sizes)).encode())
        for node in self.nodes:
            digest.update(repr((node.sources, getattr(node, "kind", "affine"))).encode())
            if isinstance(node, Affine):
                digest.update(node.bias.astype("<f8").tobytes())
                for matrix in map(csr_array, node.maps):
                    rows, columns = matrix.nonzero()
                    for part in (
                        rows.astype("<i8"),
                        columns.astype("<i8"),
                        matrix.data[matrix.data != 0].astype("<f8"),
                    ):
                        digest.update(part.tobytes())
        return digest.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `.npz` in float64, which `load_network` reads back. Atomic.

        `nodes` names every node (affine, relu, sigmoid, tanh); node i has `sources_i` and, if affine, `bias_i` and for
        its k-th source `map_i_k`, or `map_i_k_data`, `_indices`, `_indptr`, `_shape` where the map is sparse (CSR).
        `softmax` stands there where the file that it came from ended in one.

        Raises:
            ArfjError: the file cannot be written.
        """
        arrays: Arrays = {"nodes": np.array([getattr(node, "kind", "affine") for node in self.nodes])}
        arrays["input_shape"] = np.array(self.input_shape, dtype=np.int64)
        for index, node in enumerate(self.nodes, start=1):
            arrays[f"sources_{index}"] = np.array(node.sources, dtype=np.int64)
            if isinstance(node, Affine):
                arrays[f"bias_{index}"] = node.bias
                for place, matrix in enumerate(node.maps):
                    arrays |= _map_arrays(f"map_{index}_{place}", matrix)
        if self.softmax:
            arrays["softmax"] = np.array(True)
        save_arrays(path, arrays)

    def obstacle(self) -> str | None:
        """Why this is no chain of dense layers with ReLU, naming the first node that is none; None if it is one."""
        for index, node in enumerate(self.nodes, start=1):
            if isinstance(node, Activation) and node.kind != "relu":
                return f"node {index} is a {node.kind}"
            if node.sources != (index - 1,):
                return f"node {index} reads the values {', '.join(map(str, node.sources))}, which is a branch"
            if index == 1 and isinstance(node, Activation):
                return "node 1 is a ReLU of the input itself"
        entries = sum(int(np.prod(m.shape)) for node in self.nodes if isinstance(node, Affine) for m in node.maps)
        return f"its dense matrices have {entries} entries, more than {_LARGEST}" if entries > _LARGEST else None

    def dense_chain(self) -> Network | None:
        """The same network as dense layers if it is a chain Affine, ReLU, ..., Affine (or ReLU at the end), else None.

        Sparse maps are made dense, and consecutive affine nodes are composed; where that loses digits it is none.
        """
        if self.obstacle() is not None:
            return None
        done: list[Dense] = []
        waiting: tuple[Floats, Floats] | None = None  # an affine map whose activation may follow
        for node in self.nodes:
            if isinstance(node, Affine):
                weight, bias = _dense(node.maps[0]), node.bias
                if waiting is not None:
                    product, shift = composed_map(waiting[0], weight), composed_bias(waiting[1], weight, bias)
                    if product is None or shift is None:
                        return None
                    weight, bias = np.asarray(product), shift
                waiting = (weight, bias)
            elif waiting is not None:  # ReLU twice is ReLU once
                done.append(Dense(*waiting, "relu"))
                waiting = None
        if waiting is not None:
            done.append(Dense(*waiting, "linear"))
        return Network(tuple(done), self.input_shape, self.softmax)


def composed_map(one: Matrix, two: Matrix, more: Matrix | None = None) -> Matrix | None:
    """one @ two + more; None where large terms cancel, so that bounds of what is left would not cover the rounding.

    It is below `LOST` of the entries of every column, added up, with which the margins of bounds grow. Products of one
    term with powers of two are exact, and a sum of two numbers is off by no more than its own last digit.
    """
    product: Matrix = one @ two
    size: Matrix = _size_of(one) @ _size_of(two)
    terms = np.minimum(_counts(one, 1).max(initial=0), _counts(two, 0))
    exact = (terms <= 1).all() and (_powers(one) or _powers(two))
    if more is not None:
        product, size, terms = more + product, _size_of(more) + size, terms + 1
    rounding = UNIT * terms * np.asarray(size.sum(axis=0)).ravel()
    covered = LOST * np.asarray(_size_of(product).sum(axis=0)).ravel()
    return product if exact or (rounding <= covered).all() else None


def composed_bias(bias: Floats, two: Matrix, more: Floats) -> Floats | None:
    """bias @ two + more, added up in long numbers; None as for `composed_map`, beside 1."""
    if not bias.any():
        return more
    used = np.flatnonzero(bias)
    long, rows = bias[used].astype(np.longdouble), two[used]
    if isinstance(rows, csr_array):
        total, at = np.zeros(two.shape[1], np.longdouble), rows.tocoo()
        np.add.at(total, at.coords[1], long[at.coords[0]] * at.data)
    else:
        total = long @ rows.astype(np.longdouble)
    found = np.asarray(total + more, dtype=np.float64)
    size = np.abs(bias[used]) @ _size_of(rows) + np.abs(more)
    rounding = float(np.finfo(np.longdouble).eps) * (_counts(rows, 0) + 2) * size + UNIT * np.abs(found)
    return found if (rounding <= LOST * (1.0 + np.abs(found))).all() else None


def _powers(matrix: Matrix) -> bool:
    """Whether all entries are 0 or powers of two, up to their signs."""
    found = np.abs(np.frexp(matrix.data if isinstance(matrix, csr_array) else matrix)[0])
    return bool(((found == 0.5) | (found == 0.0)).all())


def _size_of(matrix: Matrix) -> Matrix:
    return abs(matrix) if isinstance(matrix, csr_array) else np.abs(matrix)


def _counts(matrix: Matrix, axis: int) -> NDArray[np.intp]:
    """Entries other than 0 along an axis."""
    if isinstance(matrix, csr_array):
        at = matrix.tocoo()
        return np.bincount(at.coords[1 - axis][at.data != 0], minlength=matrix.shape[1 - axis])
    return np.asarray(np.count_nonzero(matrix, axis=axis))


def _size(index: int, node: Node, sizes: list[int]) -> int:
    if isinstance(node, Activation):
        return sizes[node.source]
    for source, matrix in zip(node.sources, node.maps, strict=True):
        if matrix.shape[0] != sizes[source]:
            raise NetworkError(
                f"node {index} maps {matrix.shape[0]} values of the {sizes[source]} of value {source}; expected all"
            )
    return len(node.bias)


def _dense(matrix: Matrix) -> Floats:
    return np.asarray(matrix.toarray() if isinstance(matrix, csr_array) else matrix, dtype=np.float64)


def _map_arrays(key: str, matrix: Matrix) -> Arrays:
    if isinstance(matrix, csr_array):
        parts = {name: np.asarray(getattr(matrix, name)) for name in ("data", "indices", "indptr")}
        return {f"{key}_{name}": part for name, part in (parts | {"shape": np.array(matrix.shape)}).items()}
    return {key: matrix}


def graph_from_arrays(arrays: Mapping[str, NDArray[np.generic]]) -> Graph:
    """The graph whose arrays `Graph.save` wrote.

    Raises:
        NetworkError: an array is missing, left over, or of the wrong kind.
    """
    left = dict(arrays)
    kinds = [str(kind) for kind in np.atleast_1d(left.pop("nodes")).ravel()]
    shape, softmax_ends = tuple(_take(left, "input_shape", "iu").ravel().tolist()), softmax_of(arrays)
    left.pop("softmax", None)
    nodes = tuple(_node(left, index, kind) for index, kind in enumerate(kinds, start=1))
    if left:
        raise NetworkError(f"it holds {', '.join(sorted(left))}, which belong to no node; write it with Graph.save")
    return Graph(int(np.prod(shape)), nodes, shape, softmax_ends)


def _node(left: Arrays, index: int, kind: str) -> Node:
    sources = tuple(_take(left, f"sources_{index}", "iu").ravel().tolist())
    if kind == "affine":
        maps = tuple(_map(left, f"map_{index}_{place}") for place in range(len(sources)))
        return Affine(sources, maps, _take(left, f"bias_{index}", "fiu").astype(np.float64))
    if len(sources) != 1:
        raise NetworkError(f"node {index} ({kind}) has {len(sources)} sources; expected one")
    return Activation(sources[0], cast(Kind, kind))  # checked when made


def _map(left: Arrays, key: str) -> Matrix:
    if f"{key}_data" not in left:
        return _take(left, key, "fiu").astype(np.float64)
    data = _take(left, f"{key}_data", "fiu").astype(np.float64)
    indices, indptr, shape = (_take(left, f"{key}_{name}", "iu") for name in ("indices", "indptr", "shape"))
    parts = (data, indices.astype(np.int64), indptr.astype(np.int64))
    try:
        matrix = csr_array(parts, shape=tuple(shape.tolist()))
        matrix.check_format(full_check=True)
    except (TypeError, ValueError) as error:
        raise NetworkError(f"{key} is no sparse matrix ({error}); write it with Graph.save") from error
    return matrix


def _take(left: Arrays, key: str, kinds: str) -> NDArray[np.generic]:
    if not re.fullmatch(f"[{kinds}]", left[key].dtype.kind if key in left else ""):
        found = f"holds {left[key].dtype} values" if key in left else "is missing"
        raise NetworkError(f"{key} {found}; expected the arrays that Graph.save writes")
    return left.pop(key)
