"""Bounds from the solver: nothing that answers the question within R lies outside, and they are worth their time."""

import time
from dataclasses import replace

import numpy as np
import pytest
from reference import random_question

from arfj import tighten as module
from arfj.attack.crew import Crew
from arfj.attack.descent import descend
from arfj.attack.known import BRANCHINGS, MORE, Known, cut_off_radius
from arfj.attack.options import Options
from arfj.attack.prove import Prover
from arfj.attack.regions import Corner, RegionProgram
from arfj.bounds import Bounds, pre_activation_bounds
from arfj.ensemble import Ensemble
from arfj.probe import VAIN
from arfj.question import Demand, condition_slack
from arfj.tighten import open_width, tighten, tighten_layer, tighten_scenario, tighten_together


def random_answers(question, count=400):
    """Those of some random points that answer the question."""
    return [x for x in np.random.default_rng(1).random((count, len(question.flat))) if question.slack(x) >= 0]


SEEDS = [seed for seed in range(60) if all(random_answers(random_question(seed, count)) for count in (1, 2))][:12]


def answers(question, radius, count=4000):
    """Points that answer the question within R: random ones drawn towards the nominal image as far as they answer."""
    rng = np.random.default_rng(0)
    found = []
    for x in rng.random((count, len(question.flat))):
        for share in (1.0, 0.5, 0.25, 0.1):
            point = question.flat + share * (x - question.flat)
            if question.slack(point) >= 0 and question.distance(point) <= radius:
                found.append(point)
    return found


def setting(seed, scenarios=1, room=1.3):
    """A question, R a little above its optimum, bounds over the ball, and the answer that R comes from."""
    question = random_question(seed, scenarios)
    corner = descend(RegionProgram(question), random_answers(question)[:4], time.perf_counter() + 5)
    radius = room * corner.distance
    bounds = [pre_activation_bounds(network, question.region(radius)) for network in question.ensemble]
    return question, radius, bounds, corner


@pytest.mark.parametrize("seed", SEEDS)
def test_no_answer_within_the_ball_is_outside(seed):
    question, radius, bounds, corner = setting(seed, scenarios=2)
    tightened = tighten(question, bounds, radius, time.perf_counter() + 30)
    points = np.array([*answers(question, radius), corner.x])
    for network, one in zip(question.ensemble, tightened, strict=True):
        assert one.hold(network.preactivations(points))


@pytest.mark.parametrize("seed", [2, 3, 4, 9, 12, 15])
def test_a_grid_of_answers_reaches_the_bounds(seed, monkeypatch):
    """Two pixels: with no gap left to the programs, the bounds are what a fine grid of answers has."""
    monkeypatch.setattr(module, "GAP", 1e-7)
    question = random_question(seed, 1, inputs=2, hidden=(4, 3))
    network = question.ensemble.networks[0]
    steps = np.linspace(0.0, 1.0, 401)
    grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
    radius = 1.2
    grid = grid[np.abs(grid - question.flat).sum(axis=1) <= radius]
    grid = grid[condition_slack(network(grid), question.target, question.gamma) >= 0]
    assert len(grid)
    wide = pre_activation_bounds(network, question.region(radius), "interval")
    (after,) = tighten(question, [wide], radius, time.perf_counter() + 30)
    for k, values in enumerate(network.preactivations(grid)[:-1]):
        assert (after.lower[k] <= values.min(axis=0)).all()
        assert (after.upper[k] >= values.max(axis=0)).all()
        opened = (wide.lower[k] < 0) & (wide.upper[k] > 0)
        near = 0.02 * (wide.upper[k] - wide.lower[k])
        # A side on which no answer is stays at 0, which is as good as its sign.
        assert (np.minimum(after.upper[k] - np.maximum(values.max(axis=0), 0.0), near)[opened] < near[opened]).all()
        opened &= after.upper[k] > 0  # the other side of what is off for certain is left as it was
        assert (np.minimum(np.minimum(values.min(axis=0), 0.0) - after.lower[k], near)[opened] < near[opened]).all()


def test_bounds_shrink_on_the_whole_and_never_grow():
    narrower = 0
    for seed in SEEDS:
        question, radius, bounds, _ = setting(seed)
        (after,) = tighten(question, bounds, radius, time.perf_counter() + 30)
        for low, up, new_low, new_up in zip(bounds[0].lower, bounds[0].upper, after.lower, after.upper, strict=True):
            assert (new_low >= low).all()
            assert (new_up <= up).all()
        narrower += after.unstable < bounds[0].unstable
    assert narrower >= 3


@pytest.mark.parametrize("seed", SEEDS)
def test_the_optimum_survives_a_ball_of_its_own_radius(seed):
    """R just above the optimum leaves a sliver, and the answer must stay in it."""
    question, radius, bounds, corner = setting(seed, room=1.0)
    (after,) = tighten(question, bounds, cut_off_radius(radius), time.perf_counter() + 30)
    assert after.hold(question.ensemble.networks[0].preactivations(corner.x[None]))


def test_no_time_changes_nothing():
    question, radius, bounds, _ = setting(SEEDS[0])
    after = tighten_scenario(question, bounds[0], radius, time.perf_counter() - 1)
    assert all((new == old).all() for new, old in zip(after.lower, bounds[0].lower, strict=True))


@pytest.mark.parametrize("seed", SEEDS[:4])
@pytest.mark.parametrize("first", [1, 7])
def test_layers_before_the_first_one_are_left_out(seed, first):
    """Those from it on come first: they are as without it. The last hidden one is never left out."""
    question, radius, (bounds,), _ = setting(seed)
    until = time.perf_counter() + 30
    whole = tighten_scenario(question, bounds, radius, until)
    found = tighten_scenario(question, bounds, radius, until, first=first)
    hidden = len(bounds.lower) - 1
    begun = min(first, hidden - 1)
    assert begun == 1
    for side, of_all, before in (
        (found.lower, whole.lower, bounds.lower),
        (found.upper, whole.upper, bounds.upper),
    ):
        assert (side[0] == before[0]).all()
        for layer in range(begun, hidden):
            np.testing.assert_allclose(side[layer], of_all[layer], atol=1e-6)


@pytest.mark.parametrize("hidden", [(), (5,)])
@pytest.mark.parametrize("first", [0, 1])
def test_first_layers_of_shallow_networks(hidden, first):
    question = random_question(0, 1, hidden=hidden)
    (network,) = question.ensemble.networks
    points = np.array(answers(question, np.inf))
    radius = 1.5 * min(map(question.distance, points))
    bounds = pre_activation_bounds(network, question.region(radius), "interval")
    found = tighten_scenario(question, bounds, radius, time.perf_counter() + 30, first=first)
    (together,) = tighten_together(question, [bounds], points[0], radius, time.perf_counter() + 30)
    inside = points[[question.distance(x) <= radius for x in points]]
    for after in (found, together):
        assert after.hold(network.preactivations(inside))
        assert (open_width([after]) < open_width([bounds])) == bool(hidden)


@pytest.mark.parametrize("seed", SEEDS[:3])
def test_exact_bounds_do_not_move_the_optimum(seed):
    question, *_ = setting(seed, scenarios=2)
    values = []
    for method in ("interval", "exact"):
        prover = Prover(question, Options(bounds=method, time_limit=30), lambda _name, _step: None)
        proof = prover.prove()
        assert prover.best.distance - proof.bound <= 1e-6 * prover.best.distance
        values.append(proof.bound)
    assert values[0] == pytest.approx(values[1], rel=1e-6)


def test_bounds_that_an_answer_leaves_are_thrown_away(monkeypatch):
    """A solver that bounds wrongly is caught where the best answer contradicts it."""
    question, *_ = setting(SEEDS[0])
    monkeypatch.setattr(
        "arfj.attack.crew.Crew.tighten",
        lambda _crew, _part, known, *_: [one.replaced(0, one.upper[0] + 1, one.upper[0] + 2) for one in known],
    )
    prover = Prover(question, Options(bounds="exact", time_limit=30), lambda _name, _step: None)
    proof = prover.prove()
    assert prover.best.distance - proof.bound <= 1e-6 * prover.best.distance


SOON = 30.0


class TestTogether:
    @pytest.mark.parametrize("most", [0, 3, 1000])
    @pytest.mark.parametrize("seed", SEEDS)
    def test_no_answer_within_the_ball_is_outside(self, seed, most):
        question, radius, bounds, corner = setting(seed, scenarios=2)
        found = tighten_together(question, bounds, corner.x, radius, time.perf_counter() + SOON, most)
        points = np.array([*answers(question, radius), corner.x])
        for network, one in zip(question.ensemble, found, strict=True):
            assert one.hold(network.preactivations(points))

    @pytest.mark.parametrize("seed", SEEDS)
    def test_the_optimum_survives_a_ball_of_its_own_radius(self, seed):
        question, radius, bounds, corner = setting(seed, scenarios=2, room=1.0)
        until = time.perf_counter() + SOON
        found = tighten_together(question, bounds, corner.x, cut_off_radius(radius), until, 1000)
        for network, one in zip(question.ensemble, found, strict=True):
            assert one.hold(network.preactivations(corner.x[None]))

    @pytest.mark.parametrize("seed", [2, 3, 4, 9, 12, 41, 66, 79])
    def test_a_grid_of_answers_to_both_reaches_the_bounds(self, seed, monkeypatch):
        """Two pixels, searches to the end: what a fine grid of points has that fool both networks."""
        monkeypatch.setattr(module, "GAP", 1e-7)
        question = random_question(seed, 2, inputs=2, hidden=(4, 3))
        steps = np.linspace(0.0, 1.0, 401)
        grid = np.stack(np.meshgrid(steps, steps), axis=-1).reshape(-1, 2)
        radius = 1.2
        grid = grid[np.abs(grid - question.flat).sum(axis=1) <= radius]
        for network in question.ensemble:
            grid = grid[condition_slack(network(grid), question.target, question.gamma) >= 0]
        assert len(grid)
        wide = [pre_activation_bounds(one, question.region(radius), "interval") for one in question.ensemble]
        found = tighten_together(question, wide, question.flat, radius, time.perf_counter() + SOON, 10**6)
        for network, before, after in zip(question.ensemble, wide, found, strict=True):
            for k, values in enumerate(network.preactivations(grid)[:-1]):
                most, least = np.maximum(values.max(axis=0), 0.0), np.minimum(values.min(axis=0), 0.0)
                assert (after.lower[k] <= values.min(axis=0)).all()
                assert (after.upper[k] >= values.max(axis=0)).all()
                opened = (before.lower[k] < 0) & (before.upper[k] > 0)
                near = 0.03 * (before.upper[k] - before.lower[k])
                assert (after.upper[k] - most < near)[opened].all()
                opened &= after.upper[k] > 0  # the other side of what is off for certain is left as it was
                assert (least - after.lower[k] < near)[opened].all()

    def test_bounds_never_grow_and_say_more_than_those_of_one_network_at_a_time(self):
        more = 0
        for seed in SEEDS:
            question, radius, bounds, corner = setting(seed, scenarios=2)
            alone = tighten(question, bounds, radius, time.perf_counter() + SOON)
            found = tighten_together(question, alone, corner.x, radius, time.perf_counter() + SOON)
            for before, after in zip(alone, found, strict=True):
                assert all((new >= old).all() for new, old in zip(after.lower, before.lower, strict=True))
                assert all((new <= old).all() for new, old in zip(after.upper, before.upper, strict=True))
            more += open_width(found) < 0.99 * open_width(alone)
        assert more >= 3

    def test_so_many_layers(self):
        question, radius, bounds, corner = setting(SEEDS[-4], scenarios=2)
        until = time.perf_counter() + SOON
        found = tighten_together(question, bounds, corner.x, radius, until, layers=1)
        searched = tighten_together(question, bounds, corner.x, radius, until)
        narrower = [[], []]
        for kind, several in zip(narrower, (found, searched), strict=True):
            for before, after in zip(bounds, several, strict=True):
                kind.append([(new < old).any() for new, old in zip(after.upper, before.upper, strict=True)])
        assert any(one[0] for one in narrower[0])
        assert not any(any(one[1:]) for one in narrower[0])
        assert any(any(one[1:]) for one in narrower[1])

    @pytest.mark.parametrize("layer", [0, 1])
    def test_parts_of_a_layer_are_the_layer(self, layer):
        question, radius, bounds, corner = setting(SEEDS[-4], scenarios=2)

        def of(part):
            return tighten_layer(question, bounds, corner.x, radius, layer, time.perf_counter() + SOON, part=part)

        whole = sorted(of((0, 1)))
        pieces = sorted(one for first in range(3) for one in of((first, 3)))
        assert whole
        assert [one[:2] for one in pieces] == [one[:2] for one in whole]
        np.testing.assert_allclose([one[2:] for one in pieces], [one[2:] for one in whole], atol=1e-6)

    @pytest.mark.parametrize("most", [0, 1000])
    def test_networks_of_different_depths(self, most):
        deep, shallow = (random_question(seed, 1, hidden=hidden) for seed, hidden in ((22, (4, 3)), (0, (5,))))
        question = replace(deep, ensemble=Ensemble((*deep.ensemble.networks, *shallow.ensemble.networks), "given"))
        radius = float(question.flat.size)
        bounds = [pre_activation_bounds(one, question.region(radius)) for one in question.ensemble]
        points = answers(question, radius)
        assert points
        found = tighten_together(question, bounds, points[0], radius, time.perf_counter() + SOON, most)
        for network, one in zip(question.ensemble, found, strict=True):
            assert one.hold(network.preactivations(np.array(points)))
        assert open_width(found) < open_width(bounds)

    def test_no_time_changes_nothing(self):
        question, radius, bounds, corner = setting(SEEDS[0], scenarios=2)
        found = tighten_together(question, bounds, corner.x, radius, time.perf_counter() - 1)
        assert found == bounds
        layer = tighten_layer(question, bounds, corner.x, radius, 0, time.perf_counter() - 1)
        for one in layer:
            before = bounds[one.scenario]
            assert one[2:] == (before.lower[0][one.neuron], before.upper[0][one.neuron])

    def test_a_soft_demand_is_refused(self):
        question, radius, bounds, corner = setting(SEEDS[0], scenarios=2)
        soft = replace(question, demand=Demand(share=0.5))
        with pytest.raises(ValueError, match="soft demand"):
            tighten_layer(soft, bounds, corner.x, radius, 0, time.perf_counter() + SOON)

    def test_open_width_counts_open_hidden_neurons_alone(self):
        bounds = Bounds((np.array([-1.0, 0.0, -2.0]), np.array([-5.0])), (np.array([3.0, 4.0, 0.0]), np.array([5.0])))
        assert open_width([bounds, bounds]) == 8.0
        assert open_width([]) == 0.0


class TestTogetherInAProof:
    @pytest.mark.parametrize("engine", ["bab", "scip"])
    @pytest.mark.parametrize(("scenarios", "share", "many"), [(1, None, 8), (2, None, 8), (2, None, 2), (2, 0.5, 8)])
    def test_who_tightens_what(self, engine, scenarios, share, many, monkeypatch):
        """First layers are left to a few networks together; other solvers begin once, with searches that are larger."""
        question, _, _, corner = setting(SEEDS[0], scenarios=scenarios)
        question = replace(question, demand=Demand(share=share)) if share else question
        asked, honest = [], Crew.tighten
        layers, honest_together = [], Crew.tighten_together

        def tightened(*given):
            asked.append((given[5], given[7]))
            return honest(*given)

        def together(*given):
            layers.append(given[-1])
            return honest_together(*given)

        probed, honest_probe = [], Crew.probe

        def probe(*given):
            probed.append(given[-1])
            return honest_probe(*given)

        monkeypatch.setattr("arfj.attack.known.MANY", many)
        monkeypatch.setattr(Crew, "tighten_together", together)
        monkeypatch.setattr(Crew, "tighten", tightened)
        monkeypatch.setattr(Crew, "probe", probe)
        known = Known(question, Crew(lambda: 1), "alpha-crown", engine == "bab")
        best = Corner(corner.x, question.distance(corner.x), ())
        known.improve(best, list(range(scenarios)), lambda: SOON, lambda _: None)
        several = scenarios > 1 and share is None
        short = engine == "bab" or scenarios > 1
        assert asked == [(BRANCHINGS if short else MORE, several and scenarios < many)]
        assert layers == [1 if scenarios < many else None] * several
        assert np.isfinite(known.trial) == (scenarios > 1)
        assert probed == ([] if share else [np.inf if scenarios == 1 else VAIN]), "one scenario's searches go on"

    def test_bounds_that_an_answer_leaves_are_thrown_away(self, monkeypatch):
        question, *_ = setting(SEEDS[0], scenarios=2)
        monkeypatch.setattr(
            "arfj.attack.crew.Crew.tighten_together",
            lambda _crew, _part, known, *_: [one.replaced(0, one.upper[0] + 1, one.upper[0] + 2) for one in known],
        )
        prover = Prover(question, Options(bounds="exact", time_limit=30), lambda _name, _step: None)
        proof = prover.prove()
        assert prover.best.distance - proof.bound <= 1e-6 * prover.best.distance

    @pytest.mark.parametrize("seed", SEEDS[:4])
    def test_searches_follow_where_linear_programs_are_worth_it(self, seed, monkeypatch):
        """A proof that lasts is cut short for them once all else has been tried, and ends with the same optimum."""
        question, *_ = setting(seed, scenarios=3)
        expected = Prover(question, Options(time_limit=SOON), lambda *_: None).prove().bound
        asked = []
        honest = Crew.tighten_together

        def tightened(*given):
            asked.append(given[-2])
            return honest(*given)

        monkeypatch.setattr(Crew, "tighten_together", tightened)
        monkeypatch.setattr("arfj.attack.known.WORTH", -1.0)
        monkeypatch.setattr("arfj.attack.known.TRIAL", 0.0)
        monkeypatch.setattr("arfj.attack.prove.EARLY_SECONDS", 0.0)
        monkeypatch.setattr(Prover, "first", lambda _: [0, 1, 2])
        prover = Prover(question, Options(bounds="exact", time_limit=SOON), lambda *_: None)
        proof = prover.prove()
        assert asked[:2] == [0, 0]
        assert [most for most in asked if most] == [BRANCHINGS]
        assert (proof.bound, proof.reason) == (pytest.approx(expected, rel=1e-6), "")

    def test_one_network_or_a_soft_demand_has_none(self, monkeypatch):
        monkeypatch.setattr(Crew, "tighten_together", lambda *_: pytest.fail("nothing is together there"))
        alone, *_ = setting(SEEDS[0])
        soft = replace(setting(SEEDS[0], scenarios=2)[0], demand=Demand(share=0.5))
        for question in (alone, soft):
            prover = Prover(question, Options(bounds="exact", time_limit=SOON), lambda *_: None)
            assert prover.prove().reason == ""
