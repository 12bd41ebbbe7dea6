"""The answer found first: gradient attack, then descent over linear regions, until it stops paying.

Its distance is the radius R in which all big-M constants are computed, and it is handed to the solver as a start, so
the nearer it is to the optimum, the smaller the model.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from arfj.attack.descent import Corner, RegionProgram, descend, phases_at
from arfj.attack.gradient import gradient_answers
from arfj.question import Question

ROUNDS = 12
PATIENCE = 2


def warm_start(
    question: Question, seed: int, deadline: float, told: Callable[[Corner], None] | None = None
) -> Corner | None:
    """A good answer to the question, or None where the gradient attack finds none.

    Rounds of gradient attacks from fresh random starts; the nearest answers of each round that lie in regions not yet
    seen are descended from. It ends after `PATIENCE` rounds without a gain.

    Args:
        question: image, target, scenarios.
        seed: of the random starts.
        deadline: `time.perf_counter()` value at which to stop.
        told: called with every better answer, so that an interrupt loses none.
    """
    program = RegionProgram(question)
    best: Corner | None = None
    seen: set[bytes] = set()
    idle = 0
    for attempt in range(ROUNDS):
        answers = gradient_answers(question, seed * ROUNDS + attempt, deadline)
        corner = best
        for start in answers:
            if time.perf_counter() > deadline:
                break
            key = b"".join(phase.tobytes() for phase in phases_at(question, start))
            if key in seen or (best is not None and question.distance(start) > 1.3 * best.distance):
                continue
            seen.add(key)
            corner = descend(program, [start], deadline, corner)
            if told is not None and corner is not None:
                told(corner)
        gained = corner is not None and (best is None or corner.distance < best.distance * (1 - 1e-4))
        idle = 0 if gained else idle + 1
        best = corner
        if idle == PATIENCE or time.perf_counter() > deadline:
            break
    return best
