"""What a transfer study is about: networks for the attack, networks to be fooled, and images.

A user's own subject is a folder, written by whatever trains the networks:

    attack/*        the nominal network first by name, then its samples in the order of alpha
    targets/NAME/*  networks that no attack sees; the set `same` holds those of the attack's own training method
    images.npz      x (images, ...) in [0, 1] and y (images,), their classes

Networks are files that `arfj.load_network` reads. `write_subject` makes such a folder from any training method.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arfj.data import bundled_growth, bundled_images, bundled_nominal, bundled_outer
from arfj.ensemble import Ensemble
from arfj.errors import ArfjError, DataError
from arfj.files import load_arrays, save_arrays
from arfj.network import Floats, Network, load_dense
from experiments.studies import Scale
from experiments.transfer.targets import load_targets, network_files

SAME = "same"
PER_CLASS = 5
ATTACK, TARGETS, IMAGES = "attack", "targets", "images.npz"


@dataclass(frozen=True, eq=False)
class Subject:
    """Networks and images of a study.

    Attributes:
        name: "bundle", "smoke", or the folder's.
        attack: the nominal network, then its samples.
        images: flat, (count, n), in [0, 1]; the nominal network gives each to its class.
        labels: their classes.
        indices: what they are called.
    """

    name: str
    attack: tuple[Network, ...]
    images: Floats
    labels: NDArray[np.int64]
    indices: NDArray[np.int64]

    @functools.cached_property
    def digest(self) -> str:
        """Of networks and images."""
        parts = (*(network.fingerprint().encode() for network in self.attack), self.images.tobytes())
        return digest(*parts, self.labels.tobytes())

    @property
    def classes(self) -> int:
        """Number of classes."""
        return self.attack[0].classes

    def ensemble(self, alpha: int, block: int = 0) -> Ensemble:
        """The nominal network and `alpha` samples: the first ones, or those of a later block of as many."""
        samples = self.attack[1 + block * alpha : 1 + (block + 1) * alpha]
        return Ensemble((self.attack[0], *samples), "outer" if alpha else "nominal")

    def first_of_class(self) -> list[int]:
        """Positions of the first image of each class."""
        return [int(np.flatnonzero(self.labels == label)[0]) for label in np.unique(self.labels)]

    def likeliest(self, image: int, but: int) -> int:
        """The most likely wrong class of an image but for one, by the nominal network."""
        chances = self.attack[0].probabilities(self.images[[image]])[0].copy()
        chances[[self.labels[image], but]] = -1.0
        return int(chances.argmax())


def subject(scale: Scale) -> Subject:
    """The user's, the bundle's, or a tiny part of that.

    Raises:
        ArfjError: the user's folder is not one.
    """
    if scale.subject is not None:
        return read_subject(scale.subject.resolve())
    return _bundled(scale.size == "smoke")


@functools.cache
def _bundled(small: bool) -> Subject:
    """The first test images of each class that the nominal network classifies correctly, and the outer samples."""
    bundle, nominal = bundled_images(), bundled_nominal()
    right = nominal.classify(bundle.test) == bundle.test_labels
    chosen = [
        place
        for label in ((1, 9) if small else range(nominal.classes))
        for place in np.flatnonzero(right & (bundle.test_labels == label))[: 1 if small else PER_CLASS]
    ]
    networks = bundled_growth("8-8-8")
    return Subject(
        "smoke" if small else "bundle",
        networks[: 3 if small else len(networks)],
        bundle.test[chosen],
        bundle.test_labels[chosen],
        bundle.test_indices[chosen],
    )


@functools.cache
def read_subject(folder: Path) -> Subject:
    """A user's subject.

    Raises:
        ArfjError: a file is missing or broken, or they do not fit each other.
    """
    files = network_files(folder / ATTACK)
    arrays = load_arrays(folder / IMAGES)
    if any(arrays[name].dtype.kind not in "fiu" for name in ("x", "y") if name in arrays):
        raise DataError(f"{folder / IMAGES} needs numbers in x and y")
    if "y" in arrays and (arrays["y"] != np.floor(arrays["y"].astype(np.float64))).any():
        raise DataError(f"{folder / IMAGES} needs classes in y, whole numbers from 0 on")
    if not {"x", "y"} <= arrays.keys() or arrays["x"].shape[:1] != arrays["y"].shape or arrays["y"].ndim != 1:
        raise DataError(f"{folder / IMAGES} needs x of shape (images, ...) and y of shape (images,)")
    attack = tuple(load_dense(file) for file in files)
    images = np.asarray(arrays["x"], dtype=np.float64).reshape(len(arrays["y"]), -1)
    labels = np.asarray(arrays["y"], dtype=np.int64)
    if images.shape[1] != attack[0].inputs:
        sizes = f"{images.shape[1]} values an image; {files[0].name} takes {attack[0].inputs}"
        raise DataError(f"{folder / IMAGES} has {sizes}")
    if not len(images) or not ((images >= 0) & (images <= 1)).all():
        raise DataError(f"{folder / IMAGES} needs images with pixels in [0, 1]; divide by 255?")
    wrong = np.flatnonzero(attack[0].classify(images) != labels)
    if wrong.size:
        raise DataError(f"{folder / IMAGES}: {files[0].name} misclassifies image {wrong[0]}; leave such images out")
    Ensemble(attack, "given")  # the networks fit each other
    return Subject(folder.name, attack, images, labels, np.arange(len(images)))


def targets(scale: Scale) -> Mapping[str, tuple[Network, ...]]:
    """The networks to be fooled, by set.

    Raises:
        ArfjError: there are none.
    """
    if scale.subject is not None:
        found = read_targets(scale.subject / TARGETS)
    elif scale.size == "smoke":
        held_out = bundled_outer(held_out=True)
        return {SAME: held_out[:6], "wide": bundled_growth("16-16-16")[:2], "conv": bundled_growth("conv")[:2]}
    else:
        found = read_targets(bundled_targets(scale))
    _check_targets(subject(scale), found)
    return found


def _check_targets(asked: Subject, found: Mapping[str, Sequence[Network]]) -> None:
    """Targets fit the attack's networks, and are none of them.

    Raises:
        DataError: one of them does not.
    """
    attack = {network.fingerprint() for network in asked.attack}
    for name, networks in found.items():
        for number, network in enumerate(networks):
            if (network.inputs, network.classes) != (asked.attack[0].inputs, asked.classes):
                raise DataError(
                    f"targets/{name}, network {number}: {network.inputs} inputs and {network.classes} classes; the "
                    f"attack's have {asked.attack[0].inputs} and {asked.classes}"
                )
            if network.fingerprint() in attack:
                raise DataError(f"targets/{name}, network {number} is one of the attack's; a target must be new to it")


def digest(*parts: bytes) -> str:
    """Eight hex digits that tell contents apart."""
    whole = hashlib.sha256()
    for part in parts:
        whole.update(len(part).to_bytes(8, "little") + part)
    return whole.hexdigest()[:8]


def bundled_targets(scale: Scale) -> Path:
    """Where the networks to be fooled lie that the study has trained itself.

    Raises:
        ArfjError: no folder is named.
    """
    if scale.folder is None:
        raise ArfjError("the target networks need a folder; name one with --out")
    return scale.folder / TARGETS


@functools.cache
def read_targets(folder: Path) -> Mapping[str, tuple[Network, ...]]:
    """One set a sub-folder.

    Raises:
        ArfjError: there is none, a set is empty, or a file is broken.
    """
    found = load_targets(folder)
    if SAME not in found:
        raise DataError(f"{folder} has no sub-folder {SAME!r}: networks of the attack's own training method")
    return found


def write_subject(
    folder: Path,
    method: Callable[[int], Network],
    attack: Sequence[int],
    fooled: Mapping[str, Sequence[int]],
    x: ArrayLike,
    y: ArrayLike,
) -> None:
    """Write a subject from a training method; what is there already is kept, so that an interrupted run goes on.

    Args:
        folder: where.
        method: seed -> trained network, or any other meaning that its numbers have.
        attack: seeds of the nominal network and its samples.
        fooled: seeds of the targets, by set; `same` among them.
        x: images (count, ...) in [0, 1]; those that the nominal network misclassifies are left out.
        y: their classes.

    Raises:
        ArfjError: a seed stands on both sides, or a file cannot be written.
    """
    if SAME not in fooled:
        raise ArfjError(f"fooled needs the set {SAME!r}: networks of the attack's own training method")
    both = set(attack).intersection(*[set().union(*fooled.values())])
    if both:
        raise ArfjError(f"seed {min(both)} is for the attack and to be fooled; a target must be new to the attack")
    groups = {ATTACK: attack} | {f"{TARGETS}/{name}": seeds for name, seeds in fooled.items()}
    for name, seeds in groups.items():
        for number, seed in enumerate(seeds):
            file = folder / name / f"{number:03d}.npz"
            if not file.exists():
                file.parent.mkdir(parents=True, exist_ok=True)
                method(seed).save(file)
    images, labels = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.int64)
    nominal = load_dense(folder / ATTACK / "000.npz")
    right = nominal.classify(images.reshape(len(images), -1)) == labels
    save_arrays(folder / IMAGES, {"x": images[right], "y": labels[right]})
