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

SLAB = 2**19
"""Numbers of one block of products, as many as caches hold: their Gram matrix is summed block by block."""


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
        left, right, owner = left[kept], right[kept], upper.coords[1][kept]
        self._factor = np.where(left < right, 2.0, 1.0) * upper.data[kept]
        turn = left == one
        self._left, self._right = np.where(turn, right, left), np.where(turn, one, right)
        plain = self._right == one
        self._plain, self._mixed, self._one = np.flatnonzero(plain), np.flatnonzero(~plain), one
        self._gather = csr_array((np.ones(len(owner)), (owner, np.arange(len(owner)))), (self.count + 1, len(owner)))

    @property
    def work(self) -> int:
        """Numbers that `hessian` holds at once, for one problem."""
        return 2 * len(self._left) ** 2

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
        slope = self._gathered(self._factor * moment[:, self._left, self._right])
        slope[:, 0] += self.epsilon
        return Points(np.where(inside, value, np.inf), slope, values, soft, turned, seen, inner)

    def hessian(self, at: Points, mu: Floats) -> Floats:
        """Second derivatives in (beta, theta), shape (A, K + 1, K + 1).

        p contributes the divided differences of p' (Daleckii and Krein), the Schur complement 2 <C_k U, (-C)^-1 C_l U
        p'>, the log-determinant mu <(-C)^-1 C_k, (-C)^-1 C_l>. Constraints are products of two forms, so the last two
        are entries of Gram matrices of the forms; so is the first where both are multiples of the form 1.
        """
        result = self._spectral_part(at, _curve(at, mu))
        inner, outer = at.inner, at.seen + 0.5 * mu[:, None, None] * at.inner
        left, right = self._left, self._right
        for one, other in ((left, right), (right, left)):
            result += _entries(inner, one, one) * _entries(outer, other, other)
        cross = _entries(inner, left, right) * _entries(outer, right, left)
        result += cross
        result += _flipped(cross)
        result *= 0.5 * np.multiply.outer(self._factor, self._factor)
        if len(left) == self.count + 1:  # a product each
            return result
        return _flipped(self._gathered(_flipped(self._gathered(result))))

    def _spectral_part(self, at: Points, curve: Floats) -> Floats:
        """2 sum_ab c_ab (M_k)_ab (M_l)_ab of the products M = (l r' + r l') / 2 of forms in the eigenbasis."""
        turned = _flipped(at.forms)  # (A, rank + 1, R)
        plain, mixed, one = self._plain, self._mixed, turned[:, :, self._one, None]
        result = np.empty((len(turned), len(self._left), len(self._left)))
        left, right = turned[:, :, self._left[mixed]], turned[:, :, self._right[mixed]]
        alone = turned[:, :, self._left[plain]]
        spread = alone * one
        both = _flipped(alone) @ (alone * (curve @ one**2)) + _flipped(spread) @ (curve @ spread)
        result[:, plain[:, None], plain] = both
        across = _flipped(alone) @ (left * (curve @ (right * one)) + right * (curve @ (left * one)))
        result[:, plain[:, None], mixed], result[:, mixed[:, None], plain] = across, _flipped(across)
        inside = np.zeros((len(turned), len(mixed), len(mixed)))
        above, below = np.triu_indices(curve.shape[-1])
        weights = np.sqrt(np.where(above < below, 1.0, 0.5) * curve[:, above, below])
        length = max(1, SLAB // max(1, len(turned) * len(mixed)))
        for start in range(0, len(above) if len(mixed) else 0, length):
            a, b = above[start : start + length], below[start : start + length]
            entries = left[:, a] * right[:, b]
            entries += right[:, a] * left[:, b]
            entries *= weights[:, start : start + length, None]
            inside += _flipped(entries) @ entries
        result[:, mixed[:, None], mixed] = inside
        return result

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
        return np.sqrt(self._gathered(np.maximum(0.5 * self._factor**2 * whole, 0.0)))

    def _gathered(self, terms: Floats) -> Floats:
        """Sums over the products that belong to one constraint, along axis 1."""
        flat = np.moveaxis(terms, 1, 0)
        summed = self._gather @ flat.reshape(len(flat), -1)
        return np.ascontiguousarray(np.moveaxis(np.asarray(summed).reshape(-1, *flat.shape[1:]), 0, 1))


def _flipped(matrices: Floats) -> Floats:
    return np.swapaxes(matrices, -1, -2)


def _entries(gram: Floats, rows: NDArray[np.intp], columns: NDArray[np.intp]) -> Floats:
    return np.asarray(gram[:, rows][:, :, columns])


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
    return np.asarray(at.soft[:, :, None] * at.soft[:, None] * (0.5 / mu)[:, None, None] * (1.0 - middle))


def _spectral(values: Floats, mu: Floats) -> tuple[Floats, Floats]:
    """sum p(lambda_i), and p'; the smaller of n and n - lambda is found without cancellation."""
    mu = mu[:, None]
    root = np.sqrt(values**2 + 4.0 * mu**2)
    small = mu + 2.0 * mu**2 / (root + np.abs(values))
    cover = np.where(values > 0, small + values, small)
    gap = np.where(values > 0, small, small - values)
    return (cover - mu * np.log(cover / mu) - mu * np.log(gap / mu)).sum(axis=1), mu / gap
