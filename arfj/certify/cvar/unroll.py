r"""Networks that are run step by step, as one graph: its certificates are those of any other network.

closed loop    x_(t+1) = A x_t + B f(x_t),            inputs x_0,                   outputs x_T
recurrent      h_t = max(U' x_t + W' h_(t-1) + b, 0),  inputs (x_1, ..., x_T),       outputs V' h_T + c,  h_0 = 0
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from arfj.errors import UsageError
from arfj.graph import Activation, Affine, Graph, Node
from arfj.network import Network


def closed_loop(controller: Network | Graph, state: ArrayLike, control: ArrayLike, steps: int = 1) -> Graph:
    """x_T after `steps` steps of the loop, as a network of x_0.

    Args:
        controller: f, from states to controls.
        state: A, shape (n, n).
        control: B, shape (n, controls).
        steps: T >= 1.

    Raises:
        UsageError: shapes that do not fit, or no steps.
    """
    inner, a, b = controller.graph(), np.asarray(state, dtype=np.float64), np.asarray(control, dtype=np.float64)
    size = inner.inputs
    if a.shape != (size, size) or b.shape != (size, inner.classes):
        raise UsageError(
            f"A has shape {a.shape}, B {b.shape}; "
            f"expected ({size}, {size}) and ({size}, {inner.classes}) for this network"
        )
    _check(steps)
    nodes: list[Node] = []
    now = 0
    for _ in range(steps):
        places = [now]
        for node in inner.nodes:
            if isinstance(node, Activation):
                nodes.append(Activation(places[node.source], node.kind))
            else:
                nodes.append(Affine(tuple(places[source] for source in node.sources), node.maps, node.bias))
            places.append(len(nodes))
        nodes.append(Affine((now, places[-1]), (a.T, b.T), np.zeros(size)))
        now = len(nodes)
    return Graph(size, tuple(nodes))


def recurrent(
    entering: ArrayLike, looping: ArrayLike, bias: ArrayLike, leaving: ArrayLike, shift: ArrayLike, steps: int
) -> Graph:
    """The outputs of a recurrent ReLU network after `steps` inputs.

    Args:
        entering: U, shape (inputs, hidden).
        looping: W, shape (hidden, hidden).
        bias: b, shape (hidden,).
        leaving: V, shape (hidden, outputs).
        shift: c, shape (outputs,).
        steps: T >= 1.

    Raises:
        UsageError: no steps.
        NetworkError: shapes that do not fit.
    """
    _check(steps)
    u, w, b = (np.asarray(part, dtype=np.float64) for part in (entering, looping, bias))
    nodes: list[Node] = []
    for step in range(steps):
        chosen = np.zeros((steps * len(u), u.shape[1]))
        chosen[step * len(u) : (step + 1) * len(u)] = u
        nodes.append(Affine((0, len(nodes)), (chosen, w), b) if step else Affine((0,), (chosen,), b))
        nodes.append(Activation(len(nodes), "relu"))
    nodes.append(Affine((len(nodes),), (np.asarray(leaving, dtype=np.float64),), np.asarray(shift, dtype=np.float64)))
    return Graph(steps * len(u), tuple(nodes))


def _check(steps: int) -> None:
    if steps < 1:
        raise UsageError(f"{steps} steps cannot be unrolled; expected at least 1")
