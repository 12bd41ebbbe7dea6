"""The study: what is asked and solved, in stages; every answer is shown to all target networks."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import joblib

from arfj.attack import Options
from arfj.errors import ArfjError
from arfj.network import Floats
from arfj.question import EVERY, Question
from experiments.answers import change, image_of, seen, solved
from experiments.studies import Row, Scale, Study, Task
from experiments.transfer import baselines, figures, plan, sheets
from experiments.transfer.outcomes import answer_digest, kept
from experiments.transfer.plan import Asked
from experiments.transfer.subject import bundled_targets, digest, subject, targets
from experiments.transfer.targets import TrainingProgress, known_targets, make_targets, target_sets

SECONDS = 30.0
"""Limit of a solve."""
SHORT = 60.0
"""What a baseline is allowed; it takes about a second."""
ROWS = Path(__file__).parent.parent / "rows" / "transfer.jsonl.gz"


def trained(scale: Scale, _rows: Sequence[Row]) -> Iterator[Task]:
    """The networks to be fooled, trained where the study's folder lacks some; what is known of each set.

    They are trained by the process that asks and its own workers, whatever backend the tasks have.
    """
    if scale.size == "smoke" or scale.subject is not None:
        return
    folder, sets = bundled_targets(scale), target_sets()
    if not all(_whole(folder, name, wanted.count) for name, wanted in sets.items()):
        with joblib.parallel_config(backend="loky"):
            told = TrainingProgress(sum(one.count for one in sets.values()))
            make_targets(folder, sets.values(), scale.jobs, told)
    for name, part in known_targets(folder).items():
        facts = {"study": "transfer", "method": "targets", "set": name, "status": "optimal", **part}
        digest_ = digest(*(network["fingerprint"].encode() for network in part["networks"]))
        yield Task(f"transfer/targets/{name}/{digest_}", partial(dict, facts, digest=digest_), SHORT, "clean")


def _whole(folder: Path, name: str, count: int) -> bool:
    """Whether a set has its networks, and they are those of its record."""
    networks = known_targets(folder).get(name, {}).get("networks", ())
    return len(networks) >= count and all((folder / network["file"]).is_file() for network in networks)


def clean(scale: Scale, _rows: Sequence[Row]) -> Iterator[Task]:
    """The images as they are: which targets are right on them."""
    networks = subject(scale)
    targets(scale)  # they are there, or the study ends here
    for image, (index, label) in enumerate(zip(networks.indices, networks.labels, strict=True)):
        facts = {"study": "transfer", "subject": networks.digest, "method": "clean", "position": image}
        facts |= {"index": int(index), "true": int(label), "target": int(label)}
        nothing = {"status": "optimal", "change": {"at": [], "to": []}}
        key = f"transfer/clean/{image:02d}/{digest(networks.images[image].tobytes(), bytes([int(label)]))}"
        yield Task(key, partial(dict, facts, **nothing), SHORT, "clean")


def exact(scale: Scale, rows: Sequence[Row]) -> Iterator[Task]:
    """Least changes, as far as the time allows; an unproven answer is an answer still."""
    networks, limit = subject(scale), scale.seconds(SECONDS)
    found = {row["key"]: row for row in rows}
    for asked in plan.questions(networks, scale):
        key = asked.key(networks)
        kind = f"alpha {asked.alpha}, gamma {asked.gamma:g}{', soft' if asked.demand != EVERY else ''}"
        earlier = None if key not in found else {**found[key], "seen": None}
        yield Task(key, partial(solve, asked, scale, limit, key, earlier), limit, kind)


def solve(asked: Asked, scale: Scale, limit: float, key: str, earlier: Row | None) -> dict[str, Any]:
    """One exact answer; no worse than an earlier one.

    Raises:
        ArfjError: the subject's folder holds something else here than where the study was begun.
    """
    networks = subject(scale)
    if asked.key(networks) != key:
        raise ArfjError("networks or images are not those that the study began with; start its workers again")
    question = asked.question(networks)
    label = f"{networks.indices[asked.image]:05d}"
    return solved(question, Options(time_limit=limit), label, asked.facts(networks), earlier)


def compared(scale: Scale, rows: Sequence[Row]) -> Iterator[Task]:
    """Every baseline at the distance of the exact answer to the nominal network and its standard number of samples."""
    networks = subject(scale)
    alpha = plan.standard(networks, scale)
    found = {row["key"]: row for row in rows}
    for image in range(len(networks.images)):
        asked = Asked(image, alpha)
        robust, alone = (found.get(one.key(networks)) for one in (asked, Asked(image, 0)))
        if robust is None or robust.get("distance") is None:
            continue
        least = None if alone is None else image_of(alone, networks.images[image])
        of = [answer_digest(robust), *([] if alone is None else [answer_digest(alone)])]
        for method in baselines.METHODS:
            if method == "scaled" and least is None:
                continue
            call = partial(compare, asked, scale, method, least, float(robust["distance"]), of[0])
            yield Task(f"{asked.key(networks, method)}/{'-'.join(of)}", call, SHORT, method)


def compare(asked: Asked, scale: Scale, method: str, least: Floats | None, radius: float, of: str) -> dict[str, Any]:
    """One baseline."""
    networks = subject(scale)
    question = asked.question(networks)
    began = time.perf_counter()
    x = baselines.answers(question, least, radius, seed=asked.image)[method]()
    row = asked.facts(networks, method) | {"status": "feasible", "budget": radius, "of": of}
    row |= {"distance": question.distance(x), "fooled": fooled(question, x), "scenarios": len(question.ensemble)}
    return row | {"seconds": time.perf_counter() - began, "change": change(x, question.flat)}


def fooled(question: Question, x: Floats) -> int:
    """How many networks of the attack give the target."""
    flat = x.reshape(1, -1)
    return sum(int(network.classify(flat)[0]) == question.target for network in question.ensemble)


def completed(scale: Scale, row: Row) -> Row:
    """A row, with what all target networks say of its image."""
    if row.get("change") is None or row.get("study") != "transfer" or row.get("subject") != subject(scale).digest:
        return row
    x = image_of(row, subject(scale).images[row["position"]])
    assert x is not None, "it has a change"
    shown = {}
    for name, found in targets(scale).items():
        fingerprints = digest(*(network.fingerprint().encode() for network in found))
        shown[name] = {"digest": fingerprints, **seen(x, row["true"], row["target"], found)}
    return {**row, "seen": shown}


STUDY = Study(
    "transfer",
    "how often answers fool networks that no attack has seen",
    (trained, clean, exact, compared),
    sheets.sheets,
    figures.figures,
    completed,
    kept=kept,
    keys=("transfer/",),
    rows=ROWS,
    document=ROWS.parent.parent.parent / "docs" / "transfer.md",
)
