"""What the scenario studies share: where their rows and their document are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from arfj.certify.scenario import ScenarioCertificate
from experiments.studies import Row

ROWS = Path(__file__).parent.parent / "rows" / "scenario.jsonl.gz"
DOCUMENT = ROWS.parent.parent.parent / "docs" / "scenario.md"
DELTA = 1e-5
SHORT = 60.0
"""Seconds that a task may take, about."""


def of(rows: Sequence[Row], prefix: str) -> list[Row]:
    """The rows whose key begins so, errors left out."""
    return [row for row in rows if row["key"].startswith(prefix) and row.get("status") != "error"]


def told(found: ScenarioCertificate, name: str) -> dict[str, float | int]:
    """What a row holds of a certificate."""
    parts = {"bound": found.bound, "samples": found.samples, "discarded": found.discarded, "seconds": found.seconds}
    return {f"{name}_{key}": value for key, value in parts.items()}
