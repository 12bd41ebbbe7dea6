"""Soft demands: a share of the scenarios or the mean of the worst; optima by hand, by subsets, by enumeration."""

import functools
import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from bab_settings import in_rationals
from conftest import DEAD_TARGET, NEIGHBOUR, NEIGHBOUR_DISTANCE, SEESAW, SEESAW_DISTANCE
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import affine_layers, phase_patterns, random_network
from scipy.optimize import linprog

from arfj.attack import Options, solve_question, warm
from arfj.attack.closing import Closing
from arfj.attack.gradient import gradient_answers
from arfj.attack.known import cut_off_radius
from arfj.attack.regions import Regions, phases_at
from arfj.attack.warm import dropped, warm_start
from arfj.bab import Relaxation
from arfj.bounds import pre_activation_bounds
from arfj.encoding import encode_paper, encode_tight
from arfj.encoding.demand import big_m, mean_limits, row_bounds
from arfj.ensemble import Ensemble
from arfj.errors import ArfjError, UsageError
from arfj.evaluate import Witness, load_witness, replay
from arfj.network import Network
from arfj.question import Demand, Question, class_rows
from arfj.solver import Limits, available, solve
from arfj.tighten import tighten

SECONDS = 100.0
NO_GUROBI = pytest.mark.skipif(not available("gurobi"), reason="gurobipy is not installed or has no licence")
SOLVERS = ["bab", "scip", pytest.param("gurobi", marks=NO_GUROBI)]


def seesaw(height):
    """Outputs (height - x, x); class 1 at gamma 0.2 from 1.2 height / 2.2 on, with the slack 2.2 x - 1.2 height."""
    return Network.from_arrays([[[-1.0, 1.0]]], [[height, 0.0]])


THREE = Ensemble((seesaw(1.0), seesaw(1.1), seesaw(0.8)), "given")


def one_pixel(ensemble, nominal=0.2, **demand):
    return Question(np.array([nominal]), 0, 1, ensemble, 0.2, Demand(**demand))


def solved(question, folder, **options):
    return solve_question(question, Options(**{"time_limit": SECONDS, **options}), folder / "w.npz")


def near(one, other):
    return one == other or abs(one - other) <= 2e-6 * max(1.0, abs(other))


def ensemble_of(seed, count=3, sizes=(6, 4, 4, 3), spread=None):
    """Networks of their own each, or neighbours of one."""
    first = random_network(sizes, 100 * seed)
    if spread is None:
        return (first, *(random_network(sizes, 100 * seed + k) for k in range(1, count)))
    rng = np.random.default_rng(seed)
    many = [first.parameters() + spread * rng.normal(size=first.parameters().size) for _ in range(count - 1)]
    return (first, *(first.with_parameters(one) for one in many))


def random_soft(seed, demand, count=3, sizes=(6, 4, 4, 3), spread=None):
    """The target is the class that random points give most often."""
    rng = np.random.default_rng(seed)
    ensemble = Ensemble(ensemble_of(seed, count, sizes, spread), "given")
    nominal = np.clip(rng.uniform(-0.3, 1.3, sizes[0]), 0.0, 1.0)
    true = int(ensemble.networks[0].classify(nominal[None])[0])
    points = rng.random((200, sizes[0]))
    asked = [Question(nominal, true, other, ensemble, 0.2) for other in range(sizes[-1]) if other != true]
    best = max(asked, key=lambda question: sum((question.slacks(x) >= 0).sum() for x in points))
    return replace(best, demand=demand)


def some_answers(question, seed=0, count=400):
    """Random images that meet the demand, near and far."""
    rng = np.random.default_rng(seed)
    points = rng.random((count, question.flat.size))
    found = [x for x in points if question.slack(x) >= 0]
    found += list(gradient_answers(question, 0, time.perf_counter() + 5.0))
    between = [question.flat + share * (x - question.flat) for x in found[:60] for share in (0.3, 0.6, 0.8, 0.9)]
    return found + [x for x in between if question.slack(x) >= 0]


def over_ball(question, radius, method="crown"):
    return [pre_activation_bounds(network, question.region(radius), method) for network in question.ensemble]


@functools.cache
def settings_of(demand, count=4):
    """Questions with answers, a ball that holds some of them, bounds over it, and the answers."""
    found = []
    for seed in range(40):
        question = random_soft(seed, demand, sizes=(5, 4, 3, 3))
        answers = [] if question.slack(question.flat) >= 0 else some_answers(question)
        if answers:
            x = sorted(answers, key=question.distance)[len(answers) // 2]
            found.append((question, x, over_ball(question, cut_off_radius(question.distance(x))), answers))
        if len(found) == count:
            return found
    raise AssertionError("too few questions have answers")


DEMANDS = [Demand(share=0.3), Demand(share=0.6), Demand(cvar=0.0), Demand(cvar=0.5)]


class TestDemand:
    def test_numbers(self):
        assert [Demand(share=0.8).fooled(n) for n in (1, 4, 5, 6, 10)] == [1, 4, 4, 5, 8]
        assert [Demand(share=k / 7).fooled(7) for k in range(1, 8)] == list(range(1, 8))
        assert Demand(cvar=0.5).worst(6) == 3.0
        assert Demand(cvar=0.5).fooled(6) == 6
        assert Demand().worst(6) == 1.0

    @pytest.mark.parametrize(
        ("demand", "count", "soft"),
        [
            (Demand(), 6, False),
            (Demand(share=0.9), 6, False),
            (Demand(share=0.8), 6, True),
            (Demand(share=0.1), 1, False),
            (Demand(cvar=0.9), 6, False),
            (Demand(cvar=1 - 1 / 6), 6, False),
            (Demand(cvar=0.8), 6, True),
            (Demand(cvar=0.0), 1, False),
        ],
    )
    def test_soft(self, demand, count, soft):
        assert demand.soft(count) is soft

    def test_slacks_by_hand(self):
        slacks = np.array([0.3, -0.5, 0.1, -0.1])
        assert [float(Demand(share=k / 4).of(slacks)) for k in range(1, 5)] == [0.3, 0.1, -0.1, -0.5]
        assert float(Demand(cvar=0.0).of(slacks)) == pytest.approx(-0.05)
        assert float(Demand(cvar=0.5).of(slacks)) == pytest.approx(-0.3)
        assert float(Demand(cvar=0.375).of(slacks)) == pytest.approx((-0.5 - 0.1 + 0.5 * 0.1) / 2.5)
        assert float(Demand(cvar=0.99).of(slacks)) == -0.5

    @given(slacks=st.lists(st.floats(-5, 5), min_size=1, max_size=8), beta=st.floats(0, 0.999))
    def test_mean_of_the_worst_is_the_maximum_over_tau(self, slacks, beta):
        demand, count = Demand(cvar=beta), len(slacks)
        worst = max((1 - beta) * count, 1.0)
        best = max(tau - sum(max(tau - slack, 0.0) for slack in slacks) / worst for tau in slacks)
        assert float(demand.of(slacks)) == pytest.approx(best, abs=1e-9)

    @pytest.mark.parametrize(
        ("wrong", "words"),
        [
            ({"share": 0.0}, "--share is 0; expected a share"),
            ({"share": 1.5}, "--share is 1.5"),
            ({"share": float("nan")}, "--share is nan"),
            ({"cvar": 1.0}, "--cvar is 1; expected a number from 0"),
            ({"cvar": -0.1}, "--cvar is -0.1"),
            ({"cvar": float("nan")}, "--cvar is nan"),
            ({"share": 0.5, "cvar": 0.5}, "exclude each other"),
        ],
    )
    def test_bad_input(self, wrong, words):
        with pytest.raises(UsageError, match=words):
            Demand(**wrong)

    def test_a_part_of_a_soft_question_is_no_question(self):
        question = one_pixel(THREE, share=0.6)
        with pytest.raises(ValueError, match="no part of it is a relaxation"):
            question.restricted([0])
        assert question.restricted([0, 1, 2]) is question
        assert question.fooling([0, 2]).demand == Demand()
        assert one_pixel(THREE, share=0.9).restricted([0]).demand == Demand()

    def test_what_counts(self):
        question = one_pixel(THREE, share=0.6)
        assert question.counted(np.array([0.5])) == (0, 2)
        assert one_pixel(THREE, cvar=0.2).counted(np.array([0.5])) == (0, 1, 2)
        assert one_pixel(THREE).counted(np.array([0.5])) == (0, 1, 2)


HAND = [
    ({"share": 0.3}, 0.96 / 2.2),
    ({"share": 2 / 3}, 1.2 / 2.2),
    ({"share": 0.7}, 1.32 / 2.2),
    ({"cvar": 0.0}, 1.2 * 2.9 / 3 / 2.2),
    ({"cvar": 1 / 3}, 1.2 * 2.1 / 2 / 2.2),
    ({"cvar": 0.5}, 1.2 * (1.1 + 0.5) / 1.5 / 2.2),
    ({"cvar": 2 / 3}, 1.32 / 2.2),
    ({"cvar": 0.9}, 1.32 / 2.2),
]
"""Slacks 2.2 x - 1.2 b, b = 1, 1.1, 0.8; the worst are those with the largest b, whatever x is."""


class TestByHand:
    @pytest.mark.parametrize("solver", SOLVERS)
    @pytest.mark.parametrize(("demand", "least"), HAND)
    def test_one_pixel(self, tmp_path, demand, least, solver):
        result = solved(one_pixel(THREE, **demand), tmp_path, solver=solver)
        assert result.status == "optimal"
        assert result.distance == pytest.approx(least - 0.2, rel=1e-6)
        assert result.replay.hit

    @pytest.mark.parametrize(("demand", "least"), HAND[:3])
    def test_printed_formulation(self, tmp_path, demand, least):
        result = solved(one_pixel(THREE, **demand), tmp_path, formulation="paper")
        assert (result.status, result.solver) == ("optimal", "scip")
        assert result.distance == pytest.approx(least - 0.2, rel=1e-6)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_least_output_is_a_row_of_the_mean(self, tmp_path, solver):
        """Outputs (0.1 - x, x - 0.5): the slack is x - 0.501 from 0.0992 on; the mean is 0 where 3.2 x = 1.701."""
        sleepy = Network.from_arrays([[[-1.0, 1.0]]], [[0.1, -0.5]])
        question = one_pixel(Ensemble((sleepy, SEESAW), "given"), 0.0, cvar=0.0)
        assert solved(question, tmp_path, solver=solver).distance == pytest.approx(1.701 / 3.2, rel=1e-6)

    @pytest.mark.parametrize("solver", SOLVERS)
    def test_a_network_that_cannot_be_fooled(self, tmp_path, solver):
        both = Ensemble((SEESAW, DEAD_TARGET), "given")
        assert solved(one_pixel(both, share=0.5), tmp_path, solver=solver).distance == pytest.approx(
            SEESAW_DISTANCE, rel=1e-6
        )
        for demand in ({"share": 0.6}, {"cvar": 0.0}):
            result = solved(one_pixel(both, **demand), tmp_path, solver=solver)
            assert (result.status, result.distance) == ("infeasible", None)

    def test_networks_in_conflict(self, tmp_path):
        """The first asks for x >= 1.2 / 2.2, the second for x <= 1 / 2.2, where it is already."""
        other = Network.from_arrays([[[1.0, -1.0]]], [[0.0, 1.0]])
        question = one_pixel(Ensemble((SEESAW, other, NEIGHBOUR), "given"), share=2 / 3)
        assert solved(question, tmp_path).distance == pytest.approx(NEIGHBOUR_DISTANCE, rel=1e-6)
        assert solved(replace(question, demand=Demand(share=1 / 3)), tmp_path).distance == pytest.approx(0.0, abs=1e-9)

    def test_no_printed_mean(self):
        with pytest.raises(UsageError, match="--formulation paper has no mean"):
            encode_paper(one_pixel(THREE, cvar=0.2))


def by_scip(question, radius=np.inf, encode=encode_tight):
    """The optimum of a model, over a ball that holds an answer where one is given."""
    given = () if encode is encode_paper else (over_ball(question, radius),)
    found = solve("scip", encode(question, *given).problem, Limits(seconds=SECONDS, proving=encode is encode_tight))
    assert found.status in ("optimal", "infeasible")
    return np.inf if found.value is None else found.value


def by_bab(question, bounds, answer):
    found = Closing(question, bounds, answer).run(SECONDS)
    assert found.status == "optimal"
    return found.value


class TestOptima:
    @pytest.mark.parametrize("spread", [None, 0.15], ids=["apart", "neighbours"])
    def test_share_is_the_least_over_all_subsets(self, spread):
        tried = 0
        for seed in range(12):
            question, before = random_soft(seed, Demand(), 4, (5, 4, 3, 3), spread), 0.0
            for size in (2, 3):
                soft = replace(question, demand=Demand(share=size / 4))
                answers = some_answers(soft)
                if not answers:
                    continue
                x = min(answers, key=soft.distance)
                radius = cut_off_radius(soft.distance(x))
                subsets = itertools.combinations(range(4), size)
                expected = min(by_scip(question.fooling(subset), radius) for subset in subsets)
                assert expected >= before - 1e-6  # monotone in the share
                before = expected
                assert near(by_scip(soft, radius), expected)
                assert near(by_bab(soft, over_ball(soft, radius), x), expected)
                tried += size == 3
                if tried == 3:
                    assert near(by_scip(soft, encode=encode_paper), expected)
                    return
        raise AssertionError("too few questions have answers")

    @pytest.mark.parametrize("demand", DEMANDS)
    def test_bab_and_scip_agree(self, demand):
        for question, x, bounds, answers in settings_of(demand):
            least = by_bab(question, bounds, x)
            assert near(least, by_scip(question, cut_off_radius(question.distance(x))))
            assert all(question.distance(one) >= least - 1e-9 for one in answers)

    @pytest.mark.parametrize("seed", range(4))
    def test_mean_is_that_of_enumeration(self, seed):
        question = random_soft(seed, Demand(cvar=0.0), 2, (4, 2, 2, 3))
        for beta in (0.0, 0.25):
            soft = replace(question, demand=Demand(cvar=beta))
            assert near(by_scip(soft), enumerated_mean(soft))

    @pytest.mark.parametrize("seed", range(4))
    def test_mean_grows_with_beta_to_that_of_all(self, seed):
        question = random_soft(seed, Demand(), sizes=(5, 4, 3, 3), spread=0.15)
        found = [by_scip(replace(question, demand=Demand(cvar=beta))) for beta in (0, 0.3, 0.6, 0.67)]
        for one, other in itertools.pairwise(found):
            assert one <= other + 1e-6
        assert near(found[-1], by_scip(question))

    @pytest.mark.parametrize("demand", DEMANDS)
    def test_from_image_to_replayed_answer(self, demand, tmp_path):
        question, x, bounds, _ = settings_of(demand)[0]
        result = solved(question, tmp_path)
        assert (result.status, result.replay.hit) == ("optimal", True)
        assert near(result.distance, by_bab(question, bounds, x))
        assert result.bound >= result.distance * (1 - 1e-6)
        assert question.slack(load_witness(tmp_path / "w.npz").x) >= -1e-9


def enumerated_mean(question):
    """The least distance with a mean of the worst slacks that is not negative, over all phases of all scenarios."""
    n, count = question.flat.size, len(question.ensemble)
    worst = max((1 - question.demand.cvar) * count, 1.0)
    extra = 1 + count
    pieces = []
    for k, network in enumerate(question.ensemble):
        mine = []
        for pattern in phase_patterns(network):
            maps = affine_layers(network, pattern)
            rows, right = [], []
            for (linear, shift), phase in zip(maps, pattern, strict=False):
                sign = np.where(phase > 0, -1.0, 1.0)
                rows.append(np.hstack([sign[:, None] * linear, np.zeros((len(shift), extra))]))
                right.append(-sign * shift)
            linear, shift = maps[-1]
            hinge = np.zeros(extra)
            hinge[0], hinge[1 + k] = 1.0, -1.0  # tau - e_k <= slack
            for j in question.rivals:
                rows.append(np.append(1.2 * linear[j] - linear[question.target], hinge)[None])
                right.append([shift[question.target] - 1.2 * shift[j]])
            rows.append(np.append(-linear[question.target], hinge)[None])
            right.append([shift[question.target] - 1e-3])
            mine.append((np.vstack(rows), np.concatenate(right)))
        pieces.append(mine)
    best = np.inf
    last = np.concatenate([np.zeros(n), [-1.0], np.full(count, 1 / worst)])[None]
    limits = [
        *zip([0] * n, 1 - question.flat, strict=True),
        *zip([0] * n, question.flat, strict=True),
        (None, None),
        *[(0, None)] * count,
    ]
    for chosen in itertools.product(*pieces):
        rows, right = np.vstack([*(one[0] for one in chosen), last]), np.concatenate([*(one[1] for one in chosen), [0]])
        matrix = np.hstack([rows[:, :n], -rows[:, :n], rows[:, n:]])
        cost = np.concatenate([np.ones(2 * n), np.zeros(extra)])
        answer = linprog(cost, A_ub=matrix, b_ub=right - rows[:, :n] @ question.flat, bounds=limits)
        if answer.status == 0:
            best = min(best, float(answer.fun))
    return best


def phases_of(relaxation, question, x):
    """The phases of all open neurons at an answer, and of the scenarios that count there."""
    before = [network.preactivations(x[None]) for network in question.ensemble]
    counted = question.counted(x)
    return {
        number: scenario in counted if number in relaxation.pairs else bool(before[scenario][layer][0, neuron] > 0)
        for number, (scenario, layer, neuron) in enumerate(relaxation.neurons)
    }


class TestRelaxation:
    @pytest.mark.parametrize("demand", DEMANDS)
    @pytest.mark.parametrize("method", ["interval", "crown"])
    def test_answers_lie_in_it_with_their_phases(self, demand, method):
        tried = 0
        for question, x, _, answers in settings_of(demand):
            radius = cut_off_radius(question.distance(x))
            relaxation = Relaxation(question, over_ball(question, radius, method))
            relaxation.maximise(None)
            inside = [one for one in answers if question.distance(one) <= radius and question.slack(one) > 1e-7]
            for point in inside[:20]:
                relaxation.hold(phases_of(relaxation, question, point))
                assert relaxation.solve()[0] >= -question.distance(point) - 1e-9
                tried += 1
        assert tried > 40

    @pytest.mark.parametrize("demand", DEMANDS)
    def test_any_multipliers_bound_every_answer(self, demand):
        """Once with the phases held, once phase by phase."""
        rng = np.random.default_rng(0)
        for question, x, bounds, answers in settings_of(demand)[:2]:
            relaxation = Relaxation(question, bounds)
            relaxation.maximise(None)
            relaxation.solve()
            best = np.array(relaxation.program.getDual())
            points = [p for p in answers if question.distance(p) <= question.distance(x)][:40]
            assert points
            for noise in (0.0, 1e-3, 0.1):
                multipliers = best + noise * rng.normal(size=len(best))
                bound = relaxation.certified(relaxation.lagrangian(multipliers, None, 1.0))[0]
                exactly = in_rationals(relaxation, multipliers, None)
                assert float(exactly) <= bound <= float(exactly) + 1e-7 * (1 + abs(float(exactly)))
                rest, shares = relaxation.by_phase(relaxation.lagrangian(multipliers, None, 1.0))
                for point in points:
                    held = phases_of(relaxation, question, point)
                    sides = np.array([int(held[number]) for number in range(len(held))], dtype=np.intp)
                    value = rest + shares[sides, np.arange(len(sides))].sum()
                    assert value >= -question.distance(point) - 1e-9
                    assert bound >= -question.distance(point) - 1e-9

    def test_neurons_of_what_does_not_count_are_no_matter(self):
        question, _, bounds, _ = settings_of(Demand(share=0.6))[0]
        relaxation = Relaxation(question, bounds)
        assert relaxation.pairs.tolist() == [0, 1, 2]
        held = {0: False, 1: True}
        mine = [number for number, (scenario, _, _) in enumerate(relaxation.neurons) if scenario == 0 and number != 0]
        undecided = relaxation.undecided(held).tolist()
        assert mine
        assert not {0, 1, *mine} & set(undecided)
        assert 2 in undecided
        relaxation.maximise(None)
        relaxation.hold(held)
        assert (relaxation.solve()[1][:, mine] == 0).all()

    @pytest.mark.parametrize("demand", DEMANDS)
    def test_constants_hold_over_the_ball(self, demand):
        for question, x, bounds, _ in settings_of(demand):
            radius = cut_off_radius(question.distance(x))
            points = question.flat + np.random.default_rng(1).normal(size=(300, question.flat.size)) * radius / 6
            points = [p for p in np.clip(points, 0, 1) if question.distance(p) <= radius]
            assert points
            for network, bound, m in zip(question.ensemble, bounds, big_m(question, bounds), strict=True):
                weights, least = class_rows(network, question.target, question.gamma)
                hidden = np.maximum(network.preactivations(np.array(points))[-2], 0.0)
                rows = hidden @ weights.T - least
                low, up = row_bounds(question, network, bound)
                assert (low <= rows).all()
                assert (rows <= up).all()
                assert (rows + m >= 0).all()
            tau, shortfalls = mean_limits(question, bounds)
            slacks = np.array([replace(question, demand=Demand(cvar=0.5)).slacks(p) for p in points])
            assert tau >= slacks.max()
            assert (shortfalls >= np.minimum(tau - slacks.min(axis=0), tau)).all()


class TestClosing:
    @pytest.mark.parametrize("demand", DEMANDS)
    def test_what_was_learnt_serves_a_smaller_ball(self, demand):
        tried = 0
        for question, x, bounds, _ in settings_of(demand):
            before = Closing(question, bounds, x)
            found = before.run(SECONDS)
            radius = cut_off_radius(before.best.distance)
            again = Closing(question, over_ball(question, radius), before.best.x)
            again.learn_from(before)
            after = again.run(SECONDS)
            assert found.status == after.status == "optimal"
            assert near(after.bound, found.bound)
            tried += before.nodes > 1
        assert tried

    @pytest.mark.parametrize("demand", DEMANDS)
    def test_tightened_bounds_ask_for_no_class_condition(self, demand):
        cut = False
        for question, x, _, _ in settings_of(demand)[:2]:
            radius = cut_off_radius(question.distance(x))
            bounds = over_ball(question, radius, "interval")
            tightened = tighten(question, bounds, radius, time.perf_counter() + SECONDS)
            rng = np.random.default_rng(2)
            points = np.clip(question.flat + rng.normal(size=(500, question.flat.size)) * radius / 5, 0, 1)
            points = np.array([p for p in points if question.distance(p) <= radius])
            for network, bound in zip(question.ensemble, tightened, strict=True):
                assert bound.hold(network.preactivations(points))
            cut = cut or any((one.upper[1] < two.upper[1]).any() for one, two in zip(tightened, bounds, strict=True))
        assert cut


class TestWarmStart:
    @pytest.mark.parametrize("demand", DEMANDS)
    def test_ends_at_answers(self, demand):
        for question, _, _, _ in settings_of(demand)[:2]:
            corner = warm_start(question, 0, time.perf_counter() + 3.0)
            assert corner is not None
            assert question.slack(corner.x) >= 0
            assert corner.distance == pytest.approx(question.distance(corner.x))

    def test_what_dropping_finds_is_kept_where_nothing_else_is(self, monkeypatch):
        question = one_pixel(THREE, share=0.6)
        corner = dropped(Regions(question), 0, time.perf_counter() + 5.0)
        monkeypatch.setattr(warm, "dropped", lambda *_: corner)
        monkeypatch.setattr(warm, "gradient_answers", lambda *_: [])
        told = []
        assert warm_start(question, 0, time.perf_counter() - 1.0, told.append) is corner
        assert told == [corner]

    def test_the_one_that_presses_is_dropped(self):
        corner = dropped(Regions(one_pixel(THREE, share=0.6)), 0, time.perf_counter() + 5.0)
        assert corner.distance == pytest.approx(SEESAW_DISTANCE, abs=1e-6)
        corner = dropped(Regions(one_pixel(THREE, share=0.3)), 0, time.perf_counter() + 5.0)
        assert corner.distance == pytest.approx(0.96 / 2.2 - 0.2, abs=1e-6)

    @pytest.mark.parametrize("demand", DEMANDS)
    def test_a_region_keeps_phases_and_demand(self, demand):
        for question, x, _, _ in settings_of(demand):
            regions = Regions(question)
            corner = regions.at(x)
            assert corner.distance <= question.distance(x) + 1e-9
            assert question.slack(corner.x) >= 0
            part = regions.program(x).question
            for network, phases in zip(part.ensemble, phases_at(part, x), strict=True):
                before = np.concatenate([one[0] for one in network.preactivations(corner.x[None])[:-1]])
                assert (np.where(phases, before, -before) >= -1e-8).all()


@st.composite
def asked(draw):
    seed = draw(st.integers(0, 2**20))
    demand = draw(st.sampled_from([Demand(share=0.3), Demand(share=0.7), Demand(cvar=0.0), Demand(cvar=0.4)]))
    sizes = draw(st.sampled_from([(3, 3), (4, 3, 3), (3, 2, 4, 2)]))
    return random_soft(seed, demand, draw(st.integers(2, 4)), sizes), seed


@settings(deadline=None, max_examples=60)
@given(case=asked())
def test_models_are_feasible_exactly_where_the_demand_is_met(case):
    question, seed = case
    models = [encode_tight(question, over_ball(question, np.inf))]
    if question.demand.cvar is None:
        models.append(encode_paper(question))
    for x in np.random.default_rng(seed).random((12, question.flat.size)):
        slack = question.slack(x)
        for model in models:
            missed = model.problem.violation(model.complete(x, question.ensemble))
            if abs(slack) > 1e-6:
                assert (missed <= 1e-9) == (slack > 0)


class TestReplay:
    def witness(self, x, **demand):
        return Witness(np.array([x]), np.array([0.2]), 0, 1, 0.2, abs(x - 0.2), 0.0, Demand(**demand))

    @pytest.mark.parametrize(
        ("x", "demand", "hit", "violation"),
        [
            (0.5, {"share": 0.3}, True, 0.0),
            (0.5, {"share": 0.6}, False, 0.1),
            (0.55, {"share": 0.6}, True, 0.0),
            (0.55, {}, False, 0.11),
            (0.58, {"cvar": 0.4}, True, 0.0),
            (0.58, {"cvar": 0.5}, False, 0.004),
            (0.6, {"cvar": 0.9}, True, 0.0),
        ],
    )
    def test_by_hand(self, x, demand, hit, violation):
        found = replay(self.witness(x, **demand), THREE)
        assert found.hit is hit
        assert found.violation == pytest.approx(violation, abs=1e-12)
        assert len(found.classes) == len(found.margins) == 3

    @pytest.mark.parametrize("demand", [{}, {"share": 0.5}, {"cvar": 0.25}])
    def test_round_trip(self, tmp_path, demand):
        path = tmp_path / "w.npz"
        self.witness(0.5, **demand).save(path)
        with np.load(path) as arrays:
            assert {"share", "cvar"} & set(arrays.files) == set(demand)
        assert load_witness(path).demand == Demand(**demand)

    @pytest.mark.parametrize("wrong", [{"share": 0.0}, {"cvar": 1.0}, {"cvar": "x"}, {"share": 0.5, "cvar": 0.5}])
    def test_odd_content(self, tmp_path, wrong):
        arrays = {"x": [0.5], "nominal": [0.2], "true": 0, "target": 1, "gamma": 0.2, "distance": 0.3, "bound": 0.1}
        np.savez(tmp_path / "w.npz", **arrays, **wrong)
        with pytest.raises(ArfjError, match=r"w\.npz"):
            load_witness(tmp_path / "w.npz")


@pytest.fixture
def three(files, out):
    """The three networks as files, and the image 0.2."""
    for index, network in enumerate(THREE):
        network.save(files / f"{index}.npz")
    networks = [files / f"{index}.npz" for index in range(3)]
    return ["--networks", *networks, "--image", files / "x.npy", "--output", out]


class TestCommand:
    @pytest.mark.parametrize(("option", "number", "least"), [("share", 0.6, 1.2 / 2.2), ("cvar", 0.5, 1.28 / 2.2)])
    def test_answer(self, attack, three, option, number, least):
        (result,) = attack(*three, f"--{option}", number, "--json").results
        assert (result["status"], result["replay"]["hit"]) == ("optimal", True)
        assert result["distance"] == pytest.approx(least - 0.2, rel=1e-6)
        assert {key: result[key] for key in ("share", "cvar") if key in result} == {option: number}
        witness = load_witness(result["witness"])
        assert witness.demand == Demand(**{option: number})
        assert replay(witness, THREE).as_json() == result["replay"]

    def test_each_demand_has_its_row_and_its_file(self, attack, three, out):
        every = [[], ["--share", 1], ["--share", 0.6], ["--cvar", 0.5], ["--cvar", 0.2]]
        first = [attack(*three, *demand, "--json").results[0] for demand in every]
        assert len(list((out / "witnesses").iterdir())) == 4
        assert first[0] == first[1]
        assert not {"share", "cvar"} & set(first[1])
        assert [attack(*three, *demand, "--json").results[0] for demand in every] == first
        assert len((out / "results.jsonl").read_text().splitlines()) == 4

    def test_table_and_picture_say_how_many(self, attack, three, out):
        row = attack(*three, "--share", 0.6).out.splitlines()[1]
        assert row.endswith("hit 2/3")
        assert attack(*three).out.splitlines()[1].endswith("hit")
        assert len(list((out / "pictures").iterdir())) == 2

    @pytest.mark.parametrize(
        ("words", "options"),
        [
            ("--share is 0;", ["--share", 0]),
            ("--share is 1.5", ["--share", 1.5]),
            ("--cvar is 1;", ["--cvar", 1]),
            ("not allowed with", ["--share", 0.5, "--cvar", 0.5]),
            ("--formulation paper has no mean", ["--cvar", 0.5, "--formulation", "paper"]),
        ],
    )
    def test_wrong_usage(self, attack, three, out, words, options):
        attack(*three, *options).is_error(2, words)
        assert not out.exists()
