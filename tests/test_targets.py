"""Target networks of a transfer study: independent of the bundle, trained once, and read back as they were measured."""

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from blobs import instead_of_training, small_data

from arfj import data
from arfj.cli import run
from arfj.ensemble import d_in, d_osd
from arfj.errors import ArfjError, UsageError
from arfj.network import Network
from experiments.transfer import targets
from experiments.transfer.targets import TargetSet, last_bundled_seed, load_targets, main, make_targets, target_sets
from training import Settings

PLAIN = Settings(hidden=(10,), epochs=1, least=0.8, most=1.0)
BLOCKS = TargetSet("blocks", "block sums", PLAIN, 3, False, 1000)


@pytest.fixture(scope="module")
def small():
    return small_data()


@pytest.fixture
def quick(monkeypatch):
    """The seeds that were asked for, in a list."""
    seeds = []
    answer = lambda seed, *rest: seeds.append(seed) or instead_of_training(seed, *rest)  # noqa: E731
    monkeypatch.setattr("training.many.train", answer)
    return seeds


def test_no_seed_is_the_bundles_and_no_two_sets_share_one():
    sets = target_sets()
    assert list(sets) == ["same", "wide", "deep", "shallow", "conv", "adam", "half", "order"]
    assert last_bundled_seed() == 118
    firsts = sorted(chosen.first_seed for chosen in sets.values())
    assert firsts[0] > last_bundled_seed()
    # A set is given up when fewer than a tenth of its networks are kept, so 60 of them take at most 600 seeds.
    assert all(after - before > 600 for before, after in itertools.pairwise(firsts))
    with pytest.raises(UsageError, match="seeds above 118"):
        TargetSet("old", "the bundle's", Settings(), 1, True, 118)


def test_the_first_set_is_what_the_sampler_draws():
    sets = target_sets()
    same = sets.pop("same")
    assert (same.settings, same.filtered, same.count) == (Settings(), True, 60)
    assert (same.settings.least, same.settings.most) == (0.83, 0.86)
    for chosen in sets.values():
        assert (chosen.count, chosen.filtered, chosen.settings.least, chosen.settings.most) == (10, False, 0.8, 1.0)
    assert sets["order"].settings.weights_seed == data.manifest()["networks"][0]["seed"] == 2
    assert sets["deep"].settings.sizes == (784, 8, 8, 8, 8, 8, 10)
    assert sets["conv"].settings.sizes == data.bundled_growth("conv")[0].sizes
    assert len({chosen.settings.digest() for chosen in (same, *sets.values())}) == 8


def test_rows_tell_what_is_on_disk(small, tmp_path, quick):
    told = []
    rows = make_targets(tmp_path, [BLOCKS], told=lambda *said: told.append(said), data=small)
    # Seed 1002 has a dead output, and is right on nine classes of ten: accurate enough, and no target.
    assert quick == [1000, 1001, 1002, 1003]
    assert told == [("blocks", kept, 3, trained) for kept, trained in ((1, 1), (2, 2), (2, 3), (3, 4))]
    assert [(row["set"], row["seed"], row["file"]) for row in rows] == [
        ("blocks", 1000, "blocks/000.npz"), ("blocks", 1001, "blocks/001.npz"), ("blocks", 1003, "blocks/002.npz"),
    ]  # fmt: skip
    part = json.loads((tmp_path / "targets.json").read_text())["sets"]["blocks"]
    assert part["networks"] == rows
    assert (part["trained"], part["settings"], part["epsilon_outer"]) == (4, PLAIN.as_json(), None)
    assert [(entry["seed"], entry["reason"]) for entry in part["discarded"]] == [
        (1002, "never gives class 2 (a dead output unit)")
    ]
    networks = load_targets(tmp_path)["blocks"]
    nominal, images = data.bundled_nominal(), data.scaled(small.train_images[:50])
    for row, network in zip(rows, networks, strict=True):
        assert row["fingerprint"] == network.fingerprint()
        assert row["accuracy"] == (network.classify(data.scaled(small.test_images)) == small.test_labels).mean()
        assert row["d_osd"] == d_osd(network.probabilities(images), nominal.probabilities(images))
        assert row["d_in"] is None, "another architecture"
    with np.load(tmp_path / "blocks" / "000.npz", allow_pickle=False) as arrays:
        assert arrays["W0"].dtype == arrays["b1"].dtype == np.float32


def test_a_filtered_set_is_near_the_nominal_network_and_may_have_dead_outputs(small, tmp_path, quick, monkeypatch):
    near = TargetSet("near", "as the sampler", PLAIN, 3, True, 1000)
    with pytest.raises(ArfjError, match=r"^set near: only 0 of 30 trained .* is not below 0.2"):
        make_targets(tmp_path, [near], data=small)
    assert not (tmp_path / "targets.json").exists()
    centre = instead_of_training(1, PLAIN, small)
    monkeypatch.setattr(targets, "bundled_nominal", lambda: centre)
    rows = make_targets(tmp_path, [near], data=small)
    assert [row["seed"] for row in rows] == [1000, 1001, 1002]
    assert all(0 < row["d_osd"] < 0.2 for row in rows)
    assert [row["d_in"] for row in rows] == [d_in(network, centre) for network in load_targets(tmp_path)["near"]]


def test_a_network_of_the_bundle_is_no_target(small, tmp_path, monkeypatch):
    held_out = data.bundled_outer(held_out=True)[0]
    monkeypatch.setattr("training.many.train", lambda *_: held_out)
    anything = TargetSet("any", "anything", Settings(least=0, most=1.0), 1, True, 1000)
    monkeypatch.setattr(targets, "bundled_nominal", lambda: held_out)
    with pytest.raises(ArfjError, match="is a network of the bundle"):
        make_targets(tmp_path, [anything], data=small)


def test_nothing_is_trained_twice(small, tmp_path, quick):
    def stop(name, kept, wanted, trained):
        if trained == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_targets(tmp_path, [BLOCKS], told=stop, data=small)
    assert not (tmp_path / "targets.json").exists()
    assert len(load_targets(tmp_path)["blocks"]) == 1, "what was kept before is there already"
    first = make_targets(tmp_path, [BLOCKS], data=small)
    assert quick == [1000, 1001, 1002, 1003], "the second run trains only what the first had not finished"
    written = (tmp_path / "targets.json").read_bytes()
    assert make_targets(tmp_path, [BLOCKS], data=small) == first
    assert (tmp_path / "targets.json").read_bytes() == written
    other = TargetSet("other", "other seeds", PLAIN, 1, False, 2002)
    make_targets(tmp_path, [other, TargetSet("blocks", "fewer", PLAIN, 2, False, 1000)], data=small)
    assert quick == [1000, 1001, 1002, 1003, 2002]
    assert {name: len(networks) for name, networks in load_targets(tmp_path).items()} == {"blocks": 2, "other": 1}
    assert list(json.loads((tmp_path / "targets.json").read_text())["sets"]) == ["blocks", "other"]


def test_a_broken_list_is_found_out(small, tmp_path, quick):
    (tmp_path / "targets.json").write_text("[]")
    with pytest.raises(ArfjError, match=r"targets.json is broken .* remove it"):
        make_targets(tmp_path, [BLOCKS], data=small)
    assert quick == []


TINY = {
    "same": TargetSet("same", "SGD", Settings((24,), epochs=2, least=0.1, most=1.0), 2, False, 1000),
    "adam": TargetSet(
        "adam", "Adam", Settings((24,), 2, rate=3e-3, least=0.1, most=1.0, optimiser="adam"), 1, False, 2000
    ),
}


def test_the_command_trains_and_tells(small, tmp_path, monkeypatch, capsys):
    pytest.importorskip("tensorflow", reason="needs pip install 'arfj[train]'")
    monkeypatch.setattr(targets, "load_fashion_mnist", lambda: small)
    monkeypatch.setattr(targets, "target_sets", lambda: TINY)
    assert run(main, ["--output", str(tmp_path / "one"), "--n-jobs", "1"]) == 0
    said = capsys.readouterr()
    assert [line.split()[:3] for line in said.out.splitlines()] == [
        ["same", "2", "networks"],
        ["adam", "1", "networks"],
    ]
    assert "same: 2 of 2 kept" in said.err
    assert "about 0 min left" in said.err
    assert run(main, ["--output", str(tmp_path / "two"), "--n-jobs", "1", "--sets", "adam"]) == 0
    first, second = (load_targets(tmp_path / name)["adam"][0] for name in ("one", "two"))
    assert first.fingerprint() == second.fingerprint(), "a seed gives one network"
    assert not (tmp_path / "two" / "same").exists()


WRONG_USAGE = {
    "--output": [],
    "invalid choice: 'none'": ["--output", "x", "--sets", "none"],
    "--n-jobs is 0": ["--output", "x", "--n-jobs", "0"],
}


@pytest.mark.parametrize("words", WRONG_USAGE)
def test_wrong_usage(words, capsys):
    assert run(main, WRONG_USAGE[words]) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.count("\n") == 1


def dense(inputs=3, classes=2, shift=0.0):
    return Network.from_arrays([np.full((inputs, classes), 0.5)], [np.full(classes, shift)])


def test_folders_of_a_user(tmp_path):
    for name, shift in (("b", 2.0), ("a", 1.0)):
        dense(shift=shift).save(make(tmp_path / "mine") / f"{name}.npz")
    dense(shift=3.0).save(make(tmp_path / "also") / "only.npz")
    (tmp_path / "mine" / "notes.txt").write_text("no network")
    make(tmp_path / ".hidden")
    found = load_targets(tmp_path)
    assert {name: [n.layers[0].bias[0] for n in networks] for name, networks in found.items()} == {
        "also": [3.0], "mine": [1.0, 2.0],
    }  # fmt: skip


def test_an_onnx_file_is_a_target(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs pip install 'arfj[verify]'")
    weight = onnx.numpy_helper.from_array(np.eye(3, 2, dtype=np.float32), "W")
    node = onnx.helper.make_node("MatMul", ["x", "W"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(*end) for end in (("x", 1, [1, 3]), ("y", 1, [1, 2]))]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [weight])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)])
    onnx.save(model, make(tmp_path / "set") / "net.onnx")
    (network,) = load_targets(tmp_path)["set"]
    np.testing.assert_array_equal(network(np.array([[1.0, 2.0, 3.0]])), [[1.0, 2.0]])


def make(folder):
    folder.mkdir(exist_ok=True)
    return folder


WRONG = {
    "is no folder; expected": lambda folder: folder.rmdir(),
    "has no sub-folders; expected": lambda folder: dense().save(folder / "net.npz"),
    "empty holds no network; expected": lambda folder: make(folder / "empty"),
    "broken": lambda folder: (make(folder / "set") / "net.npz").write_bytes(b"PK other"),
    "3 inputs and 2 classes in a; 4 inputs and 2 classes in b": lambda folder: [
        dense(inputs).save(make(folder / name) / "net.npz") for name, inputs in (("a", 3), ("b", 4))
    ],
}


@pytest.mark.parametrize("words", WRONG)
def test_folders_that_are_none(words, tmp_path):
    WRONG[words](make(tmp_path / "targets"))
    with pytest.raises(ArfjError, match=words):
        load_targets(tmp_path / "targets")


def test_the_module_is_light():
    code = "import sys, experiments.transfer.targets\nprint([m for m in ('tensorflow', 'keras') if m in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout.strip() == "[]"
