"""All ONNX operators that are read, each a function of one node; here those of arithmetic and activations.

The conventions are those of https://onnx.ai/onnx/operators.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_array, kron

from arfj.builder import NO_BOUND, Builder, Tensor, checked, elu
from arfj.errors import NetworkError
from arfj.graph import Kind
from arfj.onnx_models.call import Call, Constant, Operator, Value, constant_of, integers, number
from arfj.onnx_models.layers import LAYERS
from arfj.onnx_models.moves import MOVES, moved


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
        return [call.builder.product(one, two) if isinstance(two, Tensor) else call.builder.scale(one, two)]
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


def _largest(call: Call) -> list[Value]:
    """max of all inputs, pair by pair: max(v, c) = c + ReLU(v - c) for a constant c."""
    total = call.input(0)
    for index in range(1, len(call.inputs)):
        total = _larger(call.builder, total, call.input(index))
    return [total]


def _larger(builder: Builder, one: Value, two: Value) -> Value:
    if not isinstance(one, Tensor):
        return np.maximum(one, two) if not isinstance(two, Tensor) else _larger(builder, two, one)
    if isinstance(two, Tensor):
        return builder.larger(one, two)
    if np.all(two <= -NO_BOUND) and np.broadcast_shapes(one.shape, two.shape) == one.shape:
        return one
    checked(two)
    return builder.scale(builder.activate(builder.scale(one, 1.0, -two), "relu"), 1.0, two)


def _smallest(call: Call) -> list[Value]:
    """min(v, w, ..) = -max(-v, -w, ..)."""
    turned = [_turned(call.builder, call.input(index)) for index in range(len(call.inputs))]
    return [_turned(call.builder, _largest(Call(call.builder, call.opset, list(turned), {}, 1))[0])]


def _turned(builder: Builder, value: Value) -> Value:
    return builder.scale(value, -1.0) if isinstance(value, Tensor) else -value


def _absolute(call: Call) -> list[Value]:
    value = call.input(0)
    return [call.builder.absolute(value) if isinstance(value, Tensor) else np.abs(value)]


def _power(call: Call) -> list[Value]:
    """Squares alone."""
    if np.asarray(call.constant(1)).size != 1 or float(call.constant(1).ravel()[0]) != 2.0:
        raise NetworkError("a power other than 2 is not read")
    return [call.builder.curved(call.tensor(), "square")]


def _elu(call: Call) -> list[Value]:
    """ReLU(v) + a (exp(min(v, 0)) - 1) = (1 - a) ReLU(v) + a elu(v)."""
    return [elu(call.builder, call.tensor(), float(call.option("alpha", 1.0)))]


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
    return builder.sparse(value, csr_array(kron(csr_array(np.eye(rows)), csr_array(matrix), format="csr")), 0.0, shape)


def _matrix_times_value(builder: Builder, matrix: Constant, value: Tensor) -> Tensor:
    if matrix.ndim != 2 or not value.shape:
        raise NetworkError(f"a matrix of shape {matrix.shape} and a value of shape {value.shape} do not fit")
    columns = value.shape[-1] if len(value.shape) > 1 else 1
    if value.size != matrix.shape[1] * columns or (len(value.shape) > 1 and value.shape[-2] != matrix.shape[1]):
        raise NetworkError(f"a matrix of shape {matrix.shape} and a value of shape {value.shape} do not fit")
    shape = (*value.shape[:-2], matrix.shape[0], columns) if len(value.shape) > 1 else (matrix.shape[0],)
    if columns == 1:
        return builder.linear(value, matrix.T, 0.0, shape)
    return builder.sparse(
        value, csr_array(kron(csr_array(matrix.T), csr_array(np.eye(columns)), format="csr")), 0.0, shape
    )


def _matmul(call: Call) -> list[Value]:
    return [_product(call.builder, call.input(0), call.input(1))]


def _gemm(call: Call) -> list[Value]:
    alpha, beta = call.option("alpha", 1.0), call.option("beta", 1.0)
    sides = [call.input(0), call.input(1)]
    for place, name in enumerate(("transA", "transB")):
        if call.option(name, 0):
            sides[place] = moved(sides[place], np.transpose, call.builder)
    constant = int(isinstance(sides[0], Tensor))  # the side of the weight
    sides[constant] = sides[constant] if isinstance(sides[constant], Tensor) else sides[constant] * alpha
    result = _product(call.builder, *sides)
    if len(call.inputs) < 3 or call.inputs[2] is None:
        return [result]
    bias = call.input(2)
    bias = call.builder.scale(bias, beta) if isinstance(bias, Tensor) else bias * beta
    return _add(Call(call.builder, call.opset, [result, bias], {}, 1))


def _activation(kind: Kind) -> Operator:
    return lambda call: [call.builder.activate(call.tensor(), kind)]


def _clip(call: Call) -> list[Value]:
    lower, upper = call.argument(1, "min", -np.inf), call.argument(2, "max", np.inf)
    return [call.builder.clip(call.tensor(), float(lower), float(upper))]


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
        return [number(value.astype(kind), "the result")]
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
    return [np.full(integers(call.constant(0)), value.ravel()[0])]


def _softmax(call: Call) -> list[Value]:
    """The logits, if the probabilities are over all of them; before operator set 13 all axes from `axis` count."""
    source = call.tensor()
    axis = call.option("axis", 1 if call.opset < 13 else -1)
    size = source.shape[axis] if call.opset >= 13 else int(np.prod(source.shape[axis:]))
    if size != source.size:
        raise NetworkError(f"it is taken over {size} of {source.size} values; expected all outputs")
    return [source]


CURVED = {"Elu", "Exp", "Pow"}
"""Operators that `Builder.curved` serves: read for distributions alone."""
OPERATORS: dict[str, Operator] = {
    **MOVES,
    **LAYERS,
    "Abs": _absolute,
    "Add": _add,
    "Cast": _cast,
    "Clip": _clip,
    "Constant": _constant,
    "ConstantOfShape": _constant_of_shape,
    "Div": _div,
    "Dropout": _dropout,
    "Elu": _elu,
    "Exp": lambda call: [call.builder.curved(call.tensor(), "exp")],
    "Gemm": _gemm,
    "Identity": lambda call: [call.input(0)],
    "LeakyRelu": lambda call: [call.builder.leaky(call.tensor(), call.option("alpha", 0.01))],
    "MatMul": _matmul,
    "Max": _largest,
    "Min": _smallest,
    "Mul": _mul,
    "Neg": _negative,
    "Pow": _power,
    "PRelu": lambda call: [call.builder.leaky(call.tensor(), call.constant(1))],
    "Relu": _activation("relu"),
    "Sigmoid": _activation("sigmoid"),
    "Softmax": _softmax,
    "Sub": _sub,
    "Sum": _sum,
    "Tanh": _activation("tanh"),
}
RESHAPING = frozenset({"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
"""What may follow a softmax at the end."""
