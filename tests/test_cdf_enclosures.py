"""Distributions from networks below and above: ELU, squares, products, softmax; from Python, files and the command."""

import itertools
import json
import time

import numpy as np
import pytest
from conftest import calling
from scipy.stats import binom

from arfj.certify.__main__ import main
from arfj.certify.cdf import answers, enclosures
from arfj.certify.cdf.activations import Maximum, Pointwise, softmax
from arfj.certify.cdf.densities import Axes, beta_axis
from arfj.certify.cdf.enclosures import enclosed, enclosure
from arfj.certify.cdf.gaussians import Mixture
from arfj.certify.cdf.layers import LayerBuilder, Layers, layers_of, load, with_softmax
from arfj.certify.cdf.question import beta, question
from arfj.certify.cdf.regions import Budget
from arfj.errors import NetworkError, UsageError
from arfj.graph import Activation, Affine, Graph
from arfj.network import Network

UNIFORM = Axes((beta_axis(1, 1, -1, 1),) * 2)
BOX = (-np.ones(2), np.ones(2))
SEESAW = Network.from_arrays([[[1.0, -1.0]]], [[0.0, 0.0]], "linear")


def network(kind, seed=0, hidden=4):
    """2-4-2 with one curved thing in the middle."""
    rng = np.random.default_rng(seed)
    builder = LayerBuilder((2,))
    value = builder.linear(builder.input, rng.normal(size=(2, hidden)), 0.3 * rng.normal(size=hidden), (hidden,))
    if kind == "product":
        value = builder.product(value, builder.scale(value, -0.5, 0.3))
    elif kind == "absolute":
        value = builder.absolute(builder.curved(value, "elu"))
    elif kind == "larger":
        value = builder.larger(builder.curved(value, "square"), value)
    else:
        value = builder.curved(value, kind)
    value = builder.linear(value, rng.normal(size=(hidden, 2)), np.zeros(2), (2,))
    return builder.finish(value, (2,))


def asked(found, density=UNIFORM):
    return enclosed(found, np.zeros(2), (0, 1), density, *BOX)


def levels(this, column=0):
    _, values = this.sampled(4000, 0)
    return np.quantile(values[:, column], [0.05, 0.3, 0.5, 0.9])


@pytest.mark.parametrize("kind", ["elu", "exp", "square", "product", "absolute", "larger"])
def test_samples_do_not_leave_the_bounds(kind):
    found = network(kind)
    assert isinstance(found, Layers)
    this = asked(found)
    y, budget = levels(this), Budget(seconds=20)
    _, bounds = enclosures.one_output(this, enclosure(this, 2, budget), 0, y, budget, 0.15)
    assert bounds.reached
    lower, upper = bounds.bounds.lower, bounds.bounds.upper
    assert (upper - lower).max() <= 0.15
    assert (np.diff(lower) >= -1e-12).all()
    assert (np.diff(upper) >= -1e-12).all()
    counts = (this.sampled(20_000, 1)[1][:, :1] <= y).sum(axis=0)
    assert (binom.sf(counts - 1, 20_000, upper) > 1e-10).all()
    assert (binom.cdf(counts, 20_000, lower) > 1e-10).all()


def test_twice_the_segments_are_never_looser():
    this, budget = asked(network("elu")), Budget()
    y = levels(this)
    found = [
        enclosures.one_output(this, enclosure(this, s, budget), 0, y, budget, 1e-4, fixed=True)[1] for s in (1, 2, 4)
    ]
    for one, two in itertools.pairwise(found):
        assert (two.bounds.lower >= one.bounds.lower - 1e-7).all()
        assert (two.bounds.upper <= one.bounds.upper + 1e-7).all()
    assert (found[2].bounds.upper - found[2].bounds.lower).max() < (found[0].bounds.upper - found[0].bounds.lower).max()


def test_both_ways_to_a_tanh_network_agree():
    """Networks below and above, and cells that are refined: other bounds of one law."""
    rng = np.random.default_rng(3)
    nodes = (
        Affine((0,), (rng.normal(size=(2, 3)),), np.zeros(3)),
        Activation(1, "tanh"),
        Affine((2,), (rng.normal(size=(3, 1)),), np.zeros(1)),
    )
    graph = Graph(2, nodes)
    this, other = asked(graph), question(graph, np.zeros(2), (0, 1), UNIFORM, *BOX)
    y, budget = levels(this), Budget()
    _, one = enclosures.one_output(this, enclosure(this, 8, budget), 0, y, budget, 1e-6, fixed=True)
    two = answers.one_output(other.pieces(), other, 0, y, budget, 0.02)
    assert (one.bounds.lower <= two.bounds.upper).all()
    assert (two.bounds.lower <= one.bounds.upper).all()
    assert (one.bounds.upper - one.bounds.lower).max() < 0.01


def test_the_softmax_of_two_outputs_by_hand():
    """softmax_0 of (x, -x) is sigmoid(2 x): P(. <= sigmoid(t)) = P(x <= t / 2) for a normal x, within the box."""
    normal = Mixture(np.ones(1), np.zeros((1, 1)), np.ones((1, 1, 1)))
    this = enclosed(with_softmax(SEESAW), np.zeros(1), (0,), normal, np.full(1, -6.0), np.full(1, 6.0))
    t, budget = np.array([-1.0, 0.0, 0.5, 2.0]), Budget()
    y = 1 / (1 + np.exp(-t))
    from scipy.special import ndtr

    _, found = enclosures.one_output(this, enclosure(this, 4, budget), 0, y, budget, 1e-3)
    assert (found.bounds.lower <= ndtr(t / 2)).all()
    assert (found.bounds.upper >= ndtr(t / 2)).all()
    assert (found.bounds.upper - found.bounds.lower).max() <= 1e-3 + 1e-6


@pytest.mark.parametrize("size", [2, 3, 4, 5, 7])
def test_softmax_layers_are_a_softmax(size):
    layers = []
    softmax(layers, 0, size)
    x = np.random.default_rng(size).normal(size=(50, size)) * 20
    powers = np.exp(x - x.max(axis=1, keepdims=True))
    assert Layers(size, tuple(layers))(x) == pytest.approx(powers / powers.sum(axis=1, keepdims=True), abs=1e-14)


def test_joint_quantile_and_classes():
    """All of them hold for the shares of samples, and are as near as so many segments bring them."""
    this, budget = asked(network("elu", 2)), Budget(seconds=20)
    _, values = this.sampled(100_000, 5)
    y = np.quantile(values, [0.4, 0.7], axis=0)
    last, found = enclosures.joint(this, enclosure(this, 4, budget), y, budget, 0.05)
    share = (values[:, None] <= y).all(axis=2).mean(axis=0)
    assert (found.bounds.lower <= share + 0.01).all()
    assert (share <= found.bounds.upper + 0.01).all()
    of = enclosures.quantile(last, 1, 0.3, budget)
    true = np.quantile(values[:, 1], 0.3)
    assert of.lower <= true + 0.02
    assert true <= of.upper + 0.02
    assert of.upper - of.lower < 0.5
    shares, widths = np.bincount(values.argmax(axis=1), minlength=2) / len(values), []
    for enclosing in (enclosure(this, 1, budget), last):
        classes = enclosures.class_probabilities(enclosing, 2, budget)
        assert (classes[:, 0] <= shares + 0.005).all()
        assert (shares <= classes[:, 1] + 0.005).all()
        widths.append((classes[:, 1] - classes[:, 0]).max())
    assert 5 * widths[1] < widths[0]


def test_the_lower_class_has_the_tie():
    """Equal outputs, which segments cannot tell apart from unequal ones; but of one ReLU network they can."""
    both = Network.from_arrays([[[1.0, 1.0], [0.5, 0.5]]], [[0.0, 0.0]], "linear")
    this = asked(layers_of(both))
    found = enclosures.class_probabilities(enclosure(this, 1, Budget()), 2, Budget())
    assert found[0, 1] == 1.0
    assert found[1, 0] == 0.0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: with_softmax(Network.from_arrays([[[1.0]]], [[0.0]], "linear")), "softmax of one output"),
        (lambda: enclosed(network("elu"), np.zeros(3), (0,), UNIFORM, *BOX), "3 values; the network takes 2"),
        (lambda: enclosed(network("elu"), np.zeros(2), (0, 0), UNIFORM, *BOX), "not distinct"),
        (
            lambda: enclosed(network("elu"), np.zeros(2), (0, 1), beta([(1, 1)] * 2, *BOX), BOX[0], BOX[0]),
            "nothing is random",
        ),
        (lambda: enclosed(network("elu"), np.array([0, np.nan]), (0, 1), UNIFORM, *BOX), "NaN"),
    ],
)
def test_bad_input_is_one_clear_line(make, words):
    with pytest.raises(UsageError, match=words):
        make()


def test_what_a_builder_does_not_know():
    with pytest.raises(NetworkError, match="activation gelu is read by"):
        LayerBuilder((2,)).curved(LayerBuilder((2,)).input, "gelu")
    assert Layers(2, (Maximum(0, (0,), (1,)), Pointwise(1, "elu"))).sizes == (2, 1, 1)


@pytest.fixture
def cdf(capsys, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(2))
    call = calling(main, capsys)
    return lambda file, *rest: call(
        "cdf", "--network", file, "--input", tmp_path / "x.npy", "--free", "0,1", "--density", "beta:1,1;beta:1,1",
        "--box=-1:1", *rest,
    )  # fmt: skip


def test_the_command_knows_probabilities(cdf, tmp_path):
    """--softmax: probabilities of a ReLU network, its classes from the logits, which are exact."""
    rng = np.random.default_rng(1)
    relu = Network.from_arrays([rng.normal(size=(2, 4)), rng.normal(size=(4, 3))], [np.zeros(4), np.zeros(3)], "linear")
    relu.save(tmp_path / "net.npz")
    options = ("--softmax", "--tolerance", "0.1", "--points", "4", "--classes", "--quantile", "0.5", "--json")
    document = json.loads(cdf(tmp_path / "net.npz", *options).out)
    probabilities = relu.probabilities(np.random.default_rng(0).uniform(-1, 1, (50_000, 2)))
    share = (probabilities[:, :1] <= document["y"]).mean(axis=0)
    assert (document["lower"] <= share + 0.02).all()
    assert (share <= np.array(document["upper"]) + 0.02).all()
    assert document["tolerance_met"]
    assert document["segments"] >= 2
    assert 0 < document["quantile"]["lower"] <= np.median(probabilities[:, 0]) + 0.02
    sharp = json.loads(cdf(tmp_path / "net.npz", "--classes", "--points", "1", "--json").out)
    for one, two in zip(document["classes"], sharp["classes"], strict=True):
        assert two["upper"] - two["lower"] < 1e-9
        assert one == pytest.approx(two, abs=1e-9)
    told = cdf(tmp_path / "net.npz", "--segments", "3", "--points", "2")
    assert "3 segments for each part" in told.out
    assert "logits" not in told.out
    cdf(tmp_path / "net.npz", "--softmax", "--exact").is_error(2, "ReLUs alone")
    cdf(tmp_path / "net.npz", "--segments", "0").is_error(2, "expected 1 to")


def test_classes_do_not_wait_for_segments(cdf, tmp_path, monkeypatch):
    """Those of logits cost little: they are exact though the rest takes all of the time."""
    Network.from_arrays([[[1.0, -1.0], [0.0, 0.0]]], [[0.0, 0.0]], "linear").save(tmp_path / "net.npz")
    enclosure = enclosures.enclosure

    def slow(asked, segments, budget):
        time.sleep(max(0.0, budget.until - time.monotonic()) + 0.01)
        return enclosure(asked, segments, budget)

    monkeypatch.setattr(enclosures, "enclosure", slow)
    options = ("--softmax", "--classes", "--points", "1", "--time-limit", "0.5", "--json")
    for one in json.loads(cdf(tmp_path / "net.npz", *options).out)["classes"]:
        assert [one["lower"], one["upper"]] == pytest.approx([0.5, 0.5], abs=1e-9)


def test_the_command_reads_curved_networks(cdf, tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs pip install 'arfj[verify]'")
    from test_onnx_models import constants, reference

    nodes = "a = MatMul(x, w); b = Elu<alpha=0.7>(a); c = Pow(b, t); d = Mul(c, a); e = Abs(d); f = Max(e, b);"
    nodes += "y = MatMul(f, v)"
    parsed = [onnx.parser.parse_node(node.strip()) for node in nodes.split(";")]
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", (1, 2)), ("y", None))
    ]
    tensors = list(constants({"w": (2, 3), "v": (3, 2), "t": np.float32(2)}))
    graph = onnx.helper.make_graph(parsed, "network", ends[:1], ends[1:], tensors)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "net.onnx")
    ends[1] = onnx.helper.make_tensor_value_info("p", onnx.TensorProto.FLOAT, None)
    soft = onnx.helper.make_graph(
        [*parsed[:2], *parsed[-1:], onnx.helper.make_node("Softmax", ["y"], ["p"])], "n", ends[:1], ends[1:], tensors
    )
    soft.node[2].input[0] = "b"
    onnx.save(onnx.helper.make_model(soft, opset_imports=model.opset_import, ir_version=8), tmp_path / "soft.onnx")
    assert "The outputs are logits" in cdf(tmp_path / "soft.onnx", "--points", "1", "--segments", "1").out
    assert "logits" not in cdf(tmp_path / "soft.onnx", "--points", "1", "--segments", "1", "--softmax").out
    found = load(str(tmp_path / "net.onnx"))
    x = np.random.default_rng(0).uniform(-1, 1, (10, 2)).astype(np.float32)
    np.testing.assert_allclose(found(x), reference(model, x), atol=1e-5)
    document = json.loads(cdf(tmp_path / "net.onnx", "--points", "3", "--segments", "3", "--json").out)
    values = found(np.random.default_rng(0).uniform(-1, 1, (20_000, 2)))[:, :1]
    share = (values <= document["y"]).mean(axis=0)
    assert (document["lower"] <= share + 0.02).all()
    assert (share <= np.array(document["upper"]) + 0.02).all()
    pytest.importorskip("matplotlib")
    assert cdf(tmp_path / "net.onnx", "--points", "3", "--segments", "2", "--plot", tmp_path / "p.png").status == 0
    assert (tmp_path / "p.png").stat().st_size > 5000
