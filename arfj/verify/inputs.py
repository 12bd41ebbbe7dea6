"""Branch and bound on the input box: complete where there are few inputs (ACAS Xu has 5), for every activation.

Boxes are taken worst bound first, bounded together, clipped to where a counterexample could still be, and cut in two.
Which input to cut decides between a hundred boxes and a hundred thousand. Three measures are added, each relative to
its largest value in the box: what the planes lose along the input, how much the last cut of that input gained among the
box' ancestors (elsewhere, where it has not been cut yet), and, a little, its width.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from arfj.bounds import Bounds
from arfj.bounds.boxes import BoxProgram, Planes, clip
from arfj.bounds.interval import Pair
from arfj.network import Floats
from arfj.verify.falsify import wander
from arfj.verify.margins import Margins
from arfj.verify.pool import Pool
from arfj.verify.search import Clock, Finding

Singles = NDArray[np.float32]
Indices = NDArray[np.intp]
TINY = float(np.finfo(np.float64).tiny)

BATCH = 128
STEPS = 2
"""Ascent steps on the slopes of the outputs. More close a box more often, and say less about where to cut it."""
CLIPS = 2
"""Rounds of clipping: the second one starts from the smaller box."""
EVEN = 0.3
"""The weight of widths: planes may hide an input behind a flat line."""
HUNT, PATIENCE = 0.2, 0.1
"""The share of the time that looks for counterexamples, and by how many seconds it begins late."""
FIRST_GAIN = 0.3
"""What a cut is taken to gain before any was seen, as a share of the way to 0."""


def split_inputs(margins: Margins, bounds: Bounds, box: Pair, clock: Clock) -> Finding:
    """Decide whether some polyhedron of the margins is reached in the box.

    Args:
        margins: of the open polyhedra.
        bounds: sound bounds of the margins' pre-activations over the box.
        box: lower and upper corner.
        clock: when to stop.
    """
    program = BoxProgram(margins.graph, bounds, *box, STEPS)
    start = _Boxes.one(box, program.root())
    queue, cutter = Pool(start), _Cutter(box)
    queue.add(start)
    branches, hunt = 0, _Hunt(margins, margins.inside[0] if margins.inside else box)
    while len(queue):
        if clock.over:
            return Finding("open", "time limit", bound=queue.worst, branches=branches)
        x = hunt.go(clock)
        if x is not None:
            return Finding("found", "random local search", x, branches=branches)
        taken = queue.take(BATCH)
        planes = program(taken.low, taken.up, taken.known.swapaxes(0, 1))
        branches += len(taken.bound)
        clock.branches += len(taken.bound)
        x = _candidate(margins, planes, taken.low, taken.up)
        if x is not None:
            return Finding("found", "a box' corner or middle is unsafe", x, branches=branches)
        low, up, worst, size = _clipped(margins, planes, taken.low, taken.up)
        kept = np.asarray((low <= up).all(axis=1))
        gains = cutter.observed(taken, np.where(kept, worst, 0.0))
        boxes = _Boxes(low, up, worst, planes.known.swapaxes(0, 1), gains, taken.axis).chosen(kept)
        halves = cutter.cut(boxes, size[kept])
        if halves is None:
            queue.add(boxes)
            return Finding("open", "boxes are down to single numbers", bound=queue.worst, branches=branches)
        queue.add(halves)
        clock.tell("splitting inputs", len(queue), queue.worst)
    return Finding("proven", "no box holds a counterexample", branches=branches)


class _Hunt:
    """Rounds of local search for a counterexample, which take a share of the time: short proofs pay nothing."""

    def __init__(self, margins: Margins, box: Pair) -> None:
        self.margins, self.box, self.rng = margins, box, np.random.default_rng(0)
        self.begun, self.spent = time.perf_counter(), 0.0

    def go(self, clock: Clock) -> Floats | None:
        """One round, if it is time for one."""
        now = time.perf_counter()
        if self.spent > HUNT * (now - self.begun) - PATIENCE:
            return None
        x = wander(self.margins, self.box, self.rng, clock)
        self.spent += time.perf_counter() - now
        return x


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Boxes.

    Attributes:
        low, up: their corners, shape (boxes, inputs).
        bound: the bound of the box that each was cut from, shape (boxes,).
        known: bounds of neurons on that box, shape (boxes, 2, neurons).
        gains: what the last cut of each input gained among the ancestors, NaN where it was not cut, (boxes, inputs).
        axis: which input was cut last, -1 for none, shape (boxes,).
    """

    low: Floats
    up: Floats
    bound: Floats
    known: Singles
    gains: Floats
    axis: Indices

    @classmethod
    def one(cls, box: Pair, known: Singles) -> _Boxes:
        """The box to begin with."""
        low, up = box[0][None], box[1][None]
        return cls(low, up, np.full(1, -np.inf), known.swapaxes(0, 1), np.full(low.shape, np.nan), np.full(1, -1))

    def chosen(self, which: NDArray[np.generic]) -> _Boxes:
        """Some of them, by index or by flag."""
        return _Boxes(**{name: array[which] for name, array in vars(self).items()})


class _Cutter:
    """Chooses the input along which a box is cut, from what cuts gained so far."""

    def __init__(self, box: Pair) -> None:
        self.whole = np.maximum(box[1] - box[0], TINY)
        self.average = np.full(len(self.whole), FIRST_GAIN)

    def observed(self, boxes: _Boxes, worst: Floats) -> Floats:
        """The boxes' gains with that of their last cut filled in: the share of the way from its bound to 0."""
        gains = boxes.gains.copy()
        cut = np.flatnonzero(boxes.axis >= 0)
        if not cut.size:
            return gains
        axis, before = boxes.axis[cut], boxes.bound[cut]
        share = np.clip((worst[cut] - before) / np.maximum(np.abs(before), TINY), 0.0, 1.0)
        gains[cut, axis] = share
        for one in np.unique(axis):
            seen = share[axis == one]
            self.average[one] += 0.5 * min(1.0, len(seen) / 16) * (seen.mean() - self.average[one])
        return gains

    def cut(self, boxes: _Boxes, size: Floats) -> _Boxes | None:
        """Both halves of each box; None if one cannot be cut any more. `size` is what the planes lose per width."""
        low, up = boxes.low, boxes.up
        middle = 0.5 * (low + up)
        possible = (middle > low) & (middle < up)
        gains = np.where(np.isnan(boxes.gains), self.average, boxes.gains)
        score = _relative(size * (up - low)) + _relative(gains) + EVEN * _relative((up - low) / self.whole)
        each, axis = np.arange(len(low)), np.where(possible, score, -1.0).argmax(axis=1)
        if not possible[each, axis].all():
            return None
        left_up, right_low = up.copy(), low.copy()
        left_up[each, axis] = right_low[each, axis] = middle[each, axis]
        halves = boxes.chosen(np.concatenate([each, each]))
        return replace(
            halves,
            low=np.concatenate([low, right_low]),
            up=np.concatenate([left_up, up]),
            axis=np.concatenate([axis, axis]),
        )


def _relative(values: Floats) -> Floats:
    return np.asarray(values / np.maximum(values.max(axis=1, keepdims=True), TINY))


def _candidate(margins: Margins, planes: Planes, low: Floats, up: Floats) -> Floats | None:
    """A middle or a relaxation's minimiser that is unsafe."""
    hardest = planes.lower[1].argmax(axis=1)
    slope = planes.rows[1, np.arange(len(low)), hardest]
    return margins.candidate(np.concatenate([np.where(slope > 0, low, up), np.clip(0.5 * (low + up), low, up)]))


def _clipped(margins: Margins, planes: Planes, low: Floats, up: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """The hull of what each polyhedron leaves of the boxes, its worst bound, and what each input matters."""
    whole_low, whole_up = np.full_like(low, np.inf), np.full_like(up, -np.inf)
    worst = np.full(len(low), np.inf)
    size = np.zeros_like(low)
    for polyhedron in range(margins.polyhedra):
        rows = np.flatnonzero(margins.owner == polyhedron)
        proven = np.concatenate(planes.lower[:, :, rows], axis=1)
        slopes = np.concatenate(planes.rows[:, :, rows], axis=1)
        alive = ~(proven.max(axis=1) > 0)
        part_low, part_up = _shrunk(low, up, proven, slopes)
        alive &= (part_low <= part_up).all(axis=1)
        whole_low = np.where(alive[:, None], np.minimum(whole_low, part_low), whole_low)
        whole_up = np.where(alive[:, None], np.maximum(whole_up, part_up), whole_up)
        worst = np.where(alive, np.minimum(worst, proven.max(axis=1)), worst)
        size += np.where(alive[:, None], np.abs(slopes).sum(axis=1), 0.0)
    return whole_low, whole_up, worst, size


def _shrunk(low: Floats, up: Floats, proven: Floats, slopes: Floats) -> Pair:
    """Clip, and clip what is left again: the planes' minima rise as the box shrinks."""
    new_low, new_up = clip(low, up, proven, slopes)
    for _ in range(CLIPS - 1):
        moved = np.where(slopes > 0, (new_low - low)[:, None, :], (new_up - up)[:, None, :])
        risen = proven + np.maximum(slopes * moved, 0.0).sum(axis=2) * (1.0 - 1e-9)
        new_low, new_up = clip(new_low, new_up, np.where(np.isfinite(risen), risen, proven), slopes)
    return new_low, new_up
