"""Table 2: the outer samples of the attacks, trained from scratch, and how far they are from the nominal network."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np

from arfj.data import bundled_images, bundled_nominal, bundled_outer, load_fashion_mnist, scaled
from arfj.ensemble import ALPHA, EPSILON_OUTER, d_in, d_osd
from arfj.errors import DataError
from experiments.paper.published import OUTER_D_IN, OUTER_D_OSD, beside
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Study, Task

PACE = 100.0
"""Test images a second, at least: a row on few images is made again once all are at hand."""


def stage(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """The nominal network, then the outer samples."""
    full = scale.size == "full" and at_hand()
    limit = (10_000 if full else len(bundled_images().test)) / PACE
    return [
        Task(f"outer/{index}", functools.partial(measured, index, full), limit, "outer") for index in range(ALPHA + 1)
    ]


@functools.cache
def at_hand() -> bool:
    """Whether Fashion-MNIST is."""
    try:
        load_fashion_mnist()
    except DataError:
        return False
    return True


def measured(index: int, full: bool) -> dict[str, Any]:
    """Network `index`, 0 for the nominal one, on all test images or on those of the bundle."""
    nominal, images = bundled_nominal(), bundled_images()
    network = (nominal, *bundled_outer())[index]
    tests, labels = images.test, images.test_labels
    if full:
        data = load_fashion_mnist()
        tests, labels = scaled(data.test_images), data.test_labels.astype(np.int64)
    return {
        "network": index,
        "test_images": len(labels),
        "accuracy": float(np.mean(network.classify(tests) == labels)),
        "d_in": d_in(network, nominal),
        "d_osd": d_osd(network.probabilities(images.osd), nominal.probabilities(images.osd)),
    }


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """The networks, and their ranges beside the published ones."""
    made = [row for row in rows if row["key"].startswith("outer/") and "d_in" in row]
    drawn = [row for row in made if row["network"] > 0]
    if not drawn:
        return []
    columns = (Column("network"), Column("accuracy", 2, percent=True), Column("d_osd", 4), Column("d_in", 1))
    cells = [
        (f"outer {r['network']}" if r["network"] else "nominal", r["accuracy"], r["d_osd"], r["d_in"]) for r in made
    ]
    counts = sorted({row["test_images"] for row in made})
    notes = (
        f"Accuracy on {' or '.join(map(str, counts))} test images, d_osd on the first 50 training images; all are "
        f"drawn with d_osd below {EPSILON_OUTER:g}.",
    )
    pairs = ((OUTER_D_OSD, [row["d_osd"] for row in drawn]), (OUTER_D_IN, [row["d_in"] for row in drawn]))
    why = (
        "d_in grows with the size of the weights, hence with rate and epochs, which are not published; in both places "
        "networks that answer alike are some ten thousand times as far apart as those of Table 1.",
    )
    return [
        Sheet("table2", "Table 2: the outer samples.", columns, cells, notes),
        beside("table2_published", "Table 2 beside the paper.", pairs, why),
    ]


def violations(rows: Sequence[Row]) -> list[str]:
    """Samples that are none."""
    drawn = [row for row in rows if row["key"].startswith("outer/") and "d_osd" in row]
    return [
        f"{row['key']} has d_osd {row['d_osd']:.4f}, not below {EPSILON_OUTER}"
        for row in drawn
        if row["d_osd"] >= EPSILON_OUTER
    ]


STUDY = Study(
    "table2",
    "Table 2: outer samples and their distances",
    (stage,),
    sheets,
    violations=violations,
    keys=("outer/",),
)
