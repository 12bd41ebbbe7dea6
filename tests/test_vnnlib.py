"""VNN-LIB files: known by hand, drawn at random against an evaluator of formulas, and broken in every way."""

import gzip
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arfj.errors import PropertyError
from arfj.verify.vnnlib import parse_property, read_property

DATA = Path(__file__).parents[2] / "shared" / "data" / "vnncomp"


def declared(inputs=1, outputs=2):
    names = [f"X_{i}" for i in range(inputs)] + [f"Y_{j}" for j in range(outputs)]
    return "".join(f"(declare-const {name} Real)\n" for name in names)


UNIT = "(assert (>= X_0 0))\n(assert (<= X_0 1))\n"
"""Lines 4 and 5 behind `declared()`."""


def unit_property(assertion):
    return parse_property(declared() + UNIT + assertion)


def only_polyhedron(assertion):
    (case,) = unit_property(assertion).cases
    (polyhedron,) = case.unsafe
    return polyhedron


# --- By hand ---------------------------------------------------------------------------------------------------------


def test_a_robustness_property():
    prop = parse_property(
        """
        ; a comment (with a parenthesis
        (declare-const X_0 Real) (declare-const X_1 Real)
        (declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real)
        (assert (<= X_0 0.75)) (assert (>= X_0 0.25))
        (assert (<= X_1 1)) (assert (>= X_1 -1e-3))
        (assert (or (and (>= Y_0 Y_2)) (and (>= Y_1 Y_2))))
        """
    )
    (case,) = prop.cases
    assert (prop.inputs, prop.outputs, prop.vacuous) == (2, 3, "")
    assert case.lower.tolist() == [0.25, np.nextafter(-1e-3, -1) if Fraction(-1e-3) > Fraction("-1e-3") else -1e-3]
    assert case.upper.tolist() == [0.75, 1.0]
    assert [polyhedron.matrix.tolist() for polyhedron in case.unsafe] == [[[-1, 0, 1]], [[0, -1, 1]]]
    assert [polyhedron.offset.tolist() for polyhedron in case.unsafe] == [[0], [0]]


@pytest.mark.parametrize("line", [";" * 4000, "; " * 4000, ";\t" * 3000 + ";"])
def test_a_line_of_semicolons_is_a_comment(line):
    """Read once, not in all the ways to cut it."""
    text = declared() + UNIT + "(assert (>= Y_0 Y_1))"
    assert len(parse_property(line + "\n" + text).cases) == len(parse_property(text).cases)
    with pytest.raises(PropertyError):
        parse_property(line)


def test_a_conjunction_of_outputs_is_one_polyhedron():
    prop = parse_property(declared(1, 3) + UNIT + "(assert (<= Y_0 Y_1))(assert (and (<= Y_0 Y_2) (>= Y_2 1.5)))")
    (polyhedron,) = prop.cases[0].unsafe
    assert polyhedron.matrix.tolist() == [[1, -1, 0], [1, 0, -1], [0, 0, -1]]
    assert polyhedron.offset.tolist() == [0, 0, 1.5]


def test_boxes_and_outputs_in_separate_disjunctions():
    """The shape of ACAS Xu property 6: two boxes, each with the same unsafe outputs."""
    prop = parse_property(
        declared(2, 3)
        + """(assert (or (and (<= X_0 2) (>= X_0 1) (>= X_1 0) (<= X_1 1))
                         (and (<= X_0 -1) (>= X_0 -2) (>= X_1 0) (<= X_1 1))))
             (assert (or (and (<= Y_1 Y_0)) (and (<= Y_2 Y_0))))"""
    )
    assert [(case.lower.tolist(), case.upper.tolist()) for case in prop.cases] == [
        ([1, 0], [2, 1]),
        ([-2, 0], [-1, 1]),
    ]
    assert [len(case.unsafe) for case in prop.cases] == [2, 2]
    assert prop.cases[0].unsafe[0] is prop.cases[1].unsafe[0]


def test_conjunctions_of_outputs_in_a_disjunction():
    """The shape of ACAS Xu properties 7 and 8."""
    prop = unit_property("(assert (or (and (<= Y_0 Y_1) (<= Y_0 3)) (and (>= Y_1 1) (>= Y_0 2) (<= Y_0 7))))")
    assert [len(polyhedron.offset) for polyhedron in prop.cases[0].unsafe] == [2, 3]


def test_inputs_and_outputs_mixed_in_one_disjunction():
    """The shape of the database benchmarks: each disjunct has its own box; equal boxes share a case."""
    prop = parse_property(
        declared(1, 1)
        + """(assert (or (and (>= X_0 0) (<= X_0 1) (<= Y_0 0.5))
                         (and (>= X_0 0) (<= X_0 1) (>= Y_0 2))
                         (and (>= X_0 1) (<= X_0 2) (>= Y_0 2))))"""
    )
    assert [(case.lower[0], case.upper[0], len(case.unsafe)) for case in prop.cases] == [(0, 1, 2), (1, 2, 1)]


def test_disjunctions_inside_conjunctions_multiply():
    prop = unit_property("(assert (and (or (<= Y_0 0) (<= Y_0 1)) (or (>= Y_1 0) (>= Y_1 1) (>= Y_1 2))))")
    assert len(prop.cases[0].unsafe) == 6


def test_bounds_intersect():
    (case,) = unit_property(
        "(assert (<= X_0 0.5)) (assert (<= X_0 2)) (assert (<= -3 X_0)) (assert (>= X_0 .25))"
    ).cases
    assert (case.lower[0], case.upper[0]) == (0.25, 0.5)


def test_only_inputs_asserted_makes_every_output_unsafe():
    assert unit_property("").violated([0.5], [7.0, -7.0])


@pytest.mark.parametrize(
    ("term", "matrix", "offset"),
    [
        ("(<= (+ Y_0 Y_1 1) 3)", [[1, 1]], [-2]),
        ("(<= (- Y_0 Y_1) 0.5)", [[1, -1]], [-0.5]),
        ("(>= (- Y_0) (- 1.0))", [[1, 0]], [-1]),
        ("(<= (* 2 Y_0) (* Y_1 -4))", [[2, 4]], [0]),
        ("(<= (* 4 Y_0) 2)", [[1, 0]], [-0.5]),
        ("(<= (* 2 (+ Y_0 (* 3 Y_1))) (- Y_0 1e1 2))", [[1, 6]], [12]),
        ("(<= (/ Y_0 2) (/ 1 8))", [[1, 0]], [-0.25]),
        ("(= Y_0 2.5E+0)", [[1, 0], [-1, 0]], [-2.5, 2.5]),
        ("(<= Y_1 (+ Y_0 (- Y_0 Y_0)))", [[-1, 1]], [0]),
    ],
)
def test_linear_terms(term, matrix, offset):
    polyhedron = only_polyhedron(f"(assert {term})")
    assert polyhedron.matrix.tolist() == matrix
    assert polyhedron.offset.tolist() == offset


@pytest.mark.parametrize(("text", "value"), [("(<= 1 2)", True), ("(< (+ 1 1) 2)", False), ("(<= Y_0 Y_0)", True)])
def test_constant_comparisons(text, value):
    prop = unit_property(f"(assert {text})")
    assert bool(prop.cases) is value
    assert value or "cannot all hold" in prop.vacuous


def test_commands_without_meaning_here_are_skipped():
    text = '(set-logic QF_LRA)(set-info :source |a (quoted ; one|)(set-info :status "s)at")'
    text += declared(0, 1) + "(declare-fun X_0 () Real)" + UNIT + "(assert (<= Y_0 0))(check-sat)(get-model)(exit)"
    assert parse_property(text).cases[0].unsafe[0].matrix.tolist() == [[1]]


# --- Rounding, strictness, emptiness ---------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["0.1", "0.3", "-0.1", "-0.7", "0.029999999329447746", "1e-400", "-1e-400", "0.5"])
def test_boxes_are_rounded_outwards_by_at_most_one_float(text):
    (case,) = parse_property(declared(1, 1) + f"(assert (= X_0 {text}))").cases
    lower, upper = case.lower[0], case.upper[0]
    assert Fraction(lower) <= Fraction(text) <= Fraction(upper)
    assert upper in (lower, np.nextafter(lower, np.inf))


@pytest.mark.parametrize("text", ["0.1", "0.3", "-0.1", "-0.7", "123456789.123456789", "-0.1e-3"])
@pytest.mark.parametrize("operator", ["<=", ">="])
def test_offsets_are_rounded_so_that_the_unsafe_set_grows(text, operator):
    polyhedron = only_polyhedron(f"(assert ({operator} Y_0 {text}))")
    exact = Fraction(text) * (-1 if operator == "<=" else 1)
    assert Fraction(polyhedron.offset[0]) <= exact < Fraction(np.nextafter(polyhedron.offset[0], np.inf))


def test_decimal_coefficients_stay_in_proportion():
    matrix = only_polyhedron("(assert (<= (+ (* 0.1 Y_0) (* 0.3 Y_1)) 0))").matrix
    assert 3 * Fraction(matrix[0, 0]) == Fraction(matrix[0, 1])
    assert 0.1 <= matrix[0, 0] < 0.2


def test_coefficients_of_more_than_53_bits_are_the_nearest():
    matrix = only_polyhedron("(assert (<= (* 0.8414709848078965 Y_0) (* 0.9092974268256817 Y_1)))").matrix
    assert matrix.tolist() == [[0.8414709848078965, -0.9092974268256817]]


def test_strict_bounds_are_closed_for_proofs_and_open_for_counterexamples():
    prop = parse_property(declared(1, 1) + "(assert (< X_0 0.5))(assert (> X_0 0.1))(assert (> Y_0 1))")
    (case,) = prop.cases
    assert case.upper[0] == 0.5
    assert Fraction(case.lower[0]) <= Fraction("0.1")
    assert case.unsafe[0].margin([1.0]) == 0
    above_1 = np.nextafter(1.0, 2.0)
    first = 0.1 if Fraction(0.1) > Fraction("0.1") else np.nextafter(0.1, 1)
    violated = [
        prop.violated([x], [y]) for x, y in [(0.3, 1.0), (0.3, above_1), (0.5, above_1), (case.lower[0], above_1)]
    ]
    assert violated == [False, True, False, False]
    assert prop.violated([first], [above_1])
    assert prop.violated([np.nextafter(0.5, 0)], [above_1])


@pytest.mark.parametrize("bounds", ["(<= X_0 -0.1)", "(< X_0 0)", "(and (<= X_0 0.1) (> X_0 0.1))"])
def test_empty_boxes_are_dropped_with_a_reason(bounds):
    prop = unit_property(f"(assert (<= Y_0 0)) (assert {bounds})")
    assert prop.cases == ()
    assert "X_0 contradict" in prop.vacuous
    prop = unit_property(f"(assert (<= Y_0 0)) (assert (or {bounds} (<= X_0 0.5)))")
    assert [case.upper[0] for case in prop.cases] == [0.5]


def test_emptiness_is_exact():
    """Two decimals between the same two floats: the box is empty, although the rounded one is not."""
    low, high = "0.1000000000000000000001", "0.1000000000000000000002"
    assert float(low) == float(high)
    bounds = "(assert (>= X_0 {}))(assert (<= X_0 {}))(assert (<= Y_0 0))"
    assert parse_property(declared(1, 1) + bounds.format(low, high)).cases
    assert not parse_property(declared(1, 1) + bounds.format(high, low)).cases


# --- At random, against an evaluator ---------------------------------------------------------------------------------


def evaluated(text, values):
    """Whether all assertions hold at these exact values: a tiny evaluator that shares nothing with the reader."""
    tokens = iter(re.findall(r"[()]|[^\s()]+", re.sub(";.*", "", text)))

    def form(word):
        if word != "(":
            return word
        items = []
        while (item := next(tokens)) != ")":
            items.append(form(item))
        return items

    operations = {
        "<=": lambda a, b: a <= b,
        ">=": lambda a, b: a >= b,
        "<": lambda a, b: a < b,
        ">": lambda a, b: a > b,
        "=": lambda a, b: a == b,
        "and": lambda *a: all(a),
        "or": lambda *a: any(a),
        "+": lambda *a: sum(a),
        "-": lambda *a: -a[0] if len(a) == 1 else a[0] - sum(a[1:]),
        "*": lambda a, b: a * b,
        "/": lambda a, b: a / b,
    }

    def value(item):
        if isinstance(item, list):
            return operations[item[0]](*map(value, item[1:]))
        return values[item] if item in values else Fraction(item)

    return all(value(command[1]) for command in map(form, tokens) if command[0] == "assert")


DYADIC = [Fraction(k, 4) for k in range(-6, 7)]
DECIMALS = [Fraction(k, 10) for k in range(-12, 13)]


@st.composite
def numerals(draw, values, plain=False):
    value = draw(st.sampled_from(values))
    digits = f"{float(abs(value))}"
    sign = "-" if value < 0 else ""
    fraction = f"(/ {value.numerator} {value.denominator})"
    styles = [f"{sign}{digits}", f"{sign}{digits}e+0", f"{sign}{float(abs(value) * 100)}E-2", fraction]
    if plain:
        styles = styles[:1]
    return draw(st.sampled_from([*styles, f"(- {digits})"] if value < 0 else styles))


@st.composite
def terms(draw, variables, values, plain):
    """A linear term over some of the variables."""
    parts = [draw(numerals(values, plain))]
    for variable in draw(st.lists(st.sampled_from(variables), min_size=1, max_size=3)):
        factor = draw(numerals(values, plain))
        forms = [variable, f"(- {variable})", f"(* {factor} {variable})", f"(* {variable} {factor})"]
        parts.append(draw(st.sampled_from(forms)))
    draw(st.randoms()).shuffle(parts)
    return draw(st.sampled_from([f"(+ {' '.join(parts)})", f"(- {' '.join(parts)})"]))


@st.composite
def atoms(draw, inputs, outputs, values, plain):
    operator = draw(st.sampled_from(["<=", ">=", "<", ">", "="]))
    kind = draw(st.sampled_from(["bound", "compare", "term"]))
    if kind == "bound":
        variable = draw(st.sampled_from([*inputs, *inputs, *outputs]))
        sides = [variable, draw(numerals(values, plain))]
    elif kind == "compare":
        sides = [draw(st.sampled_from(outputs)), draw(st.sampled_from(outputs))]
    else:
        sides = [
            draw(terms(outputs, values, plain)),
            draw(st.one_of(numerals(values, plain), terms(outputs, values, plain))),
        ]
    return f"({operator} {' '.join(draw(st.permutations(sides)))})"


def formulas(inputs, outputs, values, plain):
    return st.recursive(
        atoms(inputs, outputs, values, plain),
        lambda inner: st.builds(
            lambda word, parts: f"({word} {' '.join(parts)})",
            st.sampled_from(["and", "or"]),
            st.lists(inner, min_size=1, max_size=3),
        ),
        max_leaves=6,
    )


@st.composite
def properties(draw, values, plain=False):
    """A text with bounds on all inputs and some formulas, and points on and around its constants."""
    inputs = [f"X_{i}" for i in range(draw(st.integers(1, 3)))]
    outputs = [f"Y_{j}" for j in range(draw(st.integers(1, 3)))]
    lines = [f"(declare-const {name} Real)" for name in inputs + outputs]
    half = len(values) // 2
    for name in inputs:
        for signs, constants in (((">=", ">"), values[:half]), (("<=", "<"), values[half:])):
            lines.append(f"(assert ({draw(st.sampled_from(signs))} {name} {draw(numerals(constants, plain))}))")
    found = draw(st.lists(formulas(inputs, outputs, values, plain), min_size=1, max_size=3))
    lines += [f"(assert {formula})" for formula in found]
    text = draw(st.sampled_from(["\n", " ", "\n; (a comment\n", "\t\r\n"])).join(lines) + "\n"
    point = st.lists(
        st.builds(
            lambda value, step: float(value) if not step else float(np.nextafter(float(value), step * 9.0)),
            st.sampled_from(values),
            st.sampled_from([0, 0, 0, -1, 1]),
        ),
        min_size=len(inputs) + len(outputs),
        max_size=len(inputs) + len(outputs),
    )
    return text, inputs + outputs, len(inputs), draw(st.lists(point, min_size=10, max_size=30))


@given(properties(DYADIC))
def test_membership_is_exact_where_the_constants_are_floats(drawn):
    text, names, inputs, points = drawn
    prop = parse_property(text)
    for point in points:
        expected = evaluated(text, dict(zip(names, map(Fraction, point), strict=True)))
        assert prop.violated(point[:inputs], point[inputs:]) is expected


@given(properties(DECIMALS))
def test_no_counterexample_is_lost_to_decimals(drawn):
    text, names, inputs, points = drawn
    prop = parse_property(text)
    for point in points:
        if evaluated(text, dict(zip(names, map(Fraction, point), strict=True))):
            x, y = np.array(point[:inputs]), np.array(point[inputs:])
            covered = [
                (case.lower <= x).all() and (x <= case.upper).all() and case.margin(y) <= 1e-12 for case in prop.cases
            ]
            assert any(covered), "a proof would not look at this counterexample"


# --- Broken ----------------------------------------------------------------------------------------------------------

LINE = 6
"""Where the assertion stands behind `declared()` (three lines) and `UNIT` (two)."""


@pytest.mark.parametrize(
    ("assertion", "words"),
    [
        ("(assert (<= X_1 0))", "'X_1' is not declared"),
        ("(assert (<= Y_2 0))", "'Y_2' is not declared"),
        ("(assert (<= x_0 0))", "neither a declared variable nor a decimal number"),
        ("(assert (<= Y_0 1..0))", "'1..0'"),
        ("(assert (<= Y_0 nan))", "'nan'"),
        ("(assert (<= Y_0 inf))", "'inf'"),
        ("(assert (<= Y_0 0x10))", "'0x10'"),
        ("(assert (<= Y_0 1_000))", "'1_000'"),
        ("(assert (<= Y_0 \u0661))", "neither"),
        ("(assert (<= Y_0 1e99999))", "beyond float64"),
        ("(assert (<= X_0 Y_0))", "inputs X and outputs Y"),
        ("(assert (<= (+ X_0 Y_0) 1))", "inputs X and outputs Y"),
        ("(assert (<= (* Y_0 Y_1) 1))", "multiplied"),
        ("(assert (<= (/ 1 Y_0) 1))", "divides"),
        ("(assert (<= (/ Y_0 0) 1))", "divides"),
        ("(assert (<= (/ Y_0) 1))", "divides"),
        ("(assert (<= (+) 1))", "no argument"),
        ("(assert (<= (sin Y_0) 1))", "'sin' is not supported here; expected <="),
        ("(assert (<= Y_0))", "1 arguments"),
        ("(assert (<= Y_0 1 2))", "3 arguments"),
        ("(assert (or))", "empty"),
        ("(assert (and))", "empty"),
        ("(assert (or Y_0))", "expected formulas"),
        ("(assert (or (+ Y_0 1)))", "expected formulas"),
        ("(assert (<= (and (<= Y_0 1)) 1))", "a formula stands where"),
        ("(assert (<= () 1))", "a formula stands where"),
        ("(assert ((<= Y_0 1)))", "starts with a parenthesis"),
        ("(assert (not (<= Y_0 1)))", "'not'"),
        ("(assert (=> (<= Y_0 1) (<= Y_0 2)))", "'=>'"),
        ("(assert (let ((a 1)) (<= Y_0 a)))", "'a'"),
        ("(assert Y_0)", "no formula"),
        ("(assert)", "no formula"),
        ("(assert (<= Y_0 1) (<= Y_1 1))", "no formula, or more than one"),
        ("(assert (<= Y_0 1)))", "closes nothing"),
        ("(assert (<= Y_0 1)", "never closed"),
        ("(assert (<= Y_0 1) (assert (<= Y_0 2)))", "assert stands inside another form"),
        ("assert (<= Y_0 1)", "outside"),
        ("(push 1)", "no command"),
        ("()", "no command"),
        ("(declare-const Y_0 Real)", "twice"),
        ("(declare-const Z_0 Real)", "'Z_0'"),
        ("(declare-const Y_02 Real)", "'Y_02'"),
        ("(declare-const Y_2 Int)", "'Int'"),
        ("(declare-fun Y_2 (Real) Real)", "'Real'"),
        ("(define-fun f () Real 1)", "no command"),
        ('(assert (<= Y_0 "1"))', "neither"),
        ("(assert (<= Y_0 |Y_1|))", "neither"),
        ("(assert (<= 1 Y_0 ; a comment swallows the rest ))", "never closed"),
        ("(check-sat)(assert (<= Y_0 1))", "check-sat"),
        ("(exit)(declare-const Y_2 Real)", "check-sat or exit"),
    ],
)
def test_broken_lines_are_named(assertion, words):
    with pytest.raises(PropertyError) as caught:
        parse_property(declared() + UNIT + assertion, "a.vnnlib")
    message = str(caught.value)
    assert message.startswith(f"a.vnnlib, line {LINE}: ")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "no X_0 is declared"),
        ("; only a comment", "no X_0 is declared"),
        ("(declare-const X_0 Real)", "no Y_0 is declared"),
        (declared(), "nothing is asserted"),
        ("(declare-const X_1 Real)(declare-const Y_0 Real)", "X_0 is not declared"),
        (declared() + "(declare-const Y_3 Real)", "Y_2 is not declared"),
        (declared() + "(assert (<= Y_0 1))", "X_0 has no lower bound"),
        (declared() + "(assert (>= X_0 0))", "X_0 has no upper bound"),
        (declared() + UNIT.replace("(<= X_0 1)", "(<= X_0 1e309)"), "beyond float64"),
        (declared(2) + UNIT + "(assert (or (= X_1 1) (<= X_1 2)))", "X_1 has no lower bound"),
        (declared(2) + UNIT + "(assert (or (= X_1 1) (= Y_0 2)))", "X_1 has no lower bound"),
    ],
)
def test_incomplete_files_say_what_is_missing(text, words):
    with pytest.raises(PropertyError) as caught:
        parse_property(text, "a.vnnlib")
    assert str(caught.value).startswith("a.vnnlib")
    assert words in str(caught.value)


def test_two_inputs_in_one_atom_are_refused_by_name():
    with pytest.raises(PropertyError, match="X_0 and X_1 are compared"):
        parse_property(declared(2) + "(assert (<= X_0 X_1))")


def test_long_numbers_are_refused_before_they_are_read():
    with pytest.raises(PropertyError, match=r"beyond float64"):
        unit_property(f"(assert (<= Y_0 {'1' * 100_000}))")


def test_a_form_that_explodes_is_refused():
    with pytest.raises(PropertyError, match="disjuncts"):
        unit_property("(assert (or (<= Y_0 0) (>= Y_1 0)))" * 17)
    with pytest.raises(PropertyError, match="disjuncts"):
        unit_property("(assert (and " + "(or (<= Y_0 0) (>= Y_1 0))" * 17 + "))")
    assert len(unit_property("(assert (or (<= Y_0 0) (>= Y_1 0)))" * 8).cases[0].unsafe) <= 256


def test_nesting_has_no_limit():
    depth = 30_000
    prop = unit_property("(assert " + "(and " * depth + "(<= Y_0 1)" + ")" * depth + ")")
    assert prop.cases[0].unsafe[0].offset.tolist() == [-1]


# --- Files -----------------------------------------------------------------------------------------------------------


def test_files_plain_and_packed(tmp_path):
    text = declared() + UNIT + "(assert (<= Y_0 Y_1))"
    (tmp_path / "a.vnnlib").write_text("\ufeff" + text, encoding="utf-8")
    (tmp_path / "a.vnnlib.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.vnnlib", "a.vnnlib.gz"):
        assert read_property(tmp_path / name).cases[0].unsafe[0].matrix.tolist() == [[1, -1]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (declared().encode() + b"; caf\xe9", "line 4: not UTF-8"),
        (gzip.compress(declared().encode(), mtime=0)[:-9], "broken or truncated"),
        (b"\x1f\x8bnothing", "broken or truncated"),
        (b"\x00\x01\x02", "outside of any form"),
    ],
)
def test_broken_files_are_one_line(tmp_path, content, words):
    path = tmp_path / "a.vnnlib"
    path.write_bytes(content)
    with pytest.raises(PropertyError) as caught:
        read_property(path)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_files_are_one_line(tmp_path):
    with pytest.raises(PropertyError, match="does not exist"):
        read_property(tmp_path / "no.vnnlib")
    with pytest.raises(PropertyError, match="is a folder"):
        read_property(tmp_path)


def test_the_files_of_vnn_comp_are_read():
    files = sorted(DATA.glob("*/*.vnnlib*"))
    if not files:
        pytest.skip(f"no benchmark files in {DATA}")
    shapes = {"acasxu": (5, 5), "mnistfc": (784, 10), "cifar10_resnet": (3072, 10), "oval21": (3072, 10)}
    for path in files:
        prop = read_property(path)
        assert (prop.inputs, prop.outputs) == shapes[path.parent.name], path
        assert len(prop.cases) == 1, path
        assert len(prop.cases[0].unsafe) == {"acasxu": 1}.get(path.parent.name, 9) or path.stem == "prop_5", path


def test_acas_xu_property_5():
    path = DATA / "acasxu" / "prop_5.vnnlib"
    if not path.exists():
        pytest.skip(f"no benchmark files in {DATA}")
    (case,) = read_property(path).cases
    assert case.contains([-0.323, 0.05, -0.4995, -0.3, -0.3])
    assert not case.contains([-0.323, 0.05, -0.4995, -0.3, 0.0])
    assert case.margin([[1, 1, 1, 1, 0], [1, 1, 1, 0, 0.5], [0, 1, 1, 1, 0]]).tolist() == [1, -0.5, 0]
