"""One node of an ONNX file, as the functions that read operators get it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from arfj.builder import Builder, Tensor
from arfj.errors import NetworkError

if TYPE_CHECKING:
    import onnx

Constant = NDArray[Any]
"""float64, or integers and booleans as they are."""
Value = Tensor | Constant
Operator = Callable[["Call"], list[Value]]


@dataclass
class Call:
    """One node with its inputs read.

    Attributes:
        builder: takes the new nodes.
        opset: version of the operator set.
        inputs: None for one that is left out.
        attributes: emptied as they are read; what is left was not understood.
        outputs: how many outputs the file names.
    """

    builder: Builder
    opset: int
    inputs: list[Value | None]
    attributes: dict[str, Any]
    outputs: int

    def option(self, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """The attribute, or the default."""
        value = self.attributes.pop(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def input(self, index: int) -> Value:
        """The input; a missing one is an error."""
        value = self.inputs[index] if index < len(self.inputs) else None
        if value is None:
            raise NetworkError(f"its input {index} is missing")
        return value

    def tensor(self, index: int = 0) -> Tensor:
        """The input as a value of the graph."""
        value = self.input(index)
        if not isinstance(value, Tensor):
            raise NetworkError(f"its input {index} is constant; expected one that depends on the network's input")
        return value

    def constant(self, index: int) -> Constant:
        """The input as a constant."""
        value = self.input(index)
        if isinstance(value, Tensor):
            raise NetworkError(f"its input {index} depends on the network's input; expected a constant")
        return value

    def argument(self, index: int, name: str, default: Any = None) -> Any:  # noqa: ANN401
        """What is an attribute in older operator sets and a constant input in newer ones."""
        if name in self.attributes:
            return self.option(name)
        given = index < len(self.inputs) and self.inputs[index] is not None
        return self.constant(index) if given else default

    def image(self) -> Tensor:
        """The input of shape (1, channels, *space)."""
        value = self.tensor()
        if len(value.shape) < 3 or value.shape[0] != 1:
            raise NetworkError(f"its input has shape {value.shape}; expected (1, channels, height, width)")
        return value


def constant_of(tensor: onnx.TensorProto) -> Constant:
    """The numbers of a tensor: floats as float64, integers and booleans as they are."""
    from onnx.numpy_helper import to_array

    try:
        array = to_array(tensor)
    except Exception as error:  # onnx lets TypeError, ValueError and others of NumPy through
        raise NetworkError(f"tensor {tensor.name} is broken ({type(error).__name__}); export it again") from error
    return number(array, f"tensor {tensor.name}")


def number(array: Constant, what: str) -> Constant:
    """float32 and float64 as float64, integers and booleans as they are; `what` names the array in the error."""
    if array.dtype in (np.float32, np.float64):
        with np.errstate(invalid="ignore"):  # NaN is refused where it is used, by name
            return array.astype(np.float64)
    if array.dtype.kind not in "iub":
        raise NetworkError(f"{what} holds {array.dtype} values; expected float32 or float64")
    return array


def integers(values: Any) -> list[int]:  # noqa: ANN401
    """All entries as Python's integers."""
    return [int(value) for value in np.asarray(values).ravel()]
