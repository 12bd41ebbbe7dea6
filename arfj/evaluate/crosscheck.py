"""The cross-check: what networks that no attack has seen say of its answers (the paper's Tables 4 and 5)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from arfj.errors import ArfjError, UsageError
from arfj.evaluate.certificate import DELTA, TransferCertificate, transfer_certificate
from arfj.evaluate.replay import Witness, check_fit
from arfj.network import Network


@dataclass(frozen=True)
class Split:
    """One number for the target class, one for the true class and one for all other classes together."""

    target: float
    true: float
    other: float

    def as_json(self) -> dict[str, float]:
        """The keys of the interface."""
        return {"target": self.target, "true": self.true, "other": self.other}


@dataclass(frozen=True)
class CrossCheck:
    """One witness on N networks.

    Attributes:
        witness: the path or name of the witness.
        networks: N.
        rate: the shares of the networks whose largest output is the target, the true or another class (in a tie the
            first of the largest counts, as in `Network.classify`).
        probability: the mean softmax probability of the target, of the true class, and of all others in sum; like the
            rates the three sum to one.
        weak_confidence: mean of p_target - p_true.
        margin: mean of p_target - max_{j != target} p_j.
        certificate: what the networks that give the target say of the next one.
    """

    witness: str
    networks: int
    rate: Split
    probability: Split
    weak_confidence: float
    margin: float
    certificate: TransferCertificate

    def as_json(self) -> dict[str, Any]:
        """The keys of the interface."""
        return {
            "witness": self.witness,
            "networks": self.networks,
            "rate": self.rate.as_json(),
            "probability": self.probability.as_json(),
            "weak_confidence": self.weak_confidence,
            "margin": self.margin,
            "certificate": self.certificate.as_json(),
        }


def cross_check(witness: Witness, networks: Sequence[Network], name: str = "", delta: float = DELTA) -> CrossCheck:
    """Ask every network for its class and its probabilities at x.

    Args:
        witness: the answer of an attack; only x, true and target are used.
        networks: at least one; they may differ in architecture.
        name: what `CrossCheck.witness` says.
        delta: the certificate's probability of error, in (0, 1).

    Raises:
        UsageError: no network, one whose inputs or classes do not fit the witness or whose outputs overflow, or a delta
            out of range.
    """
    if not networks:
        raise UsageError("a cross-check needs at least one network; give --networks FILE ...")
    for index, network in enumerate(networks):
        check_fit(witness, network, f"network {index}", name or "the witness")
    x = witness.x.reshape(1, -1)
    for index, network in enumerate(networks):
        with np.errstate(over="ignore", invalid="ignore"):
            finite = np.isfinite(network.preactivations(x)[-1]).all()
        if not finite:
            raise UsageError(
                f"network {index}: its outputs are too large for floating-point numbers; scale its weights"
            )
    classes = np.array([int(network.classify(x)[0]) for network in networks])
    probabilities = [network.probabilities(x)[0] for network in networks]
    target = np.array([p[witness.target] for p in probabilities])
    true = np.array([p[witness.true] for p in probabilities])
    hits = classes == witness.target
    rivals = np.array([np.delete(p, witness.target).max() for p in probabilities])
    return CrossCheck(
        witness=name,
        networks=len(networks),
        rate=_split(hits, classes == witness.true),
        probability=_split(target, true),
        weak_confidence=float(np.mean(target - true)),
        margin=float(np.mean(target - rivals)),
        certificate=transfer_certificate(int(hits.sum()), len(networks), delta),
    )


def _split(target: np.ndarray[Any, Any], true: np.ndarray[Any, Any]) -> Split:
    rest = 1.0 - target.astype(np.float64) - true.astype(np.float64)
    return Split(float(target.mean()), float(true.mean()), float(np.maximum(rest, 0.0).mean()))


def witness_files(paths: Iterable[str | os.PathLike[str]]) -> list[Path]:
    """The witness files that `paths` name; a folder stands for all its `*.npz`, sorted.

    Raises:
        ArfjError: a folder without any.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        found = sorted(path.glob("*.npz")) if path.is_dir() else [path]
        if not found:
            raise ArfjError(f"{path} holds no .npz file; give witnesses written by arfj.attack")
        files.extend(found)
    return files
