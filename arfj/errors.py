"""Errors that a user can mend: one sentence saying what was expected and what to do.

`ArfjError` ends a command with exit status 1, `UsageError` with 2; neither prints a traceback unless `-v` is given.
"""

from __future__ import annotations


class ArfjError(Exception):
    """Something given, or something on the machine, cannot be used; the message says how to mend it."""


class UsageError(ArfjError):
    """The question itself is malformed (a class out of range, gamma < 0, options that exclude each other)."""


class NetworkError(ArfjError):
    """A network file or model cannot be read, or is of a kind that has no exact encoding."""


class PropertyError(ArfjError):
    """A property file cannot be read, or asks for something that is not supported; the message names the place."""


class DataError(ArfjError):
    """Images or a data set cannot be found or read."""


class SolverError(ArfjError):
    """A solver is missing, has no licence, or refuses a model of this size."""
