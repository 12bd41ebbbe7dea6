"""Ctrl-C while modules are imported."""

import signal
import subprocess
import sys

import pytest

from arfj import starting

HIT = """
import os, signal, sys, time
sys.argv, sys.orig_argv = {argv}, {given}
import arfj
{more}
os.kill(os.getpid(), signal.SIGINT)
time.sleep(10)
"""


def interrupted(argv, given, more=""):
    code = HIT.format(argv=argv, given=given, more=more)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)


def test_a_command_ends_in_one_line():
    ended = interrupted(["-m", "x"], ["python", "-m", "arfj.verify", "x"])
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, "", "interrupted; nothing was begun\n")


@pytest.mark.parametrize(
    ("argv", "given", "more"),
    [
        (["-m"], ["python", "-m", "theirs"], ""),
        (["theirs.py"], ["python", "theirs.py"], ""),
        (["-m"], ["python", "-m", "arfj.verify"], "arfj.starting.begun()"),
    ],
)
def test_else_it_is_as_ever(argv, given, more):
    ended = interrupted(argv, given, more)
    assert ended.returncode != 130
    assert "KeyboardInterrupt" in ended.stderr


@pytest.mark.parametrize(
    ("argv", "given", "expected"),
    [
        (["-m"], ["python", "-m", "arfj.attack", "--outer"], True),
        (["-m", "--outer"], ["python", "-X", "dev", "-m", "experiments"], True),
        (["-m"], ["python", "-m", "training.train"], True),
        (["/x/arfj/attack/__main__.py"], ["python", "-m", "arfj.attack"], False),
        (["-m"], ["python", "-m", "arfjs"], False),
        (["-m"], ["python", "-m"], False),
        ([], ["python"], False),
    ],
)
def test_command(argv, given, expected):
    assert starting.command(argv, given) is expected


def test_other_handlers_stay():
    before = signal.getsignal(signal.SIGINT)
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        starting.listen()
        starting.begun()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
