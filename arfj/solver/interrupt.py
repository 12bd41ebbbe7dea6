"""Ctrl-C while a solver works: neither lost in its C code nor announced on stdout, where only the answer may stand."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable

from arfj.solver.record import Progress, Step

POLL = 0.1
"""Seconds between two looks at the solver's thread."""


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

    def __call__(self, step: Step) -> None:
        """Tell, unless telling failed before. Nothing may be raised into a solver's C code: it would be lost."""
        if self.progress is None or self.raised is not None:
            return
        try:
            self.progress(step)
        except BaseException as error:
            self.raised = error
            self.stop()


def run_interruptible(work: Callable[[], object], watched: Watched) -> bool:
    """Run `work` in a thread while this one listens for Ctrl-C, then stops the solver and waits for it.

    Returns:
        Whether the user interrupted, here or out of the progress callback.
    """
    interrupted = False
    failures: list[BaseException] = []
    begun, over = threading.Event(), threading.Event()

    def guarded() -> None:
        begun.set()
        try:
            work()
        except BaseException as error:
            failures.append(error)
        finally:
            over.set()

    try:
        threading.Thread(target=guarded, name="solver", daemon=True).start()
    except KeyboardInterrupt:
        if not begun.wait(1.0):
            raise
        interrupted = True
    while not over.is_set():
        try:
            _listen()
            if interrupted or watched.raised is not None:
                watched.stop()  # again and again: a solver that has not begun yet forgets the wish
            over.wait(POLL)  # not Thread.join: interrupted, it may take a running thread for a finished one
        except KeyboardInterrupt:
            interrupted = True
    for error in (watched.raised, *failures):
        if isinstance(error, KeyboardInterrupt):
            interrupted = True
        elif error is not None:
            raise error
    return interrupted


def _listen() -> None:
    """Take Ctrl-C back from a library that installs its own handler while it works (Gurobi: it prints on stdout)."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, handler)
