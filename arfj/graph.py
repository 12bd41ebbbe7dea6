r"""Networks as affine maps and activations: the one form that bounds, branch and bound and encodings read.

    v_0 = x,   v_i = sum_j v_j M_ij + b_i          (`Affine`, all sources j < i)
               v_i = act(v_j)                      (`Activation`)

Every value is a flat row vector, in the order in which its network's file holds it. Dense layers, convolutions,
average pooling, batch normalisation, residual additions and reshapes are affine; leaky ReLU is s v + (1 - s) ReLU(v)
and max pooling a tree of max(v, w) = v + ReLU(w - v), so ReLU, sigmoid and tanh are all that is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import csr_array

from arfj.errors import NetworkError
from arfj.network import Floats

Matrix = Floats | csr_array
"""Shape (inputs, outputs), float64: dense, or sparse where few entries differ from 0."""
Kind = Literal["relu", "sigmoid", "tanh"]


@dataclass(frozen=True, eq=False)
class Affine:
    """sum_j v_j M_j + b.

    Attributes:
        sources: the indices j of the values it reads, each once.
        maps: M_j, shape (size of v_j, outputs).
        bias: b, shape (outputs,).
    """

    sources: tuple[int, ...]
    maps: tuple[Matrix, ...]
    bias: Floats


@dataclass(frozen=True, eq=False)
class Activation:
    """act(v_source), element by element."""

    source: int
    kind: Kind


Node = Affine | Activation


@dataclass(frozen=True, eq=False)
class Graph:
    """A network as nodes in topological order.

    Attributes:
        inputs: n_0, the size of v_0.
        nodes: node i - 1 gives v_i; the last one gives the outputs.
        input_shape: the shape of one input; its product is `inputs`.

    Raises:
        NetworkError: a node that reads a later value, or sizes that do not fit.
    """

    inputs: int
    nodes: tuple[Node, ...]
    input_shape: tuple[int, ...] = ()
