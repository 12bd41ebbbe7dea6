r"""Which ReLU SCIP branches on: gains per unit of what a phase takes away, compared by the trees that they promise.

In the relaxation a neuron may have y > 0 and s > 0 at once; its binary lies anywhere in between, so its fraction says
little. What counts is what a child takes away: "off" forces y to 0, "on" forces s to 0. With d the objective's gain,

    cost_off(j) = mean of d / y_j,   cost_on(j) = mean of d / s_j        over the branchings and look-aheads seen so far

predict the gains g_off = cost_off y_j and g_on = cost_on s_j. Candidates are compared by the growth rate c > 0 with

    exp(-c g_off) + exp(-c g_on) = 1:

a tree of such branchings that closes a gap G has about exp(c G) leaves (Le Bodic & Nemhauser, Math. Program. 166,
2017).
The children's linear programs are solved beforehand where a neuron was seen less than `RELIABLE` times, and at every
node below which more than exp(`LARGE`) leaves are predicted: there a better choice is worth the programs.

Which neuron is branched on changes no bound. A child that the look-ahead finds closed is closed by SCIP's own word, as
it is in SCIP's own rules; whatever goes wrong in here, these take over.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyscipopt import Branchrule, Model
from pyscipopt.scip import PY_SCIP_LPSOLSTAT as SCIP_LPSOLSTAT
from pyscipopt.scip import PY_SCIP_RESULT as SCIP_RESULT

from arfj.network import Floats

RELIABLE = 8
"""A neuron seen so often in both directions is trusted."""
LARGE = 5.0
"""log of the predicted leaves from which on children are solved beforehand, trusted or not."""
LOOK_AHEAD = 2
"""So many candidates in turn that do not beat the best one end the look-ahead."""
ITERATIONS = 100
"""Simplex iterations of one child, at most."""
OPEN = 1e-7
"""A neuron is open where min(y, s) is above this, and its binary farther than `FRACTION` from 0 and 1."""
FRACTION = 1e-8
LEAST_GAIN = 1e-6
INFINITE = 1e15
PRIORITY = 1_000_000
MOST_WAITING = 200_000

Answer = dict[str, Any]


def growth(down: Floats, up: Floats) -> Floats:
    """c > 0 with exp(-c down) + exp(-c up) = 1, for arrays of positive gains.

    With q the ratio of the gains, t = c min(down, up) solves f(t) = exp(-t) + exp(-q t) - 1 = 0. f is convex and
    decreasing, so that Newton's steps approach the root from the left. They begin at 67 to 100 % of it, whatever q is.
    """
    least = np.minimum(down, up)
    ratio = np.maximum(down, up) / least
    t = np.log1p(ratio / (1.0 + np.log1p(ratio))) / ratio
    for _ in range(4):
        first, second = np.exp(-t), np.exp(-ratio * t)
        t = t + (first + second - 1.0) / (first + ratio * second)
    return np.asarray(t / least)


class Costs:
    """Mean gains per unit of y (off) and of s (on), neuron by neuron; the mean of all where one was never seen.

    Args:
        count: neurons.
        window: older gains count less and less once a neuron was seen so often, so that the mean follows the search.
    """

    def __init__(self, count: int, window: float = np.inf) -> None:
        self.window = window
        self.total = np.zeros((2, count))
        self.seen = np.zeros((2, count), dtype=np.intp)

    def note(self, side: int, neuron: int, gain: float, amount: float) -> None:
        """What fixing a neuron off (side 0) or on (side 1) gained, which took `amount` away."""
        if self.seen[side, neuron] < self.window:
            self.seen[side, neuron] += 1
        else:
            self.total[side, neuron] *= 1.0 - 1.0 / self.window
        self.total[side, neuron] += gain / max(amount, OPEN)

    def of(self, neurons: NDArray[np.intp]) -> Floats:
        """Shape (2, neurons)."""
        means = self.total.sum(axis=1) / np.maximum(self.seen.sum(axis=1), 1)
        seen = self.seen[:, neurons]
        known = self.total[:, neurons] / np.maximum(seen, 1)
        return np.where(seen > 0, known, np.where(means > 0, means, 1.0)[:, None])

    def reliable(self, neuron: int) -> bool:
        """Whether it was seen often enough in both directions."""
        return bool(self.seen[:, neuron].min() >= RELIABLE)


class PhaseRule(Branchrule):
    """The rule of the module's docstring.

    Args:
        neurons: the columns (y, s, z) of every neuron that has a binary.

    Attributes:
        failure: what went wrong in here, where anything did.
    """

    def __init__(self, neurons: Sequence[tuple[Any, Any, Any]]) -> None:
        self.given = neurons
        self.failure = ""
        self.made = False
        self.waiting: dict[int, tuple[int, int, float, float]] = {}

    def include(self, model: Model) -> None:
        """Let the model branch by this rule."""
        model.includeBranchrule(self, "phases", "ReLU phases by promised tree size", PRIORITY, -1, 1.0)

    def branchinitsol(self) -> None:
        """Before the search: the columns as SCIP's search knows them."""
        turned = [[self.model.getTransformedVar(one) for one in columns] for columns in zip(*self.given, strict=True)]
        self.y, self.s, self.z = turned
        self.costs = Costs(len(self.z))
        self.waiting.clear()

    def branchexeclp(self, allowaddcons: bool) -> Answer:
        """Branch, close a child, or leave it to SCIP's own rules."""
        self.made = False
        try:
            return self.decided()
        except Exception as error:  # none can pass through SCIP: its own rules take over, unless children are there
            self.failure = repr(error)
            return {"result": SCIP_RESULT.BRANCHED if self.made else SCIP_RESULT.DIDNOTRUN}

    def branchexecps(self, allowaddcons: bool) -> Answer:
        """Without a linear program: SCIP's own rules."""
        return {"result": SCIP_RESULT.DIDNOTRUN}

    def branchexecext(self, allowaddcons: bool) -> Answer:
        """On external candidates, which there are none of: SCIP's own rules."""
        return {"result": SCIP_RESULT.DIDNOTRUN}

    def decided(self) -> Answer:
        """What is done at the current node."""
        model = self.model
        if model.getLPSolstat() != SCIP_LPSOLSTAT.OPTIMAL:
            return {"result": SCIP_RESULT.DIDNOTRUN}
        value = model.getLPObjVal()
        self.learn(model.getCurrentNode().getNumber(), value)
        amounts = np.array([[one.getLPSol() for one in self.y], [one.getLPSol() for one in self.s]])
        middle = np.array([one.getLPSol() for one in self.z])
        found = np.flatnonzero((amounts.min(axis=0) > OPEN) & (np.minimum(middle, 1.0 - middle) > FRACTION))
        if not found.size:
            return {"result": SCIP_RESULT.DIDNOTRUN}
        gains = np.maximum(self.costs.of(found) * amounts[:, found], LEAST_GAIN)
        rates = growth(gains[0], gains[1])
        order = np.argsort(rates, kind="stable")
        room = model.getCutoffbound() - value
        closer = bool(rates[order[0]] * room > LARGE)
        return self.chosen(found[order], rates[order], amounts, value, closer)

    def learn(self, node: int, value: float) -> None:
        """Note what the branching that made this node has gained."""
        made = self.waiting.pop(node, None)
        if made is not None:
            side, neuron, amount, before = made
            self.costs.note(side, neuron, max(value - before, 0.0), amount)

    def chosen(self, neurons: NDArray[np.intp], rates: Floats, amounts: Floats, value: float, closer: bool) -> Answer:
        """Branch on the neuron of the least growth rate, those that need it looked at beforehand.

        Args:
            neurons: candidates, the most promising first.
            rates: their predicted growth rates.
            amounts: y and s of all neurons.
            value: of the node's linear program.
            closer: whether all candidates are looked at beforehand.
        """
        best, least, children, idle = -1, np.inf, None, 0
        for neuron, predicted in zip(neurons.tolist(), rates.tolist(), strict=True):
            rate, values = predicted, None
            if closer or not self.costs.reliable(neuron):
                if idle >= LOOK_AHEAD:
                    continue
                looked = self.looked_at(neuron, amounts, value)
                if looked is None:
                    idle += 1
                    continue
                if isinstance(looked, dict):
                    return looked
                rate, values = looked
            if rate < least:
                best, least, children, idle = neuron, rate, values, 0
            elif values is not None:
                idle += 1
        return self.branch(best, amounts, value, children) if best >= 0 else {"result": SCIP_RESULT.DIDNOTRUN}

    def looked_at(
        self, neuron: int, amounts: Floats, value: float
    ) -> tuple[float, tuple[float, float]] | Answer | None:
        """Growth rate and children's bounds of a candidate; an answer where a child is closed; None for no result."""
        model, z = self.model, self.z[neuron]
        cutoff = model.getCutoffbound()
        model.startStrongbranch()
        try:
            off, on, off_holds, on_holds, off_closed, on_closed, _, _, failed = model.getVarStrongbranch(z, ITERATIONS)
        finally:
            model.endStrongbranch()
        if failed:
            return None
        gains = [float(max(min(bound, cutoff) - value, LEAST_GAIN)) for bound in (off, on)]
        for side in (0, 1):
            if gains[side] < INFINITE:  # without a cut-off a closed child has no gain to learn from
                self.costs.note(side, neuron, gains[side], float(amounts[side, neuron]))
        off_closed = off_closed or (off_holds and off >= cutoff)
        on_closed = on_closed or (on_holds and on >= cutoff)
        if off_closed and on_closed:
            return {"result": SCIP_RESULT.CUTOFF}
        if off_closed or on_closed:
            empty, moved = model.tightenVarLb(z, 1.0, True) if off_closed else model.tightenVarUb(z, 0.0, True)
            if empty:
                return {"result": SCIP_RESULT.CUTOFF}
            return {"result": SCIP_RESULT.REDUCEDDOM if moved else SCIP_RESULT.DIDNOTRUN}
        rate = float(growth(np.array([gains[0]]), np.array([gains[1]]))[0])
        return rate, (off if off_holds else value, on if on_holds else value)

    def branch(self, neuron: int, amounts: Floats, value: float, children: tuple[float, float] | None) -> Answer:
        """Make both children; their bounds are known, or will be learnt from."""
        off, _, on = self.model.branchVar(self.z[neuron])
        self.made = True
        if len(self.waiting) > MOST_WAITING:
            self.waiting.clear()
        for side, child in enumerate((off, on)):
            if children is not None:
                self.model.updateNodeLowerbound(child, children[side])
            else:
                self.waiting[child.getNumber()] = (side, neuron, float(amounts[side, neuron]), value)
        return {"result": SCIP_RESULT.BRANCHED}
