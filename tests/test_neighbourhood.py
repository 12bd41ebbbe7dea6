"""Large neighbourhoods: never worse than their start, never below the optimum, and the optimum where all is free."""

import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import exact_distance, random_network, random_question

from arfj.attack import Options, descent, neighbourhood, prove, warm
from arfj.attack.closing import BRIEF, RELIABLE, Closing
from arfj.attack.descent import descend, relaxed
from arfj.attack.gradient import gradient_answers
from arfj.attack.neighbourhood import held, kink_distances, search_neighbourhoods
from arfj.attack.prove import Prover
from arfj.attack.regions import Corner, RegionProgram, phases_at
from arfj.attack.warm import warm_start
from arfj.bab.tree import LOOK_AHEAD
from arfj.data import bundled_images, bundled_nominal, bundled_outer
from arfj.ensemble import Ensemble
from arfj.errors import SolverError
from arfj.question import Question


def answers(question, count=300):
    points = np.random.default_rng(0).random((count, question.flat.size))
    return [x for x in points if question.slack(x) >= 1e-6]


def corners(question):
    """Corners of the regions of some answers, the farthest last."""
    program = RegionProgram(question)
    found = [program.solve(phases_at(question, x)) for x in answers(question)[:20]]
    return program, sorted((corner for corner in found if corner is not None), key=lambda corner: corner.distance)


def search(program, corner, **more):
    return search_neighbourhoods(program, corner, time.perf_counter() + 30, **more)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**20), scenarios=st.integers(1, 2), gamma=st.sampled_from([0.0, 0.2]))
def test_all_free_leads_to_the_optimum(seed, scenarios, gamma):
    """With no phase held the program is the question."""
    question = random_question(seed, scenarios, gamma)
    program, found = corners(question)
    if not found:
        return
    told = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(neighbourhood, "MOST", 1.0)
        corner = search(program, found[-1], told=told.append)
    assert question.slack(corner.x) >= 0
    assert corner.distance == pytest.approx(exact_distance(question), abs=1e-5)
    assert [one.distance for one in told] == sorted((one.distance for one in told), reverse=True)
    assert (told[-1] if told else found[-1]) is corner


def test_the_neurons_nearest_to_their_kinks_are_free():
    question = random_question(12, 2, hidden=(4, 4))
    _program, found = corners(question)
    x = found[-1].x
    relaxation = relaxed(question, found[-1].x)
    phases = held(relaxation, question, x, 3)
    costs = [kink_distances(network, x)[layer][neuron] for network, layer, neuron in places(question, relaxation)]
    free = set(range(len(costs))) - set(phases)
    assert len(free) == 3
    assert max(costs[number] for number in free) <= min(costs[number] for number in phases)
    for number, (network, layer, neuron) in enumerate(places(question, relaxation)):
        if number in phases:
            assert phases[number] == (network.preactivations(x[None])[layer][0, neuron] > 0)
    assert held(relaxation, question, x, len(costs)) == {}


def places(question, relaxation):
    return [(question.ensemble.networks[scenario], layer, neuron) for scenario, layer, neuron in relaxation.neurons]


def test_no_time_and_no_neuron():
    question = random_question(4, 2)
    program, found = corners(question)
    assert search_neighbourhoods(program, found[0], time.perf_counter() - 1) is found[0]
    assert search_neighbourhoods(program, found[0], time.perf_counter() + 30, least=99) is found[0]
    flat = random_question(4, 1, hidden=())
    program, found = corners(flat)
    assert search(program, found[0]) is found[0]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**20))
def test_kink_distances(seed):
    """At the boundary of the region along the steepest pixel the pre-activation is 0, if no other one was before."""
    network = random_network([4, 3, 3, 2], seed)
    x = np.random.default_rng(seed).random(4)
    before = network.preactivations(x[None])
    for layer, costs in enumerate(kink_distances(network, x)):
        for neuron, cost in enumerate(costs):
            if not np.isfinite(cost):
                continue
            least = np.inf
            for pixel in range(4):
                for sign in (-1.0, 1.0):
                    step = 1e-6 * sign * np.eye(4)[pixel]
                    slope = (network.preactivations((x + step)[None])[layer] - before[layer])[0, neuron] / 1e-6
                    if abs(slope) > 1e-9:
                        least = min(least, abs(before[layer][0, neuron]) / abs(slope))
            if np.abs(np.concatenate([b[0] for b in before])).min() > 1e-4:  # no kink within the step
                assert cost == pytest.approx(least, rel=1e-4, abs=1e-9)


def test_ctrl_c_keeps_what_was_told(monkeypatch):
    question = random_question(4, 2)
    program, found = corners(question)
    honest = neighbourhood.Search.run

    def stopped(*arguments, **named):
        honest(*arguments, **named)
        raise KeyboardInterrupt

    monkeypatch.setattr(neighbourhood.Search, "run", stopped)
    told = []
    with pytest.raises(KeyboardInterrupt):
        search(program, found[-1], told=told.append)
    assert told
    assert all(question.slack(corner.x) >= 0 for corner in told)


def test_it_ends_where_an_earlier_one_did(monkeypatch):
    monkeypatch.setattr(neighbourhood, "FREE", 2)
    question = random_question(5, 2, inputs=8, hidden=(6, 6))
    program, found = corners(question)
    told = []
    end = search(program, found[-1], told=told.append)
    assert len(told) > 1
    first = []
    assert search(program, found[-1], told=first.append, known=told[0]) is first[-1]
    assert [one.distance for one in first] == [told[0].distance]
    assert search(program, found[-1], known=end).distance == end.distance
    monkeypatch.delattr(neighbourhood.Search, "run")
    assert search(program, end, known=end) is end


def test_a_later_round_may_end_nearer_though_it_began_farther_off(monkeypatch):
    """Rounds begin at their own starts, not at the best end so far."""
    question = random_question(12, 2, hidden=(4, 4))
    _program, found = corners(question)
    near, far, end = found[1], found[-1], found[0]
    assert end.distance < near.distance < far.distance
    begins = iter([near, far])
    monkeypatch.setattr(warm, "FAR", np.inf)
    monkeypatch.setattr(warm, "gradient_answers", lambda *_: [next(begins, near).x])
    monkeypatch.setattr(warm, "descend", lambda _program, starts, *_: next(c for c in found if c.x is starts[0]))
    told = []

    def searched(_program, corner, _deadline, told, _least, known, _most):
        told(corner)
        assert (known is None) == (corner is near)
        return end if corner is far else near

    monkeypatch.setattr(warm, "search_neighbourhoods", searched)
    assert warm_start(question, 0, time.perf_counter() + 30, told.append) is end
    assert told[0] is near
    assert far in told


def apart(found):
    """Corners of different distances."""
    return list({round(corner.distance, 6): corner for corner in found}.values())


def fake_round(monkeypatch, question, corners):
    """Gradient attacks whose answers are `corners`, descents that stay there, neighbourhoods that hold nothing."""
    monkeypatch.setattr(warm, "FAR", np.inf)
    monkeypatch.setattr(warm, "gradient_answers", lambda *_: [corner.x for corner in corners])
    monkeypatch.setattr(warm, "phases_at", lambda _question, x: (x,))  # a region for each
    begun, explored, sizes = [], [], []

    def descend(_program, starts, *_):
        begun.append(next(corner for corner in corners if corner.x is starts[0]))
        return begun[-1]

    def searched(_program, corner, *rest):
        explored.append(corner)
        sizes.append(rest[-1])
        return corner

    monkeypatch.setattr(warm, "descend", descend)
    monkeypatch.setattr(warm, "search_neighbourhoods", searched)
    corner = warm_start(question, 0, time.perf_counter() + 30)
    return corner, begun, explored, sizes


def test_a_round_has_many_descents_and_explores_the_nearest_ends(monkeypatch):
    question = random_question(12, 2, hidden=(4, 4))
    _program, found = corners(question)
    ends = apart(found)[:5]
    assert len(ends) > 3
    corner, begun, explored, sizes = fake_round(monkeypatch, question, ends[::-1])
    assert corner is ends[0]
    assert begun == ends[::-1]  # not only the first, and none of them again in the second round
    assert explored == ends[: warm.EXPLORED]  # neither of them with a gain
    assert sizes == [neighbourhood.MOST_FREE] * warm.EXPLORED


def test_a_round_ends_once_descents_end_where_others_did(monkeypatch):
    question = random_question(12, 2, hidden=(4, 4))
    _program, found = corners(question)
    near = found[0]
    regions = [Corner(corner.x, near.distance, near.phases) for corner in apart(found)]
    monkeypatch.setattr(warm, "REPEATS", 2)
    corner, begun, explored, sizes = fake_round(monkeypatch, question, regions)
    assert corner is regions[0]
    assert explored == regions[:1]
    assert begun == regions[:3]  # one that is new and two that are not: enough to be sure, too
    assert sizes == [warm.SMALL]
    monkeypatch.setattr(warm, "SURE", 4)
    _corner, begun, explored, sizes = fake_round(monkeypatch, question, regions)
    assert (begun, explored) == (regions[:5], regions[:1])  # another round, which has no gain
    assert sizes == [neighbourhood.MOST_FREE]


def test_it_goes_on_from_what_the_first_try_finds(monkeypatch):
    question = random_question(12, 2, hidden=(4, 4))
    _program, found = corners(question)
    near, far = apart(found)[:2]
    explored = []
    monkeypatch.setattr(warm, "gradient_answers", lambda *_: [far.x])
    monkeypatch.setattr(warm, "descend", lambda *_: far)
    monkeypatch.setattr(warm, "search_neighbourhoods", lambda _program, corner, *_: explored.append(corner) or corner)
    assert warm_start(question, 0, time.perf_counter() + 30, None, lambda _corner: near) is near
    assert explored[0] is near


def test_the_first_try_comes_after_a_short_attack(monkeypatch):
    """Where it closes, nothing else is searched; where it does not, longer attacks follow, and there is one try."""
    question = random_question(12, 2, hidden=(4, 4))
    honest, asked, tries = warm.gradient_answers, [], []

    def attack(*arguments):
        asked.append(arguments[3:])
        return honest(*arguments)

    def tried(corner):
        tries.append(corner)
        return None if closes else corner

    monkeypatch.setattr(warm, "gradient_answers", attack)
    closes = True
    corner = warm_start(question, 0, time.perf_counter() + 30, None, tried)
    assert asked == [warm.SHORT]
    assert tries == [corner]
    assert question.slack(corner.x) >= 0
    closes = False
    assert warm_start(question, 0, time.perf_counter() + 30, None, tried).distance <= corner.distance
    assert asked[1:3] == [warm.SHORT, ()]
    assert len(tries) == 2


def test_the_first_try_lasts_longer_where_it_can_be_given_up(monkeypatch):
    """Our own search has milestones on the way, other solvers have none; there is one try."""
    question = random_question(12, 2, hidden=(4, 4))
    for solver, times in (("bab", prove.EARLY_TIMES), ("scip", 1)):
        tries = []

        def part(_prover, _best, _active, given=None, tries=tries):
            tries.append(given)
            return SimpleNamespace(status="feasible"), None

        with monkeypatch.context() as patch:
            patch.setattr(Prover, "solved_part", part)
            Prover(question, Options(solver=solver, time_limit=60.0), lambda *_: None).warm_up()
        assert tries == [pytest.approx(times * prove.EARLY_SECONDS, abs=0.1)]


def test_the_first_try_is_given_up_at_its_milestones(monkeypatch):
    question = random_question(12, 2, hidden=(4, 4))
    asked, honest = [], Closing.run

    def run(closing, seconds, look, milestones, brief):
        found = honest(closing, seconds, look, [(0.0, 2.0)] if milestones else [], brief)
        asked.append((milestones, closing.search.reliable, closing.search.look_ahead))
        return found

    monkeypatch.setattr("arfj.attack.closing.EVERY", 0.0)
    monkeypatch.setattr(Closing, "run", run)
    prover = Prover(question, Options(time_limit=30.0), lambda *_: None)
    proof = prover.prove()
    assert asked[0] == (prove.EARLY, *BRIEF)
    assert asked[-1][1:] == (RELIABLE, LOOK_AHEAD)
    assert prover.failed < np.inf
    assert prover.unlikely
    assert proof.bound == pytest.approx(prover.best.distance, rel=1e-6)


def test_the_first_try_waits_for_an_answer(monkeypatch):
    """Where the short attack finds none, a longer one may."""
    question = random_question(12, 2, hidden=(4, 4))
    honest, tries = warm.gradient_answers, []
    monkeypatch.setattr(warm, "gradient_answers", lambda *given: [] if given[3:] == warm.SHORT else honest(*given))
    corner = warm_start(question, 0, time.perf_counter() + 30, None, lambda corner: tries.append(corner) or None)
    assert tries == [corner]
    assert question.slack(corner.x) >= 0


def test_the_first_try_leaves_time_for_the_search(monkeypatch):
    """With two seconds in all the search has one of them; the try may not take all of it."""
    question = random_question(12, 2, hidden=(4, 4))
    seconds = []

    def part(prover, _best, _active, given=None):
        seconds.append(given)
        raise SolverError("a try")

    monkeypatch.setattr(Prover, "solved_part", part)
    prover = Prover(question, Options(time_limit=2.0), lambda *_: None)
    prover.warm_up()
    assert len(seconds) == 1
    assert 0 < seconds[0] < 0.5


def test_neighbourhoods_are_never_the_whole_question(monkeypatch):
    question = random_question(5, 2, inputs=8, hidden=(6, 6))
    program, found = corners(question)
    neurons = len(neighbourhood.relaxed(question, found[0].x).neurons)
    honest, free = neighbourhood.Search.run, []

    def counted(search, phases, *arguments, **named):
        free.append(neurons - len(phases))
        return honest(search, phases, *arguments, **named)

    monkeypatch.setattr(neighbourhood.Search, "run", counted)
    search(program, found[0])
    assert free == [int(neighbourhood.MOST * neurons)]  # fewer than FREE
    monkeypatch.setattr(neighbourhood, "FREE", 2)
    search(program, found[0])
    assert free[1:3] == [2, 3]
    assert max(free) <= neighbourhood.MOST * neurons
    most, free[:] = max(free) - 1, []
    search(program, found[0], most=most)
    assert max(free) == most
    free[:] = []
    search(program, found[0], most=1)
    assert free == [1]


def test_six_networks_where_flips_at_kinks_end_far_off(monkeypatch):
    """Image 00009: without flips of neurons near their kinks descents end above 13; 12.263 is the least distance."""
    ensemble = Ensemble((bundled_nominal(), *bundled_outer()), "outer")
    question = Question(bundled_images().nominal[7], 7, 6, ensemble)
    start = gradient_answers(question, 0, time.perf_counter() + 60)[0]
    program = RegionProgram(question)
    corner = descend(program, [start], time.perf_counter() + 60)
    assert question.slack(corner.x) >= 0
    assert corner.distance < 12.9
    monkeypatch.setattr(descent, "NEAR", 0.0)
    assert descend(program, [start], time.perf_counter() + 60).distance > 13
