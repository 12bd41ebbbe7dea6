"""References that share no code with the package: enumeration of phases by linear programs, and random instances."""

from __future__ import annotations

import itertools

import numpy as np
import scipy.sparse as sp
from scipy.optimize import Bounds, LinearConstraint, linprog, milp

from arfj.ensemble import Ensemble
from arfj.graph import Affine
from arfj.network import Network
from arfj.question import Question


def random_network(sizes, seed, activation="relu"):
    """Weights of the size that keeps activations of order one; biases that make some neurons stable."""
    rng = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(sizes))
    return Network.from_arrays(
        [rng.normal(size=pair) * np.sqrt(3.0 / pair[0]) for pair in pairs],
        [rng.normal(size=after) * 0.3 for _, after in pairs],
        activation,
    )


def random_question(seed, scenarios=1, gamma=0.2, inputs=4, hidden=(3, 3), classes=3):
    """A nominal image with pixels inside and at both bounds; scenarios are neighbours of one network.

    The target is the class that most random points are answers of, so that most instances have one.
    """
    rng = np.random.default_rng(seed)
    first = random_network((inputs, *hidden, classes), seed)
    networks = [first]
    for _ in range(scenarios - 1):
        networks.append(first.with_parameters(first.parameters() + 0.05 * rng.normal(size=first.parameters().size)))
    ensemble = Ensemble(tuple(networks), "given")
    points = rng.random((200, inputs))
    nominal = np.clip(rng.uniform(-0.3, 1.3, inputs), 0.0, 1.0)
    true = int(first.classify(nominal[None])[0])
    questions = [Question(nominal, true, other, ensemble, gamma) for other in range(classes) if other != true]
    return max(questions, key=lambda question: sum(question.slack(x) >= 0 for x in points))


def phase_patterns(network):
    """Every assignment of on (1) and off (0) to the hidden neurons, one tuple of arrays a layer."""
    widths = network.sizes[1:-1]
    for bits in itertools.product((0.0, 1.0), repeat=sum(widths)):
        yield [np.array(part) for part in _cut(bits, widths)]


def _cut(bits, widths):
    at = 0
    for width in widths:
        yield bits[at : at + width]
        at += width


def affine_layers(network, pattern):
    """Pre-activations of every layer as (A, c) with A x + c, valid where the hidden phases are `pattern`."""
    linear, shift = np.eye(network.inputs), np.zeros(network.inputs)
    result = []
    for layer, phase in itertools.zip_longest(network.layers, pattern):
        linear, shift = layer.weight.T @ linear, layer.weight.T @ shift + layer.bias
        result.append((linear, shift))
        if phase is not None:
            linear, shift = phase[:, None] * linear, phase * shift
    return result


class _Polytope:
    """{x = centre + p - q in the box, |p + q| <= radius} and extra rows A x <= b."""

    def __init__(self, region):
        self.centre = region.centre
        self.bounds = [
            *zip(np.zeros_like(self.centre), region.upper - region.centre, strict=True),
            *zip(np.zeros_like(self.centre), region.centre - region.lower, strict=True),
        ]
        self.radius = min(region.radius, 10.0 * len(self.centre))

    def minimise(self, cost, rows, right, l1_cost=0.0):
        """min cost x + l1_cost ||x - centre||_1, or None where nothing is feasible."""
        n = len(self.centre)
        a = np.vstack([np.hstack([rows, -rows]), np.ones((1, 2 * n))])
        b = np.append(right - rows @ self.centre, self.radius)
        options = {"time_limit": 30.0}
        answer = linprog(np.concatenate([cost, -cost]) + l1_cost, A_ub=a, b_ub=b, bounds=self.bounds, options=options)
        if answer.status == 2:
            return None
        assert answer.fun is not None, answer.message
        return float(answer.fun + cost @ self.centre)


def exact_bounds(network, region):
    """min and max of every pre-activation over the region: one linear program a phase pattern, neuron and side."""
    lows = [np.full(layer.outputs, np.inf) for layer in network.layers]
    polytope = _Polytope(region)
    ups = [-low for low in lows]
    for pattern in phase_patterns(network):
        maps = affine_layers(network, pattern)
        signs = [np.where(phase > 0, -1.0, 1.0) for phase in pattern]
        rows = np.vstack(
            [np.zeros((0, network.inputs)), *(s[:, None] * m[0] for m, s in zip(maps, signs, strict=False))]
        )
        right = np.concatenate([np.zeros(0), *(-s * m[1] for m, s in zip(maps, signs, strict=False))])
        if polytope.minimise(np.zeros(network.inputs), rows, right) is None:
            continue
        for k, (linear, shift) in enumerate(maps):
            for j in range(len(shift)):
                low = polytope.minimise(linear[j], rows, right)
                up = polytope.minimise(-linear[j], rows, right)
                if low is not None and up is not None:
                    lows[k][j] = min(lows[k][j], low + shift[j])
                    ups[k][j] = max(ups[k][j], shift[j] - up)
    return lows, ups


def exact_distance(question):
    """The optimum of a question by enumeration over all phases of all scenarios, infinite where there is none."""
    polytope = _Polytope(question.region())
    margin = 1e-3 if question.gamma == 0 else 0.0
    best = np.inf
    n = question.flat.size
    pieces = [_answering_pieces(network, question, margin) for network in question.ensemble]
    pieces = [[piece for piece in some if polytope.minimise(np.zeros(n), *piece) is not None] for some in pieces]
    for chosen in itertools.product(*pieces):
        rows, right = (np.concatenate(part) for part in zip(*chosen, strict=True))
        value = polytope.minimise(np.zeros(n), rows, right, l1_cost=1.0)
        best = best if value is None else min(best, value)
    return best


def region_distances(question):
    """Of every linear region of the only scenario that has answers: its phases, and the least distance of these."""
    polytope = _Polytope(question.region())
    (network,) = question.ensemble.networks
    none = np.zeros(question.flat.size)
    pieces = zip(phase_patterns(network), _answering_pieces(network, question, 0.0), strict=True)
    found = [(pattern, polytope.minimise(none, *piece, l1_cost=1.0)) for pattern, piece in pieces]
    return [(pattern, value) for pattern, value in found if value is not None]


def joint_distances(question):
    """Of every choice of a linear region of each scenario that has answers to all: phases, and the least distance."""
    polytope = _Polytope(question.region())
    none = np.zeros(question.flat.size)
    regions = []
    for network in question.ensemble:
        pieces = zip(phase_patterns(network), _answering_pieces(network, question, 0.0), strict=True)
        regions.append([(pattern, piece) for pattern, piece in pieces if polytope.minimise(none, *piece) is not None])
    found = []
    for chosen in itertools.product(*regions):
        rows, right = (np.concatenate(part) for part in zip(*(piece for _, piece in chosen), strict=True))
        value = polytope.minimise(none, rows, right, l1_cost=1.0)
        if value is not None:
            found.append(([pattern for pattern, _ in chosen], value))
    return found


def _answering_pieces(network, question, margin):
    """A x <= b for the answers inside every linear region of one scenario."""
    for pattern in phase_patterns(network):
        rows, right = [], []
        maps = affine_layers(network, pattern)
        for (linear, shift), phase in zip(maps, pattern, strict=False):
            sign = np.where(phase > 0, -1.0, 1.0)
            rows.append(sign[:, None] * linear)
            right.append(-sign * shift)
        linear, shift = maps[-1]
        t = question.target
        for j in question.rivals:  # y_t >= 1e-3 > 0, so only the rivals' positive parts count
            rows.append((1 + question.gamma) * linear[[j]] - linear[[t]])
            right.append(shift[[t]] - (1 + question.gamma) * shift[[j]] - margin)
        rows.append(-linear[[t]])
        right.append(shift[[t]] - 1e-3)
        yield np.vstack(rows), np.concatenate(right)


def least_margin(graph, lower, upper, matrix, offset):
    """min over the box of max_i (A f(x) + d)_i for a graph of ReLUs: a mixed-integer program by HiGHS, then polished.

    Returns the x found and the margin there; by the program none is lower by more than some 1e-6 of the numbers in it.
    """
    rows, highs = [], [np.maximum(np.abs(lower), np.abs(upper))]
    at, count = [np.arange(graph.inputs)], graph.inputs
    low, up, integer = [lower], [upper], [np.zeros(graph.inputs)]

    def columns(size, least, most, whole=0):
        nonlocal count
        low.append(np.full(size, least) if np.isscalar(least) else least)
        up.append(np.full(size, most) if np.isscalar(most) else most)
        integer.append(np.full(size, whole))
        count += size
        return np.arange(count - size, count)

    def constrain(parts, least, most):
        rows.append(
            (parts, np.broadcast_to(least, parts[0][1].shape[:1]), np.broadcast_to(most, parts[0][1].shape[:1]))
        )

    for node in graph.nodes:
        size = len(node.bias) if isinstance(node, Affine) else len(at[node.source])
        value, eye = columns(size, -np.inf, np.inf), np.eye(size)
        if isinstance(node, Affine):
            maps = [_full(m) for m in node.maps]
            constrain(
                [(at[j], -m.T) for j, m in zip(node.sources, maps, strict=True)] + [(value, eye)], node.bias, node.bias
            )
            highs.append(sum(highs[j] @ np.abs(m) for j, m in zip(node.sources, maps, strict=True)) + np.abs(node.bias))
        else:
            most, on = np.diag(highs[node.source]), columns(size, 0, 1, 1)
            constrain([(value, eye)], 0, np.inf)
            constrain([(value, eye), (at[node.source], -eye)], 0, np.inf)
            constrain([(value, eye), (on, -most)], -np.inf, 0)
            constrain([(value, eye), (at[node.source], -eye), (on, most)], -np.inf, np.diag(most))
            highs.append(highs[node.source])
        at.append(value)
    worst = columns(1, -np.inf, np.inf)
    constrain([(at[-1], matrix), (worst, -np.ones((len(offset), 1)))], -np.inf, -offset)
    full = sp.lil_array((sum(len(least) for _, least, _ in rows), count))
    start = 0
    for parts, least, _ in rows:
        for place, block in parts:
            full[np.ix_(np.arange(start, start + len(least)), place)] = block
        start += len(least)
    limits = LinearConstraint(full.tocsr(), *(np.concatenate([row[side] for row in rows]) for side in (1, 2)))
    answer = milp(
        np.arange(count) == worst[0],
        integrality=np.concatenate(integer),
        bounds=Bounds(np.concatenate(low), np.concatenate(up)),
        constraints=limits,
        options={"mip_rel_gap": 0.0, "time_limit": 60.0},
    )
    assert answer.x is not None, answer.message
    points = [np.clip(answer.x[: graph.inputs], lower, upper)]
    points += [_polished(graph, point, lower, upper, matrix, offset) for point in points]
    return min(((x, float((graph(x[None])[0] @ matrix.T + offset).max())) for x in points), key=lambda pair: pair[1])


def _full(matrix):
    return matrix if isinstance(matrix, np.ndarray) else matrix.toarray()


def _polished(graph, x, lower, upper, matrix, offset):
    """The best point of the linear region around x."""
    values, maps = graph.values(x[None]), [(np.eye(graph.inputs), np.zeros(graph.inputs))]
    rows, right = [np.zeros((0, graph.inputs))], [np.zeros(0)]
    for node in graph.nodes:
        if isinstance(node, Affine):
            parts = [(maps[j], _full(m)) for j, m in zip(node.sources, node.maps, strict=True)]
            maps.append((sum(a[0] @ m for a, m in parts), sum(a[1] @ m for a, m in parts) + node.bias))
            continue
        (linear, shift), on = maps[node.source], values[node.source][0] > 0
        rows.append((linear * np.where(on, -1.0, 1.0)).T)
        right.append(shift * np.where(on, 1.0, -1.0))
        maps.append((linear * on, shift * on))
    linear, shift = maps[-1]
    rows, right = np.vstack(rows), np.concatenate(right)
    a = np.vstack(
        [np.hstack([rows, np.zeros((len(rows), 1))]), np.hstack([matrix @ linear.T, -np.ones((len(offset), 1))])]
    )
    b = np.concatenate([right, -(matrix @ shift + offset)])
    bounds = [*zip(lower, upper, strict=True), (None, None)]
    answer = linprog(np.append(np.zeros(len(x)), 1.0), A_ub=a, b_ub=b, bounds=bounds, options={"time_limit": 30.0})
    return x if answer.x is None else np.clip(answer.x[:-1], lower, upper)
