"""Operators that move values about: one NumPy function each, called on a constant or on the places of a value.

So constants (shapes, mostly) are folded by the same lines that read layers.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np

from arfj.builder import Builder, Places, Tensor, checked
from arfj.errors import NetworkError
from arfj.onnx_models.call import Call, Constant, Operator, Value, integers


def moved(value: Value, function: Callable[[Constant], Constant], builder: Builder) -> Value:
    """The function of a constant, or of the places of a value."""
    if isinstance(value, Tensor):
        return builder.take(value, function(value.places))
    return function(value)


def _moving(function: Callable[[Call], Callable[[Constant], Constant]]) -> Operator:
    """The operator that moves the values of its first input as the function says."""
    return lambda call: [moved(call.input(0), function(call), call.builder)]


def _reshape(call: Call) -> Callable[[Constant], Constant]:
    sizes, keep_zero = integers(call.constant(1)), call.option("allowzero", 0)
    before = call.input(0).shape
    shape = [before[k] if size == 0 and not keep_zero else size for k, size in enumerate(sizes)]
    return lambda array: array.reshape(shape)


def _flatten(call: Call) -> Callable[[Constant], Constant]:
    shape, axis = call.input(0).shape, call.option("axis", 1)
    return lambda array: array.reshape(int(np.prod(shape[:axis])), -1)


def _transpose(call: Call) -> Callable[[Constant], Constant]:
    order = call.option("perm")
    return lambda array: np.transpose(array, order)


def _squeeze(call: Call) -> Callable[[Constant], Constant]:
    axes = call.argument(1, "axes")
    return lambda array: np.squeeze(array, None if axes is None else tuple(integers(axes)))


def _unsqueeze(call: Call) -> Callable[[Constant], Constant]:
    axes = tuple(integers(call.argument(1, "axes")))
    return lambda array: np.expand_dims(array, axes)


def _expand(call: Call) -> Callable[[Constant], Constant]:
    shape = integers(call.constant(1))
    return lambda array: np.broadcast_to(array, np.broadcast_shapes(array.shape, tuple(shape)))


def _slice(call: Call) -> Callable[[Constant], Constant]:
    starts, ends = integers(call.argument(1, "starts")), integers(call.argument(2, "ends"))
    axes = integers(call.argument(3, "axes", range(len(starts))))
    steps = integers(call.argument(4, "steps", [1] * len(starts)))
    cuts = [slice(None)] * len(call.input(0).shape)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cuts[axis] = slice(start, end, step)
    return lambda array: array[tuple(cuts)]


def _gather(call: Call) -> Callable[[Constant], Constant]:
    places, axis = call.constant(1).astype(np.int64), call.option("axis", 0)
    return lambda array: np.asarray(np.take(array, places, axis))


def _split(call: Call) -> list[Value]:
    axis, value = call.option("axis", 0), call.input(0)
    sizes = call.argument(1, "split")
    uneven = "num_outputs" in call.attributes  # then the last part may be smaller
    count = call.option("num_outputs", call.outputs)
    size = value.shape[axis]
    if sizes is None and not uneven and size % count:
        raise NetworkError(f"{size} values do not make {count} equal parts; give their sizes")
    if sizes is None:
        part = -(-size // count)
        sizes = [part] * (count - 1) + [size - part * (count - 1)]
    cuts = np.cumsum(integers(sizes))
    if cuts[-1] != size or len(cuts) != call.outputs or min(integers(sizes)) < 1:
        raise NetworkError(f"parts of sizes {integers(sizes)} do not make up {size} values")
    ends = [0, *cuts.tolist()]

    def part_of(start: int, end: int) -> Callable[[Constant], Constant]:
        return lambda array: np.take(array, range(start, end), axis)

    return [moved(value, part_of(start, end), call.builder) for start, end in pairwise(ends)]


def _pad(call: Call) -> list[Value]:
    mode, sizes = call.option("mode", "constant"), integers(call.argument(1, "pads"))
    filler = float(call.argument(2, "value", 0.0))
    source = call.tensor()
    axes = integers(call.argument(3, "axes", range(len(source.shape))))
    if mode not in ("constant", "edge", "reflect"):
        raise NetworkError(f"mode {mode!r} is not read; expected constant, edge or reflect")
    widths = [(0, 0)] * len(source.shape)
    for axis, width in zip(axes, zip(sizes[: len(axes)], sizes[len(axes) :], strict=True), strict=True):
        widths[axis] = width
    options: dict[str, Any] = {"constant_values": -1} if mode == "constant" else {}
    places = np.pad(source.places, widths, mode, **options)
    return [call.builder.take(source, places, 1.0, np.where(places < 0, checked(filler), 0.0))]


def _concat(call: Call) -> list[Value]:
    if (axis := call.option("axis")) is None:
        raise NetworkError("its axis is missing")
    parts = [call.input(index) for index in range(len(call.inputs))]
    constants = [part for part in parts if not isinstance(part, Tensor)]
    if len(constants) == len(parts):
        return [np.concatenate(constants, axis)]
    nowhere = [np.full(part.shape, -1) for part in parts]

    def with_places(index: int, part: Tensor) -> Places:
        return np.concatenate([*nowhere[:index], part.places, *nowhere[index + 1 :]], axis)

    terms = [(part, with_places(k, part), 1.0) for k, part in enumerate(parts) if isinstance(part, Tensor)]
    zeros = [np.zeros(part.shape) if isinstance(part, Tensor) else part for part in parts]
    return [call.builder.combine(terms, np.concatenate(zeros, axis))]


def _shape(call: Call) -> list[Value]:
    start, end = call.option("start", 0), call.option("end")
    return [np.array(call.input(0).shape[start:end], dtype=np.int64)]


MOVES: dict[str, Operator] = {
    "Concat": _concat,
    "Expand": _moving(_expand),
    "Flatten": _moving(_flatten),
    "Gather": _moving(_gather),
    "Pad": _pad,
    "Reshape": _moving(_reshape),
    "Shape": _shape,
    "Slice": _moving(_slice),
    "Split": _split,
    "Squeeze": _moving(_squeeze),
    "Transpose": _moving(_transpose),
    "Unsqueeze": _moving(_unsqueeze),
}
