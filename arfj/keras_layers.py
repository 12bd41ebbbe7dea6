"""The Keras layers that are read, each a function of the layer and the values it is called on.

Keras keeps channels last, so a value of shape (height, width, channels) is flat in that order. Only the exact classes
of Keras are known: a subclass may compute something else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arfj.builder import Builder, Places, Tensor, average, convolution, elu, same_pads, windows
from arfj.errors import NetworkError
from arfj.network import Floats

LEAKY_SLOPE = 0.2
"""Of `keras.activations.leaky_relu` where it is a layer's activation."""


@dataclass
class Reader:
    """What has been read so far.

    Attributes:
        keras: the module.
        builder: takes the new nodes.
        softmax: whether a softmax was read; nothing but Dropout may follow it.
    """

    keras: ModuleType
    builder: Builder
    softmax: bool = False

    def apply(self, layer: Any, values: Sequence[Tensor]) -> Tensor:  # noqa: ANN401
        """The value of a layer called on these.

        Raises:
            NetworkError: the layer, or an option of it, is not read; it is named.
        """
        kind = type(layer)
        known = {getattr(self.keras.layers, name): read for name, read in LAYERS.items()}
        try:
            if kind not in known:
                raise NetworkError(f"this layer is not read; expected {', '.join(LAYERS)}")
            if self.softmax and kind not in (self.keras.layers.InputLayer, self.keras.layers.Dropout):
                raise NetworkError("it follows a softmax, which is read at the end only")
            if len(values) != 1 and kind not in [getattr(self.keras.layers, name) for name in SEVERAL]:
                raise NetworkError(f"it has {len(values)} inputs; expected one")
            if getattr(layer, "data_format", None) not in (None, "channels_last"):
                raise NetworkError("it keeps channels first; build it with data_format='channels_last'")
            return known[kind](self, layer, *values)
        except (NetworkError, ValueError, TypeError) as error:  # NumPy's, of sizes that do not fit
            raise NetworkError(f"layer {layer.name} ({kind.__name__}): {error}") from error

    def weight(self, variable: Any) -> Floats:  # noqa: ANN401
        """A variable's numbers in float64."""
        return np.asarray(self.keras.ops.convert_to_numpy(variable), dtype=np.float64)

    def activated(self, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
        """The value after the activation that a layer has built in."""
        function, known = layer.activation, self.keras.activations
        if function is None or function is known.linear:
            return value
        for kind in ("relu", "sigmoid", "tanh"):
            if function is getattr(known, kind):
                return self.builder.activate(value, kind)
        if function is known.elu:
            return elu(self.builder, value, 1.0)
        if function is known.exponential:
            return self.builder.curved(value, "exp")
        if function is known.leaky_relu:
            return self.builder.leaky(value, LEAKY_SLOPE)
        if function is known.softmax:
            return self.softmaxed(value, -1)
        name = getattr(function, "__name__", type(function).__name__)
        raise NetworkError(
            f"activation {name}; expected relu, leaky_relu, sigmoid, tanh, linear, or softmax at the end"
        )

    def softmaxed(self, value: Tensor, axis: object) -> Tensor:
        """The logits; the softmax over them must be the last thing that the network does."""
        if axis not in (-1, len(value.shape)) or value.shape[-1] != value.size:
            raise NetworkError(f"a softmax over axis {axis} of shape {value.shape}; expected one over all outputs")
        self.softmax = True
        return value


def _same(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    return value


def _reshape(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    return value.reshaped(value.places.reshape(layer.target_shape).shape)


def _flatten(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    return value.reshaped((value.size,))


def _dense(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    if len(value.shape) != 1:
        raise NetworkError(f"it gets inputs of shape {value.shape}; put a Flatten before it")
    weight, bias = _weights(reader, layer)
    return reader.activated(layer, reader.builder.linear(value, weight, bias, (weight.shape[1],)))


def _weights(reader: Reader, layer: Any) -> tuple[Floats, Floats]:  # noqa: ANN401
    """The kernel and a bias for its last axis."""
    if getattr(layer, "quantization_mode", None) is not None:
        raise NetworkError("its weights are quantized; save the model before quantization")
    weight = reader.weight(layer.kernel)
    return weight, np.zeros(weight.shape[-1]) if layer.bias is None else reader.weight(layer.bias)


def _conv(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    weight, bias = _weights(reader, layer)
    height, width, channels, filters = weight.shape
    reads, positions = _reads(value, (height, width), layer.strides, layer.dilation_rate, layer.padding)
    places = np.arange(reads.shape[1] * filters).reshape(-1, filters).T
    kernel = weight.transpose(3, 2, 0, 1).reshape(filters, channels, -1)
    matrix = convolution(reads, kernel, layer.groups, value.size, places)
    return reader.activated(layer, reader.builder.sparse(value, matrix, bias, (*positions, filters)))


def _reads(
    value: Tensor, kernel: Sequence[int], strides: Sequence[int], dilations: Sequence[int], padding: str
) -> tuple[Places, tuple[int, ...]]:
    """What the windows read, shape (channels, positions, offsets), and how many stand along each axis."""
    space = value.shape[:-1]
    if len(space) != len(kernel) or padding not in ("valid", "same"):
        raise NetworkError(f"padding {padding} of an input of shape {value.shape}; expected (height, width, channels)")
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    pads = same_pads(space, spans, strides) if padding == "same" else [(0, 0)] * len(space)
    reads = windows(np.moveaxis(value.places, -1, 0), kernel, strides, dilations, pads)
    positions = reads.shape[1 : 1 + len(space)]
    return reads.reshape(value.shape[-1], int(np.prod(positions)), -1), positions


def _pool_reads(layer: Any, value: Tensor) -> tuple[Places, tuple[int, ...]]:  # noqa: ANN401
    return _reads(value, layer.pool_size, layer.strides, [1] * len(layer.pool_size), layer.padding)


def _max_pool(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    reads, positions = _pool_reads(layer, value)
    flat = reads.transpose(1, 0, 2).reshape(-1, reads.shape[-1])
    return reader.builder.maximum(value, flat, (*positions, value.shape[-1]))


def _average_pool(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    return _averaged(reader, value, *_pool_reads(layer, value))


def _averaged(reader: Reader, value: Tensor, reads: Places, positions: Sequence[int]) -> Tensor:
    """The mean over what each window reads; the padding does not count."""
    places = np.arange(reads.shape[0] * reads.shape[1]).reshape(-1, len(reads)).T
    matrix = average(reads, (reads >= 0).sum(axis=-1), value.size, places)
    return reader.builder.sparse(value, matrix, 0.0, (*positions, value.shape[-1]))


def _global_average_pool(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    reads = value.places.reshape(-1, value.shape[-1]).T[:, None]
    return _averaged(reader, value, reads, [1] * (len(value.shape) - 1) if layer.keepdims else [])


def _normalise(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    axes = np.atleast_1d(np.asarray(layer.axis))
    if axes.tolist() not in ([-1], [len(value.shape)]):
        raise NetworkError(f"it normalises axis {layer.axis}; expected the last one, -1")
    mean, variance = reader.weight(layer.moving_mean), reader.weight(layer.moving_variance)
    factor = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.scale:
        factor = factor * reader.weight(layer.gamma)
    offset = reader.weight(layer.beta) if layer.center else np.zeros_like(mean)
    centred = reader.builder.scale(value, 1.0, -mean)  # a large mean, taken from a large bias, would lose digits
    return reader.builder.scale(centred, factor, offset)


def _add(reader: Reader, layer: Any, *values: Tensor) -> Tensor:  # noqa: ANN401
    if len({value.shape for value in values}) != 1:
        raise NetworkError("it adds values of different shapes; expected equal ones")
    total = values[0]
    for value in values[1:]:
        total = reader.builder.add(total, value)
    return total


def _pairs(reader: Reader, values: Sequence[Tensor], join: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """All values of one shape, joined one after another."""
    if len({value.shape for value in values}) != 1:
        raise NetworkError("its inputs have different shapes; expected equal ones")
    total = values[0]
    for value in values[1:]:
        total = join(total, value)
    return total


def _largest(reader: Reader, layer: Any, *values: Tensor) -> Tensor:  # noqa: ANN401
    return _pairs(reader, values, reader.builder.larger)


def _smallest(reader: Reader, layer: Any, *values: Tensor) -> Tensor:  # noqa: ANN401
    turned = [reader.builder.scale(value, -1.0) for value in values]
    return reader.builder.scale(_pairs(reader, turned, reader.builder.larger), -1.0)


def _multiply(reader: Reader, layer: Any, *values: Tensor) -> Tensor:  # noqa: ANN401
    return _pairs(reader, values, reader.builder.product)


def _relu(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    if layer.threshold:
        raise NetworkError(f"it jumps at its threshold {layer.threshold:g}; expected threshold=0")
    value = reader.builder.leaky(value, float(layer.negative_slope))
    return value if layer.max_value is None else reader.builder.clip(value, -np.inf, float(layer.max_value))


def _leaky(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    return reader.builder.leaky(value, float(layer.negative_slope))


def _pad(reader: Reader, layer: Any, value: Tensor) -> Tensor:  # noqa: ANN401
    places: NDArray[np.int64] = np.pad(value.places, [*layer.padding, (0, 0)], constant_values=-1)
    return reader.builder.take(value, places)


SEVERAL = ("Add", "Maximum", "Minimum", "Multiply")
"""Layers of several inputs."""
LAYERS: dict[str, Callable[..., Tensor]] = {
    "Activation": lambda reader, layer, value: reader.activated(layer, value),
    "Add": _add,
    "AveragePooling2D": _average_pool,
    "BatchNormalization": _normalise,
    "Conv2D": _conv,
    "Dense": _dense,
    "Dropout": _same,
    "ELU": lambda reader, layer, value: elu(reader.builder, value, float(layer.alpha)),
    "Flatten": _flatten,
    "GlobalAveragePooling2D": _global_average_pool,
    "InputLayer": _same,
    "LeakyReLU": _leaky,
    "MaxPooling2D": _max_pool,
    "Maximum": _largest,
    "Minimum": _smallest,
    "Multiply": _multiply,
    "ReLU": _relu,
    "Reshape": _reshape,
    "Softmax": lambda reader, layer, value: reader.softmaxed(value, layer.axis),
    "ZeroPadding2D": _pad,
}
