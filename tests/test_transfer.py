"""The transfer study: baselines, rows as matrices, tables, a user's own subject, and runs that are interrupted."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import random_network

from arfj.cli import run
from arfj.data import bundled_images, bundled_outer
from arfj.ensemble import Ensemble
from arfj.errors import ArfjError
from arfj.network import Network
from arfj.question import Question
from arfj.report.store import Store
from experiments import studies
from experiments.__main__ import main
from experiments.answers import change, image_of, seen
from experiments.studies import Clock, Scale, Study, Task, measure
from experiments.transfer import baselines, certain, rivals, sheets
from experiments.transfer.outcomes import exact, outcomes, paired
from experiments.transfer.plan import Asked, demand_of, questions
from experiments.transfer.subject import read_subject, subject, write_subject

RNG = np.random.default_rng(0)


class TestBaselines:
    @settings(deadline=None, max_examples=50)
    @given(st.integers(0, 10_000), st.floats(0.01, 5.0))
    def test_projection_is_the_nearest_point(self, seed, radius):
        """It lies in the set, and no point of the set is nearer: (x - P x) . (z - P x) <= 0 for all z in it."""
        rng = np.random.default_rng(seed)
        nominal, x = rng.random(7), rng.normal(0.5, 1.0, (3, 7))
        found = baselines.projected(x, nominal, radius)
        assert (found >= -1e-12).all()
        assert (found <= 1 + 1e-12).all()
        assert (np.abs(found - nominal).sum(axis=1) <= radius + 1e-9).all()
        for _ in range(20):
            z = rng.random(7)
            z = nominal + (z - nominal) * min(1.0, radius / np.abs(z - nominal).sum())
            assert (((x - found) * (z - found)).sum(axis=1) <= 1e-8).all()

    def test_projection_leaves_what_is_inside(self):
        nominal = np.full(3, 0.5)
        x = np.array([[0.5, 0.6, 0.4]])
        assert np.array_equal(baselines.projected(x, nominal, 0.3), x)

    def test_scaled_has_the_distance_asked_for(self):
        nominal, x = np.array([0.5, 0.5, 0.9]), np.array([0.6, 0.5, 1.0])
        found = baselines.scaled(nominal, x, 0.3)
        # The third pixel can move by 0.1 only; the first takes the rest.
        assert found == pytest.approx([0.7, 0.5, 1.0])
        assert baselines.scaled(nominal, x, 9.0) == pytest.approx([1.0, 0.5, 1.0])
        assert baselines.scaled(nominal, x, 0.1) == pytest.approx([0.55, 0.5, 0.95])

    @pytest.mark.parametrize("averaged", [False, True])
    def test_gradients_are_those_of_likelihood_and_smooth_least_lead(self, averaged):
        """Where all neurons are on, no share of a gradient is leaked, and central differences agree."""
        rng, small = np.random.default_rng(3), 1e-6
        networks = [
            Network.from_arrays([rng.random((3, 4)), rng.random((4, 3))], [np.ones(4), np.ones(3)]) for _ in range(2)
        ]
        x = rng.random((2, 3))

        def outputs(x):
            values = [network(x) for network in networks]
            return [np.mean(values, axis=0)] if averaged else values

        def likelihood(x):
            return np.mean([baselines.log_softmax(values)[:, 1] for values in outputs(x)], axis=0)

        def leads(x):
            return np.array([values[:, 1] - np.delete(values, 1, axis=1).max(axis=1) for values in outputs(x)])

        weights = np.exp(-leads(x) / baselines.SOFTNESS)
        weights /= weights.sum(axis=0)
        likely, lead, good = baselines.ascent(networks, x, 1, averaged)
        fooled = sum(network.classify(x) == 1 for network in networks)
        chances = [np.log(network.probabilities(x)[:, 1]) for network in networks]
        assert good == pytest.approx(fooled + np.exp(np.mean(chances, axis=0)) / 2)
        for i in range(3):
            up, down = x + small * np.eye(3)[i], x - small * np.eye(3)[i]
            assert likely[:, i] == pytest.approx((likelihood(up) - likelihood(down)) / (2 * small), abs=1e-6)
            slopes = (leads(up) - leads(down)) / (2 * small)
            assert lead[:, i] == pytest.approx((weights * slopes).sum(axis=0), abs=1e-6)

    def test_a_stretched_answer_spends_all_of_its_distance(self):
        """The first pixel of the least change sits at its bound; what is left moves the second one."""
        network = Network.from_arrays([[[0.0, 1.0], [0.0, 0.5]]], [[0.9, 0.0]])
        nominal, least = np.array([0.5, 0.2]), np.array([1.0, 0.2])
        x = baselines.stretched(network, nominal, least, 1, 0.8, seed=0)
        assert np.abs(x - nominal).sum() == pytest.approx(0.8, abs=1e-6)
        assert x == pytest.approx([1.0, 0.5], abs=1e-3)

    def test_climbing_fools_what_the_budget_allows(self):
        """Outputs (1 - x, x), from 0.2: class 1 leads from 0.5 on."""
        seesaw = Network.from_arrays([[[-1.0, 1.0]]], [[1.0, 0.0]])
        for radius, leads in ((0.29, False), (0.31, True)):
            x = baselines.climbed([seesaw], np.array([0.2]), 1, radius, seed=0)
            assert abs(x[0] - 0.2) <= radius + 1e-9
            assert (x[0] > 0.5) == leads

    def test_noise_leaves_the_first_network_alone(self):
        network = random_network((4, 3, 2), 0)
        first, *others = baselines.noisy(network, 2, 0)
        assert first is network
        ratios = np.concatenate([other.parameters() / network.parameters() - 1 for other in others])
        assert 0.02 < ratios.std() < 0.25
        assert len({other.fingerprint() for other in others}) == 2


def row(position, method="exact", alpha=0, hit=(9,), distance=1.0, **more):
    """An answer for image `position` of class 1, target 0, seen by networks that give the classes `hit`."""
    many = len(hit)
    chances = {"target": [0.5] * many, "true": [0.25] * many, "rival": [0.4] * many}
    facts = {"study": "transfer", "method": method, "goal": "paper", "gamma": 0.2, "alpha": alpha, "active": 1}
    facts |= {"position": position, "index": 100 + position, "true": 1, "target": 0, "distance": distance}
    facts |= {
        "status": "optimal",
        "gap": 0.0,
        "replay": {"hit": True},
        "seconds": 1.0,
        "seen": {"same": {"class": list(hit)} | chances},
    }
    return facts | {"key": f"{method}/{alpha}/{position}"} | more


CLEAN = [row(0, "clean", hit=(1, 1, 1, 5)), row(1, "clean", hit=(1, 1, 1, 1))]
ALONE = [row(0, alpha=0, hit=(0, 1, 1, 0)), row(1, alpha=0, hit=(1, 1, 1, 1), distance=2.0)]
ROBUST = [row(0, alpha=5, hit=(0, 0, 2, 0), distance=2.0), row(1, alpha=5, hit=(0, 0, 0, 1), distance=3.0)]


class TestOutcomes:
    def test_only_targets_that_are_right_on_the_clean_image_count(self):
        found = outcomes(CLEAN + ALONE, exact(0), "same")
        assert found.valid.tolist() == [[True, True, True, False], [True] * 4]
        assert found.mean(found.hit.astype(float)) == pytest.approx(1 / 7)
        assert found.mean(found.missed.astype(float)) == pytest.approx(1 / 7)

    def test_without_answers_there_is_none(self):
        assert outcomes(CLEAN + ALONE, exact(5), "same") is None
        assert outcomes(CLEAN + ALONE, exact(0), "other") is None

    def test_pairs_share_their_images(self):
        one, other = (outcomes(CLEAN + ALONE + ROBUST[1:], exact(alpha), "same") for alpha in (0, 5))
        mine, yours = paired(one, other)
        assert mine.positions == yours.positions == (1,)
        assert mine.hit.shape == (1, 4)

    def test_known_tables(self):
        rows = CLEAN + ALONE + ROBUST
        first = sheets.by_alpha(rows).rows
        # 5 of 7 targets, 6 of 7 not the true class; prices 2 / 1 and 3 / 2.
        assert first[1][:6] == ["5", "2 of 2", 2, 0.0, 2.5, 1.75]
        assert first[1][6] == pytest.approx(5 / 7)
        assert first[1][8] == pytest.approx(6 / 7)
        assert first[1][11:] == pytest.approx([0.25, 0.1])
        image = certain.by_image(rows).rows[0]
        assert image[:2] == [100, "1 → 0"]
        assert (image[3], image[6]) == ("1 of 3", "2 of 3")
        assert image[4] == "1 to 91"

    def test_a_baseline_counts_only_at_the_distance_of_the_exact_answer(self):
        rows = CLEAN + ALONE + ROBUST
        right = row(0, "logits", 5, (0, 0, 0, 0), 2.0, budget=2.0, fooled=6, scenarios=6, key="a", seconds=1.5)
        stale = right | {"budget": 1.9, "key": "b"}
        table = rivals.by_method([*rows, stale, right]).rows
        assert [line[0] for line in table][2:] == ["gradient steps on averaged outputs"]
        # All lines are of the one image that the baseline has an answer to: 3 of 3 targets, the exact answer 2 of 3.
        assert [line[1] for line in table] == [1, 1, 1]
        assert table[2][2:6] == [2.0, 1.5, 1, 1.0]
        assert table[0][5] == pytest.approx(2 / 3)

    def test_without_its_own_networks_an_answer_rests_on_all(self):
        """An answer that was proven by an earlier run alone tells none: the scenario bound then says nothing."""
        told = [certain.certificates([*CLEAN, *(one | {"active": k} for one in ROBUST)]).rows[0] for k in (1, 0)]
        assert told[0][4] == pytest.approx(told[0][3])
        assert told[0][4] > 0.2
        assert told[1][4] == 0.0

    def test_unanswered_questions_are_told(self):
        open_ = ROBUST[1] | {"distance": None, "seen": None}
        del open_["seen"]
        assert sheets.by_alpha([*CLEAN, *ALONE, ROBUST[0], open_]).rows[1][1] == "1 of 2"


class TestAnswers:
    def test_an_image_is_made_again_from_its_row(self):
        nominal = RNG.random(6)
        x = nominal.copy()
        x[[1, 4]] = 1 / 3, 0.7
        kept = json.loads(json.dumps({"change": change(x, nominal)}))
        assert np.array_equal(image_of(kept, nominal), x)
        assert kept["change"]["at"] == [1, 4]
        assert image_of({"change": None}, nominal) is None

    def test_seen_is_what_networks_say(self):
        x, networks = bundled_images().nominal[3], bundled_outer()
        found = seen(x, 3, 2, networks)
        chances = [network.probabilities(x[None])[0] for network in networks]
        assert found["class"] == [int(np.argmax(network(x[None])[0])) for network in networks]
        assert found["target"] == pytest.approx([p[2] for p in chances], abs=5.1e-5)
        assert found["rival"] == pytest.approx([max(np.delete(p, 2)) for p in chances], abs=5.1e-5)


class TestPlan:
    def test_all_questions_of_the_full_study(self):
        networks = subject(Scale())
        asked = list(questions(networks, Scale()))
        assert len(asked) == len({one.key(networks) for one in asked}) == 50 * 6 + 2 * 50 + 6 * 10 + 6 * 10 + 4 * 10
        assert {len(networks.ensemble(one.alpha)) for one in asked} == {1, 2, 3, 6, 11, 21}
        counts = np.bincount(networks.labels)
        assert (counts == 5).all()
        for one in asked[:50]:
            assert one.target(networks) == (networks.labels[one.image] - 1) % 10

    def test_the_second_target_is_the_likeliest_other_one(self):
        networks = subject(Scale())
        for image in networks.first_of_class():
            true, target = int(networks.labels[image]), Asked(image, goal="likeliest").target(networks)
            chances = networks.attack[0].probabilities(networks.images[[image]])[0]
            assert target not in (true, (true - 1) % 10)
            assert (np.delete(chances, [true, (true - 1) % 10]) <= chances[target]).all()

    def test_no_network_of_the_attack_is_a_target(self):
        small = Scale("smoke")
        from experiments.transfer.subject import targets

        attack = {network.fingerprint() for network in subject(small).attack}
        assert not attack & {network.fingerprint() for found in targets(small).values() for network in found}


def ones(key):
    return {"status": "optimal", "value": key}


def failing(times, key):
    """Fails as long as the file `times` lacks a line."""
    if not times.exists():
        times.write_text("once\n")
        raise ArfjError("not yet")
    return ones(key)


def study_of(*stages, **more):
    return Study("one", "a study", stages, lambda _rows: [], **more)


class TestMeasure:
    def test_stages_see_the_rows_of_those_before(self, tmp_path):
        def first(_scale, _rows):
            return [Task(f"a/{n}", partial(ones, n), 1.0) for n in range(3)]

        def second(_scale, rows):
            return [Task(f"b/{r['value']}", partial(ones, r["value"]), 1.0) for r in rows if r["key"][0] == "a"]

        store = Store(tmp_path / "rows.jsonl")
        for _ in range(2):
            measure(study_of(first, second), store, Scale(jobs=1))
            assert [r["key"] for r in store.rows()] == ["a/0", "a/1", "a/2", "b/0", "b/1", "b/2"]
        assert {"host", "took", "jobs", "machine"} <= store.rows()[0].keys()

    def test_a_failed_task_is_asked_for_again_and_the_others_are_kept(self, tmp_path):
        def stage(_scale, _rows):
            return [Task("a", partial(failing, tmp_path / "f", "a"), 1.0), Task("b", partial(ones, "b"), 1.0)]

        store = Store(tmp_path / "rows.jsonl")
        with pytest.raises(ArfjError, match="1 of the tasks of one failed, a first: not yet"):
            measure(study_of(stage), store, Scale(jobs=1))
        measure(study_of(stage), store, Scale(jobs=1))
        assert [(r["key"], r["status"]) for r in store.rows()] == [("a", "error"), ("b", "optimal"), ("a", "optimal")]

    def test_what_is_added_to_rows_follows_the_networks_that_are_there(self, tmp_path):
        stage = lambda _scale, _rows: [Task("a", partial(ones, "a"), 1.0)]  # noqa: E731
        store = Store(tmp_path / "rows.jsonl")
        for value in (1, 1, 2):
            measure(study_of(stage, completed=lambda _s, r, v=value: {**r, "seen": v}), store, Scale(jobs=1))
        assert [r["seen"] for r in store.rows()] == [1, 2]

    def test_more_time_asks_again_for_what_is_open(self, tmp_path):
        def stage(scale, _rows):
            limit = scale.seconds(10.0)
            return [Task(k, partial(dict, status=s), limit) for k, s in (("a", "optimal"), ("b", "feasible"))]

        store = Store(tmp_path / "rows.jsonl")
        for limit, count in ((5.0, 2), (5.0, 2), (9.0, 3), (7.0, 3)):
            measure(study_of(stage), store, Scale(limit=limit, jobs=1))
            assert len(store.rows()) == count

    def test_time_left(self):
        clock = Clock(2)
        tasks = [Task(str(n), dict, 10.0, "slow" if n else "fast") for n in range(3)]
        clock.add(tasks)
        assert clock.remaining == 15.0
        assert clock.line == "0 of 3 done, at most about 15 s left"
        clock.took(tasks[1], 4.0)
        assert clock.remaining == (10.0 + 4.0) / 2
        clock.took(tasks[0], 1.0)
        assert clock.line == "2 of 3 done, about 2 s left"

    def test_rows_that_are_compressed_are_read(self, tmp_path):
        import gzip

        path = tmp_path / "r.jsonl.gz"
        with gzip.open(path, "wt") as stream:
            stream.write('{"key": "a", "n": 1}\n{"key": "a", "n": 2}\n')
        assert studies.read(path) == [{"key": "a", "n": 2}]
        path.write_bytes(b"no rows")
        with pytest.raises(ArfjError, match="cannot read"):
            studies.read(path)


def noisy_method(seed):
    """A training method of a user's own: one weight matrix, a little off."""
    rng = np.random.default_rng(seed)
    return Network.from_arrays([np.eye(2) + 0.05 * rng.random((2, 2))], [np.zeros(2)])


class TestSubject:
    def write(self, folder):
        x = np.array([[0.8, 0.2], [0.1, 0.9], [0.4, 0.6]])
        write_subject(folder, noisy_method, [0, 1], {"same": [2, 3, 4], "other": [5]}, x, [0, 1, 0])

    def test_a_study_of_ones_own(self, tmp_path, capsys):
        self.write(tmp_path / "mine")
        found = read_subject(tmp_path / "mine")
        assert found.labels.tolist() == [0, 1]  # the third image is misclassified
        folders = ["--subject", str(tmp_path / "mine"), "--out", str(tmp_path / "out")]
        asked = ["transfer", "--run", *folders, "--jobs", "1"]
        assert run(main, asked) == 0
        told = capsys.readouterr().out
        assert "3 target networks" in told
        rows = Store(tmp_path / "out" / "results.jsonl").rows()
        # Alpha 0 and 1, gamma 0 and 1, one of two networks, the mean of both; no second target with two classes.
        assert sum(r["method"] == "exact" for r in rows) == 12
        assert set(rows[-1]["seen"]) == {"same", "other"}
        assert (tmp_path / "out" / "transfer_alpha.pdf").read_bytes().startswith(b"%PDF")

    def test_what_is_there_is_kept(self, tmp_path):
        self.write(tmp_path)
        before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*") if p.parent.name != tmp_path.name}
        self.write(tmp_path)
        assert before == {p: p.stat().st_mtime_ns for p in before}

    def test_one_seed_on_both_sides(self, tmp_path):
        with pytest.raises(ArfjError, match="seed 1 is for the attack and to be fooled"):
            write_subject(tmp_path, noisy_method, [0, 1], {"same": [1]}, [[0.8, 0.2]], [0])

    @pytest.mark.parametrize(
        ("arrays", "words"),
        [
            ({"x": np.zeros((1, 2))}, "needs x"),
            ({"x": np.zeros((1, 3)), "y": np.array([0])}, "has 3 values an image; 000.npz takes 2"),
            ({"x": np.array([[200.0, 3.0]]), "y": np.array([0])}, "divide by 255"),
            ({"x": np.array([[0.9, 0.1]]), "y": np.array([1])}, "misclassifies image 0"),
        ],
    )
    def test_bad_images(self, tmp_path, capsys, arrays, words):
        self.write(tmp_path)
        np.savez(tmp_path / "images.npz", **arrays)
        assert run(main, ["transfer", "--run", "--subject", str(tmp_path), "--out", str(tmp_path / "o")]) == 1
        told = capsys.readouterr()
        assert words in told.err
        assert told.err.count("\n") == 1

    def test_no_networks(self, tmp_path, capsys):
        assert run(main, ["transfer", "--run", "--subject", str(tmp_path / "no"), "--out", str(tmp_path / "o")]) == 1
        assert "is no folder" in capsys.readouterr().err


class TestCommand:
    def test_list(self, capsys):
        assert run(main, []) == 0
        assert "transfer" in capsys.readouterr().out

    @pytest.mark.parametrize(
        "options",
        [["nonsense"], ["transfer", "--run"], ["transfer", "--smoke", "--jobs", "0"], ["transfer", "--limit", "x"]],
    )
    def test_wrong_usage(self, options):
        assert run(main, options) == 2

    @pytest.mark.slow
    def test_smoke_and_a_second_run(self, tmp_path, capsys):
        asked = ["transfer", "--smoke", "--out", str(tmp_path), "--jobs", "1"]
        assert run(main, asked) == 0
        told = capsys.readouterr().out
        before = (tmp_path / "results.jsonl").read_bytes()
        assert run(main, asked) == 0
        assert (tmp_path / "results.jsonl").read_bytes() == before
        assert capsys.readouterr().out == told
        self.answers_replay(tmp_path)

    def answers_replay(self, folder):
        """Every image of a row fools what the row says it fools, at the distance that it says."""
        networks = subject(Scale("smoke"))
        for found in Store(folder / "results.jsonl").rows():
            if found["method"] != "exact" or found["distance"] is None:
                continue
            names = (found["position"], found["alpha"], found["gamma"], found["goal"])
            asked = Asked(*names, demand_of(found), found["block"])
            question = asked.question(networks)
            x = image_of(found, question.flat)
            assert question.slack(x) >= -1e-6
            assert question.distance(x) == pytest.approx(found["distance"], abs=1e-9)
            assert found["bound"] <= found["distance"]


def test_the_attack_of_the_study_is_that_of_the_command():
    """The same ensemble as `--outer --alpha 5`."""
    from arfj.attack import sampled

    networks = subject(replace(Scale(), size="full"))
    assert [n.fingerprint() for n in networks.ensemble(5)] == [n.fingerprint() for n in sampled("outer", 5).ensemble]
    assert isinstance(networks.ensemble(5), Ensemble)
    assert isinstance(Asked(0).question(networks), Question)


def test_importing_studies_loads_nothing_heavy():
    code = "import sys, experiments.registry; print([m for m in ('tensorflow', 'jax', 'dask') if m in sys.modules])"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
