"""The ten questions of the paper, each asked for FJAE, IRAE and ORAE: the rows of Tables 3 to 5 and Figures 1 to 3.

A study that needs answers has the stage `answers`; keyed by kind and true class, so that nothing is solved twice.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from arfj.attack import Options, sampled
from arfj.attack.scenarios import Sampling
from arfj.data import bundled_images, bundled_inner, bundled_nominal, bundled_outer
from arfj.ensemble import Ensemble
from arfj.network import Floats, Network
from arfj.question import Question
from experiments.answers import image_of, seen, solved
from experiments.studies import Row, Scale, Task

KINDS: Mapping[str, Sampling] = {"FJAE": "nominal", "IRAE": "inner", "ORAE": "outer"}
"""The paper's names, and the scenarios: the nominal network; also 5 perturbed copies; also 5 retrained ones."""
LIMITS: Mapping[str, float] = {"FJAE": 60.0, "IRAE": 60.0, "ORAE": 120.0}
CLASSES = 10
SMOKE = (1,)
"""A true class whose questions are quickly solved."""

Ask = Callable[[str, int, float, Row | None], dict[str, Any]]


def answers(scale: Scale, rows: Sequence[Row] = ()) -> list[Task]:
    """The questions, `answer/KIND/TRUE`."""
    return tasks("answer", answer, scale, range(CLASSES) if scale.size == "full" else SMOKE, rows)


def tasks(name: str, ask: Ask, scale: Scale, classes: Sequence[int], rows: Sequence[Row]) -> list[Task]:
    """One task a kind and class, those of a kind together; one whose row is open goes on from it."""
    known = of_role(rows, name)
    limits = {kind: scale.seconds(limit) for kind, limit in LIMITS.items()}
    return [
        Task(
            f"{name}/{kind}/{true}",
            functools.partial(ask, kind, true, limit, known.get((kind, true))),
            limit,
            f"{name}/{kind}",
        )
        for kind, limit in limits.items()
        for true in classes
    ]


def answer(kind: str, true: int, limit: float, earlier: Row | None = None) -> dict[str, Any]:
    """The row of one question."""
    return ask(sampled(KINDS[kind]).ensemble, true, limit, {"role": "answer", "model": kind}, earlier)


def ask(
    ensemble: Ensemble, true: int, limit: float, facts: Mapping[str, Any], earlier: Row | None = None
) -> dict[str, Any]:
    """The bundled image of a class, and the class before it as the target."""
    images = bundled_images()
    question = Question(images.nominal[true], true, (true - 1) % CLASSES, ensemble)
    return solved(question, Options(time_limit=limit), f"{images.nominal_indices[true]:05d}", facts, earlier)


def completed(_scale: Scale, row: Row) -> Row:
    """A row with what fresh networks say of its answer: none of them is a scenario of any kind."""
    x = answered(row)
    if x is None:
        return row
    asked = judges(row["role"])
    return {**row, "seen": {name: seen(x, row["true"], row["target"], those) for name, those in asked.items()}}


def judges(role: str) -> Mapping[str, Sequence[Network]]:
    """Who is asked: 15 inner and 15 outer networks, or the attacked network of the grey box."""
    if role == "grey":
        return {"attacked": (bundled_nominal(),)}
    return {"inner": bundled_inner(held_out=True), "outer": bundled_outer(held_out=True)}


def answered(row: Row) -> Floats | None:
    """The answer of a row, flat, or None."""
    return image_of(row, bundled_images().nominal[row["true"]]) if row.get("role") in ("answer", "grey") else None


def of_role(rows: Sequence[Row], role: str) -> dict[tuple[str, int], Row]:
    """The rows of `answer` or `grey`, by kind and true class; rows of errors are left out."""
    return {(row["model"], row["true"]): row for row in rows if row.get("role") == role}
