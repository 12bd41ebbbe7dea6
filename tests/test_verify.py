"""The complete verifier against exact answers, just below and just above the optimum; and on VNN-COMP's instances."""

import csv
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from random_graphs import exact_values, points_of, random_graph
from reference import least_margin, random_network

from arfj.bounds import crown_bounds
from arfj.bounds.reduce import reduce
from arfj.errors import NetworkError, UsageError
from arfj.graph import Activation, Affine, Graph
from arfj.network import load_network
from arfj.region import Region
from arfj.verify import Case, Options, Polyhedron, Property, portfolio, read_property, verify
from arfj.verify.falsify import descend, wander
from arfj.verify.inputs import split_inputs
from arfj.verify.margins import margins_of, region_of
from arfj.verify.mip import solve_by_program
from arfj.verify.outcome import replay
from arfj.verify.phases import PhaseSearch
from arfj.verify.search import Clock, Finding

DATA = Path(__file__).parents[2] / "shared" / "data" / "vnncomp"


def clock(seconds=10.0):
    return Clock(time.perf_counter() + seconds)


def wide(graph, inputs, seed):
    """The graph behind a map of more inputs."""
    matrix = np.random.default_rng(seed).normal(size=(inputs, graph.inputs)) / np.sqrt(inputs)
    nodes = [Affine((0,), (matrix,), np.zeros(graph.inputs))]
    for node in graph.nodes:
        if isinstance(node, Activation):
            nodes.append(Activation(node.source + 1, node.kind))
        else:
            nodes.append(Affine(tuple(j + 1 for j in node.sources), node.maps, node.bias))
    return Graph(inputs, tuple(nodes))


class Question:
    """A random network and its exact least margin over some polyhedra of a box."""

    def __init__(self, seed, kind, inputs=None):
        rng = np.random.default_rng(seed)
        self.graph = random_graph(seed, kind, outputs=3)
        if inputs:
            self.graph = wide(self.graph, inputs, seed)
        middle, reach = rng.normal(size=self.graph.inputs), rng.random(self.graph.inputs)
        self.low, self.up = middle - reach, middle + reach
        rows = 1 + seed % 3
        eye = np.eye(3)
        differences = eye[rng.integers(3, size=rows)] - eye[rng.integers(3, size=rows)]
        self.unsafe = [(differences, rng.normal(size=rows))]
        self.unsafe += [(rng.normal(size=(rows, 3)), rng.normal(size=rows)) for _ in range(seed % 2)]
        self.least = min(least_margin(self.graph, self.low, self.up, *one)[1] for one in self.unsafe)
        rows_at = [self.graph(points_of(Region.between(self.low, self.up), rng, 20)) @ a.T + d for a, d in self.unsafe]
        self.scale = 1 + max(np.abs(rows).max() for rows in rows_at)

    def case(self, safe, share=1e-6):
        """Margins of at least (or at least once at most minus) `share` of their size."""
        shift = self.least - (share if safe else -share) * self.scale
        return Case(self.low, self.up, tuple(Polyhedron(a, d - shift) for a, d in self.unsafe))


def prop_of(*cases):
    return Property(cases, len(cases[0].lower), cases[0].unsafe[0].matrix.shape[1])


def never_wrong(outcome, graph, prop, safe):
    """An answer may be missing, but not wrong."""
    assert outcome.verdict != ("falsified" if safe else "robust"), f"{outcome.verdict}: {outcome.reason}"
    if outcome.verdict == "falsified":
        x, y = outcome.counterexample.x, outcome.counterexample.y
        assert prop.violated(x, y)
        assert np.array_equal(graph(x[None])[0], y)
        assert y == pytest.approx(exact_values(graph, x[None])[-1][0].astype(float), abs=1e-9)
    if outcome.bound is not None:
        assert outcome.bound <= 0


QUESTIONS = [(kind, seed) for kind in ("dense", "ties", "leaky", "convolution") for seed in range(6)]


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize(("kind", "seed"), QUESTIONS)
def test_few_inputs(kind, seed, safe):
    question = Question(seed, kind)
    prop = prop_of(question.case(safe))
    single = len(prop.cases[0].unsafe[0].offset) == 1
    outcome = verify(question.graph, prop, Options(20 if single else 0.7))
    never_wrong(outcome, question.graph, prop, safe)
    if single:
        assert outcome.verdict == ("robust" if safe else "falsified"), outcome.reason


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize(("kind", "seed"), [("dense", 0), ("dense", 3), ("dense", 5), ("ties", 3), ("leaky", 1)])
def test_many_inputs(kind, seed, safe, monkeypatch):
    """More than the input is split for: phases, and beside them the mixed-integer program, from the start."""
    monkeypatch.setattr(portfolio, "PHASES_ALONE", 0.0)
    question = Question(seed, kind, inputs=16)
    prop = prop_of(question.case(safe))
    outcome = verify(question.graph, prop, Options(20))
    never_wrong(outcome, question.graph, prop, safe)
    assert outcome.verdict == ("robust" if safe else "falsified"), outcome.reason


@pytest.mark.parametrize("method", ["inputs", "phases", "program"])
@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize(("kind", "seed"), [(kind, seed) for kind in ("dense", "leaky") for seed in range(5)])
def test_each_method_alone(kind, seed, safe, method):
    """From intervals, so that nothing is decided at the root."""
    question = Question(seed, kind)
    case = question.case(safe)
    margins, region = margins_of(question.graph, case), region_of(case)
    bounds = crown_bounds(margins.graph, region)
    if method == "inputs":
        found = split_inputs(margins, bounds, (case.lower, case.upper), clock(0.5))
    elif method == "phases":
        found = PhaseSearch(margins, reduce(margins.graph, bounds), region).run(clock(0.5))
    else:
        found = solve_by_program(margins, reduce(margins.graph, bounds), region, clock(5))
    assert found.status != ("found" if safe else "proven")
    if found.status == "found":
        assert replay(question.graph, prop_of(case), found.x) is not None


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 120, 20))
def test_many_networks(first, monkeypatch):
    monkeypatch.setattr(portfolio, "PHASES_ALONE", 0.2)
    for seed in range(first, first + 20):
        kind = ("dense", "ties", "leaky", "convolution")[seed % 4]
        question = Question(1000 + seed, kind, 14 if seed % 3 == 0 else None)
        for safe in (True, False):
            prop = prop_of(question.case(safe))
            never_wrong(verify(question.graph, prop, Options(1.0)), question.graph, prop, safe)


@pytest.mark.parametrize("kind", ["smooth", "wild"])
@pytest.mark.parametrize("seed", range(4))
def test_smooth_activations(kind, seed):
    """No exact optimum: what the sampled least margin says unsafe may not be robust, and proofs survive sampling."""
    rng = np.random.default_rng(seed)
    graph = random_graph(seed, kind)
    region = Region.between(-np.ones(graph.inputs), np.ones(graph.inputs))
    row = rng.normal(size=2)
    least = (exact_values(graph, points_of(region, rng, 3000))[-1] @ row).min()
    for shift, wrong in ((-1e-9, "robust"), (0.3, "falsified")):
        case = Case(region.lower, region.upper, (Polyhedron(row[None], np.array([float(shift - least)])),))
        outcome = verify(graph, prop_of(case), Options(2))
        assert outcome.verdict != (wrong if shift < 0 else "")
        if outcome.verdict == "robust":
            assert shift > 0


class TestWhatIsAsked:
    """Cases, polyhedra, and sets that are empty or single points."""

    graph = Graph(1, (Affine((0,), (np.array([[1.0, -1.0]]),), np.zeros(2)), Activation(1, "relu")))

    def ask(self, *cases, **options):
        return verify(self.graph, prop_of(*cases), Options(5, **options))

    def case(self, low, up, *unsafe):
        return Case(np.array([low]), np.array([up]), tuple(Polyhedron(np.array(a), np.array(d)) for a, d in unsafe))

    def test_any_case_falsifies(self):
        """max(x, 0) >= 2 is reached in the second case only."""
        rows = ([[-1.0, 0.0]], [2.0])
        assert self.ask(self.case(-1, 1, rows), self.case(1, 3, rows)).verdict == "falsified"
        assert self.ask(self.case(-1, 1, rows), self.case(1, 1.9, rows)).verdict == "robust"

    def test_a_conjunction_needs_all_rows(self):
        both = ([[-1.0, 0.0], [0.0, -1.0]], [0.5, 0.5])  # max(x, 0) >= 0.5 and max(-x, 0) >= 0.5
        assert self.ask(self.case(-1, 1, both)).verdict == "robust"
        assert self.ask(self.case(-1, 1, both, ([[-1.0, 0.0]], [0.5]))).verdict == "falsified"

    def test_no_row_is_unsafe_everywhere(self):
        assert self.ask(self.case(-1, 1, (np.zeros((0, 2)), np.zeros(0)))).verdict == "falsified"

    def test_a_single_point(self):
        assert self.ask(self.case(0.5, 0.5, ([[1.0, 0.0]], [-0.5]))).verdict == "falsified"
        assert self.ask(self.case(0.5, 0.5, ([[1.0, 0.0]], [-0.4]))).verdict == "robust"

    def test_strict_rows(self):
        """max(x, 0) < 0 has no answer, max(x, 0) <= 0 has."""
        case = Case(-np.ones(1), np.ones(1), (Polyhedron(np.array([[1.0, 0.0]]), np.zeros(1), np.array([True])),))
        assert verify(self.graph, prop_of(case), Options(2)).verdict != "falsified"
        assert self.ask(self.case(-1, 1, ([[1.0, 0.0]], [0.0]))).verdict == "falsified"

    def test_sizes_must_fit(self):
        with pytest.raises(NetworkError, match="1 inputs and 2 outputs"):
            verify(self.graph, Property((Case(np.zeros(2), np.ones(2), ()),), 2, 2))
        with pytest.raises(UsageError, match="time limit"):
            Options(0.0)


@pytest.mark.parametrize("inputs", [2, 20])
def test_an_affine_network(inputs):
    """No activation to split: y_0 <= -1 and y_0 >= y_1 and y_1 >= 1 is empty, though no row alone shows it."""
    matrix = 2 * np.eye(inputs, 2) + 0.1 * np.random.default_rng(0).normal(size=(inputs, 2))
    graph = Graph(inputs, (Affine((0,), (matrix,), np.zeros(2)),))
    rows = np.array([[1.0, 0.0], [-1.0, 1.0], [0.0, -1.0]])
    for top, verdict in ((1.0, "robust"), (-1.2, "falsified")):
        case = Case(-np.ones(inputs), np.ones(inputs), (Polyhedron(rows, np.array([1.0, 0.0, top])),))
        outcome = verify(graph, prop_of(case), Options(4))
        assert outcome.verdict in ((verdict,) if inputs == 20 else (verdict, "unknown"))


@pytest.mark.parametrize("sides", [(-1e308, 1e308), (0.0, 1e308)])
def test_inputs_whose_range_is_infinite(sides):
    """No traceback, and a word that is true: relu(x_0) + x_1 may be 2.5, and is never below -1."""
    nodes = (
        Affine((0,), (np.array([[1.0, 1.0], [0.0, 1.0]]),), np.zeros(2)),
        Activation(1, "relu"),
        Affine((2,), (np.array([[1.0], [-1.0]]),), np.zeros(1)),
    )
    box = np.array([sides[0], 0.0]), np.array([sides[1], 1.0])
    case = Case(*box, (Polyhedron(np.array([[-1.0]]), np.array([2.5])),))
    assert verify(Graph(2, nodes), prop_of(case), Options(3.0)).verdict in ("falsified", "unknown")


def test_activation_of_the_input():
    graph = Graph(2, (Activation(0, "relu"), Affine((1,), (np.ones((2, 1)),), np.zeros(1))))
    for level, verdict in ((0.5, "falsified"), (-0.01, "robust")):
        case = Case(-np.ones(2), np.ones(2), (Polyhedron(np.array([[1.0]]), np.array([-level])),))
        assert verify(graph, prop_of(case)).verdict == verdict


@pytest.mark.parametrize("inputs", [2, 14])
@pytest.mark.parametrize("scale", [1e160, 1e200, 1e300])
def test_beyond_float64_nothing_is_robust(inputs, scale):
    rng = np.random.default_rng(0)
    nodes, size = [], inputs
    for after in (4, 4):
        nodes += [Affine((len(nodes),), (rng.normal(size=(size, after)) * scale,), np.zeros(after))]
        nodes += [Activation(len(nodes), "relu")]
        size = after
    graph = Graph(inputs, (*nodes, Affine((len(nodes),), (rng.normal(size=(4, 1)),), np.zeros(1))))
    case = Case(-np.ones(inputs), np.ones(inputs), (Polyhedron(np.array([[1.0]]), np.array([1.0])),))
    assert verify(graph, prop_of(case), Options(0.5)).verdict != "robust"


@pytest.mark.parametrize("scale", [1e30, 1e200])
def test_no_program_with_numbers_that_a_solver_takes_for_infinite(scale, capfd):
    weight = scale * np.array([[1.0, -2.0], [-1.0, 1.5]])
    graph = Graph(2, (Affine((0,), (weight,), np.ones(2)), Activation(1, "relu"), Affine((2,), (weight,), np.ones(2))))
    case = Case(-np.ones(2), np.ones(2), (Polyhedron(np.array([[1.0, -1.0]]), np.zeros(1)),))
    margins = margins_of(graph, case)
    with np.errstate(all="ignore"):
        reduced = reduce(margins.graph, crown_bounds(margins.graph, region_of(case)))
    assert solve_by_program(margins, reduced, region_of(case), clock(5)).status == "open"
    assert capfd.readouterr() == ("", "")


def test_a_candidate_is_replayed(monkeypatch):
    """Whatever a search calls a counterexample: without its replay there is none."""
    question = Question(1, "dense")
    prop = prop_of(question.case(safe=True))
    middle = 0.5 * (question.low + question.up)
    monkeypatch.setattr(portfolio, "descend", lambda *_: middle)
    monkeypatch.setattr(portfolio, "crown_bounds", lambda graph, region, *_, **__: crown_bounds(graph, region))
    monkeypatch.setattr(portfolio, "_open", lambda margins, bounds: (margins, bounds))
    outcome = verify(question.graph, prop, Options(2))
    assert (outcome.verdict, outcome.counterexample) == ("unknown", None)
    assert "replay" in outcome.reason


def hard(seed=0):
    """A question of thousands of branches: many ReLUs, a margin that no bound closes soon."""
    graph = random_network((14, 60, 60, 60, 2), seed, "linear").graph()
    low, up = -np.ones(14), np.ones(14)
    reached = graph(np.random.default_rng(0).uniform(low, up, size=(20000, 14)))[:, 0].min()
    return graph, prop_of(Case(low, up, (Polyhedron(np.array([[1.0, 0.0]]), np.array([-2.5 * reached])),)))


def test_time_limit():
    """Kept within a second, in words and in the bound; a proven bound lies below every sample."""
    graph, prop = hard()
    begun = time.perf_counter()
    outcome = verify(graph, prop, Options(2.0))
    assert time.perf_counter() - begun < 3.0
    assert (outcome.verdict, outcome.timed_out, outcome.counterexample) == ("unknown", True, None)
    sampled = prop.cases[0].margin(graph(np.random.default_rng(1).uniform(-1, 1, size=(2000, 14)))).min()
    assert outcome.bound is None or outcome.bound <= min(0, sampled)


def test_time_limit_over_many_cases():
    """Also where each case would be proven at once."""
    graph = random_network((2, 3, 2), 0, "linear").graph()
    one = Case(-np.ones(2), np.ones(2), (Polyhedron(np.array([[1.0, 0.0]]), np.array([100.0])),))
    outcome = verify(graph, prop_of(*[one] * 20000), Options(0.3))
    assert (outcome.verdict, outcome.timed_out, outcome.bound) == ("unknown", True, None)
    assert outcome.seconds < 1.3


def test_ctrl_c(hears_ctrl_c):
    graph, prop = hard()
    begun = time.perf_counter()
    timer = threading.Timer(1.0, signal.raise_signal, [signal.SIGINT])
    timer.start()
    try:
        outcome = verify(graph, prop, Options(30.0))
    finally:
        timer.cancel()
    assert (outcome.verdict, outcome.reason) == ("unknown", "interrupted")
    assert time.perf_counter() - begun < 4.0


def test_the_same_again():
    """The same seed, the same answer, counterexample and branches."""
    question = Question(2, "convolution")
    prop = prop_of(question.case(safe=False, share=1e-3))
    first, second = (verify(question.graph, prop, Options(5, seed=3)) for _ in range(2))
    assert (first.verdict, first.branches) == (second.verdict, second.branches)
    assert np.array_equal(first.counterexample.x, second.counterexample.x)


def test_the_program_beside(monkeypatch):
    """Its answer ends the search; its failure does not."""
    monkeypatch.setattr(portfolio, "PHASES_ALONE", 0.0)
    graph, prop = hard()
    monkeypatch.setattr(portfolio, "solve_by_program", lambda *_: Finding("proven", "by the program", branches=3))
    outcome = verify(graph, prop, Options(20))
    assert (outcome.verdict, outcome.reason) == ("robust", "by the program")

    def fails(*_):
        raise RuntimeError("no solver")

    monkeypatch.setattr(portfolio, "solve_by_program", fails)
    assert verify(graph, prop, Options(1.0)).verdict == "unknown"


def instances(*names):
    if not DATA.is_dir():
        pytest.skip(f"VNN-COMP's instances are not there: {DATA}")
    for name in names:
        with (DATA / name / "verdicts.csv").open() as stream:
            for row in csv.DictReader(stream):
                yield DATA / name / row["onnx"], DATA / name / row["vnnlib"], row["verdict"]


def contradicted(network, prop, seconds=0.3):
    """The least bound at the root, and a counterexample by descent. A positive bound may not go with one."""
    found, worst = None, np.inf
    rng = np.random.default_rng(0)
    for case in prop.cases:
        margins = margins_of(network.graph(), case)
        bounds = crown_bounds(margins.graph, region_of(case), every=False)
        proven = margins.least(bounds.lower[-1][None])[0]
        points = points_of(region_of(case), rng, 20)
        values = margins.graph.values(points)
        assert (margins.least(values[-1]) >= proven).all(), "a point falls below the root's bound"
        worst = min(worst, float(proven.min()))
        x = descend(margins, (case.lower, case.upper), 4, rng, clock(seconds))
        if x is not None:
            assert proven[margins.least(margins.graph(x[None]))[0].argmin()] <= 0
            found = replay(network, prop, x)
    return worst, found


@pytest.mark.parametrize(("name", "every"), [("mnistfc", 1), ("acasxu", 12)])
def test_vnncomp_at_the_root(name, every):
    pytest.importorskip("onnx")
    rows = list(instances(name))[::every]
    assert len(rows) >= 8
    for network, prop, verdict in rows:
        worst, found = contradicted(load_network(network), read_property(prop))
        if worst > 0:
            assert verdict == "unsat", f"{prop} is {verdict}, but its root bound is {worst}"
        if found is not None:
            assert verdict == "sat", f"{prop} is {verdict}, but has a counterexample"


@pytest.mark.slow
@pytest.mark.parametrize(("name", "every", "seconds"), [("mnistfc", 2, 4.0), ("acasxu", 15, 4.0)])
def test_vnncomp_verdicts(name, every, seconds):
    """Never the opposite, and most of them within seconds."""
    pytest.importorskip("onnx")
    rows = list(instances(name))[::every]
    answered = 0
    for network, prop, verdict in rows:
        outcome = verify(load_network(network), read_property(prop), Options(seconds))
        word = {"robust": "unsat", "falsified": "sat"}.get(outcome.verdict)
        assert word in (None, verdict), f"{prop} is {verdict}, not {outcome.verdict} ({outcome.reason})"
        answered += word is not None
    assert answered >= 0.6 * len(rows)


@pytest.mark.parametrize(("network", "pattern"), [("cifar10_resnet/resnet_2b.onnx", "*.gz"), ("oval21/*.onnx", "*.gz")])
def test_vnncomp_residual_and_convolutional(network, pattern):
    pytest.importorskip("onnx")
    if not DATA.is_dir():
        pytest.skip(f"VNN-COMP's instances are not there: {DATA}")
    path = next(DATA.glob(network))
    files = sorted(path.parent.glob(pattern))
    assert files
    for prop in files[:1]:
        contradicted(load_network(path), read_property(prop), 1.0)


def hard_case(sizes=(10, 40, 40, 40, 2), seed=0):
    """A network and a property of its that take far longer than a test: the margin is just out of reach."""
    network = random_network(sizes, seed, "linear")
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=sizes[0])
    low, up = middle - 1.5, middle + 1.5
    seen = network(rng.uniform(low, up, size=(20000, sizes[0])))
    offset = float((seen[:, 0] - seen[:, 1]).min())
    unsafe = Polyhedron(np.array([[1.0, -1.0]]), np.array([-(offset - 2.0 * abs(offset))]))
    return network, Case(low, up, (unsafe,))


def test_an_easy_case_is_found_behind_a_hard_one():
    """All cases are looked at before any of them is branched on."""
    network, hard = hard_case()
    offset = float(np.diff(network(hard.lower[None]))[0, 0])
    easy = Case(hard.lower, hard.upper, (Polyhedron(np.array([[1.0, -1.0]]), np.array([offset])),))
    begun = time.perf_counter()
    outcome = verify(network, Property((hard, easy), 10, 2), Options(seconds=30))
    assert outcome.verdict == "falsified"
    assert time.perf_counter() - begun < 10


def test_hard_cases_share_the_time():
    network, hard = hard_case()
    outcome = verify(network, Property((hard, hard), 10, 2), Options(seconds=2))
    assert (outcome.verdict, outcome.timed_out) == ("unknown", True)
    assert outcome.bound is not None
    assert outcome.seconds < 4


def test_a_deadline_leaves_looser_bounds():
    """Past it neurons keep their intervals: sound, and never tighter than with time."""
    graph = random_network((6, 9, 9, 9, 3), 4, "linear").graph()
    region = Region.between(np.zeros(6), np.ones(6))
    late, full = crown_bounds(graph, region, 5, deadline=0.0), crown_bounds(graph, region, 5)
    values = graph.values(np.random.default_rng(0).random((500, 6)))
    for place, site in enumerate((1, 3, 5, 7)):
        assert (late.lower[place] <= full.lower[place] + 1e-12).all()
        assert (late.lower[place] <= values[site].min(axis=0)).all()
        assert (late.upper[place] >= values[site].max(axis=0)).all()
    assert (late.lower[3] < full.lower[3] - 1e-3).any()


def around_a_point(centre, radius):
    """f(x) = |x - c|, unsafe where every entry is at most the radius: as many rows as inputs."""
    n = len(centre)
    eye = np.eye(n)
    nodes = (
        Affine((0,), (np.hstack([eye, -eye]),), np.concatenate([-centre, centre])),
        Activation(1, "relu"),
        Affine((2,), (np.vstack([eye, eye]),), np.zeros(n)),
    )
    case = Case(np.zeros(n), np.ones(n), (Polyhedron(eye, np.full(n, -radius)),))
    return margins_of(Graph(n, nodes), case), (case.lower, case.upper)


def test_local_search_finds_corners_of_many_rows():
    centre = np.array([0.31, 0.77, 0.05, 0.5, 0.93])
    margins, box = around_a_point(centre, 1e-3)
    x = wander(margins, box, np.random.default_rng(0), clock())
    assert np.abs(x - centre).max() <= 1e-3
    margins, box = around_a_point(centre, -1e-3)
    assert wander(margins, box, np.random.default_rng(0), clock(1.0)) is None
