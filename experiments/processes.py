"""Processes that experiments measure: in a group of their own, of which nothing is left afterwards."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence

from experiments.tables import HERE


@contextlib.contextmanager
def group(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """The command in the repository's folder, its output in pipes; it and its own processes are ended at the end."""
    process = subprocess.Popen(  # noqa: S603 - what the caller names
        command,
        env=environment,
        cwd=HERE.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):  # its workers, too, where it has ended itself
                os.killpg(process.pid, signal.SIGKILL)
            if process.poll() is None:
                process.communicate()
