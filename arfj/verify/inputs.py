"""Branch and bound on the input box: complete where there are few inputs (ACAS Xu has 5), for every activation.

Boxes are taken worst bound first, bounded together, clipped to where a counterexample could still be, and cut in two
along the input that the linear bounds depend on most.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arfj.bounds import Bounds
from arfj.bounds.boxes import BoxProgram, Planes, clip
from arfj.bounds.interval import Pair
from arfj.network import Floats
from arfj.verify.margins import Margins
from arfj.verify.search import Clock, Finding

Singles = NDArray[np.float32]

BATCH = 128
STEPS = 2
"""Ascent steps on the slopes of the outputs. More close a box more often, and say less about where to cut it."""
CLIPS = 2
"""Rounds of clipping: the second one starts from the smaller box."""
EVEN = 0.6
"""How much an input's width counts beside what the planes say: they may hide an input behind a flat line."""


def split_inputs(margins: Margins, bounds: Bounds, box: Pair, clock: Clock) -> Finding:
    """Decide whether some polyhedron of the margins is reached in the box.

    Args:
        margins: of the open polyhedra.
        bounds: sound bounds of the margins' pre-activations over the box.
        box: lower and upper corner.
        clock: when to stop.
    """
    program = BoxProgram(margins.graph, bounds, *box, STEPS)
    whole = np.maximum(box[1] - box[0], np.finfo(np.float64).tiny)
    queue = _Boxes(*box, program.root())
    branches = 0
    while len(queue):
        if clock.over:
            return Finding("open", "time limit", bound=queue.worst, branches=branches)
        low, up, known = queue.take(BATCH)
        planes = program(low, up, known)
        branches += len(low)
        clock.branches += len(low)
        x = _candidate(margins, planes, low, up)
        if x is not None:
            return Finding("found", "a box' corner or middle is unsafe", x, branches=branches)
        low, up, worst, size = _clipped(margins, planes, low, up)
        kept = (low <= up).all(axis=1)
        low, up = low[kept], up[kept]
        width = (up - low) / whole
        gain = size[kept] * (up - low)
        even = width / np.maximum(width.max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        score = gain + EVEN * np.maximum(gain.max(axis=1, keepdims=True), 1e-300) * even
        if not _cut(queue, low, up, worst[kept], score, planes.known[:, kept]):
            return Finding("open", "boxes are down to single numbers", bound=queue.worst, branches=branches)
        clock.tell("splitting inputs", len(queue), queue.worst)
    return Finding("proven", "no box holds a counterexample", branches=branches)


class _Boxes:
    """The open boxes, their bounds, and what is known of the boxes that they were cut from."""

    def __init__(self, low: Floats, up: Floats, known: Singles) -> None:
        self.low, self.up, self.bound, self.known = low[None], up[None], np.array([-np.inf]), known

    def __len__(self) -> int:
        return len(self.bound)

    @property
    def worst(self) -> float | None:
        """The least bound."""
        return float(self.bound.min()) if len(self.bound) and np.isfinite(self.bound.min()) else None

    def take(self, count: int) -> tuple[Floats, Floats, Singles]:
        """Remove those with the least bounds: corners, and what is known."""
        count = min(count, len(self))
        order = np.argpartition(self.bound, count - 1)
        chosen, left = order[:count], order[count:]
        taken = self.low[chosen], self.up[chosen], self.known[:, chosen]
        self.low, self.up, self.known = self.low[left], self.up[left], self.known[:, left]
        self.bound = self.bound[left]
        return taken

    def add(self, low: Floats, up: Floats, bound: Floats, known: Singles) -> None:
        """Append boxes."""
        self.low, self.up = np.concatenate([self.low, low]), np.concatenate([self.up, up])
        self.bound = np.concatenate([self.bound, bound])
        self.known = np.concatenate([self.known, known], axis=1)


def _candidate(margins: Margins, planes: Planes, low: Floats, up: Floats) -> Floats | None:
    """A middle or a relaxation's minimiser that is unsafe."""
    hardest = planes.lower[1].argmax(axis=1)
    slope = planes.rows[1, np.arange(len(low)), hardest]
    points = np.concatenate([np.where(slope > 0, low, up), np.clip(0.5 * (low + up), low, up)])
    least = margins.least(margins.graph(points)).min(axis=1)
    return points[least.argmin()] if least.min() <= 0 else None


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


def _cut(queue: _Boxes, low: Floats, up: Floats, worst: Floats, score: Floats, known: Singles) -> bool:
    """Cut each box along the input with the highest score; False if one cannot be cut any more."""
    if not len(low):
        return True
    each = np.arange(len(low))
    middle = 0.5 * (low + up)
    possible = (middle > low) & (middle < up)
    axis = np.where(possible, score, -1.0).argmax(axis=1)
    if not possible[each, axis].all():
        queue.add(low, up, worst, known)
        return False
    left_up, right_low = up.copy(), low.copy()
    left_up[each, axis] = right_low[each, axis] = middle[each, axis]
    queue.add(
        np.concatenate([low, right_low]),
        np.concatenate([left_up, up]),
        np.concatenate([worst, worst]),
        np.concatenate([known, known], axis=1),
    )
    return True
