"""Convolutions, pooling and batch normalisation, on values of shape (1, channels, *space)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from arfj.builder import Places, Tensor, average, convolution, same_pads, windows
from arfj.errors import NetworkError
from arfj.onnx_models.call import Call, Operator, Value, integers


def _pads(call: Call, space: Sequence[int], spans: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) for each axis of the space, from `pads` or `auto_pad`."""
    auto, count = call.option("auto_pad", "NOTSET"), len(space)
    sizes = integers(call.option("pads", [0] * 2 * count))
    if auto == "NOTSET":
        return list(zip(sizes[:count], sizes[count:], strict=True))
    if any(sizes) or auto not in ("VALID", "SAME_UPPER", "SAME_LOWER"):
        raise NetworkError(f"auto_pad {auto} with pads {sizes} is not read; expected one of the two")
    if auto == "VALID":
        return [(0, 0)] * count
    pads = same_pads(space, spans, strides)
    return pads if auto == "SAME_UPPER" else [(after, before) for before, after in pads]


def _reads(call: Call, source: Tensor, kernel: Sequence[int], pooling: bool = False) -> tuple[Places, tuple[int, ...]]:
    """What the windows of a convolution or pooling read, shape (channels, positions, offsets), and where they stand."""
    space = source.shape[2:]
    if len(kernel) != len(space):
        raise NetworkError(f"a kernel of shape {tuple(kernel)} does not fit an input of shape {source.shape}")
    strides = integers(call.option("strides", [1] * len(space)))
    dilations = integers(call.option("dilations", [1] * len(space)))
    if min((*strides, *dilations), default=1) < 1:
        raise NetworkError(f"strides {list(strides)} and dilations {list(dilations)} must be 1 or more")
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    ceil, same = call.option("ceil_mode", 0), call.attributes.get("auto_pad") in (b"SAME_UPPER", b"SAME_LOWER")
    if same and (ceil or any(step != 1 for step in dilations)):  # runtimes do not agree on these, or refuse them
        raise NetworkError("auto_pad with ceil_mode or dilations is not read; export with pads")
    pads = _pads(call, space, spans, strides)
    if pooling and min(itertools.chain(*pads), default=0) < 0:
        raise NetworkError(f"a pooling with pads below 0, {[list(pad) for pad in pads]}, is none; crop its input first")
    if ceil:
        rest = [
            (size + sum(pad) - span) % step for size, pad, span, step in zip(space, pads, spans, strides, strict=True)
        ]
        if any(rest):
            raise NetworkError("ceil_mode with windows that leave the input is not read; export with ceil_mode=False")
    reads = windows(source.places[0], kernel, strides, dilations, pads)
    positions = reads.shape[1 : 1 + len(space)]
    return reads.reshape(source.shape[1], int(np.prod(positions)), -1), positions


def _conv(call: Call) -> list[Value]:
    source, weight, groups = call.image(), call.constant(1), call.option("group", 1)
    kernel = weight.shape[2:]
    if tuple(call.option("kernel_shape", kernel)) != tuple(kernel):
        raise NetworkError(f"its kernel_shape is not that of its weight, {kernel}")
    if weight.shape[1] * groups != source.shape[1] or weight.shape[0] % groups:
        raise NetworkError(
            f"a weight of shape {weight.shape} in {groups} groups does not fit {source.shape[1]} channels"
        )
    bias = call.constant(2) if len(call.inputs) > 2 and call.inputs[2] is not None else np.zeros(len(weight))
    reads, positions = _reads(call, source, kernel)
    places = np.arange(len(weight) * reads.shape[1]).reshape(len(weight), -1)
    matrix = convolution(reads, weight.reshape(*weight.shape[:2], -1), groups, source.size, places)
    shape = (1, len(weight), *positions)
    return [call.builder.sparse(source, matrix, bias.reshape(1, -1, *[1] * len(positions)), shape)]


def _max_pool(call: Call) -> list[Value]:
    source = call.image()
    call.option("storage_order")  # of the second output, which nothing reads
    reads, positions = _reads(call, source, call.option("kernel_shape"), pooling=True)
    shape = (1, source.shape[1], *positions)
    return [call.builder.maximum(source, reads.reshape(-1, reads.shape[-1]), shape)]


def _averaged(call: Call, source: Tensor, reads: Places, counts: Any, shape: Sequence[int]) -> list[Value]:  # noqa: ANN401
    places = np.arange(int(np.prod(reads.shape[:2]))).reshape(reads.shape[:2])
    return [call.builder.sparse(source, average(reads, counts, source.size, places), 0.0, shape)]


def _average_pool(call: Call) -> list[Value]:
    source, padding_counts = call.image(), call.option("count_include_pad", 0)
    reads, positions = _reads(call, source, call.option("kernel_shape"), pooling=True)
    counts = reads.shape[-1] if padding_counts else (reads >= 0).sum(axis=-1)
    return _averaged(call, source, reads, counts, (1, source.shape[1], *positions))


def _global(call: Call) -> tuple[Tensor, Places, tuple[int, ...]]:
    source = call.image()
    shape = (1, source.shape[1], *[1] * (len(source.shape) - 2))
    return source, source.places.reshape(source.shape[1], 1, -1), shape


def _global_average_pool(call: Call) -> list[Value]:
    source, reads, shape = _global(call)
    return _averaged(call, source, reads, reads.shape[-1], shape)


def _global_max_pool(call: Call) -> list[Value]:
    source, reads, shape = _global(call)
    return [call.builder.maximum(source, reads[:, 0], shape)]


def _reduce(call: Call, mean: bool) -> list[Value]:
    source, keep = call.tensor(), call.option("keepdims", 1)
    axes = integers(call.argument(1, "axes", []))
    if call.option("noop_with_empty_axes", 0) and not axes:
        return [source]
    count = len(source.shape)
    if any(not -count <= axis < count for axis in axes):
        raise NetworkError(f"axes {list(axes)} do not fit an input of shape {source.shape}")
    reduced = sorted({axis % count for axis in axes} if axes else range(count))
    kept = [axis for axis in range(count) if axis not in reduced]
    ordered = source.places.transpose(*kept, *reduced)
    reads = ordered.reshape(1, int(np.prod([source.shape[axis] for axis in kept])), -1)
    shape = [1 if axis in reduced else source.shape[axis] for axis in range(count) if keep or axis in kept]
    return _averaged(call, source, reads, reads.shape[-1] if mean else 1, shape)


def _normalise(call: Call) -> list[Value]:
    source, epsilon = call.tensor(), call.option("epsilon", 1e-5)
    scale, shift, mean, variance = (call.constant(index) for index in range(1, 5))
    if call.option("training_mode", 0) or not call.option("spatial", 1):
        raise NetworkError("training mode or spatial=0 is not read; export the network for inference")
    call.option("momentum")  # of training
    if len(source.shape) < 2 or source.shape[1] != scale.size or np.any(variance + epsilon <= 0):
        raise NetworkError(f"its {scale.size} scales and variances do not fit an input of shape {source.shape}")
    shape = (1, -1, *[1] * (len(source.shape) - 2))
    factor = scale / np.sqrt(variance + epsilon)
    centred = call.builder.scale(source, 1.0, -mean.reshape(shape))  # a large mean, in one number, would lose digits
    return [call.builder.scale(centred, factor.reshape(shape), shift.reshape(shape))]


LAYERS: dict[str, Operator] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _normalise,
    "Conv": _conv,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "MaxPool": _max_pool,
    "ReduceMean": lambda call: _reduce(call, mean=True),
    "ReduceSum": lambda call: _reduce(call, mean=False),
}
