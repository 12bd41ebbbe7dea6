"""How a verification's progress reads in one line."""

from __future__ import annotations

from collections.abc import Callable

from arfj.verify.search import Progress, Step


def telling(tell: Callable[[str], None], seconds: float) -> Progress:
    """A progress callback that says where the search is, and how much of the `seconds` is left."""

    def show(step: Step) -> None:
        worst = "" if step.worst is None else f", worst bound {step.worst:.4g}"
        left = max(0.0, seconds - step.seconds)
        tell(f"{step.stage}: {step.open} open{worst}, {step.branches} branches, {left:.0f} s left")

    return show
