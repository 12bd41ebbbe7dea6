"""Every solver meets the catalogue, stops where it is told to, and never calls a stopped search optimal."""

import _thread
import dataclasses
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import scipy.sparse as sp
from catalogue import ANSWERED, CATALOGUE
from processes import LIMIT
from reference import exact_distance, random_question

from arfj.bounds import pre_activation_bounds
from arfj.data import bundled_images, bundled_nominal, bundled_outer
from arfj.encoding import Problem, encode_paper, encode_tight
from arfj.ensemble import Ensemble
from arfj.errors import SolverError
from arfj.question import Question
from arfj.solver import EnoughError, Limits, available, installed, solve, version
from arfj.solver.interrupt import NotBackError, Watched, run_interruptible
from arfj.solver.record import Step

NO_GUROBI = pytest.mark.skipif(not available("gurobi"), reason="gurobipy is not installed or has no licence")
SOLVERS = ["scip", pytest.param("gurobi", marks=NO_GUROBI)]
FORMULATIONS = ["tight", "paper"]
LIMITS = Limits(seconds=60)

every_solver = pytest.mark.parametrize("solver", SOLVERS)
every_formulation = pytest.mark.parametrize("formulation", FORMULATIONS)


def encode(question, formulation, radius=np.inf, method="crown"):
    if formulation == "paper":
        return encode_paper(question)
    region = question.region(radius)
    return encode_tight(question, [pre_activation_bounds(network, region, method) for network in question.ensemble])


def with_row(problem, upper):
    """The problem with its objective cut off at `upper`."""
    row = sp.csr_matrix(problem.objective[None])
    return dataclasses.replace(
        problem,
        matrix=sp.vstack([problem.matrix, row], format="csr"),
        row_lower=np.append(problem.row_lower, -np.inf),
        row_upper=np.append(problem.row_upper, upper),
    )


def linear(count, rows=1, indicators=()):
    """min sum v, v >= 1, as many rows as wanted."""
    return Problem(
        np.ones(count),
        np.ones(count),
        np.full(count, 9.0),
        np.zeros(count, dtype=bool),
        sp.csr_matrix((np.ones(rows), (np.arange(rows), np.zeros(rows, dtype=int))), shape=(rows, count)),
        np.zeros(rows),
        np.full(rows, np.inf),
        indicators,
    )


def hard_encoding():
    """Six retrained-side networks without a ball: no solver closes it in less than several seconds."""
    ensemble = Ensemble((bundled_nominal(), *bundled_outer()), "outer")
    return encode(Question(bundled_images().nominal[1], 1, 0, ensemble), "tight")


@pytest.fixture(scope="module")
def hard():
    return hard_encoding().problem


def check_record(solution):
    """What holds of every solution."""
    assert solution.status in ("optimal", "feasible", "infeasible", "unknown")
    assert (solution.values is None) == (solution.value is None) == (solution.status in ("infeasible", "unknown"))
    assert (solution.reason == "") == (solution.status in ("optimal", "infeasible"))
    assert not np.isnan(solution.bound)
    if solution.value is not None:
        assert solution.bound <= solution.value + 1e-9
    assert solution.nodes >= 0
    assert solution.seconds >= 0


@every_solver
class TestCatalogue:
    @every_formulation
    @pytest.mark.parametrize("entry", CATALOGUE, ids=lambda entry: entry.name)
    def test_optimum(self, entry, formulation, solver):
        question = entry.question
        encoding = encode(question, formulation)
        solution = solve(solver, encoding.problem, LIMITS)
        check_record(solution)
        if entry.distance is None:
            assert (solution.status, solution.bound) == ("infeasible", np.inf), entry.why
            return
        assert solution.status == "optimal", entry.why
        assert solution.value == pytest.approx(entry.distance, rel=1e-7, abs=1e-8), entry.why
        assert solution.bound == pytest.approx(entry.distance, rel=1e-6, abs=1e-8), entry.why
        assert encoding.problem.violation(solution.values) <= 1e-8
        x = encoding.decode(solution.values)
        assert question.distance(x) == pytest.approx(entry.distance, abs=1e-7)
        assert question.slack(x) >= -1e-7
        if entry.x is not None:
            assert x == pytest.approx(np.array(entry.x), abs=1e-7)

    @every_formulation
    @pytest.mark.parametrize("entry", ANSWERED, ids=lambda entry: entry.name)
    def test_limits_around_the_optimum(self, entry, formulation, solver):
        problem = encode(entry.question, formulation).problem
        above = solve(solver, with_row(problem, entry.distance + 1e-5), LIMITS)
        assert above.status == "optimal"
        if entry.distance > 0:
            below = solve(solver, with_row(problem, entry.distance - 1e-5), LIMITS)
            assert (below.status, below.bound, below.values) == ("infeasible", np.inf, None)

    @pytest.mark.parametrize("method", ["interval", "crown", "alpha-crown"])
    @pytest.mark.parametrize("entry", ANSWERED, ids=lambda entry: entry.name)
    def test_ball_that_just_holds_the_optimum(self, entry, method, solver):
        encoding = encode(entry.question, "tight", entry.distance * (1 + 1e-6) + 1e-9, method)
        solution = solve(solver, encoding.problem, LIMITS)
        assert solution.status == "optimal"
        assert solution.value == pytest.approx(entry.distance, rel=1e-7, abs=1e-8)


@every_solver
class TestLimits:
    @every_formulation
    @pytest.mark.parametrize("entry", CATALOGUE[::4], ids=lambda entry: entry.name)
    def test_no_time(self, entry, formulation, solver):
        solution = solve(solver, encode(entry.question, formulation).problem, Limits(seconds=0))
        check_record(solution)
        assert (solution.status, solution.values, solution.interrupted) == ("unknown", None, False)
        assert "time" in solution.reason

    def test_time_limit(self, hard, solver):
        solution = solve(solver, hard, Limits(seconds=0.5))
        check_record(solution)
        assert solution.status in ("unknown", "feasible")
        assert "time" in solution.reason
        assert 0.3 < solution.seconds < 5

    def test_first_answer(self, solver):
        question = random_question(4, scenarios=2)
        problem = encode(question, "paper").problem
        first = solve(solver, problem, Limits(seconds=60, solutions=1))
        check_record(first)
        assert first.status in ("feasible", "optimal")
        assert first.value >= exact_distance(question) - 1e-7
        assert problem.violation(first.values) <= 1e-8

    @every_formulation
    def test_start_is_taken(self, formulation, solver):
        """With one improving answer allowed, the start itself comes back."""
        question = random_question(4, scenarios=2)
        encoding = encode(question, formulation)
        x = far_answer(question)
        start = encoding.complete(x, question.ensemble)
        solution = solve(solver, encoding.problem, Limits(seconds=60, solutions=1), start)
        check_record(solution)
        assert solution.status == "feasible"
        assert solution.value == pytest.approx(question.distance(x), rel=1e-9)
        assert encoding.decode(solution.values) == pytest.approx(x, abs=1e-9)
        through = solve(solver, encoding.problem, LIMITS, start)
        assert through.status == "optimal"
        assert through.value == pytest.approx(exact_distance(question), rel=1e-7)

    def test_start_that_is_no_answer(self, solver):
        question = ANSWERED[0].question
        encoding = encode(question, "tight")
        start = encoding.complete(question.flat, question.ensemble)
        solution = solve(solver, encoding.problem, LIMITS, start)
        assert (solution.status, solution.value) == ("optimal", pytest.approx(ANSWERED[0].distance))

    def test_everything_is_passed_through(self, solver):
        limits = Limits(seconds=60, threads=2, seed=7, memory=2000.0, gap=1e-9, proving=True)
        solution = solve(solver, encode(random_question(4), "tight").problem, limits)
        assert solution.status == "optimal"
        assert solution.value == pytest.approx(exact_distance(random_question(4)), rel=1e-7)

    def test_same_seed_same_search(self, solver):
        problem = encode(random_question(5, scenarios=3, hidden=(5, 5), inputs=8), "paper").problem
        one, two = (solve(solver, problem, Limits(seconds=60, seed=3)) for _ in range(2))
        assert (one.nodes, one.value) == (two.nodes, two.value)
        assert np.array_equal(one.values, two.values)


def far_answer(question):
    """A random answer, well away from the optimum."""
    points = np.random.default_rng(0).random((2000, question.flat.size))
    found = [x for x in points if question.slack(x) >= 1e-3]
    assert found, "the instance has no answer among the samples; take another seed"
    return max(found, key=question.distance)


@every_solver
@every_formulation
@pytest.mark.parametrize("seed", [0, 4, 25, 26, 28])
def test_optima_that_dual_reductions_lose(seed, formulation, solver):
    """With its strong dual reductions, SCIP 10 proves other values for the printed model of these."""
    question = random_question(seed, scenarios=2)
    solution = solve(solver, encode(question, formulation).problem, LIMITS)
    assert solution.status == "optimal"
    assert solution.value == pytest.approx(exact_distance(question), rel=1e-6)


@every_solver
@pytest.mark.usefixtures("hears_ctrl_c")
class TestWhileItRuns:
    def test_progress(self, hard, solver):
        steps = []

        def note(step):
            steps.append(step)
            if len(steps) == 3:
                raise KeyboardInterrupt

        solution = solve(solver, hard, Limits(seconds=30), progress=note)
        assert len(steps) == 3
        assert solution.seconds >= 0.6  # at most five times a second
        for step in steps:
            assert isinstance(step, Step)
            assert step.bound is None or step.incumbent is None or step.bound <= step.incumbent + 1e-6
        assert [step.seconds for step in steps] == sorted(step.seconds for step in steps)

    def test_ctrl_c(self, hard, solver, capfd):
        """A real signal while the solver is at work: the state comes back, and stdout stays clean."""
        once = iter([signal.SIGINT])

        def press(_):
            for key in once:
                os.kill(os.getpid(), key)

        solution = solve(solver, hard, Limits(seconds=30), progress=press)
        check_record(solution)
        assert solution.interrupted
        assert solution.status in ("unknown", "feasible")
        assert solution.reason == "interrupted"
        assert solution.seconds < 15
        assert capfd.readouterr().out == ""
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)

    def test_enough_is_no_interrupt(self, solver):
        """The solver stops, what it has counts, and nobody has pressed a key."""
        encoding = hard_encoding()
        start = encoding.complete(known_answer(), (bundled_nominal(), *bundled_outer()))

        def enough(_):
            raise EnoughError

        solution = solve(solver, encoding.problem, Limits(seconds=30), start, enough)
        check_record(solution)
        assert (solution.status, solution.interrupted) == ("feasible", False)
        assert solution.seconds < 15
        assert solution.bound > -np.inf

    def test_interrupt_out_of_the_callback_keeps_the_start(self, solver):
        encoding = hard_encoding()
        x = known_answer()
        start = encoding.complete(x, (bundled_nominal(), *bundled_outer()))

        def press(_):
            raise KeyboardInterrupt

        solution = solve(solver, encoding.problem, Limits(seconds=30), start, press)
        check_record(solution)
        assert (solution.status, solution.interrupted) == ("feasible", True)
        assert solution.value <= np.abs(x - bundled_images().nominal[1]).sum() + 1e-6
        assert solution.seconds < 15

    def test_errors_of_the_callback_rise(self, hard, solver, capfd):
        def fail(_):
            raise ValueError("the screen is gone")

        with pytest.raises(ValueError, match="the screen is gone"):
            solve(solver, hard, Limits(seconds=30), progress=fail)
        assert capfd.readouterr() == ("", "")


@NO_GUROBI
@pytest.mark.usefixtures("hears_ctrl_c")
class TestMoreThreads:
    """Gurobi's search goes on with more threads once there may be more."""

    @pytest.fixture
    def threads(self, monkeypatch):
        """The threads of every run."""
        gp = pytest.importorskip("gurobipy")
        runs, optimise = [], gp.Model.optimize

        def noted(model, *args):
            runs.append(model.Params.Threads)
            optimise(model, *args)

        monkeypatch.setattr(gp.Model, "optimize", noted)
        return runs

    def test_the_tree_is_kept(self, hard, threads):
        """More threads from the first node on, and Ctrl-C three steps later: no clock decides."""
        steps = []

        def follow(step):
            steps.append(step)
            after = sum(1 for one in steps if one.nodes > 0)
            if len(threads) == 2 and after >= 4:
                os.kill(os.getpid(), signal.SIGINT)

        solution = solve("gurobi", hard, Limits(60.0, cores=lambda: 2 if steps[-1].nodes > 0 else 1), progress=follow)
        check_record(solution)
        assert threads == [1, 2]
        assert (solution.reason, solution.interrupted) == ("interrupted", True)
        nodes = [step.nodes for step in steps]
        assert nodes == sorted(nodes)
        assert solution.nodes >= nodes[-1]
        assert [step.seconds for step in steps] == sorted(step.seconds for step in steps)

    def test_the_limit_is_kept(self, hard, threads):
        solution = solve("gurobi", hard, Limits(4.0, cores=lambda: 2))
        check_record(solution)
        assert threads == [1, 2]
        assert (solution.reason, solution.interrupted) == ("time limit reached", False)
        assert solution.seconds < 15

    def test_never_fewer(self, hard, threads):
        solve("gurobi", hard, Limits(1.0, threads=2, cores=lambda: 1))
        assert threads == [2]

    def test_the_user_is_heard_all_the_same(self, hard, threads):
        """Ctrl-C at the very moment of the change, and after it."""
        for when in (1, 4):
            threads.clear()
            steps = []

            def press(step, steps=steps, when=when):
                steps.append(step)
                if len(steps) == when:
                    os.kill(os.getpid(), signal.SIGINT)

            solution = solve("gurobi", hard, Limits(30.0, cores=lambda: 2), progress=press)
            assert solution.interrupted
            assert solution.reason == "interrupted"
            assert solution.seconds < 15

    def test_optimum(self, threads):
        entry = ANSWERED[0]
        solution = solve("gurobi", encode(entry.question, "tight").problem, Limits(60, cores=lambda: 2))
        assert solution.value == pytest.approx(entry.distance, abs=1e-6)


def known_answer():
    """An answer to the hard question: another image that all six networks take for the target."""
    images = bundled_images()
    question = Question(images.nominal[1], 1, 0, Ensemble((bundled_nominal(), *bundled_outer()), "outer"))
    answers = [x for x in images.test[images.test_labels == 0] if question.slack(x) >= 1e-3]
    assert answers, "no bundled test image answers the hard question"
    return min(answers, key=question.distance)


def never_ending(ended):
    """Work that hears nobody, until `ended` is set at the end of the test."""
    return lambda: ended.wait(LIMIT)


@pytest.fixture
def ended():
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.usefixtures("hears_ctrl_c")
class TestInterruptible:
    def test_main_thread_listens(self):
        stopped = threading.Event()

        def work():
            _thread.interrupt_main()
            assert stopped.wait(10)

        assert run_interruptible(work, Watched(None, stopped.set))

    def test_undisturbed(self):
        seen = []
        assert not run_interruptible(lambda: seen.append(1), Watched(None, lambda: seen.append(2)))
        assert seen == [1]

    def test_failure_of_the_solver_rises(self):
        def work():
            raise RuntimeError("numerics")

        with pytest.raises(RuntimeError, match="numerics"):
            run_interruptible(work, Watched(None, lambda: None))

    def test_callback_is_left_alone_after_it_failed(self):
        calls, stops = [], []

        def fail(step):
            calls.append(step)
            raise KeyboardInterrupt

        watched = Watched(fail, lambda: stops.append(1))
        step = Step(None, None, 0, 0.0)
        assert run_interruptible(lambda: (watched(step), watched(step)), watched)
        assert calls == [step]
        assert stops

    def test_works_outside_the_main_thread(self):
        result = []
        thread = threading.Thread(
            target=lambda: result.append(solve("scip", encode(ANSWERED[0].question, "tight").problem, LIMITS))
        )
        thread.daemon = True
        thread.start()
        thread.join(LIMIT)
        assert result[0].status == "optimal"

    def test_ctrl_c_at_any_moment(self):
        """Wherever the main thread is when Ctrl-C comes, it neither waits for ever nor forgets it."""
        for delay in np.linspace(0, 1e-3, 200):
            stopped = threading.Event()

            def work(delay=delay, stopped=stopped):
                time.sleep(delay)
                os.kill(os.getpid(), signal.SIGINT)
                assert stopped.wait(10)

            assert run_interruptible(work, Watched(None, stopped.set))

    def test_a_solver_that_forgets_its_time_limit_is_given_up(self, ended):
        asked = []
        with pytest.raises(NotBackError, match="did not come back within 0 s after its time limit") as late:
            run_interruptible(never_ending(ended), Watched(None, lambda: asked.append(1)), 0.1, grace=0.2)
        solution = late.value.solution(0.3)
        check_record(solution)
        assert (solution.status, solution.interrupted, asked) == ("unknown", False, [])

    def test_a_solver_that_hears_no_wish_is_given_up(self, ended):
        asked = []

        def work():
            _thread.interrupt_main()
            ended.wait(LIMIT)

        with pytest.raises(NotBackError, match="after it was asked to stop") as late:
            run_interruptible(work, Watched(None, lambda: asked.append(1)), grace=0.3)
        assert late.value.solution(0.3).interrupted
        assert asked

    def test_an_error_of_the_callback_rises_then_too(self, ended):
        def fail(_):
            raise ValueError("the screen is gone")

        watched = Watched(fail, lambda: None)

        def work():
            watched(Step(None, None, 0, 0.0))
            ended.wait(LIMIT)

        with pytest.raises(NotBackError) as late:
            run_interruptible(work, watched, grace=0.2)
        with pytest.raises(ValueError, match="the screen is gone"):
            late.value.solution(0.2)


@every_solver
def test_the_answer_of_a_solver_that_does_not_come_back(solver, ended, monkeypatch):
    """The solver's own thread is still at work; what is returned claims nothing, and the thread keeps the model."""

    def impatient(work, watched, _seconds):
        return run_interruptible(work, watched, 2.0, grace=0.5)

    def hang(_):
        ended.wait(LIMIT)
        raise KeyboardInterrupt

    monkeypatch.setattr(f"arfj.solver.{solver}.run_interruptible", impatient)
    solution = solve(solver, hard_encoding().problem, LIMITS, progress=hang)
    check_record(solution)
    assert (solution.status, solution.bound, solution.interrupted) == ("unknown", -np.inf, False)
    assert "did not come back" in solution.reason
    ended.set()
    for thread in threading.enumerate():
        if thread.name == "solver":
            thread.join(LIMIT)
            assert not thread.is_alive()


@NO_GUROBI
class TestGurobiLicence:
    @pytest.mark.parametrize(
        ("columns", "rows", "message"),
        [
            (2001, 5, r"2001 variables \(limit 2000\), too large"),
            (5, 2001, r"2001 linear constraints \(limit 2000\), too large"),
            (2001, 2002, "2001 variables .* and 2002 linear constraints"),
        ],
    )
    def test_size_limit(self, columns, rows, message):
        try:
            with pytest.raises(SolverError, match=f"{message}.*--solver scip.*full licence"):
                solve("gurobi", linear(columns, rows), LIMITS)
        except pytest.fail.Exception:
            pytest.skip("this Gurobi licence is not limited in size")

    def test_just_below_the_limit(self):
        assert solve("gurobi", linear(2000, 2000), LIMITS).value == pytest.approx(2000)

    def test_no_licence(self):
        code = (
            "from arfj.solver import available\n"
            "from arfj.solver.gurobi import check_licence\n"
            "assert not available('gurobi')\n"
            "check_licence()"
        )
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "GRB_LICENSE_FILE": "/nonexistent/gurobi.lic"},
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        assert "SolverError: Gurobi has no valid licence" in done.stderr
        assert "--solver scip" in done.stderr
        assert done.stdout == ""


class TestNames:
    def test_gurobi_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "gurobipy", None)
        monkeypatch.delitem(sys.modules, "arfj.solver.gurobi", raising=False)
        with pytest.raises(SolverError, match=r"pip install 'arfj\[gurobi\]'"):
            solve("gurobi", linear(2), LIMITS)
        assert not available("gurobi")

    def test_scip_is_there(self):
        assert installed("scip")
        assert available("scip")
        assert version("scip").startswith("SCIP ")

    @NO_GUROBI
    def test_gurobi_version(self):
        assert version("gurobi").startswith("Gurobi 1")
