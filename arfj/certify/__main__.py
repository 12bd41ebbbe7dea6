"""`python -m arfj.certify`: certificates that hold with high probability, one sub-command each."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from arfj.certify.scenario import command as scenario
from arfj.cli import ANSWERED, Parser, run
from arfj.errors import UsageError

PROG = "python -m arfj.certify"
EXAMPLES = f"""\
  {PROG} scenario --help    a network under random noise, by samples
  {PROG} samples --help     how many samples that takes
"""
COMMANDS = {"scenario": scenario.certified, "samples": scenario.sized}


def main(argv: Sequence[str]) -> int:
    """Hand the rest of `argv` to its sub-command."""
    if argv and argv[0] in COMMANDS:
        return COMMANDS[argv[0]](argv[1:])
    if not argv or argv[0] in ("-h", "--help"):
        Parser(PROG, "Certificates that hold with high probability.", EXAMPLES).print_help()
        return ANSWERED
    raise UsageError(f"there is no certificate {argv[0]!r}; expected one of {', '.join(COMMANDS)}")


if __name__ == "__main__":
    sys.exit(run(main))
