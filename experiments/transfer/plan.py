"""Which questions the transfer study asks, and their rows' keys."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from arfj.question import EVERY, Demand, Question
from experiments.studies import Scale
from experiments.transfer.subject import Subject, digest

ALPHAS = (0, 1, 2, 5, 10, 20)
ALPHA, GAMMA = 5, 0.2
BLOCKS = 5
"""The standard attack with so many disjoint draws of its samples: how much hangs on the draw."""
GAMMAS = (0.0, 0.2, 1.0)
PAPER, LIKELIEST = "paper", "likeliest"
"""Targets: the class before the true one, cyclic; the most likely one of the others, by the nominal network."""
EXACT = "exact"
DEMANDS = (Demand(1 / 2), Demand(2 / 3), Demand(5 / 6), Demand(cvar=0.0), Demand(cvar=1 / 2), Demand(cvar=2 / 3))
"""Less than to fool all: a share of the networks, or the mean of the worst ones."""
SMOKE_ALPHAS = (0, 1)


@dataclass(frozen=True)
class Asked:
    """A question of the study by its numbers.

    Attributes:
        image: its position in the subject.
        alpha: sampled networks in the attack.
        gamma: relative margin.
        goal: which target.
        demand: how many of the networks.
        block: which samples: the first alpha ones, or a later block of as many.
    """

    image: int
    alpha: int = ALPHA
    gamma: float = GAMMA
    goal: str = PAPER
    demand: Demand = EVERY
    block: int = 0

    def target(self, subject: Subject) -> int:
        """The class to reach."""
        before = int((subject.labels[self.image] - 1) % subject.classes)
        return subject.likeliest(self.image, before) if self.goal == LIKELIEST else before

    def question(self, subject: Subject) -> Question:
        """With image and networks."""
        true = int(subject.labels[self.image])
        networks = subject.ensemble(self.alpha, self.block)
        return Question(subject.images[self.image], true, self.target(subject), networks, self.gamma, self.demand)

    def key(self, subject: Subject, method: str = EXACT) -> str:
        """Of the row of a method's answer: what is asked in words, and a digest of all of it."""
        asked = "".join(f"{name}{value:.3g}/" for name, value in self.demand.as_json().items())
        asked += f"block{self.block}/" if self.block else ""
        words = f"{method}/{self.goal}/gamma{self.gamma:g}/alpha{self.alpha}/{asked}{self.image:02d}"
        return f"transfer/{words}/{self.digest(subject)}"

    def digest(self, subject: Subject) -> str:
        """Of networks, image, classes, margin and demand."""
        question = self.question(subject)
        networks = (network.fingerprint().encode() for network in question.ensemble)
        rest = repr((question.true, question.target, question.gamma, question.demand)).encode()
        return digest(*networks, question.flat.tobytes(), rest)

    def facts(self, subject: Subject, method: str = EXACT) -> dict[str, Any]:
        """What a row says of its question."""
        return {
            "study": "transfer",
            "subject": subject.digest,
            "method": method,
            "goal": self.goal,
            "position": self.image,
            "index": int(subject.indices[self.image]),
            "true": int(subject.labels[self.image]),
            "target": self.target(subject),
            "alpha": self.alpha,
            "gamma": self.gamma,
            "block": self.block,
            **self.demand.as_json(),
        }


def alphas(subject: Subject, scale: Scale) -> tuple[int, ...]:
    """Those that the subject has networks for."""
    wanted = SMOKE_ALPHAS if scale.size == "smoke" else ALPHAS
    return tuple(alpha for alpha in wanted if alpha < len(subject.attack))


def standard(subject: Subject, scale: Scale) -> int:
    """The alpha at which all else is compared: 5, or the largest one there is."""
    return min(ALPHA, max(alphas(subject, scale)))


def questions(subject: Subject, scale: Scale) -> Iterator[Asked]:
    """All of them: alpha grows, gamma changes, on one image a class more."""
    everywhere, some = range(len(subject.images)), subject.first_of_class()
    for alpha in alphas(subject, scale):
        yield from (Asked(image, alpha) for image in everywhere)
    middle = standard(subject, scale)
    for gamma in GAMMAS:
        if gamma != GAMMA:
            yield from (Asked(image, middle, gamma) for image in everywhere)
    if subject.classes > 2:
        for alpha in alphas(subject, scale):
            yield from (Asked(image, alpha, goal=LIKELIEST) for image in some)
    for demand in DEMANDS:
        if demand.soft(1 + middle):  # of two networks, say, the worst third is the worst one
            yield from (Asked(image, middle, demand=demand) for image in some)
    for block in range(1, BLOCKS):
        if middle and (block + 1) * middle < len(subject.attack):
            yield from (Asked(image, middle, block=block) for image in some)


def told(demand: Demand, count: int) -> str:
    """What is asked of `count` networks, in words."""
    if demand.cvar is None:
        least = demand.fooled(count)
        return f"at least {least} of {count}" if least < count else f"all {count}"
    worst = demand.worst(count)
    return "mean of all" if demand.cvar == 0 else f"mean of the worst {worst:g}"


def demand_of(row: Mapping[str, Any]) -> Demand:
    """What a row asked of its networks."""
    return Demand(row.get("share") or 1.0, row.get("cvar"))


def order(demand: Demand) -> tuple[bool, float]:
    """Shares first, and what asks for more last."""
    return demand.cvar is not None, demand.share if demand.cvar is None else demand.cvar
