"""Weights that are large together: no solver's bound is believed, and no answer is lost; regions that are a point."""

import itertools

import numpy as np
import pytest
from test_attack import QUICK, needs_gurobi, seesaw

from arfj.attack import Options, solve_question
from arfj.attack import solve as solving
from arfj.attack.judge import badly_scaled, believed
from arfj.attack.regions import Corner, better_of
from arfj.bounds import pre_activation_bounds
from arfj.encoding import encode_paper, encode_tight
from arfj.encoding.eased import LARGEST
from arfj.ensemble import Ensemble
from arfj.errors import SolverError
from arfj.evaluate import load_witness
from arfj.network import Network
from arfj.question import Question
from arfj.solver import Solution


def random_layers(seed, sizes, factor):
    """Normal weights times a factor in every layer, biases such that the function is only scaled; image and target."""
    rng = np.random.default_rng(seed)
    rng.random()
    weights = [rng.normal(size=shape) for shape in itertools.pairwise(sizes)]
    biases = [0.3 * rng.normal(size=size) for size in sizes[1:]]
    image, target = np.clip(rng.uniform(-0.3, 1.3, sizes[0]), 0, 1), int(rng.integers(3))
    powers = factor ** np.arange(1.0, len(sizes))
    scaled = [bias * power for bias, power in zip(biases, powers, strict=True)]
    network = Network.from_arrays([factor * weight for weight in weights], scaled, "linear")
    return Question(image, (target + 1) % 3, target, Ensemble((network,), "given"), 0.2)


class TestLargeNumbers:
    """No weight is too large by itself, and rows are: what solvers call proven is not, and no answer is lost."""

    @pytest.mark.parametrize("engine", ["bab", "scip", pytest.param("gurobi", marks=needs_gurobi)])
    @pytest.mark.parametrize("factor", [2e4, 5e4, 1e5])
    def test_no_bound_is_too_high(self, tmp_path, engine, factor):
        """SCIP has called 1.083 optimal, Gurobi 1.072."""
        least = solve_question(random_layers(13, (3, 3, 3, 3), 1.0), QUICK, tmp_path / "v.npz")
        assert least.status == "optimal"
        question = random_layers(13, (3, 3, 3, 3), factor)
        assert badly_scaled(question) is None
        assert question.slack(load_witness(tmp_path / "v.npz").x) >= 0
        result = solve_question(question, Options(time_limit=5.0, solver=engine), tmp_path / "w.npz")
        assert result.bound <= least.distance * (1 + 1e-6)
        if engine != "bab":
            assert (result.status, result.bound) == ("feasible", 0.0)
            assert "beyond a solver's tolerances; --solver bab" in result.reason

    @pytest.mark.parametrize("engine", ["scip", pytest.param("gurobi", marks=needs_gurobi)])
    def test_what_is_large_and_not_too_large_is_proven(self, tmp_path, engine):
        question = random_layers(13, (3, 3, 3, 3), 10.0)
        result = solve_question(question, Options(time_limit=20.0, solver=engine), tmp_path / "w.npz")
        assert result.status == "optimal"
        assert result.distance == pytest.approx(0.5658635, rel=1e-6)

    def test_without_proof(self):
        values = np.zeros(2)
        solution = Solution("optimal", "", values, 1.0, 1.0, 3, 0.5)
        assert believed(solution, LARGEST) is solution
        doubted = believed(solution, 2 * LARGEST)
        assert (doubted.status, doubted.bound, doubted.values is values) == ("feasible", -np.inf, True)
        none = believed(Solution("infeasible", "", None, None, np.inf, 3, 0.5), np.inf)
        assert (none.status, none.bound) == ("unknown", -np.inf)

    @pytest.mark.parametrize(("formulation", "expected"), [("tight", 3.0), ("paper", 2.2 * 3)])
    def test_a_row_is_as_large_as_its_terms(self, formulation, expected):
        """One pixel, h = 900 x + 7 <= 907, outputs 2 h and 3 h: 3 h >= 1e-3 is the largest row without these."""
        network = Network.from_arrays([[[900.0]], [[2.0, 3.0]]], [[7.0], [0.0, 0.0]])
        question = Question(np.array([0.5]), 0, 1, Ensemble((network,), "given"), 0.2)
        bounds = [pre_activation_bounds(network, question.region())]
        encoding = encode_paper(question) if formulation == "paper" else encode_tight(question, bounds)
        assert encoding.largest == pytest.approx(907 * expected, rel=1e-3)

    @pytest.mark.parametrize("engine", ["bab", "scip"])
    @pytest.mark.parametrize(("seed", "exponent"), [(18, 4), (2, 6), (65, 6)])
    def test_the_image_itself_is_not_lost_for_a_corner(self, tmp_path, engine, seed, exponent):
        """A linear solver's optimum of its region is farther, or no answer at all."""
        sizes = (3, 4, 3) if np.random.default_rng(seed).random() < 0.5 else (3, 3, 3, 3)
        question = random_layers(seed, sizes, 10.0**exponent)
        assert question.slack(question.flat) > 0
        result = solve_question(question, Options(time_limit=5.0, solver=engine), tmp_path / "w.npz")
        assert (result.status, result.distance) == ("optimal", 0.0)

    @pytest.mark.parametrize("formulation", ["tight", "paper"])
    def test_what_is_infinite_to_scip(self, tmp_path, formulation):
        network = Network.from_arrays([np.full((1, 2), -1e21)], [np.array([1e21, -1e21])], "linear")
        question = Question(np.array([0.3]), 0, 1, Ensemble((network,), "given"), 0.2)
        with pytest.raises(SolverError, match="infinite to SCIP"):
            solve_question(question, Options(time_limit=5.0, formulation=formulation), tmp_path / "w.npz")


@pytest.mark.parametrize("engine", ["bab", "scip"])
@pytest.mark.parametrize(("pixel", "expected"), [(0.5, 0.0), (0.25, 0.25)])
def test_an_optimum_whose_region_is_a_point(tmp_path, engine, pixel, expected):
    """relu(x - 1/2), relu(1/2 - x) and relu(x - 3/4) leave x = 1/2 alone, where the conditions hold just so."""
    hidden = [[1.0, -1.0, 1.0]], [-0.5, 0.5, -0.75]
    network = Network.from_arrays([hidden[0], [[0.0, -1.0], [0.0, -1.0], [0.0, 8.0]]], [hidden[1], [0.5, 1.0]])
    question = Question(np.array([pixel]), 0, 1, Ensemble((network,), "given"), 1.0)
    result = solve_question(question, Options(time_limit=10.0, solver=engine), tmp_path / "w.npz")
    assert result.status == "optimal"
    assert result.distance == pytest.approx(expected, abs=1e-6)


def test_a_descent_that_ends_farther_is_no_gain():
    question = seesaw()
    x = np.array([0.9])
    far, near = (Corner(np.array([one]), question.distance(np.array([one])), ()) for one in (0.95, 0.8))
    assert question.slack(x) >= 0
    assert better_of(question, x, near) is near
    for other in (far, None):
        assert better_of(question, x, other).distance == pytest.approx(0.7)
    assert better_of(question, np.array([0.21]), far) is far  # which is no answer
    assert better_of(question, np.array([0.21]), None) is None


def test_ctrl_c_while_an_answer_is_saved(tmp_path, monkeypatch):
    """It is saved all the same, and the result says that the user has stopped it."""
    honest, calls = solving._saved, []

    def saved(*given):
        calls.append(given)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return honest(*given)

    monkeypatch.setattr(solving, "_saved", saved)
    result = solve_question(seesaw(), QUICK, tmp_path / "w.npz")
    assert (result.status, result.interrupted, len(calls)) == ("optimal", True, 2)
    assert load_witness(tmp_path / "w.npz").distance == result.distance
