"""The judge: a witness is believed only after its saved file has been replayed through every network in float64."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arfj.errors import ArfjError, UsageError
from arfj.files import load_arrays, save_arrays
from arfj.network import Floats, Network
from arfj.question import EVERY, LEAST_OUTPUT, Demand, condition_slack, required_margin

TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Witness:
    """An adversarial example as it stands in its file.

    Attributes:
        x, nominal: the answer and the image it started from, in the shape of the input, in [0, 1].
        true, target: classes, 0-based.
        gamma: the relative margin that was asked for.
        distance: ||x - nominal||_1.
        bound: the proven lower bound on the least distance.
        demand: how many networks it has to fool; in the file only where these are not all.
    """

    x: Floats
    nominal: Floats
    true: int
    target: int
    gamma: float
    distance: float
    bound: float
    demand: Demand = EVERY

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write `.npz`, atomically.

        Raises:
            ArfjError: the file cannot be written.
        """
        arrays: dict[str, NDArray[np.generic]] = {
            "x": np.asarray(self.x, dtype=np.float64),
            "nominal": np.asarray(self.nominal, dtype=np.float64),
        }
        for name in ("true", "target", "gamma", "distance", "bound"):
            arrays[name] = np.array(getattr(self, name))
        for name, number in self.demand.as_json().items():
            arrays[name] = np.array(number)
        save_arrays(path, arrays)


def load_witness(path: str | os.PathLike[str]) -> Witness:
    """Read a witness file.

    Raises:
        ArfjError: it is missing, broken, lacks a key, or does not hold an image in [0, 1].
    """
    arrays = load_arrays(path)
    keys = ["x", "nominal", "true", "target", "gamma", "distance", "bound"]
    missing = [key for key in keys if key not in arrays]
    soft = [key for key in ("share", "cvar") if key in arrays]
    if missing:
        raise ArfjError(f"{os.fspath(path)} lacks {', '.join(missing)}; expected a witness written by arfj.attack")
    given = keys + soft
    if any(arrays[key].dtype.kind not in "fiu" for key in given) or any(arrays[key].size != 1 for key in given[2:]):
        raise ArfjError(f"{os.fspath(path)} does not hold numbers where a witness has them")
    x, nominal = (np.asarray(arrays[key], dtype=np.float64) for key in ("x", "nominal"))
    numbers = [float(arrays[key].item()) for key in keys[2:]]
    if x.shape != nominal.shape or x.size == 0:
        raise ArfjError(f"{os.fspath(path)}: x has shape {x.shape}, nominal {nominal.shape}; expected the same")
    if not all(((image >= 0) & (image <= 1)).all() for image in (x, nominal)):
        raise ArfjError(f"{os.fspath(path)}: pixels leave [0, 1] or are NaN")
    if not np.isfinite(numbers).all() or numbers[2] < 0:
        raise ArfjError(f"{os.fspath(path)}: gamma, distance and bound must be finite, and gamma at least 0")
    if min(numbers[:2]) < 0 or any(number != int(number) for number in numbers[:2]) or numbers[0] == numbers[1]:
        raise ArfjError(f"{os.fspath(path)}: true and target must be two classes counted from 0")
    try:
        demand = Demand(**{key: float(arrays[key].item()) for key in soft})
    except UsageError as error:
        raise ArfjError(f"{os.fspath(path)}: {error}") from error
    true, target, gamma, distance, bound = numbers
    return Witness(x, nominal, int(true), int(target), gamma, distance, bound, demand)


@dataclass(frozen=True)
class Replay:
    """What the float64 forward passes say of a witness.

    Attributes:
        hit: on every scenario (or on as many as a share asks for) the argmax is the target, the margin at least -1e-6
            and the target's output at least 1e-3 - 1e-6 (at gamma = 0: the target 1e-3 above every other). Where a mean
            of the worst slacks is asked for: it is at least -1e-6.
        distance: ||x - nominal||_1, recomputed.
        classes: one argmax a scenario.
        margins: target minus (1 + gamma) times the best other output, one a scenario.
        violation: by how much the demand is missed, by default the worst condition (0 where it is met exactly).
    """

    hit: bool
    distance: float
    classes: tuple[int, ...]
    margins: tuple[float, ...]
    violation: float

    def as_json(self) -> dict[str, Any]:
        """The keys of the interface."""
        return {
            "hit": self.hit,
            "distance": self.distance,
            "classes": list(self.classes),
            "margins": list(self.margins),
        }


def check_fit(witness: Witness, network: Network, network_name: str, name: str = "the witness") -> None:
    """Refuse a network that cannot judge the witness.

    Raises:
        UsageError: it takes another number of inputs, or lacks the true or the target class.
    """
    if witness.x.size != network.inputs:
        raise UsageError(f"{name} has {witness.x.size} pixels, {network_name} takes {network.inputs}; they do not fit")
    for what, label in (("true", witness.true), ("target", witness.target)):
        if not 0 <= label < network.classes:
            raise UsageError(
                f"{name} has {what} class {label}, {network_name} knows the classes 0 to {network.classes - 1}"
            )


def replay(witness: Witness, networks: Iterable[Network]) -> Replay:
    """Pass x through every network in float64 and compare with what the attack asked for.

    Raises:
        UsageError: no network (nothing was fooled then), or one that does not fit the witness.
    """
    x = witness.x.reshape(1, -1)
    classes: list[int] = []
    margins: list[float] = []
    missed: list[float] = []
    slacks: list[float] = []
    for index, network in enumerate(networks):
        check_fit(witness, network, f"network {index}")
        output = network(x)[0]
        target = float(output[witness.target])
        margin = target - (1.0 + witness.gamma) * float(np.delete(output, witness.target).max())
        missed.append(max(required_margin(witness.gamma) - margin, LEAST_OUTPUT - target))
        slacks.append(float(condition_slack(network.preactivations(x)[-1], witness.target, witness.gamma)[0]))
        classes.append(int(np.argmax(output)))
        margins.append(margin)
    if not classes:
        raise UsageError("a replay needs at least one network")
    distance = float(np.abs(witness.x - witness.nominal).sum())
    if witness.demand.cvar is not None:
        violation = max(0.0, -float(witness.demand.of(slacks)))
        return Replay(violation <= TOLERANCE, distance, tuple(classes), tuple(margins), violation)
    needed = witness.demand.fooled(len(classes))
    fooled = [found == witness.target and miss <= TOLERANCE for found, miss in zip(classes, missed, strict=True)]
    violation = max(0.0, sorted(missed)[needed - 1])
    return Replay(sum(fooled) >= needed, distance, tuple(classes), tuple(margins), violation)
