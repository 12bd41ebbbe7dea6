"""Fashion-MNIST is found in order and checked; broken files, odd images and wrong indices give one line."""

import gzip
import json

import numpy as np
import pytest

from arfj import data
from arfj.errors import ArfjError, DataError, UsageError

DEBIAN = data.DEBIAN_FOLDER


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    """A machine without Fashion-MNIST."""
    monkeypatch.delenv("ARFJ_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(data, "DEBIAN_FOLDER", tmp_path / "debian")
    return tmp_path


def small_set(folder, monkeypatch, seed=0, packed=True):
    """A tiny data set in place of Fashion-MNIST, with its own checksums."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True)
    digests = {}
    for name in data._SHA256:
        count = 6 if name.startswith("train") else 4
        shape = (count, 28, 28) if "images" in name else (count,)
        header = bytes((0, 0, 8, len(shape))) + np.array(shape, ">u4").tobytes()
        raw = header + rng.integers(0, 10, shape, dtype=np.uint8).tobytes()
        (folder / (f"{name}.gz" if packed else name)).write_bytes(gzip.compress(raw) if packed else raw)
        digests[name] = data.hashlib.sha256(raw).hexdigest()
    monkeypatch.setattr(data, "_SHA256", digests)


@pytest.mark.skipif(not (DEBIAN / "t10k-labels-idx1-ubyte.gz").exists(), reason="needs dataset-fashion-mnist")
def test_the_debian_package(monkeypatch, tmp_path):
    monkeypatch.delenv("ARFJ_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    full = data.load_fashion_mnist()
    assert full.train_images.shape == (60000, 784)
    assert full.train_images.dtype == np.uint8
    assert full.test_images.shape == (10000, 784)
    assert np.array_equal(np.bincount(full.test_labels), [1000] * 10)
    assert np.array_equal(np.bincount(full.train_labels), [6000] * 10)
    images = data.bundled_images()
    assert np.array_equal(images.osd, data.scaled(full.train_images[:50]))
    assert np.array_equal(images.test, data.scaled(full.test_images[images.test_indices]))
    assert np.array_equal(images.nominal, data.scaled(full.test_images[images.nominal_indices]))
    pixels, label = data.test_image(9999)
    assert np.array_equal(pixels, data.scaled(full.test_images[9999]))
    assert label == full.test_labels[9999]


def test_the_error_names_all_four_places(nowhere, monkeypatch):
    monkeypatch.setenv("ARFJ_DATA", str(nowhere / "mine"))
    with pytest.raises(DataError) as caught:
        data.load_fashion_mnist()
    for place in ("mine", "cache", "debian", "Keras"):
        assert place in str(caught.value)


@pytest.mark.parametrize("packed", [True, False])
def test_order_of_the_places(nowhere, monkeypatch, packed):
    small_set(nowhere / "debian", monkeypatch, packed=packed)
    assert data.load_fashion_mnist().test_images.shape == (4, 784)
    small_set(data.cache_folder(), monkeypatch, seed=1)  # other checksums: the Debian files would now be refused
    first = data.load_fashion_mnist()
    small_set(nowhere / "mine", monkeypatch, seed=2)
    monkeypatch.setenv("ARFJ_DATA", str(nowhere / "mine"))
    assert not np.array_equal(data.load_fashion_mnist().train_images, first.train_images)


def test_no_download_unless_asked(nowhere, monkeypatch):
    asked = []
    monkeypatch.setattr(data, "_download", lambda: asked.append(True))
    with pytest.raises(DataError):
        data.load_fashion_mnist()
    assert not asked
    data.load_fashion_mnist(download=True)
    assert asked


def test_download_fills_the_cache(nowhere, monkeypatch):
    small_set(nowhere / "origin", monkeypatch)
    raw = [data.read_idx(nowhere / "origin" / f"{name}.gz") for name in data._SHA256]
    images, labels = (lambda array: array.reshape(-1, 28, 28)), (lambda array: array)
    answer = (images(raw[0]), labels(raw[1])), (images(raw[2]), labels(raw[3]))

    class Keras:
        class datasets:  # noqa: N801
            class fashion_mnist:  # noqa: N801
                load_data = staticmethod(lambda: answer)

    monkeypatch.setattr("arfj.keras_models.import_keras", lambda: Keras)
    assert np.array_equal(data.load_fashion_mnist(download=True).test_labels, raw[3])
    assert np.array_equal(data.load_fashion_mnist().test_labels, raw[3])


def test_a_failed_download(nowhere, monkeypatch):
    class Keras:
        @property
        def datasets(self):
            raise Exception("no route to host")

    monkeypatch.setattr("arfj.keras_models.import_keras", Keras)
    with pytest.raises(DataError, match="no route to host"):
        data.load_fashion_mnist(download=True)


DAMAGES = {
    "truncated archive": lambda packed: packed[: len(packed) // 2],
    "no archive": lambda packed: b"not a gzip file",
    "empty": lambda packed: b"",
    "truncated payload": lambda packed: gzip.compress(gzip.decompress(packed)[:-1]),
    "other payload": lambda packed: gzip.compress(gzip.decompress(packed)[:-1] + b"\xff"),
    "other magic": lambda packed: gzip.compress(b"\0\0\x0d" + gzip.decompress(packed)[3:]),
    "header only": lambda packed: gzip.compress(b"\0\0\x08\x03\0\0"),
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"])
def test_damaged_files(nowhere, monkeypatch, damage, name):
    small_set(nowhere / "debian", monkeypatch)
    path = nowhere / "debian" / name
    path.write_bytes(DAMAGES[damage](path.read_bytes()))
    with pytest.raises(DataError, match=name) as caught:
        data.load_fashion_mnist()
    assert "\n" not in str(caught.value)


def test_bundled_test_images_need_no_data_set(nowhere):
    images = data.bundled_images()
    pixels, label = data.test_image(7)
    assert np.array_equal(pixels, images.test[7])
    assert label == images.test_labels[7]
    for index, c in zip(images.nominal_indices, images.nominal_classes, strict=True):
        assert data.test_image(int(index))[1] == c
    with pytest.raises(DataError, match="four places"):
        data.test_image(5000)


@pytest.mark.parametrize("index", [-1, 10_000])
def test_index_out_of_range(index):
    with pytest.raises(UsageError, match=r"0\.\.9999"):
        data.test_image(index)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64])
def test_images_in_any_shape(tmp_path, dtype):
    path = tmp_path / "x.npy"
    for shape in ((784,), (28, 28), (28, 28, 1)):
        np.save(path, np.ones(shape, dtype))
        image = data.load_image(path)
        assert image.shape == shape
        assert image.dtype == np.float64


BAD_IMAGES = {
    "divide by 255": np.array([0, 255], np.uint8),
    "scale them": np.array([-0.5, 1.0]),
    "NaN": np.array([0.0, np.nan]),
    "empty": np.zeros((0,)),
    "complex128": np.zeros(3, complex),
    "bool": np.zeros(3, bool),
}


@pytest.mark.parametrize("words", BAD_IMAGES)
def test_bad_images(tmp_path, words):
    np.save(tmp_path / "x.npy", BAD_IMAGES[words])
    with pytest.raises(DataError, match=words):
        data.load_image(tmp_path / "x.npy")


def test_missing_and_pickled_images(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        data.load_image(tmp_path / "x.npy")
    np.save(tmp_path / "x.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(DataError, match="pickled"):
        data.load_image(tmp_path / "x.npy")


def test_a_missing_bundle(monkeypatch, tmp_path):
    monkeypatch.setattr(data, "bundle_folder", lambda: tmp_path)
    monkeypatch.setattr(data, "_bundled_network", data._bundled_network.__wrapped__)
    for read in (data.manifest, data.bundled_nominal, data.bundled_inner, data.bundled_outer):
        with pytest.raises(ArfjError, match=r"training\.train --bundle"):
            read()
    with pytest.raises(DataError, match=r"training\.train --growth"):
        data.bundled_growth("conv")
    (tmp_path / "growth").mkdir()
    (tmp_path / "growth" / "manifest.json").write_text('{"sets": {"conv": {}}}')
    with pytest.raises(DataError, match=r"growth/manifest\.json is broken"):
        data.bundled_growth("conv")
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="broken"):
        data.manifest()
    (tmp_path / "manifest.json").write_text(json.dumps([]))
    with pytest.raises(DataError, match="no JSON object"):
        data.manifest()
