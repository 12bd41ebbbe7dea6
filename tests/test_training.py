"""Training: the same seed gives the same bits, what is discarded is counted, a set agrees with its manifest."""

import itertools
import json
import shutil

import numpy as np
import pytest

from arfj import data
from arfj.cli import run
from arfj.ensemble import outer_samples
from arfj.errors import ArfjError, DataError, UsageError
from arfj.network import Network
from training import Settings, fresh_networks, outcomes
from training.benchmark import numpy_epoch
from training.check import check_set
from training.sets import Plan, choose_images, make_set
from training.train import main

pytest.importorskip("tensorflow", reason="needs pip install 'arfj[train]'")
from training.trainer import import_tensorflow, new_model, train

QUICK = Settings(hidden=(32,), epochs=2, least=0.0, most=1.0)


def blobs(count, rng):
    """Ten blocks of pixels of random brightness; the class is the brightest."""
    labels = (np.arange(count) % 10).astype(np.uint8)
    bright = rng.integers(0, 150, (count, 10))
    bright[np.arange(count), labels] = 255
    images = np.repeat(bright, 79, axis=1)[:, :784]
    return images.astype(np.uint8), labels


@pytest.fixture(scope="module")
def small():
    rng = np.random.default_rng(0)
    return data.FashionMnist(*blobs(1600, rng), *blobs(400, rng))


def test_one_seed_one_network(small):
    first, again, other = (train(seed, QUICK, small) for seed in (3, 3, 4))
    assert first.sizes == (784, 32, 10)
    assert first.layers[-1].activation == "relu"
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()


@pytest.mark.usefixtures("workers_end")
def test_bits_do_not_depend_on_how_many_are_trained_together(small):
    alone = train(1, QUICK, small).fingerprint()
    together = {outcome.seed: outcome.network.fingerprint() for outcome in outcomes([0, 1, 2], QUICK, 2, small)}
    assert list(together) == [0, 1, 2]
    assert together[1] == alone


def test_the_steps_are_those_of_plain_numpy(small):
    settings = Settings(hidden=(8,), epochs=1, rate=0.05)
    _, keras = import_tensorflow()
    arrays = [variable.numpy() for variable in new_model(keras, settings.sizes, 0).trainable_variables]
    numpy_epoch(arrays, small.train_images.astype(np.float32) / np.float32(255), small.train_labels, 32, 0.05)
    expected = Network.from_arrays(arrays[0::2], arrays[1::2]).parameters()
    np.testing.assert_allclose(train(0, settings, small).parameters(), expected, atol=1e-4)


def test_discards_are_none_and_counted(small):
    hopeless = Settings(hidden=(8,), epochs=1, least=0.999, most=1.0, rate=1e-6)
    assert list(fresh_networks([0, 1], hopeless, data=small)) == [None, None]
    outcome = next(outcomes([0], hopeless, data=small))
    assert not outcome.kept
    assert "outside [0.999, 1.0]" in outcome.reason
    nominal = train(0, QUICK, small)
    images = data.scaled(small.train_images[:50])
    draws = itertools.chain([None], fresh_networks([0], QUICK, data=small))
    sample = outer_samples(draws, nominal.probabilities, images, 1, epsilon=1e-12)
    assert (sample.discarded, sample.distances) == (1, (0.0,))


def test_seeds_are_asked_for_lazily(small):
    asked = []
    seeds = (asked.append(seed) or seed for seed in itertools.count())
    next(fresh_networks(seeds, QUICK, data=small))
    assert asked == [0]


PLAN = Plan(Settings(hidden=(10,), least=0.95, most=1.0), alpha=1, held_out=1, epsilon_outer=1.0)


def instead_of_training(seed, settings, small):
    """Block sums with some noise, which are right on `blobs`; every third seed has a dead output unit."""
    noise = np.random.default_rng(seed).normal(0, 1e-3, (784, 10))
    sums = np.repeat(np.eye(10), 79, axis=0)[:784] / 20 + noise
    alive = np.diag(np.arange(10) != seed % 10) if seed % 3 == 0 else np.eye(10)
    return Network.from_arrays([sums, alive], [np.zeros(10), np.zeros(10)])


@pytest.fixture
def quick(monkeypatch):
    """The seeds that were asked for, in a list."""
    seeds = []
    answer = lambda seed, *rest: seeds.append(seed) or instead_of_training(seed, *rest)  # noqa: E731
    monkeypatch.setattr("training.many.train", answer)
    return seeds


@pytest.fixture(scope="module")
def finished(small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sets") / "set"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.many.train", instead_of_training)
        make_set(folder, PLAN, small)
    return folder


def test_a_set_agrees_with_its_manifest(finished, small, monkeypatch, capsys):
    monkeypatch.setattr("training.check.load_fashion_mnist", lambda download: small)
    assert sorted(path.name for path in finished.iterdir()) == ["images.npz", "manifest.json", "networks"]
    manifest = json.loads((finished / "manifest.json").read_text())
    assert [entry["side"] for entry in manifest["networks"]] == ["attack", "attack", "held-out", "attack", "held-out"]
    assert [entry["seed"] for entry in manifest["discarded"]] == [0, 3]
    assert "never gives class 3 (a dead output unit)" in manifest["discarded"][1]["reason"]
    assert (manifest["trained"], manifest["discarded"][0]["d_osd"]) == (5, None)
    assert run(main, ["--check", str(finished)]) == 0
    assert "5 networks agree" in capsys.readouterr().out


def test_a_set_is_remade_bit_for_bit_and_resumes(finished, small, tmp_path, quick):
    def stop(kept, trained):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_set(tmp_path, PLAN, small, seen=stop)
    assert not (tmp_path / "manifest.json").exists()
    (tmp_path / "networks").mkdir()
    (tmp_path / "networks" / "outer_77.npz").write_bytes(b"of an older set")
    make_set(tmp_path, PLAN, small)
    assert quick == [0, 1, 2, 3, 4], "the second run trains only what the first had not finished"
    for path in finished.rglob("*.npz"):
        assert path.read_bytes() == (tmp_path / path.relative_to(finished)).read_bytes()
    assert not (tmp_path / "networks" / "outer_77.npz").exists()


def test_a_distant_network_is_discarded(small, tmp_path, quick):
    plan = Plan(PLAN.settings, alpha=1, held_out=0, epsilon_outer=1e-9)
    with pytest.raises(ArfjError, match=r"d_osd .* is not below 1e-09"):
        make_set(tmp_path, plan, small)


def damage_number(folder):
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    content["networks"][1]["d_osd"] += 1e-6
    path.write_text(json.dumps(content))


CHANGES = {
    "SHA-256 differs": lambda folder: (folder / "networks" / "outer_00.npz").write_bytes(b"other"),
    "is missing; make": lambda folder: (folder / "networks" / "inner_01.npz").unlink(),
    "is not in the manifest": lambda folder: (folder / "networks" / "outer_99.npz").write_bytes(b""),
    "missing or broken": lambda folder: (folder / "manifest.json").write_text("{}"),
    "d_osd is": damage_number,
}


@pytest.mark.parametrize("words", CHANGES)
def test_a_changed_set_is_found_out(words, finished, small, tmp_path, monkeypatch):
    monkeypatch.setattr("training.check.load_fashion_mnist", lambda download: small)
    folder = tmp_path / "set"
    shutil.copytree(finished, folder)
    CHANGES[words](folder)
    with pytest.raises(ArfjError, match=words):
        check_set(folder)


def test_an_unreachable_set_is_given_up(small, tmp_path, quick):
    plan = Plan(Settings(hidden=(10,), least=0.2, most=0.3))
    with pytest.raises(ArfjError, match="only 0 of 30 trained networks are accepted"):
        make_set(tmp_path, plan, small)


def test_no_image_for_a_class(small):
    blind = Network.from_arrays([np.zeros((784, 10))], [np.eye(10)[0]])
    with pytest.raises(ArfjError, match="class 1"):
        choose_images([blind], small)


WRONG = {
    "--output DIR, --check DIR": [],
    "not allowed with": ["--bundle", "--output", "x"],
    "expected at least 1": ["--output", "x", "--epochs", "0"],
    "hidden layers": ["--output", "x", "--hidden", "8", "0"],
    "learning rate": ["--output", "x", "--rate", "nan"],
    "accuracies": ["--output", "x", "--accuracy", "0.9", "0.8"],
    "must not be negative": ["--output", "x", "--alpha", "-1"],
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_usage(words, capsys):
    assert run(main, WRONG[words]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def test_help_starts_with_examples(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert text.index("python -m training.train --output") < text.index("--epochs")


def test_bad_settings():
    for bad in ({"last_rate": 0}, {"batch": 0}, {"most": 1.5}):
        with pytest.raises(UsageError):
            Settings(**bad)


@pytest.mark.slow
def test_a_bundled_network_is_retrained():
    try:
        full = data.load_fashion_mnist()
    except DataError:
        pytest.skip("retraining needs dataset-fashion-mnist or $ARFJ_DATA")
    entry = data.manifest()["networks"][0]
    outcome = next(outcomes([entry["seed"]], Settings(), data=full))
    # Other machines round differently, and 50 epochs make much of it; the accuracy stays.
    assert outcome.accuracy == pytest.approx(entry["accuracy"], abs=0.01)
    assert outcome.kept
