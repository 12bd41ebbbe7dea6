"""Work for a process that is gone ends; work of others is left alone."""

import os
import subprocess
import sys

import pytest

from arfj.attack.orphan import exists, this_process

POSIX = pytest.mark.skipif(os.name != "posix", reason="asks for processes by their numbers")


def gone():
    """The number of a process that was there."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def begun(asker):
    """Whether work for this process is done by a new one, a child of ours."""
    code = f"from arfj.attack.orphan import end_with; end_with({asker!r}); print('done')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.stderr == ""
    return ran.stdout == "done\n"


def test_of_its_parent():
    assert begun(this_process())


@POSIX
def test_of_a_parent_that_was_gone_before_it_began():
    """Its imports take seconds, in which the command may be ended."""
    node, _ = this_process()
    assert not begun((node, gone()))


def test_of_a_process_that_is_not_its_parent():
    node, _ = this_process()
    assert begun((node, os.getppid()))


def test_of_another_machine():
    assert begun(("elsewhere", gone()))


@POSIX
def test_exists():
    assert exists(os.getpid())
    assert exists(1)  # ours or not
    assert not exists(gone())
