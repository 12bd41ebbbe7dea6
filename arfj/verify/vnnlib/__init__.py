"""VNN-LIB files (1.0 and 2.0, plain or gzipped) to `Property` records."""

from __future__ import annotations

from arfj.verify.vnnlib.read import parse_property, read_property

__all__ = ["parse_property", "read_property"]
