"""Compare a set of networks with its manifest: every number is computed again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from arfj.data import load_fashion_mnist
from arfj.errors import ArfjError
from arfj.network import load_dense
from training.sets import MANIFEST, NETWORKS, file_digest, measured

TOLERANCE = 1e-9
"""On accuracies and distances, relative: other machines sum float64 in another order."""


def check_set(folder: Path, download: bool = False) -> str:
    """Check digests, accuracies, d_osd and d_in of a set; the answer is one sentence.

    Raises:
        ArfjError: the manifest is missing or broken, a file differs from it, or a number does.
    """
    try:
        content = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        entries, plan = content["networks"], content["plan"]
        files = {entry["file"]: entry["sha256"] for entry in (*entries, content["images"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArfjError(f"{folder / MANIFEST} is missing or broken ({error!r}); make the set again") from error
    _check_files(folder, files)
    data = load_fashion_mnist(download)
    nominal = load_dense(folder / NETWORKS / "nominal.npz")
    for entry in entries:
        found = measured(load_dense(folder / entry["file"]), nominal, data)
        _check_numbers(entry, found)
        _check_limits(entry, plan)
    return f"{folder}: {len(entries)} networks agree with the manifest ({len(files)} files, all digests and distances)"


def _check_files(folder: Path, files: dict[str, str]) -> None:
    strangers = {f"{NETWORKS}/{path.name}" for path in (folder / NETWORKS).glob("*.npz")} - files.keys()
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
        same = said == value if isinstance(value, str) or said is None else abs(said - value) <= TOLERANCE * abs(value)
        if not same:
            raise ArfjError(f"{entry['file']}: {key} is {value}, the manifest says {said}; make the set again")


def _check_limits(entry: dict[str, Any], plan: dict[str, Any]) -> None:
    low, high = plan["settings"]["least"], plan["settings"]["most"]
    radius = {"nominal": 0.0, "inner": plan["epsilon_inner"], "outer": entry["d_in"]}[entry["kind"]]
    if entry["kind"] != "inner" and not low <= entry["accuracy"] <= high:
        raise ArfjError(f"{entry['file']}: accuracy {entry['accuracy']} is outside [{low}, {high}]")
    if abs(entry["d_in"] - radius) > TOLERANCE * radius:
        raise ArfjError(f"{entry['file']}: d_in is {entry['d_in']}; expected {radius}")
    if entry["kind"] == "outer" and not entry["d_osd"] < plan["epsilon_outer"]:
        raise ArfjError(f"{entry['file']}: d_osd is {entry['d_osd']}; expected less than {plan['epsilon_outer']}")
