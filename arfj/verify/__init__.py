"""The complete verifier: `verify(network, property)` decides VNN-LIB properties of networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from arfj.verify.files import verify_files
    from arfj.verify.outcome import Outcome
    from arfj.verify.portfolio import Options, verify
    from arfj.verify.property import Case, Polyhedron, Property
    from arfj.verify.vnnlib import read_property

__all__ = ["Case", "Options", "Outcome", "Polyhedron", "Property", "read_property", "verify", "verify_files"]

_HOMES = {
    "Case": "property",
    "Options": "portfolio",
    "Outcome": "outcome",
    "Polyhedron": "property",
    "Property": "property",
    "read_property": "vnnlib",
    "verify": "portfolio",
    "verify_files": "files",
}


def __getattr__(name: str) -> object:
    # On first use: a property is read without loading solvers.
    if name in _HOMES:
        import importlib

        home: object = importlib.import_module(f"arfj.verify.{_HOMES[name]}")
        return getattr(home, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
