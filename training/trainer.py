"""One network from one seed: an epoch is one compiled loop over a Keras model's weights.

Keras' own loop spends most of a step outside of the arithmetic: this network has 6,500 weights, and its step takes 40
microseconds. So the whole epoch is compiled by XLA, with the weights as the state of a `tf.while_loop`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import astuple
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arfj.data import FashionMnist
from arfj.errors import ArfjError, UsageError
from arfj.keras_models import from_keras, import_keras
from arfj.network import Network
from training.settings import SIDE, Convolution, Optimiser, Settings

BETAS, EPSILON = (0.9, 0.999), 1e-7
"""Of Adam, as in Keras."""


@functools.cache
def import_tensorflow() -> tuple[ModuleType, ModuleType]:
    """TensorFlow and Keras, on one thread of one CPU core, which is what makes a training reproducible.

    Raises:
        ArfjError: they are not installed, or Keras was told to use another backend.
    """
    keras = import_keras()
    if keras.backend.backend() != "tensorflow":
        raise ArfjError(f"training needs KERAS_BACKEND=tensorflow; it is {keras.backend.backend()}")
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.set_visible_devices([], "GPU")
    except RuntimeError:
        # TensorFlow is already running in this process, with the threads that its first user chose.
        pass
    return tf, keras


def train(seed: int, settings: Settings, data: FashionMnist) -> Network:
    """The network that this seed gives: bit for bit the same on one machine.

    Shapes: images (count, 784) bytes, scaled to [0, 1] inside of the loop; labels (count,).

    Raises:
        ArfjError: TensorFlow is missing.
        UsageError: the network would see less than one batch of images.
    """
    tf, keras = import_tensorflow()
    weights_seed = seed if settings.weights_seed is None else settings.weights_seed
    model = new_model(keras, settings.sizes, weights_seed, settings.convolution)
    epoch = compiled_epoch(settings.sizes, settings.batch, settings.convolution, settings.optimiser)
    weights = tuple(tf.constant(variable.numpy()) for variable in model.trainable_variables)
    state = weights if settings.optimiser == "sgd" else _adam_start(weights)
    images, labels = tf.constant(data.train_images), tf.constant(data.train_labels.astype(np.int32))
    order = np.random.default_rng(seed)
    seen = _seen(order, settings, len(data.train_images))
    for index in range(settings.epochs):
        shuffled = tf.constant(seen[order.permutation(len(seen))])
        state = epoch(state, images, labels, shuffled, tf.constant(settings.rate_of(index), tf.float32))
    arrays = [weight.numpy() for weight in state[: len(weights)]]
    if settings.convolution is None:
        return Network.from_arrays(arrays[0::2], arrays[1::2])
    model.set_weights(arrays)
    network = from_keras(model)
    chain = network if isinstance(network, Network) else network.dense_chain()
    assert chain is not None, "a convolution and dense layers with ReLU are a chain"  # noqa: S101 - for the types
    return chain


def _seen(order: np.random.Generator, settings: Settings, count: int) -> NDArray[np.int32]:
    """The indices of the training images that a network sees; nothing is drawn where it sees all."""
    share = round(settings.images * count)
    if share < settings.batch:
        raise UsageError(f"{share} of {count} images are less than a batch of {settings.batch}; show more of them")
    chosen = np.arange(count) if share == count else order.permutation(count)[:share]
    return chosen.astype(np.int32)


def new_model(keras: ModuleType, sizes: tuple[int, ...], seed: int, convolution: Convolution | None = None) -> Any:  # noqa: ANN401 - Keras has no types
    """ReLU after every layer, the output layer included; Glorot-uniform weights drawn from the seed, biases zero."""
    seeds = np.random.SeedSequence(seed).generate_state(len(sizes) - 1)
    layers: list[Any] = []
    for size, layer_seed in zip(sizes[1:], seeds, strict=True):
        start = keras.initializers.GlorotUniform(int(layer_seed))
        if layers or convolution is None:
            layers.append(keras.layers.Dense(size, "relu", kernel_initializer=start))
        else:
            filters, kernel, stride = astuple(convolution)
            window = keras.layers.Conv2D(filters, kernel, stride, activation="relu", kernel_initializer=start)
            layers += [keras.layers.Reshape((SIDE, SIDE, 1)), window, keras.layers.Flatten()]
    return keras.Sequential([keras.Input((sizes[0],)), *layers])


@functools.cache
def compiled_epoch(
    sizes: tuple[int, ...], batch: int, convolution: Convolution | None = None, optimiser: Optimiser = "sgd"
) -> Callable[..., tuple[Any, ...]]:
    """(state, images, labels, order, rate) -> state after the steps of one epoch; compiled once a process.

    The state of SGD is the weights, that of Adam is what `_adam_start` makes of them.
    """
    tf, keras = import_tensorflow()
    model = new_model(keras, sizes, 0, convolution)
    count, moved = len(model.trainable_variables), {"sgd": _sgd, "adam": _adam}[optimiser]

    def step(state: tuple[Any, ...], images: Any, labels: Any, rate: Any) -> tuple[Any, ...]:  # noqa: ANN401
        weights = state[:count]
        with tf.GradientTape() as tape:
            tape.watch(weights)
            outputs, _ = model.stateless_call(list(weights), [], tf.cast(images, tf.float32) / 255.0)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs)
            loss = tf.reduce_mean(losses)
        return moved(state, tape.gradient(loss, weights), rate)

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def epoch(state: tuple[Any, ...], images: Any, labels: Any, order: Any, rate: Any) -> tuple[Any, ...]:  # noqa: ANN401
        # A last batch that is not full is left out: one shape, one compilation. 60,000 = 1,875 * 32 leaves none out.
        steps = order.shape[0] // batch

        def body(index: Any, *state: Any) -> tuple[Any, ...]:  # noqa: ANN401
            chosen = tf.slice(order, [index * batch], [batch])
            return (index + 1, *step(state, tf.gather(images, chosen), tf.gather(labels, chosen), rate))

        return tuple(tf.while_loop(lambda index, *_: index < steps, body, (0, *state))[1:])

    return epoch  # type: ignore[no-any-return]


def _sgd(weights: tuple[Any, ...], gradients: tuple[Any, ...], rate: Any) -> tuple[Any, ...]:  # noqa: ANN401
    return tuple(weight - rate * gradient for weight, gradient in zip(weights, gradients, strict=True))


def _adam_start(weights: tuple[Any, ...]) -> tuple[Any, ...]:
    """The weights, the running means of gradients and of their squares (both zero), the number of steps taken."""
    tf, _ = import_tensorflow()
    zeros = tuple(tf.zeros_like(weight) for weight in weights)
    return (*weights, *zeros, *zeros, tf.constant(0.0, tf.float32))


def _adam(state: tuple[Any, ...], gradients: tuple[Any, ...], rate: Any) -> tuple[Any, ...]:  # noqa: ANN401
    tf, _ = import_tensorflow()
    count, (first, second) = len(gradients), BETAS
    weights, means, squares = state[:count], state[count : 2 * count], state[2 * count : 3 * count]
    steps = state[-1] + 1.0
    means = tuple(first * m + (1 - first) * g for m, g in zip(means, gradients, strict=True))
    squares = tuple(second * v + (1 - second) * g * g for v, g in zip(squares, gradients, strict=True))
    scale = rate * tf.sqrt(1.0 - tf.pow(second, steps)) / (1.0 - tf.pow(first, steps))
    moved = (w - scale * m / (tf.sqrt(v) + EPSILON) for w, m, v in zip(weights, means, squares, strict=True))
    return (*moved, *means, *squares, steps)
