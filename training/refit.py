"""One epoch on one image: how a network is refitted to an adversarial example (Table 1 of Rambau & Richter, 2025)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from arfj.errors import UsageError
from arfj.network import Dense, Network
from training.trainer import import_tensorflow


def refit(network: Network, image: ArrayLike, label: int, rate: float) -> Network:
    """theta - rate * grad_theta L(theta), L the cross-entropy of softmax over the outputs on (image, label).

    A step of SGD with a batch of one image, in float32 as the networks are trained. A convolution made dense is moved
    as a dense layer.

    Args:
        network: is not changed.
        image: any shape of `network.inputs` pixels in [0, 1].
        label: the class to learn, 0-based.
        rate: the learning rate; `Settings().rate` is that of the bundled networks' first epoch.

    Raises:
        ArfjError: TensorFlow is missing.
        UsageError: an image, label or rate that does not fit.
    """
    pixels = np.asarray(image, dtype=np.float32).reshape(1, -1)
    if pixels.shape[1] != network.inputs or not np.isfinite(pixels).all():
        raise UsageError(f"an image of {pixels.shape[1]} values; expected {network.inputs} finite pixels")
    if not 0 <= label < network.classes:
        raise UsageError(f"label {label}; expected a class in 0..{network.classes - 1}")
    if not 0 < rate < float("inf"):
        raise UsageError(f"learning rate {rate}; expected a positive number")
    tf, _ = import_tensorflow()
    weights = [tf.constant(part, tf.float32) for layer in network.layers for part in (layer.weight, layer.bias)]
    with tf.GradientTape() as tape:
        tape.watch(weights)
        values: Any = tf.constant(pixels)
        for layer, weight, bias in zip(network.layers, weights[0::2], weights[1::2], strict=True):
            values = values @ weight + bias
            values = tf.nn.relu(values) if layer.activation == "relu" else values
        loss = tf.nn.sparse_softmax_cross_entropy_with_logits([label], values)
    moved = [(w - np.float32(rate) * g).numpy() for w, g in zip(weights, tape.gradient(loss, weights), strict=True)]
    pairs = zip(moved[0::2], moved[1::2], network.layers, strict=True)
    return Network(tuple(Dense(weight, bias, layer.activation) for weight, bias, layer in pairs), network.input_shape)
