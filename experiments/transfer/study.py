"""The study: what is asked and solved, in stages; every answer is shown to all target networks."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from arfj.attack import Options
from arfj.question import Question
from experiments.answers import change, image_of, seen, solved
from experiments.studies import Row, Scale, Study, Task
from experiments.transfer import baselines, figures, plan, sheets
from experiments.transfer.plan import Asked
from experiments.transfer.subject import bundled_targets, subject, targets
from experiments.transfer.targets import ROWS as MADE
from experiments.transfer.targets import make_targets, target_sets

SECONDS = 30.0
"""Limit of a solve."""
SHORT = 60.0
"""What a baseline is allowed; it takes about a second."""
ROWS = Path(__file__).parent.parent / "rows" / "transfer.jsonl.gz"


def trained(scale: Scale, _rows: Sequence[Row]) -> Iterator[Task]:
    """The networks to be fooled, trained where the study's folder lacks them; what is known of each set."""
    if scale.size == "smoke" or scale.subject is not None:
        return
    folder = bundled_targets(scale)
    sets = target_sets()
    if not (folder / MADE).exists() or not all((folder / name).is_dir() for name in sets):
        make_targets(folder, sets.values(), -1, _told)
    content = json.loads((folder / MADE).read_text(encoding="utf-8"))["sets"]
    for name, part in content.items():
        facts = {"study": "transfer", "method": "targets", "set": name, "status": "optimal", **part}
        yield Task(f"transfer/targets/{name}", partial(dict, facts), SHORT, "clean")


def _told(name: str, kept: int, wanted: int, count: int) -> None:
    print(f"targets, {name}: {kept} of {wanted}, {count} trained", file=sys.stderr, flush=True)


def clean(scale: Scale, _rows: Sequence[Row]) -> Iterator[Task]:
    """The images as they are: which targets are right on them."""
    networks = subject(scale)
    targets(scale)  # they are there, or the study ends here
    for image in range(len(networks.images)):
        facts = {"study": "transfer", "method": "clean", "position": image, "index": int(networks.indices[image])}
        facts |= {"true": int(networks.labels[image]), "target": int(networks.labels[image])}
        nothing = {"status": "optimal", "change": {"at": [], "to": []}}
        yield Task(f"transfer/clean/{image:02d}", partial(dict, facts, **nothing), SHORT, "clean")


def exact(scale: Scale, _rows: Sequence[Row]) -> Iterator[Task]:
    """Least changes, as far as the time allows; an unproven answer is an answer still."""
    networks, limit = subject(scale), scale.seconds(SECONDS)
    for asked in plan.questions(networks, scale):
        kind = f"alpha {asked.alpha}, gamma {asked.gamma:g}"
        yield Task(asked.key(), partial(solve, asked, scale, limit), limit, kind)


def solve(asked: Asked, scale: Scale, limit: float) -> dict[str, Any]:
    """One exact answer."""
    networks = subject(scale)
    question = asked.question(networks)
    options = Options(time_limit=limit)
    return solved(question, options, f"{networks.indices[asked.image]:05d}", asked.facts(networks))


def compared(scale: Scale, rows: Sequence[Row]) -> Iterator[Task]:
    """Every baseline at the distance of the exact answer to the nominal network and its standard number of samples."""
    networks = subject(scale)
    alpha = plan.standard(networks, scale)
    found = {row["key"]: row for row in rows}
    for image in range(len(networks.images)):
        asked = Asked(image, alpha)
        robust, alone = found.get(asked.key()), found.get(Asked(image, 0).key())
        if robust is None or robust.get("distance") is None:
            continue
        least = None if alone is None else image_of(alone, networks.images[image])
        for method in baselines.METHODS:
            if method == "scaled" and least is None:
                continue
            call = partial(compare, asked, scale, method, least, float(robust["distance"]))
            yield Task(baseline_key(asked, method, robust), call, SHORT, method)


def baseline_key(asked: Asked, method: str, robust: Row) -> str:
    """Of a baseline's row: it holds for this distance alone."""
    return f"{asked.key(method)}/{robust['distance']:.6f}"


def compare(asked: Asked, scale: Scale, method: str, least: Any, radius: float) -> dict[str, Any]:  # noqa: ANN401 - Floats or None
    """One baseline."""
    networks = subject(scale)
    question = asked.question(networks)
    began = time.perf_counter()
    x = baselines.answers(question, least, radius, seed=asked.image)[method]()
    row = asked.facts(networks, method) | {"status": "feasible", "budget": radius, "distance": question.distance(x)}
    row |= {"fooled": fooled(question, x), "scenarios": len(question.ensemble)}
    return row | {"seconds": time.perf_counter() - began, "change": change(x, question.flat)}


def fooled(question: Question, x: Any) -> int:  # noqa: ANN401 - Floats
    """How many networks of the attack give the target."""
    flat = np.asarray(x).reshape(1, -1)
    return sum(int(network.classify(flat)[0]) == question.target for network in question.ensemble)


def completed(scale: Scale, row: Row) -> Row:
    """A row, with what all target networks say of its image."""
    if row.get("change") is None or row.get("study") != "transfer":
        return row
    x = image_of(row, subject(scale).images[row["position"]])
    assert x is not None, "it has a change"
    shown = {name: seen(x, row["true"], row["target"], found) for name, found in targets(scale).items()}
    return {**row, "seen": shown}


STUDY = Study(
    "transfer",
    "how often answers fool networks that no attack has seen",
    (trained, clean, exact, compared),
    sheets.sheets,
    figures.figures,
    completed,
    keys=("transfer/",),
    rows=ROWS,
    document=ROWS.parent.parent.parent / "docs" / "transfer.md",
)
