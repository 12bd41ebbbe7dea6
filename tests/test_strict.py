"""Strict bounds and rows: a candidate that is none does not end a search, and what is found lies inside."""

import itertools
import time

import numpy as np
import pytest

from arfj.bounds import crown_bounds
from arfj.bounds.reduce import reduce
from arfj.network import Network
from arfj.solver import Solution
from arfj.verify import Case, Options, Polyhedron, Property, verify
from arfj.verify.falsify import descend, wander
from arfj.verify.inputs import split_inputs
from arfj.verify.margins import ABOVE, margins_of, region_of
from arfj.verify.mip import solve_by_program
from arfj.verify.outcome import replay
from arfj.verify.phases import PhaseSearch
from arfj.verify.portfolio import CONTRADICTED
from arfj.verify.search import Clock

QUICK = Options(seconds=10.0)
BUMP = Network.from_arrays([[[1.0, -1.0]], [[1.0, 0.0], [0.0, 1.0]]], [[-0.25, 0.75], [0.0, 0.0]], "relu")
"""y = (relu(x - 1/4), relu(3/4 - x)): y_0 < y_1 for x < 1/2, and either is 0 on a part of [0, 1]."""


def clock(seconds=10.0):
    return Clock(time.perf_counter() + seconds)


def random_case(seed, inputs, share=0.05, strict=True):
    """A network of which this share of the inputs is unsafe, on an open box."""
    rng = np.random.default_rng(seed)
    sizes = (inputs, 8, 8, 2)
    weights = [rng.normal(size=shape) for shape in itertools.pairwise(sizes)]
    network = Network.from_arrays(weights, [rng.normal(size=k) for k in sizes[1:]], "linear")
    level = np.quantile(network(rng.random((2000, inputs))) @ [1.0, -1.0], share)
    rows = Polyhedron(np.array([[1.0, -1.0]]), np.array([-level]), np.array([strict]))
    ends = np.zeros(inputs), np.ones(inputs)
    flags = np.full(inputs, True)
    return network, Case(*ends, (rows,), flags, flags)


def decided(network, *polyhedra, lower=0.0, upper=1.0, open_=False):
    flags = np.array([open_])
    case = Case(np.array([lower]), np.array([upper]), polyhedra, flags, flags)
    return verify(network, Property((case,), 1, 2), QUICK)


def below(row, offset=0.0, strict=True):
    return Polyhedron(np.array([row], dtype=float), np.array([offset]), np.array([strict]))


class TestOpenBoxes:
    @pytest.mark.parametrize("inputs", [2, 5, 15])
    @pytest.mark.parametrize("seed", range(6))
    def test_are_searched_inside(self, seed, inputs):
        network, case = random_case(seed, inputs)
        outcome = verify(network, Property((case,), inputs, 2), QUICK)
        assert outcome.verdict == "falsified"
        assert case.contains(outcome.counterexample.x)

    @pytest.mark.parametrize("search", ["descent", "local", "inputs", "phases", "program"])
    @pytest.mark.parametrize("seed", range(4))
    def test_by_every_search(self, seed, search):
        """A corner of the closed box is the worst point of all: none of them may end with it."""
        rng = np.random.default_rng(seed)
        network = Network.from_arrays([rng.normal(size=(3, 4)), rng.random((4, 2))], [np.ones(4) * 9, np.zeros(2)])
        slope = (network.layers[0].weight @ network.layers[1].weight) @ [1.0, -1.0]
        corner = np.where(slope > 0, 0.0, 1.0)
        level = float(network(corner[None])[0] @ [1.0, -1.0]) + 1e-3 * np.abs(slope).sum()
        flags = np.full(3, True)
        case = Case(np.zeros(3), np.ones(3), (below([1.0, -1.0], -level),), flags, flags)
        prop = Property((case,), 3, 2)
        margins = margins_of(network.graph(), case, lambda x: replay(network, prop, x) is not None)
        bounds = crown_bounds(margins.graph, region_of(case))
        box, inside = (case.lower, case.upper), margins.inside[0]
        match search:
            case "descent":
                x = descend(margins, inside, 8, rng, clock())
            case "local":
                x = wander(margins, inside, rng, clock())
            case "inputs":
                x = split_inputs(margins, bounds, box, clock()).x
            case "phases":
                x = PhaseSearch(margins, reduce(margins.graph, bounds), region_of(case)).run(clock()).x
            case _:
                x = solve_by_program(margins, reduce(margins.graph, bounds), region_of(case), clock()).x
        assert x is not None
        assert case.contains(x)
        assert replay(network, prop, x) is not None

    def test_counterexamples_are_clear_of_the_bounds(self):
        """Not by one float: a program that takes 1e-45 for 0 would find it outside."""
        network = Network.from_arrays([[[1.0, 0.0]]], [[0.0, 0.0]])
        found = decided(network, below([1.0, 0.0], -0.1), open_=True).counterexample
        assert 1e-7 < found.x[0] < 0.1

    def test_but_as_near_as_it_takes(self):
        """Unsafe only within 1e-9 of an open bound."""
        network = Network.from_arrays([[[1.0, 0.0]]], [[0.0, 0.0]])
        found = decided(network, below([1.0, 0.0], -1e-9), open_=True).counterexample
        assert 0.0 < found.x[0] < 1e-9

    def test_a_box_without_floats_inside_is_not_falsified(self):
        ends = 1.0, float(np.nextafter(1.0, 2.0))
        network = Network.from_arrays([[[1.0, 0.0]]], [[0.0, 0.0]])
        outcome = decided(network, below([0.0, 1.0], -1.0), lower=ends[0], upper=ends[1], open_=True)
        assert outcome.verdict == "unknown"


class TestStrictRows:
    def test_a_tie_at_zero_ends_no_search(self):
        outcome = decided(BUMP, below([1.0, -1.0]))
        assert outcome.verdict == "falsified"
        assert outcome.counterexample.y[0] < outcome.counterexample.y[1]

    @pytest.mark.parametrize("order", [1, -1])
    def test_nor_hides_another_polyhedron(self, order):
        outcome = decided(BUMP, *[below([1.0, 0.0]), below([0.0, -1.0], 0.5, strict=False)][::order])
        assert outcome.verdict == "falsified"
        assert outcome.counterexample.y[1] >= 0.5

    def test_nor_another_program(self):
        """The candidates of the polyhedron that is asked first are refused."""
        case = Case(np.zeros(1), np.ones(1), (below([-1.0, 0.0], 0.1), below([0.0, -1.0], 0.5)))
        margins = margins_of(BUMP.graph(), case, lambda x: bool(x[0] < 0.3))
        reduced = reduce(margins.graph, crown_bounds(margins.graph, region_of(case)))
        found = solve_by_program(margins, reduced, region_of(case), clock())
        assert found.status == "found"
        assert BUMP(found.x[None])[0, 1] > 0.5

    @pytest.mark.parametrize("reason", ["", "time limit reached"])
    @pytest.mark.parametrize("first", [True, False])
    def test_a_program_that_stays_open_proves_nothing(self, monkeypatch, reason, first):
        """Whatever the solver says of it, or whether it says anything, and in whatever order."""
        said = [
            Solution("unknown", reason, None, None, -np.inf, 0, 0.0),
            Solution("infeasible", "", None, None, np.inf, 0, 0.0),
        ]
        answers = iter(said if first else said[::-1])
        monkeypatch.setattr("arfj.verify.mip.solve", lambda *_, **__: next(answers))
        case = Case(np.zeros(1), np.ones(1), (below([1.0, 0.0], 1.0), below([0.0, 1.0], 1.0)))
        margins = margins_of(BUMP.graph(), case)
        reduced = reduce(margins.graph, crown_bounds(margins.graph, region_of(case)))
        assert solve_by_program(margins, reduced, region_of(case), clock()).status == "open"

    def test_what_is_never_below_zero_is_not_falsified(self):
        outcome = verify(BUMP, Property((Case(np.zeros(1), np.ones(1), (below([1.0, 0.0]),)),), 1, 2), Options(1.0))
        assert outcome.verdict in ("unknown", "robust")

    def test_compared(self):
        case = Case(np.zeros(1), np.ones(1), (below([1.0, 0.0]), below([0.0, 1.0], strict=False)))
        margins = margins_of(BUMP.graph(), case)
        assert margins.compared(np.array([[0.0, 0.0], [-1.0, -1.0]])).tolist() == [[ABOVE, 0.0], [-1.0, -1.0]]
        rest = margins.restricted(np.array([1]))
        assert rest.compared(np.zeros((1, 1))).tolist() == [[0.0]]
        assert rest.inside == margins.inside


class TestConfirmed:
    @pytest.mark.parametrize("inputs", [2, 15])
    @pytest.mark.parametrize("seed", range(3))
    def test_a_search_goes_on(self, seed, inputs):
        """A second opinion that refuses the first few: later ones are found, and the refusals forgotten."""
        network, case = random_case(seed, inputs, share=0.2)
        asked = []

        def opinion(x):
            asked.append(x)
            return len(asked) > 6

        outcome = verify(network, Property((case,), inputs, 2), QUICK, confirmed=opinion)
        assert outcome.verdict == "falsified"
        assert len(asked) == 7, "what is confirmed is not asked again"

    def test_what_is_refused_is_neither(self):
        network, case = random_case(0, 2, share=0.9)
        outcome = verify(network, Property((case,), 2, 2), Options(seconds=1.0), confirmed=lambda _: False)
        assert (outcome.verdict, outcome.reason) == ("unknown", CONTRADICTED)
