r"""Bounds of all networks of an ensemble in one compiled call, tightened by what they must fulfil together.

All scenarios share one architecture, so one alpha-CROWN program runs over the stacked weights. A joint constraint, such
as "every network gives the target", enters as half-spaces H x + h >= 0 that every admissible x fulfils (`half_spaces`:
the upper linear bounds of the constrained outputs). Over them, Lagrange multipliers mu >= 0 are optimised beside the
slopes:

    min over x in X of  A x + c  subject to H x + h >= 0     >=     c - mu' h - support_X(mu' H - A)

The support of box and L1 ball is not sorted for, as in `arfj.region`, but bounded by its dual: for every tau >= 0

    support(w) <= w' centre + tau R + sum_i max(|w_i| - tau, 0) room_i,

with equality at the tau that bisection finds. Whatever the searches for slopes, mu and tau give, the bounds are sound.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arfj.bounds.backward import AffineStep, Pass, Structure, backward, relaxed_forward, sites, structure, weights
from arfj.bounds.compiled import Compiled, in_float64
from arfj.bounds.crown import Relaxed
from arfj.bounds.interval import interval_bounds
from arfj.bounds.records import OUTWARD, Bounds, sound
from arfj.bounds.relaxation import relax
from arfj.errors import UsageError
from arfj.network import Floats, Network
from arfj.region import Region

STEPS = 8
STEP_SIZE = 0.3
DECAY = 0.8
HALVINGS = 14
"""Bisections of tau while slopes move; the bound itself takes twice as many."""

Array = Any


@dataclass(frozen=True, eq=False)
class HalfSpaces:
    """H x + h >= 0 for all admissible x.

    Attributes:
        rows: H, shape (count, inputs).
        offsets: h, shape (count,).
    """

    rows: Floats
    offsets: Floats


def half_spaces(
    networks: Sequence[Network], bounds: Sequence[Bounds], region: Region, demands: Sequence[tuple[Floats, Floats]]
) -> HalfSpaces:
    """What demands on outputs imply for the input: C f(x) >= d gives H x + h >= 0, by linear upper bounds of C f - d.

    Args:
        networks: the scenarios.
        bounds: sound bounds of each over the region.
        region: where x lies.
        demands: (C, d) of each network, shapes (rows, classes) and (rows,), on its pre-activated outputs.
    """
    rows, offsets = [], []
    for network, bound, (matrix, least) in zip(networks, bounds, demands, strict=True):
        relaxed = Relaxed(network.graph(), region)
        last = sites(relaxed.graph)[-1]
        for site, low, up in zip(sites(relaxed.graph), bound.lower, bound.upper, strict=True):
            if site < last:
                relaxed.append((low, up))
        plain = {index: np.tile(line.low_slope, (len(matrix), 1)) for index, line in relaxed.lines.items()}
        below = relaxed.linear(last, -matrix, plain)  # -C f >= A x + c
        rows.append(-below.rows)
        offsets.append(-below.constant - least + OUTWARD * (below.magnitude + region.magnitude(below.rows) + 1.0))
    return HalfSpaces(np.concatenate(rows), np.concatenate(offsets))


def ensemble_bounds(
    networks: Sequence[Network], region: Region, steps: int = STEPS, joint: HalfSpaces | None = None
) -> tuple[Bounds, ...]:
    """alpha-CROWN bounds of every pre-activation of every network, over box and L1 ball, by one call.

    Args:
        networks: of one architecture.
        region: where x lies; balls in L1 or none.
        steps: ascent steps.
        joint: half-spaces that every admissible x fulfils; the bounds then hold for admissible x alone.

    Raises:
        UsageError: networks of several architectures, or a ball in L2.
    """
    graphs = [network.graph() for network in networks]
    shapes = {(structure(graph), graph.sizes) for graph in graphs}
    if len(shapes) != 1:
        raise UsageError("networks that are bounded together need one architecture; bound them one by one")
    if region.has_ball and region.norm != 1:
        raise UsageError("networks are bounded together over boxes and L1 balls; bound them one by one over L2 balls")
    plan = structure(graphs[0])
    plain = [interval_bounds(graph, region) for graph in graphs]
    lows, ups = ([np.stack(side) for side in zip(*sides, strict=True)] for sides in _sides(plain))
    stacked = _stacked([weights(graph) for graph in graphs])
    joint = joint or HalfSpaces(np.zeros((0, region.centre.size)), np.zeros(0))
    radius = region.radius if region.has_ball else region.reach
    box = (region.centre, region.upper - region.centre, region.centre - region.lower, np.float64(radius))
    with in_float64("jax"):
        found = _compiled()(plan, steps, stacked, tuple(lows), tuple(ups), box, (joint.rows, joint.offsets))
        tightened = [(np.asarray(low), np.asarray(up)) for low, up in found]
    result = []
    for index, bound in enumerate(plain):
        lower = tuple(np.maximum(own, sound(low[index])) for own, (low, _) in zip(bound.lower, tightened, strict=True))
        upper = tuple(np.minimum(own, -sound(-up[index])) for own, (_, up) in zip(bound.upper, tightened, strict=True))
        result.append(Bounds(lower, upper))
    return tuple(result)


def _sides(bounds: Sequence[Bounds]) -> tuple[list[tuple[Floats, ...]], list[tuple[Floats, ...]]]:
    return [bound.lower for bound in bounds], [bound.upper for bound in bounds]


def _stacked(parts: Sequence[Any]) -> tuple[Any, ...]:
    result: list[Any] = []
    for node in zip(*parts, strict=True):
        if node[0] is None:
            result.append(None)
            continue
        maps = tuple(np.stack(pair) for pair in zip(*(entry[0] for entry in node), strict=True))
        result.append((maps, np.stack([entry[1] for entry in node])))
    return tuple(result)


@functools.cache
def _compiled() -> Compiled:
    import jax

    def run(plan: Structure, steps: int, numbers: Any, lows: Any, ups: Any, box: Any, joint: Any) -> Any:
        one = functools.partial(_bound_one, plan, steps)
        return jax.vmap(one, in_axes=(0, 0, 0, None, None))(numbers, lows, ups, box, joint)

    return Compiled(run, fixed=2)


def _bound_one(
    plan: Structure, steps: int, numbers: Any, lows: Any, ups: Any, box: Any, joint: Any
) -> list[tuple[Array, Array]]:
    """One network: layer by layer, every neuron from both sides."""
    import jax.numpy as jnp

    place = {site: k for k, site in enumerate(_sites(plan))}
    centre, above, below, _ = box
    most = [jnp.maximum(jnp.abs(centre + above), jnp.abs(centre - below))]
    bounds: dict[int, tuple[Array, Array]] = {}
    lines: dict[int, Any] = {}
    found = []
    for index, step in enumerate(plan, start=1):
        if not isinstance(step, AffineStep):
            low, up = bounds[step.source]
            lines[index] = relax(jnp, step.kind, low, up)
            most.append(jnp.maximum(jnp.maximum(jnp.abs(low), jnp.abs(up)), most[step.source]))
            continue
        maps, bias = numbers[index - 1]
        most.append(jnp.abs(bias) + sum(most[j] @ jnp.abs(m) for j, m in zip(step.sources, maps, strict=True)))
        low, up = lows[place[index]], ups[place[index]]
        bounds[index] = (low, up)
        if lines or joint[0].shape[0]:
            proven = _Ascent(plan, numbers, lines, most, box, joint, index).run(steps)
            bounds[index] = (jnp.maximum(low, proven[: len(low)]), jnp.minimum(up, -proven[len(low) :]))
        found.append(bounds[index])
    return found


def _sites(plan: Structure) -> list[int]:
    return [index for index, step in enumerate(plan, start=1) if isinstance(step, AffineStep)]


@dataclass(frozen=True, eq=False)
class _Ascent:
    """Slopes and multipliers for all neurons of one layer of one network, from both sides."""

    plan: Structure
    numbers: Any
    lines: dict[int, Any]
    most: list[Array]
    box: Any
    joint: Any
    target: int

    def run(self, steps: int) -> Array:
        """Proven minima of v and -v, shape (2 n,)."""
        import jax
        import jax.numpy as jnp

        eye = jnp.eye(len(self.most[self.target]))
        rows = jnp.concatenate([eye, -eye])
        slopes = {
            i: jnp.broadcast_to(line.low_slope, (len(rows), len(line.low_slope))) for i, line in self.lines.items()
        }
        mu = jnp.zeros((len(rows), len(self.joint[1])))
        zeros = jax.tree.map(jnp.zeros_like, (slopes, mu))
        best = jnp.full(len(rows), -jnp.inf)
        state = (slopes, mu, zeros, zeros, best, slopes, mu)
        *_, best_slopes, best_mu = jax.lax.fori_loop(0, steps + 1, functools.partial(self._step, rows), state)
        return self._value(rows, best_slopes, best_mu, 2 * HALVINGS)[0]

    def _step(self, rows: Array, step: Any, state: Any) -> Any:
        import jax.numpy as jnp

        slopes, mu, momentum, scale, best, best_slopes, best_mu = state
        value, passed, x = self._value(rows, slopes, mu, HALVINGS)
        better = (value > best)[:, None]
        best = jnp.maximum(value, best)
        best_slopes = {i: jnp.where(better, slopes[i], best_slopes[i]) for i in slopes}
        best_mu = jnp.where(better, mu, best_mu)
        before = relaxed_forward(jnp, self.plan, self.numbers, self.target, x, passed.met, self.lines, slopes)
        uphill = {i: jnp.maximum(passed.met[i], 0) * a for i, a in before.items()}
        pull = -(x @ self.joint[0].T + self.joint[1])
        ms = {i: 0.8 * momentum[0][i] + 0.2 * g for i, g in uphill.items()}
        vs = {i: 0.95 * scale[0][i] + 0.05 * g * g for i, g in uphill.items()}
        mm, vm = 0.8 * momentum[1] + 0.2 * pull, 0.95 * scale[1] + 0.05 * pull * pull
        rate = STEP_SIZE * DECAY**step
        moved = {
            i: jnp.where(
                self.lines[i].open, jnp.clip(slopes[i] + rate * ms[i] / (jnp.sqrt(vs[i]) + 1e-12), 0, 1), slopes[i]
            )
            for i in slopes
        }
        steep = jnp.abs(self.joint[0]).max(axis=1, initial=0.0) + 1e-12
        unit = jnp.abs(passed.rows).max(axis=1, keepdims=True) / steep
        mu = jnp.maximum(mu + rate * unit * mm / (jnp.sqrt(vm) + 1e-12), 0.0)
        return moved, mu, (ms, mm), (vs, vm), best, best_slopes, best_mu

    def _value(self, rows: Array, slopes: Any, mu: Array, halvings: int) -> tuple[Array, Pass, Array]:
        """What slopes and multipliers prove, the pass, and the x that it is tight at."""
        import jax.numpy as jnp

        centre, above, below, radius = self.box
        passed = backward(jnp, self.plan, self.numbers, self.target, rows, self.lines, slopes, None, self.most)
        weights = mu @ self.joint[0] - passed.rows
        room = jnp.where(weights > 0, above, below)
        gain = jnp.abs(weights)
        low, high = jnp.zeros(len(rows)), gain.max(axis=1)
        for _ in range(halvings):
            middle = 0.5 * (low + high)
            spends = jnp.where(gain > middle[:, None], room, 0.0).sum(axis=1) > radius
            low, high = jnp.where(spends, middle, low), jnp.where(spends, high, middle)
        tau = jnp.where(jnp.where(gain > 0, room, 0.0).sum(axis=1) > radius, high, 0.0)
        support = weights @ centre + tau * radius + (jnp.maximum(gain - tau[:, None], 0.0) * room).sum(axis=1)
        handled = passed.magnitude + (jnp.abs(passed.rows) + mu @ jnp.abs(self.joint[0])) @ self.most[0]
        handled = handled + mu @ jnp.abs(self.joint[1]) + tau * radius
        value = passed.constant - mu @ self.joint[1] - support - OUTWARD * (handled + 1.0)
        x = centre + jnp.sign(weights) * jnp.where(gain > tau[:, None], room, 0.0)
        return value, passed, x
