"""Compare a set of networks with its manifest: every number is computed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from arfj.data import FashionMnist, images_from, load_fashion_mnist
from arfj.errors import ArfjError
from arfj.files import load_arrays
from arfj.network import load_dense
from training.growth import FOLDER as GROWTH
from training.growth import measured_growth
from training.sets import IMAGES, MANIFEST, NETWORKS, file_digest, measured

TOLERANCE = 1e-9
"""On accuracies and distances, relative: other machines sum float64 in another order."""


def check_set(folder: Path, download: bool = False) -> str:
    """Check digests, accuracies, d_osd and d_in of a set and of its growth sets, if it has some; one sentence each.

    Raises:
        ArfjError: a manifest is missing or broken, a file differs from it, or a number does.
    """
    content = _manifest(folder / MANIFEST)
    try:
        entries, plan = content["networks"], content["plan"]
        files = {entry["file"]: entry["sha256"] for entry in (*entries, content["images"])}
    except (KeyError, TypeError) as error:
        raise _broken(folder / MANIFEST, error) from error
    _check_files(folder, NETWORKS, files)
    data = load_fashion_mnist(download)
    nominal = load_dense(folder / NETWORKS / "nominal.npz")
    for entry in entries:
        found = measured(load_dense(folder / entry["file"]), nominal, data)
        _check_numbers(entry, found)
        _check_limits(entry, plan)
    answer = (
        f"{folder}: {len(entries)} networks agree with the manifest ({len(files)} files, all digests and distances)"
    )
    return f"{answer}\n{_check_growth(folder, data)}" if (folder / GROWTH).is_dir() else answer


def _check_growth(bundle: Path, data: FashionMnist) -> str:
    content = _manifest(bundle / GROWTH / MANIFEST)
    try:
        sets = list(content["sets"].values())
        entries = [entry for part in sets for entry in part["networks"]]
        files = {entry["file"]: entry["sha256"] for entry in entries}
        bundled = _manifest(bundle / MANIFEST)["networks"]
        held_out = {entry["fingerprint"] for entry in bundled if entry["side"] == "held-out"}
    except (AttributeError, KeyError, TypeError) as error:
        raise _broken(bundle / GROWTH / MANIFEST, error) from error
    _check_files(bundle, GROWTH, files)
    images = images_from(load_arrays(bundle / IMAGES))
    for part in sets:
        nominal = load_dense(bundle / part["networks"][0]["file"])
        for entry in part["networks"]:
            _check_numbers(entry, measured_growth(bundle / entry["file"], nominal, images, data))
            if entry["fingerprint"] in held_out:
                raise ArfjError(f"{entry['file']} is one of the networks held out; make the growth sets again")
            _check_outer(entry, part["settings"], part["epsilon_outer"])
    return f"{bundle / GROWTH}: {len(entries)} networks in {len(sets)} growth sets agree with the manifest"


def _manifest(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _broken(path, error) from error
    if not isinstance(content, dict):
        raise ArfjError(f"{path} is no JSON object; make the set again")
    return content


def _broken(path: Path, error: Exception) -> ArfjError:
    return ArfjError(f"{path} is missing or broken ({error!r}); make the set again")


def _check_files(folder: Path, inside: str, files: dict[str, str]) -> None:
    strangers = {f"{inside}/{path.name}" for path in (folder / inside).glob("*.npz")} - files.keys()
    if strangers:
        raise ArfjError(f"{folder}: {min(strangers)} is not in the manifest; remove it or make the set again")
    for name, digest in files.items():
        if not (folder / name).is_file():
            raise ArfjError(f"{folder / name} is missing; make the set again")
        if file_digest(folder / name) != digest:
            raise ArfjError(
                f"{folder / name} is not the file of the manifest (its SHA-256 differs); make the set again"
            )


def _check_numbers(entry: dict[str, Any], found: dict[str, Any]) -> None:
    for key, value in found.items():
        said = entry.get(key)
        same = abs(said - value) <= TOLERANCE * abs(value) if isinstance(said, float) else said == value
        if not same:
            raise ArfjError(f"{entry['file']}: {key} is {value}, the manifest says {said}; make the set again")


def _check_limits(entry: dict[str, Any], plan: dict[str, Any]) -> None:
    radius = {"nominal": 0.0, "inner": plan["epsilon_inner"], "outer": entry["d_in"]}[entry["kind"]]
    if abs(entry["d_in"] - radius) > TOLERANCE * radius:
        raise ArfjError(f"{entry['file']}: d_in is {entry['d_in']}; expected {radius}")
    if entry["kind"] != "inner":
        _check_outer(entry, plan["settings"], plan["epsilon_outer"])


def _check_outer(entry: dict[str, Any], settings: dict[str, Any], epsilon: float) -> None:
    """Of a trained network: the nominal one, whose d_osd is 0, or an outer sample."""
    low, high = settings["least"], settings["most"]
    if not low <= entry["accuracy"] <= high:
        raise ArfjError(f"{entry['file']}: accuracy {entry['accuracy']} is outside [{low}, {high}]")
    if not entry["d_osd"] < epsilon:
        raise ArfjError(f"{entry['file']}: d_osd is {entry['d_osd']}; expected less than {epsilon}")
