"""Answers as rows: what an attack found, so that the image can be made again, and what networks say of it."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arfj.attack import Options, solve_question
from arfj.attack.options import Earlier
from arfj.attack.result import AttackResult
from arfj.evaluate import load_witness
from arfj.network import Floats, Network
from arfj.question import Question
from experiments.studies import Row

DIGITS = 4
"""Decimals of probabilities in rows."""


def solved(
    question: Question, options: Options, label: str, facts: Mapping[str, Any], earlier: Row | None = None
) -> dict[str, Any]:
    """Solve a question; the row of its answer, `facts` added.

    Args:
        question: what is asked.
        options: how.
        label: what the image is called.
        facts: what else the row says.
        earlier: the row of a run that ended open, to go on from: the new one is no worse, and its seconds are of both.

    Raises:
        KeyboardInterrupt: the user stopped it: as a row it would pass for one that had all of its time.
    """
    with tempfile.TemporaryDirectory() as folder:
        known = going_on(earlier, question.flat)
        result = solve_question(question, options, Path(folder) / "witness.npz", label, earlier=known)
        if result.interrupted:
            raise KeyboardInterrupt
        x = None if result.witness is None else load_witness(result.witness).x.ravel()
    row = row_of(result, options) | {"change": None if x is None else change(x, question.flat)} | dict(facts)
    if known is None or earlier is None:
        return row
    # The bound may be the earlier run's, which rests on its own networks.
    active = max(row["active"], earlier.get("active", 0))
    return row | {"seconds": row["seconds"] + earlier["seconds"], "active": active}


def going_on(row: Row | None, nominal: Floats) -> Earlier | None:
    """What an open row leaves to go on from: its answer, which is replayed again, and its bound."""
    x = None if row is None else image_of(row, nominal)
    return None if row is None or x is None else Earlier(x, min(row["bound"], row["distance"]))


def row_of(result: AttackResult, options: Options) -> dict[str, Any]:
    """A result without classes and margins, and without where the witness lay."""
    row = result.as_json()
    seen = row["replay"]
    row["replay"] = None if seen is None else {"hit": seen["hit"], "distance": seen["distance"]}
    return row | {"witness": None, "threads": options.threads, "seed": options.seed}


def change(x: Floats, nominal: Floats) -> dict[str, list[Any]]:
    """Where x, shape (n,), differs from the nominal image, and its values there in full precision."""
    at = np.flatnonzero(x != nominal)
    return {"at": at.tolist(), "to": x[at].tolist()}


def image_of(row: Row, nominal: Floats) -> Floats | None:
    """The answer of a row, flat; None where it has none."""
    moved = row.get("change")
    if moved is None:
        return None
    x = nominal.copy()
    x[np.asarray(moved["at"], dtype=np.intp)] = moved["to"]
    return x


def seen(x: Floats, true: int, target: int, networks: Sequence[Network]) -> dict[str, list[Any]]:
    """What each network says of x: its class, and the probabilities of target, true class and likeliest non-target.

    A class is that of the largest output, the first one in a tie, as in `Network.classify`; -1 where all outputs of a
    network that ends in a ReLU are 0, which is no answer to the attack either.
    """
    flat = x.reshape(1, -1)
    rows = np.array([network.probabilities(flat)[0] for network in networks])
    rivals = np.delete(rows, target, axis=1).max(axis=1)
    return {
        "class": [_class(network, flat) for network in networks],
        "target": _rounded(rows[:, target]),
        "true": _rounded(rows[:, true]),
        "rival": _rounded(rivals),
    }


def _class(network: Network, flat: Floats) -> int:
    outputs = network(flat)[0]
    silent = network.layers[-1].activation == "relu" and outputs.max() <= 0
    return -1 if silent else int(outputs.argmax())


def _rounded(values: NDArray[np.float64]) -> list[float]:
    return [float(value) for value in np.round(values, DIGITS)]
