"""Several processes on one search: the same optima, bounds that hold, and nothing lost with a helper that is gone."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from bab_settings import HARDER, LARGER, SECONDS, SEEDS, SETTINGS, exact_of, harder, larger
from processes import LIMIT, started

from arfj.attack import closing, crew, helper
from arfj.attack.closing import Closing
from arfj.attack.crew import Crew, Member
from arfj.attack.helper import serve
from arfj.attack.known import cut_off_radius
from arfj.attack.options import Options
from arfj.attack.prove import Prover
from arfj.bab import Relaxation, Search, tree
from arfj.tighten import open_width, tighten, tighten_together

SCRIPT = """
from arfj.attack.crew import Crew

print("once")
with Crew(lambda: 2) as helpers:
    helpers.gather()
    print(helpers.members[0].pipe.poll(60))
"""


class Thread(threading.Thread):
    """Stands for a process: what it is sent and what it sends is pickled just the same."""

    def __init__(self, pipe):
        super().__init__(target=serve, args=(multiprocessing.connection.Connection(os.dup(pipe.fileno())),))
        self.daemon = True
        self.start()

    def terminate(self):
        pass

    def kill(self):
        pass


@pytest.fixture
def threads(monkeypatch):
    monkeypatch.setattr(crew, "begun", Thread)


@pytest.fixture
def busy(monkeypatch):
    """Helpers from the second branching on, and messages at every turn."""
    monkeypatch.setattr(closing, "FIRST", 1)
    monkeypatch.setattr(closing, "GROWTH", 50)
    monkeypatch.setattr(tree, "MEETING", 1)
    monkeypatch.setattr(crew, "ROUND", 0.0)
    monkeypatch.setattr(crew, "LEAST_ROUND", 0.0)
    monkeypatch.setattr(crew, "LEAST", 2)
    monkeypatch.setattr(crew, "HANDED", 3)


def until_ready(helpers):
    """Wait until all of them have begun."""
    helpers.gather()
    for member in helpers.members:
        assert member.pipe.poll(60)


def working(helpers, part):
    """The part, once all helpers have it."""
    until_ready(helpers)
    helpers.prepare(part)
    part.search.begin(-part.least, time.perf_counter() + SECONDS, closing.GAP, part.leaf)
    helpers.meet(part.search)
    for member in helpers.members:
        assert member.pipe.poll(60)
    return part


def searched(part, helpers, most=np.inf):
    """A search of the part with helpers."""
    until = time.perf_counter() + SECONDS
    return part.search.run({}, -part.least, until, closing.GAP, most=most, leaf=part.leaf, others=helpers)


def count_reports(monkeypatch):
    """The nodes that helpers report, one number a report."""
    nodes, honest = [], Crew._read

    def read(helpers, member, search):
        before = search.nodes
        honest(helpers, member, search)
        nodes.append(search.nodes - before)

    monkeypatch.setattr(Crew, "_read", read)
    return nodes


@pytest.mark.usefixtures("threads", "busy")
class TestSearch:
    @pytest.mark.parametrize("cores", [2, 4])
    @pytest.mark.parametrize("seed", HARDER)
    def test_optimum(self, seed, cores, monkeypatch):
        nodes = count_reports(monkeypatch)
        question, x, bounds = harder(seed)
        alone = Closing(question, bounds, x).run(SECONDS)
        with Crew(lambda: cores) as helpers:
            until_ready(helpers)
            found = Closing(question, bounds, x, helpers=helpers).run(SECONDS)
            assert helpers.open == 0
            assert not helpers.lost
        assert (found.status, found.reason) == ("optimal", "")
        assert found.value == pytest.approx(alone.value, rel=1e-6)
        assert found.bound == pytest.approx(alone.value, rel=1e-6)
        assert sum(nodes) > 0, "so that it was no search alone"

    def test_that_of_enumeration_question_by_question(self):
        """By the same helpers; searches of a node or two end before they can be asked."""
        with Crew(lambda: 3) as helpers:
            until_ready(helpers)
            for seed in SEEDS:
                question, x, bounds = SETTINGS[seed]
                found = Closing(question, bounds, x, helpers=helpers).run(SECONDS)
                assert (found.status, found.value) == ("optimal", pytest.approx(exact_of(seed), rel=1e-6, abs=1e-6))
                assert found.bound <= exact_of(seed) * (1 + 1e-9) + 1e-9

    @pytest.mark.parametrize("most", [5, 10, 20, 40])
    def test_a_search_that_is_cut_short_bounds_all_the_same(self, most):
        """What is being worked on elsewhere counts."""
        elsewhere = 0
        for seed in HARDER:
            question, x, bounds = harder(seed)
            best = Closing(question, bounds, x).run(SECONDS).value
            with Crew(lambda: 3) as helpers:
                part = working(helpers, Closing(question, bounds, x, helpers=helpers))
                found = searched(part, helpers, most)
                elsewhere += helpers.open
                assert found.bound >= -best * (1 + 1e-9)
                assert found.closed == (found.bound <= -part.least * (1 - 1e-6))
                helpers.rest(part.search)
        assert elsewhere > 0

    def test_an_answer_of_a_helper_is_taken_up(self, monkeypatch):
        """Every helper's first branching finds the optimum: the search ends with it."""
        question, x, bounds = harder(HARDER[0])
        solo = Closing(question, bounds, x)
        best = solo.run(SECONDS).value
        honest = helper.Helper.branch

        def branch(one):
            one.closing.met(solo.best)
            one.closing.least = min(one.closing.least, solo.best.distance)
            honest(one)

        monkeypatch.setattr(helper.Helper, "branch", branch)
        monkeypatch.setattr(Closing, "leaf", lambda part, *_: -part.least)
        with Crew(lambda: 2) as helpers:
            until_ready(helpers)
            part = Closing(question, bounds, x, helpers=helpers)
            found = part.run(SECONDS)
        assert part.best.distance == pytest.approx(best, rel=1e-6)
        assert (found.status, found.value) == ("optimal", pytest.approx(best, rel=1e-6))

    @pytest.mark.parametrize("after", [0, 1, 3, 8])
    def test_what_a_lost_helper_held_stays_open(self, after, monkeypatch):
        """In the search that it took part in; the next one does without it."""
        question, x, bounds = harder(HARDER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        honest, calls = helper.Helper.branch, []

        def branch(one):
            calls.append(1)
            if len(calls) > after:
                raise EOFError
            honest(one)

        monkeypatch.setattr(helper.Helper, "branch", branch)
        with Crew(lambda: 2) as helpers:
            part = working(helpers, Closing(question, bounds, x, helpers=helpers))
            found = searched(part, helpers)
            assert not helpers.members
            assert helpers.lost
            assert not found.closed
            assert found.bound >= -best * (1 + 1e-9)
            calls.clear()
            whole = Closing(question, bounds, x, helpers=Crew(lambda: 2)).run(SECONDS)
        assert (whole.status, whole.value) == ("optimal", pytest.approx(best, rel=1e-6))

    def test_what_a_helper_cannot_branch_on_stays_open(self, monkeypatch):
        question, x, bounds = harder(HARDER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        monkeypatch.setattr(closing, "LAST", 2)
        honest = Search.chosen

        def chosen(search, node):
            return honest(search, node) if threading.current_thread() is threading.main_thread() else None

        monkeypatch.setattr(Search, "chosen", chosen)
        with Crew(lambda: 2) as helpers:
            until_ready(helpers)
            found = Closing(question, bounds, x, helpers=helpers).run(SECONDS)
        assert 0.0 <= found.bound <= best * (1 + 1e-9)
        assert (found.status, "numerical trouble" in found.reason) == ("feasible", True)

    def test_nodes_of_a_search_that_is_over_are_dropped(self, monkeypatch):
        """A report that was on its way when another search began."""
        question, x, bounds = harder(HARDER[0])
        with Crew(lambda: 2) as helpers:
            part = working(helpers, Closing(question, bounds, x))
            searched(part, helpers, most=40)
            (member,) = helpers.members
            assert member.open > 0
            part.search.begin(-part.least, time.perf_counter() + SECONDS, closing.GAP, part.leaf)
            helpers.begin(part.search)
            assert (helpers.open, helpers.bound) == (0, -np.inf)
            assert member.pipe.poll(10)
            helpers._read(member, part.search)
            assert (helpers.open, helpers.bound, part.search.heap) == (0, -np.inf, [])
            helpers.rest(part.search)

    def test_an_answer_that_is_on_its_way_at_the_end_counts(self, monkeypatch):
        question, x, bounds = harder(HARDER[0])
        solo = Closing(question, bounds, x)
        best = solo.run(SECONDS).value
        monkeypatch.setattr(closing.Closing, "leaf", lambda part, *_: -part.least)
        with Crew(lambda: 2) as helpers:
            part = working(helpers, Closing(question, bounds, x, helpers=helpers))
            searched(part, helpers, most=40)
            part.settle()
            bound = part.bound
            (member,) = helpers.members
            assert not member.ready
            honest = member.answer

            def answer():
                report = honest()
                return replace(report, best=solo.best, least=solo.best.distance)

            member.answer = answer
            assert part.best.distance > best * 1.01
            part.settle_others(helpers)
        assert part.best.distance == pytest.approx(best, rel=1e-6)
        assert part.bound == bound

    def test_conflicts_of_a_helper_do_not_hang_on_an_answer_met_in_the_search(self):
        """What they say outlasts the search, and that answer need not be kept."""
        question, x, bounds = harder(HARDER[0])
        part = Closing(question, bounds, x, probed=[None] * len(bounds))
        begun = part.least
        part.met(replace(part.best, distance=0.9 * begun))
        assert part.least == 0.9 * begun
        theirs = helper.Helper(crew._part(part)).closing
        assert [prober.radius for prober in theirs.deduction.probers] == [begun] * len(bounds)

    def test_no_memory(self):
        """Nodes count wherever they are."""
        question, x, bounds = harder(HARDER[0])
        with Crew(lambda: 3) as helpers:
            part = working(helpers, Closing(question, bounds, x, helpers=helpers))
            until = time.perf_counter() + SECONDS
            found = part.search.run({}, -part.least, until, closing.GAP, room=20, leaf=part.leaf, others=helpers)
            assert not found.closed
            assert found.open == len(part.search.heap) + helpers.open > 20
            assert helpers.open > 0

    def test_no_time(self):
        question, x, bounds = harder(HARDER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        with Crew(lambda: 2) as helpers:
            until_ready(helpers)
            for seconds in (0.02, 0.05, 0.1):
                begun = time.perf_counter()
                found = Closing(question, bounds, x, helpers=helpers).run(seconds)
                assert time.perf_counter() - begun < 5.0
                assert 0.0 <= found.bound <= best * (1 + 1e-9)
                assert found.status == "optimal" or found.reason == "time limit reached"

    def test_interrupted(self, monkeypatch):
        question, x, bounds = harder(HARDER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        honest = Crew.meet

        def meet(helpers, search):
            honest(helpers, search)
            if search.nodes >= 8:
                raise KeyboardInterrupt

        monkeypatch.setattr(Crew, "meet", meet)
        with Crew(lambda: 2) as helpers:
            until_ready(helpers)
            found = Closing(question, bounds, x, helpers=helpers).run(SECONDS)
        assert (found.status, found.reason, found.interrupted) == ("feasible", "interrupted", True)
        assert 0.0 <= found.bound <= best * (1 + 1e-9)

    def test_cores_that_become_free(self):
        """Helpers begin in the middle of a search."""
        question, x, bounds = harder(HARDER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        asked = []

        def cores():
            asked.append(1)
            return 1 if len(asked) < 6 else 3

        with Crew(cores) as helpers:
            found = Closing(question, bounds, x, helpers=helpers).run(SECONDS)
            assert len(helpers.members) == (2 if len(asked) > 6 else 0)
        assert len(asked) > 6
        assert (found.status, found.value) == ("optimal", pytest.approx(best, rel=1e-6))

    @pytest.mark.parametrize("seed", HARDER[1:])
    def test_part_by_part(self, seed, monkeypatch):
        """A part that is outgrown, and the next one."""
        question, x, bounds = harder(seed)
        expected = Closing(question, bounds, x).run(SECONDS).value
        monkeypatch.setattr(Prover, "first", lambda _: [0])
        monkeypatch.setattr("arfj.attack.prove.EARLY_SECONDS", 0.0)
        prover = Prover(question, Options(time_limit=SECONDS, threads=3), lambda *_: None)
        until_ready(prover.crew)
        proof = prover.prove()
        assert (proof.bound, proof.reason) == (pytest.approx(expected, rel=1e-6), "")
        assert not prover.crew.members


@pytest.mark.usefixtures("threads")
class TestTightening:
    @pytest.mark.parametrize("cores", [2, 3, 5])
    def test_is_what_one_process_finds(self, cores):
        question, x, bounds = harder(HARDER[0])
        radius = cut_off_radius(question.distance(x))
        until = time.perf_counter() + SECONDS
        expected = tighten(question, bounds, radius, until)
        with Crew(lambda: cores) as helpers:
            until_ready(helpers)
            found = helpers.tighten(question, bounds, radius, until)
        for mine, theirs in zip(found, expected, strict=True):
            for one, other in zip(mine.lower + mine.upper, theirs.lower + theirs.upper, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)  # bases, and so last digits, differ

    @pytest.mark.parametrize(("cores", "most"), [(2, 0), (3, 0), (2, 3)])
    def test_together_is_what_one_process_finds(self, cores, most):
        question, x, bounds = harder(HARDER[0])
        radius = cut_off_radius(question.distance(x))
        until = time.perf_counter() + SECONDS
        expected = tighten_together(question, bounds, x, radius, until, most)
        with Crew(lambda: cores) as helpers:
            until_ready(helpers)
            found = helpers.tighten_together(question, bounds, x, radius, until, most)
            assert len(helpers.members) == cores - 1
        # searches that are cut short end with other bounds where others were learnt from
        assert open_width(found) == pytest.approx(open_width(expected), rel=1e-6 if most == 0 else 0.1)
        assert open_width(found) < open_width(bounds)

    def test_neurons_of_a_lost_helper_stay_as_they_were(self, monkeypatch):
        question, x, bounds = harder(HARDER[0])
        radius = cut_off_radius(question.distance(x))
        until = time.perf_counter() + SECONDS
        everything = tighten_together(question, bounds, x, radius, until)
        honest = helper.Together.done

        def done(part):
            if threading.current_thread() is not threading.main_thread():
                raise EOFError
            return honest(part)

        monkeypatch.setattr(helper.Together, "done", done)
        with Crew(lambda: 2) as helpers:
            until_ready(helpers)
            found = helpers.tighten_together(question, bounds, x, radius, until)
            assert not helpers.members
        assert open_width(everything) < open_width(found) < open_width(bounds)
        for network, one in zip(question.ensemble, found, strict=True):
            assert one.hold(network.preactivations(x[None]))

    def test_scenarios_of_a_lost_helper_stay_as_they_were(self, monkeypatch):
        question, x, bounds = harder(HARDER[0])
        radius = cut_off_radius(question.distance(x))
        honest = helper.Tightening.done

        def done(part):
            if threading.current_thread() is not threading.main_thread():
                raise EOFError
            return honest(part)

        monkeypatch.setattr(helper.Tightening, "done", done)
        with Crew(lambda: 2) as helpers:
            until_ready(helpers)
            found = helpers.tighten(question, bounds, radius, time.perf_counter() + SECONDS)
            assert not helpers.members
        assert [one is other for one, other in zip(found, bounds, strict=True)] == [False, True, False, True, False]


class TestNodesThatMove:
    @pytest.mark.parametrize("seed", LARGER)
    def test_a_basis_means_the_same_where_pixels_entered_in_another_order(self, seed):
        question, x, bounds = larger(seed)
        mine, theirs = Relaxation(question, bounds), Relaxation(question, bounds)
        for one in (mine, theirs):
            one.maximise(None)
        theirs.enter_pixels(range(len(theirs.caps))[::-1])
        search = Search(mine, 8)
        search.run({}, -question.distance(x), time.perf_counter() + SECONDS, most=5)
        for *_, node in search.heap:
            there = theirs.arrived(mine.moved(node.basis))
            back = mine.arrived(theirs.moved(there))
            assert back[0][: len(node.basis[0])] == node.basis[0]
            assert back[1] == node.basis[1]
            theirs.start_from(there)
            theirs.hold(node.phases)
            bound, _ = theirs.solve()
            assert min(bound, -0.0) == pytest.approx(node.bound, rel=1e-6, abs=1e-9)

    def test_every_other_one_is_handed_over_and_none_is_lost(self):
        question, x, bounds = larger(LARGER[0])
        relaxation = Relaxation(question, bounds)
        relaxation.maximise(None)
        search = Search(relaxation, 8)
        search.run({}, -question.distance(x), time.perf_counter() + SECONDS, most=8)
        before = sorted(entry[2].bound for entry in search.heap)
        assert len(before) > 3
        handed = search.handed(2)
        assert len(handed) == 2
        assert sorted([*(entry[2].bound for entry in search.heap), *(one.bound for one in handed)]) == before
        assert search.heap[0][2].bound == before[-1]
        assert handed[0].bound == before[-2]
        search.receive(handed)
        assert sorted(entry[2].bound for entry in search.heap) == before
        search.heap = search.heap[:1]
        assert search.handed(5) == []


class TestProcesses:
    def test_optimum(self, busy, monkeypatch):
        nodes = count_reports(monkeypatch)
        question, x, bounds = harder(HARDER[0])
        alone = Closing(question, bounds, x).run(SECONDS)
        with Crew(lambda: 2) as helpers:
            until_ready(helpers)
            (member,) = helpers.members
            process = member.process
            found = Closing(question, bounds, x, helpers=helpers).run(SECONDS)
            assert process.is_alive()
        assert not process.is_alive()
        assert (found.status, found.value) == ("optimal", pytest.approx(alone.value, rel=1e-6))
        assert sum(nodes) > 0

    @pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
    def test_killed(self, busy, monkeypatch):
        """As the system does where memory is short: what it held is searched again."""
        question, x, bounds = harder(HARDER[0])
        best = Closing(question, bounds, x).run(SECONDS).value
        honest = Crew._tell

        def tell(helpers, member, search, hungry):
            if member.open and member in helpers.members:
                os.kill(member.process.pid, signal.SIGKILL)
            honest(helpers, member, search, hungry)

        monkeypatch.setattr(Crew, "_tell", tell)
        with Crew(lambda: 2) as helpers:
            until_ready(helpers)
            found = Closing(question, bounds, x, helpers=helpers).run(SECONDS)
            assert not helpers.members
        assert (found.status, found.value) == ("optimal", pytest.approx(best, rel=1e-6))
        assert found.bound <= best * (1 + 1e-9)

    @pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
    def test_ctrl_c_is_not_theirs(self):
        with Crew(lambda: 2) as helpers:
            until_ready(helpers)
            (member,) = helpers.members
            os.kill(member.process.pid, signal.SIGINT)
            member.process.join(0.3)
            assert member.process.is_alive()

    def test_a_script_is_not_run_again(self, tmp_path):
        """One without the guard that processes of "spawn" need."""
        script = tmp_path / "script.py"
        script.write_text(SCRIPT)
        with started(script) as process:
            printed, said = process.communicate(timeout=LIMIT)
        assert (process.returncode, said) == (0, "")
        assert printed.split() == ["once", "True"]

    def test_a_daemonic_process_has_none(self, monkeypatch):
        monkeypatch.setattr(multiprocessing.current_process(), "_config", {"daemon": True})
        with Crew(lambda: 3) as helpers:
            helpers.gather()
            assert not helpers.members

    def test_no_room_for_a_process(self, monkeypatch):
        def full(_pipe):
            raise OSError(12, "Cannot allocate memory")

        monkeypatch.setattr(crew, "begun", full)
        question, x, bounds = SETTINGS[SEEDS[0]]
        with Crew(lambda: 3) as helpers:
            found = Closing(question, bounds, x, helpers=helpers).run(SECONDS)
        assert (found.status, found.value) == ("optimal", pytest.approx(exact_of(SEEDS[0]), rel=1e-6, abs=1e-6))


def test_members_wait_for_their_turn():
    """None is told anything before it has said that it has begun."""
    with Crew(lambda: 2) as helpers:
        helpers.gather()
        (member,) = helpers.members
        assert isinstance(member, Member)
        assert not member.ready
