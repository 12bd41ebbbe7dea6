"""What an attack says of itself while it runs: the live line shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Progress:
    """One moment of one attack.

    Attributes:
        image: which image is at work, 1..images.
        images: how many there are.
        label: what the image is called in tables and file names.
        phase: what is being done, in a word or two ("search", "bounding", "tightening", "proof").
        incumbent: L1 distance of the best answer so far, or None.
        bound: proven lower bound on the least distance so far, or None.
        nodes: branch-and-bound nodes so far.
        elapsed: seconds since this image was begun.
        limit: the time limit of this image in seconds; infinite where there is none.
    """

    image: int
    images: int
    label: str
    phase: str
    incumbent: float | None = None
    bound: float | None = None
    nodes: int = 0
    elapsed: float = 0.0
    limit: float = float("inf")

    @property
    def gap(self) -> float | None:
        """(incumbent - bound) / max(incumbent, 1e-9), or None as long as one of them is missing."""
        if self.incumbent is None or self.bound is None:
            return None
        return max(0.0, self.incumbent - self.bound) / max(self.incumbent, 1e-9)

    @property
    def remaining(self) -> float:
        """Seconds left until the limit, at least 0."""
        return max(0.0, self.limit - self.elapsed)


Watcher = Callable[[Progress], object]
"""Whoever is told of the progress; what it returns is ignored."""
