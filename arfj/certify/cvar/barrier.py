r"""The bound as a smooth function of the multipliers, for descent without a semidefinite solver.

Eliminating the hidden block leaves min over theta >= 0 with C(theta) < 0, and beta, of

    beta + (1/eps) sum_i max(lambda_i(G(theta) - beta e e'), 0),   G = A - B' C^-1 B,

which is jointly convex: the Schur complement is a maximum over phi of functions linear in theta. Every feasible point
is a valid bound. The sum of positive parts is min Tr(N) over N >= 0, N >= G - beta e e'; with the logarithmic
barriers of both, N can be minimised eigenvalue by eigenvalue,

    p(lambda) = min_n n - mu log n - mu log(n - lambda),   p'(lambda) = mu / (n - lambda) in (0, 1),

so that the whole is self-concordant and Newton's method converges for every mu. The lifted second moment
X = U p'(G - beta e e') U', U = [I; -C^-1 B] on [xi; 1] and phi, is the pseudo-moment of the worst cases: the gradient
along a constraint is <X, L' C_k L>, however many layers phi holds.

Problems of one shape are stacked: several losses of a network, or its inputs under several moments. Each has its own
point and its own mu.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array, hstack

from arfj.certify.cvar.moments import symmetrised
from arfj.certify.cvar.multipliers import Problem
from arfj.network import Floats

SLAB = 2**16
"""Numbers of one block of products, as many as caches hold: their Gram matrix is summed block by block."""
LEAST = 128
"""Rows of such a block, at least: with fewer, adding up takes longer than multiplying."""


@dataclass(frozen=True, eq=False)
class Points:
    """The barriers of several problems, A in number, at one point each.

    Attributes:
        value: eps times the objective, barriers included, shape (A,); infinite where C is not negative definite, and
        all else means nothing there.
        slope: its derivatives along (beta, theta), without the barrier of theta >= 0, shape (A, K + 1).
        values, soft: eigenvalues lambda of G - beta e e', and p'(lambda), shape (A, rank + 1).
        forms: g in the eigenbasis: L U V, shape (A, R, rank + 1).
        seen, inner: Gram matrices of the forms, under U V p' V' U' and under (-C)^-1, shape (A, R, R).
    """

    value: Floats
    slope: Floats
    values: Floats
    soft: Floats
    forms: Floats
    seen: Floats
    inner: Floats

    def kept(self, chosen: NDArray[np.bool_], copied: bool = False) -> Points:
        """Some of the points."""
        if chosen.all() and not copied:
            return self
        return Points(*(getattr(self, one.name)[chosen] for one in fields(self)))

    def put(self, places: NDArray[np.intp] | NDArray[np.bool_], others: Points, chosen: NDArray[np.bool_]) -> None:
        """Overwrite the points at `places` by the chosen ones of others."""
        for one in fields(self):
            getattr(self, one.name)[places] = getattr(others, one.name)[chosen]


class Barrier:
    """F_mu(beta, theta) = eps beta + sum p(lambda_i(G - beta e e')) - mu log det(-C), for several problems at once.

    A point x = (beta, theta) is one vector: beta multiplies -e e', a product of forms like those of the constraints.

    Args:
        problems: of one shape: one family on one network.
        epsilon: in (0, 1).
    """

    def __init__(self, problems: Sequence[Problem], epsilon: float) -> None:
        first = problems[0].given
        net = first.lifted
        self.epsilon, self.count, self.hidden, self.rank = epsilon, first.count, net.hidden, net.rank
        self._forms = np.stack([one.given.forms for one in problems])
        self._losses = np.stack([one.loss for one in problems])
        self._seen, self._inside = net.seen, slice(net.rank, net.rank + net.hidden)
        rows, one = len(first.forms), first.one
        corner = csr_array(([-1.0], ([one * rows + one], [0])), shape=(rows * rows, 1))
        self._table = csr_array(hstack([corner, first.table], format="csr"))
        upper = self._table.tocsc().tocoo()  # constraint by constraint
        left, right = np.divmod(upper.coords[0], rows)
        kept = left <= right
        left, right, owner = left[kept], right[kept], np.asarray(upper.coords[1][kept], dtype=np.intp)
        self._factor = np.where(left < right, 2.0, 1.0) * upper.data[kept]
        turn = left == one
        self._left, self._right, self._one = np.where(turn, right, left), np.where(turn, one, right), one
        self._starts = np.flatnonzero(np.diff(owner, prepend=-1))
        plain = np.logical_and.reduceat(self._right == one, self._starts)
        self._plain, self._mixed = _Part.of(plain, owner), _Part.of(~plain, owner)

    @property
    def work(self) -> int:
        """Numbers that one problem's second derivatives and their factors hold."""
        return 3 * (self.count + 1) ** 2

    def at(self, which: NDArray[np.intp], points: Floats, mu: Floats) -> Points:
        """Values and slopes.

        Args:
            which: the problems, shape (A,).
            points: (beta, theta) of each, shape (A, K + 1).
            mu: of each, shape (A,).
        """
        forms, rows = self._forms[which], self._forms.shape[1]
        table = np.asarray((self._table @ points.T).T).reshape(-1, rows, rows)
        whole = _flipped(forms) @ table @ forms + self._losses[which]
        factor, inside = _factors(-whole[:, self._inside, self._inside])
        root = np.asarray(np.linalg.inv(factor), dtype=np.float64)  # R with R C R' = -I
        half = root @ whole[:, self._inside][:, :, self._seen]
        form = symmetrised(whole[:, self._seen][:, :, self._seen] + _flipped(half) @ half)
        inside &= np.isfinite(form).all(axis=(1, 2))
        values, vectors = np.linalg.eigh(np.where(inside[:, None, None], form, 0.0))
        value, soft = _spectral(values, mu)
        turned = forms[:, :, self._seen] @ vectors + forms[:, :, self._inside] @ (_flipped(root) @ (half @ vectors))
        read = forms[:, :, self._inside] @ _flipped(root)
        seen, inner = (turned * soft[:, None]) @ _flipped(turned), read @ _flipped(read)
        value += self.epsilon * points[:, 0] - 2.0 * mu * np.log(np.diagonal(factor, axis1=1, axis2=2)).sum(axis=1)
        moment = seen + mu[:, None, None] * inner
        slope = _summed(self._factor * moment[:, self._left, self._right], self._starts)
        slope[:, 0] += self.epsilon
        return Points(np.where(inside, value, np.inf), slope, values, soft, turned, seen, inner)

    def hessian(self, at: Points, mu: Floats) -> Floats:
        """Second derivatives in (beta, theta), shape (A, K + 1, K + 1).

        p contributes the divided differences of p' (Daleckii and Krein), the Schur complement 2 <C_k U, (-C)^-1 C_l U
        p'>, the log-determinant mu <(-C)^-1 C_k, (-C)^-1 C_l>. Constraints are products of two forms, so the last two
        are entries of Gram matrices of the forms; so is the first where both are multiples of the form 1.
        """
        together = max(1, SLAB // len(self._left) ** 2)
        result = np.empty((len(mu), self.count + 1, self.count + 1))
        for start in range(0, len(mu), together):
            chosen = slice(start, start + together)
            mine = Points(*(getattr(at, one.name)[chosen] for one in fields(at)))
            self._spectral_part(mine, _curve(mine, mu[chosen]), result[chosen])
            self._gram_part(mine.inner, mine.seen + 0.5 * mu[chosen, None, None] * mine.inner, result[chosen])
        return result

    def _spectral_part(self, at: Points, curve: Floats, result: Floats) -> None:
        """sum_ab c_ab (M_k)_ab (M_l)_ab, M = sum (l r' + r l') / 2 over the products of forms in the eigenbasis."""
        turned = _flipped(at.forms)  # (A, rank + 1, R)
        one, plain, mixed = turned[:, :, self._one, None], self._plain, self._mixed
        left, right = turned[:, :, self._left] * self._factor, turned[:, :, self._right]
        alone = _summed(left[:, :, plain.terms], plain.starts)
        spread = alone * one
        both = _flipped(alone) @ (alone * (curve @ one**2)) + _flipped(spread) @ (curve @ spread)
        result[:, plain.places[:, None], plain.places] = 0.5 * both
        if not len(mixed.places):
            return
        left, right = left[:, :, mixed.terms], right[:, :, mixed.terms]
        read = _summed(left * (curve @ (right * one)) + right * (curve @ (left * one)), mixed.starts)
        across = 0.5 * _flipped(alone) @ read
        result[:, plain.places[:, None], mixed.places] = across
        result[:, mixed.places[:, None], plain.places] = _flipped(across)
        inside = np.zeros((len(turned), len(mixed.places), len(mixed.places)))
        above, below = np.triu_indices(curve.shape[-1])
        weights = np.sqrt(np.where(above < below, 0.5, 0.25) * curve[:, above, below])
        length = max(LEAST, SLAB // (len(turned) * len(mixed.terms)))
        for start in range(0, len(above), length):
            a, b = above[start : start + length], below[start : start + length]
            entries = left[:, a] * right[:, b]
            entries += right[:, a] * left[:, b]
            entries = _summed(entries, mixed.starts) * weights[:, start : start + length, None]
            inside += _flipped(entries) @ entries
        result[:, mixed.places[:, None], mixed.places] = inside

    def _gram_part(self, inner: Floats, outer: Floats, result: Floats) -> None:
        """Add the entries of Gram matrices: blocks of rows, from the diagonal on, and their transposes."""
        left, right, starts, terms = self._left, self._right, self._starts, len(self._left)
        ends = np.append(starts, terms)
        columns = [(gram[:, :, left], gram[:, :, right]) for gram in (inner, outer)]
        size = max(1, SLAB // (len(inner) * terms))
        first = 0
        while first < len(starts):
            last = max(int(np.searchsorted(ends, ends[first] + size, "right")) - 1, first + 1)
            above, across = left[ends[first] : ends[last]], right[ends[first] : ends[last]]
            (inner_left, inner_right), (outer_left, outer_right) = (
                [one[:, :, ends[first] :] for one in pair] for pair in columns
            )
            block = inner_left[:, above] * outer_right[:, across]
            block += inner_right[:, across] * outer_left[:, above]
            block += inner_right[:, above] * outer_left[:, across]
            block += inner_left[:, across] * outer_right[:, above]
            block *= 0.5 * np.multiply.outer(self._factor[ends[first] : ends[last]], self._factor[ends[first] :])
            whole = _summed(block, starts[first:] - ends[first])
            whole = _flipped(_summed(_flipped(whole), starts[first:last] - ends[first]))
            result[:, first:last, first:] += whole
            result[:, last:, first:last] = _flipped(result[:, first:last, last:])
            first = last

    def scales(self, at: Points, mu: Floats) -> Floats:
        """Square roots of the diagonal of `hessian`, shape (A, K + 1).

        It is the diagonal but for constraints that are sums of products, whose mixed terms are left out.
        """
        curve, outer = _curve(at, mu), at.seen + 0.5 * mu[:, None, None] * at.inner
        left, right = at.forms[:, self._left], at.forms[:, self._right]
        mixed = left * right
        whole = ((left**2 @ curve) * right**2 + (mixed @ curve) * mixed).sum(axis=2)
        pairs = ((self._left, self._right), (self._right, self._left))
        whole += sum(at.inner[:, one, one] * outer[:, other, other] for one, other in pairs)
        whole += 2.0 * at.inner[:, self._left, self._right] * outer[:, self._left, self._right]
        return np.sqrt(_summed(np.maximum(0.5 * self._factor**2 * whole, 0.0), self._starts))


@dataclass(frozen=True, eq=False)
class _Part:
    """Some of the constraints: their places, their products, and where each begins among these."""

    places: NDArray[np.intp]
    terms: NDArray[np.intp]
    starts: NDArray[np.intp]

    @classmethod
    def of(cls, chosen: NDArray[np.bool_], owner: NDArray[np.intp]) -> _Part:
        terms = np.flatnonzero(chosen[owner])
        return cls(np.flatnonzero(chosen), terms, np.flatnonzero(np.diff(owner[terms], prepend=-1)))


def _summed(terms: Floats, starts: NDArray[np.intp]) -> Floats:
    """Sums over the products that belong to one constraint, along the last axis."""
    if terms.shape[-1] == len(starts):
        return terms
    return np.asarray(np.add.reduceat(terms, starts, axis=-1))


def _flipped(matrices: Floats) -> Floats:
    return np.swapaxes(matrices, -1, -2)


def _factors(matrices: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Cholesky factors, and where there are any; I stands where there is none."""
    good = np.asarray(np.isfinite(matrices).all(axis=(1, 2)))
    with contextlib.suppress(np.linalg.LinAlgError):
        if good.all():
            return np.asarray(np.linalg.cholesky(matrices), dtype=np.float64), good
    factors = np.tile(np.eye(matrices.shape[-1]), (len(matrices), 1, 1))
    for place in np.flatnonzero(good):
        try:
            factors[place] = np.linalg.cholesky(matrices[place])
        except np.linalg.LinAlgError:
            good[place] = False
    return factors, good


def _curve(at: Points, mu: Floats) -> Floats:
    """Divided differences of p', shape (A, rank + 1, rank + 1)."""
    root = np.sqrt(at.values**2 + 4.0 * mu[:, None] ** 2)
    middle = (at.values[:, :, None] + at.values[:, None]) / (root[:, :, None] + root[:, None])
    return np.asarray(
        at.soft[:, :, None] * at.soft[:, None] * (0.5 / mu)[:, None, None] * np.maximum(1.0 - middle, 0.0)
    )


def _spectral(values: Floats, mu: Floats) -> tuple[Floats, Floats]:
    """sum p(lambda_i), and p'; the smaller of n and n - lambda is found without cancellation."""
    mu = mu[:, None]
    root = np.sqrt(values**2 + 4.0 * mu**2)
    small = mu + 2.0 * mu**2 / (root + np.abs(values))
    cover = np.where(values > 0, small + values, small)
    gap = np.where(values > 0, small, small - values)
    return (cover - mu * np.log(cover / mu) - mu * np.log(gap / mu)).sum(axis=1), mu / gap
