r"""Certificates by the scenario approach: what samples of the outputs say of the next one.

With confidence 1 - delta over the samples, the output of a network under random input noise is safe with probability at
least 1 - eps.

Safe is {y : a_i'y + b_i >= 0 for all rows i}. From N independent samples y_j = f(x_j) a set h of outputs is chosen that
holds them all, as the optimum of a convex program of p variables,

    max  inf {a'y + b : y in h(theta)} - lambda v(theta)   s.t.  y_j in h(theta)  for all j;

with N as `sizes` says, h holds f(X) with probability at least 1 - eps, and its value is a lower bound of
r(eps) = sup {r : P(a'f(X) + b >= r) >= 1 - eps}, both with confidence 1 - delta.

- Half-spaces, p = 1, have a closed form, the smallest sample; several rows count as one number, their minimum, so that
  p stays 1 and no union bound is paid. Where N is more than enough the k smallest are dropped (`sizes.discards`).
- With lambda = 0 no set does better than the half-space, and Euclidean balls come as near to it as one likes without
  attaining it: so that is the answer then.
- Balls and boxes also say where the outputs are. v = r^2; p = n_y + 1 for balls, and for ellipsoids of a fixed
  shape; 2 n_y for boxes.

Source: B. G. Anderson and S. Sojoudi, Data-driven certification of neural networks with random input noise, IEEE
Transactions on Control of Network Systems, 2022. The sizes here are smaller than theirs: see `sizes`.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike

from arfj.certify.scenario import sizes
from arfj.certify.scenario.diamond import l1_ball
from arfj.certify.scenario.euclidean import l2_ball
from arfj.certify.scenario.margins import Margins, smallest
from arfj.certify.scenario.sets import Ball, Box, Ellipsoid, Set, box, ellipsoid, linf_ball
from arfj.certify.scenario.stream import Source, finite
from arfj.errors import ArfjError, UsageError
from arfj.network import Floats

Kind = Literal["halfspace", "l2", "linf", "l1", "box", "ellipsoid"]
BALLS = ("l1", "l2", "linf", "ellipsoid")
LAMBDA = 0.1
"""The weight of v where nothing else is asked for: that of the paper's section 6.2."""
HELD = 2**28
"""Numbers held at most, 2 GiB: the outputs of all samples where a program needs them, or discarded margins."""
ASSUMPTION = (
    "This assumes that the samples were drawn independently from the very noise that the next input will have, and "
    "that nothing in the question was chosen after looking at them. The network is meant as float64 evaluates it, up "
    "to rounding. Nothing is claimed of worst cases or other noise."
)


@dataclass(frozen=True, eq=False)
class Safe:
    """{y : a_i'y + b_i >= 0 for all i}.

    Attributes:
        rows: a_i, shape (m, n_y).
        offsets: b_i, shape (m,).

    Raises:
        UsageError: shapes that do not fit, a row of zeros, NaN or infinity.
    """

    rows: Floats
    offsets: Floats

    def __post_init__(self) -> None:
        rows, offsets = np.atleast_2d(np.asarray(self.rows, float)), np.atleast_1d(np.asarray(self.offsets, float))
        if rows.ndim != 2 or offsets.shape != (len(rows),) or not len(rows):
            raise UsageError(
                f"rows of shape {rows.shape} and offsets of shape {offsets.shape} make no safe set; expected "
                "(m, outputs) and (m,)"
            )
        if not (np.isfinite(rows).all() and np.isfinite(offsets).all()) or not rows.any(axis=1).all():
            raise UsageError("a safe half-space needs finite numbers and a direction that is not zero")
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "offsets", offsets)

    @classmethod
    def margin(cls, classes: int, true: int, targets: Sequence[int] | None = None) -> Safe:
        """A classifier's margins y_true - y_i >= 0: a = e_true - e_i, for the targets or for all rivals.

        Raises:
            UsageError: a class out of range, or a target that is the true class.
        """
        rivals = [i for i in range(classes) if i != true] if targets is None else list(targets)
        for name, one in (("true", true), *(("target", one) for one in rivals)):
            if not 0 <= one < classes:
                raise UsageError(f"the {name} class is {one}; expected 0 to {classes - 1}")
        if true in rivals or not rivals:
            raise UsageError(f"a margin needs a rival; {true} is the true class itself, of {classes}")
        eye = np.eye(classes)
        return cls(eye[true] - eye[rivals], np.zeros(len(rivals)))


@dataclass(frozen=True)
class ScenarioCertificate:
    """With confidence 1 - delta, P(min_i a_i'f(X) + b_i >= bound) >= 1 - epsilon.

    Attributes:
        bound: a lower bound of r(epsilon).
        epsilon, delta: what may fail, and what may be wrong.
        samples: N; discarded: k of them.
        p: variables of the program.
        sizing: "exact", "paper", or "given".
        set: which sets were chosen among.
        seconds: wall clock.
        localised: the ball or box that holds f(X) with probability at least 1 - epsilon; None for a half-space.
    """

    bound: float
    epsilon: float
    delta: float
    samples: int
    discarded: int
    p: int
    sizing: str
    set: Kind
    seconds: float
    localised: Set | None = field(default=None, compare=False)

    @property
    def safe(self) -> bool:
        """Whether the bound certifies safety."""
        return self.bound >= 0.0

    def as_json(self) -> dict[str, Any]:
        """The keys of the interface; of a ball or box also where it lies."""
        document: dict[str, Any] = {"bound": self.bound, "safe": self.safe}
        for name in ("epsilon", "delta", "samples", "discarded", "p", "sizing", "set", "seconds"):
            document[name] = getattr(self, name)
        match self.localised:
            case Ball(centre, radius, _):
                document |= {"centre": centre.tolist(), "radius": radius}
            case Ellipsoid(_, Ball(centre, radius, _)):
                document |= {"image_centre": centre.tolist(), "radius": radius}
            case Box(lower, upper):
                document |= {"lower": lower.tolist(), "upper": upper.tolist()}
        return document

    def sentence(self) -> str:
        """What is claimed, and on what assumption."""
        what = "safe" if self.safe else "not certified to be safe"
        place = (
            "" if self.localised is None else f", and the output lies in the {self.set} set with that probability, too"
        )
        return (
            f"{what}: with confidence 1 - {self.delta}, the margin is at least {sizes.rounded(self.bound)} with a "
            f"probability of at least 1 - {self.epsilon}{place}. {ASSUMPTION}"
        )


@dataclass(frozen=True)
class Request:
    """How sure, and by which sets.

    Attributes:
        epsilon, delta: in (0, 1).
        samples: N, or None for the size that `sizing` gives.
        sizing: "exact" or "paper".
        set: which sets to choose among.
        regularise: lambda; used by balls alone.
        discard: whether samples of a half-space are dropped where N allows it.
        threads: 0 for as many as this process may use.
        shape: Q of ellipsoids {y : ||Q y - z|| <= r}, chosen without looking at the samples.

    Raises:
        UsageError: epsilon or delta outside (0, 1), samples that are no whole number, threads < 0, lambda < 0, a set
            that is not known, or no fitting shape.
    """

    epsilon: float = sizes.EPSILON
    delta: float = sizes.DELTA
    samples: int | None = None
    sizing: sizes.Sizing = "exact"
    set: Kind = "halfspace"
    regularise: float = LAMBDA
    discard: bool = True
    threads: int = 0
    shape: Floats | None = None

    def __post_init__(self) -> None:
        sizes.checked(self.epsilon, self.delta)
        if self.samples is not None:
            if not isinstance(self.samples, (int, np.integer)):
                raise UsageError(f"the number of samples is {self.samples!r}; expected a whole number, such as {10**6}")
            object.__setattr__(self, "samples", int(self.samples))
        for name in ("epsilon", "delta"):
            object.__setattr__(self, name, float(getattr(self, name)))  # NumPy's float32 would round what follows
        if self.threads < 0:
            raise UsageError(f"the number of threads is {self.threads}; expected 0 or more")
        if self.set not in get_args(Kind):
            raise UsageError(f"there is no set {self.set!r}; expected one of {', '.join(get_args(Kind))}")
        if not (self.regularise >= 0 and np.isfinite(self.regularise)):
            raise UsageError(f"lambda is {self.regularise}; expected a number >= 0")
        if (self.shape is None) == (self.set == "ellipsoid"):
            raise UsageError("ellipsoids, and they alone, need a shape: an invertible matrix (outputs, outputs)")

    @property
    def chosen(self) -> Kind:
        """The set whose program has an optimum: with lambda = 0 the half-space in place of a ball."""
        return "halfspace" if self.regularise == 0 and self.set in BALLS else self.set

    def variables(self, outputs: int) -> int:
        """p."""
        return {"halfspace": 1, "box": 2 * outputs}.get(self.chosen, outputs + 1)

    def size(self, outputs: int) -> int:
        """N.

        Raises:
            UsageError: the given N is too small.
        """
        p = self.variables(outputs)
        if self.samples is None:
            return sizes.size(self.epsilon, self.delta, p, self.sizing)
        sizes.enough(self.samples, self.epsilon, self.delta, p)
        return self.samples

    def dropped(self, samples: int) -> int:
        """k."""
        if self.chosen != "halfspace" or not self.discard:
            return 0
        return sizes.discards(samples, self.epsilon, self.delta)


def certify(source: Source, safe: Safe, request: Request | None = None, stream: int = 0) -> ScenarioCertificate:
    """The certificate of a network under random input noise; memory does not grow with N for half-spaces and boxes.

    Args:
        source: network, input and noise; the network is taken as float64 evaluates it.
        safe: the safe set; balls and boxes take one half-space.
        request: how sure, and by which sets.
        stream: with different streams, certificates of one source rest on independent samples; with one, on the same.

    Raises:
        UsageError: a malformed question, or too few samples. ArfjError: samples that are no numbers.
    """
    request = request or Request()
    began = time.perf_counter()
    outputs = safe.rows.shape[1]
    samples = request.size(outputs)
    _fits(source, safe)
    _one_face(safe, request)
    if request.chosen != "halfspace":
        return _of_points(_points(source, outputs, samples, request, stream), safe, request, samples, began)
    discarded = request.dropped(samples)
    if discarded >= HELD:
        raise UsageError(f"{discarded} of {samples} samples would be discarded, more than memory holds; give fewer")
    least = smallest(source, Margins(safe.rows, safe.offsets), samples, discarded + 1, stream, request.threads)
    return _certificate(request, outputs, samples, discarded, float(least[discarded]), None, began)


def _points(source: Source, outputs: int, samples: int, request: Request, stream: int) -> Floats:
    """All outputs; where the program asks for no more than their extremes, these alone."""
    extremes = request.chosen in ("linf", "box")
    if not extremes and samples * outputs > HELD:
        raise UsageError(
            f"{samples} samples of {outputs} outputs are too many for {request.set}; use linf or halfspace"
        )
    parts: list[Floats] = []
    for found in source.each(samples, stream, lambda y: _checked(y, outputs), request.threads):
        parts.append(found)
        if extremes:
            both = np.concatenate(parts)
            parts = [np.stack([both.min(axis=0), both.max(axis=0)])]
    return np.concatenate(parts)


def from_outputs(outputs: ArrayLike, safe: Safe, request: Request | None = None) -> ScenarioCertificate:
    """The certificate of samples that are there already: independent outputs (N, n_y), all of which count.

    Raises:
        UsageError: too few of them, or another number of outputs. ArfjError: NaN or infinity among them.
    """
    request = request or Request()
    began = time.perf_counter()
    points = np.asarray(outputs, dtype=np.float64)
    if points.ndim != 2:
        raise UsageError(f"outputs of shape {points.shape} do not fit; expected (samples, outputs)")
    finite(points)
    request = Request(**{**vars(request), "samples": len(points)})
    samples = request.size(safe.rows.shape[1])
    _checked(points, safe.rows.shape[1])
    _one_face(safe, request)
    if request.chosen != "halfspace":
        return _of_points(points, safe, request, samples, began)
    discarded = request.dropped(samples)
    values = np.sort(Margins(safe.rows, safe.offsets)(points))
    return _certificate(request, safe.rows.shape[1], samples, discarded, float(values[discarded]), None, began)


def by_faces(source: Source, safe: Safe, request: Request | None = None) -> tuple[ScenarioCertificate, ...]:
    """One certificate a row, eps and delta split among them, each from samples of its own.

    All hold at once with confidence 1 - delta, and then the intersection of their sets, with probability 1 - eps.

    Raises:
        UsageError, ArfjError: as `certify`.
    """
    request = request or Request()
    count = len(safe.rows)
    each = Request(**{**vars(request), "epsilon": request.epsilon / count, "delta": request.delta / count})
    faces = (Safe(safe.rows[i : i + 1], safe.offsets[i : i + 1]) for i in range(count))
    return tuple(certify(source, face, each, stream) for stream, face in enumerate(faces))


def _of_points(points: Floats, safe: Safe, request: Request, samples: int, began: float) -> ScenarioCertificate:
    """From all samples, or from what has the same extremes.

    Raises:
        ArfjError: a search came to no end, or left the range of floats.
    """
    a, b = safe.rows[0], float(safe.offsets[0])
    with np.errstate(all="ignore"):  # searches measure what they found, and refuse NaN
        try:
            found = _set_of(points, a, request)
        except (ArithmeticError, np.linalg.LinAlgError) as error:
            raise ArfjError(f"the search for the {request.set} set left floating point; use linf") from error
        bound = found.least(a, b)
    if not np.isfinite(bound):
        raise ArfjError(f"the outputs are too large for {request.set}: its bound is {bound}; use halfspace")
    return _certificate(request, len(a), samples, 0, bound, found, began)


def _set_of(points: Floats, a: Floats, request: Request) -> Set:
    match request.chosen:
        case "l2":
            return l2_ball(points, a, request.regularise)
        case "ellipsoid":
            shape = _shape(request.shape, len(a))
            image = l2_ball(points @ shape.T, np.asarray(np.linalg.solve(shape.T, a), float), request.regularise)
            return ellipsoid(shape, image)
        case "l1":
            return l1_ball(points, a, request.regularise)
        case "linf":
            return linf_ball(points, a)
        case _:
            return box(points)


def _shape(given: Floats | None, outputs: int) -> Floats:
    """Q, checked.

    Raises:
        UsageError: it does not fit, or is not invertible.
    """
    shape = np.asarray(given, dtype=np.float64)
    if shape.shape != (outputs, outputs) or not np.isfinite(shape).all() or not np.linalg.cond(shape) < 1e8:
        raise UsageError(f"the shape of ellipsoids must be an invertible matrix ({outputs}, {outputs})")
    return shape


def _certificate(
    request: Request, outputs: int, samples: int, discarded: int, bound: float, localised: Set | None, began: float
) -> ScenarioCertificate:
    sizing = request.sizing if request.samples is None else "given"
    return ScenarioCertificate(
        bound,
        request.epsilon,
        request.delta,
        samples,
        discarded,
        request.variables(outputs),
        sizing,
        request.chosen,
        time.perf_counter() - began,
        localised,
    )


def _fits(source: Source, safe: Safe) -> None:
    classes, outputs = getattr(source.function, "classes", None), safe.rows.shape[1]
    if isinstance(classes, int) and classes != outputs:
        raise UsageError(f"the network gives {classes} outputs, the safe set is one of {outputs}")


def _one_face(safe: Safe, request: Request) -> None:
    if request.chosen != "halfspace" and len(safe.rows) != 1:
        raise UsageError(f"{request.set} takes one half-space, not {len(safe.rows)}; use halfspace, or split the faces")


def _checked(outputs: Floats, expected: int) -> Floats:
    if outputs.shape[1] != expected:
        raise UsageError(f"the function gives {outputs.shape[1]} outputs, the safe set is one of {expected}")
    return outputs
