"""Ensembles bounded by one call: no sample leaves, one network alone gives the same, joint demands tighten soundly."""

import numpy as np
import pytest
from reference import random_network

from arfj.bounds import crown_bounds, interval_bounds
from arfj.bounds.together import ensemble_bounds, half_spaces
from arfj.data import bundled_images, bundled_nominal, bundled_outer
from arfj.errors import UsageError
from arfj.region import Region


def ensemble(seed, sizes=(6, 5, 4, 3), scenarios=3):
    first = random_network(sizes, seed, "linear")
    rng = np.random.default_rng(seed)
    others = [first.with_parameters(first.parameters() + 0.03 * rng.normal(size=first.parameters().size)) for _ in "ab"]
    return [first, *others][:scenarios]


def points_of(region, count=400, seed=0):
    """Extreme points and points inside, some of them near the centre."""
    rng = np.random.default_rng(seed)
    extreme = region.maximiser(rng.normal(size=(count, len(region.centre))))
    share = rng.random((count, 1)) ** 2
    return np.vstack([extreme, region.centre + share * (extreme - region.centre)])


def mean_width(bounds):
    return np.mean(np.concatenate([up - low for low, up in zip(bounds.lower, bounds.upper, strict=True)]))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("radius", [0.0, 0.5, 2.0, np.inf])
def test_no_point_leaves(seed, radius):
    networks = ensemble(seed)
    region = Region.around(np.random.default_rng(seed).random(6), radius)
    for network, bounds in zip(networks, ensemble_bounds(networks, region), strict=True):
        assert bounds.hold(network.preactivations(points_of(region)))
        exact = crown_bounds(network, region, 40)
        loose = interval_bounds(network, region)
        assert mean_width(exact) <= mean_width(bounds) + 1e-9 <= mean_width(loose) + 2e-9


def test_a_single_point():
    networks = ensemble(3)
    region = Region.around(np.full(6, 0.3), 0.0)
    for network, bounds in zip(networks, ensemble_bounds(networks, region), strict=True):
        for before, low, up in zip(
            network.preactivations(region.centre[None]), bounds.lower, bounds.upper, strict=True
        ):
            assert low == pytest.approx(before[0], abs=1e-8)
            assert up == pytest.approx(before[0], abs=1e-8)


def demands_of(networks, target):
    """The target's output is at least every other's."""
    rows = np.delete(np.eye(3)[target] - np.eye(3), target, axis=0)
    return [(rows, np.zeros(2)) for _ in networks]


@pytest.mark.parametrize("seed", [0, 1, 2, 3, 4, 6, 7, 8])  # the networks of 5 agree nowhere
def test_what_all_networks_must_fulfil(seed):
    networks = ensemble(seed)
    region = Region.around(np.random.default_rng(seed).random(6), 1.5)
    points = points_of(region, 4000)
    agreed = [np.all([network.classify(points) == c for network in networks], axis=0) for c in range(3)]
    target = int(np.argmax([agree.sum() for agree in agreed]))
    plain = ensemble_bounds(networks, region)
    cuts = half_spaces(networks, plain, region, demands_of(networks, target))
    admissible = points[agreed[target]]
    assert len(admissible)
    assert (admissible @ cuts.rows.T + cuts.offsets >= 0).all()
    for network, bounds, before in zip(networks, ensemble_bounds(networks, region, 20, cuts), plain, strict=True):
        assert bounds.hold(network.preactivations(admissible))
        assert mean_width(bounds) <= mean_width(before) * 1.01


def test_a_demand_cuts_bounds_as_known_by_hand():
    """f(x) = (x1, x2) on [0, 1]^2 with f_1 >= f_2 + 0.5: then x1 >= 0.5 and x2 <= 0.5."""
    from arfj.network import Network

    network = Network.from_arrays([np.eye(2), np.eye(2)], [np.zeros(2), np.zeros(2)], "linear")
    region = Region.around([0.5, 0.5])
    plain = ensemble_bounds([network], region)
    cuts = half_spaces([network], plain, region, [(np.array([[1.0, -1.0]]), np.array([0.5]))])
    (bounds,) = ensemble_bounds([network], region, 60, cuts)
    assert bounds.lower[1][0] == pytest.approx(0.5, abs=0.02)
    assert bounds.upper[1][1] == pytest.approx(0.5, abs=0.02)
    assert bounds.lower[1][0] <= 0.5 <= bounds.upper[1][1]


def test_the_bundled_networks():
    networks = [bundled_nominal(), *bundled_outer()]
    region = Region.around(bundled_images().nominal[3], 20.0)
    for network, bounds in zip(networks, ensemble_bounds(networks, region), strict=True):
        assert bounds.hold(network.preactivations(points_of(region, 100)))
        crown, best = (mean_width(crown_bounds(network, region, steps)) for steps in (0, 30))
        assert crown - mean_width(bounds) > 0.7 * (crown - best)


def test_refused():
    with pytest.raises(UsageError, match="one architecture"):
        ensemble_bounds([random_network((3, 2, 2), 0), random_network((3, 4, 2), 0)], Region.around(np.ones(3)))
    with pytest.raises(UsageError, match="L2"):
        ensemble_bounds([random_network((3, 2, 2), 0)], Region.around(np.ones(3), 0.1, 2))
