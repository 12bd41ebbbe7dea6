"""What a suite is, and which of its instances a run measures."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np

from arfj.attack import Options, sampled
from arfj.data import bundled_growth, bundled_images
from arfj.ensemble import Ensemble, Kind
from arfj.network import Network
from arfj.question import Question
from arfj.report.store import Store
from arfj.solver import Engine, installed

Row = Mapping[str, Any]
Size = Literal["full", "short", "tiny"]
T = TypeVar("T")

GAMMA = 0.2
THREE = (1, 4, 7)
"""Classes of the images that stand for the ten where a suite is long: easy, middling and hard with six networks."""
BUNDLE = "8-8-8"
TINY = "tiny"
TINY_SECONDS = 20.0


@dataclass(frozen=True)
class Instance:
    """A question by its name, so that it can be handed to another process.

    Attributes:
        networks: "8-8-8" (the bundle's), another name of `bundled_growth`, or "tiny".
        kind: "nominal", "inner" or "outer"; of the larger networks and of "tiny" there are no inner ones.
        alpha: networks beside the nominal one.
        true: the class of the bundled image; the target is the class before.
    """

    networks: str
    kind: Literal["nominal", "inner", "outer"]
    alpha: int
    true: int

    @property
    def ensemble(self) -> Ensemble:
        """The networks to fool."""
        if self.networks == BUNDLE:
            return sampled(self.kind, self.alpha).ensemble
        kind: Kind = self.kind
        networks = tiny_networks() if self.networks == TINY else bundled_growth(self.networks)
        return Ensemble(networks[: 1 + self.alpha], kind)

    @property
    def question(self) -> Question:
        """Image, classes and networks."""
        image = np.array([0.8, 0.2]) if self.networks == TINY else bundled_images().nominal[self.true]
        ensemble = self.ensemble
        return Question(image, self.true, (self.true - 1) % ensemble.networks[0].classes, ensemble, GAMMA)

    @property
    def label(self) -> str:
        """What the attack's command calls the image."""
        return TINY if self.networks == TINY else f"{bundled_images().nominal_indices[self.true]:05d}"


def tiny_networks() -> tuple[Network, ...]:
    """Six multiples of y = x in two dimensions: from (0.8, 0.2), class 1 is reached at (1/6, 0.2), 19/30 away."""
    zero = np.zeros(2)
    return tuple(Network.from_arrays([np.eye(2), (1 + k) * np.eye(2)], [zero, zero]) for k in range(6))


@dataclass(frozen=True)
class Case:
    """One measurement.

    Attributes:
        key: of its row.
        instance: what is asked.
        options: how it is solved; its time limit decides whether a row is there already.
        facts: what the row holds beside the result.
    """

    key: str
    instance: Instance
    options: Options
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """Which instances a run measures, and how.

    Attributes:
        size: "full", "short" (minutes in all) or "tiny" (seconds, on `tiny_networks`).
        solvers: or None for each suite's own.
        true: classes of the images, or None for each suite's own.
        limit: seconds, or None for each suite's own.
        jobs: processes.
        only: a part of the keys that are measured.
    """

    size: Size = "full"
    solvers: tuple[Engine, ...] | None = None
    true: tuple[int, ...] | None = None
    limit: float | None = None
    jobs: int = 1
    only: str = ""

    def pick(self, full: T, short: T, tiny: T) -> T:
        """What belongs to the size."""
        return {"full": full, "short": short, "tiny": tiny}[self.size]

    def classes(self, full: tuple[int, ...], short: tuple[int, ...]) -> tuple[int, ...]:
        """The images."""
        return (0,) if self.size == "tiny" else self.true or self.pick(full, short, short)

    def seconds(self, full: float, short: float = 60.0) -> float:
        """The time limit."""
        return self.limit or self.pick(full, min(full, short), min(full, TINY_SECONDS))

    def with_solvers(self, *own: Engine) -> tuple[Engine, ...]:
        """The solvers asked for; of a suite's own those that are installed, and in a short run the default alone."""
        if self.solvers is not None:
            return self.solvers
        return tuple(name for name in own if installed(name) and self.pick(True, name == "bab", name == "bab"))

    def instance(
        self, kind: Literal["nominal", "inner", "outer"], alpha: int, true: int, networks: str = BUNDLE
    ) -> Instance:
        """The instance, or its tiny stand-in."""
        return Instance(TINY if self.size == "tiny" else networks, kind, alpha, true)


@dataclass(frozen=True)
class Suite:
    """A part of the benchmark, with a table of its own.

    Attributes:
        name: on the command line, and in the marks of its table in PERFORMANCE.md.
        prefix: its rows' keys begin with this and a slash.
        title: what it measures, in a line.
        measure: appends the rows that are missing.
        table: Markdown from the last rows of all suites.
    """

    name: str
    prefix: str
    title: str
    measure: Callable[[Plan, Store], None]
    table: Callable[[Sequence[Row]], str]


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
