r"""Branch and bound on the phases of open ReLUs (beta-CROWN), all polyhedra together, worst bound first.

A subproblem assumes the phases of some ReLUs. It is done when a mixture w of its polyhedron's rows stays above 0. Else
the open ReLU whose relaxation loses most at the minimiser is split; where none loses anything, a linear program over
the assumed phases decides, and its multipliers are proven like all others.
"""

from __future__ import annotations

import importlib.util
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from arfj.bounds.batched import Answer, PhaseProgram, Precision, Signs, Singles
from arfj.bounds.compiled import Engine
from arfj.bounds.reduce import Reduced
from arfj.graph import Affine
from arfj.network import Floats
from arfj.region import Region
from arfj.verify.leaf import leaf_multipliers
from arfj.verify.margins import TRIED, Margins
from arfj.verify.pool import Pool
from arfj.verify.search import Clock, Finding

STEPS = 20
BATCH = 256
"""Subproblems of a call, both children of each parent counted."""
MIXING = 4.0
"""How fast a mixture turns to the rows that are high at the minimisers: the exponent, over the spread of the rows."""
WORK = 2e10
"""Multiplications of a call, about: larger networks have smaller batches, so that the clock is looked at in time."""
LATER_BATCH = 1024
"""Subproblems of a call once they are bounded by a compiled program."""
SMALL = 128
"""Subproblems up to which a call is left to NumPy: a compiled program has one size, others would take seconds more."""
GPU_BATCH = 4096
"""Subproblems of a call on a GPU, which is asked for from the start."""
LATER = 3.0
"""Seconds of search before a program is compiled: that takes seconds, and pays where thousands are left."""
LATER_LEFT = 15.0
"""Seconds that must be left then."""


@dataclass(frozen=True, eq=False)
class Nodes:
    """Some subproblems, row by row: mixture, signs, multipliers to start from, scores, bound, and their polyhedron."""

    mixture: Floats
    signs: Signs
    slopes: Singles
    betas: Singles
    score: Singles
    bound: Floats
    owner: NDArray[np.int32]

    def chosen(self, rows: slice | NDArray[Any]) -> Nodes:
        """The subproblems `rows`."""
        return Nodes(**{name: array[rows] for name, array in vars(self).items()})


class PhaseSearch:
    """Branch and bound over the phases of a reduced network.

    Args:
        margins: of the open polyhedra, over the whole network (candidates are evaluated there).
        reduced: the same outputs over the reduced network.
        region: a box.
        engine: what bounds the subproblems.
        precision: of the search; proofs are float64.
        batch: subproblems of a call; None: what suits the engine and the network.
    """

    def __init__(
        self,
        margins: Margins,
        reduced: Reduced,
        region: Region,
        engine: Engine = "numpy",
        precision: Precision = "float64",
        batch: int | None = None,
    ) -> None:
        self.margins, self.reduced, self.region = margins, reduced, region
        maps = (m for node in reduced.graph.nodes if isinstance(node, Affine) for m in node.maps)
        each = 2 * (STEPS + 1) * sum(math.prod(m.shape) for m in maps)
        self.most = max(16, int(WORK / max(each, 1)))
        self.batch = batch or (GPU_BATCH if engine == "jax" else min(BATCH, self.most))
        self.small = self._program("numpy", precision)
        self.program = self.small if engine == "numpy" else self._program(engine, precision)
        self.smooth = any(getattr(node, "kind", "relu") != "relu" for node in reduced.graph.nodes)
        self.hopeless: float | None = None
        self.may_compile = importlib.util.find_spec("jax") is not None

    def _program(self, engine: Engine, precision: Precision) -> PhaseProgram:
        reduced, least = self.reduced, self.reduced.sizes(self.region)
        return PhaseProgram(
            reduced.graph, reduced.bounds, self.region, STEPS, engine, precision, least, batches=(self.batch,)
        )

    def run(self, clock: Clock) -> Finding:
        """Search until every subproblem is done, a candidate is found, or the clock is over."""
        branches, begun = 0, time.perf_counter()
        root = self._root()
        if self.program.engine == "jax":
            clock.tell("compiling", self.margins.polyhedra, None, every=0.0)
        answered = self._bounded(root)
        pool = Pool(answered[0])
        while True:
            nodes, answer = answered
            branches += len(nodes.bound)
            clock.branches += len(nodes.bound)
            x = self._candidate(answer)
            if x is not None:
                return Finding("found", "a minimiser of a relaxation is unsafe", x, branches=branches)
            pool.add(nodes.chosen(~(nodes.bound > 0)))
            children = None
            while children is None:
                if not len(pool):
                    return self._exhausted(branches)
                if clock.over:
                    return Finding("open", "time limit", bound=self._least(pool), branches=branches)
                clock.tell("splitting ReLUs", len(pool), self._least(pool))
                self._hurry(time.perf_counter() - begun, clock.left)
                children = self._children(pool.take(max(1, self.batch // 2)))
            if isinstance(children, Finding):
                return Finding(children.status, children.reason, children.x, children.bound, branches)
            answered = self._bounded(children)

    def _exhausted(self, branches: int) -> Finding:
        if self.hopeless is not None:
            return Finding(
                "open", "a subproblem without open ReLUs is undecided", bound=self.hopeless, branches=branches
            )
        return Finding("proven", "no phases hold a counterexample", branches=branches)

    def _hurry(self, seconds: float, left: float) -> None:
        """Where the search takes long and enough time is left, go on with a compiled program."""
        if self.program.engine == "jax" or seconds < LATER or left < LATER_LEFT or not self.may_compile:
            return
        self.may_compile = False
        self.batch = min(LATER_BATCH, self.most)
        self.program = self._program("jax", "float32")

    def _least(self, pool: Pool[Nodes]) -> float | None:
        known = [bound for bound in (pool.worst, self.hopeless) if bound is not None]
        return min(known) if known else None

    def _root(self) -> Nodes:
        owner = self.margins.owner
        count = self.margins.polyhedra
        mixture = (owner[None, :] == np.arange(count)[:, None]).astype(np.float64)
        mixture /= mixture.sum(axis=1, keepdims=True)
        nothing = np.zeros((count, self.program.neurons), dtype=np.float32)
        bound = np.full(count, -np.inf)
        return Nodes(
            mixture, nothing.astype(np.int8), nothing, nothing, nothing, bound, np.arange(count, dtype=np.int32)
        )

    def _bounded(self, nodes: Nodes) -> tuple[Nodes, Answer]:
        warm = bool(np.isfinite(nodes.bound).any())
        program = self.small if len(nodes.bound) <= SMALL else self.program
        answer = program(nodes.mixture, nodes.signs, *((nodes.slopes, nodes.betas) if warm else (None, None)))
        bound = np.maximum(answer.bound, nodes.bound)
        result = Nodes(
            self._remixed(nodes, answer), nodes.signs, answer.slopes, answer.betas, answer.score, bound, nodes.owner
        )
        return result, answer

    def _remixed(self, nodes: Nodes, answer: Answer) -> Floats:
        """Turn mixtures towards the rows that are high at the minimiser: these can still stay above 0."""
        mine = self.margins.owner[None, :] == nodes.owner[:, None]
        if (mine.sum(axis=1) == 1).all():
            return nodes.mixture
        rows = self.margins.graph(answer.x)
        spread = np.where(mine, np.abs(rows), 0.0).max(axis=1, keepdims=True) + 1e-12
        moved = nodes.mixture * np.exp(np.clip(MIXING * rows / spread, -50, 50)) * mine
        moved = 0.98 * moved / moved.sum(axis=1, keepdims=True) + 0.02 * mine / mine.sum(axis=1, keepdims=True)
        return np.asarray(moved)

    def _candidate(self, answer: Answer) -> Floats | None:
        # The reduced network is the same function, and smaller; the whole one has the last word on rounding.
        least = self.margins.least(self.reduced.graph(answer.x)).min(axis=1)
        worst = np.argsort(least, kind="stable")[:TRIED]
        return self.margins.candidate(answer.x[worst]) if least[worst[0]] <= 0 else None

    def _children(self, parents: Nodes) -> Nodes | Finding | None:
        """Both phases of the ReLU with the highest score, after a linear program if none has one; None: all proven."""
        score = parents.score.copy()
        stuck = np.flatnonzero(score.max(axis=1, initial=0.0) <= 0)
        done = np.zeros(len(score), dtype=bool)
        for index in stuck:
            decided = self._leaf(parents.chosen(slice(index, index + 1)))
            if isinstance(decided, Finding):
                return decided
            left = parents.signs[index] == 0
            done[index] = decided or not left.any()
            if not decided and not left.any():
                bound = float(parents.bound[index])
                self.hopeless = bound if self.hopeless is None else min(self.hopeless, bound)
            score[index, left] = 1.0
        parents, score = parents.chosen(~done), score[~done]
        each = np.arange(len(score))
        if not each.size:
            return None
        neuron = score.argmax(axis=1)
        twice = parents.chosen(np.concatenate([each, each]))
        signs = twice.signs.copy()
        signs[each, neuron], signs[each + len(each), neuron] = 1, -1
        return replace(twice, signs=signs)

    def _leaf(self, node: Nodes) -> Finding | bool:
        """Whether multipliers of the linear program that the assumed phases leave prove the node; or a candidate."""
        if self.smooth:
            return False
        mine = self.margins.owner == node.owner[0]
        program = leaf_multipliers(self.reduced, self.region, node.signs[0], mine)
        if program.x is not None and (x := self.margins.candidate(program.x[None])) is not None:
            return Finding("found", "a linear program over fixed phases is unsafe", x)
        if program.mixture is None or program.betas is None:
            return False
        return bool(self.small(program.mixture[None], node.signs, node.slopes, program.betas[None]).bound[0] > 0)
