"""The compiled loops against those in NumPy: the same answers, whatever the numbers are."""

import shutil
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from bab_settings import HARDER, SECONDS, harder
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import random as random_matrix

import arfj
from arfj.bab import Relaxation, Search, kernels, plain
from arfj.conflicts import Conflicts
from arfj.solver import branching

needs_compiled = pytest.mark.skipif(kernels.FAST is None, reason="arfj.bab.fast was not compiled from this source")
BOTH = [pytest.param(plain, id="plain"), pytest.param(kernels.FAST, id="fast", marks=needs_compiled)]
DRAWS = st.integers(0, 2**32 - 1)
NAMES = [
    "Table",
    "best_columns",
    "implied",
    "rates",
    "open_neurons",
    "changes",
    "amounts",
    "by_phase",
    "Clauses",
]


def table_of(loops, rng, ball=True):
    """A program of 12 rows, 9 columns and 7 pixels, with all kinds of sides; the last row is the ball's."""
    columns = random_matrix(9, 12, 0.4, "csr", random_state=np.random.default_rng(int(rng.integers(2**32))))
    signs = rng.integers(0, 3, 12)
    return loops.Table(
        columns,
        rng.normal(size=(4, 7)),
        np.array([0, 3, 5, 6]),
        rng.random(14),
        rng.normal(size=(2, 12)),
        np.where(signs == 0, 0.0, -np.inf),
        np.where(signs == 1, 0.0, np.inf),
        rng.random(12),
        11 if ball else -1,
    )


def some_phases(rng, neurons, count):
    """So many neurons, off or on."""
    return {int(neuron): bool(rng.integers(2)) for neuron in rng.permutation(neurons)[:count]}


@needs_compiled
class TestSame:
    @given(DRAWS, st.booleans(), st.integers(-1, 8), st.sampled_from([0.0, 1.0]))
    @settings(deadline=None)
    def test_lagrangian(self, draw, ball, column, cost):
        one, other = (table_of(loops, np.random.default_rng(draw), ball) for loops in (plain, kernels.FAST))
        given_ = np.random.default_rng(draw + 1).normal(size=12) * np.random.default_rng(draw).integers(0, 2, 12)
        found, expected = (table.lagrangian(given_.tolist(), column, cost) for table in (other, one))
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)
        low, up = -np.random.default_rng(draw).random((2, 9))
        assert kernels.FAST.best_columns(found[5], low, -up) == pytest.approx(plain.best_columns(found[5], low, -up))

    @given(DRAWS, st.integers(1, 60), st.integers(1, 12), st.floats(0.1, 12))
    @settings(deadline=None)
    def test_implied(self, draw, count, neurons, scale):
        """Whole numbers, so that no sum is rounded and gains often meet the slack exactly; more room than proofs."""
        rng = np.random.default_rng(draw)
        gains = rng.integers(0, 5, (2 * neurons, count + 3)).astype(float)
        needed = rng.integers(1, 2 + int(scale * 2), count).astype(float)
        largest = gains.max(axis=0)
        held = rng.permutation(neurons)[: int(rng.integers(0, neurons + 1))]
        literals = (held + neurons * rng.integers(0, 2, len(held))).tolist()
        answers = []
        for loops in (plain, kernels.FAST):
            used = np.zeros(count + 3)
            answers.append((loops.implied(gains, needed.copy(), largest, used, 7.0, literals), used.tolist()))
        assert answers[0] == answers[1]

    @given(DRAWS, st.integers(1, 30))
    @settings(deadline=None)
    def test_rates_and_open_neurons(self, draw, neurons):
        rng = np.random.default_rng(draw)
        amounts = (rng.random((2, neurons)) * (rng.random((2, neurons)) < 0.8)).astype(np.float32)
        held = {int(neuron): True for neuron in np.flatnonzero(rng.random(neurons) < 0.3)}
        found = kernels.FAST.open_neurons(amounts, held)
        assert found.tolist() == plain.open_neurons(amounts, held).tolist()
        costs = branching.Costs(neurons)
        for _ in range(int(rng.integers(0, 3 * neurons))):
            costs.note(int(rng.integers(2)), int(rng.integers(neurons)), 10 ** rng.uniform(-9, 2), rng.random())
        mine, theirs = (loops.rates(amounts, found, costs) for loops in (kernels.FAST, plain))
        np.testing.assert_allclose(mine, theirs, rtol=1e-9)
        gains = np.maximum(costs.of(found) * np.maximum(amounts[:, found], branching.OPEN), branching.LEAST_GAIN)
        np.testing.assert_allclose(mine, branching.growth(*gains), rtol=1e-9)

    @given(DRAWS, st.integers(0, 20))
    @settings(deadline=None)
    def test_changes(self, draw, neurons):
        rng = np.random.default_rng(draw)
        before, after = (some_phases(rng, neurons, int(rng.integers(neurons + 1))) for _ in range(2))
        gone, new = kernels.FAST.changes(before, after)
        assert (gone, new) == plain.changes(before, after)
        left = {neuron: on for neuron, on in before.items() if neuron not in gone}
        assert {**left, **{neuron: after[neuron] for neuron in new}} == after
        assert not set(left) & set(new)

    @given(DRAWS, st.integers(0, 12))
    @settings(deadline=None)
    def test_amounts_and_phases(self, draw, neurons):
        rng = np.random.default_rng(draw)
        many, rows = 2 * neurons + 5, neurons + 4
        both = rng.permutation(many)[: 2 * neurons].reshape(2, neurons)
        low, full = np.sort(rng.normal(size=(2, many)), axis=0)
        low[both] = 0.0
        full = np.abs(full) + 0.1
        values, reduced, multipliers = rng.normal(size=many), rng.normal(size=many), rng.random(rows)
        triangles = rng.permutation(rows)[:neurons]
        answers = [
            (
                loops.amounts(values.tolist(), both, full[both]),
                *loops.by_phase(reduced, low, full, multipliers, both, triangles),
            )
            for loops in (plain, kernels.FAST)
        ]
        for mine, theirs in zip(*answers, strict=True):
            np.testing.assert_allclose(mine, theirs, rtol=1e-12, atol=1e-12)
        assert answers[0][0].min(initial=0.0) >= 0.0
        assert answers[0][3].min(initial=0.0) >= 0.0

    @given(DRAWS, st.integers(1, 10), st.integers(0, 25))
    @settings(deadline=None)
    def test_what_conflicts_imply(self, draw, neurons, count):
        """Conflicts that come later are known as well; with what is known to be implied already, the same follows."""
        rng = np.random.default_rng(draw)
        conflicts = Conflicts(neurons)
        one, other = plain.Clauses(conflicts), kernels.FAST.Clauses(conflicts)
        for number in range(count + 1):
            held = some_phases(rng, neurons, int(rng.integers(neurons + 1)))
            found, expected = (clauses.implied(held) for clauses in (other, one))
            assert found == expected
            assert (found is held) == (expected is held)
            if expected is not None:
                more = {**expected, **some_phases(rng, neurons, 1)}
                if all(more[neuron] is on for neuron, on in expected.items()):
                    assert other.implied(more, expected) == one.implied(more, expected)
            if number < count:
                size = int(rng.integers(0 if rng.random() < 0.02 else 1 if rng.random() < 0.1 else 2, 5))
                conflicts.add(list(some_phases(rng, neurons, min(size, neurons)).items()))

    @pytest.mark.parametrize("seed", HARDER)
    def test_whole_searches(self, monkeypatch, seed):
        """Trees may differ by ties; what is proven does not."""
        question, x, bounds = harder(seed)
        found = []
        for loops in (plain, kernels.FAST):
            for name in NAMES:
                monkeypatch.setattr(kernels, name, getattr(loops, name))
            relaxation = Relaxation(question, bounds)
            relaxation.maximise(None)
            relaxation.enter(x)
            found.append(Search(relaxation, 2, 50).run({}, -np.inf, perf_counter() + SECONDS, 1e-7))
        assert found[0].closed
        assert found[1].closed
        assert found[0].bound == pytest.approx(found[1].bound, rel=1e-6)


@pytest.mark.parametrize("loops", BOTH)
class TestEither:
    def test_open_is_what_is_above_the_tolerance(self, loops):
        amounts = branching.OPEN * np.array([[0.9, 1.1, 1.1, 0.9], [1.1, 0.9, 1.1, 0.9]], dtype=np.float32)
        assert loops.open_neurons(amounts.astype(np.float32), {}).tolist() == [2]

    def test_numbers_that_are_none_count_as_nothing(self, loops):
        rng = np.random.default_rng(0)
        table = table_of(loops, rng)
        numbers = rng.normal(size=12)
        numbers[[0, 4, 11]] = 0.0
        expected = table.lagrangian(numbers.tolist(), 2, 1.0)
        numbers[[0, 4, 11]] = np.nan, np.inf, -np.inf
        with np.errstate(all="ignore"):
            found = table.lagrangian(numbers.tolist(), 2, 1.0)
        for mine, theirs in zip(found, expected, strict=True):
            np.testing.assert_allclose(mine, theirs)

    def test_a_proof_that_needs_no_more_is_closed(self, loops):
        gains = np.array([[1.0], [0.0], [0.0], [2.0]])  # off, off, on, on of two neurons
        used = np.zeros(1)
        assert loops.implied(gains, np.array([1.0]), np.array([2.0]), used, 3.0, [0]) is None
        assert used.tolist() == [3.0]

    def test_what_would_close_is_not_possible(self, loops):
        """1.5 is needed: neuron 1 on takes 2, so it is off; neuron 0 off takes 1, which is not enough."""
        gains = np.array([[1.0], [0.0], [0.0], [2.0]])
        assert loops.implied(gains, np.array([1.5]), np.array([2.0]), np.zeros(1), 3.0, []) == [1]
        assert loops.implied(gains, np.array([2.5]), np.array([2.0]), np.zeros(1), 3.0, []) == []
        assert loops.implied(gains, np.array([2.0]), np.array([2.0]), np.zeros(1), 3.0, []) == [1]


@needs_compiled
class TestCompiled:
    def test_arrays_that_do_not_fit(self):
        table = table_of(kernels.FAST, np.random.default_rng(0))
        for given_, column in ((11 * [0.0], 0), (13 * [0.0], 0), (12 * [0.0], 9)):
            with pytest.raises(ValueError, match="one multiplier a row"):
                table.lagrangian(given_, column, 1.0)

        with pytest.raises(ValueError, match="differ in length"):
            kernels.FAST.best_columns(np.zeros(3), np.zeros(3), np.zeros(2))

    @pytest.mark.parametrize(("count", "literals"), [(3, []), (2, [-1]), (2, [8])])
    def test_proofs_that_do_not_fit(self, count, literals):
        """Eight literals and two proofs."""
        with pytest.raises(ValueError, match=r"more slack than proofs|none of these neurons"):
            kernels.FAST.implied(np.zeros((8, 2)), np.ones(count), np.zeros(2), np.zeros(2), 1.0, literals)

    def test_neurons_that_there_are_not(self):
        zeros, columns = np.zeros(4), np.array([[0, 4], [1, 2]])
        with pytest.raises(ValueError, match="no value"):
            kernels.FAST.amounts(zeros.tolist(), columns, np.ones((2, 2)))
        with pytest.raises(ValueError, match="that there is not"):
            kernels.FAST.by_phase(zeros, zeros, zeros, zeros, columns, np.array([0, 1]))
        with pytest.raises(ValueError, match="that there is not"):
            kernels.FAST.by_phase(zeros, zeros, zeros, zeros, columns % 4, np.array([0, 4]))
        with pytest.raises(ValueError, match="none of these neurons"):
            kernels.FAST.Clauses(Conflicts(2, [[(0, True)]])).implied({2: True})

    def test_another_source_is_not_used(self, tmp_path):
        """A checkout that has moved on since it was installed goes on in NumPy."""
        root = Path(arfj.__file__).parent
        shutil.copytree(root, tmp_path / "arfj", ignore=shutil.ignore_patterns("bundle", "__pycache__"))
        ask = [sys.executable, "-c", "from arfj.bab import kernels as k; print(k.COMPILED, k.Table.__module__)"]

        def asked():
            return subprocess.run(ask, cwd=tmp_path, capture_output=True, text=True, check=True).stdout.split()

        assert asked() == ["True", "arfj.bab.fast"]
        with (tmp_path / "arfj" / "bab" / "fast.pyx").open("a") as file:
            file.write("# another text\n")
        assert asked() == ["False", "arfj.bab.plain"]
        (tmp_path / "arfj" / "bab" / "fast.pyx").unlink()
        assert asked() == ["False", "arfj.bab.plain"]
