"""The ONNX operators that are read, each a function of one node's inputs and options.

Moving values about (Reshape, Transpose, Slice, ...) is one NumPy function, called on a constant itself or on the places
of a value; so constants are folded by the same lines that read layers. Batch normalisation, pooling and convolutions
are affine; the conventions are those of https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, kron

from arfj.builder import Builder, Places, Tensor, average, convolution, same_pads, windows
from arfj.errors import NetworkError
from arfj.graph import Kind

if TYPE_CHECKING:
    import onnx

Constant = NDArray[Any]
"""float64, or integers and booleans as they are."""
Value = Tensor | Constant
Operator = Callable[["Call"], list[Value]]


@dataclass
class Call:
    """One node with its inputs read.

    Attributes:
        builder: takes the new nodes.
        opset: version of the operator set.
        inputs: None for one that is left out.
        attributes: emptied as they are read; what is left was not understood.
        outputs: how many outputs the file names.
    """

    builder: Builder
    opset: int
    inputs: list[Value | None]
    attributes: dict[str, Any]
    outputs: int

    def option(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """The attribute, or the default."""
        value = self.attributes.pop(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def input(self, index: int) -> Value:
        """The input; a missing one is an error."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise NetworkError(f"its input {index} is missing")
        return value

    def tensor(self, index: int = 0) -> Tensor:
        """The input as a value of the graph."""
        value = self.input(index)
        if not isinstance(value, Tensor):
            raise NetworkError(f"its input {index} is constant; expected one that depends on the network's input")
        return value

    def constant(self, index: int) -> Constant:
        """The input as a constant."""
        value = self.input(index)
        if isinstance(value, Tensor):
            raise NetworkError(f"its input {index} depends on the network's input; expected a constant")
        return value

    def argument(self, index: int, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """What is an attribute in older operator sets and a constant input in newer ones."""
        if name in self.attributes:
            return self.option(name)
        given = index < len(self.inputs) and self.inputs[index] is not None
        return self.constant(index) if given else default

    def image(self) -> Tensor:
        """The input of shape (1, channels, *space)."""
        value = self.tensor()
        if len(value.shape) < 3 or value.shape[0] != 1:
            raise NetworkError(f"its input has shape {value.shape}; expected (1, channels, height, width)")
        return value


def constant_of(tensor: onnx.TensorProto) -> Constant:
    """The numbers of a tensor: floats as float64, integers and booleans as they are."""
    from onnx.numpy_helper import to_array

    try:
        array = to_array(tensor)
    except Exception as error:  # onnx lets TypeError, ValueError and others of NumPy through
        raise NetworkError(f"tensor {tensor.name} is broken ({type(error).__name__}); export it again") from error
    return _number(array, f"tensor {tensor.name}")


def _number(array: Constant, what: str) -> Constant:
    if array.dtype in (np.float32, np.float64):
        return array.astype(np.float64)
    if array.dtype.kind not in "iub":
        raise NetworkError(f"{what} holds {array.dtype} values; expected float32 or float64")
    return array


def _moved(value: Value, function: Callable[[Constant], Constant], builder: Builder) -> Value:
    if isinstance(value, Tensor):
        return builder.take(value, function(value.places))
    return function(value)


def _moving(function: Callable[[Call], Callable[[Constant], Constant]]) -> Operator:
    """The operator that moves the values of its first input as the function says."""
    return lambda call: [_moved(call.input(0), function(call), call.builder)]


def _integers(values: Any) -> list[int]:  # noqa: ANN401
    return [int(value) for value in np.asarray(values).ravel()]


def _reshape(call: Call) -> Callable[[Constant], Constant]:
    sizes, keep_zero = _integers(call.constant(1)), call.option("allowzero", 0)
    before = _shape_of(call.input(0))
    shape = [before[k] if size == 0 and not keep_zero else size for k, size in enumerate(sizes)]
    return lambda array: array.reshape(shape)


def _shape_of(value: Value) -> tuple[int, ...]:
    return tuple(value.shape)


def _flatten(call: Call) -> Callable[[Constant], Constant]:
    shape, axis = _shape_of(call.input(0)), call.option("axis", 1)
    return lambda array: array.reshape(int(np.prod(shape[:axis])), -1)


def _transpose(call: Call) -> Callable[[Constant], Constant]:
    order = call.option("perm")
    return lambda array: np.transpose(array, order)


def _squeeze(call: Call) -> Callable[[Constant], Constant]:
    axes = call.argument(1, "axes")
    return lambda array: np.squeeze(array, None if axes is None else tuple(_integers(axes)))


def _unsqueeze(call: Call) -> Callable[[Constant], Constant]:
    axes = tuple(_integers(call.argument(1, "axes")))
    return lambda array: np.expand_dims(array, axes)


def _expand(call: Call) -> Callable[[Constant], Constant]:
    shape = _integers(call.constant(1))
    return lambda array: np.broadcast_to(array, np.broadcast_shapes(array.shape, tuple(shape)))


def _slice(call: Call) -> Callable[[Constant], Constant]:
    starts, ends = _integers(call.argument(1, "starts")), _integers(call.argument(2, "ends"))
    axes = _integers(call.argument(3, "axes", range(len(starts))))
    steps = _integers(call.argument(4, "steps", [1] * len(starts)))
    cuts = [slice(None)] * len(_shape_of(call.input(0)))
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        cuts[axis] = slice(start, end, step)
    return lambda array: array[tuple(cuts)]


def _gather(call: Call) -> Callable[[Constant], Constant]:
    places, axis = call.constant(1).astype(np.int64), call.option("axis", 0)
    return lambda array: np.asarray(np.take(array, places, axis))


def _split(call: Call) -> list[Value]:
    axis, value = call.option("axis", 0), call.input(0)
    sizes = call.argument(1, "split")
    count = call.option("num_outputs", call.outputs)
    size = _shape_of(value)[axis]
    if sizes is None:
        part = -(-size // count)
        sizes = [part] * (count - 1) + [size - part * (count - 1)]
    cuts = np.cumsum(_integers(sizes))
    if cuts[-1] != size or len(cuts) != call.outputs or min(_integers(sizes)) < 1:
        raise NetworkError(f"parts of sizes {_integers(sizes)} do not make up {size} values")
    ends = [0, *cuts.tolist()]

    def part_of(start: int, end: int) -> Callable[[Constant], Constant]:
        return lambda array: np.take(array, range(start, end), axis)

    return [_moved(value, part_of(start, end), call.builder) for start, end in pairwise(ends)]


def _pad(call: Call) -> list[Value]:
    mode, sizes = call.option("mode", "constant"), _integers(call.argument(1, "pads"))
    filler = float(call.argument(2, "value", 0.0))
    source = call.tensor()
    axes = _integers(call.argument(3, "axes", range(len(source.shape))))
    if mode not in ("constant", "edge", "reflect"):
        raise NetworkError(f"mode {mode!r} is not read; expected constant, edge or reflect")
    widths = [(0, 0)] * len(source.shape)
    for axis, width in zip(axes, zip(sizes[: len(axes)], sizes[len(axes) :], strict=True), strict=True):
        widths[axis] = width
    options: dict[str, Any] = {"constant_values": -1} if mode == "constant" else {}
    places = np.pad(source.places, widths, mode, **options)
    return [call.builder.take(source, places, 1.0, np.where(places < 0, filler, 0.0))]


def _concat(call: Call) -> list[Value]:
    axis = call.option("axis")
    parts = [call.input(index) for index in range(len(call.inputs))]
    constants = [part for part in parts if not isinstance(part, Tensor)]
    if len(constants) == len(parts):
        return [np.concatenate(constants, axis)]
    nowhere = [np.full(_shape_of(part), -1) for part in parts]

    def with_places(index: int, part: Tensor) -> Places:
        return np.concatenate([*nowhere[:index], part.places, *nowhere[index + 1 :]], axis)

    terms = [(part, with_places(k, part), 1.0) for k, part in enumerate(parts) if isinstance(part, Tensor)]
    zeros = [np.zeros(part.shape) if isinstance(part, Tensor) else part for part in parts]
    return [call.builder.combine(terms, np.concatenate(zeros, axis))]


def _add(call: Call) -> list[Value]:
    one, two = call.input(0), call.input(1)
    if isinstance(one, Tensor):
        return [call.builder.add(one, two) if isinstance(two, Tensor) else call.builder.scale(one, 1.0, two)]
    return [call.builder.scale(two, 1.0, one) if isinstance(two, Tensor) else one + two]


def _sub(call: Call) -> list[Value]:
    one, two = call.input(0), call.input(1)
    if isinstance(one, Tensor):
        return [call.builder.add(one, two, -1.0) if isinstance(two, Tensor) else call.builder.scale(one, 1.0, -two)]
    return [call.builder.scale(two, -1.0, one) if isinstance(two, Tensor) else one - two]


def _mul(call: Call) -> list[Value]:
    one, two = call.input(0), call.input(1)
    if isinstance(one, Tensor):
        return [call.builder.scale(one, call.constant(1))]
    return [call.builder.scale(two, one) if isinstance(two, Tensor) else one * two]


def _div(call: Call) -> list[Value]:
    one, two = call.input(0), call.constant(1)
    if np.any(two == 0):
        raise NetworkError("it divides by 0; export the network again")
    if isinstance(one, Tensor):
        return [call.builder.scale(one, 1.0 / two)]
    # ONNX divides integers towards 0.
    whole = one.dtype.kind in "iu"
    return [np.trunc(one / two).astype(one.dtype) if whole else one / two]


def _sum(call: Call) -> list[Value]:
    total = call.input(0)
    for index in range(1, len(call.inputs)):
        pair = Call(call.builder, call.opset, [total, call.input(index)], {}, 1)
        total = _add(pair)[0]
    return [total]


def _negative(call: Call) -> list[Value]:
    value = call.input(0)
    return [call.builder.scale(value, -1.0) if isinstance(value, Tensor) else -value]


def _product(builder: Builder, one: Value, two: Value) -> Value:
    """NumPy's matmul of a value and a constant."""
    if isinstance(one, Tensor) and isinstance(two, Tensor):
        raise NetworkError("it multiplies two values that depend on the input; expected a constant matrix")
    if isinstance(one, Tensor):
        return _value_times_matrix(builder, one, np.asarray(two, dtype=np.float64))
    if isinstance(two, Tensor):
        return _matrix_times_value(builder, np.asarray(one, dtype=np.float64), two)
    return np.asarray(one @ two)


def _value_times_matrix(builder: Builder, value: Tensor, matrix: Constant) -> Tensor:
    if matrix.ndim != 2 or not value.shape or value.shape[-1] != matrix.shape[0]:
        raise NetworkError(f"a value of shape {value.shape} and a matrix of shape {matrix.shape} do not fit")
    rows, shape = value.size // matrix.shape[0], (*value.shape[:-1], matrix.shape[1])
    if rows == 1:
        return builder.linear(value, matrix, 0.0, shape)
    return builder.sparse(value, csr_array(kron(np.eye(rows), matrix, format="csr")), 0.0, shape)


def _matrix_times_value(builder: Builder, matrix: Constant, value: Tensor) -> Tensor:
    if matrix.ndim != 2 or not value.shape:
        raise NetworkError(f"a matrix of shape {matrix.shape} and a value of shape {value.shape} do not fit")
    columns = value.shape[-1] if len(value.shape) > 1 else 1
    if value.size != matrix.shape[1] * columns or (len(value.shape) > 1 and value.shape[-2] != matrix.shape[1]):
        raise NetworkError(f"a matrix of shape {matrix.shape} and a value of shape {value.shape} do not fit")
    shape = (*value.shape[:-2], matrix.shape[0], columns) if len(value.shape) > 1 else (matrix.shape[0],)
    if columns == 1:
        return builder.linear(value, matrix.T, 0.0, shape)
    return builder.sparse(value, csr_array(kron(matrix.T, np.eye(columns), format="csr")), 0.0, shape)


def _matmul(call: Call) -> list[Value]:
    return [_product(call.builder, call.input(0), call.input(1))]


def _gemm(call: Call) -> list[Value]:
    alpha, beta = call.option("alpha", 1.0), call.option("beta", 1.0)
    sides = [call.input(0), call.input(1)]
    for place, name in enumerate(("transA", "transB")):
        if call.option(name, 0):
            sides[place] = _moved(sides[place], np.transpose, call.builder)
    constant = int(isinstance(sides[0], Tensor))  # the side of the weight
    sides[constant] = sides[constant] if isinstance(sides[constant], Tensor) else sides[constant] * alpha
    result = _product(call.builder, *sides)
    if len(call.inputs) < 3 or call.inputs[2] is None:
        return [result]
    bias = call.input(2)
    bias = call.builder.scale(bias, beta) if isinstance(bias, Tensor) else bias * beta
    return _add(Call(call.builder, call.opset, [result, bias], {}, 1))


def _pads(call: Call, space: Sequence[int], spans: Sequence[int], strides: Sequence[int]) -> list[tuple[int, int]]:
    """(before, after) for each axis of the space, from `pads` or `auto_pad`."""
    auto, count = call.option("auto_pad", "NOTSET"), len(space)
    sizes = _integers(call.option("pads", [0] * 2 * count))
    if auto == "NOTSET":
        return list(zip(sizes[:count], sizes[count:], strict=True))
    if any(sizes) or auto not in ("VALID", "SAME_UPPER", "SAME_LOWER"):
        raise NetworkError(f"auto_pad {auto} with pads {sizes} is not read; expected one of the two")
    if auto == "VALID":
        return [(0, 0)] * count
    pads = same_pads(space, spans, strides)
    return pads if auto == "SAME_UPPER" else [(after, before) for before, after in pads]


def _reads(call: Call, source: Tensor, kernel: Sequence[int]) -> tuple[Places, tuple[int, ...]]:
    """What the windows of a convolution or pooling read, shape (channels, positions, offsets), and where they stand."""
    space = source.shape[2:]
    if len(kernel) != len(space):
        raise NetworkError(f"a kernel of shape {tuple(kernel)} does not fit an input of shape {source.shape}")
    strides = _integers(call.option("strides", [1] * len(space)))
    dilations = _integers(call.option("dilations", [1] * len(space)))
    spans = [(size - 1) * step + 1 for size, step in zip(kernel, dilations, strict=True)]
    pads = _pads(call, space, spans, strides)
    if call.option("ceil_mode", 0):
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
    reads, positions = _reads(call, source, call.option("kernel_shape"))
    shape = (1, source.shape[1], *positions)
    return [call.builder.maximum(source, reads.reshape(-1, reads.shape[-1]), shape)]


def _averaged(call: Call, source: Tensor, reads: Places, counts: Any, shape: Sequence[int]) -> list[Value]:  # noqa: ANN401
    places = np.arange(int(np.prod(reads.shape[:2]))).reshape(reads.shape[:2])
    return [call.builder.sparse(source, average(reads, counts, source.size, places), 0.0, shape)]


def _average_pool(call: Call) -> list[Value]:
    source, padding_counts = call.image(), call.option("count_include_pad", 0)
    reads, positions = _reads(call, source, call.option("kernel_shape"))
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
    axes = _integers(call.argument(1, "axes", []))
    if call.option("noop_with_empty_axes", 0) and not axes:
        return [source]
    count = len(source.shape)
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
    return [call.builder.scale(source, factor.reshape(shape), (shift - mean * factor).reshape(shape))]


def _activation(kind: Kind) -> Operator:
    return lambda call: [call.builder.activate(call.tensor(), kind)]


def _clip(call: Call) -> list[Value]:
    lower, upper = call.argument(1, "min", -np.inf), call.argument(2, "max", np.inf)
    # Exporters write the largest float32 for no bound; at such values the sums l + ReLU(v - l) would lose v.
    bounds = [
        float(bound) if abs(float(bound)) < 1e30 else np.copysign(np.inf, float(bound)) for bound in (lower, upper)
    ]
    return [call.builder.clip(call.tensor(), *bounds)]


def _dropout(call: Call) -> list[Value]:
    for name in ("ratio", "seed"):
        call.option(name)
    if len(call.inputs) > 2 and np.any(call.constant(2)):
        raise NetworkError("training mode is not read; export the network for inference")
    return [call.input(0)]


def _cast(call: Call) -> list[Value]:
    from onnx.helper import tensor_dtype_to_np_dtype

    value, kind = call.input(0), np.dtype(tensor_dtype_to_np_dtype(call.option("to")))
    call.option("saturate")  # of 8-bit floats
    if not isinstance(value, Tensor):
        return [_number(value.astype(kind), "the result")]
    if kind not in (np.float32, np.float64):
        raise NetworkError(f"values are cast to {kind}, which rounds them; expected float32 or float64")
    return [value]


def _constant(call: Call) -> list[Value]:
    if (tensor := call.option("value")) is not None:
        return [constant_of(tensor)]
    for name in ("value_float", "value_floats", "value_int", "value_ints"):
        if name in call.attributes:
            value = np.asarray(call.option(name))
            return [value.astype(np.int64 if "int" in name else np.float64)]
    raise NetworkError("its value is no tensor of numbers; export the network again")


def _constant_of_shape(call: Call) -> list[Value]:
    tensor = call.option("value")
    value = np.zeros(1) if tensor is None else constant_of(tensor)
    return [np.full(_integers(call.constant(0)), value.ravel()[0])]


def _shape(call: Call) -> list[Value]:
    start, end = call.option("start", 0), call.option("end")
    return [np.array(_shape_of(call.input(0))[start:end], dtype=np.int64)]


def _softmax(call: Call) -> list[Value]:
    """The logits, if the probabilities are over all of them; before operator set 13 all axes from `axis` count."""
    source = call.tensor()
    axis = call.option("axis", 1 if call.opset < 13 else -1)
    size = source.shape[axis] if call.opset >= 13 else int(np.prod(source.shape[axis:]))
    if size != source.size:
        raise NetworkError(f"it is taken over {size} of {source.size} values; expected all outputs")
    return [source]


OPERATORS: dict[str, Operator] = {
    "Add": _add,
    "AveragePool": _average_pool,
    "BatchNormalization": _normalise,
    "Cast": _cast,
    "Clip": _clip,
    "Concat": _concat,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Conv": _conv,
    "Div": _div,
    "Dropout": _dropout,
    "Expand": _moving(_expand),
    "Flatten": _moving(_flatten),
    "Gather": _moving(_gather),
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "Identity": lambda call: [call.input(0)],
    "LeakyRelu": lambda call: [call.builder.leaky(call.tensor(), call.option("alpha", 0.01))],
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _mul,
    "Neg": _negative,
    "PRelu": lambda call: [call.builder.leaky(call.tensor(), call.constant(1))],
    "Pad": _pad,
    "ReduceMean": lambda call: _reduce(call, mean=True),
    "ReduceSum": lambda call: _reduce(call, mean=False),
    "Relu": _activation("relu"),
    "Reshape": _moving(_reshape),
    "Shape": _shape,
    "Sigmoid": _activation("sigmoid"),
    "Slice": _moving(_slice),
    "Softmax": _softmax,
    "Split": _split,
    "Squeeze": _moving(_squeeze),
    "Sub": _sub,
    "Sum": _sum,
    "Tanh": _activation("tanh"),
    "Transpose": _moving(_transpose),
    "Unsqueeze": _moving(_unsqueeze),
}
RESHAPING = frozenset({"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""What may follow a softmax at the end."""
