"""Ctrl-C while a command's modules are imported: one line and status 130, until `arfj.cli.run` takes over.

`python -m` imports packages before the command's own file, so this is begun by `arfj` itself; in programs that merely
use it nothing is changed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

OURS = ("arfj", "experiments", "training")
STATUS = 130


def command(argv: Sequence[str], given: Sequence[str]) -> bool:
    """Whether one of our commands is being imported.

    Args:
        argv: `sys.argv`, whose first entry is "-m" as long as that lasts.
        given: `sys.orig_argv`.
    """
    if list(argv[:1]) != ["-m"] or "-m" not in given:
        return False
    module = given[given.index("-m") + 1 :]
    return bool(module) and module[0].split(".")[0] in OURS


def listen() -> None:
    """End the process at Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)


def begun() -> None:
    """From now on Ctrl-C is a KeyboardInterrupt again."""
    if signal.getsignal(signal.SIGINT) is _end:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _end(_signal: int, _frame: object) -> None:
    os.write(2, b"interrupted; nothing was begun\n")
    os._exit(STATUS)


if command(sys.argv, sys.orig_argv):
    listen()
