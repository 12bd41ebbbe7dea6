r"""The scenario program of l1 balls, and a ball that provably holds the one of its optimum.

    max a'c - r ||a||_inf - lambda r^2   s.t.  s'c + r >= s'y_j  for all j and all s in {-1, 1}^n.          (lambda > 0)

Where a has zeros, as the margin of two classes has, many centres are as good; so a is tilted by a fixed, small vector
in the choice of c and r (what the ball says of a'y + b is said of a itself), and the optimum is unique.

Cuts s'c + r >= h are added as samples violate them; r^2 is cut by tangents. Take n cuts with independent s_k, and
multipliers m > 0 with a + sum m_k s_k = 0. With r' = (sum m - ||a||_inf) / (2 lambda) every feasible point has the
value

    D - sum m_k (s_k'c + r - h_k) - lambda (r - r')^2,   D = -m'h + lambda r'^2,

so if the point at hand lies g below D, the optimum has slacks of at most g / m_k and an r within sqrt(g / lambda) of
r', which encloses its centre. Where the program has n + 1 active cuts, r is one of the unknowns of the same system.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from scipy.optimize import linprog, nnls

from arfj.certify.scenario.sets import Ball, covering, in_range
from arfj.errors import ArfjError
from arfj.network import Floats

ROUNDS, ADDED = 400, 16
"""Linear programs before the search is given up; cuts that a round adds."""
TILT = 1e-3
"""Of ||a||_inf."""
NEAR = 1e-8
"""Slack, of the scale, below which a cut is active."""
LOOSE = 1e-3
"""The share of the radius by which a ball may be widened; more means that the search has failed."""
MARGIN = 1e-14
"""Relative: what rounding may do to g."""


@dataclass(eq=False)
class Program:
    """The program, scaled: points within [-1, 1]^n, ||a||_inf = 1; and the cuts so far.

    Attributes:
        points, a, weight: y_j, a (tilted) and lambda.
        signs, levels: s_k, shape (cuts, n), and h_k.
        tangents: radii at which r^2 is cut.
    """

    points: Floats
    a: Floats
    weight: float
    signs: Floats = field(init=False)
    levels: Floats = field(init=False)
    tangents: list[float] = field(default_factory=lambda: [0.0, 1.0])

    def __post_init__(self) -> None:
        self.signs, self.levels = np.empty((0, len(self.a))), np.empty(0)

    def value(self, centre: Floats, radius: float) -> float:
        """a'c - r - lambda r^2."""
        return float(self.a @ centre) - radius - self.weight * radius**2

    def cut(self, centre: Floats, radius: float) -> bool:
        """Add the cuts that the farthest samples violate; whether there are any."""
        apart = self.points - centre
        distances = np.abs(apart).sum(axis=1)
        farthest = np.argsort(-distances)[:ADDED]
        farthest = farthest[distances[farthest] > radius + 1e-11]
        if not farthest.size:
            return False
        signs = np.unique(np.where(apart[farthest] >= 0, 1.0, -1.0), axis=0)
        # The level of a cut is its largest over all samples, so that no sign comes twice.
        self.signs = np.vstack([self.signs, signs])
        self.levels = np.append(self.levels, (self.points @ signs.T).max(axis=0))
        return True


def tilted(a: Floats) -> Floats:
    """The fixed direction in which ties are decided: a itself, a little of it given to n fixed numbers."""
    fixed = np.modf(np.sqrt(2.0) * np.arange(1, len(a) + 1))[0] - 0.5
    return np.asarray((1.0 - TILT) * a + TILT * float(np.abs(a).max()) * fixed)


def l1_ball(points: Floats, a: Floats, weight: float) -> Ball:
    """A ball that holds all points and the optimal ball.

    Args:
        points: y_j, shape (N, n_y).
        a: not 0.
        weight: lambda > 0.

    Raises:
        ArfjError: the search came to no end, or proves too little.
    """
    points = np.unique(points, axis=0)
    origin = 0.5 * (points.min(axis=0) + points.max(axis=0))
    scale = float(np.abs(points - origin).max())
    if scale == 0.0:
        return covering(Ball(points[0], 0.0, "l1"), points)
    steep = float(np.abs(a).max())
    relative = in_range(weight * scale / steep, scale, steep)
    program = Program((points - origin) / scale, tilted(a) / steep, relative)
    centre, radius = _searched(program)
    centre, reach = _proven(program, centre, radius)
    rounding = 1e-14 * len(a) * (float(np.abs(points).max()) + scale)
    return covering(Ball(origin + scale * centre, scale * reach + rounding, "l1"), points)


def _searched(program: Program) -> tuple[Floats, float]:
    """The optimum, by cutting planes, to the digits of a linear solver."""
    n = len(program.a)
    centre, radius = np.zeros(n), 0.0
    for _ in range(ROUNDS):
        cutting = program.cut(centre, radius)
        if len(program.levels) and not cutting and _bent(program, radius):
            return centre, radius
        # Variables c, r, q with q >= r^2 by tangents.
        tangents = np.array(program.tangents)
        rows = np.vstack([
            np.column_stack([-program.signs, -np.ones(len(program.levels)), np.zeros(len(program.levels))]),
            np.column_stack([np.zeros((len(tangents), n)), 2.0 * tangents, -np.ones(len(tangents))]),
        ])  # fmt: skip
        right = np.append(-program.levels, tangents**2)
        cost = np.concatenate([-program.a, [1.0, program.weight]])
        box = [(-4.0 * n, 4.0 * n)] * n + [(0.0, None), (0.0, None)]
        found = linprog(cost, A_ub=rows, b_ub=right, bounds=box, method="highs")
        if found.x is None:
            break
        centre, radius = np.asarray(found.x[:n]), float(found.x[n])
    raise ArfjError("the search for an l1 ball came to no end; use linf")


def _bent(program: Program, radius: float) -> bool:
    """Whether r^2 is met by a tangent; adds one where not."""
    short = min(abs(radius - at) for at in program.tangents)
    if program.weight * short**2 <= 1e-15 or short <= 1e-9:
        return True
    program.tangents.append(radius)
    return False


def _proven(program: Program, centre: Floats, radius: float) -> tuple[Floats, float]:
    """A centre, and the radius around it that holds the ball of the optimum, by the module's docstring."""
    n = len(program.a)
    slack = program.signs @ centre + radius - program.levels
    for near in (NEAR, 100 * NEAR, 1e4 * NEAR):
        active = np.flatnonzero(slack <= near)
        # First with the radius that the search found, then with that of the multipliers.
        system = np.vstack([program.signs[active].T, np.ones(len(active))])
        wanted = np.append(-program.a, 1.0 + 2.0 * program.weight * radius)
        m, _ = nnls(system, wanted)
        held = active[m > 1e-9]
        for count in (n + 1, n):
            if len(held) == count and (found := _enclosed(program, held)) is not None:
                return found
    raise ArfjError("the l1 ball is not unique at working precision; use linf, l2 or another --regularise")


def _enclosed(program: Program, held: np.ndarray[tuple[int], np.dtype[np.intp]]) -> tuple[Floats, float] | None:
    """The vertex of n or n + 1 cuts, and what it proves; None where that is not enough."""
    n, signs, levels = len(program.a), program.signs[held], program.levels[held]
    try:
        m, centre, radius, matrix = _vertex(program, signs, levels)
        inverse = np.linalg.inv(matrix)
    except np.linalg.LinAlgError:
        return None
    if not (m > 0).all():
        return None
    reach = float(np.abs(program.points - centre).sum(axis=1).max())
    middle = (float(m.sum()) - 1.0) / (2.0 * program.weight)
    size = 1.0 + float(m @ np.abs(levels)) + program.weight * max(middle, reach) ** 2 + float(np.abs(centre).sum())
    # The conditions hold up to rounding; of centres within `edge` it can make this much.
    edge = 4.0 * (reach + 1.0)
    residual = float(np.abs(program.a + m @ signs).max()) * (edge + float(np.abs(centre).sum()))
    most = -float(m @ levels) + program.weight * middle**2
    gap = max(most - program.value(centre, reach), 0.0) + residual + MARGIN * (n + 8) * size
    off = float(np.sqrt(gap / program.weight))
    room = gap / m
    if len(held) == n:
        room = np.append(room, off)
    moved = np.abs(inverse) @ room + np.abs(inverse).sum(axis=1) * MARGIN * size
    wide = max(reach, radius + float(moved[-1])) + float(moved[:-1].sum())
    # Near-optimal points are a convex set: as none of those within `edge` comes near to it, none lies beyond.
    return (centre, wide) if wide <= reach * (1.0 + LOOSE) + 1e-9 and wide < edge else None


def _vertex(program: Program, signs: Floats, levels: Floats) -> tuple[Floats, Floats, float, Floats]:
    """Multipliers, centre, radius, and the system whose right-hand sides are slacks."""
    n = len(program.a)
    ones = np.ones(len(levels))
    if len(levels) == n:
        m = np.linalg.solve(signs.T, -program.a)
        radius = (float(m.sum()) - 1.0) / (2.0 * program.weight)
        matrix = np.vstack([np.column_stack([signs, ones]), np.append(np.zeros(n), 1.0)])
        point = np.linalg.solve(matrix, np.append(levels, radius))
    else:
        matrix = np.column_stack([signs, ones])
        point = np.linalg.solve(matrix, levels)
        radius = float(point[-1])
        m = np.linalg.solve(np.vstack([signs.T, ones]), np.append(-program.a, 1.0 + 2.0 * program.weight * radius))
    return np.asarray(m), np.asarray(point[:-1]), float(point[-1]), matrix
