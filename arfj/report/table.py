"""The table of a run: one row an image, printed the moment it is finished, and a line that sums up."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

import numpy as np
from rich.text import Text

from arfj.attack.result import AttackResult, Status
from arfj.cli import answer_console

STYLES: dict[Status, str] = {"optimal": "green", "feasible": "yellow", "infeasible": "cyan", "unknown": "red"}
_WIDTHS = (("distance", 10), ("bound", 10), ("gap %", 8), ("seconds", 9), ("nodes", 8))


@dataclass(frozen=True)
class AttackTable:
    """Prints rows of fixed widths, so that it can stream; colours on a terminal only.

    Attributes:
        labels: what the images are called (`AttackResult.label`), known beforehand to fix the width of that column.
        class_names: one name a class, or None to print class numbers.
        stream: where to print; stdout unless a test says otherwise.
    """

    labels: Sequence[str] = ()
    class_names: Sequence[str] | None = None
    stream: IO[str] = field(default_factory=lambda: sys.stdout)

    def header(self) -> str:
        """The names of the columns."""
        numbers = " ".join(name.rjust(width) for name, width in _WIDTHS)
        names = f"{'image'.ljust(self._label_width)}  {'true -> target'.ljust(self._pair_width)}"
        return f"{names} {numbers}  {'status':<10}  replay"

    def row(self, result: AttackResult) -> str:
        """One result; the reason of an unproven answer stands behind the last column."""
        values = (
            _number(result.distance, 5),
            _number(result.bound, 5),
            _number(None if result.gap is None else 100 * result.gap, 3),
            _number(result.seconds, 1),
            str(result.nodes),
        )
        numbers = " ".join(value.rjust(width) for value, (_, width) in zip(values, _WIDTHS, strict=True))
        pair = f"{class_name(result.true, self.class_names)} -> {class_name(result.target, self.class_names)}"
        line = (
            f"{result.label.ljust(self._label_width)}  {pair.ljust(self._pair_width)} {numbers}  "
            f"{result.status:<10}  {_verdict(result):<6}  {result.reason}"
        )
        return line.rstrip()

    def start(self) -> None:
        """Print the header."""
        self._print(Text(self.header(), style="bold"))

    def add(self, result: AttackResult) -> None:
        """Print one finished row."""
        text = Text(self.row(result))
        text.highlight_words([result.status], style=STYLES[result.status])
        self._print(text)

    def finish(self, results: Sequence[AttackResult], seconds: float | None = None) -> None:
        """Print the closing line."""
        self._print(Text(summary(results, seconds), style="bold"))

    @property
    def _label_width(self) -> int:
        return max(map(len, ("image", *self.labels)))

    @property
    def _pair_width(self) -> int:
        longest = max(map(len, self.class_names)) if self.class_names else 2
        return max(len("true -> target"), 2 * longest + len(" -> "))

    def _print(self, text: Text) -> None:
        # No wrapping: a row is a line, for grep and for files. The console flushes, so that rows stream.
        answer_console(file=self.stream, highlight=False).print(text, soft_wrap=True)


def class_name(label: int, class_names: Sequence[str] | None) -> str:
    """The name of a class, its number where there is none."""
    return class_names[label] if class_names and label < len(class_names) else str(label)


def summary(results: Sequence[AttackResult], seconds: float | None = None) -> str:
    """How many images ended how, how many answers the replay confirmed, and the largest gap, in one line.

    Args:
        results: the rows; any number.
        seconds: wall clock of the run; the sum over the rows where it is not given.
    """
    counts = {status: sum(result.status == status for result in results) for status in STYLES}
    answers = [result for result in results if result.distance is not None]
    hits = sum(result.replay is not None and result.replay.hit for result in answers)
    parts = [", ".join(f"{count} {status}" for status, count in counts.items() if count) or "nothing solved"]
    if answers:
        gap = max(100 * (result.gap or 0.0) for result in answers)
        mean = np.mean([result.distance for result in answers])
        parts += [
            f"{hits} of {len(answers)} answers hit on replay",
            f"mean distance {mean:.5f}",
            f"largest gap {gap:.3f} %",
        ]
    total = sum(result.seconds for result in results) if seconds is None else seconds
    return f"{len(results)} image{'' if len(results) == 1 else 's'}: {'; '.join(parts)}; {total:.1f} s"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.{digits}f}"


def _verdict(result: AttackResult) -> str:
    if result.replay is None:
        return "-"
    word = "hit" if result.replay.hit else "MISS"
    return f"{word} {result.fooled}/{result.scenarios}" if result.demand.soft(result.scenarios) else word
