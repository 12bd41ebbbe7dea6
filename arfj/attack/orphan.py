"""Processes that work for another one end when it is gone: else they would work on for nobody."""

from __future__ import annotations

import functools
import os
import platform
import threading
import time

SECONDS = 1.0
"""How often a process looks whether its parent is still there."""


Asker = tuple[str, int]
"""A process: its machine and its number there."""


def this_process() -> Asker:
    """To be handed on with the work."""
    return platform.node(), os.getpid()


@functools.cache
def end_with(asker: Asker) -> None:
    """End this process when the one that asks for its work, its parent, is gone, or at once if it already is.

    A backend may also run the work in the asking process itself, or in processes that are no children of it: these are
    left alone, those on other machines, too.
    """
    node, number = asker
    if node != platform.node():
        return
    if os.getppid() != number:
        if not exists(number):  # the work came late: its processes take a while to begin
            os._exit(1)
        return

    def watch() -> None:
        while os.getppid() == number:
            time.sleep(SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()


def exists(number: int) -> bool:
    """Whether there is a process of this number on this machine; where one may not ask, there is."""
    if os.name != "posix":
        return True
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
