"""The answer found first: gradient attack, descent over linear regions, large neighbourhoods, until it stops paying.

Its distance is the radius R in which all big-M constants are computed, and it is handed to the solver as a start, so
the nearer it is to the optimum, the smaller the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from arfj.attack.descent import Corner, RegionProgram, descend, phases_at
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
    start may be nearer than all that was found elsewhere.

    Args:
        question: image, target, scenarios.
        seed: of the random starts.
        deadline: `time.perf_counter()` value at which to stop.
        told: called with every end and with what is better near it, so that an interrupt loses none.
        tried: called once, with the first answer that the descents end at, before its neighbourhoods are searched:
            gives the answer to go on from, or None to end here.
    """
    program = RegionProgram(question)
    best: Corner | None = None
    seen: set[bytes] = set()
    idle = 0
    for attempt in range(ROUNDS):
        corner: Corner | None = None
        for start in gradient_answers(question, seed * ROUNDS + attempt, deadline):
            key = b"".join(phase.tobytes() for phase in phases_at(question, start))
            if key not in seen and (best is None or question.distance(start) <= FAR * best.distance):
                seen.add(key)
                corner = descend(program, [start], deadline)
                if corner is not None or time.perf_counter() > deadline:
                    break
        if corner is not None:
            if told is not None:
                told(corner)
            if tried is not None:
                before, tried_once, tried = corner, tried, None
                corner = tried_once(before)
                if corner is None:
                    return before
            # Where all phases would be free at once, the proof begins with that very program.
            corner = search_neighbourhoods(program, corner, deadline, told, FREE + 1, best)
        gained = corner is not None and (best is None or corner.distance < best.distance * (1 - GAINED))
        idle = 0 if gained else idle + 1
        if corner is not None and (best is None or corner.distance < best.distance):
            best = corner
        if idle == PATIENCE or time.perf_counter() > deadline:
            break
    return best
