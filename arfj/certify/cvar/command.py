"""`python -m arfj.certify cvar`: worst-case CVaR of rivals over all inputs with a given mean and covariance."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arfj.certify.cvar.certificate import METHODS, Certificate, Options, certify_classes, margin
from arfj.certify.cvar.falsify import Loss, falsify
from arfj.certify.cvar.moments import Moments, checked_level
from arfj.certify.cvar.multipliers import FAMILIES
from arfj.certify.cvar.worst import cvar
from arfj.cli import ANSWERED, Parser, answer_console, checked_seconds, status_line
from arfj.errors import UsageError
from arfj.files import load_numbers
from arfj.graph import Graph
from arfj.network import Floats, Network, load_network

PROG = "python -m arfj.certify cvar"
EXAMPLES = f"""\
  {PROG} --network net.npz --data class6.npy --true 6                    mean and covariance of these inputs
  {PROG} --network net.onnx --mean mu.npy --cov sigma.npy --true 0       given moments
  {PROG} --network net.npz --data x.npy --true 0 --target 1 --multipliers products --method sdp --json
"""
LONG = 1e7
"""From here on numbers are printed with an exponent."""
CLAIM = (
    "For every input distribution with this mean and covariance, of whatever shape, the mean of f_rival - f_true over "
    "the worst share epsilon of inputs is at most the bound: a number recomputed from multipliers, no solver's word. "
    "It holds for certain, with no level of confidence. Each rival stands by itself. Nothing is claimed for other "
    "moments: those of data are estimates, and how far they are from the truth is not part of the bound."
)


@dataclass(frozen=True, eq=False)
class Answer:
    """Certificates by rival, and what stands beside them."""

    found: Mapping[int, Certificate]
    options: argparse.Namespace
    epsilon: float
    samples: int | None
    observed: Mapping[int, float]
    falsified: Mapping[int, float]
    seconds: float

    @property
    def certified(self) -> bool:
        """Whether every bound is at most 0."""
        return all(one.holds for one in self.found.values())

    @property
    def status(self) -> str:
        """The solver's words, which prove nothing: one where they agree."""
        words = {j: one.status for j, one in self.found.items()}
        if len(set(words.values())) == 1:
            return next(iter(words.values()))
        return "; ".join(f"{j}: {word}" for j, word in words.items())

    def gap(self, rival: int) -> float | None:
        """Bound less falsifier: how much the certificate may give away at most."""
        bound = self.found[rival].bound
        return None if bound is None else bound - self.falsified[rival]

    def document(self) -> dict[str, Any]:
        """The JSON document."""
        rivals = list(self.found)
        return {
            "bounds": {str(j): self.found[j].bound for j in rivals},
            "certified": self.certified,
            "epsilon": self.epsilon,
            "method": self.options.method,
            "multipliers": self.options.multipliers,
            "true": self.options.true,
            "solver_status": self.status,
            "reported": {str(j): self.found[j].objective for j in rivals},
            "recomputed": all(one.proof is not None for one in self.found.values()),
            "empirical": {
                "samples": self.samples,
                "cvar": {str(j): value for j, value in self.observed.items()} or None,
                "falsifier": {str(j): value for j, value in self.falsified.items()},
                "gap": {str(j): self.gap(j) for j in rivals},
            },
            "claim": CLAIM,
            "seconds": self.seconds,
        }


def main(argv: Sequence[str]) -> int:
    """Bound the rivals that `argv` names."""
    options = _parser().parse_args(argv)
    began = time.perf_counter()
    epsilon = checked_level(options.epsilon)
    limit = None if options.time_limit is None else checked_seconds("--time-limit", options.time_limit)
    network = load_network(options.network)
    moments, samples = _moments(options, network)
    rivals = None if options.target is None else [options.target]
    how = Options(options.multipliers, options.method, limit)
    with status_line(f"worst-case CVaR by {options.method}"):
        found = certify_classes(network, moments, options.true, epsilon, how, rivals)
        answer = _answer(found, options, epsilon, network, moments, samples, began)
    if options.json:
        print(json.dumps(answer.document(), indent=2, allow_nan=False))
    else:
        _print(answer)
    return ANSWERED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(PROG, "Worst-case CVaR of f_rival - f_true over all inputs with given moments.", EXAMPLES)
    parser.add_argument("--network", metavar="FILE", required=True, help="a ReLU network: .npz, .onnx, .keras or .h5")
    given = parser.add_argument_group("the moments: --data, or --mean and --cov")
    given.add_argument("--data", metavar="FILE.npy", help="inputs, one a row: their mean and covariance")
    given.add_argument("--mean", metavar="FILE.npy", help="the mean, shape (n,)")
    given.add_argument("--cov", metavar="FILE.npy", help="the covariance, shape (n, n)")
    parser.add_argument("--true", metavar="C", type=int, required=True, help="the class of these inputs")
    parser.add_argument("--target", metavar="I", type=int, help="this rival alone (default: all other classes)")
    parser.add_argument(
        "--epsilon", metavar="E", type=float, default=0.2, help="the share of worst cases (default 0.2)"
    )
    parser.add_argument(
        "--multipliers", choices=FAMILIES, default="diagonal", help="tighter from left to right, and slower"
    )
    parser.add_argument(
        "--method",
        choices=METHODS,
        default="first-order",
        help="sdp: cvxpy with Clarabel and SCS; first-order (the default): descent on the multipliers, no solver",
    )
    parser.add_argument("--time-limit", metavar="S", help="seconds for all rivals together (default: none)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    return parser


def _moments(options: argparse.Namespace, network: Network | Graph) -> tuple[Moments, Floats | None]:
    """The moments asked for, and the inputs that they are of."""
    if (options.data is None) == (options.mean is None and options.cov is None):
        raise UsageError("the moments are needed once: give --data FILE.npy, or --mean FILE.npy and --cov FILE.npy")
    size = network.inputs
    if options.data is not None:
        rows = load_numbers(options.data)
        if rows.ndim < 2 or rows[0].size != size:
            raise UsageError(f"{options.data} has shape {rows.shape}; expected (samples, {size}), one input a row")
        flat = rows.reshape(len(rows), size)
        return Moments.of(flat), flat
    if options.mean is None or options.cov is None:
        raise UsageError(f"{'--cov' if options.cov is None else '--mean'} is missing; --mean and --cov go together")
    mean, covariance = load_numbers(options.mean), load_numbers(options.cov)
    if mean.size != size or covariance.shape != (size, size):
        raise UsageError(
            f"the mean has shape {mean.shape}, the covariance {covariance.shape}; "
            f"expected ({size},) and ({size}, {size}) for this network"
        )
    return Moments(mean.ravel(), covariance), None


def _answer(
    found: Mapping[int, Certificate],
    options: argparse.Namespace,
    epsilon: float,
    network: Network | Graph,
    moments: Moments,
    samples: Floats | None,
    began: float,
) -> Answer:
    observed, falsified = {}, {}
    for j, one in found.items():
        weights = margin(network.classes, j, options.true)
        if samples is not None:
            observed[j] = cvar(network(samples) @ weights, epsilon)
        falsified[j] = falsify(_loss(network, weights), moments, epsilon, one.proof).value
    count = None if samples is None else len(samples)
    return Answer(found, options, epsilon, count, observed, falsified, time.perf_counter() - began)


def _loss(network: Network | Graph, weights: Floats) -> Loss:
    return lambda x: np.asarray(network(x) @ weights)


def _print(answer: Answer) -> None:
    from rich.table import Table

    table = Table(title=f"Worst-case CVaR of f_rival - f_{answer.options.true}", title_justify="left")
    for name in ("rival", "bound", "verdict", "data", "falsifier", "gap", "solver's word"):
        table.add_column(name, justify="left" if name in ("verdict", "solver's word") else "right")
    for j, one in answer.found.items():
        verdict = "unknown" if one.bound is None else "at most 0" if one.holds else "not certified"
        numbers = [answer.observed.get(j), answer.falsified[j], answer.gap(j)]
        table.add_row(str(j), _up(one.bound), verdict, *map(_told, numbers), one.status)
    console = answer_console(file=sys.stdout, width=None if sys.stdout.isatty() else 120, highlight=False)
    console.print(table)
    share = f"epsilon {answer.epsilon:g}, {answer.options.multipliers} multipliers by {answer.options.method}"
    console.print(f"{'certified' if answer.certified else 'not certified'}: {share}, {answer.seconds:.2f} s")
    console.print(CLAIM)


def _told(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if abs(value) < LONG else f"{value:.4e}"


def _up(bound: float | None) -> str:
    """Rounded up: what is printed is proven, too."""
    if bound is None or abs(bound) < LONG:
        return _told(None if bound is None else float(np.ceil(bound * 1e4)) / 1e4)
    return _told(bound + 1e-4 * abs(bound))
