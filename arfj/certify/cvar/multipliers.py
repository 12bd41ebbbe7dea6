r"""Quadratic constraints that hold on the network, and their multipliers.

    w' M_mid w = g' Theta g,   g = [phi; s; 1; ...],   s = phi - z,   phi >= 0,   s >= 0,   phi_i s_i = 0

Everything that is known of a ReLU is a product of two such forms:

    diagonal   lambda_i: -phi_i s_i = 0;   eta_i: phi_i >= 0;   nu_i: s_i >= 0
    pairs      lambda_ij: phi_i s_j + phi_j s_i = -(phi_i - phi_j)(s_i - s_j) >= 0, over the neurons of all layers
    products   phi_i phi_j, phi_i s_j, s_i s_j >= 0

In the words of the paper, Q12 = T = sum lambda_i e_i e_i' + sum lambda_ij (e_i - e_j)(e_i - e_j)', Q13 = -nu,
Q22 = -2 T, Q23 = nu + eta. lambda_i multiplies an equality and may have any sign, so the pairs are written without
their own phi_i s_i: then every multiplier is at least 0 and nothing is lost, as the hidden block needs T_ii > 0.

Where the support of the distribution is known to lie in a box, bounds l <= z <= u on the preactivations give more
forms: u - z, z - l, and the slack u (z - l) / (u - l) - phi of the triangle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, NamedTuple

import numpy as np
from scipy.sparse import csr_array

from arfj.certify.cvar.lifting import EPS, Lifted, turned
from arfj.errors import UsageError
from arfj.network import Floats

Family = Literal["diagonal", "pairs", "products"]
FAMILIES: tuple[Family, ...] = ("diagonal", "pairs", "products")
SMALL = 1e-6
"""Relative to a loss: so much of the identity in it may be there for rounding, and is left out of the search."""
Term = tuple[int, int, float]
"""A product g_i g_j and its coefficient."""


@dataclass(frozen=True, eq=False)
class Support:
    """That all inputs lie in a box, and what follows for the preactivations there.

    Attributes:
        lower, upper: the box of the inputs, shape (n,).
        below, above: bounds of all preactivations, shape (m,), in the order of `Lifted.before`.
    """

    lower: Floats
    upper: Floats
    below: Floats
    above: Floats


@dataclass(frozen=True, eq=False)
class Constraints:
    """Constraints theta_k g' C_k g >= 0 with theta >= 0, all linear in theta.

    Attributes:
        lifted: the network.
        forms: g as rows over w, shape (R, N).
        table: column k holds C_k, row-major, shape (R^2, K).
        slips: the norms of what rounding may have done to the forms, shape (R,).
    """

    lifted: Lifted
    forms: Floats
    table: csr_array
    slips: Floats

    @property
    def count(self) -> int:
        """K, the number of multipliers."""
        return int(self.table.shape[1])

    @property
    def one(self) -> int:
        """The place of the form 1 in g."""
        return 2 * self.lifted.hidden

    def middle(self, theta: Floats) -> Floats:
        """M_mid = sum_k theta_k L' C_k L, shape (N, N)."""
        rows = len(self.forms)
        return np.asarray(self.forms.T @ (self.table @ theta).reshape(rows, rows) @ self.forms)

    def start(self) -> Floats:
        """lambda = `Lifted.damping`, all else 0: the hidden block is at most -2 I."""
        theta = np.zeros(self.count)
        theta[: self.lifted.hidden] = self.lifted.damping
        return theta

    def damped(self, theta: Floats, amount: float) -> Floats:
        """Theta with `amount` times `start` added: still multipliers that prove."""
        return theta + amount * self.start()


class Problem(NamedTuple):
    """A loss to be bounded: the constraints, and M_out, shape (N, N)."""

    given: Constraints
    loss: Floats


def reduced(given: Constraints, losses: Sequence[Floats]) -> list[Problem]:
    """The same problems over the directions of xi that constraints and losses read: seldom more than a first layer has
    neurons.

    In all other directions the best form is 0, so the optimum is the same; multipliers found here are proven by the
    full problem. What was added to a loss for rounding, to all directions alike, is none that a loss reads.
    """
    rank = given.lifted.rank
    if not all(np.isfinite(loss).all() for loss in losses):  # nothing is proven
        return [Problem(given, loss) for loss in losses]
    losses = [_unraised(given.lifted, loss) for loss in losses]
    rows = np.vstack([given.forms[:, :rank], *(loss[:, :rank] for loss in losses)])
    sizes = np.linalg.norm(rows, axis=1)
    rows = rows[sizes > 0] / sizes[sizes > 0, None]
    if len(rows) == 0 or rank == 0:
        return [Problem(given, loss) for loss in losses]
    _, values, basis = np.linalg.svd(rows, full_matrices=False)
    basis = basis[values > 1e-12 * values[0]].T
    if basis.shape[1] == rank:
        return [Problem(given, loss) for loss in losses]
    small = Constraints(given.lifted.turned(basis), turned(given.forms, basis), given.table, given.slips)
    return [Problem(small, turned(turned(loss, basis).T, basis).T) for loss in losses]


def _unraised(net: Lifted, loss: Floats) -> Floats:
    """The loss without a small multiple of the identity over [xi; 1]: only the search does without it."""
    diagonal = np.zeros(net.size)
    diagonal[net.seen] = np.diag(loss)[: net.rank].min(initial=np.inf)
    small = net.rank and 0 < diagonal[-1] <= SMALL * float(np.abs(loss).max())
    return np.asarray(loss - np.diag(diagonal)) if small else loss


def constraints(net: Lifted, family: Family = "diagonal", support: Support | None = None) -> Constraints:
    """All constraints of a family: lambda_i first, then eta_i, nu_i, pairs, products, and those of a support.

    Raises:
        UsageError: a family that is not known.
    """
    if family not in FAMILIES:
        raise UsageError(f"the multipliers {family!r} are not known; expected one of {', '.join(FAMILIES)}")
    hidden = net.hidden
    forms = [net.after, net.after - net.before, net.one[None]]
    one = 2 * hidden
    terms: list[list[Term]] = [[(i, hidden + i, -1.0)] for i in range(hidden)]
    terms += [[(i, one, 1.0)] for i in range(2 * hidden)]
    if family == "pairs":
        terms += [_pair(i, j, hidden) for i, j in combinations(range(hidden), 2)]
    if family == "products":
        terms += [[(i, j, 1.0)] for i, j in combinations(range(2 * hidden), 2) if j != i + hidden]
    slips = [np.zeros(hidden), net.slips, np.zeros(1)]
    if support is not None:
        extra, more, lost = _local(net, support, one)
        forms.append(extra)
        terms += more
        slips.append(lost)
    return Constraints(net, np.vstack(forms), _table(terms, sum(map(len, forms))), np.concatenate(slips))


def _pair(i: int, j: int, hidden: int) -> list[Term]:
    """phi_i s_j + phi_j s_i: -(phi_i - phi_j)(s_i - s_j) without its phi_i s_i and phi_j s_j, which are 0."""
    return [(i, hidden + j, 1.0), (j, hidden + i, 1.0)]


def _local(net: Lifted, support: Support, one: int) -> tuple[Floats, list[list[Term]], Floats]:
    """Forms that are not negative on the support, and products of them: x - l, u - x, z - l, u - z, triangles.

    The last of what is returned are their slips: each is off by as much as z, and by a few roundings of its terms.
    """
    forms: list[Floats] = []
    terms: list[list[Term]] = []
    slips: list[float] = []

    def slip(row: Floats, low: float, up: float, of_row: float = 0.0) -> float:
        return of_row + 8 * EPS * float(np.linalg.norm(row) + abs(low) + abs(up))

    def both(low: Floats, high: Floats, lost: float) -> tuple[int, int]:
        places = one + 1 + len(forms), one + 2 + len(forms)
        forms.extend((low, high))
        slips.extend((lost, lost))
        terms.extend([[(places[0], one, 1.0)], [(places[1], one, 1.0)], [(places[0], places[1], 1.0)]])
        return places

    for row, low, up in zip(net.inputs, support.lower, support.upper, strict=True):
        both(row - low * net.one, up * net.one - row, slip(row, low, up))
    bounds = support.below / net.units, support.above / net.units
    for place, (row, low, up) in enumerate(zip(net.before, *bounds, strict=True)):
        if not np.isfinite(low) or not np.isfinite(up):
            continue
        lost = slip(row, low, up, net.slips[place])
        above, below = both(row - low * net.one, up * net.one - row, lost)
        # phi (u - z) >= 0, s (z - l) >= 0: products of forms of one neuron
        terms.extend([[(place, below, 1.0)], [(net.hidden + place, above, 1.0)]])
        after = net.after[place]
        if low >= 0:
            slack = row - after  # phi = z
        elif up <= 0:
            slack = -after  # phi = 0
        else:
            slack = up / (up - low) * (row - low * net.one) - after
        terms.append([(one + 1 + len(forms), one, 1.0)])
        forms.append(slack)
        slips.append(lost)
    return np.array(forms).reshape(-1, net.size), terms, np.array(slips)


def _table(terms: list[list[Term]], rows: int) -> csr_array:
    places, columns, entries = [], [], []
    for column, products in enumerate(terms):
        for i, j, coefficient in products:
            places += [i * rows + j, j * rows + i]
            columns += [column, column]
            entries += [0.5 * coefficient, 0.5 * coefficient]
    return csr_array((entries, (places, columns)), shape=(rows * rows, len(terms)))
