"""Whole attacks against enumeration, and against solvers that lie: no hit that the networks do not confirm."""

import itertools
import time
from dataclasses import replace

import numpy as np
import pytest
from conftest import DEAD_TARGET, SEESAW, SEESAW_DISTANCE
from pyscipopt import Model
from reference import exact_distance, random_question

from arfj.attack import Options, sampled, solve_question
from arfj.attack import prove as module
from arfj.attack import solve as solving
from arfj.attack.closing import Closing
from arfj.attack.judge import badly_scaled, exceeds, judged
from arfj.attack.regions import Corner
from arfj.attack.result import GAP_OPTIMAL
from arfj.data import bundled_images
from arfj.ensemble import Ensemble
from arfj.errors import ArfjError, SolverError
from arfj.evaluate import Witness, load_witness, replay
from arfj.network import Network
from arfj.question import Question
from arfj.solver import Solution, available

QUICK = Options(time_limit=60.0)
needs_gurobi = pytest.mark.skipif(not available("gurobi"), reason="gurobipy is not installed or has no licence")
SCIP = replace(QUICK, solver="scip")


def seesaw(*networks):
    return Question(np.array([0.2]), 0, 1, Ensemble(networks or (SEESAW,), "given"))


class TestOptimum:
    @pytest.mark.parametrize("formulation", ["tight", "paper"])
    @pytest.mark.parametrize(
        ("seed", "scenarios", "gamma"), [(1, 1, 0.2), (5, 1, 0.0), (8, 1, 0.2), (2, 2, 0.2), (4, 2, 1.0)]
    )
    def test_is_that_of_enumeration(self, tmp_path, formulation, seed, scenarios, gamma):
        question = random_question(seed, scenarios, gamma)
        expected = exact_distance(question)
        result = solve_question(question, replace(QUICK, formulation=formulation), tmp_path / "w.npz")
        if np.isinf(expected):
            assert result.status == "infeasible"
            return
        assert (result.status, result.reason) == ("optimal", "")
        assert result.distance == pytest.approx(expected, rel=1e-6, abs=1e-6)
        assert result.bound <= result.distance
        assert result.gap <= 1e-6
        assert replay(load_witness(tmp_path / "w.npz"), question.ensemble).hit

    @pytest.mark.parametrize("seed", [13, 20])
    def test_formulations_agree_on_larger_networks(self, tmp_path, seed):
        question = random_question(seed, scenarios=3, inputs=12, hidden=(5, 5), classes=4)
        results = [
            solve_question(question, replace(QUICK, formulation=one), tmp_path / f"{one}.npz")
            for one in ("tight", "paper")
        ]
        assert [result.status for result in results] == ["optimal", "optimal"]
        assert results[0].distance == pytest.approx(results[1].distance, rel=1e-6)
        assert results[0].binaries < results[1].binaries

    @pytest.mark.parametrize("bounds", ["interval", "crown", "alpha-crown"])
    def test_bounds_do_not_move_it(self, tmp_path, bounds):
        question = random_question(22, scenarios=2, inputs=8, hidden=(4, 4))
        result = solve_question(question, replace(QUICK, bounds=bounds), tmp_path / "w.npz")
        assert result.status == "optimal"
        reference = solve_question(question, replace(QUICK, formulation="paper"), tmp_path / "v.npz")
        assert result.distance == pytest.approx(reference.distance, rel=1e-6)

    def test_more_scenarios_cost_more(self, tmp_path):
        """The optimum of a relaxation bounds that of the whole question from below."""
        question = random_question(35, scenarios=3, inputs=6)
        part, whole = (
            solve_question(one, QUICK, tmp_path / "w.npz") for one in (question.restricted([0, 1]), question)
        )
        assert part.status == whole.status == "optimal"
        assert part.bound <= whole.distance * (1 + 1e-9)

    def test_an_answer_already(self, tmp_path):
        question = Question(np.array([0.9]), 0, 1, Ensemble((SEESAW,), "given"))
        result = solve_question(question, QUICK, tmp_path / "w.npz")
        assert (result.status, result.distance, result.gap) == ("optimal", 0.0, 0.0)

    def test_no_time_is_no_proof(self, tmp_path):
        question = Question(bundled_images().nominal[0], 0, 9, sampled("outer").ensemble)
        result = solve_question(question, Options(time_limit=1e-3), tmp_path / "w.npz")
        assert result.status in ("feasible", "unknown")
        assert result.reason

    @pytest.mark.parametrize(("gamma", "expected"), [(0.2, None), (1e3, None), (1e6, 900.0)])
    def test_gamma_counts_in_what_is_badly_scaled(self, gamma, expected):
        network = Network.from_arrays([np.ones((1, 2)), np.full((2, 2), 900.0)], [np.zeros(2)] * 2)
        assert badly_scaled(Question(np.array([0.2]), 0, 1, Ensemble((network,), "given"), gamma)) == expected

    def test_no_scenario_is_asked_alone_without_time(self, tmp_path, monkeypatch):
        calls = []

        def slow(*_given):
            calls.append(time.perf_counter())
            time.sleep(0.05)
            return [np.zeros(1)]

        monkeypatch.setattr(module, "warm_start", lambda *_given: None)
        monkeypatch.setattr(module, "gradient_answers", slow)
        question = Question(np.array([0.2]), 0, 1, Ensemble((SEESAW,) * 100, "given"))
        assert solve_question(question, Options(time_limit=0.3), tmp_path / "w.npz").status == "unknown"
        assert len(calls) < 10

    def test_the_first_try_may_be_all(self, tmp_path, monkeypatch):
        """Where it closes, no neighbourhood is searched; where it does not, the search goes on from the best answer."""
        question = random_question(35, scenarios=3, inputs=6)
        expected = solve_question(question, QUICK, tmp_path / "w.npz").distance
        searched = []

        def watched(_program, corner, *_more):
            searched.append(corner.distance)
            return corner

        monkeypatch.setattr("arfj.attack.warm.search_neighbourhoods", watched)
        result = solve_question(question, QUICK, tmp_path / "w.npz")
        assert (result.status, result.distance, searched) == ("optimal", pytest.approx(expected, rel=1e-6), [])
        monkeypatch.setattr(module.Prover, "closed", False)
        solve_question(question, replace(QUICK, time_limit=3.0), tmp_path / "w.npz")
        assert searched[0] == pytest.approx(expected, rel=1e-6)

    def test_a_first_try_that_cannot_be_is_left_out(self, tmp_path, monkeypatch):
        """The model may be too large for a licence as long as the answer is far."""
        honest = module.solve
        calls = []

        def picky(*arguments):
            calls.append(1)
            if len(calls) == 1:
                raise SolverError("too large")
            return honest(*arguments)

        monkeypatch.setattr(module, "solve", picky)
        result = solve_question(random_question(35, scenarios=3, inputs=6), SCIP, tmp_path / "w.npz")
        assert (result.status, result.replay.hit, len(calls) > 1) == ("optimal", True, True)

    def test_an_answer_below_a_proven_bound_is_trouble(self):
        prover = module.Prover(random_question(35, scenarios=3, inputs=6), QUICK, lambda *_: None)
        prover.warm_up()
        prover.bound = prover.best.distance * (1 + 1e-6)
        assert prover.final(module.Proof(0.0, False, "")) == module.Proof(prover.bound, False, "")
        prover.bound = prover.best.distance * 1.01
        proof = prover.final(module.Proof(0.0, False, ""))
        assert (proof.bound, prover.bound) == (0.0, 0.0)
        assert "numerical trouble" in proof.reason

    def test_so_it_is_where_the_user_ends_the_search(self, monkeypatch):
        prover = module.Prover(random_question(35, scenarios=3, inputs=6), QUICK, lambda *_: None)
        honest = prover.warm_up

        def interrupted():
            honest()
            prover.bound = prover.best.distance * 1.01
            raise KeyboardInterrupt

        monkeypatch.setattr(prover, "warm_up", interrupted)
        proof = prover.prove()
        assert (proof.bound, prover.interrupted) == (0.0, True)
        assert "numerical trouble" in proof.reason

    def test_progress_is_told(self, tmp_path):
        told = []
        solve_question(seesaw(), QUICK, tmp_path / "w.npz", "", lambda phase, step: told.append((phase, step)))
        assert "proof" in [phase for phase, _ in told]
        assert all(one.seconds <= two.seconds for (_, one), (_, two) in itertools.pairwise(told))


def nominal_image(solution, columns):
    """The nominal image as the answer: distance 0."""
    return replace(solution, status="optimal", values=np.zeros(columns), value=0.0, bound=0.0)


def far_outside(solution, columns):
    """Values that leave the box."""
    return replace(solution, status="optimal", values=np.full(columns, 1e6), value=0.1, bound=0.1)


def not_a_number(solution, columns):
    """Values that are none."""
    return replace(solution, status="optimal", values=np.full(columns, np.nan), value=0.1, bound=0.1)


def too_high(solution, _columns):
    """A bound above an answer that is known."""
    return replace(solution, status="optimal", bound=2 * SEESAW_DISTANCE)


def a_little_too_high(solution, _columns):
    """The same by a share that no tolerance excuses."""
    return replace(solution, status="optimal", bound=SEESAW_DISTANCE * 1.001)


def infeasible(solution, _columns):
    """There is no answer, it says."""
    return replace(solution, status="infeasible", values=None, value=None, bound=np.inf)


def timed_out(solution, _columns):
    """Nothing at all."""
    return replace(solution, status="unknown", values=None, value=None, bound=-np.inf, reason="time limit")


LIES = [nominal_image, far_outside, not_a_number, too_high, a_little_too_high, infeasible, timed_out]


def lie(monkeypatch, change):
    honest = module.solve

    def lying(name, problem, *arguments):
        return change(honest(name, problem, *arguments), problem.lower.size)

    monkeypatch.setattr(module, "solve", lying)


class TestLyingSolver:
    @pytest.mark.parametrize("change", LIES)
    def test_never_optimal(self, tmp_path, monkeypatch, change):
        lie(monkeypatch, change)
        result = solve_question(seesaw(), SCIP, tmp_path / "w.npz")
        assert result.status in ("feasible", "unknown")
        assert result.reason
        assert result.bound <= SEESAW_DISTANCE * (1 + 1e-9)
        if result.status == "feasible":
            assert result.replay.hit
            assert result.distance >= SEESAW_DISTANCE * (1 - 1e-6)
        else:
            assert result.distance is result.witness is result.replay is None
            assert not (tmp_path / "w.npz").exists()

    @pytest.mark.parametrize("change", [nominal_image, far_outside, not_a_number, timed_out])
    def test_without_an_answer_found_first(self, tmp_path, monkeypatch, change):
        lie(monkeypatch, change)
        monkeypatch.setattr(module, "warm_start", lambda *_arguments: None)
        result = solve_question(seesaw(), SCIP, tmp_path / "w.npz")
        assert result.status in ("feasible", "unknown")
        assert result.reason
        assert result.replay is None or result.replay.hit

    @pytest.mark.parametrize("change", [nominal_image, far_outside, not_a_number, timed_out])
    def test_with_the_model_as_printed(self, tmp_path, monkeypatch, change):
        lie(monkeypatch, change)
        result = solve_question(seesaw(), replace(SCIP, formulation="paper"), tmp_path / "w.npz")
        assert result.status in ("feasible", "unknown")
        assert result.reason
        assert result.replay is None or result.replay.hit

    def test_a_target_that_is_never_active_has_no_answer(self, tmp_path, monkeypatch):
        lie(monkeypatch, nominal_image)
        result = solve_question(seesaw(DEAD_TARGET), SCIP, tmp_path / "w.npz")
        assert (result.status, result.distance, result.witness) == ("unknown", None, None)
        assert result.reason

    def test_infeasible_inside_the_cut_off_is_not_believed(self, tmp_path, monkeypatch):
        """Only a model without cut-off may prove that there is no answer."""
        lie(monkeypatch, infeasible)
        result = solve_question(seesaw(), SCIP, tmp_path / "w.npz")
        assert result.status == "feasible"
        assert "numerical trouble" in result.reason
        assert result.bound == 0.0


class TestReplayDecides:
    def test_an_answer_that_does_not_replay_is_none(self, tmp_path, monkeypatch):
        honest = solving.replay
        monkeypatch.setattr(solving, "replay", lambda *given: replace(honest(*given), hit=False, violation=0.125))
        result = solve_question(seesaw(), QUICK, tmp_path / "w.npz")
        assert (result.status, result.distance, result.witness) == ("unknown", None, None)
        assert "0.12" in result.reason
        assert not (tmp_path / "w.npz").exists()

    def test_repair_raises_the_margin(self, tmp_path, monkeypatch):
        """The first replay misses by 3e-6: the answer is solved again with more room, and then confirmed."""
        honest, calls = solving.replay, []

        def strict(witness, networks):
            found = honest(witness, networks)
            calls.append(found.margins[0])
            return found if found.margins[0] > 3e-6 else replace(found, hit=False, violation=3e-6)

        monkeypatch.setattr(solving, "replay", strict)
        result = solve_question(seesaw(), QUICK, tmp_path / "w.npz")
        assert result.replay.hit
        assert len(calls) == 2
        assert result.distance == pytest.approx(SEESAW_DISTANCE, abs=1e-5)
        assert result.bound <= SEESAW_DISTANCE * (1 + 1e-9)

    def test_the_file_is_replayed_not_the_memory(self, tmp_path, monkeypatch):
        honest = Witness.save

        def damaging(witness, path):
            honest(replace(witness, x=witness.nominal), path)

        monkeypatch.setattr(Witness, "save", damaging)
        result = solve_question(seesaw(), QUICK, tmp_path / "w.npz")
        assert (result.status, result.replay) == ("unknown", None)

    def test_a_tampered_witness_does_not_replay(self, tmp_path):
        question = random_question(2, 2)
        result = solve_question(question, QUICK, tmp_path / "w.npz")
        witness = load_witness(result.witness)
        back = 0.1 * witness.nominal + 0.9 * witness.x  # a tenth of the way back
        replace(witness, x=back).save(tmp_path / "w.npz")
        assert not replay(load_witness(tmp_path / "w.npz"), question.ensemble).hit

    def test_a_witness_that_cannot_be_written(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(ArfjError, match="cannot write"):
            solve_question(seesaw(), QUICK, tmp_path / "file" / "w.npz")


def interrupt(*_arguments):
    raise KeyboardInterrupt


class TestInterrupt:
    @pytest.mark.parametrize(
        ("where", "options"),
        [("known.pre_activation_bounds", QUICK), ("prove.Closing", QUICK), ("prove.encode_tight", SCIP)],
    )
    def test_the_answer_found_first_is_kept(self, tmp_path, monkeypatch, where, options):
        monkeypatch.setattr(f"arfj.attack.{where}", interrupt)
        result = solve_question(seesaw(), options, tmp_path / "w.npz")
        assert (result.status, result.reason, result.interrupted) == ("feasible", "interrupted", True)
        assert result.replay.hit

    def test_during_the_search(self, tmp_path, monkeypatch):
        honest = module.warm_start

        def stopped(question, seed, deadline, told, _tried):
            told(honest(question, seed, deadline))
            raise KeyboardInterrupt

        monkeypatch.setattr(module, "warm_start", stopped)
        result = solve_question(seesaw(), QUICK, tmp_path / "w.npz")
        assert (result.status, result.interrupted, result.replay.hit) == ("feasible", True, True)

    @pytest.mark.parametrize(
        ("options", "where"), [(SCIP, "arfj.attack.prove.solve"), (QUICK, "arfj.attack.closing.Closing.run")]
    )
    @pytest.mark.parametrize("early", [True, False])
    def test_in_a_part(self, tmp_path, monkeypatch, options, where, early):
        """The first try or, without it, a later part: no neighbourhood and no other program begins."""
        calls = []
        honest = module.solve if options is SCIP else Closing.run

        def stopped(*arguments):
            calls.append(1)
            return replace(honest(*arguments), interrupted=True, status="feasible", bound=0.0)

        if early:
            monkeypatch.setattr("arfj.attack.warm.search_neighbourhoods", interrupt)
        else:
            monkeypatch.setattr(module.Prover, "tried", lambda _self, _deadline, corner: corner)
            monkeypatch.setattr(module, "PATIENCE", 0.001)
        monkeypatch.setattr(where, stopped)
        result = solve_question(random_question(35, scenarios=3, inputs=6), options, tmp_path / "w.npz")
        assert (result.status, result.interrupted, len(calls)) == ("feasible", True, 1)

    def test_before_any_answer(self, tmp_path, monkeypatch):
        monkeypatch.setattr(module, "warm_start", interrupt)
        result = solve_question(seesaw(), QUICK, tmp_path / "w.npz")
        assert (result.status, result.reason, result.distance) == ("unknown", "interrupted", None)


class TestScale:
    def test_slow_outputs_are_still_proven(self, tmp_path):
        """Outputs that react with 1e-3: room in the conditions would cost distance."""
        slow = Network.from_arrays([[[-1e-3, 1e-3]]], [[2e-3, 1e-3]])
        question = Question(np.array([0.2]), 0, 1, Ensemble((slow,), "given"))
        result = solve_question(question, QUICK, tmp_path / "w.npz")
        assert result.status == "optimal"
        assert result.distance == pytest.approx((2.4e-3 - 1e-3) / 2.2e-3 - 0.2, rel=1e-6)

    @pytest.mark.parametrize("scale", [1e-9, 1e9])
    def test_weights_beyond_tolerances_prove_nothing(self, tmp_path, scale):
        """The same function as `SEESAW`, its first layer scaled and its second scaled back."""
        scaled = Network.from_arrays([np.eye(1) * scale, [[-1.0 / scale, 1.0 / scale]]], [np.zeros(1), [1.0, 0.0]])
        question = Question(np.array([0.2]), 0, 1, Ensemble((scaled,), "given"))
        result = solve_question(question, QUICK, tmp_path / "w.npz")
        assert result.status in ("feasible", "unknown")
        assert result.bound == 0.0
        assert result.reason

    def test_a_solver_that_breaks_down_keeps_the_answer(self, tmp_path, monkeypatch):
        class Broken(Model):
            def optimizeNogil(self):
                raise Exception("SCIP: error in LP solver!")  # the class that PySCIPOpt raises

        monkeypatch.setattr("arfj.solver.scip.Model", Broken)
        result = solve_question(seesaw(), SCIP, tmp_path / "w.npz")
        assert (result.status, result.replay.hit) == ("feasible", True)
        assert "numerical trouble" in result.reason


@pytest.mark.parametrize("distance", [1e-3, 1.0, 40.0])
def test_a_bound_above_an_answer_is_no_proof_of_a_gap_that_is_smaller(distance):
    """Just below and just above the gap that counts as closed."""
    assert not exceeds(distance, distance)
    assert not exceeds(distance * (1 + 0.99 * GAP_OPTIMAL), distance)
    assert exceeds(distance * (1 + 1.01 * GAP_OPTIMAL) + 1e-9, distance)
    question = random_question(35, scenarios=3, inputs=6)
    best = Corner(question.flat, distance, ())
    for share, bound in ((0.99, distance), (3.0, 0.0)):
        word = Solution("optimal", "", None, distance, distance * (1 + share * GAP_OPTIMAL), 1, 0.0)
        proof = judged(question, best, word, distance)
        assert proof.bound == pytest.approx(bound)
        assert ("numerical trouble" in proof.reason) == (bound == 0.0)
