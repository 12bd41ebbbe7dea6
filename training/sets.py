"""A set of networks in a folder: one nominal network, its inner and outer samples, their images and a manifest.

    networks/nominal.npz  networks/inner_00.npz ...  networks/outer_00.npz ...  images.npz  manifest.json

The bundle of the package is such a set. The samples after the first `alpha` of a kind are held out: they enter no
attack.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arfj.data import ATTACK_SIDE, FashionMnist, scaled
from arfj.ensemble import EPSILON_INNER, EPSILON_OUTER, d_in, d_osd, inner_samples
from arfj.errors import ArfjError, UsageError
from arfj.files import atomic_write, make_folder, save_arrays
from arfj.network import Network
from training.many import Outcome, accuracy_of, outcomes
from training.settings import Settings

OSD_IMAGES, TEST_IMAGES = 50, 200
MANIFEST, IMAGES, NETWORKS = "manifest.json", "images.npz", "networks"
INNER_SEED, HELD_OUT_INNER_SEED = 0, 20_250_501
"""An attack draws its inner networks from --seed, by default 0; nobody will hit on the other one by accident."""


@dataclass(frozen=True)
class Plan:
    """What a set holds.

    Attributes:
        settings: how its networks are trained.
        alpha: inner and outer samples for attacks.
        held_out: inner and outer samples for the evaluation only.
        first_seed: seeds are tried one by one from here.
        epsilon_inner, epsilon_outer: d_in of the inner samples, the bound on d_osd of the outer ones.

    Raises:
        UsageError: a negative number.
    """

    settings: Settings = field(default_factory=Settings)
    alpha: int = ATTACK_SIDE
    held_out: int = 15
    first_seed: int = 0
    epsilon_inner: float = EPSILON_INNER
    epsilon_outer: float = EPSILON_OUTER

    def __post_init__(self) -> None:
        numbers = (self.alpha, self.held_out, self.first_seed, self.epsilon_inner, self.epsilon_outer)
        if not all(number >= 0 for number in numbers):
            raise UsageError("alpha, held-out, seed and the two epsilons must not be negative")

    @property
    def samples(self) -> int:
        """Samples of each kind."""
        return self.alpha + self.held_out


@dataclass(frozen=True, eq=False)
class Draw:
    """An outcome, with its d_osd to the nominal network (None before there is one, or where it was not asked)."""

    outcome: Outcome
    distance: float | None
    reason: str


def make_set(
    folder: Path,
    plan: Plan,
    data: FashionMnist,
    n_jobs: int = 1,
    seen: Callable[[int, int], None] = lambda kept, n: None,
) -> dict[str, Any]:
    """Train, sample, choose the images, write everything, and return the manifest.

    A run that was interrupted goes on with the networks that it had finished. The manifest is written last.

    Args:
        folder: is made; networks of an older set in it are removed.
        plan: what to make.
        data: Fashion-MNIST.
        n_jobs: processes.
        seen: called after each training with the number kept and the number trained so far.

    Raises:
        ArfjError: too few networks are accepted, or the folder cannot be written.
    """
    cache = make_folder(make_folder(folder) / ".trained")
    trained = outcomes(itertools.count(plan.first_seed), plan.settings, n_jobs, data, cache)
    drawn = list(draws(trained, plan.samples + 1, plan.epsilon_outer, data, seen))
    nominal, *outer = [draw for draw in drawn if not draw.reason]
    networks = _named(nominal.outcome.network, [draw.outcome.network for draw in outer], plan)
    images = choose_images([network for name, network in networks.items() if _side(name, plan) == "attack"], data)
    _write_networks(folder / NETWORKS, networks)
    save_arrays(folder / IMAGES, images)
    entries = [
        {"file": f"{NETWORKS}/{name}.npz", "kind": name.partition("_")[0], "side": _side(name, plan), "seed": seed}
        | measured(network, nominal.outcome.network, data)
        | {"sha256": file_digest(folder / NETWORKS / f"{name}.npz")}
        for (name, network), seed in zip(networks.items(), _seeds(nominal, outer, plan), strict=True)
    ]
    content = _manifest(folder, plan, entries, [draw for draw in drawn if draw.reason], images)
    with atomic_write(folder / MANIFEST) as stream:
        stream.write((json.dumps(content, indent=1) + "\n").encode())
    shutil.rmtree(cache)
    return content


def draws(
    trained: Iterator[Outcome],
    wanted: int,
    epsilon: float,
    data: FashionMnist,
    seen: Callable[[int, int], None],
    centre: Network | None = None,
) -> Iterator[Draw]:
    """Go through the trained networks until `wanted` are kept, the first as the nominal one if there is no `centre`.

    Raises:
        ArfjError: fewer than a tenth of them are accepted.
    """
    images = scaled(data.train_images[:OSD_IMAGES])
    nominal = None if centre is None else centre.probabilities(images)
    kept = 0
    for count, outcome in enumerate(trained, start=1):
        probabilities = outcome.network.probabilities(images)
        distance = None if nominal is None else d_osd(probabilities, nominal)
        reason = outcome.reason
        if not reason and distance is not None and distance >= epsilon:
            reason = f"d_osd {distance:.4f} is not below {epsilon}"
        if not reason:
            nominal = probabilities if nominal is None else nominal
            kept += 1
        seen(kept, count)
        yield Draw(outcome, distance, reason)
        if kept == wanted:
            return
        if count >= 30 and kept < 0.1 * count:
            raise ArfjError(
                f"only {kept} of {count} trained networks are accepted (the last one: {reason or 'kept'}); "
                "keep a wider range of accuracies, raise the bound on d_osd or train differently"
            )


def _named(nominal: Network, outer: list[Network], plan: Plan) -> dict[str, Network]:
    inner = (
        *inner_samples(nominal, plan.alpha, plan.epsilon_inner, INNER_SEED),
        *inner_samples(nominal, plan.held_out, plan.epsilon_inner, HELD_OUT_INNER_SEED),
    )
    named = {"nominal": nominal}
    for kind, samples in (("inner", inner), ("outer", outer)):
        named |= {f"{kind}_{index:02d}": network for index, network in enumerate(samples)}
    return named


def _side(name: str, plan: Plan) -> str:
    return "attack" if name == "nominal" or int(name.partition("_")[2]) < plan.alpha else "held-out"


def _seeds(nominal: Draw, outer: list[Draw], plan: Plan) -> list[int]:
    """In the order of `_named`: the training seed, or for an inner sample the seed of the whole draw."""
    inner = [INNER_SEED] * plan.alpha + [HELD_OUT_INNER_SEED] * plan.held_out
    return [nominal.outcome.seed, *inner, *(draw.outcome.seed for draw in outer)]


def choose_images(networks: list[Network], data: FashionMnist) -> dict[str, NDArray[np.generic]]:
    """The arrays of `images.npz`: bytes for pixels, and where they stand in the data set.

    The nominal images are, for each class, the first test image that all `networks` classify correctly.

    Raises:
        ArfjError: there is none for some class.
    """
    tests = scaled(data.test_images)
    right = np.logical_and.reduce([network.classify(tests) == data.test_labels for network in networks])
    classes = np.arange(networks[0].classes)
    missing = [int(c) for c in classes if not (right & (data.test_labels == c)).any()]
    if missing:
        raise ArfjError(f"no test image of class {missing[0]} is classified correctly by all networks; train longer")
    indices = np.array([np.flatnonzero(right & (data.test_labels == c))[0] for c in classes])
    return {
        "nominal": data.test_images[indices],
        "nominal_indices": indices,
        "nominal_classes": classes,
        "osd": data.train_images[:OSD_IMAGES],
        "test": data.test_images[:TEST_IMAGES],
        "test_labels": data.test_labels[:TEST_IMAGES],
        "test_indices": np.arange(TEST_IMAGES),
    }


def measured(network: Network, nominal: Network, data: FashionMnist) -> dict[str, Any]:
    """What a manifest says of a network and what a check computes again: accuracy, d_osd, d_in, fingerprint."""
    images = scaled(data.train_images[:OSD_IMAGES])
    return {
        "accuracy": accuracy_of(network.classify(scaled(data.test_images)), data),
        "d_osd": d_osd(network.probabilities(images), nominal.probabilities(images)),
        "d_in": d_in(network, nominal),
        "fingerprint": network.fingerprint(),
    }


def _write_networks(folder: Path, networks: dict[str, Network]) -> None:
    for stale in set(folder.glob("*.npz")) - {folder / f"{name}.npz" for name in networks}:
        stale.unlink()
    for name, network in networks.items():
        network.save(folder / f"{name}.npz")


def _manifest(
    folder: Path,
    plan: Plan,
    entries: list[dict[str, Any]],
    discarded: list[Draw],
    images: dict[str, NDArray[np.generic]],
) -> dict[str, Any]:
    return {
        "plan": {**asdict(plan), "settings": plan.settings.as_json()},
        "inner_seeds": {"attack": INNER_SEED, "held-out": HELD_OUT_INNER_SEED},
        "commit": commit(),
        "versions": versions(),
        "images": {
            "file": IMAGES,
            "sha256": file_digest(folder / IMAGES),
            "nominal_indices": images["nominal_indices"].tolist(),
            "osd": f"training images 0..{OSD_IMAGES - 1}",
            "test": f"test images 0..{TEST_IMAGES - 1}",
        },
        "trained": len(discarded) + plan.samples + 1,
        "discarded": [discarded_entry(draw) for draw in discarded],
        "networks": entries,
    }


def discarded_entry(draw: Draw) -> dict[str, Any]:
    """What a manifest says of a seed whose network is not kept."""
    outcome = draw.outcome
    return {"seed": outcome.seed, "accuracy": outcome.accuracy, "d_osd": draw.distance, "reason": draw.reason}


def file_digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def versions() -> dict[str, str]:
    """Of what a bit-for-bit repetition depends on."""
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in ("arfj", "numpy", "keras", "tensorflow"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def commit() -> str | None:
    """The commit of the checkout that this runs from, if it is one."""
    git = shutil.which("git")
    if git is None:
        return None
    command = [git, "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)  # noqa: S603 - fixed
    except subprocess.TimeoutExpired:
        return None
    return answer.stdout.strip() or None
