"""Worst-case CVaR of forms and networks: closed forms, references, and distributions that no bound may miss."""

import json
from fractions import Fraction

import numpy as np
import pytest
from cvar_cases import LOOP, PLT, SEEDS, quadratic, random_moments, random_network
from hypothesis import given, settings
from hypothesis import strategies as st

from arfj.certify.cvar import (
    FAMILIES,
    Moments,
    Options,
    certify_classes,
    certify_loss,
    constraints,
    cvar,
    lifted,
    proof_from,
    support_in,
    worst_case_cvar,
)
from arfj.certify.cvar import certificate as certificates
from arfj.certify.cvar.barrier import Barrier
from arfj.certify.cvar.certificate import margin
from arfj.certify.cvar.descent import descend
from arfj.certify.cvar.ellipsoid import least_ellipsoid
from arfj.certify.cvar.falsify import falsify
from arfj.certify.cvar.maximum import _proof as common_proof
from arfj.certify.cvar.maximum import certify_maximum
from arfj.certify.cvar.multipliers import Problem, reduced
from arfj.certify.cvar.recompute import dominating, raised_for_rounding
from arfj.certify.cvar.samples import LAWS, draw, matched
from arfj.certify.cvar.sdp import DENSE, Word, columns, solve_sdp, usual
from arfj.certify.cvar.unroll import closed_loop, recurrent
from arfj.errors import NetworkError, UsageError
from arfj.graph import Activation, Affine, Graph
from arfj.network import Network

STATE, CONTROL = np.array([[0.2, 0.0], [0.1, 0.3]]), np.array([[-1.0], [0.0]])
TOGETHER = STATE + CONTROL @ [[-1.0, 2.0]]


def residual(rng):
    """x -> relu -> plus x -> relu -> plus both: values that branch."""
    first, second, third = (rng.normal(size=shape) for shape in ((3, 3), (3, 4), (4, 2)))
    nodes = (
        Affine((0,), (first,), rng.normal(size=3)),
        Activation(1, "relu"),
        Affine((0, 2), (second, second), rng.normal(size=4)),
        Activation(3, "relu"),
        Affine((4, 0), (third, first[:, :2]), rng.normal(size=2)),
    )
    return Graph(3, nodes)


def coordinates(net, xi, network):
    """w of the module `lifting` for xi, by the network's own forward pass."""
    graph = network.graph()
    values = graph.values(net.moments.inputs(xi))
    phi = [values[i] for i, node in enumerate(graph.nodes, start=1) if isinstance(node, Activation)]
    return np.hstack([xi, np.hstack(phi) / net.units, np.ones((len(xi), 1))]), values[-1]


NETWORKS = {
    "one layer": lambda rng: random_network(rng, (3, 5, 3)),
    "three layers": lambda rng: random_network(rng, (3, 4, 3, 3, 2)),
    "relu at the end": lambda rng: random_network(rng, (3, 4, 2), "relu"),
    "residual": residual,
    "loop": lambda rng: closed_loop(
        random_network(rng, (3, 4, 1)), rng.normal(size=(3, 3)), rng.normal(size=(3, 1)), 2
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("family", FAMILIES)
class TestConstraints:
    def test_they_hold_on_the_network(self, name, family):
        rng = np.random.default_rng(5)
        network, moments = NETWORKS[name](rng), random_moments(rng, 3)
        net = lifted(network, moments)
        known = constraints(net, family)
        w, outputs = coordinates(net, rng.normal(size=(200, 3)) * 2, network)
        assert w @ net.outputs.T == pytest.approx(outputs)
        assert (
            np.einsum("ki,kj->kij", w, w).reshape(200, -1).max(axis=1) <= net.growth * (w[:, net.seen] ** 2).sum(1)
        ).all()
        for column in range(known.count):
            middle = known.middle(np.eye(known.count)[column])
            assert np.einsum("ki,ij,kj->k", w, middle, w).min() > -1e-9 * np.abs(w).max() ** 2

    def test_columns_are_what_each_multiplier_adds(self, name, family):
        rng = np.random.default_rng(7)
        known = constraints(lifted(NETWORKS[name](rng), random_moments(rng, 3)), family)
        theta = rng.random(known.count)
        assert (columns(known) @ theta).reshape(known.lifted.size, -1) == pytest.approx(known.middle(theta))

    def test_multipliers_prove_whatever_they_are(self, name, family):
        """Random multipliers, negative ones among them: the form lies above the loss at every input."""
        rng = np.random.default_rng(6)
        network, moments = NETWORKS[name](rng), random_moments(rng, 3)
        net = lifted(network, moments)
        known = constraints(net, family)
        weights = rng.normal(size=len(net.outputs))
        loss = net.linear_loss(weights, 0.7)
        xi = rng.normal(size=(500, 3)) * 3
        truth = network(moments.inputs(xi)) @ weights + 0.7
        stood = 0
        for _ in range(10):
            theta = known.start() * rng.uniform(0.5, 2) + rng.normal(size=known.count) * 0.05
            proof = proof_from(known, loss, theta, 0.2)
            if proof is None:
                continue
            stood += 1
            assert (proof.theta >= 0).all()
            assert (quadratic(proof.form, xi) >= truth).all()
            assert proof.worst.value == pytest.approx(
                worst_case_cvar(proof.form, Moments(np.zeros(3), np.eye(3)), 0.2).value
            )
            points = matched(draw("two-radius", moments, 2000, rng), moments)
            assert cvar(network(points) @ weights + 0.7, 0.2) <= proof.bound
        assert stood > 0


def test_a_form_that_is_too_low_is_raised():
    """By the largest eigenvalue of what lies above it, as rounding might have left it."""
    rng = np.random.default_rng(15)
    network, moments = random_network(rng, (3, 5, 4, 2)), random_moments(rng, 3)
    net = lifted(network, moments)
    known, loss = constraints(net), net.linear_loss([1.0, -1.0])
    theta = known.start()
    exact = dominating(known, loss, theta)
    raised, shift = raised_for_rounding(known, loss, theta, exact)
    assert 0 < shift < 1e-6
    xi = rng.normal(size=(300, 3)) * 2
    truth = network(moments.inputs(xi)) @ [1.0, -1.0]
    raised, shift = raised_for_rounding(known, loss, theta, exact - 20.0 * np.eye(4))
    assert shift > 20
    assert (quadratic(raised, xi) >= truth).all()


def test_the_matrix_of_the_paper():
    """Q12 = T, Q13 = -nu, Q22 = -2 T, Q23 = nu + eta, on [z; phi; 1]."""
    rng = np.random.default_rng(0)
    net = lifted(random_network(rng, (2, 3, 2)), random_moments(rng, 2))
    known = constraints(net, "pairs")
    lam, eta, nu, between = (rng.random(3) for _ in range(4))
    t = np.diag(lam)
    for value, (i, j) in zip(between, [(0, 1), (0, 2), (1, 2)], strict=True):
        apart = np.eye(3)[i] - np.eye(3)[j]
        t = t + value * np.outer(apart, apart)
    zero = np.zeros((3, 3))
    q = np.block([
        [zero, t, -nu[:, None]], [t, -2 * t, (nu + eta)[:, None]], [-nu[None], (nu + eta)[None], np.zeros((1, 1))]
    ])  # fmt: skip
    rows = np.vstack([net.before, net.after, net.one])
    ours = np.concatenate([2 * np.diag(t), 2 * eta, 2 * nu, 2 * between])
    assert known.middle(ours) == pytest.approx(rows.T @ q @ rows)


def iris():
    if not (PLT / "plt_iris.npz").is_file():
        pytest.skip("../shared/data/plt is not here: no reference bounds to compare with")
    arrays = np.load(PLT / "plt_iris.npz", allow_pickle=False)
    weights = [arrays[f"iris__weights_{k}"].T for k in range(3)]
    network = Network.from_arrays(weights, [arrays[f"iris__bias_{k}"] for k in range(3)], "linear")
    references = json.loads((PLT / "references.json").read_text())["iris_wccvar"]
    x, y = arrays["iris__X_test"].astype(float), arrays["iris__y_test"]
    return network, [x[y == c] for c in range(3)], references


@pytest.mark.parametrize("method", ["sdp", "first-order"])
@pytest.mark.parametrize(
    ("family", "key", "room"), [("diagonal", "basic", 5e-4), ("pairs", "pairs", 5e-4), ("products", "products", 3e-3)]
)
@pytest.mark.parametrize(("true", "rival"), [(0, 1), (1, 0), (1, 2)])
def test_iris_references(true, rival, family, key, room, method):
    network, data, references = iris()
    expected = references[f"c{true}_j{rival}"]
    found = certify_classes(network, Moments.of(data[true]), true, 0.2, Options(family, method), [rival])[rival]
    assert found.bound == pytest.approx(expected[key], abs=room)
    assert found.bound >= expected[key] - 1e-4
    assert cvar(network(data[true]) @ margin(3, rival, true), 0.2) == pytest.approx(expected["empirical_cvar"])
    if found.objective is not None:
        assert found.bound >= found.objective - 1e-6


@pytest.mark.slow
@given(SEEDS, st.sampled_from(FAMILIES), st.sampled_from(list(NETWORKS)), st.floats(0.05, 0.6))
@settings(max_examples=25, deadline=None)
def test_no_distribution_exceeds_a_certificate(seed, family, name, epsilon):
    rng = np.random.default_rng(seed)
    network, moments = NETWORKS[name](rng), random_moments(rng, 3)
    net = lifted(network, moments)
    weights = rng.normal(size=len(net.outputs))
    found = certify_loss(net, net.linear_loss(weights), epsilon, Options(family, seconds=2.0))

    def loss(x):
        return network(x) @ weights

    room = 1e-9 * abs(found.bound)
    assert falsify(loss, moments, epsilon, found.proof, 20, seed % 1000).value <= found.bound + room
    for law in LAWS:
        points = matched(draw(law, moments, 2000, rng), moments)
        assert cvar(loss(points), epsilon) <= found.bound + room
    assert (quadratic(found.proof.form, np.zeros((1, 3))) >= loss(moments.mean[None]) - room).all()


@pytest.fixture(scope="module")
def certified():
    network, data, _ = iris()
    moments = Moments.of(data[1])
    return network, moments, certify_classes(network, moments, 1, 0.2, Options("products"))


@pytest.mark.parametrize("law", LAWS)
def test_a_hundred_thousand_points(certified, law):
    network, moments, found = certified
    points = matched(draw(law, moments, 100_000, np.random.default_rng(0)), moments)
    for rival, one in found.items():
        assert cvar(network(points) @ margin(3, rival, 1), 0.2) <= one.bound


def test_the_falsifier_comes_near():
    network, data, _ = iris()
    moments = Moments.of(data[1])
    weights = margin(3, 2, 1)
    found = certify_classes(network, moments, 1, 0.2, Options("products"), [2])[2]
    lower = falsify(lambda x: network(x) @ weights, moments, 0.2, found.proof)
    mean, covariance = lower.distribution.moments()
    assert mean == pytest.approx(moments.mean)
    assert covariance == pytest.approx(moments.covariance)
    assert cvar(network(lower.distribution.points) @ weights, 0.2, lower.distribution.weights) == lower.value
    assert 0 <= found.bound - lower.value < 0.3


def descended(known, loss, epsilon=0.2, **how):
    return descend([Problem(known, loss)], epsilon, **how)[0]


class TestMethods:
    @given(SEEDS, st.sampled_from(FAMILIES), st.sampled_from(["one layer", "three layers", "residual"]))
    @settings(max_examples=6, deadline=None)
    def test_descent_and_semidefinite_program_agree(self, seed, family, name):
        rng = np.random.default_rng(seed)
        network, moments = NETWORKS[name](rng), random_moments(rng, 3)
        net = lifted(network, moments)
        loss = net.linear_loss(rng.normal(size=len(net.outputs)))
        ours = certify_loss(net, loss, 0.25, Options(family)).bound
        theirs = certify_loss(net, loss, 0.25, Options(family, "sdp"))
        room = 5e-3 * (1 + abs(theirs.objective))
        assert ours == pytest.approx(theirs.objective, abs=room)
        assert theirs.bound >= theirs.objective - room

    @pytest.mark.parametrize("family", FAMILIES)
    def test_slopes_and_second_derivatives(self, family):
        rng = np.random.default_rng(2)
        net = lifted(random_network(rng, (2, 3, 2, 2)), random_moments(rng, 2))
        known = constraints(net, family)
        barrier = Barrier([Problem(known, net.linear_loss([1.0, -0.5]))], 0.3)
        alone, mu = np.array([0]), np.array([0.2])
        point = np.append(0.1, known.start() + 0.01 * rng.random(known.count))[None]
        at = barrier.at(alone, point, mu)
        (hessian,) = barrier.hessian(at, mu)
        assert hessian == pytest.approx(hessian.T)
        step = 1e-5
        for place in range(known.count + 1):
            move = np.zeros(known.count + 1)
            move[place] = step
            up, down = (barrier.at(alone, point + sign * move, mu) for sign in (1, -1))
            assert (up.value - down.value) / (2 * step) == pytest.approx(at.slope[:, place], rel=1e-5, abs=1e-7)
            second = (up.slope - down.slope)[0] / (2 * step)
            assert second == pytest.approx(hessian[place], rel=1e-4, abs=1e-5)
        (along,) = barrier.scales(at, mu)
        if family != "pairs":  # whose constraints are sums of two products: the scale is a rough one there
            assert along**2 == pytest.approx(np.diag(hessian), rel=1e-6)

    def test_gradients_alone(self):
        rng = np.random.default_rng(8)
        net = lifted(random_network(rng, (3, 5, 3)), random_moments(rng, 3))
        loss = net.linear_loss([1.0, -1.0, 0.0])
        for family in ("diagonal", "pairs"):
            known = constraints(net, family)
            newton, plain = (descended(known, loss, curvature=which) for which in (True, False))
            assert newton.status == "optimal"
            assert plain.status == "stopped"
            assert plain.proof.bound == pytest.approx(newton.proof.bound, rel=2e-2, abs=2e-2)

    def test_every_step_is_valid(self):
        rng = np.random.default_rng(9)
        network, moments = random_network(rng, (3, 6, 2)), random_moments(rng, 3)
        net = lifted(network, moments)
        found = descended(constraints(net, "products"), net.linear_loss([1.0, -1.0]))
        bounds = [bound for _, bound in found.trace]
        assert bounds == sorted(bounds, reverse=True)
        lower = falsify(lambda x: network(x) @ [1.0, -1.0], moments, 0.2, found.proof).value
        assert lower <= found.proof.bound

    def test_a_time_limit_leaves_a_bound(self):
        rng = np.random.default_rng(9)
        net = lifted(random_network(rng, (3, 12, 2)), random_moments(rng, 3))
        found = descended(constraints(net, "products"), net.linear_loss([1.0, -1.0]), seconds=1e-3)
        assert found.status == "time limit"
        assert np.isfinite(found.proof.bound)

    def test_larger_families_are_no_worse(self):
        rng = np.random.default_rng(11)
        net = lifted(random_network(rng, (3, 6, 4, 2)), random_moments(rng, 3))
        loss = net.linear_loss([1.0, -1.0])
        bounds = [certify_loss(net, loss, 0.2, Options(family)).bound for family in FAMILIES]
        assert bounds[1] <= bounds[0] + 1e-3
        assert bounds[2] <= bounds[1] + 1e-3

    def test_directions_that_no_neuron_reads_are_left_out(self):
        rng = np.random.default_rng(14)
        network, moments = random_network(rng, (9, 3, 2)), random_moments(rng, 9)
        net = lifted(network, moments)
        loss = net.linear_loss([1.0, -1.0])
        ((small, inner),) = reduced(constraints(net, "pairs"), [loss])
        assert small.lifted.rank == 3
        found = certify_loss(net, loss, 0.2, Options("pairs"))
        assert found.proof.form.shape == (10, 10)
        whole, part = (descended(known, one) for known, one in ((constraints(net, "pairs"), loss), (small, inner)))
        assert part.proof.bound == pytest.approx(whole.proof.bound, abs=2e-4)
        assert found.bound == pytest.approx(part.proof.bound, abs=1e-9)

    @pytest.mark.parametrize("family", FAMILIES)
    @pytest.mark.parametrize("power", [-7, 7])
    def test_a_layer_in_other_units(self, power, family):
        """c max(z, 0) = max(c z, 0): the same function, and the same bound."""
        rng = np.random.default_rng(16)
        network, moments = random_network(rng, (3, 4, 3, 2)), random_moments(rng, 3)
        one, two, three = network.layers
        factor = 10.0**power * 10.0 ** np.arange(4)
        other = Network.from_arrays(
            [one.weight * factor, two.weight / factor[:, None], three.weight],
            [one.bias * factor, two.bias, three.bias],
            "linear",
        )
        expected = certify_classes(network, moments, 0, 0.2, Options(family))[1]
        found = certify_classes(other, moments, 0, 0.2, Options(family))[1]
        assert found.status == expected.status == "optimal"
        assert found.bound == pytest.approx(expected.bound, rel=1e-3)

    @pytest.mark.parametrize("method", ["sdp", "first-order"])
    def test_neurons_that_are_alike_dead_or_idle(self, method):
        """Twice the same, one without weights, one that is never on: as tight as without them."""
        rng = np.random.default_rng(17)
        network, moments = random_network(rng, (3, 4, 2)), random_moments(rng, 3)
        one, two = network.layers
        first = np.column_stack([one.weight, one.weight[:, 0], np.zeros(3), one.weight[:, 1]])
        bias = np.concatenate([one.bias, one.bias[:1], [0.0, -1e6]])
        second = np.vstack([two.weight, 0.5 * two.weight[:1], rng.normal(size=(1, 2)), 1e-3 * rng.normal(size=(1, 2))])
        second[0] *= 0.5
        other = Network.from_arrays([first, second], [bias, two.bias], "linear")
        expected = certify_classes(network, moments, 0, 0.2, Options("diagonal", method))[1].bound
        found = certify_classes(other, moments, 0, 0.2, Options("diagonal", method))[1]
        lower = falsify(lambda x: other(x) @ [-1.0, 1.0], moments, 0.2, found.proof).value
        assert lower <= found.bound
        assert found.bound == pytest.approx(expected, abs=5e-3)

    @pytest.mark.parametrize("seed", range(8))
    def test_what_biases_cancel_is_not_lost(self, seed):
        """The bound of a linear loss in fractions, where biases of 1e12 leave 1e-4 of what is asked."""
        rng = np.random.default_rng(seed)
        weights, root, mean = rng.normal(size=(3, 2)), rng.normal(size=(3, 3)), rng.normal(size=3)
        bias, covariance = rng.normal(size=2) + 1e12, root @ root.T
        network = Graph(3, (Affine((0,), (weights,), bias),))
        bound = certify_classes(network, Moments(mean, covariance), 0, 0.5)[1].bound
        one, two = (np.vectorize(Fraction, otypes=[object])(column) for column in weights.T)
        slope, exact = two - one, np.vectorize(Fraction, otypes=[object])
        centre = slope @ exact(mean) + Fraction(bias[1]) - Fraction(bias[0])
        assert Fraction(bound) >= centre
        assert (Fraction(bound) - centre) ** 2 >= slope @ exact(covariance) @ slope
        assert bound == pytest.approx(float(centre) + float(slope @ exact(covariance) @ slope) ** 0.5, abs=0.2)

    def test_losses_that_are_constant(self):
        rng = np.random.default_rng(18)
        net = lifted(random_network(rng, (3, 4, 2)), random_moments(rng, 3))
        for constant in (0.0, 3.0, -3.0):
            bound = certify_loss(net, net.linear_loss([0.0, 0.0], constant), 0.2).bound
            assert constant <= bound <= constant + 1e-3

    def test_without_hidden_neurons_it_is_exact(self):
        network = Network.from_arrays([[[1.0, -2.0]]], [[0.5, 0.0]], "linear")
        found = certify_classes(network, Moments([1.0], [[4.0]]), 0, 0.2)[1]
        assert found.bound == pytest.approx(-3 - 0.5 + np.sqrt(4 * 9 * 4))
        assert certify_classes(network, Moments([1.0], [[0.0]]), 0, 0.2)[1].bound == pytest.approx(-3.5)

    @pytest.mark.parametrize("method", ["sdp", "first-order"])
    def test_a_singular_covariance(self, method):
        """Inputs on a line: the same bound as for the network of that one coordinate."""
        rng = np.random.default_rng(12)
        network, along = random_network(rng, (3, 4, 2)), rng.normal(size=3)
        mean = rng.normal(size=3)
        narrow = Network.from_arrays(
            [along[None] @ network.layers[0].weight, network.layers[1].weight],
            [mean @ network.layers[0].weight + network.layers[0].bias, network.layers[1].bias],
            "linear",
        )
        how = Options("pairs", method)
        wide = certify_classes(network, Moments(mean, np.outer(along, along)), 0, 0.2, how)[1].bound
        assert wide == pytest.approx(certify_classes(narrow, Moments([0.0], [[1.0]]), 0, 0.2, how)[1].bound, abs=1e-3)


class TestSolversWords:
    """Whatever a solver says, the number comes from the multipliers."""

    def asked(self, monkeypatch, word):
        rng = np.random.default_rng(13)
        network, moments = random_network(rng, (3, 4, 2)), random_moments(rng, 3)
        monkeypatch.setattr(certificates, "solve_sdp", lambda known, *_: word(known))
        found = certify_classes(network, moments, 0, 0.2, Options("pairs", "sdp"))[1]
        lower = falsify(lambda x: network(x) @ [-1.0, 1.0], moments, 0.2, found.proof).value
        return found, lower

    def test_an_optimistic_objective(self, monkeypatch):
        found, lower = self.asked(monkeypatch, lambda known: Word(known.start(), "optimal", "LIAR", -1e9, 0.0))
        assert found.objective == -1e9
        assert found.bound >= lower

    @pytest.mark.parametrize("sign", [-1.0, 1e3, -1e-3, 0.0])
    def test_multipliers_of_any_sign(self, monkeypatch, sign):
        found, lower = self.asked(
            monkeypatch, lambda known: Word(sign * np.ones(known.count), "optimal_inaccurate", "LIAR", -5.0, 0.0)
        )
        assert found.bound is None or found.bound >= lower
        assert found.status == "optimal_inaccurate (LIAR)"

    @pytest.mark.parametrize("theta", [None, np.full(3, np.nan), np.zeros(2)])
    def test_no_multipliers_are_unknown(self, monkeypatch, theta):
        found, _ = self.asked(monkeypatch, lambda _: Word(theta, "error", "LIAR", None, 0.0))
        assert found.bound is None
        assert not found.holds

    def test_a_solver_that_fails(self):
        rng = np.random.default_rng(1)
        net = lifted(random_network(rng, (2, 3, 2)), random_moments(rng, 2))
        word = solve_sdp(constraints(net), net.linear_loss([1.0, -1.0]), 0.2, solvers=["NOSUCH"])
        assert word.theta is None
        assert word.status.startswith("error")
        second = solve_sdp(constraints(net), net.linear_loss([1.0, -1.0]), 0.2, solvers=["NOSUCH", "CLARABEL"])
        assert (second.status, second.solver) == ("optimal", "CLARABEL")

    def test_which_solvers(self):
        """Clarabel would need gigabytes from a hundred rows on; whoever names it gets it."""
        assert usual(DENSE) == ("CLARABEL", "SCS")
        assert usual(DENSE + 1) == ("SCS",)
        rng = np.random.default_rng(2)
        net = lifted(random_network(rng, (2, 3, 2)), random_moments(rng, 2))
        loss = net.linear_loss([1.0, -1.0])
        words = [certify_loss(net, loss, 0.2, Options("diagonal", "sdp", None, one)).status for one in (None, ["SCS"])]
        assert words == ["optimal (CLARABEL)", "optimal (SCS)"]


class TestEllipsoid:
    ROWS = np.hstack([STATE, CONTROL])

    @pytest.mark.parametrize("epsilon", [0.5, 0.2])
    def test_the_published_example(self, epsilon):
        radius = 1 / (2 * epsilon)
        net = lifted(LOOP, Moments([0, 0], np.eye(2) / 4))
        fixed = least_ellipsoid(net, self.ROWS, epsilon, "pairs", np.diag([1, 1, -radius]))
        assert fixed.shape == pytest.approx(radius * np.array([[20.8422, -0.9698], [-0.9698, 0.1471]]), rel=5e-4)
        assert fixed.determinant == pytest.approx(2.12530 * radius**2, rel=1e-4)
        joint = least_ellipsoid(net, self.ROWS, epsilon, "pairs")
        assert joint.determinant == pytest.approx(1.6056 * radius**2, rel=1e-4)
        cuts = least_ellipsoid(net, self.ROWS, epsilon, "products")
        assert cuts.determinant == pytest.approx(0.314 * radius**2, rel=1e-2)
        truth = radius * TOGETHER @ TOGETHER.T
        assert np.linalg.det(truth) == pytest.approx(0.3136 * radius**2)
        assert np.linalg.eigvalsh(fixed.shape - truth)[0] > -1e-6 * radius, "it holds all of the reachable set"
        for found in (fixed, joint, cuts):
            form = np.zeros((3, 3))
            form[:2, :2] = TOGETHER.T @ np.linalg.inv(found.shape) @ TOGETHER
            assert worst_case_cvar(form, net.moments, epsilon).value <= 1 + 1e-9

    def test_units_of_the_outputs(self):
        """Rows of C times 1e-6 and 1e6: E times their products."""
        net, scale = lifted(LOOP, Moments([0, 0], np.eye(2) / 4)), np.array([1e-6, 1e6])
        plain, scaled = (least_ellipsoid(net, rows, 0.2) for rows in (self.ROWS, scale[:, None] * self.ROWS))
        assert scaled.shape / np.multiply.outer(scale, scale) == pytest.approx(plain.shape, rel=1e-3)

    def test_cvar_on_it(self):
        """sup CVaR of y' E^-1 y is at most 1, and samples say so."""
        moments = Moments([0, 0], np.eye(2) / 4)
        found = least_ellipsoid(lifted(LOOP, moments), self.ROWS, 0.2, "pairs")
        for law in LAWS:
            y = matched(draw(law, moments, 20_000, np.random.default_rng(0)), moments) @ TOGETHER.T
            assert cvar(np.einsum("ki,ij,kj->k", y, np.linalg.inv(found.shape), y), 0.2) <= 1

    def test_rows(self):
        with pytest.raises(UsageError, match="expected"):
            least_ellipsoid(lifted(LOOP, Moments([0, 0], np.eye(2))), np.eye(2), 0.2)


class TestUnrolled:
    def test_closed_loop(self):
        x = np.random.default_rng(0).normal(size=(5, 2))
        assert closed_loop(LOOP, STATE, CONTROL, 3)(x) == pytest.approx(x @ np.linalg.matrix_power(TOGETHER, 3).T)
        net = lifted(closed_loop(LOOP, STATE, CONTROL, 3), Moments([0, 0], np.eye(2) / 4))
        power = np.zeros((3, 3))
        power[:2, :2] = np.linalg.matrix_power(TOGETHER, 3).T @ np.linalg.matrix_power(TOGETHER, 3)
        exact = worst_case_cvar(power, net.moments, 0.2).value
        found = certify_loss(net, net.quadratic_loss(np.diag([1.0, 1.0, 0.0])), 0.2, Options("products"))
        assert exact <= found.bound <= 1.01 * exact

    def test_recurrent(self):
        rng = np.random.default_rng(1)
        u, w, b, v, c = (rng.normal(size=shape) for shape in ((2, 3), (3, 3), 3, (3, 1), 1))
        x = rng.normal(size=(4, 6))
        h = np.zeros((4, 3))
        for step in range(3):
            h = np.maximum(x[:, 2 * step : 2 * step + 2] @ u + h @ w + b, 0)
        graph = recurrent(u, w, b, v, c, 3)
        assert graph(x) == pytest.approx(h @ v + c)
        net = lifted(graph, Moments(np.zeros(6), np.eye(6)))
        found = certify_loss(net, net.linear_loss([1.0]), 0.2)
        lower = falsify(lambda x: graph(x)[:, 0], net.moments, 0.2, found.proof).value
        assert lower <= found.bound

    def test_what_is_refused(self):
        with pytest.raises(UsageError, match="at least 1"):
            closed_loop(LOOP, STATE, CONTROL, 0)
        with pytest.raises(UsageError, match="expected"):
            closed_loop(LOOP, np.eye(3), CONTROL)


def test_the_largest_rival():
    """Its own loss: above every single bound, and above the samples of the maximum."""
    network, data, _ = iris()
    moments = Moments.of(data[1])
    net = lifted(network, moments)
    losses = [net.linear_loss(margin(3, j, 1)) for j in (0, 2)]
    whole = certify_maximum(net, losses, 0.2, Options("products", "sdp"))
    single = [certify_loss(net, loss, 0.2, Options("products")).bound for loss in losses]
    assert whole.bound >= max(single) - 1e-3

    def loss(x):
        y = network(x)
        return np.maximum(y[:, 0], y[:, 2]) - y[:, 1]

    for law in LAWS:
        points = matched(draw(law, moments, 5000, np.random.default_rng(0)), moments)
        assert cvar(loss(points), 0.2) <= whole.bound
    lower = falsify(loss, moments, 0.2, whole.proof).value
    assert lower <= whole.bound
    with pytest.raises(UsageError, match="no losses"):
        certify_maximum(net, [], 0.2)


@pytest.mark.parametrize(
    ("losses", "weights", "told"),
    [
        ([], None, "no losses"),
        ([0.0, np.nan], None, "no numbers"),
        ([0.0, 1.0], [1.0], "weights of shape"),
        ([0.0, 1.0], [-0.5, 1.5], "weights of shape"),
        ([0.0, 1.0], [0.5, 0.4], "sum to 1"),
        ([0.0, 1.0], [np.nan, 1.0], "sum to 1"),
    ],
)
def test_losses_and_weights_that_are_no_distribution(losses, weights, told):
    with pytest.raises(UsageError, match=told):
        cvar(losses, 0.2, weights)


def test_a_common_form_that_is_too_low_is_raised():
    rng = np.random.default_rng(4)
    network, moments = random_network(rng, (3, 4, 3)), random_moments(rng, 3)
    net = lifted(network, moments)
    known = constraints(net)
    losses = [net.linear_loss(margin(3, j, 0)) for j in (1, 2)]
    proof = common_proof(known, losses, np.tile(known.start(), 2), -5.0 * np.eye(4), 0.2)
    xi = rng.normal(size=(500, 3)) * 2
    y = network(moments.inputs(xi))
    assert (quadratic(proof.form, xi) >= np.maximum(y[:, 1], y[:, 2]) - y[:, 0]).all()
    assert falsify(lambda x: network(x)[:, 1:].max(axis=1) - network(x)[:, 0], moments, 0.2).value <= proof.bound


class TestSupport:
    def test_a_box_tightens_and_holds_on_it(self):
        rng = np.random.default_rng(3)
        network = random_network(rng, (2, 5, 4, 2))
        points = np.clip(rng.normal(size=(4000, 2)), -1, 1)
        moments = Moments(points.mean(axis=0), np.cov(points.T, ddof=0))
        net = lifted(network, moments)
        box = support_in(network, np.full(2, -1.0), np.full(2, 1.0))
        loss = net.linear_loss([1.0, -1.0])
        known = constraints(net, "diagonal", box)
        w, _ = coordinates(net, (points[:300] - moments.mean) @ np.linalg.inv(moments.root).T, network)
        for column in range(known.count):
            middle = known.middle(np.eye(known.count)[column])
            assert np.einsum("ki,ij,kj->k", w, middle, w).min() > -1e-9
        plain = certify_loss(net, loss, 0.1).bound
        local = certify_loss(net, loss, 0.1, support=box).bound
        assert cvar(network(points) @ [1.0, -1.0], 0.1) <= local < plain - 0.05
        y = network(rng.uniform(-1, 1, size=(20_000, 2)))
        assert local <= (y[:, 0] - y[:, 1]).max() + 5  # no bound of this kind is absurd

    @pytest.mark.parametrize("method", ["sdp", "first-order"])
    def test_a_box_alone(self, method):
        """Without ReLUs: x in [-1, 1] with variance 0.9 is at most 1; on the whole line the bound is 2 * 0.9^(1/2)."""
        network = Network.from_arrays([[[1.0]]], [[0.0]], "linear")
        net = lifted(network, Moments([0.0], [[0.9]]))
        box = support_in(network, np.array([-1.0]), np.array([1.0]))
        loss, how = net.linear_loss([1.0]), Options(method=method)
        assert certify_loss(net, loss, 0.2, how).bound == pytest.approx(2 * np.sqrt(0.9), abs=1e-6)
        assert 1.0 <= certify_loss(net, loss, 0.2, how, box).bound <= 1.0 + 1e-3

    def test_shapes(self):
        with pytest.raises(UsageError, match="2 inputs"):
            support_in(LOOP, np.zeros(3), np.ones(3))


class TestWhatIsRefused:
    MOMENTS = Moments([0, 0], np.eye(2))

    def test_other_activations(self):
        graph = Graph(2, (Affine((0,), (np.eye(2),), np.zeros(2)), Activation(1, "tanh")))
        with pytest.raises(NetworkError, match="tanh"):
            lifted(graph, self.MOMENTS)

    def test_sizes(self):
        with pytest.raises(UsageError, match="3 inputs; the network takes 2"):
            lifted(LOOP, Moments([0, 0, 0], np.eye(3)))
        net = lifted(LOOP, self.MOMENTS)
        with pytest.raises(UsageError, match="1 outputs"):
            net.linear_loss([1, 2])
        with pytest.raises(UsageError, match="expected"):
            net.quadratic_loss(np.eye(7))

    def test_names(self):
        net = lifted(LOOP, self.MOMENTS)
        with pytest.raises(UsageError, match="triples"):
            constraints(net, "triples")
        with pytest.raises(UsageError, match="magic"):
            Options(method="magic")

    @pytest.mark.parametrize(
        ("true", "rivals", "told"),
        [(5, None, "class 5"), (0, [0], "no rival of itself"), (0, [7], "class 7"), (0, [], "rivals is empty")],
    )
    def test_classes(self, true, rivals, told):
        network = random_network(np.random.default_rng(0), (2, 3, 2))
        with pytest.raises(UsageError, match=told):
            certify_classes(network, self.MOMENTS, true, rivals=rivals)
        with pytest.raises(UsageError, match="one output"):
            certify_classes(LOOP, self.MOMENTS, 0)
