"""Neighbourhoods of few scenarios at a time, for questions that have many.

Most of many scenarios are fooled by what fools a few of them, and neighbourhoods of these few are far cheaper, or
larger, than those of all: the optimum of a linear region needs only the scenarios that bind it. So neighbourhoods of an
answer are searched with its binding scenarios alone. What is found there is nearer, as a rule, and fools not all: the
scenario that it fools least joins the others, and the search goes on from the point between it and the answer that
fools them, until no scenario is missing. What the last one leads to is an answer to the whole question.
"""

from __future__ import annotations

import time

import numpy as np

from arfj.attack.descent import descend
from arfj.attack.neighbourhood import GAIN, search_neighbourhoods
from arfj.attack.regions import Corner, RegionProgram, Regions, drawn_towards

MANY = 8
"""With fewer scenarios than this all of them are searched together."""


def worth_while(regions: Regions) -> bool:
    """Whether a question has many scenarios, all of which are to be fooled."""
    return not regions.question.soft and len(regions.question.ensemble) >= MANY


def search_few(regions: Regions, corner: Corner, deadline: float) -> Corner:
    """The answer to the whole question that neighbourhoods of a few scenarios lead to, if it is nearer.

    Args:
        regions: of the question, whose demand is that all scenarios are fooled.
        corner: an answer.
        deadline: `time.perf_counter()` value at which to stop.

    Raises:
        ValueError: a soft demand.
    """
    question = regions.question
    if question.soft:
        raise ValueError("under a soft demand fewer scenarios are another question")
    alone = [question.restricted([index]) for index in range(len(question.ensemble))]
    active, x = list(corner.binding), corner.x
    while active and time.perf_counter() < deadline:
        program = RegionProgram(question.restricted(active))
        start = descend(program, [x], deadline)
        if start is None:
            break
        near = search_neighbourhoods(program, start, deadline)
        if near.distance >= corner.distance * (1 - GAIN):
            break
        slacks = np.array([one.slack(near.x) for one in alone])
        slacks[active] = np.inf
        if slacks.min(initial=np.inf) >= 0:
            found = regions.at(near.x)
            return corner if found is None or found.distance >= corner.distance else found
        active.append(int(slacks.argmin()))
        x = drawn_towards(question.restricted(active), near.x, corner.x)
    return corner
