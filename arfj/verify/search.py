"""What every search for a verdict shares: its limits, how it tells of progress, and what it finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from arfj.network import Floats


@dataclass(frozen=True)
class Step:
    """A search's state while it works.

    Attributes:
        stage: what is being done, in a word or two.
        open: subproblems that are left.
        worst: the least proven bound among them; None where there is none yet.
        branches: subproblems bounded so far.
        seconds: since the beginning of the verification.
    """

    stage: str
    open: int
    worst: float | None
    branches: int
    seconds: float


Progress = Callable[[Step], None]


def silent(_: Step) -> None:
    """No progress."""


@dataclass
class Clock:
    """Time, the wish to stop, and how often progress is told.

    Attributes:
        deadline: `time.perf_counter()` at which to stop.
        begun: when the verification began.
        progress: who is told.
        stop: set by another search that found the answer.
    """

    deadline: float
    begun: float = field(default_factory=time.perf_counter)
    progress: Progress = silent
    stop: threading.Event = field(default_factory=threading.Event)
    branches: int = 0
    _told: float = 0.0

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.perf_counter()

    @property
    def over(self) -> bool:
        """Whether to stop now."""
        return self.left <= 0 or self.stop.is_set()

    def within(self, seconds: float) -> Clock:
        """The same, stopping after `seconds` at the latest."""
        return Clock(min(self.deadline, time.perf_counter() + seconds), self.begun, self.progress, self.stop)

    def tell(self, stage: str, waiting: int, worst: float | None, every: float = 0.2) -> None:
        """Tell of progress, at most five times a second."""
        now = time.perf_counter()
        if now - self._told >= every:
            self._told = now
            self.progress(Step(stage, waiting, worst, self.branches, now - self.begun))


@dataclass(frozen=True, eq=False)
class Finding:
    """What a search found.

    Attributes:
        status: "proven": no counterexample; "found": x is a candidate that is still to be replayed; "open": neither.
        reason: why, in words.
        x: the candidate.
        bound: a proven lower bound of min over x of the least margin; None where there is none.
        branches: subproblems that were bounded.
    """

    status: Literal["proven", "found", "open"]
    reason: str
    x: Floats | None = None
    bound: float | None = None
    branches: int = 0
