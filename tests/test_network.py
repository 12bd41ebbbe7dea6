"""Networks as values: the forward pass by hand, files that come back equal, and bad files in one line."""

import hashlib
import itertools
import pickle
from dataclasses import replace

import numpy as np
import pytest

from arfj.errors import NetworkError
from arfj.network import Dense, Network, load_network, softmax

# x = (1, 2): W0'x + b0 = (1 - 2 + 0.5, 3 + 2, -4) -> (0, 5, 0) -> (10 - 1, -5 + 1) -> (9, 0)
W0, B0 = np.array([[1.0, 3.0, 0.0], [-1.0, 1.0, -2.0]]), np.array([0.5, 0.0, 0.0])
W1, B1 = np.array([[7.0, 7.0], [2.0, -1.0], [7.0, 7.0]]), np.array([-1.0, 1.0])
SMALL = Network.from_arrays([W0, W1], [B0, B1])


def random_network(sizes=(6, 4, 3), seed=0, activation="relu"):
    rng = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(sizes))
    return Network.from_arrays(
        [rng.normal(size=pair) for pair in pairs], [rng.normal(size=b) for _, b in pairs], activation
    )


class TestForward:
    def test_by_hand(self):
        before = SMALL.preactivations([[1, 2]])
        assert np.array_equal(before[0], [[-0.5, 5, -4]])
        assert np.array_equal(before[1], [[9, -4]])
        assert np.array_equal(SMALL([[1, 2]]), [[9, 0]])
        assert np.array_equal(Network.from_arrays([W0, W1], [B0, B1], "linear")([[1, 2]]), [[9, -4]])

    def test_probabilities_by_hand(self):
        top = np.exp(9) / (np.exp(9) + 1)
        assert SMALL.probabilities([[1, 2]]) == pytest.approx(np.array([[top, 1 - top]]))

    def test_softmax_of_large_outputs(self):
        assert softmax([1e4, 1e4]) == pytest.approx([0.5, 0.5])
        assert softmax([-1e4, 0]) == pytest.approx([0, 1])

    def test_tie_goes_to_the_first(self):
        assert Network.from_arrays([np.eye(3)], [np.zeros(3)]).classify([[0.1, 0.5, 0.5], [0, 0, 0]]).tolist() == [1, 0]

    def test_images_of_any_shape(self):
        network = Network(random_network().layers, (2, 3))
        x = np.random.default_rng(1).random((5, 2, 3))
        assert np.array_equal(network(x), network(x.reshape(5, 6)))
        assert network(x).dtype == np.float64
        assert network(x.astype(np.float32)).dtype == np.float64

    @pytest.mark.parametrize("x", [np.zeros(6), np.zeros((1, 5)), np.zeros((1, 7)), 0.0])
    def test_wrong_shape(self, x):
        with pytest.raises(NetworkError, match="do not fit"):
            random_network()(x)


class TestRecord:
    def test_sizes(self):
        assert (SMALL.sizes, SMALL.inputs, SMALL.classes, SMALL.input_shape) == ((2, 3, 2), 2, 2, (2,))

    def test_frozen(self):
        weights = W0.copy()
        layer = Dense(weights, B0)
        weights[0, 0] = 99
        assert layer.weight[0, 0] == 1
        with pytest.raises(ValueError, match="read-only"):
            layer.weight[0, 0] = 5
        with pytest.raises(AttributeError):
            layer.bias = B0

    def test_parameters_in_order(self):
        assert SMALL.parameters().tolist() == [1, 3, 0, -1, 1, -2, 0.5, 0, 0, 7, 7, 2, -1, 7, 7, -1, 1]
        shifted = SMALL.with_parameters(SMALL.parameters() + 1)
        assert np.array_equal(shifted.layers[1].weight, W1 + 1)
        assert np.array_equal(shifted.layers[0].bias, B0 + 1)
        for size in (16, 18):
            with pytest.raises(NetworkError, match="do not fit"):
                SMALL.with_parameters(np.zeros(size))

    @pytest.mark.parametrize("given", [Network(SMALL.layers, softmax=True), SMALL.graph()])
    def test_a_softmax_that_was_taken_off_is_not_forgotten(self, tmp_path, given):
        """Properties that ask for values of probabilities are refused of it, also once it was saved."""
        network = replace(given, softmax=True)
        network.save(tmp_path / "n.npz")
        assert load_network(tmp_path / "n.npz").softmax
        if isinstance(network, Network):
            assert network.graph().softmax
            assert network.graph().dense_chain().softmax
            assert network.with_parameters(network.parameters()).softmax
        replace(given, softmax=False).save(tmp_path / "n.npz")
        with np.load(tmp_path / "n.npz") as arrays:
            assert "softmax" not in arrays
            others = dict(arrays)
        assert not load_network(tmp_path / "n.npz").softmax
        np.savez(tmp_path / "n.npz", softmax=np.array("yes"), **others)
        with pytest.raises(NetworkError, match="true or false"):
            load_network(tmp_path / "n.npz")

    def test_complex_weights_are_none(self):
        with pytest.raises(NetworkError, match="complex"):
            Dense(W0 + 1j, B0)

    def test_with_parameters_keeps_the_activation_and_shape(self):
        network = Network(random_network(activation="linear").layers, (2, 3))
        again = network.with_parameters(network.parameters())
        assert again.layers[-1].activation == "linear"
        assert again.input_shape == (2, 3)

    def test_fingerprint(self):
        network = random_network()
        assert network.fingerprint() == random_network().fingerprint()
        assert len(network.fingerprint()) == len(hashlib.sha256().hexdigest())
        nudged = network.parameters()
        nudged[3] = np.nextafter(nudged[3], 9)
        others = [
            network.with_parameters(nudged),
            random_network(activation="linear"),
            random_network(seed=1),
            random_network((6, 3, 4)),
        ]
        assert network.fingerprint() not in {other.fingerprint() for other in others}

    @pytest.mark.parametrize(
        ("weights", "biases", "message"),
        [
            ([], [], "at least one layer"),
            (
                [np.zeros((2, 3)), np.zeros((2, 2))],
                [np.zeros(3), np.zeros(2)],
                "layer 0 gives 3 values, layer 1 takes 2",
            ),
            ([np.zeros((2, 3))], [np.zeros(2)], r"needs \(3,\)"),
            ([np.zeros(3)], [np.zeros(3)], "expected"),
            ([np.zeros((2, 0))], [np.zeros(0)], "at least 1"),
            ([np.full((2, 2), np.nan)], [np.zeros(2)], "NaN"),
            ([np.zeros((2, 2))], [[0, np.inf]], "infinity"),
            ([[["a", "b"]]], [np.zeros(2)], "numbers"),
        ],
    )
    def test_refused(self, weights, biases, message):
        with pytest.raises(NetworkError, match=message):
            Network.from_arrays(weights, biases)

    def test_hidden_linear_layer_is_refused(self):
        with pytest.raises(NetworkError, match="linear"):
            Network((Dense(W0, B0, "linear"), Dense(W1, B1)))

    @pytest.mark.parametrize("shape", [(7,), (2, 2), (-2, -3), (6, 1, 0)])
    def test_input_shape_that_does_not_fit(self, shape):
        with pytest.raises(NetworkError, match="input shape"):
            Network(random_network().layers, shape)


class TestFile:
    @pytest.mark.parametrize("activation", ["relu", "linear"])
    def test_round_trip(self, tmp_path, activation):
        network = Network(random_network(activation=activation).layers, (3, 2))
        network.save(tmp_path / "n.npz")
        again = load_network(tmp_path / "n.npz")
        assert again.fingerprint() == network.fingerprint()
        assert again.input_shape == (3, 2)
        assert again.layers[-1].activation == activation

    def test_plain_arrays_and_float32(self, tmp_path):
        single = [array.astype(np.float32) for array in (W0 / 3, B0 / 3, W1 / 3, B1 / 3)]
        np.savez(tmp_path / "n.npz", **dict(zip(("W0", "b0", "W1", "b1"), single, strict=True)))
        network = load_network(tmp_path / "n.npz")
        assert network.layers[0].weight.dtype == np.float64
        assert np.array_equal(network.layers[1].weight, (W1 / 3).astype(np.float32).astype(np.float64))
        assert network.layers[-1].activation == "relu"

    def test_more_than_ten_layers_keep_their_order(self, tmp_path):
        network = random_network((2, 3, *range(4, 14), 2))
        network.save(tmp_path / "n.npz")
        assert load_network(tmp_path / "n.npz").sizes == network.sizes

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"b1": None}, "expected W0, b0"),
            ({"W0": None}, "expected W0, b0"),
            ({"extra": 1.0}, "expected W0, b0"),
            ({"W0": np.zeros((3, 3))}, None),
            ({"W1": np.zeros((4, 2))}, "layer 0 gives 3 values, layer 1 takes 4"),
            ({"W0": np.full((2, 3), np.nan)}, "NaN"),
            ({"b0": np.zeros((3, 1))}, "bias has shape"),
            ({"W0": W0.astype(complex)}, "real numbers"),
            ({"W0": np.full((2, 3), "a")}, "real numbers"),
            ({"output_activation": "tanh"}, "'relu' or 'linear'"),
            ({"input_shape": [3]}, "input shape"),
            ({"input_shape": [[2]]}, "input_shape must"),
            ({"input_shape": [2.5]}, "input_shape must"),
            ({"b0": np.array([{}, {}, {}], dtype=object)}, "pickled"),
        ],
    )
    def test_odd_content(self, tmp_path, change, message):
        arrays = {"W0": W0, "b0": B0, "W1": W1, "b1": B1} | change
        np.savez(tmp_path / "n.npz", **{key: np.array(value) for key, value in arrays.items() if value is not None})
        if message is None:  # another number of inputs is no error
            assert load_network(tmp_path / "n.npz").inputs == 3
            return
        with pytest.raises(NetworkError, match=message) as caught:
            load_network(tmp_path / "n.npz")
        assert "n.npz" in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("damage", ["truncated", "pickle", "empty", "bare"])
    def test_broken_file(self, tmp_path, damage):
        path = tmp_path / "n.npz"
        SMALL.save(path)
        data = path.read_bytes()
        match damage:
            case "truncated":
                path.write_bytes(data[:-40])
            case "pickle":
                path.write_bytes(pickle.dumps({"W0": 1}))
            case "empty":
                path.write_bytes(b"")
            case "bare":
                with path.open("wb") as stream:
                    np.save(stream, W0)
        with pytest.raises(NetworkError, match=r"n\.npz"):
            load_network(path)

    @pytest.mark.parametrize("name", ["none.npz", "n.txt", "n"])
    def test_no_such_file_or_kind(self, tmp_path, name):
        with pytest.raises(NetworkError, match=name):
            load_network(tmp_path / name)
