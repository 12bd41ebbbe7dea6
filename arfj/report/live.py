"""The live line on stderr: what is being solved, how far it is and how long it may still take."""

from __future__ import annotations

import contextlib
import math
import sys
import time
from collections.abc import Iterator
from types import TracebackType

from rich.console import Console
from rich.live import Live
from rich.text import Text

from arfj.attack.progress import Progress


def describe(progress: Progress, since: float = 0.0) -> str:
    """One moment of one attack in one line; `since` seconds have passed after it was reported."""
    # What matters most stands first: a narrow terminal cuts the end off.
    left = f"{duration(max(0.0, progress.remaining - since))} left" if math.isfinite(progress.limit) else ""
    parts = [f"{progress.image}/{progress.images} {progress.label}", left or duration(progress.elapsed + since)]
    if progress.incumbent is not None:
        parts.append(f"distance {progress.incumbent:.4f}")
    if progress.bound is not None:
        parts.append(f"bound {progress.bound:.4f}")
    if progress.gap is not None:
        parts.append(f"gap {100 * progress.gap:.1f} %")
    parts.append(progress.phase)
    if progress.nodes:
        parts.append(f"{progress.nodes} nodes")
    return "  ".join(parts)


def describe_count(done: int, total: int, elapsed: float) -> str:
    """`done` of `total` images after `elapsed` seconds, with the time that the others take at this pace."""
    line = f"{done} of {total} images done  {duration(elapsed)}"
    return f"{line}  about {duration(elapsed / done * (total - done))} left" if 0 < done < total else line


def duration(seconds: float) -> str:
    """12 s, 3:05 min or 1:02:03 h."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d} h"


class LiveLine:
    """A context manager that keeps one line up to date on stderr; silent when stderr is no terminal.

    The clock in the line runs on between two reports. Print anything else inside `aside`, or the two would mix.
    """

    def __init__(self) -> None:
        self._start = self._told = time.monotonic()
        self._state: Progress | tuple[int, int] | None = None
        console = Console(stderr=True)
        shown = sys.stderr.isatty() and not console.is_dumb_terminal
        # stdout is not redirected: the answer printed there must not end up on stderr.
        self._live = (
            Live(
                get_renderable=self._line,
                console=console,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )
            if shown
            else None
        )

    def __enter__(self) -> LiveLine:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    def update(self, progress: Progress) -> None:
        """Show this moment of the attack at work."""
        self._state, self._told = progress, time.monotonic()

    def count(self, done: int, total: int) -> None:
        """Show how many of the images are done (when they are solved in parallel)."""
        self._state, self._told = (done, total), time.monotonic()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Take the line away while something else is printed."""
        if self._live is None:
            yield
            return
        self._live.stop()
        try:
            yield
        finally:
            self._live.start()

    def _line(self) -> Text:
        now = time.monotonic()
        match self._state:
            case None:
                line = ""
            case Progress() as progress:
                line = describe(progress, now - self._told)
            case (done, total):
                line = describe_count(done, total, now - self._start)
        return Text(line, style="dim", no_wrap=True, overflow="ellipsis")
