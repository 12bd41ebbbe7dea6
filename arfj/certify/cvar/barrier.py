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
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.linalg import LinAlgError, cho_solve, cholesky, solve_triangular
from scipy.sparse import csr_array

from arfj.certify.cvar.moments import symmetrised
from arfj.certify.cvar.multipliers import Constraints
from arfj.network import Floats


@dataclass(frozen=True, eq=False)
class Point:
    """The barrier at one point.

    Attributes:
        value: eps times the objective, barriers included.
        beta_slope, slope: its derivatives along beta and theta (without the barrier of theta >= 0).
        values, soft, vectors: eigenvalues lambda of G - beta e e', p'(lambda), and eigenvectors.
        forms: g in the eigenbasis: L U V, shape (R, rank + 1).
        inner: the rows of L over phi times C^(-1/2), shape (R, m).
    """

    value: float
    beta_slope: float
    slope: Floats
    values: Floats
    soft: Floats
    vectors: Floats
    forms: Floats
    inner: Floats


class Barrier:
    """F_mu(beta, theta) = eps beta + sum p(lambda_i(G - beta e e')) - mu log det(-C).

    Args:
        given: the constraints.
        loss: M_out, shape (N, N).
        epsilon: in (0, 1).
    """

    def __init__(self, given: Constraints, loss: Floats, epsilon: float) -> None:
        self.given, self.loss, self.epsilon = given, loss, epsilon
        net = given.lifted
        self._seen, self._hidden = net.seen, slice(net.rank, net.rank + net.hidden)
        upper = given.table.tocoo()
        left, right = np.divmod(upper.coords[0], len(given.forms))
        kept = left < right
        self._left, self._right, self._owner = left[kept], right[kept], upper.coords[1][kept]
        self._factor = 2.0 * upper.data[kept]

    @property
    def work(self) -> int:
        """Numbers that `hessian` holds at once."""
        side = self.given.lifted.rank + 1
        return 2 * len(self._left) * max(side * side, len(self._left))

    def at(self, beta: float, theta: Floats, mu: float) -> Point | None:
        """Value and slopes, or None where C is not negative definite."""
        net, forms = self.given.lifted, self.given.forms
        whole = self.given.middle(theta) + self.loss
        beside = whole[self._hidden][:, self._seen]
        try:
            factor = cholesky(-whole[self._hidden, self._hidden], lower=True)
        except (LinAlgError, ValueError):
            return None
        lift = np.zeros((net.size, net.rank + 1))
        lift[self._seen] = np.eye(net.rank + 1)
        lift[self._hidden] = cho_solve((factor, True), beside)
        form = symmetrised(whole[np.ix_(self._seen, self._seen)] + beside.T @ lift[self._hidden])
        form[-1, -1] -= beta
        values, vectors = np.linalg.eigh(form)
        value, soft = _spectral(values, mu)
        turned = lift @ vectors
        moment = (turned * soft) @ turned.T
        inverse = solve_triangular(factor, np.eye(net.hidden), lower=True)
        moment[self._hidden, self._hidden] += mu * inverse.T @ inverse
        return Point(
            self.epsilon * beta + value - 2.0 * mu * float(np.log(np.diag(factor)).sum()),
            self.epsilon - float((vectors[-1] ** 2 * soft).sum()),
            self.given.products_with(moment),
            values,
            soft,
            vectors,
            forms @ turned,
            forms[:, self._hidden] @ inverse.T,
        )

    def hessian(self, at: Point, mu: float) -> Floats:
        """Second derivatives in (beta, theta), shape (K + 1, K + 1).

        p contributes the divided differences of p' (Daleckii and Krein), the Schur complement 2 <C_k U, (-C)^-1 C_l U
        p'>, the log-determinant mu <(-C)^-1 C_k, (-C)^-1 C_l>. Constraints are products of two forms, so the last two
        are entries of Gram matrices of the forms.
        """
        curve = self._curve(at, mu)
        left, right = at.forms[self._left], at.forms[self._right]
        moved = left[:, :, None] * right[:, None, :]
        moved = 0.5 * self._factor[:, None, None] * (moved + np.swapaxes(moved, 1, 2))
        gather = self._gather
        flat = np.vstack(
            [-np.outer(at.vectors[-1], at.vectors[-1]).ravel()[None], gather @ moved.reshape(len(left), -1)]
        )
        result = (flat * curve.ravel()) @ flat.T
        seen, inner = (at.forms * at.soft) @ at.forms.T, at.inner @ at.inner.T
        pairs = np.ix_(self._left, self._left), np.ix_(self._right, self._right)
        cross = np.ix_(self._left, self._right), np.ix_(self._right, self._left)
        weights = np.outer(self._factor, self._factor)
        schur = inner[pairs[0]] * seen[pairs[1]] + inner[pairs[1]] * seen[pairs[0]]
        schur += inner[cross[0]] * seen[cross[1]] + inner[cross[1]] * seen[cross[0]]
        volume = inner[pairs[0]] * inner[pairs[1]] + inner[cross[0]] * inner[cross[1]]
        result[1:, 1:] += gather @ (0.5 * weights * (schur + mu * volume)) @ gather.T
        return np.asarray(result)

    def scales(self, at: Point, mu: float) -> tuple[float, Floats]:
        """Square roots of the diagonal of `hessian`: along beta, and along theta.

        It is the diagonal but for constraints that are sums of products, whose mixed terms are left out.
        """
        curve, weight = self._curve(at, mu), at.vectors[-1] ** 2
        left, right = at.forms[self._left], at.forms[self._right]
        mixed = left * right
        whole = ((left**2 @ curve) * right**2).sum(axis=1) + ((mixed @ curve) * mixed).sum(axis=1)
        inner, other = at.inner[self._left], at.inner[self._right]
        seen = [(one * two * at.soft).sum(axis=1) for one, two in ((left, left), (right, right), (left, right))]
        held = [(one * two).sum(axis=1) for one, two in ((inner, inner), (other, other), (inner, other))]
        whole += held[0] * seen[1] + held[1] * seen[0] + 2.0 * held[2] * seen[2]
        whole += mu * (held[0] * held[1] + held[2] ** 2)
        along = self._gather @ np.maximum(0.5 * self._factor**2 * whole, 0.0)
        return float(np.sqrt(weight @ curve @ weight)), np.sqrt(np.asarray(along))

    def _curve(self, at: Point, mu: float) -> Floats:
        """Divided differences of p', shape (rank + 1, rank + 1)."""
        root = np.sqrt(at.values**2 + 4.0 * mu**2)
        middle = np.add.outer(at.values, at.values) / np.add.outer(root, root)
        return np.asarray(np.outer(at.soft, at.soft) * (0.5 / mu) * (1.0 - middle))

    @cached_property
    def _gather(self) -> csr_array:
        """Sums the products of forms that belong to one constraint."""
        count = len(self._left)
        return csr_array((np.ones(count), (self._owner, np.arange(count))), shape=(self.given.count, count))


def _spectral(values: Floats, mu: float) -> tuple[float, Floats]:
    """sum p(lambda_i), and p'; the smaller of n and n - lambda is found without cancellation."""
    root = np.sqrt(values**2 + 4.0 * mu**2)
    small = mu + 2.0 * mu**2 / (root + np.abs(values))
    cover = np.where(values > 0, small + values, small)
    gap = np.where(values > 0, small, small - values)
    return float((cover - mu * np.log(cover / mu) - mu * np.log(gap / mu)).sum()), np.asarray(mu / gap)
