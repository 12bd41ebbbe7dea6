"""Processes that work for another one end when it is gone: else they would work on for nobody."""

from __future__ import annotations

import functools
import os
import threading
import time

SECONDS = 1.0
"""How often a process looks whether its parent is still there."""


@functools.cache
def end_with(asker: int) -> None:
    """End this process when the one that asks for its work, its parent, is gone.

    A backend may also run the work in the asking process itself, or in processes that are no children of it: these are
    left alone.
    """
    if os.getppid() != asker:
        return

    def watch() -> None:
        while os.getppid() == asker:
            time.sleep(SECONDS)
        os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
