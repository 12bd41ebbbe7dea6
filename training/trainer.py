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

from arfj.data import FashionMnist
from arfj.errors import ArfjError
from arfj.keras_models import from_keras, import_keras
from arfj.network import Network
from training.settings import SIDE, Convolution, Settings


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
    """
    tf, keras = import_tensorflow()
    model = new_model(keras, settings.sizes, seed, settings.convolution)
    epoch = compiled_epoch(settings.sizes, settings.batch, settings.convolution)
    weights = tuple(tf.constant(variable.numpy()) for variable in model.trainable_variables)
    images, labels = tf.constant(data.train_images), tf.constant(data.train_labels.astype(np.int32))
    order = np.random.default_rng(seed)
    for index in range(settings.epochs):
        shuffled = tf.constant(order.permutation(len(data.train_images)).astype(np.int32))
        weights = epoch(weights, images, labels, shuffled, tf.constant(settings.rate_of(index), tf.float32))
    arrays = [weight.numpy() for weight in weights]
    if settings.convolution is None:
        return Network.from_arrays(arrays[0::2], arrays[1::2])
    model.set_weights(arrays)
    network = from_keras(model)
    chain = network if isinstance(network, Network) else network.dense_chain()
    assert chain is not None, "a convolution and dense layers with ReLU are a chain"  # noqa: S101 - for the types
    return chain


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
    sizes: tuple[int, ...], batch: int, convolution: Convolution | None = None
) -> Callable[..., tuple[Any, ...]]:
    """(weights, images, labels, order, rate) -> weights after the steps of one epoch; compiled once a process."""
    tf, keras = import_tensorflow()
    model = new_model(keras, sizes, 0, convolution)

    def step(weights: tuple[Any, ...], images: Any, labels: Any, rate: Any) -> tuple[Any, ...]:  # noqa: ANN401
        with tf.GradientTape() as tape:
            tape.watch(weights)
            outputs, _ = model.stateless_call(list(weights), [], tf.cast(images, tf.float32) / 255.0)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, outputs)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, weights)
        return tuple(weight - rate * gradient for weight, gradient in zip(weights, gradients, strict=True))

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def epoch(weights: tuple[Any, ...], images: Any, labels: Any, order: Any, rate: Any) -> tuple[Any, ...]:  # noqa: ANN401
        # A last batch that is not full is left out: one shape, one compilation. 60,000 = 1,875 * 32 leaves none out.
        steps = order.shape[0] // batch

        def body(index: Any, *weights: Any) -> tuple[Any, ...]:  # noqa: ANN401
            chosen = tf.slice(order, [index * batch], [batch])
            return (index + 1, *step(weights, tf.gather(images, chosen), tf.gather(labels, chosen), rate))

        return tuple(tf.while_loop(lambda index, *_: index < steps, body, (0, *weights))[1:])

    return epoch  # type: ignore[no-any-return]
