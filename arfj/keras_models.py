"""Keras models of Dense layers as networks: read from `.keras` and `.h5` files, or converted from a live model."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

from arfj.errors import NetworkError


def import_keras() -> ModuleType:
    """Keras 3, on TensorFlow unless `$KERAS_BACKEND` says otherwise, without the log lines of its start.

    Raises:
        NetworkError: it is not installed.
    """
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "keras" in sys.modules:
        return sys.modules["keras"]
    try:
        with _silent_stderr(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import keras
    except ImportError as error:
        raise NetworkError(f"this needs Keras and TensorFlow ({error}); pip install 'arfj[train]'") from error
    module: ModuleType = keras
    return module


@contextlib.contextmanager
def _silent_stderr() -> Iterator[None]:
    """Send file descriptor 2 to nowhere: TensorFlow's first log lines obey no setting and no Python stream."""
    sys.stderr.flush()
    saved = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
        os.close(nowhere)
