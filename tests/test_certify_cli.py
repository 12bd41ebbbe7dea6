"""`python -m arfj.certify scenario` and `samples`, as a user meets them."""

import json
import threading

import numpy as np
import pytest
from conftest import calling

from arfj.certify.__main__ import main
from arfj.certify.scenario import Gaussian, Request, Safe, Source, Uniform, certify, exact_size
from arfj.certify.scenario.margins import Margins
from arfj.network import Network

KEYS = ["bound", "safe", "epsilon", "delta", "samples", "discarded", "p", "sizing", "set", "seconds"]
NETWORK = Network.from_arrays([np.array([[2.0, -1.0, 0.0], [0.0, 1.0, 0.5]])], [[0.1, 0.2, 0.3]], "linear")
IMAGE = np.array([0.9, 0.4])


@pytest.fixture
def command(capsys):
    return calling(main, capsys)


@pytest.fixture
def asked(tmp_path):
    NETWORK.save(tmp_path / "n.npz")
    np.save(tmp_path / "x.npy", IMAGE)
    return ["scenario", "--network", tmp_path / "n.npz", "--image", tmp_path / "x.npy", "--true", 0]


def test_sizes(command):
    ran = command("samples", "--epsilon", "0.05", "--delta", "1e-5", "--p", "3", "--json")
    assert (ran.status, json.loads(ran.out)) == (0, {"exact": 324, "paper": 581})
    told = command("samples", "--epsilon", "0.001", "--delta", "1e-5", "--p", "1").out
    assert "11508" in told
    assert "25026" in told


def test_the_inverse(command):
    ran = command("samples", "--samples", "324", "--delta", "1e-5", "--p", "3", "--json")
    found = json.loads(ran.out)["epsilon"]
    assert found["exact"] == pytest.approx(0.05, rel=5e-3)
    assert found["exact"] < 0.05 < found["paper"]
    told = command("samples", "--samples", "324", "--p", "3").out
    assert told.startswith("exact  epsilon 0.04995")
    assert float(told.split()[2]) >= found["exact"]
    command("samples", "--samples", 5, "--epsilon", 0.1).is_error(2, "leave out --epsilon")


def test_keys_and_defaults(command, asked):
    ran = command(*asked, "--noise", "uniform:0.1", "--json")
    found = json.loads(ran.out)
    assert (ran.status, ran.err, list(found)) == (0, "", KEYS)
    expected = certify(Source(NETWORK, IMAGE, Uniform(0.1)), Safe.margin(3, 0, [2]))
    assert found == {**expected.as_json(), "seconds": found["seconds"]}
    assert (found["samples"], found["sizing"], found["set"], found["safe"]) == (11508, "exact", "halfspace", True)


def test_all_rivals(command, asked):
    found = json.loads(
        command(*asked, "--all-rivals", "--noise", "gauss:0.2", "--seed", 5, "--epsilon", 0.01, "--json").out
    )
    expected = certify(Source(NETWORK, IMAGE, Gaussian(0.2), 5), Safe.margin(3, 0), Request(0.01))
    assert (found["bound"], found["p"]) == (expected.bound, 1)


@pytest.mark.parametrize("kind", ["l2", "linf", "l1"])
def test_balls(command, asked, kind):
    arguments = [*asked, "--noise", "l1:0.5", "--set", kind, "--epsilon", 0.05, "--json"]
    found = json.loads(command(*arguments, "--regularise", 0.2).out)
    assert list(found) == [*KEYS, "centre", "radius"]
    assert (found["p"], found["set"], found["samples"], len(found["centre"])) == (4, kind, exact_size(0.05, 1e-5, 4), 3)
    nothing = json.loads(command(*arguments, "--regularise", 0).out)
    assert (nothing["p"], nothing["set"]) == (1, "halfspace")


def test_sizing(command, asked):
    asked = [*asked, "--noise", "uniform:0.1", "--json"]
    paper = json.loads(command(*asked, "--sizing", "paper").out)
    assert (paper["samples"], paper["discarded"], paper["sizing"]) == (25026, 6, "paper")
    given = json.loads(command(*asked, "--samples", 25026).out)
    assert (given["bound"], given["discarded"], given["sizing"]) == (paper["bound"], 6, "given")


def test_rows_of_noise(command, asked, tmp_path):
    np.save(tmp_path / "e.npy", np.random.default_rng(0).normal(0, 0.1, (200, 2)))
    found = json.loads(command(*asked, "--noise", tmp_path / "e.npy", "--epsilon", 0.1, "--json").out)
    assert found["samples"] == 110
    np.save(tmp_path / "e.npy", np.load(tmp_path / "e.npy").reshape(200, 1, 2))
    again = json.loads(command(*asked, "--noise", tmp_path / "e.npy", "--epsilon", 0.1, "--json").out)
    assert again["bound"] == found["bound"]
    for wrong, words in ((np.array(1.0), "a single number"), (np.zeros((200, 3)), "expected numbers, shape (110, 2)")):
        np.save(tmp_path / "e.npy", wrong)
        ran = command(*asked, "--noise", tmp_path / "e.npy", "--epsilon", 0.1, "--json")
        ran.is_error(ran.status, words)


def test_no_rows_of_noise(command, asked, tmp_path):
    np.save(tmp_path / "none.npy", np.zeros((0, 2)))
    command(*asked, "--noise", tmp_path / "none.npy").is_error(2, "has 0 rows, more are needed")


def test_clipping(command, asked):
    asked = [*asked, "--noise", "gauss:3", "--json"]
    assert json.loads(command(*asked).out)["bound"] < -10
    assert json.loads(command(*asked, "--clip").out)["bound"] > -1


def test_a_surrogate_and_parameters(command, asked, tmp_path):
    rng = np.random.default_rng(0)
    deep = Network.from_arrays(
        [rng.normal(size=(2, 4)), rng.normal(size=(4, 4)), rng.normal(size=(4, 3))],
        [np.ones(4), np.ones(4), np.ones(3)],
    )
    deep.save(tmp_path / "n.npz")
    asked = [*asked, "--target", 1, "--json"]
    shallow = json.loads(command(*asked, "--noise", "uniform:0.05", "--surrogate", 1).out)
    assert shallow["bound"] <= json.loads(command(*asked, "--noise", "uniform:0.05").out)["bound"]
    inner = json.loads(command(*asked, "--noise", "inner:0.05", "--epsilon", 0.1).out)
    assert (inner["samples"], inner["p"]) == (110, 1)


def test_what_it_says(command, asked):
    told = command(*asked, "--all-rivals", "--noise", "uniform:0.1").out
    assert "margin of class 0 over all rivals, noise uniform:0.1: at least" in told
    assert "11508 samples (exact; p = 1), halfspace" in told
    assert "safe: with confidence 1 - 1e-05" in told
    assert "drawn independently" in told
    assert "Nothing is claimed of worst cases" in told
    assert command(*asked, "--noise", "uniform:3").out.splitlines()[-1].startswith("not certified to be safe")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--noise", "uniform"], 2, "expected uniform:R"),
        (["--noise", "cauchy:1"], 2, "expected uniform:R"),
        (["--noise", "gauss:-1"], 2, "expected a number >= 0"),
        (["--noise", "gauss:nan"], 2, "expected a number >= 0"),
        (["--noise", "none.npy"], 1, "does not exist"),
        (["--noise", "inner:x"], 2, "expected inner:E"),
        (["--noise", "inner:-1"], 2, "expected inner:E with a number E >= 0"),
        (["--noise", "inner:inf"], 2, "expected inner:E with a number E >= 0"),
        (["--noise", "uniform:1e308"], 2, "at most 1e+300"),
        (["--noise", "uniform:1", "--set", "l1", "--epsilon", 0.1, "--regularise", 1e-300], 1, "use linf"),
        (["--noise", "inner:0.1", "--clip"], 2, "--clip is about noise on the image"),
        (["--noise", "inner:0.1", "--surrogate", 1], 2, "--surrogate is about noise on the image"),
        (["--noise", "uniform:1", "--epsilon", 0], 2, "epsilon is 0.0"),
        (["--noise", "uniform:1", "--delta", 1], 2, "delta is 1.0"),
        (["--noise", "uniform:1", "--delta", "nan"], 2, "delta is nan"),
        (["--noise", "uniform:1", "--samples", 100], 2, "100 samples are too few"),
        (["--noise", "uniform:1", "--samples", 100, "--sizing", "paper"], 2, "not allowed with"),
        (["--noise", "uniform:1", "--target", 0], 2, "true class itself"),
        (["--noise", "uniform:1", "--target", 7], 2, "target class is 7"),
        (["--noise", "uniform:1", "--target", 1, "--all-rivals"], 2, "not allowed with"),
        (["--noise", "uniform:1", "--regularise", 1], 2, "--regularise is about balls"),
        (["--noise", "uniform:1", "--set", "l2", "--regularise", -1], 2, "lambda is -1"),
        (["--noise", "uniform:1", "--set", "l2", "--all-rivals"], 2, "--all-rivals takes half-spaces"),
        (["--noise", "uniform:1", "--seed", -1], 2, "seed is -1"),
        (["--noise", "gauss:1", "--surrogate", 1], 2, "bounded support"),
        ([], 2, "--noise"),
    ],
)
def test_errors(command, asked, arguments, status, words):
    command(*asked, *arguments, "--json").is_error(status, words)


def test_interrupted(command, asked, monkeypatch):
    """Whoever notices: the thread that waits, or one that computes."""
    before = threading.active_count()

    def interrupted(*_):
        raise KeyboardInterrupt

    for owner, name in ((Source, "outputs"), (Source, "inputs"), (Margins, "__call__")):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, interrupted)
            patch.setenv("OMP_NUM_THREADS", "2")
            ran = command(*asked, "--noise", "uniform:0.1")
            assert (ran.status, ran.out) == (130, "")
            assert "interrupted" in ran.err
    assert threading.active_count() == before


def test_an_image_that_does_not_fit(command, asked, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros(3))
    command(*asked, "--noise", "uniform:1").is_error(2, "takes inputs of shape (2,)")


def test_sub_commands(command):
    command("other").is_error(2, "expected one of scenario, samples")
    ran = command()
    assert ran.status == 0
    assert "scenario --help" in ran.out
    command("samples", "--p", "0").is_error(2, "p is 0")
