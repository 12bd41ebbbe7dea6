"""Section 6.1 in kind: a graph network controls a system over links that fail at random."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from arfj.certify.scenario import Request, Safe, Source, Uniform, by_faces, certify
from arfj.network import Floats
from experiments.scenario.common import DELTA, DOCUMENT, ROWS, SHORT, of
from experiments.sheets import Column, Sheet
from experiments.studies import Row, Scale, Study, Task

NODES, STEPS, DROPOUT, FEATURES, EPSILON = 10, 20, 0.2, 32, 0.05
GAIN = 0.2
"""Of the system's own pull, the share that the controller takes away: it settles slowly, and failing links matter."""
LEVEL = 0.25
"""Safe is |x_i| <= LEVEL for every node after the last step; the start has |x_i| = 1."""


@dataclass(frozen=True, eq=False)
class Loop:
    """x+ = A x + u(x; S): S is the graph with the links that hold, u a graph network of random features.

    u = sum_k S^k tanh(sum_k S^k x h_k) g_k with k = 0, 1: h random, g fitted to -GAIN A x on random
    states with all links.
    """

    links: np.ndarray[tuple[int, int], np.dtype[np.intp]]
    system: Floats
    inner: Floats
    outer: Floats

    def shifts(self, kept: Floats) -> Floats:
        """S for links (count, links) that hold (1) or fail (0): (count, NODES, NODES)."""
        result = np.zeros((len(kept), NODES, NODES))
        one, two = self.links.T
        result[:, one, two] = result[:, two, one] = kept / 3.0
        return result

    def control(self, x: Floats, s: Floats) -> Floats:
        """u, shapes (count, NODES) and (count, NODES, NODES)."""
        features = _features(x, s, self.inner)
        return np.asarray(np.einsum("cif,f->ci", features, self.outer))

    def __call__(self, links: Floats) -> Floats:
        """x after the last step, for uniform numbers (count, STEPS * links): a link fails where its number is small."""
        kept = (links.reshape(len(links), STEPS, -1) >= DROPOUT).astype(np.float64)
        x = np.tile(np.where(np.arange(NODES) % 2, -1.0, 1.0), (len(links), 1))
        for step in range(STEPS):
            x = x @ self.system.T + self.control(x, self.shifts(kept[:, step]))
        return np.asarray(x)


def _features(x: Floats, s: Floats, inner: Floats) -> Floats:
    """[Z, S Z] with Z = tanh(x h_0 + S x h_1): (count, NODES, 2 FEATURES)."""
    sx = np.einsum("cij,cj->ci", s, x)
    z = np.tanh(x[:, :, None] * inner[0] + sx[:, :, None] * inner[1])
    return np.concatenate([z, np.einsum("cij,cjf->cif", s, z)], axis=2)


@functools.cache
def loop(seed: int = 0) -> Loop:
    """A ring with five chords, a system of spectral radius 1.05 on it, and the controller."""
    rng = np.random.default_rng(seed)
    links = {tuple(sorted((i, (i + 1) % NODES))) for i in range(NODES)}
    while len(links) < NODES + 5:
        links.add(tuple(sorted(rng.choice(NODES, 2, replace=False).tolist())))
    where = np.array(sorted(links))
    system = np.diag(rng.uniform(0.5, 1.0, NODES))
    system[where[:, 0], where[:, 1]] = system[where[:, 1], where[:, 0]] = rng.uniform(-0.3, 0.3, len(where))
    system *= 1.05 / float(np.abs(np.linalg.eigvals(system)).max())
    inner: Floats = rng.normal(size=(2, FEATURES))
    made = Loop(where, system, inner, np.zeros(2 * FEATURES))
    states = rng.uniform(-1, 1, (400, NODES))
    features = _features(states, made.shifts(np.ones((400, len(where)))), inner)
    wanted = -(states @ system.T)
    outer = np.asarray(np.linalg.lstsq(features.reshape(-1, 2 * FEATURES), GAIN * wanted.ravel(), rcond=1e-6)[0], float)
    return Loop(where, system, inner, outer)


def source(seed: int = 0) -> Source:
    """Uniform numbers in [0, 1], one a step and link."""
    return Source(loop(), np.full(STEPS * len(loop().links), 0.5), Uniform(0.5), seed)


def faces() -> Safe:
    """-LEVEL <= x_i <= LEVEL."""
    eye = np.eye(NODES)
    return Safe(np.vstack([eye, -eye]), np.full(2 * NODES, LEVEL))


def stage(scale: Scale, _rows: Sequence[Row]) -> list[Task]:
    """One row a way to certify."""
    ways = ("minimum", "faces", "l2", "linf") if scale.size == "full" else ("minimum", "l2")
    return [Task(f"scenario/control/{way}", functools.partial(measured, way), SHORT, "control") for way in ways]


def measured(way: str) -> dict[str, Any]:
    """All faces at once; each with samples of its own; or the ball around the state, along the first node's face."""
    safe = faces()
    found: dict[str, Any] = {"status": "optimal", "way": way}
    match way:
        case "minimum":
            one = certify(source(), safe, Request(EPSILON, DELTA))
        case "faces":
            each = by_faces(source(), safe, Request(EPSILON, DELTA))
            one = min(each, key=lambda certificate: certificate.bound)
            found["total"] = sum(certificate.samples for certificate in each)
        case _:
            face = Safe(safe.rows[:1], safe.offsets[:1])
            kind = {"set": way}
            one = certify(source(), face, Request(EPSILON, DELTA, **kind))  # type: ignore[arg-type]
    return {"total": one.samples} | found | {"bound": one.bound, "p": one.p, "radius": one.as_json().get("radius")}


def sheets(rows: Sequence[Row]) -> list[Sheet]:
    """The bounds."""
    found = of(rows, "scenario/control/")
    if not found:
        return []
    said = {
        "minimum": "all 20 faces by their minimum",
        "faces": "all 20 faces, each with samples of its own",
        "l2": "one face, l2 ball",
        "linf": "one face, linf ball",
    }
    columns = (Column("what"), Column("p", 0), Column("samples", 0), Column("bound", 3), Column("radius", 3))
    found.sort(key=lambda row: list(said).index(row["way"]))
    cells = [(said[row["way"]], row["p"], row["total"], row["bound"], row["radius"]) for row in found]
    notes = (
        f"{NODES} nodes, links that fail with probability {DROPOUT} at every step, {STEPS} steps, epsilon {EPSILON}; "
        f"safe: |x_i| <= {LEVEL} for all nodes after the last step. System, graph and start are not published; these "
        "are random.",
    )
    return [Sheet("scenario_control", "Section 6.1 in kind: a graph-network controller.", columns, cells, notes)]


def violations(rows: Sequence[Row]) -> list[str]:
    """What must be certified, and is not."""
    return [f"{row['key']}: {row['bound']:.3f}" for row in of(rows, "scenario/control/minimum") if row["bound"] < 0]


STUDY = Study(
    "scenario_control",
    "Section 6.1 in kind: a graph network over failing links",
    (stage,),
    sheets,
    violations=violations,
    keys=("scenario/control/",),
    rows=ROWS,
    document=DOCUMENT,
)
