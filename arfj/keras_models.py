"""Keras models of Dense layers as networks: read from `.keras` and `.h5` files, or converted from a live model.

A model is followed from its output back to its input, as a chain of layers. Softmax at the end is dropped (the outputs
are then the logits), a linear hidden layer is merged into the next one, and what has no exact encoding is refused by
name.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from arfj.errors import NetworkError
from arfj.network import Dense, Floats, Network

_KNOWN = "Dense, Flatten, ReLU, Activation (relu, linear, softmax), Dropout, Input, softmax at the end"


def import_keras() -> ModuleType:
    """Keras 3, on TensorFlow unless `$KERAS_BACKEND` says otherwise, without the log lines of its start.

    Raises:
        NetworkError: it is not installed.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" in sys.modules:
        return sys.modules["keras"]
    try:
        with _silent_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import keras
    except ImportError as error:
        raise NetworkError(f"this needs Keras and TensorFlow ({error}); pip install 'arfj[train]'") from error
    module: ModuleType = keras
    return module


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: TensorFlow's first log lines obey no setting and no Python stream."""
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)


def read_keras(path: str | os.PathLike[str]) -> Network:
    """Read a `.keras` or `.h5` file without running any code that it holds.

    Raises:
        NetworkError: Keras is missing; the file is missing, broken, holds Lambda layers, or is no such chain.
    """
    name = Path(path)
    if not name.is_file():
        raise NetworkError(f"{name} does not exist or is no file; give the path of a .keras or .h5 file")
    keras = import_keras()
    try:
        if "Lambda" in _class_names(name):
            raise NetworkError("Lambda layers hold code, which is refused; build the model of plain layers")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = keras.saving.load_model(name, compile=False, safe_mode=True)
        return from_keras(model)
    except NetworkError as error:
        raise NetworkError(f"{name}: {error}") from error
    except Exception as error:  # Keras lets errors of h5py, zipfile, json and of every layer's constructor through
        said = (str(error).strip().splitlines() or [""])[0]
        raise NetworkError(
            f"{name} is broken or no Keras model ({type(error).__name__}: {said}); save it again"
        ) from error


def _class_names(path: Path) -> set[str]:
    """All classes that a file names: old versions of Keras run the Lambdas of `.h5` files even in their safe mode."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            config = archive.read("config.json")
    else:
        import h5py

        with h5py.File(path, "r") as file:
            config = file.attrs["model_config"]
    return set(_names_in(json.loads(config)))


def _names_in(config: object) -> Iterator[str]:
    if isinstance(config, dict):
        name = config.get("class_name")
        yield from [name] if isinstance(name, str) else []
        # Keras writes a bare lambda function as such an object.
        yield from ["Lambda"] if name == "__lambda__" else []
    children: Iterable[object] = (
        config.values() if isinstance(config, dict) else config if isinstance(config, list) else ()
    )
    for child in children:
        yield from _names_in(child)


def from_keras(model: Any) -> Network:  # noqa: ANN401 - Keras has no types
    """The network that a Sequential model, or a functional one that is a single chain, computes.

    Raises:
        NetworkError: it is not built, it is no chain, or a layer is of a kind that has no exact encoding.
    """
    keras = import_keras()
    if not isinstance(model, keras.Model) or not getattr(model, "built", False):
        raise NetworkError("expected a built Keras model; give it an Input layer")
    layers = _chain(keras, model)
    shape = tuple(model.input_shape[1:])
    if any(size is None for size in shape):
        raise NetworkError(f"the input shape {shape} is open; expected fixed sizes")
    chain = _Chain(shape)
    for layer in layers:
        _add(keras, chain, layer)
    return chain.network()


def _chain(keras: ModuleType, model: Any) -> list[Any]:  # noqa: ANN401
    """The layers from the input to the output, models inside of the model unfolded."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs or len(inputs) != 1 or len(outputs) != 1:
        raise NetworkError("expected a Sequential or functional model with one input and one output")
    layers: list[Any] = []
    tensor = outputs[0]
    while tensor is not inputs[0]:
        layer, node, _ = tensor._keras_history
        sources = layer._inbound_nodes[node].input_tensors
        if len(sources) != 1:
            raise NetworkError(
                f"layer {layer.name} ({type(layer).__name__}) has {len(sources)} inputs; expected a chain"
            )
        layers = [*(_chain(keras, layer) if isinstance(layer, keras.Model) else [layer]), *layers]
        tensor = sources[0]
    return layers


@dataclass
class _Chain:
    """What has been read so far: finished layers, then an affine map that waits for its activation."""

    input_shape: tuple[int, ...]
    shape: tuple[int, ...] = ()
    done: list[Dense] = field(default_factory=list)
    affine: tuple[Floats, Floats] | None = None
    softmax: bool = False

    def __post_init__(self) -> None:
        self.shape = self.input_shape

    def dense(self, weight: Floats, bias: Floats) -> None:
        """x W + b; after another affine map (W1, b1) it is x (W1 W) + (b1 W + b)."""
        if self.affine is not None:
            weight, bias = self.affine[0] @ weight, self.affine[1] @ weight + bias
        self.affine = (weight, bias)
        self.shape = bias.shape

    def relu(self) -> None:
        """max(x, 0); twice is once."""
        if self.affine is not None:
            self.done.append(Dense(*self.affine, "relu"))
            self.affine = None
        elif not self.done:
            raise NetworkError("a ReLU stands before the first Dense layer; remove it")

    def network(self) -> Network:
        """The network, linear at the end where no ReLU follows the last Dense layer."""
        if self.affine is not None:
            self.done.append(Dense(*self.affine, "linear"))
        if not self.done:
            raise NetworkError("the model has no Dense layer")
        return Network(tuple(self.done), self.input_shape)


def _add(keras: ModuleType, chain: _Chain, layer: Any) -> None:  # noqa: ANN401
    """Append one layer of the model; exact types only, since a subclass may compute something else."""
    kinds, kind = keras.layers, type(layer)
    if kind in (kinds.InputLayer, kinds.Dropout):
        return
    if chain.softmax:
        raise NetworkError(f"layer {layer.name} ({kind.__name__}) follows a softmax; softmax is read at the end only")
    if kind is kinds.Flatten and layer.data_format == "channels_last":
        chain.shape = (int(np.prod(chain.shape)),)
    elif kind is kinds.Dense and getattr(layer, "quantization_mode", None) is None:
        _add_dense(keras, chain, layer)
    elif kind is kinds.ReLU and (layer.max_value, layer.negative_slope, layer.threshold) == (None, 0, 0):
        chain.relu()
    elif kind is kinds.Activation:
        _activate(keras, chain, layer)
    elif kind is kinds.Softmax and layer.axis in (-1, len(chain.shape)):
        chain.softmax = True
    else:
        raise NetworkError(f"layer {layer.name} ({kind.__name__}) with these options is not read; expected {_KNOWN}")


def _add_dense(keras: ModuleType, chain: _Chain, layer: Any) -> None:  # noqa: ANN401
    if len(chain.shape) != 1:
        raise NetworkError(f"layer {layer.name} (Dense) gets inputs of shape {chain.shape}; put a Flatten before it")
    weight = np.asarray(keras.ops.convert_to_numpy(layer.kernel), dtype=np.float64)
    bias = np.zeros(weight.shape[1])
    if layer.bias is not None:
        bias = np.asarray(keras.ops.convert_to_numpy(layer.bias), dtype=np.float64)
    chain.dense(weight, bias)
    _activate(keras, chain, layer)


def _activate(keras: ModuleType, chain: _Chain, layer: Any) -> None:  # noqa: ANN401
    function = layer.activation
    if function is keras.activations.relu:
        chain.relu()
    elif function is keras.activations.softmax:
        chain.softmax = True
    elif function is not keras.activations.linear and function is not None:
        name = getattr(function, "__name__", type(function).__name__)
        raise NetworkError(
            f"layer {layer.name} has the activation {name}; expected relu, linear, or softmax at the end"
        )
