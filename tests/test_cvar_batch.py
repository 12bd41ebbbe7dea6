"""Worst-case CVaR of several losses and inputs at once: what goes together is what each is alone."""

import time
from itertools import pairwise

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from arfj.certify.cvar import FAMILIES, Moments, Options, certify_classes, certify_many, constraints, lifted
from arfj.certify.cvar import certificate as certificates
from arfj.certify.cvar import descent as descents
from arfj.certify.cvar.barrier import Barrier
from arfj.certify.cvar.certificate import margin
from arfj.certify.cvar.descent import descend
from arfj.certify.cvar.falsify import falsify
from arfj.certify.cvar.multipliers import Problem
from arfj.errors import UsageError
from arfj.network import Network


def network_of(rng, sizes=(3, 5, 4, 3)):
    weights = [rng.normal(size=pair) / np.sqrt(pair[0]) * 1.5 for pair in pairwise(sizes)]
    return Network.from_arrays(weights, [rng.normal(size=size) * 0.3 for size in sizes[1:]], "linear")


def moments_of(rng, size=3, rank=None):
    root = rng.normal(size=(size, rank or size)) / np.sqrt(size)
    return Moments(rng.normal(size=size), root @ root.T)


def problems_of(rng, family="diagonal", count=4):
    """Losses of one network under moments of their own."""
    network = network_of(rng)
    found = []
    for _ in range(count):
        net = lifted(network, moments_of(rng))
        found.append(Problem(constraints(net, family), net.linear_loss(rng.normal(size=3))))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_stack_of_barriers_is_each_alone(family):
    rng = np.random.default_rng(0)
    problems = problems_of(rng, family)
    mu = np.array([1e-3, 0.1, 1.0, 10.0])
    points = np.array([
        np.append(rng.normal(), one.given.start() * 2 + 0.01 * rng.random(one.given.count)) for one in problems
    ])  # fmt: skip
    together = Barrier(problems, 0.3)
    which = np.array([2, 0, 3])
    at = together.at(which, points[which], mu[which])
    hessians, scales = together.hessian(at, mu[which]), together.scales(at, mu[which])
    for place, k in enumerate(which):
        alone = Barrier([problems[k]], 0.3)
        one = alone.at(np.array([0]), points[k : k + 1], mu[k : k + 1])
        assert np.isfinite(at.value[place])
        assert at.value[place] == pytest.approx(one.value[0], rel=1e-12)
        assert at.slope[place] == pytest.approx(one.slope[0], rel=1e-9, abs=1e-12)
        assert hessians[place] == pytest.approx(alone.hessian(one, mu[k : k + 1])[0], rel=1e-9, abs=1e-12)
        assert scales[place] == pytest.approx(alone.scales(one, mu[k : k + 1])[0], rel=1e-9)


def test_one_outside_leaves_the_others_alone():
    rng = np.random.default_rng(1)
    problems = problems_of(rng, count=3)
    barrier, which, mu = Barrier(problems, 0.3), np.arange(3), np.full(3, 0.1)
    points = np.array([np.append(0.0, one.given.start() + 0.1) for one in problems])
    good = barrier.at(which, points, mu)
    points[1, 1:] *= -1.0
    found = barrier.at(which, points, mu)
    assert np.isfinite(found.value).tolist() == [True, False, True]
    assert found.value[[0, 2]] == pytest.approx(good.value[[0, 2]])
    assert found.slope[[0, 2]] == pytest.approx(good.slope[[0, 2]])


def test_blocks_of_products(monkeypatch):
    """The Gram matrix of the products is the same however it is cut."""
    problems = problems_of(np.random.default_rng(2), "products", 2)
    barrier, which, mu = Barrier(problems, 0.3), np.arange(2), np.array([0.1, 2.0])
    at = barrier.at(which, np.array([np.append(0.0, one.given.start() + 0.01) for one in problems]), mu)
    whole = barrier.hessian(at, mu)
    monkeypatch.setattr("arfj.certify.cvar.barrier.SLAB", 1)
    monkeypatch.setattr("arfj.certify.cvar.barrier.LEAST", 1)
    assert barrier.hessian(at, mu) == pytest.approx(whole, rel=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_together_and_alone(family):
    problems = problems_of(np.random.default_rng(3), family)
    together = descend(problems, 0.2)
    alone = [descend([problem], 0.2)[0] for problem in problems]
    assert [one.status for one in together] == ["optimal"] * 4
    for one, other in zip(together, alone, strict=True):
        assert one.proof.bound == pytest.approx(other.proof.bound, rel=2e-4, abs=2e-4)
        assert [bound for _, bound in one.trace] == sorted((bound for _, bound in one.trace), reverse=True)
    assert len({round(one.proof.bound, 3) for one in together}) == 4, "four problems, not one"


@pytest.mark.parametrize("method", ["first-order", "sdp"])
def test_several_inputs(method):
    """Full, singular and no covariance, two classes: each is what it is alone, and stands above its falsifier."""
    rng = np.random.default_rng(4)
    network = network_of(rng)
    point = Moments(rng.normal(size=3), np.zeros((3, 3)))
    inputs = [(moments_of(rng), 0), (moments_of(rng, rank=1), 1), (point, 2), (moments_of(rng), 2)]
    how = Options("pairs", method)
    found = certify_many(network, inputs, 0.3, how)
    assert [list(one) for one in found] == [[1, 2], [0, 2], [0, 1], [0, 1]]
    for (moments, true), mine in zip(inputs, found, strict=True):
        alone = certify_classes(network, moments, true, 0.3, how)
        for j, one in mine.items():
            assert one.bound == pytest.approx(alone[j].bound, rel=5e-4, abs=5e-4)
            weights = margin(3, j, true)
            lower = falsify(lambda x, w=weights: network(x) @ w, moments, 0.3, one.proof, 10).value
            assert lower <= one.bound + 1e-9 * abs(one.bound)
    outputs = network(point.mean[None])[0]
    assert found[2][0].bound == pytest.approx(outputs[0] - outputs[2], abs=1e-3)
    assert certify_many(network, [], 0.3) == []


def test_what_is_refused():
    rng = np.random.default_rng(5)
    network = network_of(rng)
    good = moments_of(rng)
    with pytest.raises(UsageError, match="class 7"):
        certify_many(network, [(good, 0), (good, 7)])
    with pytest.raises(UsageError, match="no rival of itself"):
        certify_many(network, [(good, 0), (good, 1)], rivals=[1])
    with pytest.raises(UsageError, match="2 inputs; the network takes 3"):
        certify_many(network, [(good, 0), (Moments([0, 0], np.eye(2)), 0)])
    with pytest.raises(UsageError, match="between 0 and 1"):
        certify_many(network, [], 0.0)


class TestChunks:
    """Problems whose second derivatives do not fit into memory at once."""

    @pytest.fixture
    def sizes(self, monkeypatch):
        seen, whole = [], descents._together

        def spy(problems, *rest):
            if problems[0].given.count > 3 * problems[0].given.lifted.hidden:
                seen.append(len(problems))
            return whole(problems, *rest)

        monkeypatch.setattr(descents, "_together", spy)
        return seen

    def test_they_go_in_turn(self, monkeypatch, sizes):
        problems = problems_of(np.random.default_rng(6), "products", 5)
        whole = descend(problems, 0.2)
        monkeypatch.setattr(descents, "LARGEST", 2 * Barrier(problems[:1], 0.2).work)
        found = descend(problems, 0.2, seconds=60.0)
        assert sizes == [5, 2, 2, 1]
        for one, other in zip(found, whole, strict=True):
            assert one.proof.bound == pytest.approx(other.proof.bound, rel=2e-4, abs=2e-4)

    def test_gradients_alone_go_one_by_one(self, monkeypatch, sizes):
        problems = problems_of(np.random.default_rng(6), "products", 2)
        whole = descend(problems, 0.2)
        monkeypatch.setattr(descents, "LARGEST", Barrier(problems[:1], 0.2).work - 1)
        found = descend(problems, 0.2)
        assert sizes == [2, 1, 1]
        for one, other in zip(found, whole, strict=True):
            assert one.status == "stopped"
            assert other.proof.bound - 2e-4 <= one.proof.bound <= other.proof.bound + 0.5


def test_a_time_limit_for_all_together():
    problems = problems_of(np.random.default_rng(7), "products", 6)
    began = time.perf_counter()
    found = descend(problems, 0.2, seconds=1e-3)
    taken = time.perf_counter() - began
    assert {one.status for one in found} == {"time limit"}
    assert all(np.isfinite(one.proof.bound) for one in found)
    best = descend(problems, 0.2)
    assert taken < 5.0
    for one, other in zip(found, best, strict=True):
        assert one.proof.bound >= other.proof.bound - 2e-4


def test_one_that_proves_nothing_stops_no_other(monkeypatch):
    problems = problems_of(np.random.default_rng(8), count=3)
    proof_from = descents.proof_from
    lost = problems[1].loss
    monkeypatch.setattr(
        descents, "proof_from", lambda given, loss, *rest: None if loss is lost else proof_from(given, loss, *rest)
    )
    found = descend(problems, 0.2)
    assert [one.status for one in found] == ["optimal", "stopped", "optimal"]
    assert found[1].proof is None


def test_small_matrices_have_one_thread(monkeypatch):
    rng = np.random.default_rng(9)
    threads = []

    def spy(problems, *rest):
        threads.append(max(pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"))
        return descend(problems, *rest)

    monkeypatch.setattr(certificates, "descend", spy)
    with threadpool_limits(2):
        certify_classes(network_of(rng), moments_of(rng), 0)
    assert threads == [1]
