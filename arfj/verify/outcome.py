"""What a verification ends in: a verdict, and a counterexample that was replayed before it was said."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable, Iterator
from dataclasses import InitVar, dataclass
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from arfj.errors import ArfjError, NetworkError, PropertyError
from arfj.files import atomic_write
from arfj.network import Floats
from arfj.verify.property import Case, Property, Tensor

Verdict = Literal["robust", "falsified", "unknown"]
Forward = Callable[[Floats], Floats]
"""(batch, inputs) -> (batch, outputs) in float64."""
_WORDS = {"robust": "unsat", "falsified": "sat", "unknown": "unknown"}
_REPLAYED = object()
INTERRUPTED = "interrupted"
"""The reason of an unknown that Ctrl-C made."""
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True, eq=False)
class Counterexample:
    """An input of the property's set whose outputs are unsafe; only `replay` makes one.

    Attributes:
        x: shape (inputs,), float64, inside the box without tolerance.
        y: the network's float64 outputs there, shape (outputs,).
    """

    x: Floats
    y: Floats
    replayed: InitVar[object] = None

    def __post_init__(self, replayed: object) -> None:
        if replayed is not _REPLAYED:
            raise TypeError("a Counterexample is made by arfj.verify.outcome.replay alone")
        for name in ("x", "y"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.setflags(write=False)
            object.__setattr__(self, name, array)


def replay(network: Forward, prop: Property, x: ArrayLike) -> Counterexample | None:
    """Run x through the network; a counterexample if the property is violated there, exactly, else None.

    x is held to the float64 sets of the property without tolerance: these reach beyond the decimals of the file by less
    than one unit in the last place (`arfj.verify.vnnlib.cases`), and are exact where a bound or a row is strict.

    Args:
        network: (batch, inputs) -> (batch, outputs).
        prop: the property.
        x: one input, of any shape.

    Raises:
        PropertyError: the network or x do not have the property's sizes.
    """
    point = np.array(x, dtype=np.float64).ravel()
    if point.shape != (prop.inputs,):
        raise PropertyError(f"x has {point.size} numbers; the property has {prop.inputs} inputs")
    outputs = np.asarray(network(point[None]), dtype=np.float64)
    if outputs.shape != (1, prop.outputs):
        raise PropertyError(f"the network gave outputs of shape {outputs.shape}; the property has {prop.outputs}")
    return Counterexample(point, outputs[0], _REPLAYED) if prop.violated(point, outputs[0]) else None


def replay_near_float32(network: Forward, prop: Property, x: ArrayLike) -> Counterexample | None:
    """As `replay`, but of the nearest x in float32 where that is a counterexample, too.

    Tools that run the network in float32 then see the very same x. Inputs that no float32 in the box equals (such as
    those fixed to a decimal) stay as they are.
    """
    point = np.array(x, dtype=np.float64).ravel()
    candidates = [nearest_float32(case, point) for case in prop.cases if case.contains(point)]
    return next(filter(None, (replay(network, prop, candidate) for candidate in (*candidates, point))), None)


def nearest_float32(case: Case, x: ArrayLike) -> Floats:
    """x with each number moved to the nearest float32 that lies in the box, where there is one near; float64."""
    point = np.asarray(x, dtype=np.float64)
    with np.errstate(over="ignore"):
        near = point.astype(np.float32)
    result = point.copy()
    for candidate in (np.nextafter(near, np.float32(-np.inf)), np.nextafter(near, np.float32(np.inf)), near):
        wide = candidate.astype(np.float64)
        result = np.where(case.within(wide), wide, result)
    return result


@dataclass(frozen=True, eq=False)
class Outcome:
    """The answer to a property.

    Attributes:
        verdict: `falsified` goes with a counterexample, and only with one.
        reason: why it is unknown, or why there was nothing to prove; else what was done.
        seconds: wall clock.
        branches: subproblems looked at.
        counterexample: replayed, or None.
        bound: a proven lower bound on the margin over all inputs (above 0 is robust), where there is one.
        timed_out: whether the time limit ended an unknown one.

    Raises:
        ValueError: parts that do not go together.
    """

    verdict: Verdict
    reason: str
    seconds: float
    branches: int
    counterexample: Counterexample | None = None
    bound: float | None = None
    timed_out: bool = False

    def __post_init__(self) -> None:
        if self.verdict not in _WORDS:
            raise ValueError(f"verdict {self.verdict!r} is not one of {', '.join(_WORDS)}")
        if (self.verdict == "falsified") != (self.counterexample is not None):
            raise ValueError("falsified needs a counterexample, and no other verdict has one")
        if self.verdict == "unknown" and not self.reason:
            raise ValueError("unknown needs a reason")
        if self.timed_out and self.verdict != "unknown":
            raise ValueError("what a time limit ended is unknown")

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self.verdict == "unknown" and self.reason == INTERRUPTED

    def document(self) -> dict[str, Any]:
        """The JSON document of `python -m arfj.verify --json`."""
        found = self.counterexample
        return {
            "verdict": self.verdict,
            "reason": self.reason,
            "seconds": self.seconds,
            "branches": self.branches,
            "bound": self.bound,
            "counterexample": None if found is None else {"x": found.x.tolist(), "y": found.y.tolist()},
        }


def write_result(path: str | os.PathLike[str], outcome: Outcome, prop: Property | None) -> None:
    """Write VNN-COMP's result file, atomically: `unsat`, `unknown`, `timeout`, or `sat` with the counterexample.

    Raises:
        ArfjError: the file cannot be written.
    """
    word = "timeout" if outcome.timed_out else _WORDS[outcome.verdict]
    with atomic_write(path) as stream:
        stream.write(_answer(word, outcome, prop).encode())


def standard_answer(outcome: Outcome, prop: Property | None) -> str:
    """What the `verify` command of VNN-LIB 2.0 prints: `unsat`, `unknown`, `timed-out`, or `sat` and the assignment."""
    return _answer("timed-out" if outcome.timed_out else _WORDS[outcome.verdict], outcome, prop)


def _answer(word: str, outcome: Outcome, prop: Property | None) -> str:
    if outcome.counterexample is None or prop is None:
        return f"{word}\n"
    return f"{word}\n{assignment(outcome.counterexample, prop)}\n"


def assignment(found: Counterexample, prop: Property) -> str:
    """The counterexample as the property's version of VNN-LIB writes it; each number reads back as the same float64.

    1.0: ((X_0 0.5)(Y_0 1.0)), one variable a line. 2.0: `X real [1,2]` and one number a line, for input and output.
    """
    if prop.declaration is None:
        values = [f"(X_{i} {value!r})" for i, value in enumerate(found.x.tolist())]
        values += [f"(Y_{j} {value!r})" for j, value in enumerate(found.y.tolist())]
        return "({})".format("\n".join(values))
    lines = [*_lines(prop.declaration.input, found.x), *_lines(prop.declaration.output, found.y)]
    return "\n".join(lines)


def _lines(tensor: Tensor, values: Floats) -> Iterator[str]:
    yield f"{tensor.name} {tensor.kind} [{','.join(map(str, tensor.shape))}]"
    yield from map(repr, values.tolist())


def confirm_with_onnxruntime(
    path: str | os.PathLike[str], x: ArrayLike, prop: Property, tolerance: float = 1e-4
) -> bool:
    """Whether the ONNX file itself, run by onnxruntime, is unsafe at x: a second opinion on our reading of the network.

    A counterexample has to satisfy the property exactly in float64 (`replay`); that alone decides.
    Here x must lie in a box of the property, too, but the outputs, float32 in most files, need to satisfy a polyhedron
    there only up to `tolerance` in each row: at a margin of 0, float32 is off by some 1e-7 to either side. 1e-4 is what
    VNN-COMP accepted until 2025 (with outputs within 1e-3 of onnxruntime's, relative). At 0 the outputs must satisfy it
    exactly, as VNN-COMP 2026 asks.

    Args:
        path: `.onnx`, plain or gzipped.
        x: one input, of any shape; it is cast to the file's input type.
        prop: the property.
        tolerance: on A y + d, absolute.

    Raises:
        NetworkError: the file cannot be read, run, or does not have one input and one output of the property's sizes.
    """
    point = np.array(x, dtype=np.float64).ravel()
    if point.shape != (prop.inputs,):
        raise PropertyError(f"x has {point.size} numbers; the property has {prop.inputs} inputs")
    y = _run(os.fspath(path), point)
    if y.shape != (prop.outputs,):
        raise NetworkError(f"{os.fspath(path)} has {y.size} outputs; the property has {prop.outputs}")
    if not np.isfinite(y).all():
        return False
    if tolerance == 0:
        return prop.violated(point, y)
    return any(case.contains(point) and case.margin(y) <= tolerance for case in prop.cases)


def _run(name: str, point: Floats) -> Floats:
    try:
        import onnxruntime
    except ImportError:
        raise ArfjError(
            "a counterexample on an ONNX file is confirmed by onnxruntime: pip install onnxruntime"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(_model(name), options, providers=["CPUExecutionProvider"])
        inputs, outputs = session.get_inputs(), session.get_outputs()
        if len(inputs) != 1 or len(outputs) != 1:
            raise NetworkError(f"{name} has {len(inputs)} inputs and {len(outputs)} outputs; expected one of each")
        given = _shaped(name, point, inputs[0].type, inputs[0].shape)
        (answer,) = session.run(None, {inputs[0].name: given})
    except ArfjError:
        raise
    except Exception as error:  # onnxruntime's own classes share no base
        raise NetworkError(f"onnxruntime cannot run {name}: {error}") from error
    return np.asarray(answer, dtype=np.float64).ravel()


def _shaped(name: str, point: Floats, kind: str, shape: list[int | str | None]) -> np.ndarray[Any, Any]:
    types = {"tensor(float)": np.float32, "tensor(double)": np.float64}
    if kind not in types:
        raise NetworkError(f"the input of {name} is a {kind}; expected float or double")
    sizes = [size if isinstance(size, int) and size > 0 else 1 for size in shape]  # a symbolic size is the batch
    if prod(sizes) != point.size:
        raise NetworkError(f"the input of {name} has shape {shape}; the property has {point.size} inputs")
    return point.astype(types[kind]).reshape(sizes)


def _model(name: str) -> bytes:
    try:
        content = Path(name).read_bytes()
        return gzip.decompress(content) if content.startswith(_GZIP) else content
    except FileNotFoundError:
        raise NetworkError(f"{name} does not exist; give the path of a .onnx or .onnx.gz file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise NetworkError(f"{name} cannot be read ({error}); give the path of a .onnx or .onnx.gz file") from error
