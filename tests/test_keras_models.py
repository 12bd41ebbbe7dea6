"""Keras models: the forward pass agrees with Keras' own, and everything else is refused in one line."""

import subprocess
import sys
import zipfile

import numpy as np
import pytest

from arfj.errors import NetworkError
from arfj.keras_models import from_keras, import_keras, read_keras
from arfj.network import load_network

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
    assert from_keras(MODELS["merged"]()).sizes == (12, 6, 4)


REFUSED = {
    "Conv2D": lambda: sequential(layers.Conv2D(2, 2), layers.Flatten(), layers.Dense(3), shape=(4, 4, 1)),
    "BatchNormalization": lambda: sequential(layers.Dense(3), layers.BatchNormalization()),
    "LeakyReLU": lambda: sequential(layers.Dense(3), layers.LeakyReLU(), layers.Dense(2)),
    "ReLU": lambda: sequential(layers.Dense(3), layers.ReLU(max_value=6), layers.Dense(2)),
    "tanh": lambda: sequential(layers.Dense(3, "tanh"), layers.Dense(2)),
    "sigmoid": lambda: sequential(layers.Dense(3), layers.Activation("sigmoid")),
    "follows a softmax": lambda: sequential(layers.Dense(3, "softmax"), layers.Dense(2)),
    "put a Flatten": lambda: sequential(layers.Dense(3), layers.Flatten(), layers.Dense(2), shape=(3, 4)),
    "before the first Dense": lambda: sequential(layers.ReLU(), layers.Dense(2)),
    "no Dense layer": lambda: sequential(layers.Dropout(0.1)),
}


@pytest.mark.parametrize("word", REFUSED)
def test_refused_by_name(word, tmp_path):
    path = tmp_path / "model.keras"
    REFUSED[word]().save(path)
    with pytest.raises(NetworkError, match=word) as caught:
        read_keras(path)
    assert "\n" not in str(caught.value)


def test_a_branch_is_refused():
    x = keras.Input((4,))
    y = layers.Dense(4, "relu")(x)
    with pytest.raises(NetworkError, match="2 inputs; expected a chain"):
        from_keras(keras.Model(x, layers.Dense(2)(layers.Add()([x, y]))))


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
