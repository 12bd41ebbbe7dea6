"""Feed-forward networks of dense layers with ReLU, as frozen records that can be called in float64.

    x^k = max(W^(k-1)' x^(k-1) + b^k, 0)   for k = 1..K, the output layer included unless it is linear.

A network is a value: `forward`, the bounds and the encodings each read its layers; nothing changes them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arfj.errors import ArfjError, NetworkError
from arfj.files import load_arrays, save_arrays

if TYPE_CHECKING:
    from arfj.graph import Graph

Floats = NDArray[np.float64]
Activation = Literal["relu", "linear"]


@dataclass(frozen=True, eq=False)
class Dense:
    """One layer x -> activation(x W + b).

    Attributes:
        weight: W, shape (inputs, outputs), float64.
        bias: b, shape (outputs,), float64.
        activation: "relu", or "linear" (only the last layer of a network may be linear).
    """

    weight: Floats
    bias: Floats
    activation: Activation = "relu"

    def __post_init__(self) -> None:
        weight = frozen(self.weight, "a weight matrix")
        bias = frozen(self.bias, "a bias vector")
        if weight.ndim != 2 or 0 in weight.shape:
            raise NetworkError(f"a weight has shape {weight.shape}; expected (inputs, outputs), both at least 1")
        if bias.shape != (weight.shape[1],):
            raise NetworkError(
                f"a bias has shape {bias.shape}; its weight of shape {weight.shape} needs ({weight.shape[1]},)"
            )
        if self.activation not in ("relu", "linear"):
            raise NetworkError(f"activation {self.activation!r} is not known; expected 'relu' or 'linear'")
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", bias)

    @property
    def inputs(self) -> int:
        """Number of inputs."""
        return int(self.weight.shape[0])

    @property
    def outputs(self) -> int:
        """Number of neurons."""
        return int(self.weight.shape[1])


def frozen(values: ArrayLike, what: str, order: Literal["K", "C"] = "K") -> Floats:
    """A float64 copy that cannot be written to; an array that no one can write to is taken as it is.

    Raises:
        NetworkError: it does not hold finite numbers; `what` names it.
    """
    if np.iscomplexobj(values):
        raise NetworkError(f"{what} holds complex values; expected real numbers")
    try:
        array = np.asarray(values, dtype=np.float64, order=order)
    except (TypeError, ValueError) as error:
        raise NetworkError(f"{what} does not hold numbers; expected floating-point values") from error
    if not np.isfinite(array).all():
        raise NetworkError(f"{what} holds NaN or infinity; retrain or export the network again")
    if array.flags.writeable or not array.flags.owndata:
        array = np.array(array, order=order)
        array.setflags(write=False)
    return array


def batch_of(x: ArrayLike, shape: tuple[int, ...]) -> Floats:
    """Inputs of shape (batch, ...) as float64 rows of shape (batch, product of `shape`).

    Raises:
        NetworkError: another number of values, or no batch dimension.
    """
    values, size = np.asarray(x, dtype=np.float64), int(np.prod(shape))
    if values.ndim < 2 or int(np.prod(values.shape[1:])) != size:
        raise NetworkError(f"inputs of shape {values.shape} do not fit; expected (batch, {', '.join(map(str, shape))})")
    return values.reshape(len(values), size)


@dataclass(frozen=True, eq=False)
class Network:
    """A classifier of dense layers.

    Attributes:
        layers: at least one `Dense`; only the last may be linear.
        input_shape: the shape of one input; its product is the inputs of the first layer. Default: flat.
        softmax: whether its file ends in a softmax over these outputs, which was taken off.

    Raises:
        NetworkError: layers that do not chain, or an input shape that does not fit.
    """

    layers: tuple[Dense, ...]
    input_shape: tuple[int, ...] = ()
    softmax: bool = False

    def __post_init__(self) -> None:
        if not self.layers:
            raise NetworkError("a network needs at least one layer")
        for index, (one, two) in enumerate(zip(self.layers, self.layers[1:], strict=False)):
            if one.outputs != two.inputs:
                raise NetworkError(f"layer {index} gives {one.outputs} values, layer {index + 1} takes {two.inputs}")
            if one.activation != "relu":
                raise NetworkError(f"hidden layer {index} is linear; merge it into the next one")
        shape = self.input_shape or (self.layers[0].inputs,)
        if min(shape) < 1 or int(np.prod(shape)) != self.layers[0].inputs:
            raise NetworkError(
                f"input shape {shape} does not have the {self.layers[0].inputs} values of the first layer"
            )
        object.__setattr__(self, "input_shape", tuple(int(size) for size in shape))

    @classmethod
    def from_arrays(
        cls, weights: Iterable[ArrayLike], biases: Iterable[ArrayLike], output_activation: Activation = "relu"
    ) -> Network:
        """The network with these weights (inputs, outputs) and biases, ReLU after every layer but perhaps the last."""
        pairs = [(np.asarray(weight), np.asarray(bias)) for weight, bias in zip(weights, biases, strict=True)]
        last = len(pairs) - 1
        return cls(tuple(Dense(w, b, output_activation if k == last else "relu") for k, (w, b) in enumerate(pairs)))

    @property
    def sizes(self) -> tuple[int, ...]:
        """n_0..n_K: the number of inputs, then of neurons layer by layer."""
        return (self.layers[0].inputs, *(layer.outputs for layer in self.layers))

    @property
    def inputs(self) -> int:
        """n_0, the number of input values."""
        return self.layers[0].inputs

    @property
    def classes(self) -> int:
        """n_K, the number of classes."""
        return self.layers[-1].outputs

    def preactivations(self, x: ArrayLike) -> list[Floats]:
        """W' x + b of every layer, shapes (batch, n_k), k = 1..K, for inputs of shape (batch, ...)."""
        value = batch_of(x, self.input_shape)
        result: list[Floats] = []
        for layer in self.layers:
            before = value @ layer.weight + layer.bias
            result.append(before)
            value = np.maximum(before, 0.0)
        return result

    def __call__(self, x: ArrayLike) -> Floats:
        """Output activations in float64: (batch, ...) -> (batch, classes)."""
        last = self.preactivations(x)[-1]
        return np.maximum(last, 0.0) if self.layers[-1].activation == "relu" else last

    def probabilities(self, x: ArrayLike) -> Floats:
        """softmax of the outputs: (batch, ...) -> (batch, classes), rows summing to one."""
        return softmax(self(x))

    def classify(self, x: ArrayLike) -> NDArray[np.intp]:
        """The class of the largest output (the first of them in a tie): (batch, ...) -> (batch,)."""
        return np.asarray(np.argmax(self(x), axis=1))

    def graph(self) -> Graph:
        """The same network as affine maps and activations."""
        from arfj.graph import Activation, Affine, Graph, Node

        nodes: list[Node] = []
        for layer in self.layers:
            nodes.append(Affine((len(nodes),), (layer.weight,), layer.bias))
            if layer.activation == "relu":
                nodes.append(Activation(len(nodes), "relu"))
        return Graph(self.inputs, tuple(nodes), self.input_shape, self.softmax)

    def parameters(self) -> Floats:
        """All weights and biases as one vector W0, b0, W1, b1, ... (float64)."""
        return np.concatenate([part.ravel() for layer in self.layers for part in (layer.weight, layer.bias)])

    def with_parameters(self, vector: ArrayLike) -> Network:
        """The same architecture with the parameters of `vector` (order of `parameters`).

        Raises:
            NetworkError: another number of parameters.
        """
        values = np.asarray(vector, dtype=np.float64)
        expected = sum(layer.weight.size + layer.bias.size for layer in self.layers)
        if values.shape != (expected,):
            raise NetworkError(f"parameters of shape {values.shape} do not fit; this network has ({expected},)")
        layers: list[Dense] = []
        at = 0
        for layer in self.layers:
            size = layer.weight.size
            weight = values[at : at + size].reshape(layer.weight.shape)
            bias = values[at + size : at + size + layer.outputs]
            layers.append(Dense(weight, bias, layer.activation))
            at += size + layer.outputs
        return replace(self, layers=tuple(layers))

    def fingerprint(self) -> str:
        """SHA-256 over sizes, activations and parameters: equal for equal networks."""
        digest = hashlib.sha256(repr((self.sizes, self.layers[-1].activation)).encode())
        digest.update(self.parameters().astype("<f8").tobytes())
        return digest.hexdigest()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `.npz` in float64: W0, b0, W1, b1, ..., output_activation, input_shape, `softmax` if true. Atomic.

        Raises:
            ArfjError: the file cannot be written.
        """
        arrays: dict[str, NDArray[np.generic]] = {}
        for k, layer in enumerate(self.layers):
            arrays[f"W{k}"], arrays[f"b{k}"] = layer.weight, layer.bias
        arrays["output_activation"] = np.array(self.layers[-1].activation)
        arrays["input_shape"] = np.array(self.input_shape, dtype=np.int64)
        if self.softmax:
            arrays["softmax"] = np.array(True)
        save_arrays(path, arrays)


def softmax(outputs: ArrayLike) -> Floats:
    """exp(o_j) / sum_i exp(o_i) along the last axis, safe for large outputs."""
    values = np.asarray(outputs, dtype=np.float64)
    powers = np.exp(values - values.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def load_network(path: str | os.PathLike[str]) -> Network | Graph:
    """Read a network: `Network` where it is a chain of dense layers with ReLU, else `Graph`.

    `.npz` is read at once, `.onnx` and `.onnx.gz` with onnx, `.keras` and `.h5` with Keras.

    Raises:
        NetworkError: the file is missing, broken, holds pickles, or is of a kind that is not supported.
    """
    name = Path(path)
    match name.suffix.lower():
        case ".npz":
            return _read_npz(name)
        case ".keras" | ".h5":
            from arfj.keras_models import read_keras

            return read_keras(name)
        case ".onnx" | ".gz" if name.name.lower().removesuffix(".gz").endswith(".onnx"):
            from arfj.onnx_models import read_onnx

            return read_onnx(name)
        case suffix:
            known = ".npz, .onnx, .onnx.gz, .keras or .h5"
            raise NetworkError(f"{name}: {suffix or 'no suffix'} is not read; expected {known}")


def load_dense(path: str | os.PathLike[str]) -> Network:
    """Read a network that must be a chain of dense layers with ReLU; convolutions in a chain are made dense.

    Raises:
        NetworkError: as `load_network`, or it is no such chain (the first node that does not fit is named).
    """
    network = load_network(path)
    if isinstance(network, Network):
        return network
    chain = network.dense_chain()
    if chain is None:
        raise NetworkError(
            f"{path}: {network.obstacle()}; expected a chain of dense layers with ReLU, linear at most at the end"
        )
    return chain


def _read_npz(path: Path) -> Network | Graph:
    try:
        arrays = load_arrays(path)
    except ArfjError as error:
        raise NetworkError(str(error)) from error
    if "nodes" in arrays:
        return _read_graph(path, arrays)
    count = sum(re.fullmatch(r"W\d+", key) is not None for key in arrays)
    expected = {f"{letter}{k}" for letter in "Wb" for k in range(count)}
    optional = {"output_activation", "input_shape", "softmax"}
    if count == 0 or expected - arrays.keys() or arrays.keys() - expected - optional:
        found = ", ".join(sorted(arrays)) or "nothing"
        raise NetworkError(f"{path} holds {found}; expected W0, b0, W1, b1, ... and perhaps output_activation")
    activation = str(arrays.get("output_activation", np.array("relu")))
    shape = arrays.get("input_shape")
    try:
        if activation not in ("relu", "linear"):
            raise NetworkError(f"output_activation {activation!r} is not known; expected 'relu' or 'linear'")
        for key in expected:
            if arrays[key].dtype.kind not in "fiu":
                raise NetworkError(f"{key} holds {arrays[key].dtype} values; expected real numbers")
        network = Network.from_arrays(
            [arrays[f"W{k}"] for k in range(count)],
            [arrays[f"b{k}"] for k in range(count)],
            "relu" if activation == "relu" else "linear",
        )
        network = replace(network, softmax=softmax_of(arrays))
        if shape is None:
            return network
        if shape.ndim > 1 or not np.issubdtype(shape.dtype, np.integer):
            raise NetworkError("input_shape must be a list of integers")
        return replace(network, input_shape=tuple(shape.ravel().tolist()))
    except (NetworkError, TypeError, ValueError) as error:
        raise NetworkError(f"{path}: {error}") from error


def softmax_of(arrays: Mapping[str, NDArray[np.generic]]) -> bool:
    """Whether the file of a network says that it ended in a softmax.

    Raises:
        NetworkError: it says neither yes nor no.
    """
    given = arrays.get("softmax", np.array(False))
    if given.dtype.kind != "b" or given.size != 1:
        raise NetworkError(f"softmax holds {given.dtype} values of shape {given.shape}; expected true or false")
    return bool(given.ravel()[0])


def _read_graph(path: Path, arrays: dict[str, NDArray[np.generic]]) -> Graph:
    from arfj.graph import graph_from_arrays

    try:
        return graph_from_arrays(arrays)
    except (NetworkError, TypeError, ValueError, OverflowError) as error:
        raise NetworkError(f"{path}: {error}") from error
