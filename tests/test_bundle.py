"""The networks and images that ship with the package are what the manifest and the paper's method say."""

import hashlib

import numpy as np
import pytest

from arfj import data
from arfj.attack import sampled
from arfj.ensemble import d_in, d_osd, inner_samples
from arfj.errors import DataError, UsageError
from arfj.network import load_network

ENTRIES = data.manifest()["networks"]
NAMES = [entry["file"] for entry in ENTRIES]
GROWTH = data.growth_manifest()["sets"]
GROWN = [pytest.param(name, entry, id=entry["file"]) for name, part in GROWTH.items() for entry in part["networks"]]
SIZES = {
    "16-16-16": (784, 16, 16, 16, 10),
    "32-32-32": (784, 32, 32, 32, 10),
    "64-64": (784, 64, 64, 10),
    "conv": (784, 196, 16, 10),
    "8-8-8": (784, 8, 8, 8, 10),
}


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


def test_growth_sets_and_sizes():
    assert GROWTH.keys() == SIZES.keys()
    for name, sizes in SIZES.items():
        networks = data.bundled_growth(name)
        assert len(networks) == (51 if name == "8-8-8" else 6)
        assert {network.sizes for network in networks} == {sizes}
        assert {network.layers[-1].activation for network in networks} == {"relu"}
        assert GROWTH[name]["relus"] == sum(sizes[1:])
        assert len({network.fingerprint() for network in networks}) == len(networks)
    shipped = {f"growth/{item.name}" for item in (data.bundle_folder() / "growth").iterdir() if ".npz" in item.name}
    listed = {entry["file"] for part in GROWTH.values() for entry in part["networks"]}
    assert shipped == {file for file in listed if file.startswith("growth/")}
    assert len(shipped) == 4 * 6 + 45


def test_more_outer_samples_start_with_the_bundled_five_and_none_is_held_out():
    networks = data.bundled_growth("8-8-8")
    prints = [network.fingerprint() for network in networks]
    assert prints[:6] == [network.fingerprint() for network in (data.bundled_nominal(), *data.bundled_outer())]
    assert not {network.fingerprint() for network in data.bundled_outer(held_out=True)} & set(prints)
    seeds = [entry["seed"] for entry in GROWTH["8-8-8"]["networks"]]
    assert min(seeds[6:]) >= data.manifest()["trained"], "a seed that the bundle has tried"
    assert seeds == sorted(set(seeds))
    for alpha in (0, 5, 50):
        assert [network.fingerprint() for network in sampled("outer", alpha=alpha).ensemble] == prints[: alpha + 1]
    with pytest.raises(UsageError, match="50 outer samples"):
        sampled("outer", alpha=51)


def test_growth_seeds_are_the_first_that_are_accepted():
    for name, part in GROWTH.items():
        entries = part["networks"][6:] if name == "8-8-8" else part["networks"]
        discarded = [entry["seed"] for entry in part["discarded"]]
        first = data.manifest()["trained"] if name == "8-8-8" else data.manifest()["networks"][0]["seed"]
        tried = sorted([*discarded, *(entry["seed"] for entry in entries)])
        assert tried == list(range(first, first + part["trained"]))
        assert all(entry["reason"] for entry in part["discarded"])


@pytest.mark.parametrize(("name", "entry"), GROWN)
def test_growth_manifest(name, entry):
    path = data.bundle_folder() / entry["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == entry["sha256"]
    if entry["file"].startswith("growth/"):
        with np.load(str(path), allow_pickle=False) as arrays:
            assert arrays["W0"].dtype == arrays["b0"].dtype == np.float32
    network, nominal, images = network_of(entry), data.bundled_growth(name)[0], data.bundled_images()
    assert network.fingerprint() == entry["fingerprint"]
    assert d_in(network, nominal) == pytest.approx(entry["d_in"], rel=1e-9, abs=0)
    distance = d_osd(network.probabilities(images.osd), nominal.probabilities(images.osd))
    assert distance == pytest.approx(entry["d_osd"], rel=1e-9, abs=0)
    assert distance < 0.2
    right = network.classify(images.nominal) == images.nominal_classes
    assert images.nominal_classes[right].tolist() == entry["images"]
    settings = GROWTH[name]["settings"]
    assert settings["least"] <= entry["accuracy"] <= settings["most"]
    # 200 images: three standard deviations are 0.08.
    accuracy = (network.classify(images.test) == images.test_labels).mean()
    assert accuracy == pytest.approx(entry["accuracy"], abs=0.1)


@pytest.mark.parametrize(("name", "entry"), GROWN)
def test_growth_accuracy_on_the_whole_test_set(name, entry, full):
    accuracy = (network_of(entry).classify(data.scaled(full.test_images)) == full.test_labels).mean()
    assert accuracy == pytest.approx(entry["accuracy"], abs=2e-4)


def test_larger_nominal_networks_get_the_ten_images_right():
    for part in GROWTH.values():
        assert part["networks"][0]["images"] == list(range(10))


def test_the_convolution_has_few_weights():
    for network in data.bundled_growth("conv"):
        weight = network.layers[0].weight
        assert np.count_nonzero(weight) <= 196 * 16
        assert len(np.unique(weight[weight != 0])) <= 4 * 16


def test_no_such_growth_set():
    with pytest.raises(UsageError, match=r"'9-9'; expected one of 16-16-16, 32-32-32, 64-64, conv, 8-8-8"):
        data.bundled_growth("9-9")
