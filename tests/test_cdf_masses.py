"""Densities: masses of cells against quadrature, finer cells, fractions and SciPy; and densities that are none."""

import itertools
from math import factorial, sqrt

import numpy as np
import pytest
from cdf_cases import IDENTITY, NORMAL, asked, bounds, phi, random_network, uniform
from hypothesis import given, settings
from hypothesis import strategies as st

from arfj.certify.cdf import answers, distribution, regions, units
from arfj.certify.cdf.betas import Betas
from arfj.certify.cdf.densities import Axes, Axis, beta_axis
from arfj.certify.cdf.evaluation import as_fractions, restricted
from arfj.certify.cdf.gaussians import Mixture
from arfj.certify.cdf.mesh import BLOCK, halved, volumes
from arfj.certify.cdf.question import beta
from arfj.certify.cdf.regions import Budget
from arfj.errors import UsageError
from arfj.network import Network


def test_units_change_no_law():
    """Three inputs, deviations from 0.5 to 4: masses in either unit enclose the same, and so do greatest values."""
    rng = np.random.default_rng(2)
    mixture = Mixture(np.array([0.4, 0.6]), rng.normal(size=(2, 3)), np.diag([0.25, 1.0, 16.0])[None])
    other = units.in_units(mixture)
    assert isinstance(other, units.Rescaled)
    assert other.scale.tolist() == [0.5, 1.0, 4.0]
    assert units.in_units(other) is other
    assert units.in_units(NORMAL) is NORMAL
    mesh = regions.triangulated(regions.box_polytope(-np.ones(3), np.ones(3)))[0]
    for _ in range(6):
        mesh = halved(mesh, np.ones(len(mesh.cells), dtype=bool), other.metric).mesh
    one, two = mixture.masses(mesh.points, mesh.cells), other.masses(mesh.points, mesh.cells)
    assert (one[0] <= two[1]).all()
    assert (two[0] <= one[1]).all()
    assert two[1].sum() == pytest.approx(one[1].sum(), rel=1e-6)
    assert other.greatest(mesh.points, mesh.cells) == pytest.approx(mixture.greatest(mesh.points, mesh.cells), rel=1e-6)
    assert other.top == pytest.approx(mixture.top)
    assert other.metric == pytest.approx(mixture.metric)


def test_pieces_of_a_density():
    """Half of the mass on [-1, 0], evenly, and half on [0, 1], as 2 x: F(0.5) = 1/2 + 1/8."""
    axis = Axis((-1.0, 0.0, 1.0), ((0.5,), (0.0, 1.0)))
    low, high = bounds(IDENTITY, [-0.5, 0.0, 0.5], Axes((axis,)))
    assert low == pytest.approx([0.25, 0.5, 0.625], abs=1e-11)
    assert (low <= [0.25, 0.5, 0.625]).all()
    assert (high >= [0.25, 0.5, 0.625]).all()


def test_betas_that_are_no_polynomials():
    from scipy.special import betainc

    density = Betas(((1.5, 2.5),), (-1.0,), (1.0,))
    low, high = bounds(IDENTITY, [0.0], density)
    assert low[0] <= betainc(1.5, 2.5, 0.5) <= high[0]
    assert high[0] - low[0] < 1e-10
    this = asked(
        Network.from_arrays([[[1.0], [1.0]]], [[0.0]], "linear"), Betas(((1.5, 1.5),) * 2, (-1.0,) * 2, (1.0,) * 2)
    )
    budget = Budget(5000)
    found = answers.one_output(this.pieces(budget), this, 0, np.zeros(1), budget, 0.02).bounds
    assert found.lower[0] <= 0.5 <= found.upper[0]
    assert found.upper[0] - found.lower[0] < 0.05


@given(st.lists(st.tuples(st.floats(1, 40), st.floats(1, 40)), min_size=2, max_size=3), st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_masses_of_betas_enclose_those_of_finer_cells(parameters, seed):
    """Random simplices in the box, its corners among them: halving never leaves the bounds, and they close in."""
    d, rng = len(parameters), np.random.default_rng(seed)
    density = Betas(tuple(parameters), (-1.0,) * d, (2.0,) * d)
    corners = rng.uniform(-1, 2, (d + 1, d))
    corners[0] = np.where(rng.random(d) < 0.5, corners[0], rng.choice([-1.0, 2.0], d))
    mesh = regions.simplices.Mesh(corners, np.arange(d + 1)[None], np.zeros((d + 1, 0)))
    low, high = density.masses(mesh.points, mesh.cells)
    assert (density.greatest(mesh.points, mesh.cells) * np.abs(volumes(corners, mesh.cells)[0]) >= low).all()
    first = high.sum() - low.sum()
    for _ in range(4 * d):
        mesh = halved(mesh, np.ones(len(mesh.cells), dtype=bool)).mesh
        finer = tuple(side.sum() for side in density.masses(mesh.points, mesh.cells))
        assert low.sum() <= finer[1] * (1 + 1e-9)
        assert finer[0] <= high.sum() * (1 + 1e-9)
    x = rng.dirichlet(np.ones(d + 1), 4000) @ corners
    values = np.prod([beta_density(column, *pair) for column, pair in zip(x.T, parameters, strict=True)], axis=0)
    size = float(np.abs(volumes(corners, np.arange(d + 1)[None])[0][0]))
    room = 6 * values.std() / np.sqrt(4000) * size + 1e-12
    assert low.sum() - room <= values.mean() * size <= high.sum() + room
    assert finer[1] - finer[0] <= 0.7 * first + 3e-9


def test_masses_of_betas_close_in_as_the_square_of_the_size():
    """A simplex and the same at half its size: bounds of the mean are four times as near, around the exact one."""
    parameters = ((3, 2), (2, 4))
    smooth, exact = Betas(parameters, (0.0, 0.0), (1.0, 1.0)), Axes((beta_axis(3, 2, 0, 1), beta_axis(2, 4, 0, 1)))
    corners, gaps = np.array([[0.3, 0.3], [0.36, 0.31], [0.33, 0.37]]), []
    for scale in (1.0, 0.5, 0.25):
        points, cells = corners[0] + scale * (corners - corners[0]), np.array([[0, 1, 2]])
        low, high = smooth.masses(points, cells)
        least, most = exact.masses(points, cells)
        assert low[0] <= most[0]
        assert least[0] <= high[0]
        gaps.append(float((high - low)[0] / most[0]))
    assert gaps[0] < 0.03
    for one, two in itertools.pairwise(gaps):
        assert 3.5 < one / two < 4.5


@pytest.mark.parametrize("off", [-9.9e-10, 1e-10, 9.9e-10])
@pytest.mark.parametrize("radius", [2.0, 9.0])
def test_weights_that_nearly_add_up_to_1_are_divided(off, radius):
    """f(x) = x: below y there is between Phi(y) - Phi(-r) and that plus all that lies outside the box."""
    mixture = Mixture(np.array([1 + off]), np.zeros((1, 1)), np.ones((1, 1, 1)))
    assert mixture.weights.tolist() == [1.0]
    y = np.array([0.0, 1.0])
    low, high = bounds(IDENTITY, y, mixture, low=-radius, high=radius)
    below = np.array([phi(one) for one in y]) - phi(-radius)
    assert (low <= below + 1e-15).all()
    assert (high >= below + 2 * phi(-radius) - 1e-15).all()
    assert (high - low).max() < 2 * phi(-radius) + 1e-8


@pytest.mark.parametrize("off", [-9e-10, 9e-10])
def test_a_polynomial_that_nearly_integrates_to_1_is_divided(off):
    axis = Axis((-1.0, 1.0), ((0.5 + off / 2,),))
    assert axis.integral == 1
    assert Axis((-1.0, 1.0), ((0.5,),)).coefficients == ((0.5,),)
    low, high = bounds(IDENTITY, [-0.5, 0.0], Axes((axis,)))
    assert (low <= [0.25, 0.5]).all()
    assert (high >= [0.25, 0.5]).all()
    assert (high - low).max() < 1e-12


def beta_density(x, a, b):
    from scipy.stats import beta as law

    return law.pdf((x + 1) / 3, a, b) / 3


def test_masses_in_fractions_end_with_the_time():
    """Two cells of 24 are weighed; the others have any mass up to what the density's top allows."""
    network = random_network((2, 4, 2), 3)
    this = asked(network, Axes((beta_axis(3, 2, -1, 1), beta_axis(2, 4, -1, 1))))
    pieces = this.pieces(exact=True)
    y = as_fractions(np.array([-0.5, 0.1, 0.7]))
    whole = answers.one_output(pieces, this, 0, y, Budget(), 0.0).bounds
    honest, calls = Axes.masses, []

    def slow(self, points, cells):
        calls.append(len(cells))
        if len(calls) == 2:
            object.__setattr__(budget, "until", 0.0)
        return honest(self, points, cells)

    budget = Budget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Axes, "masses", slow)
        patch.setattr(distribution, "QUICK", 0.0)
        found = answers.one_output(pieces, this, 0, y, budget, 0.0)
    assert calls == [1, 1]
    assert not found.reached
    assert (found.bounds.lower <= whole.lower).all()
    assert (found.bounds.upper >= whole.upper).all()
    assert (found.bounds.upper > found.bounds.lower).any()


def test_whole_betas_agree_with_scipy():
    from scipy.special import betainc

    low, high = bounds(IDENTITY, [-0.3, 0.6], Axes((beta_axis(3, 5, -1, 1),)))
    true = betainc(3, 5, [0.35, 0.8])
    assert (low <= true + 1e-15).all()
    assert (high >= true - 1e-15).all()
    assert (high - low).max() < 1e-11


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Axis((0.0, 1.0), ((-1.0, 3.0),)), "may be negative"),
        (lambda: Axis((0.0, 1.0), ((0.5,),)), "integrates to 0.5"),
        (lambda: Axis((1.0, 0.0), ((1.0,),)), "do not rise"),
        (lambda: Mixture(np.array([0.7, 0.7]), np.zeros((2, 1)), np.ones((1, 1, 1))), "add up to 1.4"),
        (lambda: Mixture(np.array([1.5, -0.5]), np.zeros((2, 1)), np.ones((1, 1, 1))), "the least is -0.5"),
        (lambda: Mixture(np.ones(1), np.zeros((1, 2)), np.array([[[1.0, 2.0], [2.0, 1.0]]])), "positive definite"),
        (lambda: beta([(0.5, 1.0)], np.zeros(1), np.ones(1)), "not bounded"),
        (lambda: asked(IDENTITY, NORMAL, 1.0, -1.0), "is empty"),
        (lambda: asked(IDENTITY, NORMAL, 1.0, 1.0), "no mass"),
        (lambda: restricted(IDENTITY, np.zeros(1), (1,)), "not distinct indices"),
    ],
)
def test_bad_input_is_one_clear_line(make, words):
    with pytest.raises(UsageError, match=words):
        make()


@pytest.mark.parametrize("density", [uniform(1, 0.0, 1.0), Betas(((1.5, 2.5),), (0.0,), (1.0,))])
def test_a_product_has_its_density_on_the_box(density):
    with pytest.raises(UsageError, match=r"input 0 is one on \[0, 1\], its box is \[0, 2\]; expected the same"):
        asked(IDENTITY, density, 0.0, 2.0)


@pytest.mark.parametrize("seed", range(4))
def test_masses_of_triangles_against_quadrature(seed):
    """Owen's T against an integral of normal distribution functions along x."""
    from scipy.integrate import quad
    from scipy.special import ndtr

    rng = np.random.default_rng(seed)
    a, b, c = sorted((rng.normal(size=(3, 2)) * 1.5).tolist())
    mixture = Mixture(np.ones(1), np.zeros((1, 2)), np.eye(2)[None])
    low, high = mixture.masses(np.array([a, b, c]), np.array([[0, 1, 2]]))

    def height(x):
        over = a[1] + (c[1] - a[1]) * (x - a[0]) / (c[0] - a[0])
        p, q = (a, b) if x < b[0] else (b, c)
        under = p[1] + (q[1] - p[1]) * (x - p[0]) / (q[0] - p[0])
        return abs(ndtr(over) - ndtr(under)) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)

    true = quad(height, a[0], b[0], epsabs=1e-14)[0] + quad(height, b[0], c[0], epsabs=1e-14)[0]
    assert low[0] - 1e-13 <= true <= high[0] + 1e-13
    assert high[0] - low[0] < 1e-11


def test_masses_in_three_inputs_enclose_those_of_finer_cells():
    rng = np.random.default_rng(3)
    mixture = Mixture(np.array([0.4, 0.6]), rng.normal(size=(2, 3)) * 0.5, np.array([np.eye(3), 0.5 * np.eye(3)]))
    mesh = regions.triangulated(regions.box_polytope(-np.ones(3), np.ones(3)))[0]
    low, high = (side.sum() for side in mixture.masses(mesh.points, mesh.cells))
    for _ in range(6):
        mesh = halved(mesh, np.ones(len(mesh.cells), dtype=bool)).mesh
        finer = tuple(side.sum() for side in mixture.masses(mesh.points, mesh.cells))
        assert low <= finer[1]
        assert finer[0] <= high
        size = np.abs(volumes(mesh.points, mesh.cells)[0])
        assert (mixture.greatest(mesh.points, mesh.cells) * size >= mixture.masses(mesh.points, mesh.cells)[0]).all()
        low, high = max(low, finer[0]), min(high, finer[1])
    phis = np.array([phi(1 - m) - phi(-1 - m) for m in mixture.means[0]])
    others = np.array([phi((1 - m) / sqrt(0.5)) - phi((-1 - m) / sqrt(0.5)) for m in mixture.means[1]])
    assert low <= 0.4 * phis.prod() + 0.6 * others.prod() <= high
    assert high - low < 1e-3


@pytest.mark.parametrize("d", range(1, 8))
def test_volumes_are_what_fractions_say(d):
    """Up to the rounding that is told; of simplices in several blocks, some of them flat."""
    rng = np.random.default_rng(d)
    points, cells = rng.normal(size=(12, d)), rng.integers(0, 12, (BLOCK + 5, d + 1))
    volume, error = volumes(points, cells)
    assert volume.shape == error.shape == (len(cells),)
    some = np.r_[:4, BLOCK - 2 : BLOCK + 3]
    exact = volumes(as_fractions(points), cells[some])[0]
    assert (np.abs(as_fractions(volume[some]) - exact) <= as_fractions(error[some])).all()
    edges = points[cells[:, 1:]] - points[cells[:, :1]]
    assert volume == pytest.approx(np.linalg.det(edges) / factorial(d), abs=1e-9)
