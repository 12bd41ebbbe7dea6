"""What all commands share: exit statuses, one-line errors, and a parser whose help starts with examples."""

from __future__ import annotations

import argparse
import contextlib
import errno
import gc
import io
import os
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from arfj import starting
from arfj.errors import ArfjError, UsageError

if TYPE_CHECKING:
    from rich.console import Console

ANSWERED, FAILED, WRONG_USAGE, INTERRUPTED = 0, 1, 2, starting.STATUS


class Parser(argparse.ArgumentParser):
    """An argument parser that shows copyable examples first and answers wrong usage in one line."""

    def __init__(self, prog: str, description: str, examples: str) -> None:
        super().__init__(
            prog=prog,
            usage=f"{prog} [options]",
            description=f"{description}\n\nexamples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument("-v", "--verbose", action="store_true", help="log more, and show the traceback of an error")

    def error(self, message: str) -> NoReturn:
        """Raise instead of exiting, so that every error takes the same way out."""
        raise UsageError(f"{message} (see {self.prog} --help)")


def checked_seconds(option: str, text: str) -> float:
    """A time limit of the command line: a positive number.

    Raises:
        UsageError: it is none; `option` is named.
    """
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{option} {text!r} is no number; expected seconds, such as 60") from None
    if not 0 < value < float("inf"):
        raise UsageError(f"{option} {text} cannot be kept; expected a positive number of seconds")
    return value


def answer_console(**settings: Any) -> Console:  # noqa: ANN401 - what rich takes
    """A rich console for stdout that leaves a reader who went away to `run` (rich itself would exit with status 1)."""
    from rich.console import Console  # where nothing is drawn, rich is neither waited for nor needed

    class AnswerConsole(Console):
        def on_broken_pipe(self) -> None:
            """Called by rich while it handles a BrokenPipeError."""
            raise BrokenPipeError

    return AnswerConsole(**settings)


@contextlib.contextmanager
def status_line(text: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is going on, on a terminal only; gives the function that changes it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console

    console = Console(stderr=True)
    if console.is_dumb_terminal:
        yield lambda _: None
        return
    with console.status(text) as status:
        yield status.update


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str] | None = None) -> int:
    """Call `main` with the arguments; turn its errors into one line on stderr and an exit status (INTERFACE)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    verbose = "-v" in arguments or "--verbose" in arguments
    _open_closed_streams()
    starting.begun()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a file name that the terminal cannot show
    try:
        status = main(arguments)
        # Here, not at exit: a closed pipe or a full disk is then met inside this function.
        sys.stdout.flush()
        return status
    except ArfjError as error:
        if verbose:
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return WRONG_USAGE if isinstance(error, UsageError) else FAILED
    except KeyboardInterrupt:
        print("interrupted; what was finished is kept", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        _silence_stdout()  # the reader of our output went away (| head)
        return ANSWERED
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        _silence_stdout()
        print("error: the disk is full; free some space", file=sys.stderr)
        return FAILED
    except MemoryError:
        print("error: out of memory; use fewer networks or fewer parallel jobs", file=sys.stderr)
        return FAILED


def leave(status: int) -> NoReturn:
    """End the process; at once where a thread solves or compiles, into whose C++ code Python's own end would crash."""
    if any(thread.daemon for thread in threading.enumerate()):
        gc.collect()  # frees what removes its files then
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)


def _open_closed_streams() -> None:
    # Python has None for a stream that the caller closed (>&-), and no line is read there.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - for the process' whole life


def _silence_stdout() -> None:
    # The interpreter flushes once more at exit, and would fail once more.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
