r"""What is asked: whether some input of a set drives the outputs into an unsafe set.

    falsified  <=>  a case has an x with lower <= x <= upper and A f(x) + d <= 0 for one of its polyhedra (A, d)

A VNN-LIB file in disjunctive form is a tuple of cases: each has a box and a disjunction of polyhedra of outputs.

Rows and bounds may be strict. A proof works on the closed sets, which are larger: what avoids them is robust. A
counterexample is held to the strict ones. So every proof may ignore `strict`, `open_lower` and `open_upper`; `contains`
and `violated` do not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from arfj.errors import PropertyError
from arfj.network import Floats

Flags = NDArray[np.bool_]


def _no_flags() -> Flags:
    return np.zeros(0, dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class Polyhedron:
    """{y : A y + d <= 0}, an unsafe set of outputs (one conjunction).

    Attributes:
        matrix: A, shape (rows, outputs); no row means all outputs.
        offset: d, shape (rows,).
        strict: which rows mean A y + d < 0, shape (rows,); default: none.

    Raises:
        PropertyError: shapes that do not fit, NaN or infinity.
    """

    matrix: Floats
    offset: Floats
    strict: Flags = field(default_factory=_no_flags)

    def __post_init__(self) -> None:
        matrix, offset = _frozen(self.matrix, "the matrix of a polyhedron"), _frozen(self.offset, "its offset")
        if matrix.ndim != 2 or offset.shape != matrix.shape[:1]:
            raise PropertyError(
                f"a polyhedron has a matrix of shape {matrix.shape} and an offset of shape {offset.shape}; "
                "expected (rows, outputs) and (rows,)"
            )
        object.__setattr__(self, "matrix", matrix)
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "strict", _flags(self.strict, len(offset), "strict"))

    def margin(self, y: ArrayLike) -> Floats:
        """max_i (A y + d)_i, in float64: above 0 is safe, at most 0 is unsafe (closed form). No row gives -inf.

        Args:
            y: outputs, shape (batch, outputs) or (outputs,).

        Returns:
            Shape (batch,) or ().
        """
        rows = np.asarray(y, dtype=np.float64) @ self.matrix.T + self.offset
        return np.asarray(rows.max(axis=-1, initial=-np.inf), dtype=np.float64)

    def contains(self, y: Floats) -> bool:
        """Whether one finite y, shape (outputs,), satisfies every row, the strict ones strictly.

        The sign of each row is that of exact rational arithmetic, so that no rounding makes or hides a counterexample.
        """
        point = {j: Fraction(float(y[j])) for j in np.flatnonzero(self.matrix.any(axis=0)).tolist()}
        return all(self._row_holds(i, point) for i in range(len(self.offset)))

    def _row_holds(self, i: int, point: dict[int, Fraction]) -> bool:
        row = self.matrix[i]
        columns: list[int] = np.flatnonzero(row).tolist()
        value = sum((Fraction(float(row[j])) * point[j] for j in columns), Fraction(float(self.offset[i])))
        return value < 0 if self.strict[i] else value <= 0


@dataclass(frozen=True, eq=False)
class Case:
    """A box of inputs and the polyhedra that are unsafe there (a disjunction; none: nothing is unsafe).

    Attributes:
        lower, upper: the closed box, shape (inputs,), float64.
        unsafe: the polyhedra.
        open_lower, open_upper: which bounds are strict (x_i > lower_i, x_i < upper_i); default: none.

    Raises:
        PropertyError: shapes that do not fit, NaN, infinity, or an empty box.
    """

    lower: Floats
    upper: Floats
    unsafe: tuple[Polyhedron, ...]
    open_lower: Flags = field(default_factory=_no_flags)
    open_upper: Flags = field(default_factory=_no_flags)

    def __post_init__(self) -> None:
        lower, upper = _frozen(self.lower, "a lower bound"), _frozen(self.upper, "an upper bound")
        if lower.ndim != 1 or lower.shape != upper.shape:
            raise PropertyError(f"a box has bounds of shapes {lower.shape} and {upper.shape}; expected (inputs,) twice")
        if (lower > upper).any():
            raise PropertyError(f"a box is empty: input {int((lower > upper).argmax())} has lower > upper")
        object.__setattr__(self, "lower", lower)
        object.__setattr__(self, "upper", upper)
        object.__setattr__(self, "unsafe", tuple(self.unsafe))
        object.__setattr__(self, "open_lower", _flags(self.open_lower, len(lower), "open_lower"))
        object.__setattr__(self, "open_upper", _flags(self.open_upper, len(lower), "open_upper"))

    def contains(self, x: ArrayLike) -> Flags:
        """Which x lie in the box, strictly at its open bounds; no tolerance.

        Args:
            x: inputs, shape (batch, inputs) or (inputs,).

        Returns:
            Shape (batch,) or (). NaN lies nowhere.
        """
        return np.asarray(self.within(x).all(axis=-1))

    def within(self, x: ArrayLike) -> Flags:
        """Which coordinates of x lie between their bounds, shape as x."""
        points = np.asarray(x, dtype=np.float64)
        above = np.where(self.open_lower, points > self.lower, points >= self.lower)
        below = np.where(self.open_upper, points < self.upper, points <= self.upper)
        return np.asarray(above & below)

    def clip(self, x: ArrayLike) -> Floats:
        """The nearest floats inside the box, shape as x: an attack's projection that `contains` agrees with.

        Where both bounds are open and no float lies between them, the result lies outside, and `contains` says so.
        """
        lower = np.where(self.open_lower, np.nextafter(self.lower, np.inf), self.lower)
        upper = np.where(self.open_upper, np.nextafter(self.upper, -np.inf), self.upper)
        return np.asarray(np.minimum(np.maximum(x, lower), upper), dtype=np.float64)

    def margin(self, y: ArrayLike) -> Floats:
        """min over the polyhedra of `Polyhedron.margin`, shape (batch,) or (): above 0 is safe. None gives inf."""
        margins = [polyhedron.margin(y) for polyhedron in self.unsafe]
        nothing = np.full(np.shape(y)[:-1], np.inf)
        return np.asarray(np.minimum.reduce([nothing, *margins]), dtype=np.float64)


@dataclass(frozen=True)
class Tensor:
    """A variable of a VNN-LIB 2.0 file; its elements are ours in row-major order.

    Attributes:
        name: as declared.
        kind: "real", "float32" or "float64".
        shape: as declared; () is a scalar.
    """

    name: str
    kind: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Declaration:
    """What a VNN-LIB 2.0 file declares: the name of its network, one input and one output."""

    network: str
    input: Tensor
    output: Tensor


@dataclass(frozen=True, eq=False)
class Property:
    """A disjunction of cases: `falsified` if any of them has a counterexample, `robust` if none has.

    Attributes:
        cases: those with an empty box are left out by the reader.
        inputs, outputs: how many variables the file declares.
        vacuous: where there is no case, why every network is robust; else empty.
        declaration: the names and shapes of a VNN-LIB 2.0 file; None for 1.0.

    Raises:
        PropertyError: shapes that do not fit, or no case without a reason.
    """

    cases: tuple[Case, ...]
    inputs: int
    outputs: int
    vacuous: str = ""
    declaration: Declaration | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "cases", tuple(self.cases))
        if bool(self.cases) == bool(self.vacuous):
            raise PropertyError("a property has cases, or a reason in `vacuous` why it has none; not both, not neither")
        for case in self.cases:
            if case.lower.shape != (self.inputs,):
                raise PropertyError(f"a case has {len(case.lower)} inputs; the property has {self.inputs}")
            if any(polyhedron.matrix.shape[1] != self.outputs for polyhedron in case.unsafe):
                raise PropertyError(f"a polyhedron does not have the property's {self.outputs} outputs")

    @property
    def compares(self) -> bool:
        """Whether it only asks which of two outputs is larger: then a softmax over the outputs changes nothing."""
        polyhedra = [polyhedron for case in self.cases for polyhedron in case.unsafe]
        return all(
            not polyhedron.offset.any()
            and not polyhedron.matrix.sum(axis=1).any()
            and ((polyhedron.matrix != 0).sum(axis=1) == 2).all()
            for polyhedron in polyhedra
        )

    def violated(self, x: ArrayLike, y: ArrayLike) -> bool:
        """Whether y at x is a counterexample: x in the box of a case, y in one of its polyhedra; exact, no tolerance.

        Args:
            x: one input, shape (inputs,).
            y: the outputs there, shape (outputs,).

        Raises:
            PropertyError: other shapes.
        """
        point, value = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
        if point.shape != (self.inputs,) or value.shape != (self.outputs,):
            raise PropertyError(
                f"x and y have shapes {point.shape} and {value.shape}; "
                f"the property has {self.inputs} inputs and {self.outputs} outputs"
            )
        if not (np.isfinite(point).all() and np.isfinite(value).all()):
            return False
        return any(
            polyhedron.contains(value) for case in self.cases if case.contains(point) for polyhedron in case.unsafe
        )


def _frozen(values: ArrayLike, what: str) -> Floats:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PropertyError(f"{what} does not hold numbers; expected floating-point values") from error
    if not np.isfinite(array).all():
        raise PropertyError(f"{what} holds NaN or infinity; expected finite numbers")
    array.setflags(write=False)
    return array


def _flags(values: Flags, count: int, what: str) -> Flags:
    flags = np.array(values, dtype=np.bool_) if len(values) else np.zeros(count, dtype=np.bool_)
    if flags.shape != (count,):
        raise PropertyError(f"{what} has shape {flags.shape}; expected ({count},)")
    flags.setflags(write=False)
    return flags
