"""The growth sets of a bundle: larger networks, and more outer samples of the bundle's own network.

    growth/16-16-16_00.npz ... growth/conv_05.npz  growth/8-8-8_06.npz ... growth/8-8-8_50.npz  growth/manifest.json

A growth set is a nominal network (number 0) and its outer samples (from 1 on). That of the bundle's own architecture
starts with the bundle's networks for attacks, whose files stay where they are; its seeds go on after the bundle's
last, so that no network held out is among them. Weights are stored in float32, in which they are trained.
"""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arfj.data import ATTACK_SIDE, BundledImages, FashionMnist, images_from
from arfj.ensemble import EPSILON_OUTER
from arfj.errors import ArfjError
from arfj.files import atomic_write, load_arrays, make_folder, save_arrays
from arfj.network import Network, load_dense
from training.many import outcomes
from training.sets import (
    IMAGES,
    MANIFEST,
    Draw,
    commit,
    discarded_entry,
    draws,
    file_digest,
    measured,
    versions,
)
from training.settings import Convolution, Settings

FOLDER = "growth"
RULE = (
    "for each set the first seeds, from that of the bundle's nominal network on, whose networks have an accuracy in "
    "[settings.least, settings.most] and d_osd < epsilon_outer to the first of them; for the bundle's own network the "
    "bundle's rule and its next seeds"
)


def larger() -> dict[str, Settings]:
    """The method of the bundle for other architectures; these are more accurate, so there is no upper limit on it."""
    return {
        "16-16-16": Settings((16, 16, 16), most=1.0),
        "32-32-32": Settings((32, 32, 32), most=1.0),
        "64-64": Settings((64, 64), most=1.0),
        "conv": Settings((16,), most=1.0, convolution=Convolution(filters=4, kernel=4, stride=4)),
    }


@dataclass(frozen=True)
class Growth:
    """What is made beside a bundle.

    Attributes:
        methods: of the larger networks, by name.
        samples: outer samples of each of them.
        own: outer samples of the bundle's own nominal network, those for attacks in the bundle included.
        epsilon: the bound on d_osd of all these samples.
    """

    methods: Mapping[str, Settings] = field(default_factory=larger)
    samples: int = ATTACK_SIDE
    own: int = 50
    epsilon: float = EPSILON_OUTER

    @property
    def wanted(self) -> int:
        """Networks to train and keep, beside a bundle with `ATTACK_SIDE` outer samples."""
        return len(self.methods) * (self.samples + 1) + self.own - ATTACK_SIDE


@dataclass(frozen=True, eq=False)
class _Known:
    """The bundle that a growth set stands beside: its manifest's entries for attacks, and what follows from it."""

    nominal: dict[str, Any]
    outer: list[dict[str, Any]]
    settings: Settings
    next_seed: int
    images: BundledImages


def make_growth(
    bundle: Path,
    growth: Growth,
    data: FashionMnist,
    n_jobs: int = 1,
    seen: Callable[[int, int], None] = lambda kept, n: None,
) -> dict[str, Any]:
    """Train and write `bundle`/growth, and return its manifest; an interrupted run goes on where it stopped.

    Args:
        bundle: a finished set, as `make_set` leaves it; its nominal network's seed is the first one of the others.
        growth: what to make.
        data: Fashion-MNIST.
        n_jobs: processes.
        seen: called after each training with the number kept and the number trained so far.

    Raises:
        ArfjError: there is no such bundle, too few networks are accepted, or the folder cannot be written.
    """
    known = _known(bundle)
    cache = make_folder(make_folder(bundle / FOLDER) / ".trained")
    counts = [0, 0]

    def drawn(settings: Settings, seed: int, wanted: int, centre: Network | None) -> list[Draw]:
        kept, trained = counts

        def told(more_kept: int, more_trained: int) -> None:
            counts[:] = kept + more_kept, trained + more_trained
            seen(*counts)

        found = outcomes(itertools.count(seed), settings, n_jobs, data, cache)
        return list(draws(found, wanted, growth.epsilon, data, told, centre)) if wanted > 0 else []

    methods: dict[str, tuple[Settings, list[dict[str, Any]], list[Draw]]] = {}
    first, wanted = known.nominal["seed"], growth.samples + 1
    for name, settings in growth.methods.items():
        methods[name] = (settings, [], drawn(settings, first, wanted, None))
    own, centre = known.settings, load_dense(bundle / known.nominal["file"])
    more = drawn(own, known.next_seed, growth.own - len(known.outer), centre)
    methods["-".join(map(str, own.hidden))] = (own, [known.nominal, *known.outer], more)
    for stale in (bundle / FOLDER).glob("*.npz"):
        stale.unlink()
    sets = {
        name: _written(bundle, name, settings, files, found, growth.epsilon, known.images, data)
        for name, (settings, files, found) in methods.items()
    }
    content = {"rule": RULE, "commit": commit(), "versions": versions(), "sets": sets}
    with atomic_write(bundle / FOLDER / MANIFEST) as stream:
        stream.write((json.dumps(content, indent=1) + "\n").encode())
    shutil.rmtree(cache)
    return content


def _known(bundle: Path) -> _Known:
    try:
        content = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
        plan, entries = content["plan"], [entry for entry in content["networks"] if entry["side"] == "attack"]
        nominal, *others = [{key: entry[key] for key in ("file", "kind", "seed")} for entry in entries]
        settings = Settings(**plan["settings"] | {"hidden": tuple(plan["settings"]["hidden"])})
        after = plan["first_seed"] + content["trained"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArfjError(f"{bundle / MANIFEST} is missing or broken ({error!r}); make the set again") from error
    outer = [entry for entry in others if entry["kind"] == "outer"]
    return _Known(nominal, outer, settings, after, images_from(load_arrays(bundle / IMAGES)))


def _written(
    bundle: Path,
    name: str,
    settings: Settings,
    files: list[dict[str, Any]],
    found: list[Draw],
    epsilon: float,
    images: BundledImages,
    data: FashionMnist,
) -> dict[str, Any]:
    """Write the new networks of one growth set; the manifest's part on it, those that the bundle has included."""
    listed = [(entry["file"], entry["seed"]) for entry in files]
    for draw in (draw for draw in found if not draw.reason):
        file = f"{FOLDER}/{name}_{len(listed):02d}.npz"
        save_single(bundle / file, draw.outcome.network)
        listed.append((file, draw.outcome.seed))
    nominal = load_dense(bundle / listed[0][0])
    return {
        "settings": settings.as_json(),
        "epsilon_outer": epsilon,
        "sizes": list(nominal.sizes),
        "relus": sum(nominal.sizes[1:]),
        "trained": len(found),
        "discarded": [discarded_entry(draw) for draw in found if draw.reason],
        "networks": [
            {"file": file, "seed": seed} | measured_growth(bundle / file, nominal, images, data)
            for file, seed in listed
        ],
    }


def measured_growth(path: Path, nominal: Network, images: BundledImages, data: FashionMnist) -> dict[str, Any]:
    """What a growth manifest says of a file; `images` are the classes whose nominal image the network gets right."""
    network = load_dense(path)
    right = network.classify(images.nominal) == images.nominal_classes
    return {
        **measured(network, nominal, data),
        "images": images.nominal_classes[right].tolist(),
        "sha256": file_digest(path),
    }


def save_single(path: Path, network: Network) -> None:
    """Write a network as `Network.save` does, in float32.

    Raises:
        ArfjError: the file cannot be written.
    """
    arrays: dict[str, NDArray[np.generic]] = {}
    for k, layer in enumerate(network.layers):
        arrays |= {f"W{k}": layer.weight.astype(np.float32), f"b{k}": layer.bias.astype(np.float32)}
    arrays["output_activation"] = np.array(network.layers[-1].activation)
    arrays["input_shape"] = np.array(network.input_shape, dtype=np.int64)
    save_arrays(path, arrays)


def summary_of_growth(manifest: Mapping[str, Any]) -> str:
    """One line a set: how many networks, accuracies, distances, discards."""
    lines = []
    for name, part in manifest["sets"].items():
        accuracies = [entry["accuracy"] for entry in part["networks"]]
        distances = [entry["d_osd"] for entry in part["networks"][1:]]
        lines.append(
            f"{name:10} {len(accuracies):3} networks  {part['relus']:4} ReLUs  "
            f"accuracy {min(accuracies):.4f}..{max(accuracies):.4f}  d_osd {min(distances):.4f}..{max(distances):.4f}  "
            f"discarded {len(part['discarded'])} of {part['trained']} trained"
        )
    return "\n".join(lines)
