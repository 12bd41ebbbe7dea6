"""ONNX files: the forward pass agrees with ONNX Runtime's operator by operator, and all else is refused in one line."""

import copy
import gzip
import itertools
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arfj.errors import NetworkError
from arfj.graph import Activation, Graph
from arfj.network import Network, load_dense, load_network
from arfj.onnx_models import from_onnx, read_onnx

onnx = pytest.importorskip("onnx", reason="needs pip install 'arfj[verify]'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs pip install 'arfj[verify]'")
FLOAT, INT64 = onnx.TensorProto.FLOAT, onnx.TensorProto.INT64
VNNCOMP = Path(__file__).parents[2] / "shared" / "data" / "vnncomp"
IMAGE, FLAT = (1, 3, 7, 6), (1, 6)


def constants(given, seed=0):
    """Tuples are shapes of random weights; lists are integers; arrays are themselves."""
    rng = np.random.default_rng(seed)
    for name, value in given.items():
        if isinstance(value, tuple):
            value = rng.normal(size=value).astype(np.float32)  # noqa: PLW2901
        elif isinstance(value, list):
            value = np.array(value, dtype=np.int64)  # noqa: PLW2901
        yield onnx.numpy_helper.from_array(value, name)


def model_of(nodes, shape, given=None, opset=13, listed=False, kind=FLOAT):
    """The model of the nodes, `;` between them, from x to y."""
    parsed = [onnx.parser.parse_node(node.strip()) for node in nodes.split(";")]
    tensors = list(constants(given or {}))
    inputs = [onnx.helper.make_tensor_value_info("x", kind, shape)]
    if listed:  # as files of IR version 3 must
        inputs += [onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    outputs = [onnx.helper.make_tensor_value_info("y", kind, None)]
    graph = onnx.helper.make_graph(parsed, "network", inputs, outputs, tensors)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)], ir_version=8)


def reference(model, x):
    """ONNX Runtime's outputs, one run an input."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shape = [size if isinstance(size, int) else 1 for size in session.get_inputs()[0].shape]
    kind = np.float64 if "double" in session.get_inputs()[0].type else np.float32
    return np.array([session.run(None, {"x": row.astype(kind).reshape(shape)})[0].ravel() for row in x])


def check(model, seed=1):
    """Read the model, compare with ONNX Runtime on inputs of both signs, and return the network."""
    network = from_onnx(model)
    x = np.random.default_rng(seed).normal(size=(6, *network.input_shape)).astype(np.float32)
    expected = reference(model, x)
    np.testing.assert_allclose(network(x), expected, rtol=1e-5, atol=2e-6 * max(1.0, np.abs(expected).max()))
    return network


FINITE = np.array([0.5, 2.0, 1.5], dtype=np.float32)
IMAGES = {
    "Conv": ({"w": (4, 3, 3, 2)}, "y = Conv(x, w)"),
    "Conv, all options": (
        {"w": (4, 3, 2, 3), "b": (4,)},
        "y = Conv<pads=[1,0,2,1], strides=[2,1], dilations=[2,2], kernel_shape=[2,3]>(x, w, b)",
    ),
    "Conv, groups": ({"w": (6, 1, 3, 3), "b": (6,)}, "y = Conv<group=3, pads=[1,1,1,1], strides=[3,2]>(x, w, b)"),
    "Conv, SAME_UPPER": ({"w": (2, 3, 4, 3)}, 'y = Conv<auto_pad="SAME_UPPER", strides=[2,3]>(x, w)'),
    "Conv, SAME_LOWER": ({"w": (2, 3, 4, 2)}, 'y = Conv<auto_pad="SAME_LOWER", strides=[2,1]>(x, w)'),
    "Conv, VALID": ({"w": (2, 3, 4, 2)}, 'y = Conv<auto_pad="VALID", strides=[2,2]>(x, w)'),
    "Conv after Conv": ({"w": (2, 3, 3, 3), "v": (3, 2, 2, 2)}, "a = Conv(x, w); y = Conv(a, v)"),
    "Conv of a constant kernel": (
        {"w": (2, 3, 3, 3), "s": np.float32([2.0])},
        "v = Mul(w, s); y = Conv(x, v)",
    ),
    "BatchNormalization": (
        {"s": (3,), "b": (3,), "m": (3,), "v": FINITE},
        "y = BatchNormalization<epsilon=0.01, momentum=0.5>(x, s, b, m, v)",
    ),
    "Conv, BatchNormalization, Relu": (
        {"w": (3, 3, 3, 3), "s": (3,), "b": (3,), "m": (3,), "v": FINITE},
        "a = Conv(x, w); c = BatchNormalization(a, s, b, m, v); y = Relu(c)",
    ),
    "MaxPool": ({}, "y = MaxPool<kernel_shape=[2,2], strides=[2,2]>(x)"),
    "MaxPool, all options": (
        {},
        "y = MaxPool<kernel_shape=[3,2], pads=[1,1,2,0], strides=[2,1], dilations=[1,2]>(x)",
    ),
    "MaxPool, SAME_LOWER": ({}, 'y = MaxPool<kernel_shape=[2,3], auto_pad="SAME_LOWER", strides=[2,2]>(x)'),
    "MaxPool, ceil_mode that does nothing": (
        {},
        "y = MaxPool<kernel_shape=[3,2], strides=[2,2], ceil_mode=1>(x)",
    ),
    "AveragePool": ({}, "y = AveragePool<kernel_shape=[3,2], pads=[1,1,0,1], strides=[2,1]>(x)"),
    "AveragePool with padding": (
        {},
        "y = AveragePool<kernel_shape=[3,2], pads=[1,1,0,1], strides=[2,1], count_include_pad=1>(x)",
    ),
    "AveragePool, SAME_UPPER": ({}, 'y = AveragePool<kernel_shape=[2,2], auto_pad="SAME_UPPER", strides=[2,2]>(x)'),
    "GlobalAveragePool": ({}, "y = GlobalAveragePool(x)"),
    "GlobalMaxPool": ({}, "y = GlobalMaxPool(x)"),
    "ReduceMean": ({}, "y = ReduceMean<axes=[-1,2]>(x)"),
    "ReduceMean without keepdims": ({}, "y = ReduceMean<axes=[1], keepdims=0>(x)"),
    "ReduceMean of all": ({}, "y = ReduceMean<keepdims=0>(x)"),
    "ReduceSum": ({"a": [3]}, "y = ReduceSum(x, a)"),
    "ReduceSum of nothing": ({}, "a = ReduceSum<noop_with_empty_axes=1>(x); y = Relu(a)"),
    "Flatten": ({}, "a = Relu(x); y = Flatten(a)"),
    "Flatten, axis 0": ({}, "a = Relu(x); y = Flatten<axis=0>(a)"),
    "Reshape": ({"s": [0, -1, 2]}, "a = Reshape(x, s); y = Relu(a)"),
    "Transpose": ({}, "y = Transpose<perm=[0,2,3,1]>(x)"),
    "Transpose and Gemm": (
        {"w": (126, 4)},
        "a = Transpose<perm=[0,3,1,2]>(x); b = Flatten(a); y = Gemm(b, w)",
    ),
    "Slice": (
        {"s": [-1, 1], "e": [-100, 5], "a": [3, 2], "d": [-2, 3]},
        "y = Slice(x, s, e, a, d)",
    ),
    "Split": ({"p": [2, 4]}, "a, b = Split<axis=3>(x, p); c = Relu(b); y = Concat<axis=3>(c, a)"),
    "Split in equal parts": ({}, "a, b, c = Split<axis=1>(x); y = Sub(c, a)"),
    "Gather": ({"i": [2, 0, -1]}, "y = Gather<axis=1>(x, i)"),
    "Gather one": ({"i": np.int64(1)}, "y = Gather<axis=2>(x, i)"),
    "Concat with a constant": ({"c": (1, 2, 7, 6)}, "a = Relu(x); y = Concat<axis=1>(x, c, a)"),
    "Pad": ({"p": [0, 0, 1, 2, 0, 1, 0, 3], "c": np.float32(-0.5)}, "y = Pad(x, p, c)"),
    "Pad, reflect": ({"p": [0, 0, 1, 2, 0, 0, 0, 3]}, 'y = Pad<mode="reflect">(x, p)'),
    "Pad, edge": ({"p": [0, 0, 1, 2, 0, 0, 0, 3]}, 'y = Pad<mode="edge">(x, p)'),
    "Squeeze and Unsqueeze": (
        {"a": [0, 2], "b": [0], "c": [2, 4]},
        "g = GlobalAveragePool(x); h = Squeeze(g, c2); i = Unsqueeze(h, a); j = Relu(i); y = Squeeze(j, a2)",
    ),
    "Expand": ({"s": [2, 1, 3, 1, 1]}, "a = GlobalAveragePool(x); b = Expand(a, s); y = Reshape(b, r)"),
    "LeakyRelu": ({}, "y = LeakyRelu<alpha=0.3>(x)"),
    "PRelu": ({"s": np.float32([[[0.3]], [[-1.0]], [[2.0]]])}, "y = PRelu(x, s)"),
    "Mul by channel": ({"c": (3, 1, 1)}, "y = Mul(c, x)"),
    "Conv and MaxPool in turn": (
        {"w": (4, 3, 3, 3), "b": (4,), "v": (2, 4, 2, 2)},
        "a = Conv<pads=[1,1,1,1]>(x, w, b); c = Relu(a); d = MaxPool<kernel_shape=[3,3], strides=[2,2]>(c);"
        " y = Conv(d, v)",
    ),
    "residual": (
        {"w": (3, 3, 3, 3), "v": (3, 3, 1, 1)},
        "a = Conv<pads=[1,1,1,1]>(x, w); b = Relu(a); c = Conv(b, v); d = Add(c, x); y = Relu(d)",
    ),
    "flattened by its own shape": (  # as PyTorch exports x.view(x.size(0), -1)
        {"i": np.int64(0), "m": [-1], "a": [0]},
        "s = Shape(x); n = Gather<axis=0>(s, i); u = Unsqueeze(n, a); t = Concat<axis=0>(u, m);"
        " r = Reshape(x, t); y = Relu(r)",
    ),
}  # fmt: skip
IMAGES["Squeeze and Unsqueeze"][0].update({"c2": [2, 3], "a2": [2]})
IMAGES["Expand"][0].update({"r": [1, -1]})
VECTORS = {
    "nothing but the input": ({}, "y = Identity(x)"),
    "an activation of the input": ({}, "y = Relu(x)"),
    "outputs in rows": ({"s": [2, 3]}, "y = Reshape(x, s)"),
    "outputs in another order": ({"s": [2, 3]}, "a = Reshape(x, s); y = Transpose(a)"),
    "Gemm": ({"w": (6, 4), "b": (4,)}, "y = Gemm(x, w, b)"),
    "Gemm, all options": ({"w": (4, 6), "b": (1, 4)}, "y = Gemm<alpha=0.5, beta=2.0, transB=1>(x, w, b)"),
    "Gemm, value on the right": ({"w": (6, 4), "b": (4, 1)}, "y = Gemm<alpha=3.0, transA=1, transB=1>(w, x, b)"),
    "Gemm with a value to add": ({"w": (6, 6)}, "a = Relu(x); y = Gemm<beta=-0.5>(a, w, x)"),
    "MatMul": ({"w": (6, 4)}, "y = MatMul(x, w)"),
    "MatMul, row by row": ({"w": (3, 4), "s": [1, 2, 3]}, "a = Reshape(x, s); b = MatMul(a, w); y = Relu(b)"),
    "MatMul from the left": ({"w": (5, 2), "s": [1, 2, 3]}, "a = Reshape(x, s); b = MatMul(w, a); y = Relu(b)"),
    "MatMul of a column": ({"w": (4, 6)}, "a = Transpose(x); y = MatMul(w, a)"),
    "MatMul of a vector": ({"w": (6, 4), "s": [6]}, "a = Reshape(x, s); y = MatMul(a, w)"),
    "MatMul with a vector": ({"w": (4, 6), "s": [6]}, "a = Reshape(x, s); y = MatMul(w, a)"),
    "Add and Sub": ({"c": (6,), "d": (1, 6)}, "a = Add(c, x); b = Relu(a); y = Sub(d, b)"),
    "Sub and Div": ({"c": (6,), "d": (6,)}, "a = Sub(x, c); y = Div(a, d)"),
    "Add with broadcasting": ({"c": (3, 1, 6)}, "a = Add(x, c); b = Flatten<axis=0>(a); y = Relu(b)"),
    "Abs": ({}, "y = Abs(x)"),
    "Max": ({"c": (6,), "e": np.float32([[0.3]])}, "a = Neg(x); y = Max(x, c, a, e)"),
    "Min": ({"c": (6,), "w": (6, 6)}, "a = MatMul(x, w); y = Min(c, a, x)"),
    "Max of constants": (
        {"c": (6,), "d": (6,)},
        "a = Max(c, d); e = Min(c, d); f = Abs(e); b = Add(x, a); y = Sub(b, f)",
    ),
    "two branches": ({"w": (6, 6)}, "a = MatMul(x, w); b = Relu(a); c = Tanh(a); d = Sub(b, c); y = Sum(d, x, a)"),
    "one value twice": ({}, "a = Add(x, x); y = Relu(a)"),
    "branches of another shape": ({"s": [6, 1]}, "a = Reshape(x, s); b = Add(x, a); y = Flatten<axis=0>(b)"),
    "Neg": ({}, "a = Neg(x); y = Relu(a)"),
    "Sigmoid": ({}, "y = Sigmoid(x)"),
    "Tanh": ({}, "y = Tanh(x)"),
    "Clip": ({"l": np.float32(-0.2), "u": np.float32(0.7)}, "y = Clip(x, l, u)"),
    "Clip below": ({"l": np.float32(0.3)}, "y = Clip(x, l)"),
    "Clip above": ({"u": np.float32(0.3)}, "y = Clip(x, , u)"),
    "Clip at nothing": ({"l": np.float32(-3.4e38)}, "a = Clip(x, l); y = Relu(a)"),
    "Clip at nothing, both sides": ({"l": np.float32(-3.4e38), "u": np.float32(3.4e38)}, "y = Clip(x, l, u)"),
    "Max and Min of nothing": ({"l": np.float32(-3.4e38), "u": np.float32([3.4e38])}, "a = Max(x, l); y = Min(u, a)"),
    "Identity, Dropout, Cast": (
        {"r": np.float32(0.5)},
        "a = Identity(x); b = Relu(a); c = Dropout(b, r); y = Cast<to=1>(c)",
    ),
    "Constant": ({}, "c = Constant<value_floats=[1.0,-2.0,3.0,0.5,0.0,1.0]>(); y = Mul(x, c)"),
    "Constant tensor": (
        {},
        "c = Constant<value = float[2] {1.5, -0.5}>(); s = Constant<value_ints=[3,2]>(); a = Reshape(x, s);"
        " b = Mul(a, c); y = Flatten<axis=0>(b)",
    ),
    "constants folded": (
        {"c": (6,), "d": (6,), "n": [-7, 6], "k": [2, -1], "t": [3, 2]},
        "e = Add(c, d); f = Sub(e, c); g = Mul(f, d); h = Div(g, c); i = Neg(h); j = Add(x, i);"
        " m = Div(n, k); q = Cast<to=1>(m); r = Reshape(j, t); u = Mul(r, q); y = Flatten<axis=0>(u)",
    ),
    "ConstantOfShape": ({"s": [6]}, "c = ConstantOfShape<value = float[1] {1.5}>(s); y = Add(x, c)"),
    "unused nodes": ({}, "u = Erf(x); y = Relu(x)"),
}  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_images_agree(name):
    given, nodes = IMAGES[name]
    check(model_of(nodes, IMAGE, given))


@pytest.mark.parametrize("name", VECTORS)
def test_vectors_agree(name):
    given, nodes = VECTORS[name]
    check(model_of(nodes, FLAT, given))


@pytest.mark.parametrize(
    ("opset", "shape", "given", "nodes"),
    [
        (9, IMAGE, {}, "y = Slice<starts=[1,0], ends=[3,-1], axes=[1,3]>(x)"),
        (9, FLAT, {}, "y = Clip<min=-0.25, max=0.5>(x)"),
        (9, FLAT, {}, "a = Clip<max=0.5>(x); y, m = Dropout<ratio=0.5>(a)"),
        (9, IMAGE, {}, 'y = Pad<mode="constant", pads=[0,0,1,2,0,0,0,3], value=1.5>(x)'),
        (8, IMAGE, {}, "y, z = Split<axis=2, split=[3,4]>(x)"),
        (12, FLAT, {}, "a = Unsqueeze<axes=[0,2]>(x); b = Squeeze<axes=[0]>(a); y = Relu(b)"),
        (18, FLAT, {}, "a, y = Split<axis=1, num_outputs=2>(x)"),
        (18, (1, 5), {}, "y, b = Split<axis=1, num_outputs=2>(x)"),
        (18, IMAGE, {"p": [2, 1], "a": [2], "c": (1,)}, "e = Squeeze(c); y = Pad(x, p, e, a)"),
        (18, IMAGE, {"a": [1, 2]}, "y = ReduceMean(x, a)"),
        (15, IMAGE, {}, "s = Shape<start=2>(x); c = ConstantOfShape<value = float[1] {2.0}>(s); y = Add(x, c)"),
        (19, IMAGE, {}, "y = AveragePool<kernel_shape=[2,2], dilations=[2,1]>(x)"),
        (14, FLAT, {"s": [0, 3, 2]}, "a = Reshape<allowzero=0>(x, s); y = Neg(a)"),
        (8, (1, 3, 2, 2), {"s": (3,), "b": (3,), "m": (3,), "v": FINITE}, "y = BatchNormalization(x, s, b, m, v)"),
        (13, (1, 3, 9), {"w": (4, 3, 3), "b": (4,)}, "y = Conv<pads=[2,0], strides=[2], dilations=[2]>(x, w, b)"),
        (13, (1, 2, 9), {}, "y = MaxPool<kernel_shape=[4], pads=[1,2], strides=[3]>(x)"),
        (13, (1, 2, 4, 3, 5), {"w": (2, 2, 2, 2, 3)}, "y = Conv<pads=[1,0,0,0,1,2]>(x, w)"),
    ],
)  # fmt: skip
def test_versions_of_operators(opset, shape, given, nodes):
    check(model_of(nodes, shape, given, opset))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (("N", 6), (6,)), ((None, 6), (6,)), ((1, 6), (6,)), ((6,), (6,)), ((6, 1), (6, 1)), ((1, 1, 6), (1, 6)),
        ((3, 2), (3, 2)), (("batch", 2, 3), (2, 3)),
    ],
)  # fmt: skip
def test_input_shapes(shape, expected):
    model = model_of("a = Reshape(x, s); y = Gemm(a, w)", shape, {"s": [1, -1], "w": (6, 2)})
    network = check(model)
    assert (network.input_shape, network.classes) == (expected, 2)


def test_initializers_listed_as_inputs():
    check(model_of("y = Gemm(x, w, b)", FLAT, {"w": (6, 4), "b": (4,)}, opset=8, listed=True))


def test_double():
    weights = np.random.default_rng(3).normal(size=(6, 4))
    network = check(model_of("y = MatMul(x, w)", FLAT, {"w": weights}, kind=onnx.TensorProto.DOUBLE))
    assert np.array_equal(network.layers[0].weight, weights)


def test_dense_chain_is_a_network():
    given = {"c": (6,), "w": (6, 5), "b": (5,), "v": (5, 4), "u": (4, 3)}
    nodes = "a = Sub(x, c); d = MatMul(a, w); e = Add(d, b); f = Relu(e); g = MatMul(f, v); y = MatMul(g, u)"
    network = check(model_of(nodes, FLAT, given))
    assert isinstance(network, Network)
    assert network.sizes == (6, 5, 3)
    assert network.layers[-1].activation == "linear"
    assert check(model_of(nodes + "; z = Relu(y)".replace("z", "q"), FLAT, given)).layers[-1].activation == "linear"


def test_convolutions_stay_a_graph_and_can_be_made_dense(tmp_path):
    nodes = "a = Conv(x, w); b = Relu(a); c = Flatten(b); y = Gemm(c, v)"
    model = model_of(nodes, IMAGE, {"w": (2, 3, 3, 3), "v": (40, 4)})
    graph = check(model)
    assert isinstance(graph, Graph)
    assert graph.sizes == (126, 40, 40, 4)
    onnx.save(model, tmp_path / "n.onnx")
    dense = load_dense(tmp_path / "n.onnx")
    assert (dense.sizes, dense.input_shape) == ((126, 40, 4), (3, 7, 6))
    x = np.random.default_rng(0).normal(size=(4, 3, 7, 6))
    np.testing.assert_allclose(dense(x), graph(x), atol=1e-12)


def test_conv_normalisation_and_branches_become_one_node():
    given, nodes = IMAGES["Conv, BatchNormalization, Relu"]
    assert [type(node).__name__ for node in check(model_of(nodes, IMAGE, given)).nodes] == ["Affine", "Activation"]
    given, nodes = IMAGES["residual"]
    network = check(model_of(nodes, IMAGE, given))
    assert [node.sources for node in network.nodes] == [(0,), (1,), (0, 2), (3,)]


def test_zeros_in_padded_maxima_win_nothing():
    network = from_onnx(model_of("y = MaxPool<kernel_shape=[2,2], pads=[1,1,1,1]>(x)", (1, 1, 2, 2)))
    assert network(np.full((1, 4), -3.0)).tolist() == [[-3.0] * 9]


@pytest.mark.parametrize("nodes", [
    "a = Gemm(x, w); y = Softmax<axis=1>(a)",
    "a = Gemm(x, w); y = Softmax(a)",
    "a = Gemm(x, w); b = Softmax(a); y = Identity(b)",
])  # fmt: skip
def test_softmax_at_the_end(nodes):
    model = model_of(nodes, FLAT, {"w": (6, 4)})
    x = np.random.default_rng(0).normal(size=(5, 6)).astype(np.float32)
    network = from_onnx(model)
    assert network.softmax
    np.testing.assert_allclose(network.probabilities(x), reference(model, x), atol=1e-6)
    assert network.fingerprint() == from_onnx(model_of("y = Gemm(x, w)", FLAT, {"w": (6, 4)})).fingerprint()


NAN = np.full((6, 2), np.nan, dtype=np.float32)
REFUSED = {
    "node y (Erf): the operator is not read": ({}, "y = Erf(x)"),
    "multiplies two values": ({}, "y = MatMul(x, x)"),
    "input 1 depends on the network's input; expected a constant": ({}, "y = Mul(x, x)"),
    "input 1 depends": ({"c": (6,)}, "y = Div(c, x)"),
    "divides by 0": ({"c": np.float32([0.0])}, "y = Div(x, c)"),
    "(Gemm): a map holds NaN": ({"w": NAN}, "y = Gemm(x, w)"),
    "holds NaN or infinity": ({"w": NAN[:, 0]}, "y = Add(x, w)"),
    "node y (Elu): the activation elu is read by python -m arfj.certify cdf alone": ({}, "y = Elu(x)"),
    "(Exp): the activation exp is read by": ({}, "y = Exp(x)"),
    "(Pow): the activation square is read by": ({"t": np.float32(2)}, "y = Pow(x, t)"),
    "a power other than 2": ({"t": np.float32(3)}, "y = Pow(x, t)"),
    "expected alpha >= 0": ({}, "y = Elu<alpha=-1.0>(x)"),
    "follows a softmax": ({"w": (6, 6)}, "a = Softmax(x); y = MatMul(a, w)"),
    "over 3 of 6 values": ({"s": [1, 2, 3]}, "a = Reshape(x, s); y = Softmax(a)"),
    "(LogSoftmax): the operator is not read": ({}, "y = LogSoftmax(x)"),
    "do not fit": ({"w": (5, 2)}, "y = MatMul(x, w)"),
    "options do not fit": ({"s": [4, 2]}, "y = Reshape(x, s)"),
    "is missing": ({}, "y = Reshape(x)"),
    "its input q is not made before it": ({}, "y = Relu(q)"),
    "output y is constant": ({"c": (6,)}, "y = Neg(c)"),
    "output y is made by no node": ({}, "z = Relu(x)"),
    "its output a is made twice": ({}, "a = Relu(x); a = Neg(a); y = Relu(a)"),
    "its option colour is not read": ({}, "y = Relu<colour=1>(x)"),
    "constant; expected one that depends": ({"c": (6,)}, "a = Relu(c); y = Add(x, a)"),
    "rounds them": ({}, "a = Cast<to=10>(x); y = Cast<to=1>(a)"),
    "training mode": ({"r": np.float32(0.5), "t": np.bool_(True)}, "a = Relu(x); y = Dropout(a, r, t)"),
    "slopes of shape (2, 6)": ({"s": (2, 6)}, "y = PRelu(x, s)"),
    "(Concat): its axis is missing": ({}, "y = Concat(x, x)"),
    "a constant of 1e+16": ({"l": np.float32(-1e16), "u": np.float32(1e16)}, "y = Clip(x, l, u)"),
    "a constant of 2e+31": ({"l": np.float32(2e31)}, "y = Clip(x, l)"),
    "a constant of 1e+20": ({"u": np.float32([1e20])}, "y = Min(x, u)"),
    "(Max): a constant of 3e+38": ({"l": np.float32([3e38])}, "y = Max(x, l)"),
    "(PRelu): a constant of 3e+38": ({"s": np.float32([3e38])}, "y = PRelu(x, s)"),
    "is empty": ({"l": np.float32(1.0), "u": np.float32(0.0)}, "y = Clip(x, l, u)"),
}  # fmt: skip
REFUSED_IMAGES = {
    "must be 1 or more": ({"w": (2, 3, 2, 2)}, "y = Conv<strides=[-1,1]>(x, w)"),
    "(Pad): a constant of 3.4e+38": (
        {"p": [0, 0, 1, 1, 0, 0, 1, 1], "v": np.float32(-3.4e38)},
        "a = Pad(x, p, v); y = MaxPool<kernel_shape=[2,2]>(a)",
    ),
    "auto_pad with ceil_mode or dilations": (
        {"w": (2, 3, 2, 2)},
        'y = Conv<auto_pad="SAME_UPPER", dilations=[2,1]>(x, w)',
    ),
    "pads below 0": ({}, "y = AveragePool<kernel_shape=[2,2], pads=[-1,0,0,0]>(x)"),
    "(MaxPool): a pooling with pads": ({}, "y = MaxPool<kernel_shape=[2,2], pads=[0,0,-1,0]>(x)"),
    "7 values do not make 2 equal parts": ({}, "a, y = Split<axis=2>(x)"),
    "ceil_mode or dilations is not read": (
        {},
        'y = MaxPool<kernel_shape=[2,2], auto_pad="SAME_UPPER", dilations=[2,1]>(x)',
    ),
    "auto_pad with ceil_mode": ({}, 'y = MaxPool<kernel_shape=[2,2], auto_pad="SAME_LOWER", ceil_mode=1>(x)'),
    "(AveragePool): a window holds nothing but padding": (
        {},
        "y = AveragePool<kernel_shape=[2,2], pads=[2,2,2,2]>(x)",
    ),
    "ceil_mode": ({}, "y = MaxPool<kernel_shape=[2,2], strides=[2,2], ceil_mode=1>(x)"),
    "nothing but padding": ({}, "y = MaxPool<kernel_shape=[2,2], pads=[3,0,0,0]>(x)"),
    "in 2 groups does not fit": ({"w": (4, 3, 1, 1)}, "y = Conv<group=2>(x, w)"),
    "a window of (8, 1) does not fit": ({"w": (4, 3, 8, 1)}, "y = Conv(x, w)"),
    "not that of its weight": ({"w": (4, 3, 1, 1)}, "y = Conv<kernel_shape=[2,1]>(x, w)"),
    "expected one of the two": ({"w": (4, 3, 2, 2)}, 'y = Conv<auto_pad="SAME_UPPER", pads=[1,1,1,1]>(x, w)'),
    "mode 'wrap'": ({"p": [0] * 8}, 'y = Pad<mode="wrap">(x, p)'),
    "(ConvTranspose): the operator is not read": ({"w": (3, 2, 2, 2)}, "y = ConvTranspose(x, w)"),
    "expected (1, channels": ({"s": [6, 7, 3]}, "a = Reshape(x, s); y = GlobalAveragePool(a)"),
    "of sizes [3, 4] do not make up 6": ({"p": [3, 4]}, "a, y = Split<axis=3>(x, p)"),
    "0 scales": ({}, "y = BatchNormalization(x, e, e, e, e)"),
}  # fmt: skip
REFUSED_IMAGES["0 scales"][0]["e"] = np.zeros(0, dtype=np.float32)


@pytest.mark.parametrize(
    ("words", "given", "nodes", "shape"),
    [(words, *case, FLAT) for words, case in REFUSED.items()]
    + [(words, *case, IMAGE) for words, case in REFUSED_IMAGES.items()],
    ids=[*REFUSED, *REFUSED_IMAGES],
)
def test_refused_by_name(words, given, nodes, shape):
    with pytest.raises(NetworkError) as caught:
        from_onnx(model_of(nodes, shape, given))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_refused_models():
    relu = "y = Relu(x)"
    two = model_of(relu, FLAT)
    two.graph.input.append(onnx.helper.make_tensor_value_info("z", FLOAT, FLAT))
    outputs = model_of(relu, FLAT)
    outputs.graph.output.append(onnx.helper.make_tensor_value_info("x", FLOAT, FLAT))
    foreign = model_of(relu, FLAT)
    foreign.graph.node[0].domain = "com.example"
    half = model_of("y = Add(x, c)", FLAT, {"c": np.ones(6, dtype=np.float16)})
    nameless = model_of(relu, FLAT)
    nameless.graph.input[0].type.tensor_type.ClearField("shape")
    cases = {
        "2 inputs and 1 outputs": two,
        "1 inputs and 2 outputs": outputs,
        "operator is not read": foreign,
        "float16": half,
        "has no shape": nameless,
        "open sizes": model_of(relu, ("N", "M")),
        "no tensor of floats": model_of(relu, FLAT, kind=INT64),
        "operator set 6;": model_of(relu, FLAT, opset=6),
        "operator set 99;": model_of(relu, FLAT, opset=99),
    }
    for words, model in cases.items():
        with pytest.raises(NetworkError) as caught:
            from_onnx(model)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)


class TestFile:
    MODEL = model_of("a = Gemm(x, w); b = Relu(a); y = Gemm(b, v)", FLAT, {"w": (6, 5), "v": (5, 3)})

    def test_plain_and_compressed(self, tmp_path):
        onnx.save(self.MODEL, tmp_path / "n.onnx")
        (tmp_path / "n.ONNX.gz").write_bytes(gzip.compress((tmp_path / "n.onnx").read_bytes()))
        expected = from_onnx(self.MODEL).fingerprint()
        assert load_network(tmp_path / "n.onnx").fingerprint() == expected
        assert load_network(tmp_path / "n.ONNX.gz").fingerprint() == expected

    def test_external_data(self, tmp_path):
        path = tmp_path / "n.onnx"
        onnx.save(copy.deepcopy(self.MODEL), path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        assert load_network(path).fingerprint() == from_onnx(self.MODEL).fingerprint()
        (tmp_path / "weights.bin").unlink()
        self.refused(path, "external data")

    @pytest.mark.parametrize("damage", ["empty", "nonsense", "truncated", "pickle", "folder", "gone"])
    def test_broken(self, tmp_path, damage):
        path = tmp_path / "n.onnx"
        whole = self.MODEL.SerializeToString()
        content = {"empty": b"", "nonsense": b"nonsense" * 50, "truncated": whole[:-20], "pickle": pickle.dumps({})}
        if damage == "folder":
            path.mkdir()
        elif damage != "gone":
            path.write_bytes(content[damage])
        self.refused(path, {"pickle": "pickled", "folder": "cannot be read", "gone": "not exist"}.get(damage, "broken"))

    def test_broken_compression(self, tmp_path):
        path = tmp_path / "n.onnx.gz"
        content = gzip.compress(self.MODEL.SerializeToString())
        for damaged in (b"", b"nonsense", content[:-9], content[:30] + b"\0" * 40):
            path.write_bytes(damaged)
            self.refused(path, "n.onnx.gz")

    def test_every_flipped_byte_is_read_or_refused(self, tmp_path):
        path, whole = tmp_path / "n.onnx", self.MODEL.SerializeToString()
        for place in range(0, len(whole), 3):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x15]) + whole[place + 1 :])
            assert "\n" not in self.said_of(path)

    def test_names_with_line_ends(self, tmp_path):
        model = copy.deepcopy(self.MODEL)
        model.graph.node[0].op_type, model.graph.node[0].name = "Ge\nm\x1b", "line\r\nend"
        (tmp_path / "n.onnx").write_bytes(model.SerializeToString())
        assert "node line??end (Ge?m?): the operator is not read" in self.said_of(tmp_path / "n.onnx")

    def said_of(self, path):
        """The reader's error, empty if the file is read; any other exception is an error of the reader."""
        try:
            load_network(path)
        except NetworkError as error:
            return str(error)
        return ""

    def refused(self, path, words):
        with pytest.raises(NetworkError) as caught:
            read_onnx(path)
        assert words in str(caught.value)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)


def test_onnx_missing(tmp_path):
    (tmp_path / "n.onnx").write_bytes(TestFile.MODEL.SerializeToString())
    code = (
        "import sys; sys.modules['onnx'] = None\nimport arfj\n"
        f"try: arfj.load_network({str(tmp_path / 'n.onnx')!r})\nexcept arfj.ArfjError as error: print(error)"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'arfj[verify]'" in answer.stdout


@st.composite
def residual_networks(draw):
    """Nodes and weights of a small network: blocks of convolution, normalisation, pooling and skips, then Gemm."""
    channels, size = draw(st.integers(1, 3)), draw(st.integers(4, 7))
    shape, given, nodes, value = (1, channels, size, size), {}, [], "x"
    names = (f"t{k}" for k in itertools.count())

    def call(text, *weights):
        result = next(names)
        given.update(weights)
        nodes.append(f"{result} = {text}")
        return result

    for block in range(draw(st.integers(1, 3))):
        groups = draw(st.sampled_from([1, channels]))
        weights = (f"w{block}", (channels, channels // groups, 3, 3))
        step = call(f"Conv<pads=[1,1,1,1], group={groups}>({value}, w{block})", weights)
        if draw(st.booleans()):
            parts = [(f"{letter}{block}", (channels,)) for letter in "sbm"]
            variance = (f"v{block}", np.linspace(0.5, 2, channels, dtype=np.float32))
            names_of = ", ".join(name for name, _ in [*parts, variance])
            step = call(f"BatchNormalization({step}, {names_of})", *parts, variance)
        if draw(st.booleans()):
            step = call(f"Add({value}, {step})")
        kind = draw(st.sampled_from(["Relu", "LeakyRelu<alpha=0.25>", "Tanh", "Sigmoid"]))
        value = call(f"{kind}({step})")
        pool = draw(st.sampled_from([None, "MaxPool<kernel_shape=[2,2]", "AveragePool<kernel_shape=[2,2]"]))
        if pool and size > 2:
            value, size = call(f"{pool}>({value})"), size - 1
    nodes.append(f"f = Flatten({value})")
    nodes.append("y = Gemm(f, g)")
    return "; ".join(nodes), shape, given | {"g": (channels * size * size, 3)}


@settings(max_examples=40, deadline=None)
@given(residual_networks(), st.integers(0, 100))
def test_residual_networks_agree(network, seed):
    nodes, shape, given = network
    found = check(model_of(nodes, shape, given), seed)
    assert all(isinstance(node, Activation) or len(node.sources) >= 1 for node in found.graph().nodes)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("mnistfc/mnist-net_256x2.onnx", Network),
        *((f"acasxu/ACASXU_run2a_{net}_batch_2000.onnx", Network) for net in ("1_1", "2_9", "3_7")),
        ("cifar10_resnet/resnet_2b.onnx", Graph),
        ("oval21/cifar_base_kw.onnx", Graph),
    ],
)
def test_benchmark_files_agree(name, kind):
    path = VNNCOMP / name
    if not path.is_file():
        pytest.skip(f"{path} is absent; it is one of VNN-COMP's benchmark files")
    model = onnx.load(path)
    session_input = next(
        item for item in model.graph.input if item.name not in {t.name for t in model.graph.initializer}
    )
    for node in model.graph.node:
        node.input[:] = ["x" if source == session_input.name else source for source in node.input]
    session_input.name = "x"
    network = check(model)
    assert type(network) is kind
    assert network.fingerprint() == read_onnx(path).fingerprint()
