"""Table 1: how little a network moves when it is refitted for one epoch on one training image."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arfj.data import bundled_images, bundled_nominal, load_fashion_mnist, scaled
from arfj.ensemble import d_in, d_osd
from arfj.errors import ArfjError
from arfj.network import Floats
from experiments.paper.published import REFIT_ACCURACY, REFIT_D_IN, REFIT_D_OSD, beside
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Study, Task

RATE = 0.01
RATES = (0.1, RATE, 0.001)
"""The bundled networks are trained with rates that fall from the first of these to the last."""
LEAST, MOST = 0.95, 0.995
"""A surer answer has nearly no gradient; a wrong or unsure one moves far more than the published networks did."""
COUNT, SMOKE_COUNT = 5, 2
SEARCHED = 1000
LIMIT, SMOKE_LIMIT = 60.0, 30.0

Labelled = tuple[Floats, NDArray[np.integer[Any]]]


def stage(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """A refit a rate and image."""
    full = scale.size == "full"
    count, limit = (COUNT, LIMIT) if full else (SMOKE_COUNT, SMOKE_LIMIT)
    return [
        Task(f"refit/{rate}/{index}", functools.partial(refitted, rate, index, full), limit, "refit")
        for rate in (RATES if full else (RATE,))
        for index in range(count)
    ]


def refitted(rate: float, index: int, full: bool) -> dict[str, Any]:
    """The nominal network after a step on the image that is chosen as number `index`."""
    from training.refit import refit

    network = bundled_nominal()
    images, labels = training_images(full)
    at = chosen(network.probabilities(images), labels)[index]
    moved = refit(network, images[at], int(labels[at]), rate)
    tests, classes = test_images(full)
    before, after = (float(np.mean(one.classify(tests) == classes)) for one in (network, moved))
    osd = bundled_images().osd
    return {
        "image": int(at),
        "label": int(labels[at]),
        "probability": float(network.probabilities(images[at : at + 1])[0, labels[at]]),
        "rate": rate,
        "data": "training" if full else "bundled test",
        "test_images": len(classes),
        "before": before,
        "after": after,
        "d_in": d_in(moved, network),
        "d_osd": d_osd(moved.probabilities(osd), network.probabilities(osd)),
    }


def chosen(probabilities: Floats, labels: NDArray[np.integer[Any]]) -> list[int]:
    """The first images whose class has a probability in [LEAST, MOST].

    Raises:
        ArfjError: there are too few.
    """
    own = probabilities[np.arange(len(labels)), labels]
    found = np.flatnonzero((own >= LEAST) & (own <= MOST))[:COUNT]
    if len(found) < SMOKE_COUNT:
        raise ArfjError(f"only {len(found)} of {len(labels)} images are given their class with {LEAST} to {MOST}")
    return [int(index) for index in found]


@functools.cache
def training_images(full: bool) -> Labelled:
    """The first training images; in the smoke form bundled test images stand in for them."""
    if full:
        data = load_fashion_mnist()
        return scaled(data.train_images[:SEARCHED]), data.train_labels[:SEARCHED].astype(np.int64)
    images = bundled_images()
    return images.test, images.test_labels


@functools.cache
def test_images(full: bool) -> Labelled:
    """All test images, or the 200 bundled ones."""
    if full:
        data = load_fashion_mnist()
        return scaled(data.test_images), data.test_labels.astype(np.int64)
    images = bundled_images()
    return images.test, images.test_labels


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """The networks, their ranges beside the published ones, and the same images at other rates."""
    made = [row for row in rows if row["key"].startswith("refit/") and "d_in" in row]
    ours = [row for row in made if row["rate"] == RATE]
    if not ours:
        return []
    pairs = (
        (REFIT_D_IN, [row["d_in"] for row in ours]),
        (REFIT_D_OSD, [row["d_osd"] for row in ours]),
        (REFIT_ACCURACY, [abs(points(row)) for row in ours]),
    )
    notes = (
        f"The rate {RATE:g} and the rule for the images are ours, chosen so that a step has the published magnitude.",
        "Every such network lies far inside of the bundled outer ones: refitting is no way to sample those.",
    )
    return [networks(ours), beside("table1_published", "Table 1 beside the paper.", pairs, notes), *other_rates(made)]


def points(row: Row) -> float:
    """The change of the accuracy in points."""
    return 100.0 * (float(row["after"]) - float(row["before"]))


def networks(rows: Sequence[Row]) -> Sheet:
    """A row a network."""
    columns = (
        Column("image", 0), Column("class", 0), Column("its probability", 4),
        Column("accuracy before", 2, percent=True), Column("after", 2, percent=True), Column("points", 2),
        Column("d_in", 4), Column("d_osd", 5),
    )  # fmt: skip
    cells = [
        (r["image"], r["label"], r["probability"], r["before"], r["after"], points(r), r["d_in"], r["d_osd"])
        for r in rows
    ]
    notes = (
        f"One step of SGD with a batch of that image alone, rate {RATE:g}; the nominal networks' own rates fall from "
        f"{RATES[0]:g} to {RATES[-1]:g}.",
        f"The first {rows[0]['data']} images whose class the nominal network gives a probability from {LEAST:g} to "
        f"{MOST:g}: where it is surer, the gradient is nearly zero.",
        f"Accuracy on {rows[0]['test_images']} test images, d_osd on the first 50 training images.",
    )
    return Sheet("table1", "Table 1: the nominal network refitted for one epoch on one image.", columns, cells, notes)


def other_rates(rows: Sequence[Row]) -> list[Sheet]:
    """The ranges of every rate, where there are several."""
    by_rate = {rate: [row for row in rows if row["rate"] == rate] for rate in RATES}
    if not all(by_rate.values()):
        return []
    columns = [Column(name) for name in ("rate", "d_in", "d_osd", "largest change of the accuracy, points")]
    cells = [
        (
            f"{rate:g}",
            REFIT_D_IN.here([row["d_in"] for row in some]),
            REFIT_D_OSD.here([row["d_osd"] for row in some]),
            REFIT_ACCURACY.here([max(abs(points(row)) for row in some)]),
        )
        for rate, some in by_rate.items()
    ]
    published = ("published", REFIT_D_IN.told, REFIT_D_OSD.told, REFIT_ACCURACY.told)
    return [Sheet("table1_rates", "The same images at other learning rates.", columns, [*cells, published])]


STUDY = Study(
    "table1",
    "Table 1: networks refitted on one image",
    (stage,),
    sheets,
    keys=("refit/",),
)
