"""Certificates whose network JAX evaluates: those of NumPy to rounding, in float64, one program, errors in one line."""

import itertools
import sys
import threading

import numpy as np
import pytest
from conftest import calling
from random_graphs import KINDS, random_graph
from scipy.sparse import csr_array

from arfj.certify.__main__ import main
from arfj.certify.scenario import (
    Gaussian,
    L1Ball,
    Request,
    Safe,
    Source,
    Uniform,
    by_faces,
    certify,
    certify_by_surrogate,
    compiled,
    stream,
)
from arfj.errors import ArfjError, UsageError
from arfj.graph import Activation, Affine, Graph
from arfj.network import Network

jax = pytest.importorskip("jax")

NEAR = 1e-9
FIRST = Safe.margin(3, 0)


def dense(seed=0, sizes=(6, 40, 30, 3)):
    rng = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(sizes))
    return Network.from_arrays(
        [rng.normal(size=pair) for pair in pairs], [rng.normal(size=n) for _, n in pairs], "linear"
    )


def branching(kind):
    """A sparse map, a residual sum, a smooth activation: y = act(x M + b) N + x L."""
    rng = np.random.default_rng(1)
    sparse = csr_array(rng.normal(size=(6, 20)) * (rng.random((6, 20)) < 0.2))
    nodes = (
        Affine((0,), (sparse,), rng.normal(size=20)),
        Activation(1, kind),
        Affine((2, 0), (rng.normal(size=(20, 3)), rng.normal(size=(6, 3))), rng.normal(size=3)),
    )
    return Graph(6, nodes)


def pair(network, noise, request, safe=FIRST, **settings):
    """The certificate by NumPy and that by JAX."""
    return [
        certify(Source(network, np.full(6, 0.4), noise, 3, engine=engine, **settings), safe, request)
        for engine in ("numpy", "jax")
    ]


def agree(one, two):
    assert two.bound == pytest.approx(one.bound, rel=NEAR, abs=NEAR)
    for name in ("samples", "discarded", "p", "set", "sizing", "epsilon", "delta"):
        assert getattr(one, name) == getattr(two, name)


class TestAgreement:
    @pytest.mark.parametrize("noise", [Uniform(0.3), Gaussian(0.2), L1Ball(1.0)], ids=["uniform", "gauss", "l1"])
    @pytest.mark.parametrize("clip", [False, True])
    def test_noise(self, noise, clip):
        one, two = pair(dense(), noise, Request(0.01, 1e-3, 5000), clip=clip)
        assert one.discarded > 0
        agree(one, two)

    @pytest.mark.parametrize("kind", ["relu", "tanh", "sigmoid"])
    def test_graphs(self, kind):
        agree(*pair(branching(kind), Uniform(1.0), Request(0.01, 1e-3, 5000)))

    @pytest.mark.parametrize("kind", ["relu", "tanh"])
    def test_slots_of_large_sparse_maps(self, kind, monkeypatch):
        monkeypatch.setattr(compiled, "DENSE", 0)
        agree(*pair(branching(kind), Uniform(1.0), Request(0.01, 1e-3, 5000)))

    @pytest.mark.parametrize("kind", KINDS)
    @pytest.mark.parametrize("largest", [0, compiled.DENSE], ids=["slots", "dense"])
    def test_random_graphs(self, kind, largest, monkeypatch):
        """Convolutions, pooling, branches, activations of the input; outputs themselves, not one of them."""
        monkeypatch.setattr(compiled, "DENSE", largest)
        for seed in range(3):
            graph = random_graph(seed, kind)
            x = np.random.default_rng(seed).normal(size=(20, graph.inputs))
            found = compiled.fetched(compiled.Forward(graph, 32)(x), 20)
            np.testing.assert_allclose(found, graph(x), rtol=1e-12, atol=1e-12)

    @pytest.mark.parametrize("chosen", ["l2", "linf", "l1", "box"])
    def test_sets(self, chosen):
        agree(*pair(dense(), Uniform(0.3), Request(0.1, 1e-2, set=chosen), Safe.margin(3, 0, [1])))

    def test_faces_and_surrogates(self):
        network, request = dense(), Request(0.1, 1e-2)
        sources = [Source(network, np.full(6, 0.4), Uniform(0.01), engine=engine) for engine in ("numpy", "jax")]
        for one, two in zip(*(by_faces(source, FIRST, request) for source in sources), strict=True):
            agree(one, two)
        agree(*(certify_by_surrogate(source, FIRST, 1, request) for source in sources))

    def test_surrogates_are_compiled(self, monkeypatch):
        made = []
        monkeypatch.setattr(stream, "Forward", lambda *a: made.append(a) or compiled.Forward(*a))
        source = Source(dense(), np.full(6, 0.4), Uniform(0.01), engine="jax")
        certify_by_surrogate(source, FIRST, 1, Request(0.1, 1e-2))
        assert len(made) == 1

    def test_whatever_can_be_sampled(self):
        rows = np.random.default_rng(0).normal(size=(9000, 6))
        given = [
            rows.copy,
            lambda: iter(rows),
            lambda: lambda rng, count: rng.normal(size=(count, 6)),
        ]
        for make in given:
            found = [
                certify(Source(dense(), np.zeros(6), make(), engine=engine), FIRST, Request(0.01, 1e-3, 9000))
                for engine in ("numpy", "jax")
            ]
            agree(*found)

    def test_threads(self):
        found = [
            certify(
                Source(dense(), np.zeros(6), Uniform(0.1), engine="jax"), FIRST, Request(0.01, 1e-3, 20_000, threads=n)
            )
            for n in (1, 3)
        ]
        assert found[0].bound == found[1].bound


class TestDoubles:
    def test_float64_inside_and_nothing_changes_outside(self):
        """Single precision would miss the difference: y = (1 + x, 1) with x of 1e-12."""
        before = jax.numpy.ones(1, dtype=float).dtype
        network = Network.from_arrays([[[1.0, 0.0]]], [[1.0, 1.0]], "linear")
        source = Source(network, np.array([3e-12]), Uniform(1e-12), engine="jax")
        found = certify(source, Safe.margin(2, 0), Request(0.1, 0.01))
        assert found.bound == pytest.approx(2e-12, rel=0.2)
        assert jax.numpy.ones(1, dtype=float).dtype == before

    def test_singles_are_refused(self):
        with pytest.raises(TypeError, match="float32; a certificate is about float64"):
            compiled.fetched(np.zeros((2, 2), dtype=np.float32), 2)

    def test_products_ask_for_all_digits(self):
        """What a GPU would round to TF32 otherwise."""
        one = compiled.Forward(dense(), 4)
        with compiled.in_float64("jax"):
            text = str(
                jax.make_jaxpr(compiled._forward, static_argnums=0)(one._structure, np.zeros((4, 6)), one._numbers)
            )
        assert text.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == text.count("dot_general") == 3


class TestBatches:
    def test_one_program_whatever_the_last_batch(self, monkeypatch):
        monkeypatch.setattr(stream, "MOST_ROWS", 64)
        compiled.compiled.cache_clear()
        assert compiled.compile_seconds() == 0.0
        source = Source(dense(), np.zeros(6), Uniform(0.1), engine="jax")
        certify(source, FIRST, Request(0.1, 0.01, 64 * 5 + 7))
        seconds = compiled.compile_seconds()
        assert seconds > 0
        certify(source, FIRST, Request(0.1, 0.01, 64 * 3 + 1))
        certify(Source(dense(7), np.zeros(6), Gaussian(0.1), engine="jax"), FIRST, Request(0.1, 0.01, 100))
        assert compiled.compile_seconds() == seconds
        assert len(compiled.compiled()._programs) == 1

    def test_padding_is_no_sample(self, monkeypatch):
        """Zeros would be far outside: y = x_0 - 100 of inputs of about 200."""
        monkeypatch.setattr(stream, "MOST_ROWS", 64)
        network = Network.from_arrays([[[1.0, 0.0]]], [[-100.0, 0.0]], "linear")
        source = Source(network, np.array([200.0]), Uniform(1.0), engine="jax")
        assert certify(source, Safe.margin(2, 0), Request(0.1, 0.01, 65, discard=False)).bound > 98

    def test_noise_is_drawn_while_the_device_works(self, monkeypatch):
        """No outputs are waited for before the next batch has been given; and never are many batches out."""
        monkeypatch.setattr(stream, "MOST_ROWS", 64)
        out = []
        events = []
        fetched = stream.fetched

        class Forward(compiled.Forward):
            def __call__(self, x):
                out.append(x)
                events.append(len(out))
                return super().__call__(x)

        def fetching(outputs, count):
            out.pop()
            return fetched(outputs, count)

        monkeypatch.setattr(stream, "Forward", Forward)
        monkeypatch.setattr(stream, "fetched", fetching)
        certify(Source(dense(), np.zeros(6), Uniform(0.1), engine="jax"), FIRST, Request(0.1, 0.01, 640))
        assert events == [1] + [2] * 9
        assert out == []

    def test_no_thread_is_left(self, monkeypatch):
        monkeypatch.setattr(stream, "MOST_ROWS", 64)
        before = threading.active_count()
        source = Source(dense(), np.zeros(6), Uniform(0.1), engine="jax")
        each = source.each(6400, 0, lambda y: y, threads=3)
        next(each)
        each.close()
        assert threading.active_count() == before


class TestRefusals:
    def test_outputs_that_are_no_numbers(self):
        """Rounding to infinity, then infinity less infinity."""
        huge = Network.from_arrays([np.full((6, 2), 1e300), np.full((2, 3), 1e300)], [np.ones(2), np.ones(3)], "linear")
        with pytest.raises(ArfjError, match="NaN or infinite"):
            certify(Source(huge, np.full(6, 0.5), Uniform(0.1), engine="jax"), FIRST, Request(0.1, 0.01))

    def test_callables_stay_here(self, monkeypatch):
        monkeypatch.setattr(stream, "Forward", lambda *_: pytest.fail("a callable was compiled"))
        network = dense()
        found = [
            certify(Source(function, np.zeros(6), Uniform(0.1), engine="jax"), FIRST, Request(0.1, 0.01)).bound
            for function in (lambda x: 2 * network(x), lambda x: network(x) * 2)
        ]
        assert found[0] == found[1]

    def test_an_engine_that_is_not_known(self):
        with pytest.raises(UsageError, match="no engine 'cuda'; expected one of numpy, jax"):
            Source(dense(), np.zeros(6), Uniform(0.1), engine="cuda")

    @pytest.mark.parametrize(
        ("said", "words"), [("RESOURCE_EXHAUSTED: Out of memory", "memory is full"), ("INTERNAL: x\ny", "INTERNAL: x")]
    )
    def test_a_device_that_refuses(self, said, words, monkeypatch):
        def program(*_):
            raise RuntimeError(said)

        monkeypatch.setattr(compiled, "compiled", lambda: program)
        with pytest.raises(ArfjError, match=words):
            certify(Source(dense(), np.zeros(6), Uniform(0.1), engine="jax"), FIRST, Request(0.1, 0.01))

    def test_without_jax(self, monkeypatch):
        monkeypatch.setattr(compiled.importlib.util, "find_spec", lambda name: None)
        with pytest.raises(UsageError, match="needs JAX"):
            certify(Source(dense(), np.zeros(6), Uniform(0.1), engine="jax"), FIRST, Request(0.1, 0.01))

    def test_a_sparse_map_with_a_full_column(self, monkeypatch):
        monkeypatch.setattr(compiled, "DENSE", 0)
        monkeypatch.setattr(compiled, "MOST", 5)
        with pytest.raises(UsageError, match="use --device cpu"):
            certify(Source(branching("relu"), np.zeros(6), Uniform(0.1), engine="jax"), FIRST, Request(0.1, 0.01))


class TestCommand:
    @pytest.fixture
    def asked(self, tmp_path):
        dense().save(tmp_path / "n.npz")
        np.save(tmp_path / "x.npy", np.full(6, 0.4))
        return ["scenario", "--network", tmp_path / "n.npz", "--image", tmp_path / "x.npy", "--true", 0]

    @pytest.fixture
    def command(self, capsys):
        return calling(main, capsys)

    def test_no_gpu_and_no_jax(self, command, asked, monkeypatch):
        asked = [*asked, "--noise", "uniform:0.1", "--device", "gpu"]
        monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
        command(*asked).is_error(2, "finds no GPU")

        def refusing():
            raise error

        monkeypatch.setattr(jax, "default_backend", refusing)
        for error in (RuntimeError("Unable to initialize backend 'cuda'"), AssertionError()):
            command(*asked).is_error(2, f"JAX does not start ({str(error) or 'it asserts'}")
        monkeypatch.setitem(sys.modules, "jax", None)
        command(*asked).is_error(2, "needs JAX")

    def test_the_answer_is_that_of_the_processor(self, command, asked, monkeypatch):
        monkeypatch.setattr("arfj.certify.scenario.command.check_device", lambda device: None)
        asked = [*asked, "--noise", "gauss:0.1", "--clip", "--seed", 4, "--epsilon", 0.01]
        made = []
        forward = stream.Forward
        monkeypatch.setattr(stream, "Forward", lambda *a: made.append(1) or forward(*a))
        one, two = (command(*asked, "--device", device).out.splitlines() for device in ("cpu", "gpu"))
        assert (one[0], one[-1], made) == (two[0], two[-1], [1])

    def test_noise_on_parameters_stays_here(self, command, asked):
        command(*asked, "--noise", "inner:0.1", "--device", "gpu").is_error(2, "--device gpu is about noise")
        command(*asked, "--noise", "uniform:1", "--device", "tpu").is_error(2, "invalid choice")
