"""Tables 1 and 2 in kind: trained networks under uniform noise, beside Hoeffding on CROWN and the certified radius.

The published networks, on MNIST, cannot be had; these are trained on Fashion-MNIST, with layers as published.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arfj.certify.scenario import Request, Safe, Source, Uniform, certify
from arfj.data import load_fashion_mnist, scaled
from arfj.graph import Graph, Kind
from arfj.network import Floats, Network, load_network
from arfj.report.figure import PALE, TARGET, TRUE, new_figure
from experiments.scenario.common import DELTA, DOCUMENT, ROWS, SHORT, of, told
from experiments.scenario.crowned import certified_radius, hoeffding, worst
from experiments.scenario.trained import trained
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Study, Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NETWORKS: Mapping[str, tuple[tuple[int, ...], Kind]] = {
    "20": ((20,), "relu"),
    "20-20": ((20, 20), "relu"),
    "1024": ((1024,), "relu"),
    "1024-1024": ((1024, 1024), "relu"),
    "20-20 tanh": ((20, 20), "tanh"),
}
RADII = (0.01, 0.05, 0.1, 0.5, 1.0)
EPSILONS = (0.001, 0.1, 0.25)
IMAGES = 20_000
"""Of the training set."""
Labels = NDArray[np.int64]


def data(scale: Scale) -> tuple[Floats, Labels, Floats, Labels]:
    """Images and labels to train and to test; in the smoke form blobs of eight pixels."""
    if scale.size == "full":
        found = load_fashion_mnist()
        train, test = scaled(found.train_images[:IMAGES]), scaled(found.test_images)
        labels = found.train_labels[:IMAGES].astype(np.int64), found.test_labels.astype(np.int64)
        return train.reshape(len(train), -1), labels[0], test.reshape(len(test), -1), labels[1]
    rng = np.random.default_rng(0)
    labels_of = np.arange(400) % 3
    x = np.clip(0.5 + 0.3 * np.eye(3, 8)[labels_of] + rng.normal(0, 0.05, (400, 8)), 0, 1)
    return x[:300], labels_of[:300], x[300:], labels_of[300:]


def networks(scale: Scale) -> Mapping[str, tuple[tuple[int, ...], Kind]]:
    """Those that are trained."""
    return NETWORKS if scale.size == "full" else {"4": ((4,), "relu"), "4 tanh": ((4,), "tanh")}


def path(scale: Scale, name: str) -> Path:
    """Where a network is kept."""
    return (scale.folder or Path()) / "scenario-networks" / f"{name.replace(' ', '-')}.npz"


def training(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """One row a network: its accuracy, and the certified radius of the image."""
    return [
        Task(f"scenario/digits/{name}/network", functools.partial(train, name, scale), 10 * SHORT, "train")
        for name in networks(scale)
    ]


def train(name: str, scale: Scale) -> dict[str, Any]:
    """What is known of a network."""
    network = kept(name, scale)
    _, _, tests, truth = data(scale)
    x, safe = asked(network, tests, truth)
    accuracy = float(np.mean(network.classify(tests) == truth))
    found = {"status": "optimal", "network": name, "accuracy": accuracy}
    return found | {"radius": certified_radius(network, safe, x), "margin": float(margins(network, safe, x))}


def kept(name: str, scale: Scale) -> Network | Graph:
    """The network, from the study's folder or trained into it."""
    if not path(scale, name).exists():
        hidden, kind = networks(scale)[name]
        images, labels, _, _ = data(scale)
        trained(images, labels, hidden, kind, epochs=5 if scale.size == "full" else 40).save(path(scale, name))
    return load_network(path(scale, name))


def asked(network: Network | Graph, tests: Floats, truth: Labels) -> tuple[Floats, Safe]:
    """The first test image that is classified correctly, against its strongest rival."""
    outputs = network(tests[:100])
    at = int(np.flatnonzero(outputs.argmax(axis=1) == truth[:100])[0])
    true, rival = int(outputs[at].argsort()[-1]), int(outputs[at].argsort()[-2])
    return tests[at], Safe.margin(network.classes, true, [rival])


def margins(network: Network | Graph, safe: Safe, x: Floats) -> float:
    """At the image itself."""
    return float((network(x[None]) @ safe.rows.T)[0, 0])


def stage(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """One row a network and radius."""
    radii = RADII if scale.size == "full" else (0.05, 1.0)
    return [
        Task(f"scenario/digits/{name}/{radius:g}", functools.partial(measured, name, radius, scale), SHORT, name)
        for name in networks(scale)
        for radius in radii
    ]


def measured(name: str, radius: float, scale: Scale) -> dict[str, Any]:
    """Bounds at one radius, for every epsilon."""
    network = kept(name, scale)
    _, _, tests, truth = data(scale)
    x, safe = asked(network, tests, truth)
    found: dict[str, Any] = {"status": "optimal", "network": name, "noise": radius}
    began = time.perf_counter()
    found["worst"] = worst(network, safe, x, radius)
    found["crown_seconds"] = time.perf_counter() - began
    for epsilon in EPSILONS if scale.size == "full" else EPSILONS[1:]:
        one = certify(Source(network, x, Uniform(radius)), safe, Request(epsilon, DELTA, threads=1))
        found[f"{epsilon:g}"] = told(one, "ours") | {"hoeffding": hoeffding(network, safe, x, radius, epsilon)}
    return found


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """The networks, then bounds by radius."""
    found = of(rows, "scenario/digits/")
    nets = [row for row in found if "accuracy" in row]
    cells = [
        (
            row["network"],
            row["noise"],
            *(row.get(f"{e:g}", {}).get(k) for e in EPSILONS for k in ("ours_bound", "hoeffding")),
        )
        for row in found
        if "noise" in row
    ]
    if not cells or not nets:
        return []
    order = [row["network"] for row in nets]
    order.sort(key=lambda name: list(NETWORKS).index(name) if name in NETWORKS else 99)
    cells.sort(key=lambda cell: (order.index(cell[0]), cell[1]))
    columns = [Column("network"), Column("radius", 2)]
    columns += [Column(f"{what}, epsilon {e:g}", 2) for e in EPSILONS for what in ("scenario", "Hoeffding")]
    notes = (
        "Lower bounds of the margin over the strongest rival, delta 1e-5, exact sizes (N = 11508, 110 and 41), none "
        "discarded; Hoeffding: on CROWN's linear bound over the cube, as PROVEN has it, which asks for no samples.",
        "Beyond the certified radius CROWN's bound collapses, and Hoeffding's with it; the scenario bound does not.",
    )
    nets.sort(key=lambda row: order.index(row["network"]))
    known = [(row["network"], row["accuracy"], row["margin"], row["radius"]) for row in nets]
    first = [Column("network"), Column("accuracy", 1, percent=True), Column("margin", 2), Column("certified radius", 4)]
    return [
        Sheet("scenario_networks", "The networks, and the radius that CROWN certifies at the image.", first, known),
        Sheet("scenario_digits", "Tables 1 and 2 in kind: uniform noise.", columns, cells, notes),
    ]


def figures(rows: Sequence[Row]) -> Mapping[str, Callable[[], Figure]]:
    """Bounds against the radius, of the largest network."""
    found = [row for row in of(rows, "scenario/digits/1024-1024/") if "noise" in row]
    if len(found) < 2:
        return {}
    return {"scenario_digits": functools.partial(drawn, sorted(found, key=lambda row: row["noise"]))}


def drawn(found: Sequence[Row]) -> Figure:
    """Both bounds at epsilon 0.1."""
    figure = new_figure(4.6, 3.2)
    axes = figure.add_axes((0.14, 0.15, 0.83, 0.8))
    at = [row["noise"] for row in found]
    axes.plot(at, [row["0.1"]["ours_bound"] for row in found], "o-", color=TRUE, ms=4, lw=1.4, label="scenario")
    axes.plot(at, [row["0.1"]["hoeffding"] for row in found], "s-", color=TARGET, ms=4, lw=1.4, label="Hoeffding")
    axes.axhline(0.0, color=PALE, lw=0.8)
    axes.set_xscale("log")
    axes.set_yscale("symlog")
    axes.set_xlabel("radius of the uniform noise")
    axes.set_ylabel("lower bound of the margin")
    axes.legend(loc="lower left")
    return figure


def violations(rows: Sequence[Row]) -> list[str]:
    """Where the order does not hold: beyond the certified radius ours is the better one, by more and more."""
    found = of(rows, "scenario/digits/")
    radius = {row["network"]: row["radius"] for row in found if "accuracy" in row}
    wrong = []
    for row in found:
        for epsilon in EPSILONS:
            pair = row.get(f"{epsilon:g}")
            if pair and row["noise"] > radius.get(row["network"], np.inf) and pair["ours_bound"] <= pair["hoeffding"]:
                wrong.append(f"{row['key']} at epsilon {epsilon:g}: Hoeffding's bound is the better one")
    return wrong


STUDY = Study(
    "scenario_digits",
    "Tables 1 and 2 in kind: trained networks, beside Hoeffding on CROWN",
    (training, stage),
    sheets,
    figures,
    violations=violations,
    keys=("scenario/digits/",),
    rows=ROWS,
    document=DOCUMENT,
)
