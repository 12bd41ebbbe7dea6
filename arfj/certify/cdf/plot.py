"""A picture: bounds of the distribution function of one output, beside Monte Carlo with its own band."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from arfj.certify.cdf.distribution import Bounds, Outside
from arfj.certify.cdf.mesh import Array
from arfj.certify.cdf.question import Question
from arfj.errors import ArfjError, UsageError
from arfj.files import atomic_write
from arfj.network import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from arfj.certify.cdf.enclosures import Enclosed

DELTA = 0.01
"""The probability that the band of Monte Carlo fails."""
FINE = 400
"""Points of the Monte Carlo curve beside those asked for."""
BOUND, SAMPLED, PALE = "#1f5aa6", "#c4741a", "#6b6b6b"


def dkw(count: int, delta: float = DELTA) -> float:
    """With probability 1 - delta an empirical distribution function is nowhere farther from the true one than this.

    sqrt(log(2 / delta) / (2 n)). Source: P. Massart, The tight constant in the Dvoretzky-Kiefer-Wolfowitz inequality,
    Ann. Probab. 18, 1990.
    """
    return float(np.sqrt(np.log(2 / delta) / (2 * count)))


def kept(question: Question | Enclosed, x: Floats, outside: Outside) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which draws belong to the law: all, or those in the box."""
    inside = ((x >= question.lower) & (x <= question.upper)).all(axis=1)
    return np.asarray(inside if outside == "renormalise" else np.ones(len(x), dtype=bool))


def format_of(path: Path) -> str:
    """The format of a picture, by its name; to be asked before anything is computed.

    Raises:
        UsageError: another ending. ArfjError: matplotlib is not installed.
    """
    kind = path.suffix[1:].lower()
    if kind not in ("png", "pdf", "svg"):
        raise UsageError(f"--plot {path} is no picture; expected a name that ends in .png, .pdf or .svg")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise ArfjError("--plot needs matplotlib; install it with pip install 'arfj[plot]'") from None
    return kind


def draw(
    path: Path,
    y: Array,
    bounds: Bounds,
    question: Question | Enclosed,
    output: int,
    samples: int,
    outside: Outside = "add",
) -> None:
    """Draw and save.

    Raises:
        UsageError, ArfjError: as `format_of`, or the file cannot be written.
    """
    kind = format_of(path)
    figure = picture(y, bounds, question, output, samples, outside)
    with atomic_write(path) as stream:
        figure.savefig(stream, format=kind, dpi=160)


def picture(
    y: Array, bounds: Bounds, question: Question | Enclosed, output: int, samples: int, outside: Outside
) -> Figure:
    """The figure: L and U as steps (both hold between points since F rises), Monte Carlo as a band."""
    from matplotlib.figure import Figure

    order = np.argsort(y)
    at = np.asarray(y, dtype=np.float64)[order]
    low, high = (np.asarray(side, dtype=np.float64)[order] for side in (bounds.lower, bounds.upper))
    x, values = question.sampled(samples, 0)
    values = np.sort(values[kept(question, x, outside), output])
    figure = Figure(figsize=(6.4, 4.0))
    axes = figure.add_axes((0.1, 0.12, 0.87, 0.79))
    if len(values):
        every = np.union1d(at, np.linspace(at[0], at[-1], FINE))  # between the points asked for the band holds as well
        share, band = np.searchsorted(values, every, side="right") / len(values), dkw(len(values))
        label = f"Monte Carlo, {len(values):,} samples, 99 % band"
        axes.fill_between(every, share - band, share + band, color=SAMPLED, alpha=0.25, linewidth=0, label=label)
        axes.plot(every, share, color=SAMPLED, linewidth=1.0)
    axes.step(at, low, where="post", color=BOUND, linewidth=1.4, label="lower and upper bound")
    axes.step(at, high, where="pre", color=BOUND, linewidth=1.4)
    axes.set_xlabel(f"y, output {output}")
    axes.set_title("P(f <= y)", loc="left", size=10)
    axes.set_ylim(-0.02, 1.02)
    axes.grid(axis="y", color="#e6e6e6", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelcolor=PALE)
    axes.legend(loc="best", frameon=False, fontsize=8)
    return figure
