"""`python -m arfj.certify`: dispatches to the kinds of certificates."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from arfj.cli import run
from arfj.errors import UsageError

KINDS = {
    "scenario": "arfj.certify.scenario.command",
    "samples": "arfj.certify.scenario.command",
    "cvar": "arfj.certify.cvar.command",
    "cdf": "arfj.certify.cdf.command",
}
"""Sub-commands, and the modules whose `main(argv)` answers them; `argv` begins with the sub-command."""


def main(argv: Sequence[str]) -> int:
    """Answer the sub-command."""
    kind = argv[0] if argv else ""
    if kind not in KINDS:
        raise UsageError(f"python -m arfj.certify {kind}: expected one of {', '.join(KINDS)}, and --help behind it")
    return int(importlib.import_module(KINDS[kind]).main(argv))


if __name__ == "__main__":
    sys.exit(run(main))
