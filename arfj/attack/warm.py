"""The answer found first: gradient attack, descent over linear regions, large neighbourhoods, until it stops paying.

Its distance is the radius R in which all big-M constants are computed, and it is handed to the solver as a start, so
the nearer it is to the optimum, the smaller the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from arfj.attack.descent import Corner, RegionProgram, Regions, descend, phases_at
from arfj.attack.gradient import gradient_answers
from arfj.attack.neighbourhood import FREE, search_neighbourhoods
from arfj.question import Question

ROUNDS = 12
PATIENCE = 1
"""It ends after so many rounds without a gain."""
GAINED = 1e-4
"""What is nearer by less than this share is no gain."""
FAR = 1.3
"""No descent begins at an answer that is farther than the best one by this factor."""


def warm_start(
    question: Question,
    seed: int,
    deadline: float,
    told: Callable[[Corner], None] | None = None,
    tried: Callable[[Corner], Corner | None] | None = None,
) -> Corner | None:
    """A good answer to the question, or None where the gradient attack finds none.

    Rounds of gradient attacks from fresh random starts; a descent begins at the nearest answer whose region is new, and
    the neighbourhoods of its end are searched. No round begins where another one ended: what it finds from its own
    start may be nearer than all that was found elsewhere. Where a share of the scenarios is asked for, the first round
    also begins at an answer that fools all of them.

    Args:
        question: image, target, scenarios.
        seed: of the random starts.
        deadline: `time.perf_counter()` value at which to stop.
        told: called with every end and with what is better near it, so that an interrupt loses none.
        tried: called once, with the first answer that the descents end at, before its neighbourhoods are searched:
            gives the answer to go on from, or None to end here.
    """
    regions = Regions(question)
    half = 0.5 * (deadline + time.perf_counter())
    easier = dropped(regions, seed, half) if regions.shared else None
    best: Corner | None = None
    seen: set[bytes] = set()
    idle = 0
    for attempt in range(ROUNDS):
        corner: Corner | None = None
        for start in gradient_answers(question, seed * ROUNDS + attempt, deadline):
            program = regions.program(start)
            key = repr(question.counted(start)).encode() + b"".join(
                phase.tobytes() for phase in phases_at(program.question, start)
            )
            if key not in seen and (best is None or question.distance(start) <= FAR * best.distance):
                seen.add(key)
                corner = descend(program, [start], deadline)
                if corner is not None or time.perf_counter() > deadline:
                    break
        if attempt == 0 and easier is not None and (corner is None or easier.distance < corner.distance):
            corner = easier
        if corner is not None:
            if told is not None:
                told(corner)
            if tried is not None:
                before, tried_once, tried = corner, tried, None
                corner = tried_once(before)
                if corner is None:
                    return before
            # Where all phases would be free at once, the proof begins with that very program.
            program = regions.program(corner.x)
            corner = search_neighbourhoods(program, corner, deadline, told, FREE + 1, best)
        gained = corner is not None and (best is None or corner.distance < best.distance * (1 - GAINED))
        idle = 0 if gained else idle + 1
        if corner is not None and (best is None or corner.distance < best.distance):
            best = corner
        if idle == PATIENCE or time.perf_counter() > deadline:
            break
    return best


def dropped(regions: Regions, seed: int, deadline: float) -> Corner | None:
    """From an answer that fools all scenarios, one after the other left out as long as the share allows.

    Each time the one goes without which a descent ends nearest.
    """
    question = regions.question
    kept = list(range(len(question.ensemble)))
    whole = question.fooling(kept)
    best = descend(RegionProgram(whole), gradient_answers(whole, seed, deadline)[:1], deadline)
    while best is not None and len(kept) > question.demand.fooled(len(question.ensemble)):
        ends = []
        # Without one that does not bind, nothing is nearer at once.
        for index in [kept[place] for place in best.binding] or kept:
            rest = [other for other in kept if other != index]
            found = descend(RegionProgram(question.fooling(rest)), [best.x], deadline)
            if found is not None:
                ends.append((found.distance, index, found))
        if not ends:
            break
        _, index, best = min(ends, key=lambda end: end[:2])
        kept.remove(index)
    return best
