"""Open subproblems of a branch and bound: taken worst bound first, in memory that is bounded."""

from __future__ import annotations

import math
import shutil
import tempfile
import weakref
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from arfj.network import Floats

IN_MEMORY = 2**30
"""Bytes of open subproblems that are held in memory; the rest goes to a file."""


class Rows(Protocol):
    """Some subproblems: a dataclass of arrays alone, each with a row for each of them."""

    @property
    def bound(self) -> Floats:
        """What is proven of each, shape (rows,)."""


T = TypeVar("T", bound=Rows)


class Pool(Generic[T]):
    """Open subproblems in slots of growing arrays, which continue in a temporary file when memory gets large."""

    def __init__(self, like: T) -> None:
        self.like = like
        self.bound = np.full(0, np.inf)
        self.arrays = {name: array[:0] for name, array in vars(like).items()}
        self.free = np.zeros(0, dtype=np.intp)
        self.count = 0
        self._folder: Path | None = None

    def __len__(self) -> int:
        return self.count

    @property
    def worst(self) -> float | None:
        """The least bound."""
        return float(self.bound.min()) if self.count and np.isfinite(self.bound.min()) else None

    def add(self, nodes: T) -> None:
        """Put subproblems into free slots."""
        count = len(nodes.bound)
        if count > len(self.free):
            self._grow(max(1024, 2 * len(self.bound), len(self.bound) + count - len(self.free)))
        slots, self.free = self.free[:count], self.free[count:]
        for name, array in vars(nodes).items():
            self.arrays[name][slots] = array
        self.bound[slots] = nodes.bound
        self.count += count

    def take(self, count: int) -> T:
        """Remove the subproblems with the least bounds."""
        count = min(count, self.count)
        slots = np.argpartition(self.bound, count - 1)[:count]
        nodes = type(self.like)(**{name: np.asarray(array[slots]) for name, array in self.arrays.items()})
        self.bound[slots] = np.inf
        self.free = np.concatenate([slots, self.free])
        self.count -= count
        return nodes

    def _grow(self, slots: int) -> None:
        old = len(self.bound)
        row = sum(array.itemsize * math.prod(array.shape[1:]) for array in self.arrays.values())
        for name, array in self.arrays.items():
            wider = self._room(name, (slots, *array.shape[1:]), array.dtype, on_disk=row * slots > IN_MEMORY)
            wider[:old] = array
            self.arrays[name] = wider
        self.bound = np.concatenate([self.bound, np.full(slots - old, np.inf)])
        self.free = np.concatenate([self.free, np.arange(old, slots)])

    def _room(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], on_disk: bool) -> NDArray[Any]:
        if not on_disk or 0 in shape:
            return np.zeros(shape, dtype=dtype)
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="arfj-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)  # at the latest when Python ends
        return np.memmap(self._folder / f"{name}-{shape[0]}", dtype=dtype, mode="w+", shape=shape)
