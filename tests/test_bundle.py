"""The networks and images that ship with the package are what the manifest and the paper's method say."""

import hashlib

import numpy as np
import pytest

from arfj import data
from arfj.ensemble import d_in, d_osd, inner_samples
from arfj.errors import DataError
from arfj.network import load_network

ENTRIES = data.manifest()["networks"]
NAMES = [entry["file"] for entry in ENTRIES]


def network_of(entry):
    return load_network(str(data.bundle_folder() / entry["file"]))


def test_counts_and_sizes():
    for read in (data.bundled_inner, data.bundled_outer):
        assert (len(read()), len(read(held_out=True))) == (5, 15)
    assert data.bundled_nominal().sizes == (784, 8, 8, 8, 10)
    assert len(NAMES) == len(set(NAMES)) == 41
    prints = {network_of(entry).fingerprint() for entry in ENTRIES}
    assert len(prints) == 41, "two bundled networks are the same"


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_manifest(entry):
    path = data.bundle_folder() / entry["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    network, nominal = network_of(entry), data.bundled_nominal()
    assert network.fingerprint() == entry["fingerprint"]
    assert network.layers[-1].activation == "relu"
    osd = data.bundled_images().osd
    assert d_in(network, nominal) == pytest.approx(entry["d_in"], rel=1e-9, abs=0)
    distance = d_osd(network.probabilities(osd), nominal.probabilities(osd))
    assert distance == pytest.approx(entry["d_osd"], rel=1e-9, abs=0)
    if entry["kind"] == "inner":
        assert d_in(network, nominal) == pytest.approx(0.05, rel=1e-9)
    if entry["kind"] == "outer":
        assert distance < 0.2
    assert 0.83 <= entry["accuracy"] <= 0.86


def test_sides_and_discards():
    for kind in ("inner", "outer"):
        sides = [entry["side"] for entry in ENTRIES if entry["kind"] == kind]
        assert sides == ["attack"] * 5 + ["held-out"] * 15
    content = data.manifest()
    assert content["trained"] == 21 + len(content["discarded"])
    assert all(entry["reason"] for entry in content["discarded"])
    kept = {entry["seed"] for entry in ENTRIES if entry["kind"] != "inner"}
    assert kept | {entry["seed"] for entry in content["discarded"]} == set(range(content["trained"]))


def test_inner_samples_are_those_of_the_default_seed():
    drawn = inner_samples(data.bundled_nominal(), 5, 0.05, seed=0)
    assert [n.fingerprint() for n in drawn] == [n.fingerprint() for n in data.bundled_inner()]
    held_out = inner_samples(data.bundled_nominal(), 15, 0.05, data.manifest()["inner_seeds"]["held-out"])
    assert [n.fingerprint() for n in held_out] == [n.fingerprint() for n in data.bundled_inner(held_out=True)]


def test_images():
    images = data.bundled_images()
    path = data.bundle_folder() / "images.npz"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == data.manifest()["images"]["sha256"]
    assert images.nominal.shape == (10, 784)
    assert images.osd.shape == (50, 784)
    assert images.test.shape == (200, 784)
    assert images.nominal_classes.tolist() == list(range(10))
    assert images.nominal_indices.tolist() == data.manifest()["images"]["nominal_indices"]
    for pixels in (images.nominal, images.osd, images.test):
        assert pixels.min() == 0
        assert pixels.max() == 1


def test_nominal_images_are_the_first_that_all_training_side_networks_get_right():
    images = data.bundled_images()
    networks = (data.bundled_nominal(), *data.bundled_inner(), *data.bundled_outer())
    right = np.logical_and.reduce([network.classify(images.test) == images.test_labels for network in networks])
    for network in networks:
        assert network.classify(images.nominal).tolist() == list(range(10))
    for c, index in enumerate(images.nominal_indices):
        assert index == np.flatnonzero(right & (images.test_labels == c))[0]


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_accuracy_on_the_bundled_images(entry):
    images = data.bundled_images()
    # 200 images: three standard deviations are 0.08.
    assert 0.75 <= (network_of(entry).classify(images.test) == images.test_labels).mean() <= 0.93


@pytest.fixture(scope="module")
def full():
    try:
        return data.load_fashion_mnist()
    except DataError:
        pytest.skip("the whole test set needs dataset-fashion-mnist or $ARFJ_DATA")


@pytest.mark.parametrize("entry", ENTRIES, ids=NAMES)
def test_accuracy_on_the_whole_test_set(entry, full):
    network = network_of(entry)
    accuracy = (network.classify(data.scaled(full.test_images)) == full.test_labels).mean()
    assert accuracy == pytest.approx(entry["accuracy"], abs=2e-4)
    assert 0.83 <= accuracy <= 0.86
