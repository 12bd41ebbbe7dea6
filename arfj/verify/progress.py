"""A verification's progress in one line on a terminal, and Ctrl-C that is never lost."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

from arfj.cli import status_line
from arfj.verify.search import Progress, Step


@contextmanager
def watched(seconds: float) -> Iterator[Progress]:
    """The progress callback of a command that has `seconds`.

    C code that calls back into Python (JAX does, when garbage is collected) may swallow the exception of Ctrl-C. It is
    raised again at the next report then.
    """
    pressed = threading.Event()
    with status_line("reading") as tell, _noted(pressed):
        show = telling(tell, seconds)

        def progress(step: Step) -> None:
            if pressed.is_set():
                raise KeyboardInterrupt
            show(step)

        yield progress


@contextmanager
def _noted(pressed: threading.Event) -> Iterator[None]:
    """Ctrl-C sets `pressed` before it raises its exception."""
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is not signal.default_int_handler:
        yield
        return

    def press(number: int, frame: FrameType | None) -> None:
        pressed.set()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def telling(tell: Callable[[str], None], seconds: float) -> Progress:
    """A progress callback that says where the search is, and how much of the `seconds` is left."""

    def show(step: Step) -> None:
        worst = "" if step.worst is None else f", worst bound {step.worst:.4g}"
        left = max(0.0, seconds - step.seconds)
        tell(f"{step.stage}: {step.open} open{worst}, {step.branches} branches, {left:.0f} s left")

    return show
