"""What every solver answers: status, value, proven bound, nodes, seconds. A time-out is never `optimal`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from arfj.network import Floats

Status = Literal["optimal", "feasible", "infeasible", "unknown"]


MOST_SEED = 2_000_000_000
"""Solvers take seeds below this."""


@dataclass(frozen=True)
class Limits:
    """What a solve may use.

    Attributes:
        seconds: wall clock.
        threads: solver threads.
        seed: the solver's random seed.
        memory: MiB, or None for the solver's default.
        solutions: stop after this many improving answers; None for no such limit.
        proving: a good answer is handed over as the start: spend the time on the bound, not on other answers.
        gap: relative gap at which the solver stops.
        cores: how many threads there may be by now, asked for while Gurobi searches; None for `threads` to the end.
    """

    seconds: float
    threads: int = 1
    seed: int = 0
    memory: float | None = None
    solutions: int | None = None
    proving: bool = False
    gap: float = 1e-7
    cores: Callable[[], int] | None = None


@dataclass(frozen=True)
class Step:
    """A solver's state while it works: incumbent and bound are None where there is none."""

    incumbent: float | None
    bound: float | None
    nodes: int
    seconds: float


Progress = Callable[[Step], None]
"""Told of steps. `EnoughError` stops the solver, and KeyboardInterrupt as if the user had done it; what it has found by
then counts. Any other exception is passed on."""


class EnoughError(Exception):
    """Raised by a progress callback: it would not be over in time."""


@dataclass(frozen=True, eq=False)
class Solution:
    """What came of a solve.

    Attributes:
        status: "optimal" or "infeasible" only where the solver says so of the whole problem.
        reason: why it stopped, in words.
        values: column values of the best answer, or None.
        value: its objective, or None.
        bound: proven lower bound on the optimum (-inf where there is none, inf where infeasible).
        nodes: branch-and-bound nodes.
        seconds: wall clock.
        interrupted: whether the user stopped it.
    """

    status: Status
    reason: str
    values: Floats | None
    value: float | None
    bound: float
    nodes: int
    seconds: float
    interrupted: bool = False
