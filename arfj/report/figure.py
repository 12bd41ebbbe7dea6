"""Figures of answers: what was there, what was changed, what came out, and what every network says of it.

matplotlib is an extra (`plot`) and is loaded when the first figure is drawn; the object-oriented API needs no display.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from arfj.attack.result import AttackResult
from arfj.errors import ArfjError
from arfj.evaluate import Witness
from arfj.files import atomic_write
from arfj.network import Floats, Network
from arfj.report.table import class_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PALE = "#222222", "#6b6b6b"
TARGET, TRUE, OTHER = "#D55E00", "#0072B2", "#B8B8B8"
"""Vermilion and blue of Okabe and Ito's palette, told apart by every kind of colour vision, and grey."""
CHANGE = "RdBu_r"
DPI = 160
STYLE: Any = {  # not dict[str, Any]: matplotlib's own annotation lists every key
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#a0a0a0",
    "axes.linewidth": 0.7,
    "axes.titlesize": 10.0,
    "axes.titlepad": 6.0,
    "xtick.color": PALE,
    "ytick.color": PALE,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "savefig.facecolor": "white",
}
TICKS = 8
"""At most this many networks are named below the bars; of more, every second or third is."""
ROWS_OF_A_BLOCK = 5
WIDTH, HEIGHT, BOTTOM, SIDE = 11.0, 3.15, 0.42, 1.95
COLUMNS = ((0.17, SIDE), (2.32, SIDE), (4.33, 0.09), (5.02, SIDE), (7.55, 3.3))
"""The figure of one answer, in inches: left end and width of original, change, its colour bar, result, and bars."""


def draw(
    witness: Witness,
    networks: Sequence[Network],
    result: AttackResult,
    path: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
) -> None:
    """Write a PNG of one answer: original, change, result, and the probabilities that the networks give.

    Args:
        witness: the answer.
        networks: the scenarios, the nominal one first where it is one of them.
        result: the numbers of the title.
        path: where the PNG goes; written atomically.
        class_names: one name a class, or None for class numbers.

    Raises:
        ArfjError: matplotlib is missing, or the file cannot be written.
    """
    figure = new_figure(WIDTH, HEIGHT)
    with style():
        _heading(figure, witness, result, class_names)
        _pictures(figure, witness)
        _verdicts(_place(figure, *COLUMNS[-1]), witness, networks, result, class_names)
        save_png(figure, path)


def triptych(witness: Witness, title: str, facts: str = "") -> Figure:
    """Original, change and result of one answer below a title: Figures 1 to 3 of Rambau & Richter (JANO 7, 2025).

    Raises:
        ArfjError: matplotlib is missing.
    """
    figure = new_figure(sum(COLUMNS[-2]) + COLUMNS[0][0], HEIGHT)
    with style():
        left = COLUMNS[0][0] / figure.get_figwidth()
        figure.text(left, 0.975, title, size=13, weight="bold", va="top")
        figure.text(left, 0.89, facts, size=9.5, color=PALE, va="top")
        _pictures(figure, witness)
    return figure


def _pictures(figure: Figure, witness: Witness) -> None:
    """Original, change, its colour bar, result."""
    original, change, bar, answer = (_place(figure, left, width) for left, width in COLUMNS[:-1])
    _image(original, witness.nominal, "original")
    _change(figure, change, bar, witness)
    _image(answer, witness.x, "result")


def _place(figure: Figure, left: float, width: float) -> Axes:
    """Axes at `left` inches of this width, all of one height and on one line."""
    whole, height = figure.get_figwidth(), figure.get_figheight()
    return figure.add_axes((left / whole, BOTTOM / height, width / whole, SIDE / height))


def overview(
    answers: Sequence[tuple[Witness, AttackResult]],
    path: str | os.PathLike[str],
    class_names: Sequence[str] | None = None,
) -> None:
    """Write a PNG with a row an image (original, change, result, numbers), in two blocks when there are more than five.

    Args:
        answers: at least one answer with its numbers.
        path: where the PNG goes; written atomically.
        class_names: one name a class, or None for class numbers.

    Raises:
        ArfjError: no answers, matplotlib is missing, or the file cannot be written.
    """
    if not answers:
        raise ArfjError("there is no answer to draw; an overview needs at least one")
    blocks = 1 if len(answers) <= ROWS_OF_A_BLOCK else 2
    rows = math.ceil(len(answers) / blocks)
    width, height = 5.6 * blocks, 1.12 * rows + 0.85
    figure = new_figure(width, height)
    with style():
        outer = figure.add_gridspec(
            1, blocks, left=0.012, right=0.995, top=1 - 0.32 / height, bottom=0.58 / height, wspace=0.03
        )
        for block in range(blocks):
            part = answers[block * rows : (block + 1) * rows]
            inner = outer[block].subgridspec(rows, 4, width_ratios=(1, 1, 1, 2.15), wspace=0.08, hspace=0.08)
            for row, (witness, result) in enumerate(part):
                axes = [figure.add_subplot(inner[row, column]) for column in range(4)]
                _overview_row(axes, witness, result, class_names, titles=row == 0)
        _colour_bar(figure, (0.5 - 1.3 / width, 0.36 / height, 2.6 / width, 0.09 / height))
        save_png(figure, path)


def _overview_row(
    axes: Sequence[Axes], witness: Witness, result: AttackResult, names: Sequence[str] | None, titles: bool
) -> None:
    _image(axes[0], witness.nominal, "original" if titles else "")
    _show(axes[1], witness.x - witness.nominal, CHANGE, 1.0)
    axes[1].set_title("change" if titles else "")
    _image(axes[2], witness.x, "result" if titles else "")
    text = axes[3]
    text.axis("off")
    bound = "proven optimal" if result.status == "optimal" else f"proven bound {result.bound:.3f}"
    lines = (f"distance {witness.distance:.3f}", bound, _fooled(result))
    text.text(0.04, 0.86, _pair(result, names), weight="bold", va="top", size=9.0, transform=text.transAxes)
    text.text(0.04, 0.60, "\n".join(lines), va="top", size=8.5, color=PALE, linespacing=1.45, transform=text.transAxes)


def _colour_bar(figure: Figure, place: tuple[float, float, float, float]) -> None:
    """The scale that all changes of an overview share."""
    bar = figure.add_axes(place)
    bar.imshow(np.linspace(-1, 1, 257)[None, :], cmap=CHANGE, aspect="auto", extent=(-1, 1, 0, 1))
    bar.set_yticks([])
    bar.set_xticks([-1, 0, 1], ["-1  less ink", "0", "more ink  +1"])
    bar.tick_params(length=0, pad=3, labelsize=8)


def _heading(figure: Figure, witness: Witness, result: AttackResult, names: Sequence[str] | None) -> None:
    figure.text(COLUMNS[0][0] / WIDTH, 0.95, _pair(result, names), size=14, weight="bold", va="top")
    facts = [
        f"L1 distance {witness.distance:.5f}",
        f"proven bound {result.bound:.5f}",
        _status(result),
        _fooled(result),
    ]
    figure.text(sum(COLUMNS[-1]) / WIDTH, 0.93, "   ·   ".join(facts), size=9.5, color=PALE, va="top", ha="right")


def _pair(result: AttackResult, names: Sequence[str] | None) -> str:
    return f"{class_name(result.true, names)} → {class_name(result.target, names)}"


def _status(result: AttackResult) -> str:
    gap = result.gap
    return result.status if result.status == "optimal" or gap is None else f"{result.status}, gap {100 * gap:.2g} %"


def _fooled(result: AttackResult) -> str:
    count, demand = result.scenarios, result.demand
    words = f"fools {result.fooled} of {count} network{'' if count == 1 else 's'}"
    if not demand.soft(count):
        return words
    return f"{words}, {f'{demand.fooled(count)} asked' if demand.cvar is None else f'CVaR {demand.cvar:g}'}"


def picture(values: Floats) -> Floats | None:
    """`values` as something that can be shown, (h, w) or (h, w, 3), or None when it has no such shape.

    Flat images are taken for square ones; a channel of one is dropped, and channels may come first or last.
    """
    side = math.isqrt(values.size)
    match values.shape:
        case (_,) if side * side == values.size and side > 1:
            return values.reshape(side, side)
        case (_, _) | (_, _, 3):
            return values
        case (_, _, 1):
            return np.asarray(values[:, :, 0])
        case (1, _, _):
            return np.asarray(values[0])
        case (3, _, _):
            return np.asarray(np.moveaxis(values, 0, 2))
        case _:
            return None


def _image(axes: Axes, values: Floats, title: str) -> None:
    _show(axes, values, "gray_r", None)
    axes.set_title(title)


def _change(figure: Figure, axes: Axes, bar_axes: Axes, witness: Witness) -> None:
    change = witness.x - witness.nominal
    limit = float(np.abs(change).max()) or 1.0
    shown = _show(axes, change, CHANGE, limit)
    changed = int((np.abs(change) > 1e-9).sum())
    axes.set_title("change")
    axes.set_xlabel(f"{changed} of {change.size} values changed", size=8.5, color=PALE, labelpad=5)
    if shown is None:
        bar_axes.remove()
        return
    bar = figure.colorbar(shown, cax=bar_axes, ticks=(-limit, 0, limit))
    bar_axes.set_yticklabels([f"-{limit:.2f}", "0", f"+{limit:.2f}"])
    bar_axes.tick_params(length=0, pad=3, labelsize=8)
    bar.outline.set_linewidth(0.5)


def _show(axes: Axes, values: Floats, colours: str, limit: float | None) -> Any:  # noqa: ANN401 - AxesImage or None
    """Show an image in [0, 1], or a change in [-limit, limit]; stems where it is no image."""
    shape = picture(values)
    axes.set_xticks([])
    axes.set_yticks([])
    if shape is None:
        axes.vlines(np.arange(values.size), 0, values.ravel(), colors=INK, linewidth=0.8)
        axes.axhline(0, color=PALE, linewidth=0.6)
        axes.set_ylim(-0.02 if limit is None else -limit, limit or 1.02)
        axes.text(0.02, 0.97, f"{limit or 1:.2g}", size=7.5, color=PALE, va="top", transform=axes.transAxes)
        return None
    low, high = (0.0, 1.0) if limit is None else (-limit, limit)
    if limit is not None and shape.ndim == 3:
        shape = shape.mean(axis=2)
    return axes.imshow(shape, cmap=colours, vmin=low, vmax=high, interpolation="nearest")


def _verdicts(
    axes: Axes, witness: Witness, networks: Sequence[Network], result: AttackResult, names: Sequence[str] | None
) -> None:
    """Three bars a network: the probabilities of the target, of the true class and of the likeliest third one."""
    rows = np.array([network.probabilities(witness.x.reshape(1, -1))[0] for network in networks])
    series = [
        (rows[:, witness.target], TARGET, f"{class_name(witness.target, names)} (target)"),
        (rows[:, witness.true], TRUE, f"{class_name(witness.true, names)} (true)"),
    ]
    others = np.delete(rows, (witness.target, witness.true), axis=1)
    if others.size:
        series.append((others.max(axis=1), OTHER, "best other"))
    at = np.arange(len(networks))
    for index, (heights, colour, label) in enumerate(series):
        axes.bar(at + 0.27 * (index - (len(series) - 1) / 2), heights, 0.25, color=colour, label=label)
    step = math.ceil(len(networks) / TICKS)
    axes.set_xticks(at[::step], scenario_names(result, len(networks))[::step])
    middle, half = (len(networks) - 1) / 2, max(len(networks), 3) / 2 + 0.1
    axes.set_xlim(middle - half, middle + half)
    axes.set_ylim(0, 1)
    axes.set_ylabel("probability", labelpad=3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", length=0, labelsize=8.5)
    axes.tick_params(axis="y", labelsize=8)
    axes.legend(
        loc="lower left", bbox_to_anchor=(-0.02, 1.0), ncols=3, handlelength=0.9, handletextpad=0.4,
        columnspacing=1.1, borderaxespad=0.2,
    )  # fmt: skip


def scenario_names(result: AttackResult, count: int) -> list[str]:
    """What to call the scenarios: the nominal network first unless the attack was a grey-box one, then numbers."""
    if result.scenarios > result.alpha:
        return ["nominal", *map(str, range(1, count))]
    return [str(number) for number in range(1, count + 1)]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of this size in inches, on the Agg canvas.

    Raises:
        ArfjError: matplotlib is missing.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ArfjError("figures need matplotlib; install it with: pip install 'arfj[plot]'") from error
    figure = Figure(figsize=(width, height), dpi=DPI)
    FigureCanvasAgg(figure)
    return figure


def style() -> Any:  # noqa: ANN401 - matplotlib's context manager
    """The style of all figures, while it is entered."""
    from matplotlib import rc_context

    return rc_context(STYLE)


def save_png(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure whole or not at all.

    Raises:
        ArfjError: the file cannot be written.
    """
    with atomic_write(path) as stream:
        # No version and no date: the same answer gives the same bytes.
        figure.savefig(stream, format="png", metadata={"Software": None})
