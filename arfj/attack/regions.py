r"""Linear regions of all networks at once, and the nearest answer in each.

Where every hidden neuron of every scenario keeps its phase (on or off), all networks are affine, and the least L1
change inside that linear region is a linear program over p, q and the first layer's pre-activations h:

    min sum p + q   s.t.  h(xi) = W0'(xbar + p - q) + b0,  pre-activations of the phase's sign,  class conditions.

All later pre-activations are affine in h (n_1 columns a scenario), so the dense rows are the first layer's alone.

Under a share of the scenarios the region is that of the ones which count at a point (`Regions`). A mean of the worst w
slacks has the columns tau and e in its place (`arfj.question.Demand`):

    (C h - d)_r + e_k >= tau for every row r of scenario k,   tau - 1 / w sum_k e_k >= 0,   tau, e >= 0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.optimize import linprog

from arfj.evaluate.replay import TOLERANCE
from arfj.network import Dense, Floats, Network
from arfj.question import Question, class_rows

Phases = tuple[NDArray[np.bool_], ...]
"""On (True) or off for every hidden neuron: one array over all layers of one scenario, a tuple over scenarios."""

MARGIN = 1e-8
"""Class conditions are asked with this much room, so that the replay meets them exactly."""

PRESSED = 1e-9
"""A multiplier or reduced cost above this is not 0."""

FARTHER, LEAST_FARTHER = 1e-6, 1e-9
"""A descent's end is no farther than its start, but for the room of its conditions: by this share, and by this much."""

PROGRAMS = 64
"""So many programs of different scenarios are kept at a time."""


@dataclass(frozen=True, eq=False)
class Corner:
    """The optimum of one linear region.

    Attributes:
        x: flat image.
        distance: ||x - xbar||_1.
        phases: of the region.
        binding: the scenarios with a multiplier above 0; without the others the region's optimum is the same.
        slope: by how much the distance falls at most, where the class conditions are eased by 1;
            infinite where that is not known.
    """

    x: Floats
    distance: float
    phases: Phases
    binding: tuple[int, ...] = ()
    slope: float = np.inf


def phases_at(question: Question, x: Floats) -> Phases:
    """The phases of every scenario at x."""
    return tuple(
        np.concatenate(
            [before[0] > 0 for before in network.preactivations(x.reshape(1, -1))[:-1]] or [np.zeros(0, bool)]
        )
        for network in question.ensemble
    )


class RegionProgram:
    """The linear program of the module's docstring, its dense part built once for a question.

    Its scenarios are all fooled, or the mean of the worst ones is; a share of them is a matter of `Regions`.
    """

    def __init__(self, question: Question, margin: float = MARGIN) -> None:
        self.question = question
        self.margin = margin
        region = question.region()
        self.raised = np.flatnonzero(region.upper > region.centre)
        self.lowered = np.flatnonzero(region.centre > region.lower)
        room = ((region.upper - region.centre)[self.raised], (region.centre - region.lower)[self.lowered])
        first = np.hstack([network.layers[0].weight for network in question.ensemble])
        bias = np.concatenate([network.layers[0].bias for network in question.ensemble])
        self.moves = len(self.raised) + len(self.lowered)
        self.widths = [network.layers[0].outputs for network in question.ensemble]
        total = sum(self.widths)
        blocks = [first[self.raised].T, -first[self.lowered].T, -np.eye(total)]
        self.right = -(question.flat @ first + bias)
        self.mean = question.soft and question.demand.cvar is not None
        more = 1 + len(question.ensemble) if self.mean else 0  # tau and e
        self.equalities = sp.csc_matrix(np.hstack([*blocks, np.zeros((total, more))]))
        self.cost = np.concatenate([np.ones(self.moves), np.zeros(total + more)])
        self.limits = np.vstack(
            [
                np.column_stack([np.zeros(self.moves), np.concatenate(room)]),
                np.tile([-np.inf, np.inf], (total, 1)),
                np.tile([0.0, np.inf], (more, 1)),
            ]
        )

    def solve(self, phases: Phases, seconds: float = 10.0) -> Corner | None:
        """The optimum of the linear region of `phases`, or None where it holds no answer (or the time is over).

        The networks have the last word: what they miss by more than a replay allows is none.
        """
        blocks, right = [], []
        for network, phase in zip(self.question.ensemble, phases, strict=True):
            rows, least = _phase_rows(network, phase)
            classes, demand = self._class_block(network, phase)
            blocks.append(np.vstack([rows, classes]))
            right.append(np.concatenate([least, demand]))
        demands = sp.csc_matrix(sp.block_diag([sp.csc_matrix(block) for block in blocks]))
        padded = sp.hstack([sp.csc_matrix((demands.shape[0], self.moves)), demands], format="csc")
        if self.mean:
            padded = self._with_mean(padded, [len(phase) for phase in phases], [len(block) for block in blocks])
            right.append(np.zeros(1))
        program: dict[str, Any] = {  # untyped: the stubs know no sparse matrices here
            "A_ub": -padded,
            "b_ub": -np.concatenate(right),
            "A_eq": self.equalities,
            "b_eq": self.right,
            "bounds": self.limits,
            # Few rows and many columns: presolve takes as long as all the rest.
            "options": {"presolve": False, "primal_feasibility_tolerance": 1e-10, "time_limit": max(seconds, 0.01)},
        }
        answer = linprog(self.cost, method="highs", **program)
        if answer.status != 0 or answer.x is None:
            return None
        corner = self._corner(answer.x, -answer.ineqlin.marginals, phases, blocks)
        return corner if self.question.slack(corner.x) >= -TOLERANCE else None

    def _corner(self, values: Floats, multipliers: Floats, phases: Phases, blocks: list[Floats]) -> Corner:
        x = self.question.flat.copy()
        x[self.raised] += values[: len(self.raised)]
        x[self.lowered] -= values[len(self.raised) : self.moves]
        x = np.clip(x, 0.0, 1.0)
        rows = np.split(multipliers, np.cumsum([len(block) for block in blocks]))[: len(blocks)]
        binding = tuple(index for index, row in enumerate(rows) if (row > PRESSED).any())
        classes = [row[len(phase) :] for row, phase in zip(rows, phases, strict=True)]
        return Corner(x, self.question.distance(x), phases, binding, float(sum(np.abs(row).sum() for row in classes)))

    def _with_mean(self, rows: sp.csc_matrix, kept: list[int], sizes: list[int]) -> sp.csc_matrix:
        """The columns tau and e in the class rows, which stand behind `kept` others of each scenario; the last row."""
        count = len(sizes)
        classes = [np.concatenate([np.zeros(k), np.ones(n - k)])[:, None] for k, n in zip(kept, sizes, strict=True)]
        tau = np.append(-np.concatenate(classes)[:, 0], 1.0)
        last = sp.csc_matrix(np.full((1, count), -1.0 / self.question.demand.worst(count)))
        e = sp.vstack([sp.csc_matrix(sp.block_diag(classes)), last], format="csc")
        above = sp.vstack([rows, sp.csc_matrix((1, rows.shape[1]))], format="csc")
        return sp.csc_matrix(sp.hstack([above, sp.csc_matrix(tau[:, None]), e], format="csc"))

    def _class_block(self, network: Network, phase: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        if len(network.layers) == 1:
            return self._output_block(network)
        weights, least = class_rows(network, self.question.target, self.question.gamma)
        map_, shift = _affine_layers(network, phase)[-1]
        return weights @ map_, least + self.margin - weights @ shift

    def _output_block(self, network: Network) -> tuple[Floats, Floats]:
        """The class conditions over h where h is the output layer's pre-activation itself."""
        outputs = Dense(np.eye(network.classes), np.zeros(network.classes))
        weights, least = class_rows(Network((outputs,)), self.question.target, self.question.gamma)
        return weights, least + self.margin


class Regions:
    """The linear regions of a question: for every image the program of the scenarios that count there.

    Args:
        question: with any demand.
        margin: see `MARGIN`.
    """

    def __init__(self, question: Question, margin: float = MARGIN) -> None:
        self.question = question
        self.margin = margin
        self.programs: dict[tuple[int, ...], RegionProgram] = {}

    @property
    def shared(self) -> bool:
        """Whether it depends on the image which scenarios count."""
        return self.question.soft and self.question.demand.cvar is None

    def program(self, x: Floats) -> RegionProgram:
        """Of the scenarios that count at x; an answer to its question is one to the whole."""
        counted = self.question.counted(x)
        if counted not in self.programs:
            if len(self.programs) >= PROGRAMS:
                self.programs.clear()
            every = len(counted) == len(self.question.ensemble)
            part = self.question if every else self.question.fooling(counted)
            self.programs[counted] = RegionProgram(part, self.margin)
        return self.programs[counted]

    def at(self, x: Floats, seconds: float = 10.0) -> Corner | None:
        """The optimum of the linear region of x, or None where it holds no answer (or the time is over)."""
        program = self.program(x)
        return program.solve(phases_at(program.question, x), seconds)


def better_of(question: Question, x: Floats, corner: Corner | None) -> Corner | None:
    """The end of a descent from x, or x itself where that is an answer and a linear solver has none, or a farther one.

    With large weights solvers go wrong; what the networks confirm is not to be lost.
    """
    distance = question.distance(x)
    if corner is not None and corner.distance <= distance * (1 + FARTHER) + LEAST_FARTHER:
        return corner
    return Corner(x, distance, phases_at(question, x)) if question.slack(x) >= 0 else corner


def drawn_towards(question: Question, x: Floats, answer: Floats, halvings: int = 30) -> Floats:
    """The point nearest to x, up to bisection, on the line from x to an answer that is one itself."""
    low, high = 0.0, 1.0
    for _ in range(halvings):
        middle = (low + high) / 2
        if question.slack(x + middle * (answer - x)) >= 0:
            high = middle
        else:
            low = middle
    return np.asarray(np.clip(x + high * (answer - x), 0.0, 1.0))


def _affine_layers(network: Network, phase: NDArray[np.bool_]) -> list[tuple[Floats, Floats]]:
    """Every hidden layer's post-activation as A h + c of the first layer's pre-activation h, phases fixed.

    Without hidden layers there is none.
    """
    width = network.layers[0].outputs
    linear, shift = np.eye(width), np.zeros(width)
    result, at = [], 0
    for k, layer in enumerate(network.layers[:-1]):
        if k:
            linear, shift = layer.weight.T @ linear, layer.weight.T @ shift + layer.bias
        on = phase[at : at + layer.outputs].astype(np.float64)
        at += layer.outputs
        linear, shift = on[:, None] * linear, on * shift
        result.append((linear, shift))
    return result


def _phase_rows(network: Network, phase: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """sign * (pre-activation) >= 0 for every hidden neuron, as rows over h and right-hand sides."""
    width = network.layers[0].outputs
    before = [(np.eye(width), np.zeros(width))] if len(network.layers) > 1 else [(np.zeros((0, width)), np.zeros(0))]
    for (linear, shift), layer in zip(_affine_layers(network, phase), network.layers[1:-1], strict=False):
        before.append((layer.weight.T @ linear, layer.weight.T @ shift + layer.bias))
    sign = np.where(phase, 1.0, -1.0)
    linear = np.vstack([one[0] for one in before])
    shift = np.concatenate([one[1] for one in before])
    return sign[:, None] * linear, -sign * shift
