"""Images of ten blocks, in the format of Fashion-MNIST, and networks that are right on them without any training."""

import numpy as np

from arfj.data import FashionMnist
from arfj.network import Network


def blobs(count, rng):
    """Ten blocks of pixels of random brightness; the class is the brightest."""
    labels = (np.arange(count) % 10).astype(np.uint8)
    bright = rng.integers(0, 150, (count, 10))
    bright[np.arange(count), labels] = 255
    images = np.repeat(bright, 79, axis=1)[:, :784]
    return images.astype(np.uint8), labels


def small_data():
    """1,600 images for training and 400 for tests."""
    rng = np.random.default_rng(0)
    return FashionMnist(*blobs(1600, rng), *blobs(400, rng))


def instead_of_training(seed, settings, small):
    """Block sums with some noise, which are right on `blobs`; every third seed has a dead output unit."""
    noise = np.random.default_rng(seed).normal(0, 1e-3, (784, 10))
    sums = np.repeat(np.eye(10), 79, axis=0)[:784] / 20 + noise
    alive = np.diag(np.arange(10) != seed % 10) if seed % 3 == 0 else np.eye(10)
    return Network.from_arrays([sums, alive], [np.zeros(10), np.zeros(10)])
