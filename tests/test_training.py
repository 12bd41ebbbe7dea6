"""Training: the same seed gives the same bits, what is discarded is counted, a set agrees with its manifest."""

import itertools
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from blobs import instead_of_training, small_data

from arfj import data
from arfj.cli import run
from arfj.ensemble import outer_samples
from arfj.errors import ArfjError, DataError, UsageError
from arfj.network import Dense, Network, softmax
from training import Settings, fresh_networks, outcomes
from training.benchmark import numpy_epoch
from training.check import check_set
from training.growth import Growth, make_growth
from training.sets import Plan, choose_images, make_set
from training.settings import Convolution
from training.train import main

pytest.importorskip("tensorflow", reason="needs pip install 'arfj[train]'")
from training.refit import refit
from training.trainer import import_tensorflow, new_model, train

QUICK = Settings(hidden=(32,), epochs=2, least=0.0, most=1.0)


@pytest.fixture(scope="module")
def small():
    return small_data()


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


def test_adam_steps_as_keras_does(small):
    settings = Settings(hidden=(8,), epochs=4, batch=1600, rate=1e-3, last_rate=0.5, optimiser="adam")
    _, keras = import_tensorflow()
    model = new_model(keras, settings.sizes, 5)
    optimiser = keras.optimizers.Adam()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimiser, loss)
    for epoch in range(4):  # a batch of all images: their order does not matter
        optimiser.learning_rate = settings.rate_of(epoch)
        model.fit(data.scaled(small.train_images).astype(np.float32), small.train_labels, 1600, verbose=0)
    arrays = model.get_weights()
    expected = Network.from_arrays(arrays[0::2], arrays[1::2]).parameters()
    np.testing.assert_allclose(train(5, settings, small).parameters(), expected, atol=1e-5)
    one = train(5, replace(settings, epochs=1), small).parameters()
    assert np.abs(one - expected).max() > 1e-3, "the tolerance would not see a step"


def test_adam_reaches_what_it_should_and_repeats(small):
    settings = Settings(hidden=(64,), epochs=4, rate=3e-3, optimiser="adam")
    first, again = (train(1, settings, small) for _ in range(2))
    assert (
        first.fingerprint() == again.fingerprint() != train(1, replace(settings, optimiser="sgd"), small).fingerprint()
    )
    assert (first.classify(data.scaled(small.test_images)) == small.test_labels).mean() > 0.85


def changed_where(small, same, images):
    return replace(small, train_images=np.where(same[:, None], small.train_images, images).astype(np.uint8))


def test_half_of_the_images_is_exactly_half(small):
    settings = Settings(hidden=(4,), epochs=3, batch=8, images=0.5)
    # What a network sees: the images whose change changes it. One epoch suffices to find out, with one batch for all.
    whole = replace(settings, epochs=1, batch=800)
    expected = train(3, whole, small).fingerprint()
    rng = np.random.default_rng(3)
    seen = np.isin(np.arange(1600), rng.permutation(1600)[:800])
    unseen_changed = changed_where(small, seen, 255 - small.train_images)
    assert train(3, whole, unseen_changed).fingerprint() == expected
    assert train(3, settings, unseen_changed).fingerprint() == train(3, settings, small).fingerprint()
    for index in np.flatnonzero(seen)[[0, 400, 799]]:
        one_changed = changed_where(small, np.arange(1600) != index, 255 - small.train_images)
        assert train(3, whole, one_changed).fingerprint() != expected
    assert train(4, whole, unseen_changed).fingerprint() != train(4, whole, small).fingerprint(), "another half"
    with pytest.raises(UsageError, match="16 of 1600 images are less than a batch of 32"):
        train(3, Settings(images=0.01), small)


def test_one_weights_seed_and_other_orders(small):
    still = Settings(hidden=(8,), epochs=1, rate=1e-50, weights_seed=2)  # zero in float32
    starts = [train(seed, still, small).fingerprint() for seed in (2, 30, 31)]
    assert len(set(starts)) == 1
    assert starts[0] == train(2, replace(still, weights_seed=None), small).fingerprint()
    moving = Settings(hidden=(8,), epochs=1, weights_seed=2)
    ends = {train(seed, moving, small).fingerprint() for seed in (2, 30, 31)}
    assert len(ends) == 3
    assert train(2, replace(moving, weights_seed=None), small).fingerprint() in ends


def cross_entropy(network, image, label):
    return -np.log(softmax(network(image[None]))[0, label])


def small_network(activation):
    rng = np.random.default_rng(8)
    shapes = ((6, 5), (5, 4), (4, 3))
    layers = [
        Dense(rng.normal(size=shape).astype(np.float32), rng.random(shape[1]).astype(np.float32)) for shape in shapes
    ]
    # On the image below the output of the label is negative, so that a ReLU there shuts its gradient off.
    last = replace(layers[-1], bias=layers[-1].bias - 1.5, activation=activation)
    return Network((*layers[:-1], last), (2, 3))


@pytest.mark.parametrize("activation", ["relu", "linear"])
def test_refit_goes_down_the_gradient(activation):
    network, image = small_network(activation), np.random.default_rng(1).random(6)
    moved = refit(network, image.reshape(2, 3), 1, 0.1)
    assert (moved.sizes, moved.input_shape) == (network.sizes, (2, 3))
    assert moved.layers[-1].activation == activation
    assert (network(image[None])[0, 1] < 0) == (activation == "linear")
    before, step = network.parameters(), 1e-6
    ends = [
        [cross_entropy(network.with_parameters(before + sign * step * axis), image, 1) for sign in (1, -1)]
        for axis in np.eye(before.size)
    ]
    gradient = np.array([(up - down) / (2 * step) for up, down in ends])
    assert np.count_nonzero(np.abs(gradient) > 1e-3) > 20
    np.testing.assert_allclose((before - moved.parameters()) / 0.1, gradient, atol=2e-5)
    np.testing.assert_array_equal(moved.parameters(), moved.parameters().astype(np.float32))


def test_refit_is_an_epoch_on_one_image(small):
    one = replace(small, train_images=small.train_images[7:8], train_labels=small.train_labels[7:8])
    settings = Settings(hidden=(8,), epochs=1, batch=1, rate=0.05)
    start = train(0, replace(settings, rate=1e-30), one)
    moved = refit(start, data.scaled(one.train_images[0]), int(one.train_labels[0]), 0.05)
    expected = train(0, settings, one).parameters()
    assert np.abs(expected - start.parameters()).max() > 1e-3
    np.testing.assert_allclose(moved.parameters(), expected, atol=1e-6)


def test_refit_refuses_what_does_not_fit():
    network, image = small_network("relu"), np.zeros(6)
    for wrong, words in (
        ((image[:5], 0, 0.1), "5 values; expected 6"),
        ((image * np.nan, 0, 0.1), "finite"),
        ((image, 3, 0.1), "class in 0..2"),
        ((image, 0, 0.0), "positive"),
        ((image, 0, float("inf")), "positive"),
    ):
        with pytest.raises(UsageError, match=words):
            refit(network, *wrong)


def test_a_convolution_is_made_dense(small):
    settings = Settings(hidden=(12,), epochs=1, rate=0.02, convolution=Convolution(filters=2, kernel=5, stride=4))
    assert (settings.sizes, settings.relus) == ((784, 72, 12, 10), 94)
    first, again = (train(3, settings, small) for _ in range(2))
    assert first.sizes == settings.sizes
    assert first.fingerprint() == again.fingerprint()
    weight = first.layers[0].weight.reshape(28, 28, 6, 6, 2)
    assert np.count_nonzero(weight) == 5 * 5 * 6 * 6 * 2
    np.testing.assert_array_equal(weight[8:13, 4:9, 2, 1], weight[:5, :5, 0, 0])
    tf, keras = import_tensorflow()
    model = new_model(keras, settings.sizes, 3, settings.convolution)
    with tf.GradientTape() as tape:  # one step of plain Keras, over all images
        outputs = model(data.scaled(small.train_images).astype(np.float32))
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(small.train_labels.astype(int), outputs))
    gradients = tape.gradient(loss, model.trainable_variables)
    arrays = [v.numpy() - 0.02 * g.numpy() for v, g in zip(model.trainable_variables, gradients, strict=True)]
    whole = Settings(hidden=(12,), epochs=1, batch=1600, rate=0.02, convolution=settings.convolution)
    stepped = train(3, whole, small)
    np.testing.assert_allclose(stepped.layers[0].weight[:5, 0], arrays[0][0, :, 0, 0], atol=1e-6)
    np.testing.assert_allclose(stepped.layers[1].weight, arrays[2], atol=1e-6)
    np.testing.assert_allclose(stepped.layers[2].bias, arrays[5], atol=1e-6)


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


GROWTH = Growth({"12": Settings(hidden=(12,), least=0.95, most=1.0)}, samples=2, own=3, epsilon=1.0)


@pytest.fixture(scope="module")
def grown(finished, small, tmp_path_factory):
    folder = tmp_path_factory.mktemp("grown") / "set"
    shutil.copytree(finished, folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.many.train", instead_of_training)
        make_growth(folder, GROWTH, small)
    return folder


def test_growth_sets_stand_beside_a_bundle(grown, small, monkeypatch, capsys):
    monkeypatch.setattr("training.check.load_fashion_mnist", lambda download: small)
    content = json.loads((grown / "growth" / "manifest.json").read_text())["sets"]
    files = {name: [entry["file"] for entry in part["networks"]] for name, part in content.items()}
    assert files == {
        "12": ["growth/12_00.npz", "growth/12_01.npz", "growth/12_02.npz"],
        "10": ["networks/nominal.npz", "networks/outer_00.npz", "growth/10_02.npz", "growth/10_03.npz"],
    }
    seeds = {name: [entry["seed"] for entry in part["networks"]] for name, part in content.items()}
    # The bundle took the seeds 1, 2 and 4, the last of them held out, and discarded 0 and 3.
    assert seeds == {"12": [1, 2, 4], "10": [1, 2, 5, 7]}
    assert [entry["seed"] for entry in content["12"]["discarded"]] == [3]
    assert [entry["seed"] for entry in content["10"]["discarded"]] == [6]
    assert content["12"]["networks"][0]["images"] == list(range(10))
    with np.load(grown / files["12"][1], allow_pickle=False) as arrays:
        assert arrays["W0"].dtype == arrays["b0"].dtype == np.float32
    assert sorted(path.name for path in (grown / "growth").iterdir())[-1] == "manifest.json"
    assert run(main, ["--check", str(grown)]) == 0
    assert "7 networks in 2 growth sets agree" in capsys.readouterr().out


def test_growth_sets_are_remade_and_resume(grown, finished, small, tmp_path, quick):
    folder = tmp_path / "set"
    shutil.copytree(finished, folder)

    def stop(kept, trained):
        if trained == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_growth(folder, GROWTH, small, seen=stop)
    assert not (folder / "growth" / "manifest.json").exists()
    make_growth(folder, GROWTH, small)
    assert quick == [1, 2, 3, 4, 5, 6, 7], "the second run trains only what the first had not finished"
    for path in (grown / "growth").glob("*.npz"):
        assert path.read_bytes() == (folder / "growth" / path.name).read_bytes()


def test_growth_needs_a_bundle(small, tmp_path):
    with pytest.raises(ArfjError, match="missing or broken"):
        make_growth(tmp_path, GROWTH, small)


def held_out_network(folder):
    content = json.loads((folder / "growth" / "manifest.json").read_text())
    shutil.copy(folder / "networks" / "outer_01.npz", folder / "growth" / "10_02.npz")
    held_out = json.loads((folder / "manifest.json").read_text())["networks"][-1]
    content["sets"]["10"]["networks"][2] |= {key: held_out[key] for key in ("accuracy", "d_osd", "d_in", "sha256")}
    content["sets"]["10"]["networks"][2]["fingerprint"] = held_out["fingerprint"]
    (folder / "growth" / "manifest.json").write_text(json.dumps(content))


GROWTH_CHANGES = {
    "SHA-256 differs": lambda folder: (folder / "growth" / "12_01.npz").write_bytes(b"other"),
    "is not in the manifest": lambda folder: (folder / "growth" / "12_09.npz").write_bytes(b""),
    "missing or broken": lambda folder: (folder / "growth" / "manifest.json").write_text("{}"),
    "no JSON object": lambda folder: (folder / "growth" / "manifest.json").write_text("[]"),
    "one of the networks held out": held_out_network,
}


@pytest.mark.parametrize("words", GROWTH_CHANGES)
def test_a_changed_growth_set_is_found_out(words, grown, small, tmp_path, monkeypatch):
    monkeypatch.setattr("training.check.load_fashion_mnist", lambda download: small)
    folder = tmp_path / "set"
    shutil.copytree(grown, folder)
    GROWTH_CHANGES[words](folder)
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
    "not allowed with argument --bundle": ["--bundle", "--growth"],
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
    for bad in ({"last_rate": 0}, {"batch": 0}, {"most": 1.5}, {"weights_seed": -1}):
        with pytest.raises(UsageError):
            Settings(**bad)
    for share in (0, 1.01, float("nan")):
        with pytest.raises(UsageError, match=r"in \(0, 1\]"):
            Settings(images=share)
    with pytest.raises(UsageError, match="expected sgd or adam"):
        Settings(optimiser="rmsprop")
    for bad in ((0, 4, 4), (4, 29, 4), (4, 4, 0)):
        with pytest.raises(UsageError, match="at most 28 pixels"):
            Convolution(*bad)


def test_manifests_of_the_first_settings_stay():
    assert Settings().digest() == "bf02b7f357546444", "caches and manifests name it"
    later = {"optimiser": "adam", "images": 0.5, "weights_seed": 0}
    assert Settings().as_json().keys() == Settings(**later).as_json().keys() - later.keys()
    assert Settings(**later).as_json() == Settings().as_json() | later
    others = {Settings(**{name: value}).digest() for name, value in later.items()}
    assert len(others | {Settings().digest()}) == 4
    for part in data.growth_manifest()["sets"].values():
        given = part["settings"]["convolution"]
        said = {"hidden": tuple(part["settings"]["hidden"]), "convolution": given and Convolution(**given)}
        assert Settings(**part["settings"] | said).as_json() == part["settings"]


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
