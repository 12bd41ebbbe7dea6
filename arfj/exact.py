r"""Exact bounds: min and max of every pre-activation, each by a mixed-integer program over the reduced network.

Layers come in order, so that the programs of one have the exact bounds of those before it as their big-M constants.
What counts is a program's dual bound, never its best point, moved outward by what the solver's tolerances can amount
to. Where a program is not closed in time, its dual bound is still a bound; so are the alpha-CROWN bounds from which all
begins, which no answer here is looser than, and which stay where numbers are too large for a solver
(`arfj.encoding.eased.LARGEST`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from arfj.bounds import Bounds, pre_activation_bounds
from arfj.bounds.backward import dense, sites
from arfj.bounds.records import OUTWARD
from arfj.bounds.reduce import Reduced, reduce
from arfj.encoding.eased import LARGEST
from arfj.encoding.problem import Problem
from arfj.errors import UsageError
from arfj.graph import Activation, Affine, Graph, Matrix
from arfj.network import Network
from arfj.region import Region
from arfj.solver import Limits, solve
from arfj.verify.mip import TOLERANCE, largest_term, program, tolerated

SECONDS = 10.0
"""Default limit of one program."""
MOST_OPEN = 150
"""Open ReLUs beyond which nothing is tried."""
MARGIN = 1e-7
"""Every bound of a program is moved outward by this, absolute and relative, beside what tolerances amount to."""

MOST_TOLERANCE = 1e-3
"""What tolerances may amount to in a bound that counts as exact."""
GAP = 1e-6
"""Relative gap at which a program is closed."""

Progress = Callable[[int, int, int], None]
"""Told of the layer at work (1, 2, ...), and how many of its bounds are done and asked for."""


@dataclass(frozen=True, eq=False)
class Exact:
    """Bounds, and how many of them are exact.

    Attributes:
        bounds: sound, whatever stopped a program.
        late: bounds whose program was not closed in time, or not begun (where numbers are too large for it, too).
        interrupted: whether Ctrl-C ended it.
    """

    bounds: Bounds
    late: int
    interrupted: bool


def exact_bounds(
    network: Network | Graph, region: Region, seconds: float = SECONDS, progress: Progress | None = None
) -> Exact:
    """The least intervals that hold every pre-activation over the region, up to the margins of the module.

    Args:
        network: the network; ReLU is its only activation.
        region: a box, or its intersection with an L1 ball.
        seconds: limit of one program; there are two a neuron.
        progress: told after every program.

    Raises:
        UsageError: another activation, an L2 ball, or more than `MOST_OPEN` ReLUs that can change sign.
    """
    graph = network.graph()
    _check(graph, region)
    bounds = pre_activation_bounds(graph, region)
    if bounds.unstable > MOST_OPEN:
        raise UsageError(
            f"{bounds.unstable} ReLUs can change sign on this set, and exact bounds are made for at most {MOST_OPEN}; "
            "take a smaller set, or another method"
        )
    return _Search(graph, region, bounds, seconds, progress or (lambda *_: None)).run()


def _check(graph: Graph, region: Region) -> None:
    smooth = {node.kind for node in graph.nodes if isinstance(node, Activation)} - {"relu"}
    if smooth:
        raise UsageError(f"the network has {' and '.join(sorted(smooth))}; exact bounds need ReLU alone")
    if region.has_ball and region.norm == 2:
        raise UsageError("exact bounds are made for boxes and L1 balls, not for L2 balls; take another method")


class _Search:
    """Layer by layer, neuron by neuron."""

    def __init__(self, graph: Graph, region: Region, bounds: Bounds, seconds: float, progress: Progress) -> None:
        self.graph, self.region, self.bounds = graph, region, bounds
        self.seconds, self.progress = seconds, progress
        self.sites = sites(graph)
        self.late = 0

    def run(self) -> Exact:
        interrupted = False
        for place, site in enumerate(self.sites):
            node = self.graph.nodes[site - 1] if site else None
            if not isinstance(node, Affine) or node.sources == (0,):
                continue  # exact already: a closed form over the region
            if interrupted:
                self.late += 2 * len(node.bias)
                continue
            interrupted = self._layer(place, site)
        return Exact(self.bounds, self.late, interrupted)

    def _layer(self, place: int, site: int) -> bool:
        """Bound one layer; whether it was interrupted."""
        part = Graph(self.graph.inputs, self.graph.nodes[:site], self.graph.input_shape)
        known = [self.sites.index(one) for one in sites(part)]
        at = tuple(self.bounds.lower[k] for k in known), tuple(self.bounds.upper[k] for k in known)
        lower, upper = self.bounds.lower[place].copy(), self.bounds.upper[place].copy()
        asked = 2 * len(lower)
        done = 0
        try:
            programs = _Programs.of(part, Bounds(*at), self.region)
            for neuron in range(len(lower)):
                lower[neuron] = max(lower[neuron], self._least(programs, neuron))
                upper[neuron] = min(upper[neuron], -self._least(programs, neuron + len(lower)))
                done += 2
                self.progress(place + 1, done, asked)
        except KeyboardInterrupt:
            self.late += asked - done
        self.bounds = self.bounds.replaced(place, lower, upper)
        return done < asked

    def _least(self, programs: _Programs | None, row: int) -> float:
        least, closed = programs.least(row, self.seconds) if programs is not None else (-np.inf, False)
        self.late += not closed
        return least


@dataclass(frozen=True, eq=False)
class _Programs:
    """The programs of one layer.

    Attributes:
        reduced: x -> the pre-activations, then their negatives.
        region: where x lies.
    """

    reduced: Reduced
    region: Region

    @classmethod
    def of(cls, part: Graph, bounds: Bounds, region: Region) -> _Programs | None:
        """For the network that ends in the layer; None where its reduction is too large."""
        last = part.nodes[-1]
        if not isinstance(last, Affine):
            raise TypeError("a layer ends in an affine node")
        both = Affine(last.sources, tuple(_beside(m) for m in last.maps), np.concatenate([last.bias, -last.bias]))
        graph = Graph(part.inputs, (*part.nodes[:-1], both), part.input_shape)
        lower = np.concatenate([bounds.lower[-1], -bounds.upper[-1]])
        upper = np.concatenate([bounds.upper[-1], -bounds.lower[-1]])
        reduced = reduce(graph, Bounds((*bounds.lower[:-1], lower), (*bounds.upper[:-1], upper)))
        return None if reduced is None else cls(reduced, region)

    @np.errstate(over="ignore", invalid="ignore")  # numbers that overflow are too large
    def least(self, row: int, seconds: float) -> tuple[float, bool]:
        """A lower bound of a row over the region, and whether its program was closed."""
        first = self.reduced.graph.nodes[0]
        if len(self.reduced.graph.nodes) == 1 and isinstance(first, Affine):  # no ReLU is open
            value = float(first.bias[row] - self.region.support(-dense(first.maps[0]).T[row])[0])
            rounding = OUTWARD * float(self.reduced.sizes(self.region)[1][row])
            return value - MARGIN * (1.0 + abs(value)) - rounding, rounding <= MOST_TOLERANCE
        if not largest_term(self.reduced, self.region) <= LARGEST:  # no solver meets such rows
            return -np.inf, False
        problem = self._problem(row)
        answer = solve("scip", problem, Limits(seconds, proving=True, gap=GAP))
        if answer.interrupted:
            raise KeyboardInterrupt
        if not np.isfinite(answer.bound):  # also "infeasible", which no program here is
            return -np.inf, False
        width = float((problem.upper - problem.lower)[: self.reduced.graph.inputs].sum())
        tolerance = tolerated(self.reduced, np.array([row]), self.region) + TOLERANCE * width
        closed = answer.status == "optimal" and tolerance <= MOST_TOLERANCE
        return answer.bound - tolerance - MARGIN * (1.0 + abs(answer.bound)), closed

    def _problem(self, row: int) -> Problem:
        box = Region.between(*self.region.box)
        problem, pixels = program(self.reduced, box, np.array([row]), np.inf)
        return _with_ball(problem, pixels, self.region) if self.region.has_ball else problem


def _beside(matrix: Matrix) -> Matrix:
    """(M, -M)"""
    if isinstance(matrix, sp.csr_array):
        return sp.csr_array(sp.hstack([matrix, -matrix], format="csr"))
    return np.hstack([matrix, -matrix])


def _with_ball(problem: Problem, pixels: NDArray[np.intp], region: Region) -> Problem:
    """The problem with sum (p + q) <= R, x = centre + p - q, and columns p, q >= 0; R leaves room for tolerances."""
    n, count, rows = len(pixels), problem.variables, problem.constraints
    one, old, at = np.ones(n), sp.coo_matrix(problem.matrix), np.arange(n)
    p, q = count + at, count + n + at
    entries = [
        (old.row, old.col, old.data),
        *((rows + at, columns, sign * one) for columns, sign in ((pixels, 1.0), (p, -1.0), (q, 1.0))),
        *((np.full(n, rows + n), columns, one) for columns in (p, q)),
    ]
    row, column, value = (np.concatenate(part) for part in zip(*entries, strict=True))
    none = np.zeros(n)
    radius = region.radius * (1.0 + MARGIN) + TOLERANCE * (n + 1)
    return Problem(
        np.concatenate([problem.objective, none, none]),
        np.concatenate([problem.lower, none, none]),
        np.concatenate([problem.upper, region.upper - region.centre, region.centre - region.lower]),
        np.concatenate([problem.integer, np.zeros(2 * n, dtype=np.bool_)]),
        sp.csr_matrix((value, (row, column)), shape=(rows + n + 1, count + 2 * n)),
        np.concatenate([problem.row_lower, region.centre, [-np.inf]]),
        np.concatenate([problem.row_upper, region.centre, [radius]]),
    )
