"""Small networks whose answers are known by hand, and a way to call a command like a user."""

import json
import os
import signal
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import settings
from joblib.externals.loky import get_reusable_executor

from arfj.cli import run
from arfj.network import Network

# `.ci/run` asks for the same examples every time; by hand they are fresh each time.
settings.register_profile("fixed", derandomize=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))

SEESAW = Network.from_arrays([[[-1.0, 1.0]]], [[1.0, 0.0]])
"""One pixel x, outputs (1 - x, x): from 0.2, class 1 is reached at 1.2 / 2.2 (gamma 0.2)."""
SEESAW_DISTANCE = 1.2 / 2.2 - 0.2
NEIGHBOUR = Network.from_arrays([[[-1.0, 1.0]]], [[1.1, 0.0]])
"""Outputs (1.1 - x, x): the harder scenario, from 0.2 class 1 is reached at 1.32 / 2.2."""
NEIGHBOUR_DISTANCE = 1.32 / 2.2 - 0.2
DEAD_TARGET = Network.from_arrays([[[-1.0, -1.0]]], [[1.0, -1.0]])
"""Outputs (1 - x, max(-1 - x, 0)): class 1 is never active."""
TWO_PIXELS = Network.from_arrays([[[-1.0, 1.0], [0.0, 0.0]]], [[1.0, 0.0]])


@dataclass(frozen=True)
class Ran:
    """A finished command: exit status, stdout, stderr."""

    status: int
    out: str
    err: str

    @property
    def results(self):
        """The results of the one JSON document on stdout."""
        document = json.loads(self.out)
        assert list(document) == ["results"]
        return document["results"]

    def is_error(self, status, words):
        """One clear line on stderr, nothing on stdout."""
        assert (self.status, self.out) == (status, "")
        assert self.err.startswith("error: ")
        assert self.err.count("\n") == 1
        assert words in self.err


def calling(main, capsys):
    """What calls a command in this process: its arguments in, a `Ran` out."""

    def call(*arguments):
        capsys.readouterr()
        status = run(main, [str(argument) for argument in arguments])
        return Ran(status, *capsys.readouterr())

    return call


@pytest.fixture
def attack(capsys):
    """Call `python -m arfj.attack` in this process."""
    from arfj.attack.__main__ import main

    return calling(main, capsys)


@pytest.fixture
def files(tmp_path):
    """A folder with the networks above as .npz and images of one and two pixels as .npy."""
    folder = tmp_path / "given"
    folder.mkdir()
    networks = {"seesaw": SEESAW, "neighbour": NEIGHBOUR, "dead": DEAD_TARGET, "two": TWO_PIXELS}
    for name, network in networks.items():
        network.save(folder / f"{name}.npz")
    np.save(folder / "x.npy", np.array([0.2]))
    return folder


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.fixture
def seesaw(files, out):
    """Arguments of a question that is solved at once."""
    return ["--networks", files / "seesaw.npz", "--image", files / "x.npy", "--output", out, "--json"]


def everything(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def hears_ctrl_c():
    """Ctrl-C works as on a terminal, here and in what is started, also where the test run itself ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def workers_end():
    """The processes that joblib keeps for the next call are ended, whatever they do."""
    yield
    get_reusable_executor().shutdown(wait=True, kill_workers=True)
