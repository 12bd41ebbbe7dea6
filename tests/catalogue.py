"""Small questions with optima worked out by hand: every formulation and every solver has to meet them.

Outputs are called y0, y1, ...; "asked" is y_t >= (1 + gamma) y_j for every rival j and y_t >= 1e-3.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from arfj.ensemble import Ensemble
from arfj.network import Network
from arfj.question import Question


@dataclass(frozen=True)
class Entry:
    """A question and its answer.

    Attributes:
        name: what it is about.
        networks: per scenario the layers as (W, b) pairs.
        nominal: xbar.
        distance: the optimum; None where no point is an answer.
        why: the working.
        x: the optimal point where it is the only one, else None.
    """

    name: str
    networks: tuple[tuple[tuple[list, list], ...], ...]
    nominal: list[float]
    distance: float | None
    why: str
    x: list[float] | None = None
    gamma: float = 0.2
    true: int = 0
    target: int = 1
    output: str = field(default="relu")

    @property
    def question(self) -> Question:
        networks = tuple(
            Network.from_arrays(*zip(*layers, strict=True), output_activation=self.output) for layers in self.networks
        )
        return Question(np.array(self.nominal), self.true, self.target, Ensemble(networks, "given"), self.gamma)


# y0 = 1 - x, y1 = x
SEESAW = (([[-1.0, 1.0]], [1.0, 0.0]),)
# y0 = 0.1 - x, y1 = x - 0.5
SLEEPY = (([[-1.0, 1.0]], [0.1, -0.5]),)
# h = (max(x1 - x2, 0), max(x2 - x1, 0)); y0 = 0.3, y1 = h1 + h2 = |x1 - x2|
ABSOLUTE = (([[1.0, -1.0], [-1.0, 1.0]], [0.0, 0.0]), ([[0.0, 1.0], [0.0, 1.0]], [0.3, 0.0]))
# h = (max(x - 0.6, 0), max(0.3 - x, 0)); y0 = 0.1, y1 = h1 + h2: an answer on either side
VALLEY = (([[1.0, -1.0]], [-0.6, 0.3]), ([[0.0, 1.0], [0.0, 1.0]], [0.1, 0.0]))

CATALOGUE = (
    Entry("one pixel", (SEESAW,), [0.2], 1.2 / 2.2 - 0.2, "x >= 1.2 (1 - x) from 1.2 / 2.2 on", [1.2 / 2.2]),
    Entry("gamma 0", (SEESAW,), [0.2], 0.3005, "x >= 1 - x + 1e-3 from 0.5005 on: a tie is no answer", [0.5005], 0.0),
    Entry("asleep", (SLEEPY,), [0.0], 0.501, "y0 = 0 from 0.1 on; y1 >= 1e-3 from 0.501 on", [0.501]),
    Entry(
        "linear output", (SLEEPY,), [0.0], 0.501, "y0 < 0 from 0.1 on; y1 >= 1e-3 as before", [0.501], output="linear"
    ),
    Entry(
        "linear seesaw",
        (SEESAW,),
        [0.2],
        1.2 / 2.2 - 0.2,
        "both outputs positive: as one pixel",
        [1.2 / 2.2],
        output="linear",
    ),
    Entry("two optima", (ABSOLUTE,), [0.5, 0.5], 0.36, "|x1 - x2| >= 1.2 * 0.3; the nominal image lies on both kinks"),
    Entry("left is nearer", (VALLEY,), [0.4], 0.22, "y1 >= 0.12 below 0.18 and above 0.72", [0.18]),
    Entry("right is nearer", (VALLEY,), [0.5], 0.22, "y1 >= 0.12 below 0.18 and above 0.72", [0.72]),
    Entry("valley, gamma 0", (VALLEY,), [0.5], 0.201, "y1 >= 0.101 below 0.199 and above 0.701", [0.701], 0.0),
    Entry(
        "pixels at their bounds",
        ((([[0.0, 2.0], [1.0, 0.0]], [0.0, 0.0]),),),
        [0.0, 1.0],
        0.6,
        "2 x1 >= 1.2 x2 lacks 1.2; x1 gives 2 a unit and can only rise, x2 gives 1.2 and can only fall",
        [0.6, 1.0],
    ),
    Entry(
        "a pixel runs into its bound",
        ((([[0.0, 2.0], [0.0, 1.0]], [2.25, 0.0]),),),
        [0.9, 0.5],
        0.3,
        "2 x1 + x2 >= 2.7 lacks 0.4; x1 gives 0.2 until it is 1, then x2 gives 0.2",
        [1.0, 0.7],
    ),
    Entry("dead target", ((([[-1.0, -1.0]], [1.0, -1.0]),),), [0.2], None, "y1 = max(-1 - x, 0) = 0"),
    Entry("target too weak", ((([[0.0, 0.5]], [1.0, 0.0]),),), [0.2], None, "y1 <= 0.5 < 1.2 y0 = 1.2"),
    Entry("dead hidden target", ((([[1.0]], [-2.0]), ([[0.0, 1.0]], [1.0, 0.0])),), [0.2], None, "h = 0, so y1 = 0"),
    Entry(
        "scenarios in conflict",
        (SEESAW, (([[1.0, -1.0]], [0.0, 1.0]),)),
        [0.2],
        None,
        "the first asks x >= 1.2 / 2.2, the second x <= 1 / 2.2",
    ),
    Entry(
        "the harder scenario rules",
        (SEESAW, (([[-1.0, 1.0]], [0.8, 0.0]),)),
        [0.2],
        1.2 / 2.2 - 0.2,
        "x >= 1.2 / 2.2 and x >= 0.96 / 2.2",
        [1.2 / 2.2],
    ),
    Entry(
        "every scenario asks for its pixel",
        ((([[0.0, 1.0], [0.0, 0.0]], [0.5, 0.0]),), (([[0.0, 0.0], [0.0, 1.0]], [0.5, 0.0]),)),
        [0.1, 0.2],
        0.9,
        "x1 >= 0.6 and x2 >= 0.6",
        [0.6, 0.6],
    ),
    Entry(
        "scenarios of different depth",
        (VALLEY, SEESAW),
        [0.3],
        0.42,
        "x <= 0.18 or x >= 0.72, and x >= 1.2 / 2.2",
        [0.72],
    ),
    Entry("an answer already", (SEESAW,), [0.9], 0.0, "0.9 >= 1.2 * 0.1", [0.9]),
    Entry(
        "stable neurons only",
        ((([[1.0, -1.0]], [1.0, -1.0]), ([[-1.0, 1.0], [0.0, 5.0]], [2.0, -1.0])),),
        [0.2],
        1.2 / 2.2 - 0.2,
        "h1 = x + 1 always on, h2 always off: y0 = 1 - x, y1 = x",
        [1.2 / 2.2],
    ),
    Entry(
        "two hidden layers",
        ((([[1.0]], [-0.5]), ([[-1.0]], [0.2]), ([[2.0, 0.0]], [0.0, 0.1])),),
        [0.4],
        0.3 - 1 / 24,
        "h = x - 0.5, k = 0.2 - h, y0 = 2 k <= 0.1 / 1.2, so k <= 1/24, h >= 0.2 - 1/24, x >= 0.7 - 1/24",
        [0.7 - 1 / 24],
    ),
    Entry(
        "three classes",
        ((([[-1.0, 0.0, 1.0], [0.0, 1.0, 0.0]], [1.0, 0.0, 0.0]),),),
        [0.0, 0.5],
        1.2 / 2.2 + 0.5 - 1 / 2.2,
        "x1 >= 1.2 (1 - x1) makes x1 = 1.2 / 2.2; x1 >= 1.2 x2 is cheaper met by x2 = 1 / 2.2 than by more x1",
        [1.2 / 2.2, 1 / 2.2],
        target=2,
    ),
)

ANSWERED = tuple(entry for entry in CATALOGUE if entry.distance is not None)
