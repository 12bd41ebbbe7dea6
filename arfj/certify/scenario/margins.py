"""The smallest of many margins z_j = min_i (a_i'y_j + b_i): all that a half-space needs of its samples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from arfj.certify.scenario.stream import Source, finite
from arfj.errors import UsageError
from arfj.network import Floats


@dataclass(frozen=True, eq=False)
class Margins:
    """z = min_i (a_i'y + b_i): rows a_i, shape (m, n_y), and offsets b_i, shape (m,)."""

    rows: Floats
    offsets: Floats

    def __call__(self, outputs: Floats) -> Floats:
        """Outputs (count, n_y) -> (count,).

        Raises:
            UsageError: another number of outputs. ArfjError: outputs so large that their margin overflows.
        """
        if outputs.shape[1] != self.rows.shape[1]:
            raise UsageError(
                f"the function gives {outputs.shape[1]} outputs, the safe set is one of {self.rows.shape[1]}"
            )
        with np.errstate(over="ignore", invalid="ignore"):
            return finite((outputs @ self.rows.T + self.offsets).min(axis=1))


def smallest(source: Source, margins: Margins, samples: int, keep: int, stream: int = 0, threads: int = 0) -> Floats:
    """The `keep` smallest of N margins, ascending; no more than about twice these and a batch are held.

    Raises:
        ArfjError: a sample is no number.
    """
    parts: list[Floats] = []
    held = 0
    for found in source.each(samples, stream, lambda y: least(margins(y), keep), threads):
        parts.append(found)
        held += len(found)
        if held >= 2 * keep:  # not at every batch: where many are kept, they are not sorted again and again
            parts = [least(np.concatenate(parts), keep)]
            held = keep
    return least(np.concatenate(parts), keep)


def least(values: Floats, keep: int) -> Floats:
    """The `keep` smallest values, or all where there are no more, ascending."""
    return np.sort(np.partition(values, keep - 1)[:keep] if len(values) > keep else values)
