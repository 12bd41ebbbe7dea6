"""The loops that every linear program waits for: compiled where a compiler was at hand when arfj was installed.

`arfj.bab.fast` (Cython) and `arfj.bab.plain` (NumPy) have the same functions, and everything is proven by either: their
sums differ in the order of their terms, which the bounds of rounding do not depend on. What was compiled from another
text than the one that stands here, in a checkout that has moved on, is not used.
"""

from __future__ import annotations

from hashlib import sha256
from importlib import import_module
from pathlib import Path
from types import ModuleType

from arfj.bab import plain


def compiled() -> ModuleType | None:
    """The compiled module, or None where there is none of this source."""
    try:
        fast = import_module("arfj.bab.fast")
    except ImportError:
        return None
    source = Path(__file__).with_name("fast.pyx")
    try:
        return fast if sha256(source.read_bytes()).hexdigest() == fast.SOURCE else None
    except OSError:
        return None


FAST = compiled()
COMPILED = FAST is not None
Table = plain.Table if FAST is None else FAST.Table
best_columns = plain.best_columns if FAST is None else FAST.best_columns
implied = plain.implied if FAST is None else FAST.implied
rates = plain.rates if FAST is None else FAST.rates
open_neurons = plain.open_neurons if FAST is None else FAST.open_neurons
changes = plain.changes if FAST is None else FAST.changes
amounts = plain.amounts if FAST is None else FAST.amounts
by_phase = plain.by_phase if FAST is None else FAST.by_phase
Clauses = plain.Clauses if FAST is None else FAST.Clauses
