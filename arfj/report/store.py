"""`results.jsonl`: one row an answer, from which a killed run resumes.

Rows are only ever appended, each in one write under a lock, so that several processes may share the file. The last row
of a key counts. A run that is killed in the middle of a write leaves half a line: readers skip it, and the next writer
cuts it off.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from arfj.errors import ArfjError
from arfj.files import write_error

if sys.platform != "win32":
    import fcntl

PROVEN = ("optimal", "infeasible")
"""Statuses that no more time can change."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Store:
    """The rows of `path`, which need not exist yet.

    Every row holds `key` (a hash of the inputs and options that decide the answer, made by the caller), `time_limit`
    (seconds, null for none) and what the caller stores, `status` among it.
    """

    path: Path

    def rows(self) -> list[Row]:
        """All complete rows, oldest first.

        Raises:
            ArfjError: the file exists and cannot be read.
        """
        try:
            text = self.path.read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return []
        except OSError as error:
            raise ArfjError(f"cannot read {self.path}: {error.strerror}; choose another folder") from error
        return [row for row in map(_parse, text.split("\n")) if row is not None]

    def find(self, key: str) -> Row | None:
        """The last row of `key`, or None."""
        return next((row for row in reversed(self.rows()) if row["key"] == key), None)

    def settled(self, key: str, time_limit: float) -> Row | None:
        """The last row of `key` if solving again could not better it: it is proven, or had at least this much time."""
        row = self.find(key)
        if row is None or row.get("status") in PROVEN:
            return row
        given = row.get("time_limit")
        return row if given is None or (isinstance(given, (int, float)) and given >= time_limit) else None

    def append(self, key: str, time_limit: float, row: Mapping[str, Any]) -> None:
        """Add a row; when this returns it is on the disk.

        Raises:
            ArfjError: the file cannot be written, or the disk is full; the file is then as it was before.
        """
        entry = _finite({**row, "key": key, "time_limit": time_limit})
        line = json.dumps(entry, allow_nan=False).encode() + b"\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with _locked(self.path) as descriptor:
                _cut_half_line(descriptor)
                _write_whole(descriptor, line)
        except OSError as error:
            raise write_error(self.path, error) from error


def _parse(line: str) -> Row | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and isinstance(row.get("key"), str) else None


def _finite(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """`value` with null for NaN and infinity, which JSON does not know."""
    match value:
        case float() if not math.isfinite(value):
            return None
        case dict():
            return {name: _finite(item) for name, item in value.items()}
        case list() | tuple():
            return [_finite(item) for item in value]
        case _:
            return value


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    """Open `path` for appending, alone among all processes (on Windows, which has no flock, merely opened)."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if sys.platform != "win32":
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _cut_half_line(descriptor: int) -> None:
    """Cut off what stands behind the last line break, left by a killed run."""
    end = os.lseek(descriptor, 0, os.SEEK_END)
    at, tail = end, b""
    while at > 0 and b"\n" not in tail:
        at = max(0, at - 4096)
        os.lseek(descriptor, at, os.SEEK_SET)
        tail = os.read(descriptor, 4096)
    keep = at + tail.rfind(b"\n") + 1
    if keep < end:
        os.ftruncate(descriptor, keep)


def _write_whole(descriptor: int, line: bytes) -> None:
    """Append `line` in one write; take back what a full disk let through."""
    before = os.lseek(descriptor, 0, os.SEEK_END)
    try:
        written = os.write(descriptor, line)
        if written < len(line):
            os.write(descriptor, line[written:])
        os.fsync(descriptor)
    except OSError:
        os.ftruncate(descriptor, before)
        raise
