"""Processes of tests: none outlives its test, none is waited for without end."""

import contextlib
import os
import signal
import subprocess
import sys

LIMIT = 120
"""Seconds for a process that ends of itself."""


@contextlib.contextmanager
def started(*arguments):
    """Python with these arguments in a process group of its own, which is killed in the end."""
    line = [sys.executable, *map(str, arguments)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(line, **pipes, text=True, start_new_session=True) as process:
        try:
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
