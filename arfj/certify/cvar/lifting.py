r"""A ReLU network in lifted coordinates: every value of it as a linear form of w = [xi; phi; 1].

    phi_i = max(z_i, 0),   z_i = a_i' w   (only coordinates before phi_i),   x = mu + S xi

phi holds the outputs of all ReLUs of all layers, each in a unit of its own (a power of 2) in which it is at most about
|[xi; 1]|: c max(z, 0) = max(c z, 0) for c > 0, so networks with large or small weights are no harder than others.
Residual additions, recurrences and unrolled closed loops are forms like any other: whatever is a graph of affine maps
and ReLUs is lifted in the same way.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from arfj.certify.cvar.moments import Moments, symmetric, symmetrised
from arfj.errors import NetworkError, UsageError
from arfj.graph import Activation, Affine, Graph
from arfj.network import Floats, Network

EPS = float(np.finfo(float).eps)
TOO_LARGE = "the network's weights are too large for floating-point numbers; scale them down"


@dataclass(frozen=True, eq=False)
class Lifted:
    """Forms over w, of size N = rank + m + 1.

    Attributes:
        moments: of the input.
        units: what a phi_i of 1 stands for, shape (m,).
        before: a_i of every ReLU in the same unit, shape (m, N).
        inputs: the forms of x, shape (n, N).
        outputs: the forms of the network's outputs, shape (classes, N).
        groups: the ReLUs of each node of the graph, as slices of 0..m.
        slips, output_slips: the norms of what rounding may have done to the rows of `before` and `outputs`; where a
        bias and a mean are large and cancel, that is far more than the rounding of what they leave.
    """

    moments: Moments
    units: Floats
    before: Floats
    inputs: Floats
    outputs: Floats
    groups: tuple[slice, ...]
    slips: Floats
    output_slips: Floats

    @property
    def hidden(self) -> int:
        """m, the number of ReLUs."""
        return len(self.before)

    @property
    def size(self) -> int:
        """N."""
        return int(self.inputs.shape[1])

    @property
    def rank(self) -> int:
        """The size of xi."""
        return self.size - self.hidden - 1

    @property
    def after(self) -> Floats:
        """The forms of phi, shape (m, N)."""
        return np.asarray(np.eye(self.size)[self.rank : self.rank + self.hidden])

    @property
    def one(self) -> Floats:
        """The form of the 1, shape (N,)."""
        return np.asarray(np.eye(self.size)[-1])

    @property
    def seen(self) -> list[int]:
        """The places of [xi; 1] in w."""
        return [*range(self.rank), self.size - 1]

    def linear_loss(self, weights: ArrayLike, constant: float = 0.0) -> Floats:
        """M_out of the loss c' f(x) + d, with what rounding may have left out of it on top: symmetric, shape (N, N).

        Raises:
            UsageError: c does not have an entry for each output.
        """
        given = np.asarray(weights, dtype=np.float64)
        if given.shape != (len(self.outputs),):
            raise UsageError(f"a loss has the weights {given.shape}; the network has {len(self.outputs)} outputs")
        form = np.asarray(given @ self.outputs + constant * self.one)
        terms = np.abs(given) @ np.abs(self.outputs) + abs(constant) * self.one
        lost = np.abs(given) @ self.output_slips + (len(given) + 2) * EPS * float(_norms(terms[None])[0])
        return symmetrised(np.outer(form, self.one)) + self.raised(float(lost))

    def quadratic_loss(self, form: ArrayLike) -> Floats:
        """M_out(S) of the loss [x; f; 1]' S [x; f; 1] (or [f; 1]' S [f; 1], by the shape of S), shape (N, N).

        Raises:
            UsageError: S has neither shape, or is not symmetric.
        """
        given = np.asarray(form, dtype=np.float64)
        rows = np.vstack([self.outputs, self.one])
        if given.shape[:1] != (len(rows),):
            rows = np.vstack([self.inputs, rows])
        sizes, size = np.abs(symmetric(given, "the output form", len(rows))), np.linalg.norm(rows, axis=1)
        slips = np.zeros(len(rows))
        slips[-1 - len(self.outputs) : -1] = self.output_slips
        lost = (2.0 * size + slips) @ sizes @ slips
        return symmetrised(rows.T @ symmetric(given, "the output form", len(rows)) @ rows) + self.raised(float(lost))

    def raised(self, lost: float) -> Floats:
        """A form over w that is at least `lost` |w|^2 on the network, with |w|^2 <= K |[xi; 1]|^2."""
        places = np.zeros(self.size)
        places[self.seen] = lost * self.growth
        return np.diag(places)

    def turned(self, basis: Floats) -> Lifted:
        """The same network over basis' xi, for an orthonormal basis (rank, k) of a space that its ReLUs read."""
        before, inputs, outputs = (turned(rows, basis) for rows in (self.before, self.inputs, self.outputs))
        return replace(self, before=before, inputs=inputs, outputs=outputs)

    @cached_property
    def growth(self) -> float:
        """K with |w|^2 <= K |[xi; 1]|^2 on the network: 1 + sum_i kappa_i^2, |phi_i| <= kappa_i |[xi; 1]|.

        See `_reach`.
        """
        reach = _reach(self.before, self.rank, self.slips)
        with np.errstate(over="ignore"):  # what is not finite proves nothing
            return 1.0 + float(reach @ reach)

    @cached_property
    def damping(self) -> Floats:
        """d > 0, shape (m,), with diag(d) - sym(diag(d) Z) >= I, Z the part of `before` over phi.

        sum_i d_i phi_i (z_i - phi_i) = 0 on the network, and its Hessian in phi is then at most -2 I: adding it to the
        multipliers makes the hidden block negative definite. Layers that feed others get the larger entries.
        """
        if not self.hidden:
            return np.zeros(0)
        inner = self.before[:, self.rank : self.rank + self.hidden]
        for power in range(200):
            weights = np.empty(self.hidden)
            for depth, group in enumerate(reversed(self.groups)):
                weights[group] = 2.0 ** (power * depth)
            least = float(np.linalg.eigvalsh(symmetrised(np.diag(weights) - weights[:, None] * inner))[0])
            if least > 1e-3 * weights.min():
                return weights / least
        raise NetworkError(TOO_LARGE)


def lifted(network: Network | Graph, moments: Moments) -> Lifted:
    """Lift a network over inputs with these moments.

    Raises:
        NetworkError: it has other activations than ReLU.
        UsageError: the moments are those of inputs of another size.
    """
    graph = network.graph()
    if graph.inputs != moments.size:
        raise UsageError(f"the moments are those of {moments.size} inputs; the network takes {graph.inputs}")
    for index, node in enumerate(graph.nodes, start=1):
        if isinstance(node, Activation) and node.kind != "relu":
            raise NetworkError(
                f"node {index} is a {node.kind}; certificates by quadratic constraints are for ReLU alone"
            )
    hidden = sum(graph.sizes[i] for i, node in enumerate(graph.nodes, start=1) if isinstance(node, Activation))
    size = moments.rank + hidden + 1
    start = np.zeros((moments.size, size))
    start[:, : moments.rank], start[:, -1] = moments.root, moments.mean
    values, before, groups, at = [start], [], [], 0
    errors, lost = [np.zeros_like(start)], []
    for node in graph.nodes:
        if isinstance(node, Affine):
            form = sum(_transposed(matrix) @ values[j] for j, matrix in zip(node.sources, node.maps, strict=True))
            form = np.asarray(form, dtype=np.float64)
            form[:, -1] += node.bias
            values.append(form)
            errors.append(_rounding(node, values, errors))
            continue
        before.append(values[node.source])
        lost.append(errors[node.source])
        errors.append(np.zeros((len(before[-1]), size)))
        count = len(before[-1])
        values.append(np.eye(size)[moments.rank + at : moments.rank + at + count])
        groups.append(slice(at, at + count))
        at += count
    rows = np.vstack(before) if before else np.zeros((0, size))
    slips = np.vstack(lost) if lost else np.zeros((0, size))
    reach = _reach(rows, moments.rank, np.zeros(hidden))
    if not np.isfinite(reach).all():
        raise NetworkError(TOO_LARGE)
    units = np.exp2(np.round(np.log2(np.where(reach > 0, reach, 1.0))))
    for forms in (rows, start, values[-1], slips, errors[-1]):
        forms[:, moments.rank : moments.rank + hidden] *= units
    of_rows, of_outputs = (_norms(part) for part in (slips / units[:, None], errors[-1]))
    return Lifted(moments, units, rows / units[:, None], start, values[-1], tuple(groups), of_rows, of_outputs)


def _rounding(node: Affine, values: Sequence[Floats], errors: Sequence[Floats]) -> Floats:
    """By how much each entry of a node's forms may be off: gamma_k (|W|' |v| + |b|) + |W|' times what v is off by.

    Source: N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2nd edition, section 3.5.
    """
    unit = (sum(matrix.shape[0] for matrix in node.maps) + 3) * EPS
    total = np.zeros((len(node.bias), values[0].shape[1]))
    for source, matrix in zip(node.sources, node.maps, strict=True):
        total += np.abs(_transposed(matrix)) @ (unit * np.abs(values[source]) + 1.001 * errors[source])
    total[:, -1] += unit * np.abs(node.bias)
    return total


def _norms(rows: Floats) -> Floats:
    """Upper bounds of the norms of rows, without squares that overflow."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    scale = np.where(largest > 0, largest, 1.0)
    return np.asarray(largest * np.linalg.norm(rows / scale[:, None], axis=1) * (1 + 1e-9))


@np.errstate(over="ignore", invalid="ignore")  # what is too large is refused
def _reach(before: Floats, rank: int, slips: Floats) -> Floats:
    """kappa, shape (m,): |phi_i| <= |z_i| <= kappa_i |[xi; 1]|, kappa_i = |a_i on [xi; 1]| + sum_j |a_ij| kappa_j, and
    what a_i may be off by, times 1 + sum_j kappa_j.
    """
    own = np.hypot(np.linalg.norm(before[:, :rank], axis=1), before[:, -1])
    for place, row in enumerate(np.abs(before[:, rank:-1])):
        known = own[:place]
        own[place] += row[:place] @ known + slips[place] * (1.0 + known.sum())
    return np.asarray(own)


def turned(rows: Floats, basis: Floats) -> Floats:
    """Forms over [xi; phi; 1] as forms over [basis' xi; phi; 1]."""
    return np.hstack([rows[:, : len(basis)] @ basis, rows[:, len(basis) :]])


def _transposed(matrix: Floats | csr_array) -> Floats:
    dense = matrix.toarray() if isinstance(matrix, csr_array) else matrix
    return np.asarray(dense, dtype=np.float64).T
