r"""The ascent behind `arfj.bounds.batched`: slopes and multipliers of many subproblems together, then the proof.

Written once for NumPy and for JAX, which compiles it for every shape that it meets.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from arfj.bounds.backward import ActivationStep, Pass, Split, Structure, backward, relaxed_forward
from arfj.bounds.compiled import Compiled
from arfj.bounds.records import OUTWARD
from arfj.bounds.relaxation import Lines, relax

SLOPE_STEP = 0.25
BETA_STEP = 0.15
DECAY = 0.94

Array = Any


@functools.cache
def compiled() -> Compiled:
    """The ascent as a compiled program."""
    import jax
    import jax.numpy as jnp

    def loop(count: int, body: Callable[[Any, Any], Any], state: Any) -> Any:
        return jax.lax.fori_loop(0, count, body, state)

    return Compiled(functools.partial(_improve, jnp, loop), fixed=2)


def compile_seconds() -> float:
    """What this process has spent in compiling so far; 0 where nothing is compiled."""
    return compiled().seconds if compiled.cache_info().currsize else 0.0


def improve(*arguments: Any) -> Any:
    """The ascent in NumPy."""

    def loop(count: int, body: Callable[[Any, Any], Any], state: Any) -> Any:
        for step in range(count):
            state = body(step, state)
        return state

    return _improve(np, loop, *arguments)


@dataclass(frozen=True, eq=False)
class _Batch:
    """One batch in one precision: what a backward pass needs, and what follows from it."""

    xp: Any
    steps: Structure
    numbers: Any
    rows: Array
    sign: dict[int, Array]

    @property
    def places(self) -> list[int]:
        return [index for index, step in enumerate(self.steps, start=1) if isinstance(step, ActivationStep)]

    def lines(self) -> dict[int, Lines]:
        """The lines of every activation under the assumed phases."""
        xp, result = self.xp, {}
        _, lower, upper, _, _ = self.numbers
        for index, low, up in zip(self.places, lower, upper, strict=True):
            step, s = self.steps[index - 1], self.sign[index]
            if not isinstance(step, ActivationStep):
                raise TypeError("an activation was expected")
            assumed_low = xp.where(s > 0, xp.maximum(low, 0.0), low)
            assumed_up = xp.where(s < 0, xp.minimum(up, 0.0), up)
            result[index] = relax(xp, step.kind, assumed_low, assumed_up)
        return result

    def passed(self, lines: dict[int, Lines], slope: Any, beta: Any, sizes: Any = None) -> Pass:
        splits = {i: Split(self.sign[i], beta[i]) for i in self.places}
        return backward(self.xp, self.steps, self.numbers[0], len(self.steps), self.rows, lines, slope, splits, sizes)

    def value(self, passed: Pass) -> Array:
        low, up = self.numbers[3]
        return passed.constant + self.xp.maximum(passed.rows, 0) @ low + self.xp.minimum(passed.rows, 0) @ up

    def minimiser(self, passed: Pass) -> Array:
        low, up = self.numbers[3]
        return self.xp.where(passed.rows > 0, low, up)

    def before(self, passed: Pass, lines: dict[int, Lines], slope: Any) -> tuple[Array, dict[int, Array]]:
        x = self.minimiser(passed)
        return x, relaxed_forward(self.xp, self.steps, self.numbers[0], len(self.steps), x, passed.met, lines, slope)


def _improve(
    xp: Any,
    loop: Any,
    steps: Structure,
    count: int,
    warm: Array,
    search: Any,
    proof: Any,
    chosen: Array,
    signs: Array,
    slopes: Array,
    betas: Array,
) -> Any:
    """Ascent in the search's precision, then the proof."""
    real = search[3][0].dtype
    ends = np.cumsum([len(low) for low in search[1]])[:-1].tolist()
    places = [index for index, step in enumerate(steps, start=1) if isinstance(step, ActivationStep)]

    def parts(array: Array, dtype: Any) -> dict[int, Array]:
        return dict(zip(places, xp.split(array.astype(dtype), ends, axis=1), strict=False))

    batch = _Batch(xp, steps, search, chosen.astype(real), parts(signs, real))
    lines = batch.lines()
    start, beta = parts(slopes, real), parts(betas, real)
    slope = {i: xp.where(lines[i].open & warm, start[i], lines[i].low_slope) for i in places}
    nothing = {i: xp.zeros_like(start[i]) for i in places}
    state = (slope, beta, nothing, nothing, nothing, nothing, xp.full(len(chosen), -np.inf, dtype=real), slope, beta)
    state = loop(count, functools.partial(_ascend, batch, lines), state)
    slope, beta, *_, best, best_slope, best_beta = state
    better = (batch.value(batch.passed(lines, slope, beta)) > best)[:, None]
    exact = {i: xp.clip(xp.where(better, slope[i], best_slope[i]).astype(np.float64), 0.0, 1.0) for i in places}
    pulls = {i: xp.maximum(xp.where(better, beta[i], best_beta[i]).astype(np.float64), 0.0) for i in places}
    bound, score, x = _prove(_Batch(xp, steps, proof, chosen, parts(signs, np.float64)), exact, pulls)
    return (
        bound,
        joined(xp, [exact[i] for i in places], len(chosen)),
        joined(xp, [pulls[i] for i in places], len(chosen)),
        score,
        x,
    )


def _ascend(batch: _Batch, lines: dict[int, Lines], step: Any, state: Any) -> Any:
    """One step on slopes and multipliers along momentum over its own scale, keeping the best."""
    xp = batch.xp
    slope, beta, ms, vs, mb, vb, best, best_slope, best_beta = state
    passed = batch.passed(lines, slope, beta)
    value = batch.value(passed)
    better = (value > best)[:, None]
    best = xp.maximum(value, best)
    best_slope = {i: xp.where(better, slope[i], best_slope[i]) for i in slope}
    best_beta = {i: xp.where(better, beta[i], best_beta[i]) for i in beta}
    _, before = batch.before(passed, lines, slope)
    rate = DECAY**step
    slope, beta, ms, vs, mb, vb = ({**part} for part in (slope, beta, ms, vs, mb, vb))
    for i, a in before.items():
        uphill = xp.maximum(passed.met[i], 0) * a
        ms[i] = 0.8 * ms[i] + 0.2 * uphill
        vs[i] = 0.95 * vs[i] + 0.05 * uphill * uphill
        moved = slope[i] + SLOPE_STEP * rate * ms[i] / (xp.sqrt(vs[i]) + 1e-12)
        slope[i] = xp.where(lines[i].open, xp.clip(moved, 0.0, 1.0), slope[i])
        uphill = -batch.sign[i] * a
        mb[i] = 0.8 * mb[i] + 0.2 * uphill
        vb[i] = 0.95 * vb[i] + 0.05 * uphill * uphill
        scale = abs(passed.met[i]).max(axis=1, keepdims=True)
        beta[i] = xp.maximum(beta[i] + BETA_STEP * rate * scale * mb[i] / (xp.sqrt(vb[i]) + 1e-12), 0.0)
    return slope, beta, ms, vs, mb, vb, best, best_slope, best_beta


def _prove(batch: _Batch, slope: dict[int, Array], beta: dict[int, Array]) -> tuple[Array, Array, Array]:
    """The bound at given slopes and multipliers with the margin for rounding taken off; scores and minimiser."""
    xp = batch.xp
    lines = batch.lines()
    slope = {i: xp.where(lines[i].open, slope[i], lines[i].low_slope) for i in slope}
    sizes = batch.numbers[4]
    passed = batch.passed(lines, slope, beta, sizes)
    handled = passed.magnitude + abs(passed.rows) @ sizes[0]
    for i, pull in beta.items():
        step = batch.steps[i - 1]
        if isinstance(step, ActivationStep):
            handled = handled + pull @ sizes[step.source]
    bound = batch.value(passed) - OUTWARD * (handled + 1.0)
    x, before = batch.before(passed, lines, slope)
    scores = [
        _score(xp, passed.met[i], lines[i], slope[i], before[i]) if i in before else xp.zeros_like(slope[i])
        for i in batch.places
    ]
    return bound, joined(xp, scores, len(bound)), x


def joined(xp: Any, parts: list[Array], count: int) -> Array:
    """Side by side; a network without activations has none."""
    return xp.concatenate(parts, axis=1) if parts else xp.zeros((count, 0))


def _score(xp: Any, met: Array, line: Lines, slope: Array, a: Array) -> Array:
    """|c| times the gap between the line that was used and ReLU, at the minimiser."""
    act = xp.maximum(a, 0.0)
    gap = xp.where(met >= 0, act - slope * a, line.up_slope * a + line.up_shift - act)
    return xp.where(line.open, abs(met) * gap, 0.0)
