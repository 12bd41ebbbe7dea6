"""`python -m training.benchmark`: the time of a training step, against a plain NumPy loop on the same data in one run.

Prints microseconds a step and network on one core, the least of a few repetitions of one epoch (1,875 steps of 32):
NumPy, the compiled epoch that `training` uses, one compiled step for several networks at once, and `Model.fit`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arfj.cli import ANSWERED, Parser, run
from arfj.data import FashionMnist, load_fashion_mnist
from training.settings import Settings
from training.trainer import compiled_epoch, import_tensorflow, new_model

Arrays = list[NDArray[np.float32]]
REPETITIONS, TOGETHER = 3, 11


def numpy_epoch(
    arrays: Arrays, images: NDArray[np.float32], labels: NDArray[np.uint8], batch: int, rate: float
) -> None:
    """One epoch of SGD in place, as one would write it by hand."""
    weights, biases = arrays[0::2], arrays[1::2]
    order = np.random.default_rng(0).permutation(len(images))
    for start in range(0, len(order) - batch + 1, batch):
        chosen = order[start : start + batch]
        values = [images[chosen]]
        for weight, bias in zip(weights, biases, strict=True):
            values.append(np.maximum(values[-1] @ weight + bias, 0))
        gradient = np.exp(values[-1] - values[-1].max(axis=1, keepdims=True))
        gradient /= gradient.sum(axis=1, keepdims=True)
        gradient[np.arange(batch), labels[chosen]] -= 1
        gradient /= batch
        for k in reversed(range(len(weights))):
            gradient = gradient * (values[k + 1] > 0)
            to_weight, to_bias = values[k].T @ gradient, gradient.sum(axis=0)
            gradient = gradient @ weights[k].T if k else gradient
            weights[k] -= np.float32(rate) * to_weight
            biases[k] -= np.float32(rate) * to_bias


def _numpy(settings: Settings, data: FashionMnist) -> Callable[[], object]:
    _, keras = import_tensorflow()
    arrays = [variable.numpy() for variable in new_model(keras, settings.sizes, 0).trainable_variables]
    images = data.train_images.astype(np.float32) / np.float32(255)
    return lambda: numpy_epoch(arrays, images, data.train_labels, settings.batch, settings.rate)


def _compiled(settings: Settings, data: FashionMnist) -> Callable[[], object]:
    tf, keras = import_tensorflow()
    epoch = compiled_epoch(settings.sizes, settings.batch)
    weights = tuple(tf.constant(v.numpy()) for v in new_model(keras, settings.sizes, 0).trainable_variables)
    images, labels = tf.constant(data.train_images), tf.constant(data.train_labels.astype(np.int32))
    order = np.random.default_rng(0)

    def once() -> object:
        shuffled = tf.constant(order.permutation(len(data.train_images)).astype(np.int32))
        return [w.numpy() for w in epoch(weights, images, labels, shuffled, tf.constant(settings.rate, tf.float32))]

    return once


def _together(settings: Settings, data: FashionMnist) -> Callable[[], object]:
    """All weights stacked along a first axis: one step moves `TOGETHER` networks, each with its own order of images."""
    tf, keras = import_tensorflow()
    models = [new_model(keras, settings.sizes, seed).trainable_variables for seed in range(TOGETHER)]
    weights = tuple(
        tf.constant(np.stack([np.atleast_2d(v.numpy()) for v in same])) for same in zip(*models, strict=True)
    )
    images, labels = tf.constant(data.train_images), tf.constant(data.train_labels.astype(np.int32))
    steps, batch = len(data.train_images) // settings.batch, settings.batch

    def step(index: Any, *weights: Any) -> tuple[Any, ...]:  # noqa: ANN401
        chosen = tf.slice(order, [0, index * batch], [TOGETHER, batch])
        with tf.GradientTape() as tape:
            tape.watch(weights)
            values = tf.cast(tf.gather(images, chosen), tf.float32) / 255.0
            for weight, bias in zip(weights[0::2], weights[1::2], strict=True):
                values = tf.nn.relu(values @ weight + bias)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(tf.gather(labels, chosen), values)
            loss = tf.reduce_sum(losses) / batch
        return (index + 1, *(w - settings.rate * g for w, g in zip(weights, tape.gradient(loss, weights), strict=True)))

    shuffles = [np.random.default_rng(seed).permutation(len(data.train_images)) for seed in range(TOGETHER)]
    order = tf.constant(np.stack(shuffles).astype(np.int32))

    @tf.function(jit_compile=True)  # type: ignore[untyped-decorator]
    def epoch(*weights: Any) -> Any:  # noqa: ANN401
        return tf.while_loop(lambda index, *_: index < steps, step, (0, *weights))[1:]

    return lambda: [weight.numpy() for weight in epoch(*weights)]


def _fit(settings: Settings, data: FashionMnist) -> Callable[[], object]:
    _, keras = import_tensorflow()
    model = new_model(keras, settings.sizes, 0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(settings.rate), loss)
    images = data.train_images.astype(np.float32) / 255
    return lambda: model.fit(images, data.train_labels, settings.batch, epochs=1, verbose=0)


def _microseconds(once: Callable[[], object], steps: int) -> float:
    once()  # compiles
    times = []
    for _ in range(REPETITIONS):
        start = perf_counter()
        once()
        times.append(perf_counter() - start)
    return min(times) / steps * 1e6


def main(argv: Sequence[str]) -> int:
    """Print one line a way of training, with its ratio to NumPy.

    Raises:
        ArfjError: TensorFlow or Fashion-MNIST is missing.
    """
    parser = Parser(
        "python -m training.benchmark", "Time a training step.", "  OMP_NUM_THREADS=1 python -m training.benchmark"
    )
    parser.parse_args(argv)
    settings, data = Settings(), load_fashion_mnist()
    steps = len(data.train_images) // settings.batch
    ways = (
        ("NumPy loop", _numpy, 1),
        ("compiled epoch (used)", _compiled, 1),
        (f"compiled step of {TOGETHER} networks", _together, TOGETHER),
        ("Keras Model.fit", _fit, 1),
    )
    reference = 0.0
    for name, way, networks in ways:
        time = _microseconds(way(settings, data), steps * networks)
        reference = reference or time
        print(f"{name:32} {time:8.1f} us a step and network   {time / reference:6.2f} of NumPy", flush=True)
    return ANSWERED


if __name__ == "__main__":
    sys.exit(run(main))
