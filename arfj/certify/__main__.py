"""`python -m arfj.certify`: certificates, one sub-command each, whose modules are loaded when it is asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Mapping, Sequence

from arfj.cli import ANSWERED, Parser, run
from arfj.errors import UsageError

PROG = "python -m arfj.certify"
EXAMPLES = f"""\
  {PROG} scenario --help    a network under random noise, by samples
  {PROG} samples --help     how many samples that takes
  {PROG} cvar --help        all input distributions with given mean and covariance
  {PROG} cdf --help         the distribution of the outputs, for a density of the inputs
"""
COMMANDS: Mapping[str, tuple[str, str]] = {
    "scenario": ("arfj.certify.scenario.command", "certified"),
    "samples": ("arfj.certify.scenario.command", "sized"),
    "cvar": ("arfj.certify.cvar.command", "main"),
    "cdf": ("arfj.certify.cdf.command", "main"),
}
"""Module and function of each; the function takes what stands behind the sub-command."""


def main(argv: Sequence[str]) -> int:
    """Hand the rest of `argv` to its sub-command."""
    if argv and argv[0] in COMMANDS:
        module, function = COMMANDS[argv[0]]
        return int(getattr(importlib.import_module(module), function)(argv[1:]))
    if not argv or argv[0] in ("-h", "--help"):
        Parser(PROG, "Certificates for networks under uncertainty.", EXAMPLES).print_help()
        return ANSWERED
    raise UsageError(f"there is no certificate {argv[0]!r}; expected one of {', '.join(COMMANDS)}")


if __name__ == "__main__":
    sys.exit(run(main))
