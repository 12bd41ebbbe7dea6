r"""Two certificates of one thing: exact misclassification probabilities, and what samples say of them.

p = P(class of x + noise is another one), between bounds from `answers.class_probabilities`, and once more as P(m < 0),
m = f_c - max_(j != c) f_j, from the distribution function of the margin. The scenario approach claims, with confidence
1 - delta, P(m >= r) >= 1 - eps. So but for a probability of delta
    eps < p     it does not certify r >= 0;
    any eps     r is at most the greatest y with P(m < y) <= eps, which is the eps-quantile of m where F rises.
And where eps > p, it does certify r >= 0 with the probability that at most k of its N samples are misclassified.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np

from arfj.certify.cdf import answers
from arfj.certify.cdf.densities import Density
from arfj.certify.cdf.gaussians import Mixture
from arfj.certify.cdf.question import Question, beta, question
from arfj.certify.cdf.regions import Budget
from arfj.certify.scenario import Gaussian, Request, Safe, ScenarioCertificate, Source, Uniform, certify
from arfj.network import Floats, Network
from experiments.cdf.networks import iris_weights, random_network, sklearn_data
from experiments.sheets import Cell, Column, Sheet
from experiments.studies import Row

DELTA = 1e-6
"""The probability of a wrong certificate; also that of a sample that is too unlucky to be certified."""
BELOW, ABOVE = 0.9, 1.25
"""eps, in units of p."""
SAMPLES = 4000
"""In units of 1 / p: then a certificate at eps = `ABOVE` p fails with a probability far below `DELTA`."""
REACH = 8.0
"""Half the width of a Gaussian's box, in standard deviations: 2e-15 of its mass lies outside."""
PREFIX = "cdf/scenario/"


@dataclass(frozen=True)
class Case:
    """A network, an input and noise on all of its values.

    Attributes:
        made: gives the network and the input in the middle.
        noise: uniform on [-R, R], or Gaussian.
    """

    made: Callable[[], tuple[Network, Floats]]
    noise: Uniform | Gaussian

    def asked(self) -> tuple[Question, Source]:
        """The same as a question about a density and as a source of samples."""
        network, centre = self.made()
        reach = self.noise.radius if isinstance(self.noise, Uniform) else REACH * self.noise.sigma
        low, high = centre - reach, centre + reach
        density: Density
        if isinstance(self.noise, Uniform):
            density = beta([(1.0, 1.0)] * len(centre), low, high)
        else:
            density = Mixture(np.ones(1), centre[None], self.noise.sigma**2 * np.eye(len(centre))[None])
        return question(network, centre, range(len(centre)), density, low, high), Source(network, centre, self.noise)


def _iris(place: int) -> tuple[Network, Floats]:
    """The network of the curves, and a flower."""
    x = sklearn_data("iris")[0][:, :2]
    x = (x - x.min(axis=0)) / (x.max(axis=0) - x.min(axis=0))
    return Network.from_arrays(*iris_weights("relu"), "linear"), x[place]


def _random(sizes: Sequence[int], seed: int) -> tuple[Network, Floats]:
    """A random network, and the origin."""
    return random_network(sizes, seed), np.zeros(sizes[0])


CASES: dict[str, Case] = {
    "iris, flower 12": Case(functools.partial(_iris, 12), Uniform(0.1)),
    "iris, flower 60": Case(functools.partial(_iris, 60), Uniform(0.05)),
    "iris, flower 94": Case(functools.partial(_iris, 94), Uniform(0.02)),
    "iris, flower 84": Case(functools.partial(_iris, 84), Gaussian(0.01)),
    "iris, flower 0": Case(functools.partial(_iris, 0), Gaussian(0.05)),
    "random 2-8-8-3": Case(functools.partial(_random, (2, 8, 8, 3), 1), Uniform(0.4)),
    "random 2-16-16-4": Case(functools.partial(_random, (2, 16, 16, 4), 2), Gaussian(0.2)),
    "random 3-6-5-4": Case(functools.partial(_random, (3, 6, 5, 4), 4), Uniform(0.5)),
}


def row(name: str, units: float = SAMPLES) -> dict[str, Any]:
    """Exact probabilities and quantiles of a case beside certificates from `units` / p samples."""
    return compared(*CASES[name].asked(), units)


def compared(asked: Question, source: Source, units: float = SAMPLES) -> dict[str, Any]:
    """A question and the source of samples that it is about."""
    pieces, budget = asked.pieces(), Budget()
    true = int(asked.graph.classify(source.centre.reshape(1, -1))[0])
    low, high = answers.class_probabilities(pieces, asked, budget, 1e-9)[true]
    margin = answers.margin_question(asked, true)
    of_margin = margin.pieces()
    # Just before 0: a tie is no error, since the margin is 0 then and safe.
    bounds = answers.one_output(of_margin, margin, 0, np.array([np.nextafter(0.0, -1.0)]), budget, 1e-9).bounds
    found = {
        "p_low": 1 - float(high), "p_high": 1 - float(low), "margin_low": float(bounds.lower[0]),
        "margin_high": float(bounds.upper[0]), "regions": pieces.regions, "delta": DELTA,
    }  # fmt: skip
    samples = ceil(units / found["p_high"])
    for side, factor in (("below", BELOW), ("above", ABOVE)):
        epsilon = factor * found["p_low" if side == "below" else "p_high"]
        answer = certify(source, Safe.margin(asked.graph.classes, true), Request(epsilon, DELTA, samples))
        exact = answers.quantile(of_margin, margin, 0, epsilon, budget)
        found |= {f"{side}_{name}": value for name, value in _facts(answer, exact, found["p_high"]).items()}
    return found


def _facts(answer: ScenarioCertificate, exact: answers.Quantile, p: float) -> dict[str, Any]:
    from scipy.stats import binom

    return {
        "epsilon": answer.epsilon, "samples": answer.samples, "discarded": answer.discarded, "bound": answer.bound,
        "safe": answer.safe, "quantile_low": exact.lower, "quantile_high": exact.upper,
        "likely": float(binom.cdf(answer.discarded, answer.samples, p)),
    }  # fmt: skip


def sheet(rows: Sequence[Row]) -> Sheet:
    """A line a case."""
    columns = [
        Column("network, input"), Column("noise"), Column("exact p", 9), Column("bounds apart", 12),
        Column("samples", 0),
        Column("eps < p", 6), Column("bound r", 5), Column("exact quantile", 5), Column("says"),
        Column("eps > p", 6), Column("bound r", 5), Column("exact quantile", 5), Column("says"),
    ]  # fmt: skip
    cells: list[list[Cell]] = []
    for found in rows:
        name = found["key"].removeprefix(PREFIX)
        if not found["key"].startswith(PREFIX) or name not in CASES:
            continue
        noise = CASES[name].noise
        told = f"uniform {noise.radius:g}" if isinstance(noise, Uniform) else f"Gaussian {noise.sigma:g}"
        line: list[Cell] = [name, told, found["p_high"], found["p_high"] - found["p_low"], found["below_samples"]]
        for side in ("below", "above"):
            line += [found[f"{side}_{fact}"] for fact in ("epsilon", "bound", "quantile_high")]
            line.append("safe" if found[f"{side}_safe"] else "not certified")
        cells.append(line)
    notes = (
        f"eps is {BELOW:g} p and {ABOVE:g} p. The bound r of the scenario certificate may exceed the exact "
        f"eps-quantile of the margin with a probability of {DELTA:g}; it says safe where it is at least 0.",
        "p is also computed as P(margin < 0), from the distribution function of a network with one output more. Both "
        "pairs of bounds hold the same number.",
    )
    return Sheet(
        "cdf_scenario", "Misclassification: exact probabilities and certificates from samples", columns, cells, notes
    )


def violations(rows: Sequence[Row]) -> list[str]:
    """What cannot be where both certificates are right, but for a probability of some 1e-6 a row."""
    wrong = []
    for found in rows:
        if not found["key"].startswith(PREFIX) or found.get("status") == "error":
            continue
        key = found["key"]
        if max(found["p_low"], found["margin_low"]) > min(found["p_high"], found["margin_high"]):
            wrong.append(f"{key}: the bounds from classes and from the margin exclude each other")
        if found["below_safe"]:
            wrong.append(f"{key}: certified for an eps below the exact probability")
        if not found["above_safe"] and found["above_likely"] > 1 - DELTA:
            wrong.append(f"{key}: not certified for an eps above the exact probability, with samples enough")
        wrong += [
            f"{key}: the bound of samples {found[f'{side}_bound']:.6g} is above the exact quantile"
            for side in ("below", "above")
            if found[f"{side}_bound"] > found[f"{side}_quantile_high"]
        ]
    return wrong
