"""Graphs of affine maps and activations: values by hand, the same values after simplification, files that come back."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from arfj.bounds import pre_activation_bounds
from arfj.builder import Builder
from arfj.errors import NetworkError
from arfj.graph import Activation, Affine, Graph, composed_bias, composed_map
from arfj.network import Network, load_dense, load_network
from arfj.region import Region
from arfj.simplify import simplified

EYE = np.eye(2)
# x = (1, -2): v1 = (1 - 2, -2 + 1) + (0, 1) = (-1, 0) is read twice; v2 = ReLU(v1) = (0, 0); v3 = v1 + 2 v2 - x
SKIP = Graph(
    2,
    (
        Affine((0,), (np.array([[1.0, 1.0], [1.0, 0.0]]),), np.array([0.0, -1.0])),
        Activation(1, "relu"),
        Affine((1, 2, 0), (EYE, csr_array(2 * EYE), -EYE), np.zeros(2)),
    ),
)


def random_graph(seed, nodes=8, sparse=0.5):
    """Nodes that read any earlier values; the last one is affine."""
    rng = np.random.default_rng(seed)
    sizes, made = [3], []
    for index in range(1, nodes + 1):
        if index < nodes and rng.random() < 0.4:
            source = int(rng.integers(index))
            made.append(Activation(source, ["relu", "sigmoid", "tanh"][rng.integers(3)]))
            sizes.append(sizes[source])
            continue
        sources = tuple(sorted({index - 1, *rng.integers(index, size=2).tolist()}))
        size = int(rng.integers(1, 5))
        maps = [rng.normal(size=(sizes[j], size)) * (rng.random((sizes[j], size)) > 0.5) for j in sources]
        made.append(
            Affine(sources, tuple(csr_array(m) if rng.random() < sparse else m for m in maps), rng.normal(size=size))
        )
        sizes.append(size)
    return Graph(3, tuple(made))


class TestForward:
    def test_by_hand(self):
        values = SKIP.values([[1, 2], [1, -2]])
        assert [value.tolist() for value in values] == [
            [[1, 2], [1, -2]],
            [[3, 0], [-1, 0]],
            [[3, 0], [0, 0]],
            [[8, -2], [-2, 2]],
        ]
        assert SKIP([[1, 2]]).tolist() == [[8, -2]]
        assert SKIP.classify([[1, 2], [1, -2]]).tolist() == [0, 1]
        assert SKIP.probabilities([[1, 2]])[0, 0] == pytest.approx(1 / (1 + np.exp(-10)))
        assert (SKIP.classes, SKIP.sizes, SKIP.input_shape) == (2, (2, 2, 2, 2), (2,))
        assert SKIP.graph() is SKIP

    def test_smooth_activations_by_hand(self):
        graph = Graph(
            1, (Activation(0, "sigmoid"), Activation(0, "tanh"), Affine((1, 2), ([[1, 0]], [[0, 1]]), [0, 0]))
        )
        expected = [[0.5, 0], [1 / (1 + np.exp(-2)), np.tanh(2)], [0, -1], [1, 1]]
        np.testing.assert_allclose(graph([[0], [2], [-1e4], [1e4]]), expected, rtol=1e-15)
        assert graph([[-700]])[0, 0] == pytest.approx(np.exp(-700), rel=1e-12)

    def test_images_of_any_shape(self):
        graph = Graph(6, (Affine((0,), (np.arange(12).reshape(6, 2),), [0, 1]),), (2, 3))
        x = np.random.default_rng(0).random((5, 2, 3), dtype=np.float32)
        assert np.array_equal(graph(x), graph(x.reshape(5, 6)))
        assert graph(x).dtype == np.float64

    @pytest.mark.parametrize("x", [np.zeros(2), np.zeros((1, 3)), 0.0])
    def test_wrong_shape(self, x):
        with pytest.raises(NetworkError, match="do not fit"):
            SKIP(x)

    @pytest.mark.parametrize("last", ["relu", "linear"])
    def test_networks(self, last):
        rng = np.random.default_rng(2)
        network = Network.from_arrays([rng.normal(size=(4, 3)), rng.normal(size=(3, 2))], [[1, 2, 3], [0, 1]], last)
        network = Network(network.layers, (2, 2))
        graph, x = network.graph(), rng.normal(size=(7, 4))
        assert np.array_equal(graph(x), network(x))
        assert np.array_equal(graph.values(x)[3], network.preactivations(x)[1])
        assert graph.nodes[0].maps[0] is network.layers[0].weight
        assert graph.dense_chain().fingerprint() == network.fingerprint()
        assert graph.dense_chain().input_shape == graph.input_shape == (2, 2)


class TestRecord:
    def test_frozen(self):
        dense, sparse = np.ones((2, 2)), csr_array(np.ones((2, 2)))
        node = Affine((0, 1), (dense, sparse), [0, 0])
        dense[0, 0] = sparse.data[0] = 9
        assert node.maps[0][0, 0] == node.maps[1][0, 0] == 1
        for array in (node.maps[0], node.maps[1].data, node.maps[1].indices, node.bias):
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 5

    def test_sparse_maps_are_canonical(self):
        twice = csr_array((np.array([1.0, 2.0, 4.0]), np.array([1, 1, 0]), np.array([0, 3])), shape=(1, 2))
        matrix = Affine((0,), (twice,), [0, 0]).maps[0]
        assert (matrix.data.tolist(), matrix.indices.tolist()) == ([4, 3], [0, 1])

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda: Affine((), (), [0.0]), "expected one map each"),
            (lambda: Affine((0, 0), (EYE, EYE), [0, 0]), "expected one map each"),
            (lambda: Affine((0,), (EYE, EYE), [0, 0]), "expected one map each"),
            (lambda: Affine((0,), (EYE,), [0, 0, 0]), "does not fit its bias"),
            (lambda: Affine((0,), (np.zeros(2),), [0, 0]), "does not fit its bias"),
            (lambda: Affine((0,), (EYE,), [[0, 0], [0, 0]]), "does not fit its bias"),
            (lambda: Affine((0,), (np.zeros((0, 2)),), [0, 0]), "does not fit its bias"),
            (lambda: Affine((0,), (EYE * np.nan,), [0, 0]), "NaN"),
            (lambda: Affine((0,), (csr_array(EYE * np.inf),), [0, 0]), "infinity"),
            (lambda: Affine((0,), (EYE,), [0, np.inf]), "infinity"),
            (lambda: Activation(0, "gelu"), "'gelu' is not known"),
            (lambda: Graph(2, ()), "at least one node"),
            (lambda: Graph(2, (Activation(1, "relu"),)), "earlier ones"),
            (lambda: Graph(2, (Activation(-1, "relu"),)), "earlier ones"),
            (lambda: Graph(3, (Affine((0,), (EYE,), [0, 0]),)), "node 1 maps 2 values of the 3"),
            (lambda: Graph(2, (Activation(0, "relu"),), (3,)), "input shape"),
            (lambda: Graph(4, (Activation(0, "relu"),), (-2, -2)), "input shape"),
        ],
    )
    @pytest.mark.filterwarnings("ignore:invalid value")
    def test_refused(self, make, message):
        with pytest.raises(NetworkError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)

    def test_fingerprint(self):
        dense, sparse = random_graph(1, sparse=0.0), random_graph(1, sparse=1.0)
        assert dense.fingerprint() == sparse.fingerprint()
        last = dense.nodes[-1]
        assert isinstance(last, Affine)
        nudged = [np.where(matrix == matrix[-1, -1], np.nextafter(matrix, 9), matrix) for matrix in last.maps]
        kinds = [
            Graph(1, (Activation(0, one), Activation(1, two)))
            for one in ("relu", "tanh") for two in ("relu", "tanh")
        ]  # fmt: skip
        others = [
            dense,
            Graph(3, (*dense.nodes[:-1], Affine(last.sources, tuple(nudged), last.bias))),
            Graph(3, (*dense.nodes[:-1], Affine(last.sources, last.maps, np.nextafter(last.bias, 9)))),
            Graph(3, dense.nodes[:-1]),
            *kinds,
        ]
        assert len({other.fingerprint() for other in others}) == len(others)


class TestDenseChain:
    def test_consecutive_maps_are_composed(self):
        nodes = (
            Affine((0,), (csr_array([[2.0, 0, 0], [0, 0, 3]]),), [1, 0, 0]),
            Affine((1,), (np.array([[1.0], [1], [-1]]),), [0.5]),
            Activation(2, "relu"), Activation(3, "relu"),
        )  # fmt: skip
        chain = Graph(2, nodes).dense_chain()
        assert chain.sizes == (2, 1)
        assert chain.layers[0].weight.tolist() == [[2], [-3]]
        assert chain.layers[0].bias.tolist() == [1.5]
        assert chain([[1, 0], [0, 1]]).tolist() == [[3.5], [0]]

    @pytest.mark.parametrize(
        ("nodes", "words"),
        [
            ((Activation(0, "relu"),), "node 1 is a ReLU of the input itself"),
            ((Affine((0,), (EYE,), [0, 0]), Activation(1, "tanh")), "node 2 is a tanh"),
            (SKIP.nodes, "node 3 reads the values 1, 2, 0, which is a branch"),
            # Made in the test alone: a gigabyte.
            (lambda: (Affine((0,), (csr_array((2, 2**27)),), np.zeros(2**27)),), "entries, more than"),
        ],
    )
    def test_what_is_none(self, tmp_path, nodes, words):
        nodes = nodes() if callable(nodes) else nodes
        graph = Graph(2, nodes)
        assert graph.dense_chain() is None
        assert words in graph.obstacle()
        if len(nodes) < 4 and graph.classes < 9:
            graph.save(tmp_path / "n.npz")
            with pytest.raises(NetworkError, match=words) as caught:
                load_dense(tmp_path / "n.npz")
            assert "n.npz" in str(caught.value)


class TestFile:
    @pytest.mark.parametrize("seed", range(4))
    def test_round_trip(self, tmp_path, seed):
        graph = random_graph(seed)
        graph.save(tmp_path / "n.npz")
        again = load_network(tmp_path / "n.npz")
        assert again.fingerprint() == graph.fingerprint()
        assert [type(m) for n in again.nodes for m in getattr(n, "maps", ())] == [
            type(m) for n in graph.nodes for m in getattr(n, "maps", ())
        ]
        x = np.random.default_rng(seed).normal(size=(3, 3))
        assert np.array_equal(again(x), graph(x))

    def test_input_shape_comes_back(self, tmp_path):
        Graph(6, (Activation(0, "tanh"),), (1, 2, 3)).save(tmp_path / "n.npz")
        assert load_network(tmp_path / "n.npz").input_shape == (1, 2, 3)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"nodes": np.array(["affine", "gelu", "affine"])}, "gelu"),
            ({"nodes": np.array(["affine", "relu"])}, "belong to no node"),
            ({"nodes": np.array(["affine", "affine", "affine"])}, "map_2_0 is missing"),
            ({"nodes": np.array(["affine", "relu", "affine", "relu"])}, "sources_4 is missing"),
            ({"W0": EYE}, "W0, which belong to no node"),
            ({"bias_1": None}, "bias_1 is missing"),
            ({"bias_1": np.array(["a", "b"])}, "bias_1 holds <U1 values"),
            ({"sources_2": np.array([0.5])}, "sources_2 holds float64"),
            ({"sources_2": np.array([0, 1])}, "has 2 sources"),
            ({"sources_2": np.array([2])}, "earlier ones"),
            ({"map_1_0": np.full((2, 2), np.nan)}, "NaN"),
            ({"map_3_1_indices": np.array([0, 7])}, "no sparse matrix"),
            ({"map_3_1_indptr": np.array([0, 1])}, "no sparse matrix"),
            ({"map_3_1_shape": np.array([-2, 2])}, "no sparse matrix"),
            ({"map_3_1_shape": np.array([2])}, "n.npz"),
            ({"map_3_1_shape": None}, "map_3_1_shape is missing"),
            ({"input_shape": np.array([3])}, "node 1 maps 2 values of the 3"),
            ({"input_shape": None}, "input_shape is missing"),
        ],
    )
    def test_odd_content(self, tmp_path, change, message):
        SKIP.save(tmp_path / "n.npz")
        with np.load(tmp_path / "n.npz") as archive:
            arrays = {**archive} | change
        np.savez(tmp_path / "n.npz", **{key: value for key, value in arrays.items() if value is not None})
        with pytest.raises(NetworkError, match=message) as caught:
            load_network(tmp_path / "n.npz")
        assert "n.npz" in str(caught.value)
        assert "\n" not in str(caught.value)


class TestSimplified:
    @settings(max_examples=60, deadline=None)
    @given(st.integers(0, 10**6), st.integers(1, 12))
    def test_the_same_network_in_fewer_nodes(self, seed, nodes):
        graph = random_graph(seed, nodes)
        short = simplified(graph)
        x = np.random.default_rng(seed).normal(size=(5, 3))
        assert len(short.nodes) <= len(graph.nodes)
        np.testing.assert_allclose(short(x), graph(x), rtol=1e-9, atol=1e-9)
        for index, node in enumerate(short.nodes[:-1], start=1):
            readers = [other for other in short.nodes if index in other.sources]
            assert readers
            assert isinstance(node, Activation) or any(isinstance(other, Activation) for other in readers)

    def test_by_hand(self):
        graph = Graph(
            2,
            (
                Affine((0,), (EYE,), [1, 0]),
                Affine((0,), (2 * EYE,), [0, 0]),
                Affine((1, 2), (EYE, 3 * EYE), [0, 1]),
                Activation(3, "relu"),
                Activation(3, "tanh"),
                Affine((4, 5), (EYE, EYE), [0, 0]),
            ),
        )
        short = simplified(graph)
        assert [node.sources for node in short.nodes] == [(0,), (1,), (1,), (2, 3)]
        assert short.nodes[0].maps[0].tolist() == [[7, 0], [0, 7]]
        assert short.nodes[0].bias.tolist() == [1, 1]

    def test_what_an_activation_reads_stays_one_value(self):
        graph = Graph(2, (Affine((0,), (EYE,), [1, 0]), Activation(1, "relu"), Affine((1, 2), (EYE, EYE), [0, 0])))
        assert [node.sources for node in simplified(graph).nodes] == [(0,), (1,), (1, 2)]

    def test_maps_are_held_by_their_density(self):
        thin = np.eye(8)
        for matrix in (thin, csr_array(thin)):
            assert isinstance(simplified(Graph(8, (Affine((0,), (matrix,), np.zeros(8)),))).nodes[0].maps[0], csr_array)
        for matrix in (EYE, csr_array(EYE)):
            assert isinstance(simplified(Graph(2, (Affine((0,), (matrix,), [0, 0]),))).nodes[0].maps[0], np.ndarray)

    @pytest.mark.parametrize(("middle", "nodes"), [(1, 2), (400, 1)])
    def test_products_with_many_entries_are_not_made(self, middle, nodes):
        # A column times a row, 400 + 400 entries, has a product of 160,000.
        maps = (np.ones((400, middle)), np.ones((middle, 400)))
        graph = Graph(400, (Affine((0,), maps[:1], np.zeros(middle)), Affine((1,), maps[1:], np.zeros(400))))
        assert len(simplified(graph).nodes) == nodes

    def test_cancelled_entries_do_not_count(self):
        graph = Graph(2, (Affine((0,), (EYE,), [0, 0]), Affine((0, 1), (EYE, -EYE), [0, 1])))
        short = simplified(graph)
        assert len(short.nodes) == 1
        assert short([[3, 4]]).tolist() == [[0, 1]]


LARGE, NEXT = 2.0**18, 2.0**18 + 1  # NEXT**3 - LARGE**3 - 3 LARGE**2 - 3 LARGE = 1
CANCEL = [np.array([[NEXT, LARGE, LARGE, LARGE]]), np.diag([NEXT, LARGE, LARGE, 1.0])]
CANCEL += [np.array([[NEXT], [-LARGE], [-3.0], [-3.0]])]


class TestLostDigits:
    """What composing would round off, no bound would cover."""

    @pytest.mark.parametrize("sparse", [False, True])
    def test_maps_that_cancel_stay(self, sparse):
        """The product is 1, and 0 in float64."""
        maps = [csr_array(one) if sparse else one for one in CANCEL]
        nodes = [Affine((k,), (one,), np.zeros(one.shape[1])) for k, one in enumerate(maps)]
        graph = Graph(1, tuple(nodes))
        short = simplified(graph)
        assert len(short.nodes) == 2
        assert graph.dense_chain() is None
        assert short.dense_chain() is None
        for method in ("interval", "crown", "alpha-crown"):
            bounds = pre_activation_bounds(short, Region.between([1.0], [1.0]), method)
            assert bounds.lower[-1][0] <= 1.0 <= bounds.upper[-1][0]

    @pytest.mark.parametrize("sparse", [False, True])
    @pytest.mark.parametrize(("large", "nodes"), [(1e2, 1), (1e10, 2)])
    def test_biases_that_cancel_stay(self, sparse, large, nodes):
        one = csr_array([[1.0]]) if sparse else np.array([[1.0]])
        graph = Graph(1, (Affine((0,), (one,), [large]), Affine((1,), (one,), [0.3 - large])))
        short = simplified(graph)
        assert len(short.nodes) == nodes
        assert (graph.dense_chain() is None) == (nodes == 2)
        truth = Fraction(large) + Fraction(0.3 - large)
        bounds = pre_activation_bounds(short, Region.between([0.0], [0.0]), "crown")
        assert Fraction(bounds.lower[-1][0]) <= truth <= Fraction(bounds.upper[-1][0])

    @given(st.integers(0, 2**32 - 1), st.booleans())
    @settings(deadline=None)
    def test_what_is_composed_is_near(self, seed, sparse):
        """Of maps without large cancellations, within what bounds are moved outward by; biases to the last digit."""
        rng = np.random.default_rng(seed)
        one, two, more = rng.normal(size=(5, 7)), rng.normal(size=(7, 4)), rng.normal(size=(5, 4))
        bias, last = rng.normal(size=7) * (rng.random(7) < 0.8), rng.normal(size=4)
        exact = [
            [sum(Fraction(a) * Fraction(b) for a, b in zip(row, column, strict=True)) for column in two.T]
            for row in one
        ]
        given_ = [csr_array(matrix) if sparse else matrix for matrix in (one, two, more)]
        product = composed_map(*given_)
        dense = product.toarray() if sparse else product
        for row, mine, added in zip(exact, dense, more, strict=True):
            for value, found, extra in zip(row, mine, added, strict=True):
                assert abs(value + Fraction(extra) - Fraction(found)) < 1e-14
        shift = composed_bias(bias, given_[1], last)
        for column, start, found in zip(two.T, last, shift, strict=True):
            truth = sum((Fraction(a) * Fraction(b) for a, b in zip(bias, column, strict=True)), Fraction(start))
            assert abs(truth - Fraction(found)) <= abs(truth) * Fraction(2) ** -52


class TestBuilder:
    @pytest.mark.parametrize("slope", [0.0, 0.25, 1.0, -0.5, 3.0])
    def test_leaky(self, slope):
        builder = Builder((3,))
        network = builder.finish(builder.leaky(builder.input, slope), (3,))
        assert network([[-2, 0, 4]]).tolist() == [[-2 * slope, 0, 4]]

    @pytest.mark.parametrize(("lower", "upper"), [(-1, 2), (-np.inf, 2), (-1, np.inf), (0, 0)])
    def test_clip(self, lower, upper):
        builder = Builder((3,))
        network = builder.finish(builder.clip(builder.input, lower, upper), (3,))
        assert network([[-3, 1, 4]]).tolist() == [np.clip([-3, 1, 4], lower, upper).tolist()]

    @pytest.mark.parametrize("count", range(1, 10))
    def test_maximum(self, count):
        rng, builder = np.random.default_rng(count), Builder((12,))
        reads = np.array([rng.choice(12, count, replace=False) for _ in range(5)])
        network = builder.finish(builder.activate(builder.maximum(builder.input, reads, (5,)), "tanh"), (12,))
        x = rng.normal(size=(50, 12))
        np.testing.assert_allclose(network(x), np.tanh(x[:, reads].max(axis=-1)), atol=1e-12)
        assert sum(isinstance(node, Activation) for node in network.nodes) == 1 + (count - 1).bit_length()

    def test_relu_twice_is_once(self):
        builder = Builder((2,))
        once = builder.activate(builder.input, "relu")
        assert builder.activate(once, "relu") == once
        assert builder.activate(once, "tanh") != once

    def test_too_large(self):
        builder = Builder((2**14, 1))
        with pytest.raises(NetworkError, match="connections"):
            builder.add(builder.input, builder.scale(builder.input).reshaped((1, 2**14)))
