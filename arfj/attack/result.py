"""What an attack on one image came to: the row that is printed, stored and drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from arfj.ensemble import Kind
from arfj.evaluate import Replay
from arfj.question import EVERY, Demand

Status = Literal["optimal", "feasible", "infeasible", "unknown"]
STATUSES: tuple[str, ...] = get_args(Status)
GAP_OPTIMAL = 1e-6


@dataclass(frozen=True)
class AttackResult:
    """One answer, with the keys of the interface.

    Attributes:
        kind: where the scenarios came from.
        true, target: classes, 0-based.
        alpha: number of sampled networks (the nominal one not counted).
        gamma: relative margin.
        scenarios: number of networks in the model.
        status: "optimal" (gap <= 1e-6), "feasible", "infeasible" or "unknown".
        reason: why the status is not better; empty for "optimal".
        distance: ||x - xbar||_1 of the replayed answer, or None.
        bound: proven lower bound on the least distance.
        seconds: wall clock, from reading to replay.
        nodes: branch-and-bound nodes.
        solver, formulation: "bab", "scip" or "gurobi", "tight" or "paper".
        variables, binaries, constraints: the size of the model that was solved.
        witness: path of the saved answer, or None.
        replay: what the networks say of the file, or None.
        label: what the image is called in tables and file names.
        active: number of scenarios in the last model: the others were fooled without being asked for.
        interrupted: whether the user stopped it.
        demand: how many scenarios have to be fooled; in rows only where these are not all, so that those of attacks
            which know no other demand stay as they are.
    """

    kind: Kind
    true: int
    target: int
    alpha: int
    gamma: float
    scenarios: int
    status: Status
    reason: str
    distance: float | None
    bound: float
    seconds: float
    nodes: int
    solver: str
    formulation: str
    variables: int
    binaries: int
    constraints: int
    witness: str | None
    replay: Replay | None
    label: str = ""
    active: int = 0
    interrupted: bool = False
    demand: Demand = EVERY

    def replayed_again(self, witness: str, replayed: Replay) -> AttackResult:
        """The same answer, its witness found at this path and replayed once more."""
        return replace(self, witness=witness, replay=replayed, distance=replayed.distance)

    @property
    def gap(self) -> float | None:
        """(distance - bound) / max(distance, 1e-9), or None without an answer."""
        if self.distance is None:
            return None
        return max(0.0, self.distance - self.bound) / max(self.distance, 1e-9)

    @property
    def consistent(self) -> bool:
        """Whether status, distance and bound say the same: those of an answer do, those of a damaged row need not."""
        numbers = (self.gamma, self.bound, self.seconds, 0.0 if self.distance is None else self.distance)
        if self.status not in STATUSES or not all(map(math.isfinite, numbers)) or min(numbers) < 0:
            return False
        if self.gap is None:
            return self.status in ("infeasible", "unknown")
        proven = self.gap <= GAP_OPTIMAL
        return self.bound <= (self.distance or 0.0) and self.status == ("optimal" if proven else "feasible")

    @property
    def fooled(self) -> int:
        """How many scenarios give the target, whether their margin is met or not."""
        return 0 if self.replay is None else sum(found == self.target for found in self.replay.classes)

    def as_json(self) -> dict[str, Any]:
        """The keys of the interface, `image` added."""
        return {
            "image": self.label,
            "kind": self.kind,
            "true": self.true,
            "target": self.target,
            "alpha": self.alpha,
            "gamma": self.gamma,
            **self.demand.as_json(),
            "scenarios": self.scenarios,
            "active": self.active,
            "status": self.status,
            "reason": self.reason,
            "distance": self.distance,
            "bound": self.bound,
            "gap": self.gap,
            "seconds": self.seconds,
            "nodes": self.nodes,
            "solver": self.solver,
            "formulation": self.formulation,
            "variables": self.variables,
            "binaries": self.binaries,
            "constraints": self.constraints,
            "witness": self.witness,
            "replay": None if self.replay is None else self.replay.as_json(),
        }


def from_json(row: Mapping[str, Any]) -> AttackResult:
    """The result of a stored row (its replay is left out: the witness is replayed anew).

    Raises:
        KeyError, TypeError, ValueError, UsageError: the row is not one of ours.
    """
    return AttackResult(
        kind=row["kind"],
        true=int(row["true"]),
        target=int(row["target"]),
        alpha=int(row["alpha"]),
        gamma=float(row["gamma"]),
        scenarios=int(row["scenarios"]),
        status=row["status"],
        reason=str(row["reason"]),
        distance=None if row["distance"] is None else float(row["distance"]),
        bound=float(row["bound"]),
        seconds=float(row["seconds"]),
        nodes=int(row["nodes"]),
        solver=str(row["solver"]),
        formulation=str(row["formulation"]),
        variables=int(row["variables"]),
        binaries=int(row["binaries"]),
        constraints=int(row["constraints"]),
        witness=row["witness"],
        replay=None,
        label=str(row["image"]),
        active=int(row["active"]),
        demand=Demand(**{key: float(row[key]) for key in ("share", "cvar") if key in row}),
    )
