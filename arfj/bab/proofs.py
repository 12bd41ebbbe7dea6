r"""What closed one node may close others: proofs that are kept, and the phases that they imply.

The multipliers lambda that close a node bound the objective of every other node as well. Off (y = 0) or on (s = 0), a
neuron's row y / u + s / (-l) <= 1 says no more than its bounds do; without it, with mu its multiplier and r the reduced
costs, the neuron's share in the bound is at most

    e_off = max(0, r_s (-l) + mu),   e_on = max(0, r_y u + mu),

and with the larger of both where its phase is open, as one of the two it has,

    objective <= B - sum over the phases held of D,   D = max(e_off, e_on) - e   (0 on one side of every neuron).

A node is closed once this is at its target or below, and a phase whose D would bring it there is not that of any point
that counts: the other one is implied. What is learnt in one part of a search so carries over to all others, and to
later searches with the same objective. Dual proofs of this kind are known from conflict analysis in mixed-integer
programming (Witzig, Berthold & Heinz, CPAIOR 2017).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from arfj.bab import kernels
from arfj.bab.relaxation import ROUNDING, Relaxation
from arfj.conflicts import Phases
from arfj.encoding.problem import Indices
from arfj.network import Floats

FEW, EVERY = 50, 50
"""So many proofs say which neurons matter, and so many new ones say it anew."""
TINY = 1e-12
RECENT = 100
"""A proof that was of use counts as so many keepings younger than it is."""


Kept = tuple[float, Floats, float]
"""A proof: B, D (2 times the neurons), and by how much of the target B may exceed it."""


class Proofs:
    """The proofs of one relaxation and objective.

    Args:
        relaxation: the linear program.
        room: proofs kept; a new one then takes the place of the one that was kept or of use longest ago.

    Attributes:
        gains: D, (2 times the neurons, room): off, then on; a column a proof.
        new: those that were kept since it was emptied, where it is a list.
    """

    def __init__(self, relaxation: Relaxation, room: int) -> None:
        self.relaxation = relaxation
        self.neurons = len(relaxation.neurons)
        self.room = room
        self.count = self.clock = 0
        self.totals = np.zeros(room)
        self.gains = np.zeros((2 * self.neurons, room))
        self.largest = np.zeros(room)
        self.of_objective = np.zeros(room)
        self.used = np.zeros(room)
        self.said: tuple[int, Floats] | None = None
        self.asked: tuple[int, float, Floats] | None = None
        self.new: list[Kept] | None = None

    def keep(self, phases: Phases, target: float) -> None:
        """Keep the proof behind the relaxation's last bound, if it closes the node with these phases."""
        behind = self.relaxation.behind
        if behind is None:
            return
        total, gains = self.relaxation.by_phase(behind)
        gains = gains.ravel()
        of_objective = float(behind.of_objective)
        needed = total - of_objective * target
        if not np.isfinite(needed) or needed <= 0 or gains[self._literals(phases)].sum() < needed:
            return
        self.add((total, gains, of_objective))
        if self.new is not None:
            self.new.append((total, gains, of_objective))

    def add(self, kept: Kept) -> None:
        """Keep a proof of this relaxation and objective."""
        total, gains, of_objective = kept
        self.clock += 1
        place = self.count if self.count < self.room else int(np.argmin(self.used))
        self.count = min(self.room, self.count + 1)
        self.totals[place], self.gains[:, place], self.of_objective[place] = total, gains, of_objective
        self.largest[place], self.used[place] = gains.max(), self.clock

    def kept(self) -> list[Kept]:
        """All of them."""
        numbers = range(self.count)
        return [(float(self.totals[k]), self.gains[:, k].copy(), float(self.of_objective[k])) for k in numbers]

    def take(self, other: Proofs, places: Indices, phases: NDArray[np.bool_]) -> None:
        """Begin with the proofs of another relaxation, every point that counts here being one there.

        Args:
            other: its proofs, with the same objective.
            places: the numbers that its neurons have here, or -1 where they are not open any more.
            phases: theirs, then.
        """
        self.count = count = min(other.count, self.room)
        latest = np.argsort(-other.used[: other.count], kind="stable")[:count]
        gains = other.gains[:, latest].reshape(2, other.neurons, count)
        gone, open_ = np.flatnonzero(places < 0), np.flatnonzero(places >= 0)
        mine = np.zeros((2, self.neurons, count))
        mine[:, places[open_]] = gains[:, open_]
        self.gains[:, :count] = mine.reshape(2 * self.neurons, count)
        self.totals[:count] = other.totals[latest] - gains[phases[gone].astype(np.intp), gone].sum(axis=0)
        self.largest[:count] = self.gains[:, :count].max(axis=0, initial=0.0)
        self.of_objective[:count], self.used[:count] = other.of_objective[latest], other.used[latest]
        self.clock, self.asked = other.clock, None

    def implied(self, phases: Phases, target: float) -> Phases | None:
        """These phases and all that they imply for points whose objective is above `target`; None: there are none."""
        neurons = self.neurons
        if not self.count:
            return phases
        literals = [neuron + neurons * on for neuron, on in phases.items()]
        found = kernels.implied(
            self.gains, self.needed(target).copy(), self.largest, self.used, self.clock + RECENT, literals
        )
        if not found:
            return None if found is None else phases
        return {**phases, **{literal % neurons: literal >= neurons for literal in found}}

    def needed(self, target: float) -> Floats:
        """By how much the phases held have to take every proof's B down, so that it closes a node."""
        if self.asked is None or self.asked[:2] != (self.clock, target):
            count = self.count
            needed = self.totals[:count] - self.of_objective[:count] * (target - ROUNDING * abs(target))
            self.asked = self.clock, target, needed
        return self.asked[2]

    def importance(self, target: float) -> Floats | None:
        """How much each neuron's phase matters, at most 1; None where few proofs are known.

        The mean over all proofs of max(D_off, D_on) by what the proof needs, B - target, divided by the largest one.
        """
        count = self.count
        if count < FEW:
            return None
        if self.said is None or self.clock - self.said[0] >= EVERY:
            needed = np.maximum(self.totals[:count] - self.of_objective[:count] * target, TINY)
            shares = (self.gains[:, :count] / needed).reshape(2, self.neurons, count).max(axis=0).mean(axis=1)
            self.said = self.clock, shares / max(float(shares.max()), TINY)
        return self.said[1]

    def _literals(self, phases: Phases) -> Indices:
        """The rows of `gains` that these phases have: a neuron's own number for off, that plus `neurons` for on."""
        return np.array([neuron + self.neurons * on for neuron, on in phases.items()], dtype=np.intp)
