"""Which questions the transfer study asks, and their rows' keys."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from arfj.question import Question
from experiments.studies import Scale
from experiments.transfer.subject import Subject

ALPHAS = (0, 1, 2, 5, 10, 20)
ALPHA, GAMMA = 5, 0.2
GAMMAS = (0.0, 0.2, 1.0)
PAPER, LIKELIEST = "paper", "likeliest"
"""Targets: the class before the true one, cyclic; the most likely one of the others, by the nominal network."""
EXACT = "exact"
SMOKE_ALPHAS = (0, 1)


@dataclass(frozen=True)
class Asked:
    """A question of the study by its numbers.

    Attributes:
        image: its position in the subject.
        alpha: sampled networks in the attack.
        gamma: relative margin.
        goal: which target.
    """

    image: int
    alpha: int = ALPHA
    gamma: float = GAMMA
    goal: str = PAPER

    def target(self, subject: Subject) -> int:
        """The class to reach."""
        before = int((subject.labels[self.image] - 1) % subject.classes)
        return subject.likeliest(self.image, before) if self.goal == LIKELIEST else before

    def question(self, subject: Subject) -> Question:
        """With image and networks."""
        true = int(subject.labels[self.image])
        return Question(
            subject.images[self.image], true, self.target(subject), subject.ensemble(self.alpha), self.gamma
        )

    def key(self, method: str = EXACT) -> str:
        """Of the row of a method's answer."""
        return f"transfer/{method}/{self.goal}/gamma{self.gamma:g}/alpha{self.alpha}/{self.image:02d}"

    def facts(self, subject: Subject, method: str = EXACT) -> dict[str, Any]:
        """What a row says of its question."""
        return {
            "study": "transfer",
            "method": method,
            "goal": self.goal,
            "position": self.image,
            "index": int(subject.indices[self.image]),
            "true": int(subject.labels[self.image]),
            "target": self.target(subject),
            "alpha": self.alpha,
            "gamma": self.gamma,
        }


def alphas(subject: Subject, scale: Scale) -> tuple[int, ...]:
    """Those that the subject has networks for."""
    wanted = SMOKE_ALPHAS if scale.size == "smoke" else ALPHAS
    return tuple(alpha for alpha in wanted if alpha < len(subject.attack))


def standard(subject: Subject, scale: Scale) -> int:
    """The alpha at which all else is compared: 5, or the largest one there is."""
    return min(ALPHA, max(alphas(subject, scale)))


def questions(subject: Subject, scale: Scale) -> Iterator[Asked]:
    """All of them: alpha grows, then gamma changes, then the second target on one image a class."""
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
