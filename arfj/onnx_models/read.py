"""ONNX files as networks: the operators of VNN-COMP's fully connected, convolutional and residual benchmarks.

The file's tensors are followed from its input to its output; each is a constant or a value of the graph in a shape.
The batch size is 1, a softmax at the end is read as class probabilities over the logits before it, weights are taken
as they are and computed with in float64. What is not surely understood is refused by name: no code of the file runs.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from arfj.builder import Builder, Tensor
from arfj.errors import NetworkError
from arfj.graph import Graph
from arfj.network import Network
from arfj.onnx_models.call import Call, Value, constant_of
from arfj.onnx_models.operators import CURVED, OPERATORS, RESHAPING

if TYPE_CHECKING:
    import onnx

OPSETS = range(7, 28)
"""Broadcasting was another before 7; later ones than these may mean something else by the same words."""
_ENDS = ("Softmax",)


def read_onnx(path: str | os.PathLike[str], builder: type[Builder] = Builder) -> Network | Graph:
    """Read an `.onnx` or `.onnx.gz` file: a chain of dense layers with ReLU as `Network`, all else as `Graph`.

    Raises:
        NetworkError: onnx is not installed; the file is missing, broken, or holds what is not read (named).
    """
    name = Path(path)
    try:
        return from_onnx(_model(name), builder)
    except NetworkError as error:
        raise _named(name, error) from error


def from_onnx(model: onnx.ModelProto, kind: type[Builder] = Builder) -> Network | Graph:
    """The network of a loaded model whose external data, if any, is loaded too; `kind` decides what is understood.

    Raises:
        NetworkError: an operator, option or number that is not read; several inputs or outputs; open sizes.
    """
    opset = _opset(model)
    graph = model.graph
    if graph.sparse_initializer:
        raise NetworkError("it holds sparse initializers; export the network with dense ones")
    values: dict[str, Value] = {tensor.name: constant_of(tensor) for tensor in graph.initializer}
    given = _input(graph)
    shape, batched = _input_shape(given)
    builder = kind(shape)
    values[given.name] = builder.input
    ended = _walk(builder, _needed(graph), values, opset)
    name = graph.output[0].name
    return builder.finish(_output(values, name), shape[1:] if batched else shape, name in ended)


def element_types(path: str | os.PathLike[str]) -> tuple[str, str]:
    """The element types of input and output, such as ("float32", "float32"), of a file with one of each.

    Raises:
        NetworkError: as `read_onnx`, as far as it looks.
    """
    from onnx.helper import tensor_dtype_to_np_dtype

    name = Path(path)
    try:
        graph = _model(name).graph
        kinds = [item.type.tensor_type.elem_type for item in (_input(graph), graph.output[0])]
        return str(tensor_dtype_to_np_dtype(kinds[0])), str(tensor_dtype_to_np_dtype(kinds[1]))
    except NetworkError as error:
        raise _named(name, error) from error
    except KeyError as error:
        raise NetworkError(f"{name}: its input or output is no tensor of a known type; export it again") from error


def _named(path: Path, error: NetworkError) -> NetworkError:
    # The names in a broken file may hold line ends and worse.
    said = "".join(letter if letter.isprintable() else "?" for letter in str(error))
    return NetworkError(f"{path}: {said}")


def _model(path: Path) -> onnx.ModelProto:
    try:
        import onnx
        from onnx.external_data_helper import load_external_data_for_model
    except ImportError as error:
        raise NetworkError(f"this needs onnx ({error}); pip install 'arfj[verify]'") from error
    content = _content(path)
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf's DecodeError, and more in other versions
        raise NetworkError(f"it is broken or no ONNX file ({type(error).__name__}); export it again") from error
    if not model.graph.output:
        raise NetworkError("it is broken or no ONNX file (no output); export it again")
    try:
        load_external_data_for_model(model, str(path.parent))
    except Exception as error:  # onnx raises a checker's error, OSError or ValueError
        raise NetworkError(f"its external data cannot be read ({_line(error)}); put the files beside it") from error
    return model


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        if content[:1] == b"\x80":  # a pickle's first byte, and no field of an ONNX file
            raise NetworkError("it holds pickled objects, which are refused; export the network as ONNX")
        return gzip.decompress(content) if path.suffix.lower() == ".gz" else content
    except FileNotFoundError:
        raise NetworkError("it does not exist; give the path of an .onnx or .onnx.gz file") from None
    except (OSError, EOFError, zlib.error) as error:
        raise NetworkError(f"it cannot be read ({_line(error)})") from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _opset(model: onnx.ModelProto) -> int:
    versions = [item.version for item in model.opset_import if item.domain in ("", "ai.onnx")]
    if len(versions) != 1 or versions[0] not in OPSETS:
        found = ", ".join(map(str, versions)) or "none"
        raise NetworkError(f"operator set {found}; expected one of {OPSETS[0]} to {OPSETS[-1]}")
    return int(versions[0])


def _input(graph: onnx.GraphProto) -> onnx.ValueInfoProto:
    """The one input, of a graph with one output."""
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [item for item in graph.input if item.name not in constants]
    if len(inputs) != 1 or len(graph.output) != 1:
        raise NetworkError(f"it has {len(inputs)} inputs and {len(graph.output)} outputs; expected one of each")
    found: onnx.ValueInfoProto = inputs[0]
    return found


def _input_shape(item: onnx.ValueInfoProto) -> tuple[tuple[int, ...], bool]:
    """The shape with the batch dimension as 1, and whether there is a batch dimension: a first one of 1 or open."""
    kind = item.type.tensor_type
    if kind.elem_type not in (1, 11):  # float, double
        raise NetworkError(f"input {item.name} is no tensor of floats; expected float32 or float64")
    sizes = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in kind.shape.dim]
    if not sizes:
        raise NetworkError(f"input {item.name} has no shape; export the network with fixed sizes")
    batched = len(sizes) > 1 and sizes[0] in (-1, 0, 1)
    shape = (1, *sizes[1:]) if batched else tuple(sizes)
    if min(shape) < 1:
        raise NetworkError(f"input {item.name} has open sizes behind the batch; export the network with fixed sizes")
    return shape, batched


def _needed(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that the output depends on, in the file's order."""
    wanted = {graph.output[0].name}
    nodes: list[onnx.NodeProto] = []
    for node in reversed(graph.node):
        if wanted & set(node.output):
            wanted.update(node.input)
            nodes.append(node)
    return nodes[::-1]


def _walk(builder: Builder, nodes: Sequence[onnx.NodeProto], values: dict[str, Value], opset: int) -> set[str]:
    """Read all nodes into `values`; gives the names of what follows a softmax."""
    ended: set[str] = set()
    for node in nodes:
        try:
            if ended & set(node.input) and node.op_type not in RESHAPING:
                raise NetworkError("it follows a softmax, which is read at the end only")
            results = _results(builder, node, values, opset)
        except NetworkError as error:
            raise NetworkError(f"node {node.name or node.output[0]} ({node.op_type}): {error}") from error
        values |= zip(node.output, results, strict=False)
        if node.op_type in _ENDS or ended & set(node.input):
            ended.update(node.output)
    return ended


def _results(builder: Builder, node: onnx.NodeProto, values: dict[str, Value], opset: int) -> list[Value]:
    from onnx.helper import get_attribute_value

    operator = OPERATORS.get(node.op_type)
    if operator is None or node.domain not in ("", "ai.onnx"):
        raise NetworkError(f"the operator is not read; expected {', '.join(sorted(OPERATORS.keys() - CURVED))}")
    missing = [name for name in node.input if name and name not in values]
    if missing:
        raise NetworkError(f"its input {missing[0]} is not made before it; export the network again")
    attributes: dict[str, Any] = {item.name: get_attribute_value(item) for item in node.attribute}
    if taken := [name for name in node.output if name and name in values]:
        raise NetworkError(f"its output {taken[0]} is made twice; export the network again")
    call = Call(builder, opset, [values[name] if name else None for name in node.input], attributes, len(node.output))
    try:
        results = operator(call)
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, MemoryError) as error:  # NumPy's
        raise NetworkError(f"its inputs or options do not fit ({_line(error)})") from error
    if attributes:
        raise NetworkError(f"its option {', '.join(map(str, attributes))} is not read in operator set {opset}")
    return results


def _output(values: dict[str, Value], name: str) -> Tensor:
    output = values.get(name)
    if output is None:
        raise NetworkError(f"its output {name} is made by no node; export the network again")
    if not isinstance(output, Tensor):
        raise NetworkError(f"its output {name} is constant; expected one that depends on the input")
    return output
