"""Networks that no `Graph` holds: ELU, exp, squares, products, and softmax as what the network gives.

Such a network is a list of the layers of `activations`, which bounds it from below and above by ReLU networks; the
readers of files are those of all commands, with a builder that understands more.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import cast

import numpy as np

from arfj.builder import Builder, Tensor
from arfj.certify.cdf.activations import Layer, Maximum, Pointwise, evaluate, product, softmax, square
from arfj.certify.cdf.evaluation import held, moved
from arfj.errors import UsageError
from arfj.graph import Activation, Affine, Graph, Node
from arfj.network import Floats, Network, load_network

CURVED = ("elu", "exp", "square")


@dataclass(frozen=True, eq=False)
class Layers:
    """A network as layers: number i - 1 gives v_i, the last one the outputs.

    Attributes:
        inputs: the size of v_0.
        layers: as of `activations.bounding_network`.
        input_shape: the shape of one input. Default: flat.
        softmax: whether its file ends in a softmax over these outputs, which was taken off.
    """

    inputs: int
    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...] = ()
    softmax: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "input_shape", self.input_shape or (self.inputs,))

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        """The sizes of v_0, v_1, ..."""
        sizes = [self.inputs]
        for layer in self.layers:
            match layer:
                case Affine():
                    sizes.append(len(layer.bias))
                case Maximum():
                    sizes.append(len(layer.one))
                case Activation() | Pointwise():
                    sizes.append(sizes[layer.source])
        return tuple(sizes)

    @property
    def classes(self) -> int:
        """The number of outputs."""
        return self.sizes[-1]

    def __call__(self, x: Floats) -> Floats:
        """Output values: (batch, inputs) -> (batch, classes)."""
        return evaluate(self.layers, x)[-1]


def layers_of(network: Network | Graph | Layers) -> Layers:
    """The same network as layers."""
    if isinstance(network, Layers):
        return network
    graph = network.graph()
    return Layers(graph.inputs, graph.nodes, graph.input_shape, graph.softmax)


def with_softmax(network: Network | Graph | Layers) -> Layers:
    """The network with a softmax over its outputs.

    Raises:
        UsageError: it has one output, whose softmax is 1.
    """
    found = layers_of(network)
    if found.classes < 2:
        raise UsageError("the softmax of one output is 1, whatever it is; expected two outputs or more")
    layers: list[Layer] = list(found.layers)
    softmax(layers, len(layers), found.classes)
    return replace(found, layers=tuple(layers), softmax=False)


def restricted_layers(network: Layers, fixed: Floats, free: Sequence[int]) -> Layers:
    """The network as a function of the inputs `free`, the others held: one more layer of ones and zeros before it."""
    return Layers(len(free), (held(fixed, free), *(moved(layer) for layer in network.layers)))


class LayerBuilder(Builder):
    """Collects nodes, and layers that are none of a graph; `finish` gives `Layers` where there are such."""

    def curved(self, source: Tensor, kind: str) -> Tensor:
        """act(v) for an activation of `CURVED`.

        Raises:
            NetworkError: another one.
        """
        if kind not in CURVED:
            return super().curved(source, kind)
        if kind == "square":
            square(self._layers, source.index, source.size)
        else:
            self._layers.append(Pointwise(source.index, kind))
        return Tensor(len(self._layers), source.shape)

    def product(self, one: Tensor, two: Tensor) -> Tensor:
        """v w under NumPy's broadcasting."""
        first, second = np.broadcast_arrays(one.places, two.places)
        if one == two:
            return self.curved(one, "square")
        size, none = first.size, np.full(first.size, -1)
        pair = self.combine(
            [
                (one, np.concatenate([first.ravel(), none]), 1.0),
                (two, np.concatenate([none, second.ravel()]), 1.0),
            ]
        )
        product(self._layers, pair.index, size)
        return Tensor(len(self._layers), first.shape)

    @property
    def _layers(self) -> list[Layer]:
        return cast("list[Layer]", self._nodes)

    # What no graph holds is none: so the type is wider.
    def finish(  # type: ignore[override]
        self, output: Tensor, input_shape: Sequence[int], softmax: bool = False
    ) -> Network | Graph | Layers:
        """As `Builder.finish`; the layers as they are where one of them is curved."""
        layers = tuple(self._layers[: output.index])
        if all(isinstance(layer, Node) for layer in layers):
            return super().finish(output, input_shape, softmax)
        return Layers(self.input.size, layers, tuple(input_shape) or (self.input.size,), softmax)


def load(path: str) -> Network | Graph | Layers:
    """Read a network as `load_network`; `Layers` where it holds ELU, exp, squares or products.

    Raises:
        NetworkError: as `load_network`.
    """
    name = Path(path)
    if name.suffix.lower() in (".keras", ".h5"):
        from arfj.keras_models import read_keras

        return cast("Network | Graph | Layers", read_keras(name, LayerBuilder))
    if name.name.lower().removesuffix(".gz").endswith(".onnx"):
        from arfj.onnx_models import read_onnx

        return cast("Network | Graph | Layers", read_onnx(name, LayerBuilder))
    return load_network(name)
