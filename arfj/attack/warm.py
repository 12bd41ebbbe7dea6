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
DESCENT_SHARE, DESCENT_SECONDS = 0.3, 2.0
"""Descents from the answers of one round may take this share of the time left, and this many seconds."""


def warm_start(
    question: Question,
    seed: int,
    deadline: float,
    told: Callable[[Corner], None] | None = None,
    tried: Callable[[Corner], Corner | None] | None = None,
) -> Corner | None:
    """A good answer to the question, or None where the gradient attack finds none.

    Rounds of gradient attacks from fresh random starts; the nearest answers of each round that lie in regions not yet
    seen are descended from, and the best one's neighbourhoods are searched where it is new. It ends after `PATIENCE`
    rounds without a gain.

    Args:
        question: image, target, scenarios.
        seed: of the random starts.
        deadline: `time.perf_counter()` value at which to stop.
        told: called with every better answer, so that an interrupt loses none.
        tried: called once, with the first answer that the descents end at, before its neighbourhoods are searched:
            gives the answer to go on from, or None to end here.
    """
    program = RegionProgram(question)
    best: Corner | None = None
    seen: set[bytes] = set()
    idle = 0
    for attempt in range(ROUNDS):
        answers = gradient_answers(question, seed * ROUNDS + attempt, deadline)
        now = time.perf_counter()
        until = now + min(DESCENT_SHARE * (deadline - now), DESCENT_SECONDS)
        corner = best
        for start in answers:
            if time.perf_counter() > (until if corner is not None else deadline):
                break
            key = b"".join(phase.tobytes() for phase in phases_at(question, start))
            if key in seen or (best is not None and question.distance(start) > 1.3 * best.distance):
                continue
            seen.add(key)
            corner = descend(program, [start], deadline if corner is None else until, corner)
            if told is not None and corner is not None:
                told(corner)
        if corner is not None and tried is not None:
            before, tried_once, tried = corner, tried, None
            corner = tried_once(before)
            if corner is None:
                return before
        gained = corner is not None and (best is None or corner.distance < best.distance * (1 - 1e-4))
        if gained and corner is not None:
            # Where all phases would be free at once, the proof begins with that very program.
            corner = search_neighbourhoods(program, corner, deadline, told, FREE + 1)
        idle = 0 if gained else idle + 1
        best = corner
        if idle == PATIENCE or time.perf_counter() > deadline:
            break
    return best
