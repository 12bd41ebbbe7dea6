r"""The linear relaxation that our own branch and bound solves: SCIP's LP solver, few pixels, certified bounds.

For every scenario, in the columns p, q (pixels), y and s (neurons, as in `arfj.encoding.tight`):

    W'x + b = y - s,   0 <= y <= u,  0 <= s <= -l,   y / u + s / (-l) <= 1       (open neurons: l < 0 < u)
    W'x + b = y (stable on),   W'x + b <= 0 (stable off),   C h >= d over the last hidden layer

The last row of an open neuron is what is left of y <= u z, s <= -l (1 - z) once z may be a fraction, so that there is
no z: a phase is held by y = 0 (off) or s = 0 (on). The objective is maximised: the distance's negative, or one y or s.

**Soft demands** (`arfj.question.Demand`). A share of the scenarios makes a pair y_k, s_k <= 1 of each with
y_k + s_k <= 1, as if it were one more neuron, which is on where the scenario counts (M_k: `arfj.encoding.demand`):

    C h + M_k s_k >= d,   sum_k y_k >= m

The neurons of a scenario that does not count matter no more. A mean of the worst slacks has the columns tau and e_k.

**Few pixels.** Most pixels stay where they are. Columns p_i, q_i enter only once their reduced cost is positive at the
multipliers of a linear program without them.

**Certified bounds.** What counts is never the solver's objective. For any multipliers lambda of the rows, with the
signs that their sides allow,

    max c'v <= sum_r lambda_r side_r + sum_j max over [low_j, up_j] of (c_j - A_j' lambda) v_j

over all columns, pixels outside of the program included; it is evaluated in float64, and an error bound of that
evaluation is added (`ROUNDING`). With c = 0 a negative value proves that there is no point (Farkas). Wrong multipliers
give a loose bound, never a wrong one (Neumaier & Shcherbina, Math. Program. 99, 2004). The program itself is that of
float64 weights; the coefficients of its class rows, w_t - (1 + gamma) w_j, are rounded once.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from pyscipopt import LP
from pyscipopt.scip import PY_SCIP_LPPARAM as LP_PARAMETER

from arfj.bab import kernels
from arfj.bab.rows import Rows
from arfj.bounds import Bounds
from arfj.conflicts import Phases
from arfj.encoding.problem import Indices, Parts
from arfj.encoding.tight import Source
from arfj.network import Floats
from arfj.question import Question, class_rows
from arfj.solver.branching import OPEN

Basis = tuple[bytes, bytes]
Moved = tuple[bytes, bytes, tuple[tuple[int, int], ...]]
"""A basis without the order in which pixels have entered: columns and rows, and pixels that are not at 0."""
End = Literal["optimal", "pixels entered", "stopped"]

TOLERANCE = 1e-9
"""Of the linear programs: how near their multipliers come to the best bound. No bound relies on it."""
ROUNDING = 2.0**-52
"""Twice the unit roundoff. A sum of n products is off by less than n 2^-53 (1 + o(1)) times the sum of their sizes."""
TERMS = 256
"""More terms than a sum in the certificate has besides those over rows, columns or pixels."""
PRICED = 10
"""Pixels that enter at a time."""
EXACT = 1e-8
"""A program is priced out once the certified bound is this near to its objective, relative or absolute."""
NO_LIMIT, LONGEST = -1e20, 1e20
WALL_CLOCK = 2
"""The clock of the time limit; that of the processor, the default, is a system call every time it is looked at."""


class Lagrangian(NamedTuple):
    """Of v_column - cost sum (p + q) at multipliers, whatever phases are held.

    Attributes:
        constant: sum_r lambda_r side_r.
        reduced: costs of columns.
        shares: of pixels, at their best values.
        pixels: their sum.
        rounding: what it takes at most.
        multipliers: those that were given, 0 where their signs are wrong.
        of_objective: whether the objective is in it; a proof that there is no point has none.
    """

    constant: float
    reduced: Floats
    shares: Floats
    pixels: float
    rounding: float
    multipliers: Floats
    of_objective: bool


class Relaxation:
    """The linear program of the module's docstring; its phases and objective change, the rest stays.

    Args:
        question: image, target, scenarios.
        bounds: pre-activation bounds of every scenario, valid for all x that count; under a soft demand no class
            condition may have gone into them.
        radius: R of a ball ||x - xbar||_1 <= R as a row, or None for none.
        demanded: whether the class conditions are rows.

    Attributes:
        neurons: (scenario, layer, neuron) of every open neuron; phases and amounts are numbered like this. Under a
            share (scenario, output layer, 0) stands for the scenario itself.
        pairs: the numbers of these, one a scenario, or none.
        needed: how many scenarios have to count.
        behind: the best bound of the last program, of the objective 0 where there was no point at all; None where it
            has no bound.
        stands: the basis that the solver has, where it is known.
        solves: linear programs solved so far.
    """

    def __init__(
        self, question: Question, bounds: Sequence[Bounds], radius: float | None = None, demanded: bool = True
    ) -> None:
        region = question.region()
        self.centre = region.centre
        self.caps = np.concatenate([region.upper - region.centre, region.centre - region.lower])
        self.room = float(self.caps.sum())
        self.neurons: list[tuple[int, int, int]] = []
        self.solves = 0
        rows = Rows(region.centre)
        more: list[Parts] = [[] for _ in bounds]
        self.pairs = np.zeros(0, dtype=np.intp)
        if demanded and question.soft:
            more = rows.add_demand(question, bounds)
            if question.demand.cvar is None:
                self.neurons += [(k, len(one.layers) - 1, 0) for k, one in enumerate(question.ensemble)]
                self.pairs = np.arange(len(self.neurons))
        self.needed = question.demand.fooled(len(question.ensemble))
        for scenario, (network, bound) in enumerate(zip(question.ensemble, bounds, strict=True)):
            source: Source | None = None
            for k, layer in enumerate(network.layers[:-1]):
                source, opened = rows.add_layer(layer, source, bound.lower[k], bound.upper[k])
                self.neurons += [(scenario, k, int(neuron)) for neuron in opened]
            if demanded:
                rows.add_conditions(source, *class_rows(network, question.target, question.gamma), more[scenario])
        self.scenario = np.array([scenario for scenario, _, _ in self.neurons], dtype=np.intp)
        if radius is not None:
            rows.add_ball(radius)
        problem = rows.builder.build()
        self.y, self.s, self.triangles = (np.array(one, dtype=np.intp) for one in (rows.y, rows.s, rows.triangles))
        self.low, self.up = problem.lower.copy(), problem.upper.copy()
        self.full = problem.upper
        self.both = np.stack([self.y, self.s])
        self.widths = self.full[self.both]
        self.sides = problem.row_lower, problem.row_upper
        self.finite = [np.where(np.isfinite(side), side, 0.0) for side in self.sides]
        self.columns = problem.matrix.T.tocsr()
        self.pixel_rows = np.concatenate(rows.pixel_rows)
        self.weights = np.ascontiguousarray(np.hstack(rows.weights))  # (pixels, pixel rows); q has the negatives
        self.ball = len(self.sides[0]) - 1 if radius is not None else None
        self.sizes = self._sizes(problem.matrix, np.concatenate(rows.sizes))
        self.table = kernels.Table(
            self.columns,
            np.ascontiguousarray(self.weights.T),
            self.pixel_rows,
            self.caps,
            np.stack(self.finite),
            np.where(np.isfinite(problem.row_lower), -np.inf, 0.0),  # multipliers with the signs that are allowed
            np.where(np.isfinite(problem.row_upper), np.inf, 0.0),
            self.sizes,
            -1 if self.ball is None else self.ball,
        )
        self.terms = ROUNDING * (len(self.sizes) + len(self.low) + len(self.caps) + TERMS)
        self.entered = np.zeros(len(self.caps), dtype=np.bool_)
        self.order: list[int] = []
        self.held: dict[int, bool] = {}
        self.objective: int | None = None
        self.floor = -np.inf
        self.behind: Lagrangian | None = None
        self.stands: Basis | None = None
        self.lowest = np.inf
        self.program = self._program(problem.matrix)

    @property
    def size(self) -> tuple[int, int, int]:
        """Columns (every pixel that may move counted), open neurons, rows."""
        return len(self.low) + int((self.caps > 0).sum()), len(self.neurons), len(self.sizes)

    def _sizes(self, matrix: sp.csr_matrix, constants: Floats) -> Floats:
        """For every row sum_j |A_rj| max |v_j| over all columns and pixels, and its side: rounding scales with it."""
        absolute = abs(matrix)
        sizes = np.asarray(absolute @ np.maximum(np.abs(self.low), np.abs(self.full)))
        caps = np.maximum(*np.split(self.caps, 2))
        sizes[self.pixel_rows] += constants + caps @ np.abs(self.weights)
        if self.ball is not None:
            sizes[self.ball] += self.room
        return np.asarray(sizes + np.maximum(*np.abs(self.finite)))

    def _program(self, matrix: sp.csr_matrix) -> LP:
        program = LP("relaxation", "maximize")
        count = len(self.low)
        program.addCols([[]] * count, objs=[0.0] * count, lbs=self.low.tolist(), ubs=self.up.tolist())
        infinity = program.infinity()
        lower, upper = (np.clip(side, -infinity, infinity).tolist() for side in self.sides)
        indptr, indices, data = matrix.indptr, matrix.indices.tolist(), matrix.data.tolist()
        entries = [
            list(zip(indices[begin:end], data[begin:end], strict=True)) for begin, end in itertools.pairwise(indptr)
        ]
        program.addRows(entries, lhss=lower, rhss=upper)
        program.setRealParam(LP_PARAMETER.FEASTOL, TOLERANCE)
        program.setRealParam(LP_PARAMETER.DUALFEASTOL, TOLERANCE)
        program.setIntParam(LP_PARAMETER.TIMING, WALL_CLOCK)
        return program

    def maximise(self, column: int | None) -> None:
        """Set the objective: a column (of `y` or `s`), or the distance's negative where it is None."""
        if self.objective is not None:
            self.program.chgObj(self.objective, 0.0)
        elif column is not None:
            self._cost_of_pixels(0.0)
        if column is not None:
            self.program.chgObj(int(column), 1.0)
        else:
            self._cost_of_pixels(-1.0)
        self.objective = None if column is None else int(column)

    def _cost_of_pixels(self, cost: float) -> None:
        for position in range(len(self.order)):
            self.program.chgObj(len(self.low) + position, cost)

    def hold(self, phases: Phases) -> None:
        """Hold these phases, and no others."""
        gone, new = kernels.changes(self.held, phases)
        for neuron in gone:
            self._bound(neuron, self.held[neuron], free=True)
            del self.held[neuron]
        for neuron in new:
            self.held[neuron] = phases[neuron]  # before the bound moves: an interrupt between the two leaks nothing
            self._bound(neuron, phases[neuron], free=False)

    def _bound(self, neuron: int, on: bool, free: bool) -> None:
        column = int((self.s if on else self.y)[neuron])
        self.up[column] = self.full[column] if free else 0.0
        self.program.chgBound(column, 0.0, float(self.up[column]))

    def enter(self, x: Floats) -> None:
        """Let the pixels enter in which x differs from the image."""
        step = x - self.centre
        self._enter(np.flatnonzero(np.concatenate([step, -step]) > 0))

    def enter_of(self, other: Relaxation) -> None:
        """Let the pixels enter that have entered another relaxation of the same image."""
        self._enter(np.flatnonzero(other.entered))

    def enter_pixels(self, pixels: Sequence[int]) -> None:
        """Let these enter, by their number in `order`."""
        self._enter(np.array(pixels, dtype=np.intp))

    def _enter(self, pixels: Indices) -> bool:
        pixels = pixels[~self.entered[pixels] & (self.caps[pixels] > 0)]
        if not pixels.size:
            return False
        count = len(self.centre)
        rows = self.pixel_rows.tolist()
        ball = [] if self.ball is None else [(self.ball, 1.0)]
        signs = np.where(pixels < count, 1.0, -1.0)[:, None]
        entries = [[*zip(rows, line, strict=True), *ball] for line in (signs * self.weights[pixels % count]).tolist()]
        cost = -1.0 if self.objective is None else 0.0
        many = len(pixels)
        self.program.addCols(entries, objs=[cost] * many, lbs=[0.0] * many, ubs=self.caps[pixels].tolist())
        self.entered[pixels] = True
        self.order += pixels.tolist()
        return True

    def certified(self, at: Lagrangian) -> tuple[float, Floats]:
        """The bound of the module's docstring with the phases held, and every pixel's share in it."""
        bound = at.constant + kernels.best_columns(at.reduced, self.low, self.up) + at.pixels + at.rounding
        return (bound, at.shares) if math.isfinite(bound) else (np.inf, np.zeros_like(at.shares))

    def by_phase(self, at: Lagrangian) -> tuple[float, Floats]:
        """The same bound by the phases held: B, and D off and on, (2, neurons); see `arfj.bab.proofs`.

        Rounding: no share is larger than its neuron's part of the sizes that `ROUNDING` scales with, and neither are
        their sums in any order; four times what a certified bound is given covers the sums of `arfj.bab.proofs`, and
        the shares that `Proofs.take` subtracts from them.
        """
        rest, largest, gains = kernels.by_phase(
            at.reduced, self.low, self.full, at.multipliers, self.both, self.triangles
        )
        return at.constant + rest + largest + at.pixels + 4 * at.rounding, gains

    def reduced_costs(self) -> Floats:
        """Of y and s, (2, neurons), at the last program's multipliers: what the objective gains at first by each."""
        if self.behind is None:
            raise ValueError("no program has been solved whose bound is finite")
        return self.behind.reduced[self.both]

    def lagrangian(self, multipliers: Sequence[float], column: int | None, cost: float) -> Lagrangian:
        """Of the objective v_column (None: none) - cost sum (p + q), at multipliers of the rows."""
        at = -1 if column is None else column
        constant, size, price, pixels, used, reduced, shares = self.table.lagrangian(multipliers, at, cost)
        size += abs(price) * self.room + (0.0 if column is None else max(abs(self.low[column]), self.full[column]))
        of_objective = column is not None or cost > 0
        return Lagrangian(constant, reduced, shares, pixels, self.terms * size, used, of_objective)

    def solve(
        self, floor: float = -np.inf, seconds: float = np.inf, enough: float = -np.inf
    ) -> tuple[float, Floats | None]:
        """Solve with the phases held.

        Args:
            floor: a bound at or below it is as good as any other.
            seconds: limit.
            enough: with a bound at or below it nothing is tried again that went wrong.

        Returns:
            A certified upper bound (-inf: no point has these phases, inf: none was found), and the amounts (2, neurons)
            y / u and s / (-l) at the optimum; None where the bound is not above `floor`, or there is no optimum.
        """
        self.solves += 1
        self.behind, self.lowest, self.stands = None, np.inf, None
        program = self.program
        until = time.perf_counter() + seconds
        if floor != self.floor:
            program.setRealParam(LP_PARAMETER.OBJLIM, max(floor, NO_LIMIT))
            self.floor = floor
        limited, attempt, best = True, 0, np.inf
        while attempt < 4 and (left := until - time.perf_counter()) > 0:
            program.setRealParam(LP_PARAMETER.LPTILIM, min(left, LONGEST))
            bound, end = self._solved(attempt != 1)  # the dual simplex method; the primal one where that fails
            best = min(best, bound)
            if best <= floor:
                return best, None
            if end == "optimal":
                return best, self._amounts()
            if end == "pixels entered":
                continue
            if best <= enough:
                return best, None
            if limited:  # what stopped at the limit need not be over
                limited, self.floor = False, -np.inf
                program.setRealParam(LP_PARAMETER.OBJLIM, NO_LIMIT)
                continue
            attempt += 1
            if attempt == 2:
                program.setBase([0] * program.ncols(), [1] * program.nrows())
            elif attempt == 3:
                self._enter(np.flatnonzero(~self.entered))
        return best, None

    def _solved(self, dual: bool) -> tuple[float, End]:
        """Solve once more from where the solver stands."""
        try:
            self.program.solve(dual)
        except Exception:  # the class that PySCIPOpt raises where SoPlex gives up; from a fresh basis it may not
            self.program.setBase([0] * self.program.ncols(), [1] * self.program.nrows())
            return np.inf, "stopped"
        return self._judged()

    def _judged(self) -> tuple[float, End]:
        """The certified bound at the solver's multipliers or its ray, and how the program ended."""
        program = self.program
        proof = self.lagrangian(program.getDual(), self.objective, float(self.objective is None))
        bound, shares = self.certified(proof)
        if bound < self.lowest:
            self.lowest, self.behind = bound, proof
        if program.isOptimal():
            near = bound - program.getObjVal() <= EXACT * max(1.0, abs(bound))
            return bound, "pixels entered" if not near and self._priced(shares) else "optimal"
        if bound <= self.floor:
            return bound, "stopped"
        if self._priced(shares):
            return bound, "pixels entered"
        if (ray := program.getDualRay()) is not None:
            rays = [self.lagrangian((sign * np.array(ray)).tolist(), None, 0.0) for sign in (1.0, -1.0)]
            signed = [(*self.certified(one), one) for one in rays]
            value, shares, proof = min(signed, key=lambda one: one[0])
            if value < 0:
                self.lowest, self.behind = -np.inf, proof
                return -np.inf, "stopped"
            if self._priced(shares):
                return bound, "pixels entered"
        return bound, "stopped"

    def _priced(self, shares: Floats) -> bool:
        outside = np.where(self.entered, 0.0, shares)
        count = min(PRICED, int((outside > TOLERANCE).sum()))
        return count > 0 and self._enter(np.argpartition(-outside, count - 1)[:count])

    def _amounts(self) -> Floats:
        amounts: Floats = kernels.amounts(self.program.getPrimal(), self.both, self.widths)
        if self.pairs.size:
            counts = amounts[1, self.pairs] <= OPEN
            if counts.sum() >= self.needed:  # the others need not count
                amounts[0, self.pairs[~counts]] = 0.0
            amounts[:, self._idle(amounts[0, self.pairs] <= OPEN)] = 0.0
        return amounts

    def _idle(self, off: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The neurons of scenarios that are off, the pairs themselves left out."""
        idle = off[self.scenario]
        idle[self.pairs] = False
        return idle

    def undecided(self, phases: Phases) -> Indices:
        """The neurons whose phase is not held and matters."""
        open_ = np.ones(len(self.neurons), dtype=np.bool_)
        if self.pairs.size:
            open_[self._idle(np.array([phases.get(pair) is False for pair in self.pairs.tolist()]))] = False
        open_[list(phases)] = False
        return np.flatnonzero(open_)

    def image(self) -> Floats:
        """x at the last optimum."""
        moves = np.zeros(len(self.caps))
        moves[self.order] = self.program.getPrimal()[len(self.low) :]
        up, down = np.split(moves, 2)
        return np.asarray(self.centre + up - down)

    def basis(self) -> Basis:
        """Where the solver stands, to go on from there later."""
        columns, rows = self.program.getBase()
        self.stands = bytes(columns), bytes(rows)
        return self.stands

    def start_from(self, basis: Basis) -> None:
        """Go on from there; pixels that entered since stay where they were."""
        if basis is self.stands:  # what it has factorised is of use
            return
        self.stands = basis
        columns, rows = basis
        self.program.setBase([*columns, *[0] * (self.program.ncols() - len(columns))], list(rows))

    def moved(self, basis: Basis) -> Moved:
        """A basis as another relaxation of the same question and bounds reads it."""
        columns, rows = basis
        count = len(self.low)
        pixels = zip(self.order, columns[count:], strict=False)  # those that entered later are not in it
        return columns[:count], rows, tuple((pixel, status) for pixel, status in pixels if status)

    def arrived(self, moved: Moved) -> Basis:
        """A basis of another relaxation; the pixels that it needs enter."""
        columns, rows, pixels = moved
        self.enter_pixels([pixel for pixel, _ in pixels])
        statuses = dict(pixels)
        return columns + bytes(statuses.get(pixel, 0) for pixel in self.order), rows
