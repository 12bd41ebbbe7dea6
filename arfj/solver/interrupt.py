"""Ctrl-C while a solver works: neither lost in its C code nor announced on stdout, where only the answer may stand.

And an end to waiting: a solver that does not come back long after it should have is given up.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable

from arfj.solver.record import EnoughError, Progress, Solution, Step

POLL = 0.1
"""Seconds between two looks at the solver's thread."""

GRACE = 60.0
"""Seconds that a solver may take to come back after its time limit, or after it was asked to stop."""


class NotBackError(Exception):
    """A solver was given up: its thread still runs, so nothing that it uses may be touched or freed.

    Attributes:
        reason: why, in words.
        interrupted: whether the user had asked it to stop.
        watched: given to the thread, so that `watched.kept` lives as long as it does.
    """

    def __init__(self, watched: Watched, interrupted: bool, asked: bool, seconds: float) -> None:
        self.watched = watched
        self.interrupted = interrupted
        after = "it was asked to stop" if asked else "its time limit"
        self.reason = f"given up: the solver did not come back within {seconds:.0f} s after {after}"
        super().__init__(self.reason)

    def solution(self, seconds: float) -> Solution:
        """What is known then: nothing.

        Raises:
            Exception: that of the progress callback, where it was why the solver had to stop (`EnoughError` apart).
        """
        if isinstance(self.__cause__, Exception) and not isinstance(self.__cause__, EnoughError):
            raise self.__cause__
        return Solution("unknown", self.reason, None, None, -math.inf, 0, seconds, self.interrupted)


class Watched:
    """A progress callback that may raise: the solve is stopped, and what was raised is kept for `run_interruptible`.

    Args:
        progress: who is told.
        stop: asks the solver to stop; may be called from any thread, more than once.
    """

    def __init__(self, progress: Progress | None, stop: Callable[[], None]) -> None:
        self.progress = progress
        self.stop = stop
        self.raised: BaseException | None = None
        self.kept: object = None

    def __call__(self, step: Step) -> None:
        """Tell, unless telling failed before. Nothing may be raised into a solver's C code: it would be lost."""
        if self.progress is None or self.raised is not None:
            return
        try:
            self.progress(step)
        except BaseException as error:
            self.raised = error
            self.stop()


def run_interruptible(
    work: Callable[[], object], watched: Watched, seconds: float = math.inf, grace: float = GRACE
) -> bool:
    """Run `work` in a thread while this one listens for Ctrl-C, then stops the solver and waits for it.

    Args:
        work: runs the solver.
        watched: its progress callback, and the way to stop it.
        seconds: the time limit that the solver was given.
        grace: what it may take longer than that, or after it was asked to stop, before it is given up.

    Returns:
        Whether the user interrupted, here or out of the progress callback.

    Raises:
        NotBackError: the solver was given up.
    """
    interrupted = False
    failures: list[BaseException] = []
    # Lists, not events: Ctrl-C between the two halves of a wait leaves an event's lock locked, for the thread as well.
    begun: list[bool] = []
    over: list[bool] = []
    latest = time.monotonic() + seconds + grace

    def guarded() -> None:
        begun.append(True)
        try:
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            over.append(True)
            bell.release()

    bell = threading.Lock()
    bell.acquire()
    try:
        threading.Thread(target=guarded, name="solver", daemon=True).start()
    except KeyboardInterrupt:
        interrupted = True
        latest = time.monotonic() + grace
        if not _within(1.0, begun):
            raise
    while not over:
        try:
            _listen()
            asked = interrupted or watched.raised is not None
            if asked:
                latest = min(latest, time.monotonic() + grace)
                watched.stop()  # again and again: a solver that has not begun yet forgets the wish
            if time.monotonic() > latest:
                stopped = interrupted or isinstance(watched.raised, KeyboardInterrupt)
                raise NotBackError(watched, stopped, asked, grace) from watched.raised
            bell.acquire(timeout=POLL)  # not Thread.join: interrupted, it may take a running thread for a finished one
        except KeyboardInterrupt:
            interrupted = True
    for error in (watched.raised, *failures):
        if isinstance(error, KeyboardInterrupt):
            interrupted = True
        elif error is not None and not isinstance(error, EnoughError):
            raise error
    return interrupted


def _within(seconds: float, sign: list[bool]) -> bool:
    """Whether the list fills in this time."""
    latest = time.monotonic() + seconds
    while not sign and time.monotonic() < latest:
        time.sleep(0.01)
    return bool(sign)


def _listen() -> None:
    """Take Ctrl-C back from a library that installs its own handler while it works (Gurobi: it prints on stdout)."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)
