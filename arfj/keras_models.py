"""Keras models as networks: read from `.keras` and `.h5` files, or converted from a live model.

A model is followed from its output back to its input. Softmax at the end is dropped (the outputs are then the logits),
a linear hidden layer is merged into the next one, and what has no exact encoding is refused by name.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from arfj.builder import Builder, Tensor
from arfj.errors import NetworkError
from arfj.graph import Graph
from arfj.keras_layers import Reader
from arfj.network import Network


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


def read_keras(path: str | os.PathLike[str], builder: type[Builder] = Builder) -> Network | Graph:
    """Read a `.keras` or `.h5` file without running any code that it holds; `builder` decides what is understood.

    Raises:
        NetworkError: Keras is missing; the file is missing, broken, holds Lambda layers, or is not read.
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
        return from_keras(model, builder)
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


def from_keras(model: Any, builder: type[Builder] = Builder) -> Network | Graph:  # noqa: ANN401 - Keras has no types
    """The network that a Sequential or functional model computes at inference.

    Raises:
        NetworkError: it is not built, has several inputs or outputs, or holds a layer that is not read (named).
    """
    keras = import_keras()
    if not isinstance(model, keras.Model) or not getattr(model, "built", False):
        raise NetworkError("expected a built Keras model; give it an Input layer")
    _ends(model)
    shape = tuple(model.input_shape[1:])
    if any(size is None for size in shape):
        raise NetworkError(f"the input shape {shape} is open; expected fixed sizes")
    reader = Reader(keras, builder(shape))
    output = _output(reader, model, reader.builder.input)
    return reader.builder.finish(output, shape, reader.softmax)


def _ends(model: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """The one input and the one output of a model."""
    inputs, outputs = getattr(model, "inputs", None), getattr(model, "outputs", None)
    if not inputs or not outputs or len(inputs) != 1 or len(outputs) != 1:
        raise NetworkError("expected a Sequential or functional model with one input and one output")
    return inputs[0], outputs[0]


def _output(reader: Reader, model: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    """The output of a model called on a value, models inside of the model likewise."""
    start, end = _ends(model)
    values = {id(start): value}
    waiting = [end]
    while waiting:
        tensor = waiting[-1]
        layer, call = _made_by(tensor)
        missing = [source for source in call.input_tensors if id(source) not in values]
        if id(tensor) in values or not missing:
            waiting.pop()
        if (kind := getattr(layer, "compute_dtype", "float32")) not in ("float32", "float64", None):
            raise NetworkError(f"layer {layer.name} ({type(layer).__name__}) computes in {kind}; expected float32")
        if id(tensor) not in values and not missing:
            given = [values[id(source)] for source in call.input_tensors]
            inner = isinstance(layer, reader.keras.Model) and len(given) == 1
            values[id(tensor)] = _output(reader, layer, given[0]) if inner else reader.apply(layer, given)
        waiting.extend(missing)
    return values[id(end)]


def _made_by(tensor: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """The layer that makes a tensor, and its call."""
    layer, index, _ = tensor._keras_history
    call = layer._inbound_nodes[index]
    if any(option is not None and option is not False for option in call.arguments.kwargs.values()):
        options = ", ".join(call.arguments.kwargs)
        raise NetworkError(f"layer {layer.name} ({type(layer).__name__}) is called with {options}; expected no options")
    return layer, call
