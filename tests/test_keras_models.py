"""Keras models: the forward pass agrees with Keras' own, and everything else is refused in one line."""

import re
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from arfj.errors import NetworkError
from arfj.graph import Graph
from arfj.keras_models import from_keras, import_keras, read_keras
from arfj.network import Network, load_dense, load_network

pytest.importorskip("tensorflow", reason="needs pip install 'arfj[train]'")
keras = import_keras()
layers = keras.layers


def sequential(*parts, shape=(12,)):
    keras.utils.set_random_seed(7)
    model = keras.Sequential([keras.Input(shape), *parts])
    for variable in model.trainable_variables:  # biases too
        variable.assign(np.random.default_rng(variable.shape[0]).normal(size=variable.shape))
    return model


def functional():
    keras.utils.set_random_seed(8)
    x = keras.Input((3, 4))
    y = layers.Dense(5)(layers.Flatten()(x))
    return keras.Model(x, layers.Softmax()(layers.Dense(4)(layers.ReLU()(y))))


MODELS = {
    "relu output": lambda: sequential(layers.Dense(8, "relu"), layers.Dense(6, "relu"), layers.Dense(4, "relu")),
    "logits": lambda: sequential(layers.Dense(8, "relu"), layers.Dense(4)),
    "softmax": lambda: sequential(layers.Dense(8, "relu"), layers.Dense(4, "softmax")),
    "softmax over relu": lambda: sequential(layers.Dense(8, "relu"), layers.Dense(4, "relu"), layers.Softmax()),
    "activation layers": lambda: sequential(
        layers.Dense(8), layers.Activation("relu"), layers.Activation("linear"), layers.Dense(4),
        layers.Activation("softmax"),
    ),
    "merged": lambda: sequential(layers.Dense(8), layers.Dense(6), layers.ReLU(), layers.ReLU(), layers.Dense(4)),
    "dropout, no bias": lambda: sequential(
        layers.Dense(8, "relu", use_bias=False), layers.Dropout(0.5), layers.Dense(4)
    ),
    "flatten": lambda: sequential(layers.Flatten(), layers.Dense(8, "relu"), layers.Dense(4), shape=(3, 4)),
    "functional": functional,
    "nested": lambda: keras.Sequential([keras.Input((12,)), MODELS["logits"](), layers.ReLU(), MODELS_HEAD()]),
}  # fmt: skip


def MODELS_HEAD():
    return keras.Sequential([keras.Input((4,)), layers.Dense(3, "relu"), layers.Dense(2)])


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", MODELS)
def test_forward_agrees_with_keras(name, suffix, tmp_path):
    model = MODELS[name]()
    path = tmp_path / f"model{suffix}"
    # Keras warns that .h5 is old.
    model.save(path)
    network = load_network(path)
    assert isinstance(network, Network)
    assert network.input_shape == tuple(model.input_shape[1:])
    x = np.random.default_rng(1).uniform(0, 1, (50, *network.input_shape))
    expected = model.predict(x.astype(np.float32), verbose=0)
    softmax = np.allclose(expected.sum(axis=1), 1, atol=1e-5)
    found = network.probabilities(x) if softmax else network(x)
    np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-5)
    assert from_keras(model).fingerprint() == network.fingerprint()


def test_output_activations():
    assert from_keras(MODELS["relu output"]()).layers[-1].activation == "relu"
    assert from_keras(MODELS["softmax over relu"]()).layers[-1].activation == "relu"
    assert from_keras(MODELS["softmax"]()).layers[-1].activation == "linear"
    assert from_keras(MODELS["softmax"]()).softmax
    assert from_keras(MODELS["merged"]()).sizes == (12, 6, 4)


def randomised(model):
    """The model with random weights and random, positive, moving variances."""
    for index, variable in enumerate(model.variables):
        if variable.dtype == "float32":
            values = np.random.default_rng(index).normal(size=variable.shape)
            variable.assign(np.abs(values) + 0.1 if "variance" in variable.name else values / 2)
    return model


def image(*parts, shape=(7, 6, 3)):
    keras.utils.set_random_seed(7)
    return randomised(keras.Sequential([keras.Input(shape), *parts]))


def residual():
    x = keras.Input((6, 5, 3))
    y = layers.Conv2D(4, 3, padding="same", activation="relu")(x)
    z = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(y))
    z = layers.ReLU()(layers.Add()([y, z, y]))
    z = layers.GlobalAveragePooling2D()(z)
    return randomised(keras.Model(x, layers.Dense(3, "softmax")(layers.Dropout(0.5)(z))))


def shared():
    """One layer called twice, and a model inside of the model."""
    x, dense = keras.Input((4,)), layers.Dense(4, "tanh")
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(4), layers.LeakyReLU()])
    return randomised(keras.Model(x, layers.Add()([dense(inner(dense(x))), x])))


GRAPHS = {
    "Conv2D": lambda: image(layers.Conv2D(4, (3, 2)), layers.ReLU(), layers.Flatten(), layers.Dense(3)),
    "Conv2D, all options": lambda: image(
        layers.Conv2D(4, (2, 3), strides=(2, 1), padding="same", activation="relu"),
        layers.Conv2D(6, 2, dilation_rate=(1, 2), groups=2, use_bias=False),
        layers.Flatten(),
    ),
    "Conv2D, odd padding": lambda: image(layers.Conv2D(2, 4, strides=3, padding="same"), layers.Flatten()),
    "max pooling": lambda: image(
        layers.MaxPooling2D((3, 2), strides=(2, 1), padding="same"), layers.MaxPooling2D(), layers.Flatten()
    ),
    "average pooling": lambda: image(
        layers.AveragePooling2D((3, 2), strides=(2, 1), padding="same"), layers.AveragePooling2D(2), layers.Flatten()
    ),
    "global average": lambda: image(
        layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(keepdims=True), layers.Flatten()
    ),
    "batch normalisation": lambda: image(
        layers.BatchNormalization(), layers.Activation("relu"),
        layers.BatchNormalization(scale=False, epsilon=0.1), layers.BatchNormalization(center=False), layers.Flatten(),
    ),
    "padded": lambda: image(layers.ZeroPadding2D(((1, 0), (2, 3))), layers.Conv2D(2, 3), layers.Flatten()),
    "reshaped": lambda: image(layers.Reshape((3, -1, 7)), layers.MaxPooling2D(2), layers.Flatten()),
    "smooth": lambda: sequential(layers.Dense(5, "tanh"), layers.Dense(4), layers.Activation("sigmoid")),
    "leaky": lambda: sequential(layers.Dense(5), layers.LeakyReLU(0.2), layers.Dense(4), layers.ReLU(negative_slope=2)),
    "leaky, built in": lambda: sequential(layers.Dense(5, "leaky_relu"), layers.Dense(4)),
    "bounded": lambda: sequential(
        layers.Dense(5), layers.ReLU(max_value=0.5, negative_slope=0.1), layers.Dense(4), layers.ReLU(max_value=1)
    ),
    "relu of the input": lambda: sequential(layers.ReLU(), layers.Dense(2)),
    "residual": residual,
    "shared": shared,
}  # fmt: skip


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs_agree_with_keras(name, tmp_path):
    model = GRAPHS[name]()
    model.save(tmp_path / "model.keras")
    network = load_network(tmp_path / "model.keras")
    assert isinstance(network, Graph)
    assert network.input_shape == tuple(model.input_shape[1:])
    x = np.random.default_rng(1).normal(size=(20, *network.input_shape))
    expected = model.predict(x.astype(np.float32), verbose=0)
    found = network.probabilities(x) if name == "residual" else network(x)
    np.testing.assert_allclose(found, expected, atol=2e-5, rtol=1e-5)
    assert np.ptp(expected) > 0.01


def test_normalised_dense_chain_is_a_network():
    model = randomised(sequential(layers.Dense(5), layers.BatchNormalization(), layers.ReLU(), layers.Dense(4)))
    network, x = from_keras(model), np.random.default_rng(1).normal(size=(9, 12))
    assert network.sizes == (12, 5, 4)
    np.testing.assert_allclose(network(x), model.predict(x.astype(np.float32), verbose=0), atol=1e-5, rtol=1e-5)


def called_in_training():
    x = keras.Input((4,))
    return keras.Model(x, layers.Dropout(0.5)(layers.Dense(3)(x), training=True))


def of_operations():
    x = keras.Input((4,))
    return keras.Model(x, keras.ops.square(layers.Dense(3)(x)))


class Doubled(layers.Dense):
    def call(self, inputs):
        return 2 * super().call(inputs)


def joined(layer, curved=False):
    x = keras.Input((4,))
    y = layers.Dense(3, "elu" if curved else "relu")(x)
    z = layers.Dense(3)(x)
    return keras.Model(x, layers.Dense(2)(layer([y, z])))


@pytest.mark.parametrize("kind", ["Maximum", "Minimum"])
def test_the_larger_and_the_smaller_of_two(kind):
    model = joined(getattr(layers, kind)())
    x = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    np.testing.assert_allclose(from_keras(model)(x), model(x), atol=1e-5)


def test_curved_layers_are_read_for_distributions(tmp_path):
    """ELU with any slope, exponentials and products, beside Keras' own values."""
    from arfj.certify.cdf.layers import Layers, load

    model = sequential(
        layers.Dense(5, "elu"), layers.Dense(4), layers.ELU(0.3), layers.Dense(3, "exponential"), layers.Dense(2)
    )
    x = np.random.default_rng(0).normal(size=(20, 12)).astype(np.float32) / 4
    for found, rows in ((model, x), (joined(layers.Multiply(), curved=True), x[:, :4])):
        found.save(tmp_path / "model.keras")
        network = load(str(tmp_path / "model.keras"))
        assert isinstance(network, Layers)
        np.testing.assert_allclose(network(rows), found(rows), rtol=1e-5, atol=1e-5)


def test_convolutions_are_read_for_distributions_as_for_all(tmp_path):
    """Conv2D, both poolings and a softmax at the end: the same graph, and samples within the bounds of its law."""
    from arfj.certify.cdf import answers
    from arfj.certify.cdf.layers import load
    from arfj.certify.cdf.plot import dkw
    from arfj.certify.cdf.question import beta, question
    from arfj.certify.cdf.regions import Budget

    model = image(
        layers.Conv2D(4, 3, activation="relu"), layers.AveragePooling2D(2), layers.MaxPooling2D(2, strides=1),
        layers.Flatten(), layers.Dense(3, "softmax"),
    )  # fmt: skip
    model.save(tmp_path / "model.keras")
    network = load(str(tmp_path / "model.keras"))
    assert isinstance(network, Graph)
    assert network.fingerprint() == read_keras(tmp_path / "model.keras").graph().fingerprint()
    x, box = np.random.default_rng(0).normal(size=network.inputs), (np.full(2, -3.0), np.full(2, 3.0))
    free = (network.inputs // 2, network.inputs // 2 + 1)
    asked = question(network, x, free, beta([(1, 1), (2, 2)], *box), *box)
    values = np.sort(asked.sampled(20_000, 0)[1][:, 0])
    y = np.quantile(values, [0.1, 0.5, 0.9])
    found = answers.one_output(asked.pieces(), asked, 0, y, Budget(), 1e-9).bounds
    share = np.searchsorted(values, y, side="right") / len(values)
    assert np.maximum(found.lower - share, share - found.upper).max() <= dkw(len(values), 1e-9)
    assert (found.upper - found.lower).max() < 1e-9


REFUSED = {
    "Conv2DTranspose": lambda: image(layers.Conv2DTranspose(2, 2), layers.Flatten()),
    "(DepthwiseConv2D): this layer is not read": lambda: image(layers.DepthwiseConv2D(2), layers.Flatten()),
    "(Conv2D): it keeps channels first": lambda: image(layers.Conv2D(2, 2, data_format="channels_first")),
    "(Flatten): it keeps channels first": lambda: image(layers.Flatten(data_format="channels_first")),
    "(BatchNormalization): it normalises axis 1": lambda: image(layers.BatchNormalization(axis=1)),
    "jumps at its threshold 1": lambda: sequential(layers.Dense(3), layers.ReLU(threshold=1), layers.Dense(2)),
    "(Dense): activation gelu": lambda: sequential(layers.Dense(3, "gelu"), layers.Dense(2)),
    "activation elu is read by python -m arfj.certify cdf alone": lambda: sequential(layers.Dense(3, "elu")),
    "(ELU): the activation elu is read by": lambda: sequential(layers.Dense(3), layers.ELU(0.5)),
    "(Multiply): its input 1 depends": lambda: joined(layers.Multiply()),
    "activation softplus": lambda: sequential(layers.Dense(3), layers.Activation("softplus")),
    "follows a softmax": lambda: sequential(layers.Dense(3, "softmax"), layers.Dense(2)),
    "expected one over all outputs": lambda: image(layers.Conv2D(2, 2, activation="softmax")),
    "put a Flatten": lambda: sequential(layers.Dense(3), layers.Flatten(), layers.Dense(2), shape=(3, 4)),
    "called with training": called_in_training,
    "(Square): this layer is not read": of_operations,
    "(Dense) computes in float16": lambda: sequential(layers.Dense(3, dtype="mixed_float16")),
}


@pytest.mark.parametrize("word", REFUSED)
def test_refused_by_name(word, tmp_path):
    path = tmp_path / "model.keras"
    REFUSED[word]().save(path)
    with pytest.raises(NetworkError, match=re.escape(word)) as caught:
        read_keras(path)
    assert "\n" not in str(caught.value)


def test_subclasses_and_broken_weights_are_refused():
    with pytest.raises(NetworkError, match=r"\(Doubled\): this layer is not read"):
        from_keras(sequential(Doubled(3)))
    model = sequential(layers.Dense(3))
    model.layers[0].bias.assign(np.full(3, np.nan))
    with pytest.raises(NetworkError, match=r"\(Dense\): a bias vector holds NaN"):
        from_keras(model)


def test_several_inputs_are_refused():
    x, y = keras.Input((4,)), keras.Input((4,))
    with pytest.raises(NetworkError, match="one input and one output"):
        from_keras(keras.Model([x, y], layers.Add()([x, y])))


def test_a_branch_is_no_dense_chain(tmp_path):
    shared().save(tmp_path / "model.keras")
    with pytest.raises(NetworkError, match=r"node 2 is a tanh; expected a chain of dense layers"):
        load_dense(tmp_path / "model.keras")


def test_unbuilt_and_foreign_models():
    for model in (keras.Sequential([layers.Dense(2)]), "model", None):
        with pytest.raises(NetworkError, match="Input layer"):
            from_keras(model)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_lambda_is_never_run(suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    sequential(layers.Lambda(lambda x: x), layers.Dense(2)).save(path)
    with pytest.raises(NetworkError, match="Lambda layers hold code"):
        read_keras(path)


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_broken_files(suffix, tmp_path):
    whole, broken = tmp_path / f"whole{suffix}", tmp_path / f"broken{suffix}"
    MODELS["logits"]().save(whole)
    content = whole.read_bytes()
    for damaged in (b"", b"nonsense" * 100, content[: len(content) // 2], content[: len(content) // 2] + b"\0" * 500):
        broken.write_bytes(damaged)
        with pytest.raises(NetworkError, match="broken") as caught:
            read_keras(broken)
        assert "\n" not in str(caught.value)
    with pytest.raises(NetworkError, match="does not exist"):
        read_keras(tmp_path / f"none{suffix}")


def test_a_zip_that_is_no_model(tmp_path):
    path = tmp_path / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", "[1, 2")
    with pytest.raises(NetworkError, match="no Keras model"):
        read_keras(path)


def test_keras_missing(monkeypatch):
    monkeypatch.delitem(sys.modules, "keras")
    monkeypatch.setattr("builtins.__import__", _without_keras(__import__))
    with pytest.raises(NetworkError, match=r"pip install 'arfj\[train\]'"):
        import_keras()


def _without_keras(original):
    def importing(name, *arguments, **options):
        if name == "keras":
            raise ImportError("no keras")
        return original(name, *arguments, **options)

    return importing


def test_import_arfj_loads_neither_keras_nor_solvers():
    code = "import sys, arfj, arfj.data, training; print([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
