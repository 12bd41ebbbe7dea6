"""Boxes and polyhedra by hand: closed for proofs, exact and strict for counterexamples."""

import math

import numpy as np
import pytest

from arfj.errors import PropertyError
from arfj.verify.property import Case, Polyhedron, Property

BELOW = Polyhedron([[1.0, -1.0]], [0.0])
"""y0 <= y1"""
STRICTLY_BELOW = Polyhedron([[1.0, -1.0]], [0.0], [True])
SQUARE = Case([0.0, 0.0], [1.0, 1.0], (BELOW,))
EVERYTHING = Polyhedron(np.zeros((0, 2)), [])


def test_margin_of_a_batch_is_the_largest_row():
    band = Polyhedron([[1.0, 0.0], [0.0, 2.0]], [-1.0, 0.5])
    assert band.margin([[3.0, 0.0], [0.0, 1.0]]).tolist() == [2.0, 2.5]
    assert band.margin([0.0, -1.0]).tolist() == -1.0


def test_no_row_is_everything_and_no_polyhedron_is_nothing():
    assert EVERYTHING.margin([5.0, 5.0]) == -math.inf
    assert EVERYTHING.contains(np.array([5.0, 5.0]))
    nothing = Case([0.0], [1.0], ())
    assert nothing.margin([[5.0, 5.0]]).tolist() == [math.inf]
    assert not Property((nothing,), 1, 2).violated([0.5], [5.0, 5.0])


def test_margin_of_a_case_is_the_smallest_polyhedron():
    above = Polyhedron([[-1.0, 1.0]], [0.0])
    case = Case([0.0], [1.0], (BELOW, above))
    assert case.margin([[3.0, 1.0], [1.0, 3.0], [2.0, 2.0]]).tolist() == [-2.0, -2.0, 0.0]


def test_ties_belong_to_closed_rows_only():
    tie = np.array([2.0, 2.0])
    assert BELOW.contains(tie)
    assert not STRICTLY_BELOW.contains(tie)
    assert STRICTLY_BELOW.contains(np.array([2.0, np.nextafter(2.0, 3.0)]))


def test_rows_are_decided_without_rounding():
    # In float64 the sum is 0 or 1 by the order of its terms; exactly it is 1.
    row = Polyhedron([[1.0, 1.0, 1.0]], [0.0])
    assert not row.contains(np.array([1e17, 1.0, -1e17]))
    assert row.contains(np.array([1e17, -1.0, -1e17]))


def test_a_row_reads_only_its_outputs():
    assert not Polyhedron([[1.0, 0.0]], [0.0]).contains(np.array([1e-320, -1e300]))


def test_boxes_have_no_tolerance():
    inside = SQUARE.contains([[0.0, 1.0], [0.0, np.nextafter(1.0, 2.0)], [-5e-324, 0.5], [np.nan, 0.5]])
    assert inside.tolist() == [True, False, False, False]


def test_open_ends_are_outside():
    case = Case([0.0], [1.0], (), open_lower=[True], open_upper=[True])
    points = [0.0, 5e-324, np.nextafter(1.0, 0.0), 1.0]
    assert [bool(case.contains([point])) for point in points] == [False, True, True, False]


def test_clip_agrees_with_contains():
    case = Case([0.0, 0.0], [1.0, 1.0], (), open_upper=[True, False])
    clipped = case.clip([[2.0, 2.0], [-3.0, 0.5]])
    assert clipped.tolist() == [[np.nextafter(1.0, 0.0), 1.0], [0.0, 0.5]]
    assert case.contains(clipped).all()


def test_a_property_is_violated_inside_its_box_and_polyhedron_only():
    prop = Property((SQUARE, Case([5.0, 5.0], [6.0, 6.0], (STRICTLY_BELOW,))), 2, 2)
    assert prop.violated([0.5, 0.5], [1.0, 1.0])
    assert not prop.violated([2.0, 0.5], [1.0, 1.0])
    assert not prop.violated([0.5, 0.5], [1.1, 1.0])
    assert not prop.violated([5.0, 5.0], [1.0, 1.0])
    assert prop.violated([5.0, 5.0], [0.9, 1.0])


@pytest.mark.parametrize("y", [[np.nan, 0.0], [-np.inf, 0.0], [0.0, np.inf]])
def test_outputs_that_are_no_numbers_are_no_counterexample(y):
    assert not Property((Case([0.0], [1.0], (EVERYTHING, BELOW)),), 1, 2).violated([0.5], y)


def test_records_are_frozen_copies():
    lower = np.zeros(2)
    case = Case(lower, np.ones(2), ())
    lower[0] = 9.0
    assert case.lower[0] == 0.0
    for array in (case.lower, case.upper, case.open_lower, BELOW.matrix, BELOW.offset, BELOW.strict):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Polyhedron([[1.0]], [1.0, 2.0]), "(rows, outputs)"),
        (lambda: Polyhedron([[np.nan]], [1.0]), "NaN"),
        (lambda: Polyhedron([["a"]], [1.0]), "numbers"),
        (lambda: Polyhedron([[1.0]], [1.0], [True, False]), "strict"),
        (lambda: Case([0.0], [1.0, 2.0], ()), "shapes"),
        (lambda: Case([0.0, 2.0], [1.0, 1.0], ()), "input 1"),
        (lambda: Case([0.0], [np.inf], ()), "infinity"),
        (lambda: Case([0.0], [1.0], (), [True, True]), "open_lower"),
        (lambda: Property((), 1, 2), "reason"),
        (lambda: Property((SQUARE,), 2, 2, "no case"), "not both"),
        (lambda: Property((SQUARE,), 3, 2), "inputs"),
        (lambda: Property((SQUARE,), 2, 3), "outputs"),
        (lambda: Property((SQUARE,), 2, 2).violated([0.5], [0.0, 0.0]), "shapes"),
    ],
)
def test_parts_that_do_not_fit_are_refused(make, words):
    with pytest.raises(PropertyError) as caught:
        make()
    assert words in str(caught.value)
