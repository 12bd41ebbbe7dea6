"""How a question is solved, and what an earlier run of it left."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from arfj.bounds import Method
from arfj.encoding import Formulation
from arfj.network import Floats
from arfj.solver import Engine

TIME_LIMIT = 600.0


@dataclass(frozen=True)
class Options:
    """How a question is solved; none of it changes the optimum.

    Attributes:
        formulation: "tight" or "paper".
        bounds: where the big-M constants come from; "exact" is "alpha-crown", tightened by small searches from the
            start (otherwise only where a part of the question proves hard). Slopes take
            `arfj.attack.known.STEPS` steps.
        solver: "bab", our own branch and bound, "scip" or "gurobi".
        time_limit: seconds for one image, everything included.
        threads: of the solver; processes of "bab", which takes others for searches that last.
        seed: of the warm start and the solver.
        memory: limit in MiB for the solver, or for the open nodes of "bab", or None.
    """

    formulation: Formulation = "tight"
    bounds: Method | Literal["exact"] = "alpha-crown"
    solver: Engine = "bab"
    time_limit: float = TIME_LIMIT
    threads: int = 1
    seed: int = 0
    memory: float | None = None

    @property
    def start(self) -> Method:
        """Where bounds begin."""
        return "alpha-crown" if self.bounds == "exact" else self.bounds

    @property
    def engine(self) -> Engine:
        """Who proves: our own branch and bound has no printed formulation, which is SCIP's then."""
        return "scip" if self.solver == "bab" and self.formulation == "paper" else self.solver


@dataclass(frozen=True, eq=False)
class Earlier:
    """What an earlier run of the same question left: an answer that was replayed, and a proven bound."""

    x: Floats
    bound: float
