"""Images and the networks that ship with the package.

Fashion-MNIST is looked for in four places (`load_fashion_mnist`); what the main job needs lies in `arfj/bundle`, so
that it runs with no download: one nominal network, inner and outer samples, and some hundred images. Beside them lie
larger networks and more outer samples, for what grows with these (`bundled_growth`). A manifest records how they were
made; `python -m training.train --bundle`, then `--growth`, makes them again.
"""

from __future__ import annotations

import functools
import gzip
import hashlib
import importlib.resources
import json
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arfj.errors import ArfjError, DataError, UsageError
from arfj.files import atomic_write, load_array, load_arrays
from arfj.network import Floats, Network, load_dense

Bytes = NDArray[np.uint8]

ATTACK_SIDE = 5
"""The first 5 inner and outer networks may enter an attack; those after them are held out for the evaluation."""

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
TEST_IMAGES = 10_000

_SHA256 = {
    "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
"""Of the unpacked IDX files, so that it does not matter who packed them."""


@dataclass(frozen=True, eq=False)
class FashionMnist:
    """The data set as it is stored: one byte a pixel (47 MB; `scaled` turns rows into float64 where they are needed).

    Attributes:
        train_images, test_images: shapes (60000, 784) and (10000, 784), uint8 in 0..255.
        train_labels, test_labels: classes 0..9, shapes (60000,) and (10000,), uint8.
    """

    train_images: Bytes
    train_labels: Bytes
    test_images: Bytes
    test_labels: Bytes


def scaled(images: ArrayLike) -> Floats:
    """Bytes 0..255 as float64 in [0, 1]: value / 255, any shape."""
    return np.asarray(images, dtype=np.float64) / 255.0


def cache_folder() -> Path:
    """Where downloads are kept: `$XDG_CACHE_HOME/arfj/fashion-mnist`, by default below `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "arfj" / "fashion-mnist"


def load_fashion_mnist(download: bool = False) -> FashionMnist:
    """Fashion-MNIST from `$ARFJ_DATA`, the user's cache, the Debian package or, only if asked, a download by Keras.

    Raises:
        DataError: none of the four has it, or a file found is broken or not Fashion-MNIST (checked by SHA-256).
    """
    named = os.environ.get("ARFJ_DATA")
    for folder in (Path(named) if named else None, cache_folder(), DEBIAN_FOLDER):
        if folder is not None and all(_find(folder, name) is not None for name in _SHA256):
            return FashionMnist(*(_checked(folder, name) for name in _SHA256))
    if download:
        return _download()
    raise DataError(
        f"Fashion-MNIST is in none of four places: $ARFJ_DATA ({named or 'not set'}), {cache_folder()}, "
        f"{DEBIAN_FOLDER} (apt install dataset-fashion-mnist), and a download by Keras was not asked for (--download); "
        f"a folder needs {', '.join(_SHA256)}, plain or .gz"
    )


def _find(folder: Path, name: str) -> Path | None:
    return next((path for path in (folder / name, folder / f"{name}.gz") if path.is_file()), None)


def _checked(folder: Path, name: str) -> Bytes:
    path = _find(folder, name)
    if path is None:
        raise DataError(f"{folder / name} vanished while it was read")
    array, digest = _parse_idx(path)
    if digest != _SHA256[name]:
        raise DataError(f"{path} is not the {name} of Fashion-MNIST (its SHA-256 differs); remove it or fetch it again")
    return array


def read_idx(path: str | os.PathLike[str]) -> Bytes:
    """Read an IDX file of bytes, plain or `.gz`: labels as (count,), images as (count, rows * columns).

    Raises:
        DataError: the file is missing, truncated, or no IDX file of bytes.
    """
    return _parse_idx(Path(path))[0]


def _parse_idx(path: Path) -> tuple[Bytes, str]:
    """The array, and the SHA-256 of the unpacked file."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read or unpacked ({error}); remove it or fetch it again") from error
    # Magic number: two zero bytes, 8 for unsigned bytes, the number of dimensions; then big-endian sizes.
    dimensions = raw[3] if len(raw) >= 4 and raw[:3] == b"\0\0\x08" else 0
    sizes = np.frombuffer(raw[4 : 4 + 4 * dimensions], dtype=">u4") if len(raw) >= 4 + 4 * dimensions else np.array([])
    if (
        not dimensions
        or len(sizes) != dimensions
        or len(raw) != 4 + 4 * dimensions + int(np.prod(sizes, dtype=np.int64))
    ):
        raise DataError(f"{path} is truncated or no IDX file of bytes; remove it or fetch it again")
    values = np.frombuffer(raw, dtype=np.uint8, offset=4 + 4 * dimensions)
    array = values if dimensions == 1 else values.reshape(int(sizes[0]), -1)
    return array, hashlib.sha256(raw).hexdigest()


def _download() -> FashionMnist:
    from arfj.keras_models import import_keras

    keras = import_keras()
    try:
        (train_images, train_labels), (test_images, test_labels) = keras.datasets.fashion_mnist.load_data()
    except Exception as error:  # Keras raises bare Exception for a failed download
        raise DataError(f"Keras could not download Fashion-MNIST ({error}); give a folder in $ARFJ_DATA") from error
    folder = cache_folder()
    for name, array in zip(_SHA256, (train_images, train_labels, test_images, test_labels), strict=True):
        header = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, dtype=">u4").tobytes()
        with atomic_write(folder / name) as stream:
            stream.write(header + array.tobytes())
    return FashionMnist(*(_checked(folder, name) for name in _SHA256))


@dataclass(frozen=True, eq=False)
class BundledImages:
    """The images that ship with the package, float64 in [0, 1], flat.

    Attributes:
        nominal: (10, 784), for each class the first test image that all training-side networks classify correctly.
        nominal_indices: (10,), where they stand in the test set.
        nominal_classes: 0..9.
        osd: (50, 784), the images of d_osd: the first training images.
        test, test_labels, test_indices: (200, 784), (200,), (200,): the first test images.
    """

    nominal: Floats
    nominal_indices: NDArray[np.int64]
    nominal_classes: NDArray[np.int64]
    osd: Floats
    test: Floats
    test_labels: NDArray[np.int64]
    test_indices: NDArray[np.int64]


def bundle_folder() -> Traversable:
    """The folder `arfj/bundle` of the installed package."""
    return importlib.resources.files("arfj") / "bundle"


def _bundled_file(*parts: str) -> Traversable:
    resource = bundle_folder().joinpath(*parts)
    if not resource.is_file():
        option = "--growth" if parts[0] == "growth" else "--bundle"
        raise DataError(
            f"the package lacks bundle/{'/'.join(parts)}; install it again, or run python -m training.train {option}"
        )
    return resource


def manifest() -> dict[str, Any]:
    """How the bundled files were made: seeds, accuracies, d_osd, d_in, discarded seeds, settings, commit, SHA-256.

    Raises:
        DataError: the bundle is missing or broken.
    """
    return _manifest("manifest.json")


def growth_manifest() -> dict[str, Any]:
    """The same for `bundled_growth`, a part for each of its names; files are named from `bundle_folder()` on.

    Raises:
        DataError: the bundle is missing or broken.
    """
    return _manifest("growth", "manifest.json")


def _manifest(*parts: str) -> dict[str, Any]:
    resource = _bundled_file(*parts)
    try:
        content = json.loads(resource.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{resource} is broken ({error}); install the package again") from error
    if not isinstance(content, dict):
        raise DataError(f"{resource} is no JSON object; install the package again")
    return content


def bundled_nominal() -> Network:
    """The nominal network, 784-8-8-8-10.

    Raises:
        DataError: the bundle lacks it.
    """
    return _bundled_network("networks", "nominal.npz")


def bundled_inner(held_out: bool = False) -> tuple[Network, ...]:
    """The 5 inner samples for attacks (those of `inner_samples(nominal, 5, 0.05, seed=0)`), or the 15 held out.

    Raises:
        DataError: the bundle lacks one.
    """
    return _bundled_side("inner", held_out)


def bundled_outer(held_out: bool = False) -> tuple[Network, ...]:
    """The 5 retrained networks for attacks, or the 15 held out; all with d_osd < 0.2 to the nominal network.

    Raises:
        DataError: the bundle lacks one.
    """
    return _bundled_side("outer", held_out)


def bundled_growth(name: str) -> tuple[Network, ...]:
    """The nominal network of an architecture, then its outer samples in the order of alpha: all with d_osd < 0.2 to it.

    Args:
        name: "16-16-16", "32-32-32" and "64-64" (hidden layers) and "conv" (4 windows of 4 x 4 pixels, 4 apart, made
            dense; then 16 neurons) have 6 networks each. "8-8-8" has 51, first `bundled_nominal` and the 5 of
            `bundled_outer()`, and none of those held out.

    Raises:
        UsageError: no such architecture.
        DataError: the bundle is missing or broken, or lacks a network.
    """
    return tuple(_bundled_network(*file.split("/")) for file in growth_files(name))


def growth_files(name: str) -> tuple[str, ...]:
    """The files of `bundled_growth(name)`, as `growth_manifest` names them.

    Raises:
        UsageError: no such architecture.
        DataError: the bundle is missing or broken.
    """
    try:
        files = {key: tuple(e["file"] for e in part["networks"]) for key, part in growth_manifest()["sets"].items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"bundle/growth/manifest.json is broken ({error!r}); install the package again") from error
    if name not in files:
        raise UsageError(f"the bundle has no growth set {name!r}; expected one of {', '.join(files)}")
    return files[name]


def _bundled_side(kind: str, held_out: bool) -> tuple[Network, ...]:
    folder = bundle_folder() / "networks"
    count = sum(item.name.startswith(f"{kind}_") for item in folder.iterdir()) if folder.is_dir() else 0
    chosen = range(ATTACK_SIDE, count) if held_out else range(ATTACK_SIDE)
    return tuple(_bundled_network("networks", f"{kind}_{index:02d}.npz") for index in chosen)


@functools.cache
def _bundled_network(*parts: str) -> Network:
    with importlib.resources.as_file(_bundled_file(*parts)) as path:
        return load_dense(path)


@functools.cache
def bundled_images() -> BundledImages:
    """The ten nominal images, the 50 images of d_osd and 200 test images.

    Raises:
        DataError: the bundle lacks them.
    """
    with importlib.resources.as_file(_bundled_file("images.npz")) as path:
        arrays = load_arrays(path)
    try:
        return images_from(arrays)
    except KeyError as error:
        raise DataError(f"bundle/images.npz lacks {error}; install the package again") from error


def images_from(arrays: Mapping[str, NDArray[np.generic]]) -> BundledImages:
    """`BundledImages` from the arrays of an `images.npz`: bytes for pixels, integers for the rest."""

    def pixels(key: str) -> Floats:
        values = scaled(arrays[key])
        values.setflags(write=False)
        return values

    def numbers(key: str) -> NDArray[np.int64]:
        values = arrays[key].astype(np.int64)
        values.setflags(write=False)
        return values

    return BundledImages(
        pixels("nominal"),
        numbers("nominal_indices"),
        numbers("nominal_classes"),
        pixels("osd"),
        pixels("test"),
        numbers("test_labels"),
        numbers("test_indices"),
    )


def test_image(index: int) -> tuple[Floats, int]:
    """Image `index` of the Fashion-MNIST test set, shape (784,) in [0, 1], and its class.

    Those in the bundle are answered from there, all others from the full data set.

    Raises:
        UsageError: no such index.
        DataError: it is not in the bundle and Fashion-MNIST is not on this machine.
    """
    if not 0 <= index < TEST_IMAGES:
        raise UsageError(f"image {index} is not in the test set; expected an index in 0..{TEST_IMAGES - 1}")
    images = bundled_images()
    indices = np.concatenate([images.test_indices, images.nominal_indices])
    found = np.flatnonzero(indices == index)
    if found.size:
        pixels = np.concatenate([images.test, images.nominal])[found[0]]
        return pixels, int(np.concatenate([images.test_labels, images.nominal_classes])[found[0]])
    full = load_fashion_mnist()
    return scaled(full.test_images[index]), int(full.test_labels[index])


# pytest would collect it wherever a test imports it by name.
test_image.__test__ = False  # type: ignore[attr-defined]


def load_image(path: str | os.PathLike[str]) -> Floats:
    """Read an image from a `.npy` file: any shape, real numbers in [0, 1], as float64.

    Raises:
        DataError: the file is missing or broken, or does not hold such numbers.
    """
    name = os.fspath(path)
    try:
        array = load_array(path)
    except ArfjError as error:
        raise DataError(str(error)) from error
    if array.dtype.kind not in "fiu":
        raise DataError(f"{name} holds {array.dtype} values; expected real numbers in [0, 1]")
    image = array.astype(np.float64)
    if image.size == 0 or not np.isfinite(image).all():
        raise DataError(f"{name} {'holds NaN or infinity' if image.size else 'is empty'}; expected pixels in [0, 1]")
    low, high = float(image.min()), float(image.max())
    if low < 0 or high > 1:
        cure = "divide by 255" if low >= 0 and high <= 255 else "scale them"
        raise DataError(f"{name} holds pixels from {low:g} to {high:g}; expected [0, 1]: {cure}")
    return image
