"""What is asked, checked: a network, an input, which of its values are random and how, in words of the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb, factorial

import numpy as np

from arfj.certify.cdf.betas import Betas
from arfj.certify.cdf.densities import Axes, Density, beta_axis
from arfj.certify.cdf.evaluation import Evaluation, as_fractions, restricted
from arfj.certify.cdf.gaussians import Mixture
from arfj.certify.cdf.regions import Budget, Pieces, pieces
from arfj.certify.cdf.units import in_units
from arfj.errors import UsageError
from arfj.files import load_arrays, load_numbers
from arfj.graph import Activation, Graph
from arfj.network import Floats, Network

SMALL, LARGE = 1e-30, 1e30
"""Widths of a box, if not 0, and its bounds: volumes in nine dimensions do not overflow then."""
FLAT = 1e100
"""Largest standard deviation; its square is a number."""
MANY = 6
"""Free inputs from which on the cost is told before anything is begun."""
MOST = 9
"""Free inputs that can be served: 9! simplices are a box."""
FORMS = (
    "expected beta:A,B;beta:A,B;.. or gauss:MEAN,STD;gauss:MEAN,STD;.., one for each free input, or mixture:FILE.npz"
)


@dataclass(frozen=True, eq=False)
class Question:
    """A network with random inputs.

    Attributes:
        graph: the network as a function of the free inputs.
        lower, upper: their box, shape (d,), of positive width.
        density: theirs.
        inputs: the whole input, shape (n,), and `free`: which of its values are random.
    """

    graph: Graph
    lower: Floats
    upper: Floats
    density: Density
    inputs: Floats
    free: tuple[int, ...]

    def pieces(self, budget: Budget | None = None, exact: bool = False) -> Pieces:
        """The regions of the network in the box.

        Raises:
            UsageError: fractions, for a network or a density that is no (piecewise) polynomial; values that are too
                large for floats.
        """
        if exact and not isinstance(self.density, Axes):
            raise UsageError("--exact needs a polynomial density: beta with whole parameters")
        kinds = {node.kind for node in self.graph.nodes if isinstance(node, Activation)}
        if exact and kinds - {"relu"}:
            raise UsageError(f"--exact needs a network with ReLUs alone; this one has {', '.join(sorted(kinds))}")
        evaluation = Evaluation(self.graph, exact)
        evaluation.check(self.lower, self.upper)
        lower, upper = (as_fractions(side) if exact else side for side in (self.lower, self.upper))
        return pieces(evaluation, lower, upper, budget, self.density.breaks)

    def sampled(self, count: int, seed: int) -> tuple[Floats, Floats]:
        """Draws of the free inputs, shape (count, d), and the outputs there, shape (count, outputs)."""
        x = self.density.sample(count, np.random.default_rng(seed))
        return x, np.concatenate([self.graph(part) for part in np.array_split(x, max(1, count // 50_000))])


def question(
    network: Network | Graph,
    inputs: Floats,
    free: Sequence[int],
    density: Density,
    lower: Floats,
    upper: Floats,
) -> Question:
    """Check what belongs together. An input whose box has no width is held; a density of the others is left.

    Raises:
        UsageError: as `placed`.
    """
    flat, kept, density, lower, upper = placed(network.graph().inputs, inputs, free, density, lower, upper)
    graph = restricted(network, flat, kept)
    if not kept:  # nothing is random: a function of one input that it does not read
        lower, upper, density = np.zeros(1), np.ones(1), Axes((beta_axis(1, 1, 0.0, 1.0),))
    return Question(graph, lower, upper, density, flat, kept)


def placed(
    size: int, inputs: Floats, free: Sequence[int], density: Density, lower: Floats, upper: Floats
) -> tuple[Floats, tuple[int, ...], Density, Floats, Floats]:
    """The whole input, which of its values are random, their density and box; of no width none is.

    Raises:
        UsageError: a box that is empty or does not fit, or without width under a density that is no product, or that is
            not where a product has its density; an input of another size, or that is no number; free inputs that are
            none, or twice the same.
    """
    flat, d = np.array(inputs, dtype=np.float64).ravel(), len(free)
    if flat.size != size:
        raise UsageError(f"the input has {flat.size} values; the network takes {size}")
    if not np.isfinite(flat).all():
        raise UsageError("the input holds NaN or infinity; expected finite numbers")
    if len(set(free)) != d or any(not 0 <= index < size for index in free):
        raise UsageError(f"free inputs {list(free)} are not distinct indices of the {size} inputs from 0 on")
    if density.inputs != d or lower.shape != (d,) or upper.shape != (d,):
        raise UsageError(
            f"{d} inputs are free, the density has {density.inputs} and the box {lower.size}; expected as many of each"
        )
    checked_box(lower, upper)
    thin = np.flatnonzero(lower == upper)
    if len(thin):
        if not isinstance(density, Axes | Betas):
            raise UsageError(
                f"the box has no width in input {free[int(thin[0])]}, where a Gaussian has no mass: do not free it"
            )
        flat[[free[int(k)] for k in thin]] = lower[thin]
        wide = [k for k in range(d) if lower[k] < upper[k]]
        density = _marginal(density, wide)
        free, lower, upper = [free[k] for k in wide], lower[wide], upper[wide]
    for index, low, high, support in zip(free, lower, upper, _supports(density), strict=False):
        if support != (low, high):
            raise UsageError(
                f"the density of input {index} is one on [{support[0]:g}, {support[1]:g}], its box is [{low:g}, "
                f"{high:g}]; expected the same"
            )
    return flat, tuple(free), in_units(density) if isinstance(density, Mixture) else density, lower, upper


def _supports(density: Density) -> list[tuple[float, float]]:
    """Where each input of a product has its density; nothing for others, which have one everywhere."""
    if isinstance(density, Axes):
        return [(axis.breaks[0], axis.breaks[-1]) for axis in density.axes]
    return list(zip(density.lower, density.upper, strict=True)) if isinstance(density, Betas) else []


def checked_box(lower: Floats, upper: Floats) -> None:
    """Nothing.

    Raises:
        UsageError: the box is empty, not finite, or of a size that no volume can be computed of.
    """
    if not (np.isfinite(lower).all() and np.isfinite(upper).all()):
        raise UsageError("the box holds NaN or infinity; expected finite bounds")
    for k in np.flatnonzero(lower > upper):
        raise UsageError(f"the box of free input number {k} is [{lower[k]:g}, {upper[k]:g}], which is empty")
    far = np.maximum(np.abs(lower), np.abs(upper))
    with np.errstate(over="ignore"):  # too far apart for a double is too far as well
        width = upper - lower
    for k in np.flatnonzero((far > LARGE) | ((width > 0) & (width < SMALL))):
        raise UsageError(
            f"the box of free input number {k} is [{lower[k]:g}, {upper[k]:g}]; expected bounds up to {LARGE:g} and "
            f"widths of {SMALL:g} at least: scale the input"
        )


def _marginal(density: Axes | Betas, kept: Sequence[int]) -> Axes | Betas:
    if isinstance(density, Axes):
        return Axes(tuple(density.axes[k] for k in kept))
    return Betas(
        tuple(density.parameters[k] for k in kept),
        tuple(density.lower[k] for k in kept),
        tuple(density.upper[k] for k in kept),
    )


def read_box(text: str | None, count: int, density: str) -> tuple[Floats, Floats]:
    """--box: LO:HI for all free inputs, or a .npy of shape (2, d): lower and upper corner; [0, 1] for beta densities.

    Raises:
        UsageError: it is neither.
    """
    if text is None:
        if not density.startswith("beta"):
            raise UsageError("--box is missing: a Gaussian needs one, as LO:HI or a .npy of shape (2, free inputs)")
        return np.zeros(count), np.ones(count)
    if text.endswith(".npy"):
        array = load_numbers(text)
        if array.shape != (2, count):
            raise UsageError(
                f"{text} has shape {array.shape}; expected numbers of shape (2, {count}): lower, upper corner"
            )
        return array[0], array[1]
    try:
        low, high = map(float, text.split(":"))
    except ValueError:
        raise UsageError(f"--box {text} is no box; expected LO:HI, such as 0:1, or a .npy file") from None
    return np.full(count, low), np.full(count, high)


def read_density(text: str, lower: Floats, upper: Floats) -> Density:
    """--density, for the box of the free inputs.

    Raises:
        UsageError: it is none, or has another number of inputs.
    """
    kind, _, rest = text.partition(":")
    if kind == "mixture":
        return _read_mixture(rest, len(lower))
    if kind not in ("beta", "gauss") or not rest:
        raise UsageError(f"--density {text} is not known; {FORMS}")
    parts = [part.strip().removeprefix(f"{kind}:") for part in text.split(";")]
    try:
        pairs = [tuple(map(float, part.split(","))) for part in parts]
    except ValueError:
        raise UsageError(f"--density {text} is not read: all parts are {kind}:NUMBER,NUMBER; {FORMS}") from None
    if len(pairs) != len(lower) or any(len(pair) != 2 for pair in pairs):
        raise UsageError(f"--density {text} has {len(pairs)} parts for {len(lower)} free inputs; {FORMS}")
    if kind == "gauss":
        return _gauss(pairs)
    return beta([(a, b) for a, b in pairs], lower, upper)


def _gauss(pairs: Sequence[tuple[float, ...]]) -> Mixture:
    if not all(np.isfinite(pair).all() and 0 < pair[1] <= FLAT for pair in pairs):
        raise UsageError(
            "--density gauss: a number is not finite, or a standard deviation not above 0 or too large; expected "
            f"MEAN,STD with 0 < STD <= {FLAT:g}"
        )
    means, spreads = np.array(pairs).T
    return Mixture(np.ones(1), means[None], np.diag(spreads**2)[None])


def beta(parameters: Sequence[tuple[float, float]], lower: Floats, upper: Floats) -> Axes | Betas:
    """Independent beta densities, scaled to the box: polynomials where all parameters are whole.

    Raises:
        UsageError: a parameter below 1 (the density has no bound), or none at all.
    """
    checked_box(lower, upper)
    for a, b in parameters:
        if not (1 <= a < 1e3 and 1 <= b < 1e3):
            raise UsageError(f"beta:{a:g},{b:g} is not bounded or too sharp; expected parameters from 1 to 1000")
    if all(a.is_integer() and b.is_integer() and a + b <= 40 for pair in parameters for a, b in [map(float, pair)]):
        places = zip(parameters, lower.tolist(), upper.tolist(), strict=True)
        # Where the box has no width the axis is left out later: any will do.
        return Axes(tuple(beta_axis(a, b, low, high if high > low else low + 1) for (a, b), low, high in places))
    return Betas(tuple(parameters), tuple(lower.tolist()), tuple(upper.tolist()))


def _read_mixture(path: str, count: int) -> Mixture:
    if not path:
        raise UsageError(f"--density mixture: names no file; {FORMS}")
    arrays = load_arrays(path)
    if arrays.keys() - {"weights", "means", "cov"} or {"means", "cov"} - arrays.keys():
        found = ", ".join(sorted(arrays)) or "nothing"
        raise UsageError(
            f"{path} holds {found}; expected means (n, d), cov (d, d) or (n, d, d), and perhaps weights (n,)"
        )
    numbers = {}
    for key, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise UsageError(f"{path}: {key} holds {array.dtype} values; expected real numbers")
        numbers[key] = array.astype(np.float64)
    means, covariance = np.atleast_2d(numbers["means"]), numbers["cov"]
    covariance = covariance[None] if covariance.ndim == 2 else covariance
    if not len(means):
        raise UsageError(f"{path}: means has shape {numbers['means'].shape}, no component; expected (n, d), n >= 1")
    weights = numbers.get("weights", np.full(len(means), 1 / max(1, len(means))))
    mixture = Mixture(weights, means, covariance)
    if mixture.inputs != count:
        raise UsageError(f"{path}: the mixture has {mixture.inputs} inputs, {count} are free; expected as many")
    return mixture


def read_fixed(path: str, input_shape: tuple[int, ...]) -> Floats:
    """--input: the whole input, of the network's shape or flat.

    Raises:
        UsageError: another number of values.
    """
    array, count = load_numbers(path), int(np.prod(input_shape))
    if array.size != count:
        raise UsageError(f"{path} has shape {array.shape}; expected {count} numbers, of shape {input_shape}")
    return array.ravel()


def cost(graph: Graph, budget: Budget) -> str | None:
    """A sentence on what many free inputs cost, or None. n hyperplanes cut R^d into sum_(i<=d) C(n, i) parts at most.

    Raises:
        UsageError: more inputs than can be served at all.
    """
    d = graph.inputs
    if d > MOST:
        raise UsageError(
            f"{d} inputs are free, {factorial(d) if d < 20 else 'far too many'} simplices before anything is cut; "
            f"expected {MOST} at most: hold the others, or verify a box with python -m arfj.verify"
        )
    if d <= MANY:
        return None
    neurons = sum(size for node, size in zip(graph.nodes, graph.sizes[1:], strict=True) if isinstance(node, Activation))
    regions = len(str(sum(comb(neurons, i) for i in range(d + 1)))) - 1
    return (
        f"{d} free inputs: the box alone is {factorial(d)} simplices, {neurons} hyperplanes would cut it into about "
        f"10^{regions} regions, and each level multiplies their simplices; cutting ends at {budget.cells} regions or "
        f"after {budget.seconds:g} s, and leaves valid but looser bounds"
    )
