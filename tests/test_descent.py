"""Descent over linear regions: only answers come back, none is worse than its start, none beats the optimum."""

import time
from dataclasses import replace

import numpy as np
import pytest
from catalogue import ANSWERED, CATALOGUE
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import affine_layers, random_question

from arfj.attack import descent
from arfj.attack.descent import descend
from arfj.attack.regions import MARGIN, RegionProgram, Regions, phases_at
from arfj.bounds import crown_bounds
from arfj.data import bundled_images, bundled_nominal, bundled_outer
from arfj.encoding import encode_tight
from arfj.ensemble import Ensemble
from arfj.question import Demand, Question
from arfj.solver import Limits, solve


def answers(question, count=400, seed=0):
    points = np.random.default_rng(seed).random((count, question.flat.size))
    return [x for x in points if question.slack(x) >= 1e-6]


def run(question, starts, seconds=20.0):
    return descend(RegionProgram(question), starts, time.perf_counter() + seconds)


def check_corner(question, corner):
    assert question.slack(corner.x) >= 0
    assert corner.distance == pytest.approx(question.distance(corner.x), abs=1e-12)
    assert question.region().contains(corner.x)
    assert all(phase.dtype == bool for phase in corner.phases)


@pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
def test_catalogue(entry):
    question = entry.question
    corner = run(question, answers(question, 100))
    if entry.distance is None:
        assert corner is None
        return
    check_corner(question, corner)
    assert corner.distance == pytest.approx(entry.distance, abs=1e-6)


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**20), scenarios=st.integers(1, 3), gamma=st.sampled_from([0.0, 0.2]))
def test_corners_are_answers_no_worse_than_their_start(seed, scenarios, gamma):
    question = random_question(seed, scenarios, gamma)
    for x in answers(question, 60)[:2]:
        corner = run(question, [x])
        assert corner is not None
        check_corner(question, corner)
        assert corner.distance <= question.distance(x) + 1e-6


@pytest.mark.parametrize("seed", [0, 4, 5, 15, 16, 18, 25, 26, 28])
def test_near_the_optimum_and_never_below(seed):
    question = random_question(seed, 2)
    bounds = [crown_bounds(network, question.region()) for network in question.ensemble]
    optimum = solve("scip", encode_tight(question, bounds).problem, Limits(seconds=60)).value
    starts = sorted(answers(question), key=question.distance)[:5]
    corner = run(question, starts)
    check_corner(question, corner)
    assert optimum - 1e-7 <= corner.distance <= 1.5 * optimum + 1e-6


def test_one_region_by_hand():
    """The right branch of the valley: the corner is its border, pressed by no phase."""
    question = next(entry for entry in ANSWERED if entry.name == "right is nearer").question
    program = RegionProgram(question)
    corner = program.solve(phases_at(question, np.array([0.9])))
    assert corner.x == pytest.approx([0.72], abs=1e-6)
    assert corner.x[0] >= 0.72 + MARGIN / 2
    assert [phase.tolist() for phase in corner.phases] == [[True, False]]
    assert program.solve(phases_at(question, np.array([0.5]))) is None


def test_flips_lead_out_of_the_first_region():
    """A start whose own region holds only worse answers than the corner that is reached."""
    gains = []
    for seed in range(12):
        question = random_question(seed, hidden=(4, 4))
        for x in answers(question, 50)[:2]:
            own = RegionProgram(question).solve(phases_at(question, x))
            gains.append(own.distance - run(question, [x]).distance)
    assert min(gains) >= -1e-7
    assert max(gains) > 1e-3


def test_best_so_far_is_kept():
    question = random_question(4, 2)
    corner = run(question, answers(question)[:3])
    assert run(question, [question.flat]) is None
    again = descend(RegionProgram(question), [], time.perf_counter() + 5, corner)
    assert again is corner


@pytest.mark.parametrize("stopped", [None, "end"])
def test_what_the_relaxation_fails_at_is_not_lost(monkeypatch, stopped):
    """The start's own region counts where the walk gives up, or ends in a region whose program has no answer."""
    question = random_question(4, 2)
    start = answers(question)[0]
    own = RegionProgram(question).solve(phases_at(question, start))
    end = None if stopped is None else tuple(~phase for phase in own.phases)
    assert end is None or RegionProgram(question).solve(end) is None
    monkeypatch.setattr(descent._Walk, "run", lambda *_: end)
    assert run(question, [start]).distance == own.distance


def test_a_program_without_a_bound_ends_the_walk(monkeypatch):
    """Weights may be so large that no bound can be certified: then there are no reduced costs either."""
    question = random_question(4, 2)
    start = answers(question)[0]
    own = RegionProgram(question).solve(phases_at(question, start))

    def unbounded(relaxation, *_):
        relaxation.behind = None
        return np.inf, np.zeros((2, len(relaxation.neurons)))

    monkeypatch.setattr(descent.Relaxation, "solve", unbounded)
    assert run(question, [start]).distance == own.distance


def test_no_time():
    question = random_question(4, 2)
    assert descend(RegionProgram(question), answers(question), time.perf_counter() - 1) is None


def test_phases_fix_the_network():
    """Inside its phases the network is the affine map of the reference."""
    question = random_question(7, 1, hidden=(3, 3))
    x = np.random.default_rng(0).random(4)
    phases = phases_at(question, x)[0]
    maps = affine_layers(question.ensemble.networks[0], [phases[:3].astype(float), phases[3:].astype(float)])
    for (linear, shift), before in zip(maps, question.ensemble.networks[0].preactivations(x[None]), strict=True):
        assert linear @ x + shift == pytest.approx(before[0], abs=1e-12)


def test_real_networks():
    images = bundled_images()
    question = Question(images.nominal[1], 1, 0, Ensemble((bundled_nominal(), *bundled_outer()), "outer"))
    starts = sorted((x for x in images.test[images.test_labels == 0] if question.slack(x) > 0), key=question.distance)
    corner = run(question, starts[:1], seconds=4)
    check_corner(question, corner)
    assert corner.distance < question.distance(starts[0])


@pytest.mark.parametrize("seed", range(6))
def test_only_binding_scenarios_matter(seed):
    """Without the others the region's optimum is the same; without one of them it is another one somewhere."""
    question = random_question(seed, 3, hidden=(4, 4))
    corners = [RegionProgram(question).solve(phases_at(question, x)) for x in answers(question, 100)[:6]]
    for corner in corners:
        kept = [corner.phases[index] for index in corner.binding]
        part = question.restricted(list(corner.binding)) if kept else None
        if part is None:
            assert corner.distance == pytest.approx(0.0, abs=1e-9)
            continue
        again = RegionProgram(part).solve(tuple(kept))
        assert again.distance == pytest.approx(corner.distance, abs=1e-6)


@pytest.mark.parametrize("demand", [Demand(), Demand(cvar=0.5)])
def test_the_slope_says_what_a_region_without_margin_gains(demand):
    """d(0) >= d(m) - m slope, and d(0) is that where the margin m is small."""
    seen = 0
    for seed in range(8):
        question = replace(random_question(seed, 3, 0.1), demand=demand)
        for x in answers(question)[:4]:
            edge = Regions(question, 0.0).at(x)
            for margin, exact in ((1e-5, True), (0.02, False)):
                corner = Regions(question, margin).at(x)
                if corner is None or not corner.slope:
                    continue
                seen += exact
                eased = corner.distance - margin * corner.slope
                assert eased <= edge.distance + 1e-9
                assert not exact or eased == pytest.approx(edge.distance, abs=1e-7)
    assert seen > 5
