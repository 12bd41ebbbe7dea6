"""VNN-LIB 2.0, parsed and type-checked by the standard's own package `vnnlib`; one network, one input, one output.

Its syntax tree is reduced by the same rules as a 1.0 file, from the texts of its numbers, so that nothing is rounded
before `arfj.verify.vnnlib.cases` does. Tensors are flattened in row-major order. An element type float32 or float64 is
read as real: the property is decided for all real inputs, which include the floats.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from arfj.errors import PropertyError
from arfj.verify.property import Declaration, Property, Tensor
from arfj.verify.vnnlib.cases import assemble
from arfj.verify.vnnlib.exact import Refused, shown
from arfj.verify.vnnlib.terms import Formula, Item, Terms

if TYPE_CHECKING:
    import vnnlib

_OPERATORS = {
    "LessEqual": "<=",
    "GreaterEqual": ">=",
    "LessThan": "<",
    "GreaterThan": ">",
    "Equal": "=",
    "And": "and",
    "Or": "or",
    "Negate": "-",
    "Plus": "+",
    "Minus": "-",
    "Multiply": "*",
}
_TYPES = {"Real": "real", "F32": "float32", "F64": "float64"}
_COMMENT = re.compile(r";[^\n]*")
_DEEPEST = 1000
"""The package recurses in C++, where too deep a nesting would end the process without a word."""
_LARGEST = 5_000_000


def parse_version2(text: str, name: str) -> Property:
    """The property that a VNN-LIB 2.0 text asserts; `name` stands in errors.

    Raises:
        PropertyError: what the package refuses, and what is not supported here, with the line where it is known.
    """
    query = _parsed(text, name)
    try:
        declaration = _declaration(query)
        terms = _terms(declaration)
    except Refused as refused:
        raise PropertyError(f"{name}: {refused}") from None
    formulas = [_formula(assertion.expr, terms, name) for assertion in query.assertions]
    try:
        return assemble(_size(declaration.input), _size(declaration.output), formulas, declaration)
    except Refused as refused:
        raise PropertyError(f"{name}: {refused}") from None


def _parsed(text: str, name: str) -> vnnlib.Query:
    try:
        import vnnlib
    except ImportError:
        raise PropertyError(f"{name} is of VNN-LIB 2.0: pip install vnnlib, the standard's own reader") from None
    _check_limits(text, name)
    try:
        return vnnlib.parse_query_string(text)
    except vnnlib.VNNLibException as error:
        raise PropertyError(f"{name}{_complaint(str(error))}") from None
    except (IndexError, ValueError, OverflowError, RuntimeError) as error:
        raise PropertyError(f"{name} cannot be read as VNN-LIB 2.0 ({error}); write its numbers shorter") from None


def _check_limits(text: str, name: str) -> None:
    """Refuse what the package would read wrongly or crash on."""
    # Comments become blanks, so that positions stay.
    code = _COMMENT.sub(lambda match: " " * len(match.group()), text)
    depths = accumulate(1 if match.group() == "(" else -1 for match in re.finditer("[()]", code))
    if max(depths, default=0) > _DEEPEST:
        raise PropertyError(f"{name} nests over {_DEEPEST} parentheses; write it flatter")
    for pattern, why in (
        (r"\[[^\]]*\d{10}[^\]]*\]", "an index or a size has over nine digits; expected the index of one element"),
        (r"\binitialized\b", "an input with a default value (initialized) is not supported; declare it without"),
    ):
        found = re.search(pattern, code)
        if found:
            raise PropertyError(f"{name}, line {text.count(chr(10), 0, found.start()) + 1}: {why}")


def _complaint(message: str) -> str:
    """One line of the package's message: a syntax error in words, or a JSON report of its type checker."""
    try:
        first = json.loads(message)["errors"][0]
        return f", line {first['line']}: {first['message']}: {first['offendingSymbol']} ({first['hint']})"
    except (ValueError, KeyError, IndexError, TypeError):
        return (
            f" is no VNN-LIB 2.0: {' '.join(message.split())}; expected commands such as (assert (<= X[0] 0.5)), "
            "and numbers such as 0.001 instead of 1e-3"
        )


def _declaration(query: vnnlib.Query) -> Declaration:
    networks = query.networks
    if len(networks) != 1:
        raise Refused(f"{len(networks)} networks are declared; only one is supported")
    network = networks[0]
    if network.equal_to or network.isometric_to:
        raise Refused(f"network {network.name} refers to another network, which is not supported")
    if network.hidden:
        raise Refused(f"the hidden node {network.hidden[0].name} is declared; only inputs and outputs are supported")
    for nodes, kind in ((network.inputs, "inputs"), (network.outputs, "outputs")):
        if len(nodes) != 1:
            raise Refused(f"network {network.name} has {len(nodes)} {kind}; only one is supported")
    return Declaration(network.name, _tensor(network.inputs[0]), _tensor(network.outputs[0]))


def _tensor(node: vnnlib.InputDefinition | vnnlib.OutputDefinition) -> Tensor:
    kind = _TYPES.get(node.dtype.name)
    if kind is None:
        raise Refused(f"{node.name} is of type {node.dtype.name}; only real, float32 and float64 are supported")
    shape = tuple(node.shape)
    if not all(0 < length <= _LARGEST for length in shape) or prod(shape) > _LARGEST:
        raise Refused(f"{node.name} has the shape {list(shape)}; expected from 1 to {_LARGEST} elements")
    return Tensor(node.name, kind, shape)


def _size(tensor: Tensor) -> int:
    return prod(tensor.shape)


def _terms(declaration: Declaration) -> Terms:
    terms = Terms()
    for flat, index in enumerate(np.ndindex(*declaration.input.shape)):
        terms.variables[_element(declaration.input.name, list(index))] = flat
    for flat, index in enumerate(np.ndindex(*declaration.output.shape)):
        terms.variables[_element(declaration.output.name, list(index))] = -1 - flat
    return terms


def _element(name: str, indices: list[int]) -> str:
    return f"{name}{indices}"


def _formula(root: vnnlib.BoolExpr, terms: Terms, name: str) -> Formula:
    """The disjunctive form of one assertion: its tree is walked without recursion, children first."""
    values: list[Item] = []
    work: list[tuple[vnnlib._core.Node, bool]] = [(root, False)]
    while work:
        node, ready = work.pop()
        children = node.children()
        if children and not ready:
            work.append((node, True))
            work.extend((child, False) for child in reversed(children))
            continue
        arguments = values[len(values) - len(children) :]
        del values[len(values) - len(children) :]
        try:
            values.append(_value(node, arguments, terms))
        except Refused as refused:
            raise PropertyError(f"{name}, line {_line(node)}: {refused}") from None
    (formula,) = values
    if not isinstance(formula, list):
        raise PropertyError(f"{name}, line {_line(root)}: a number is asserted; expected a comparison")
    return formula


def _value(node: vnnlib._core.Node, arguments: list[Item], terms: Terms) -> Item:
    kind = type(node).__name__
    if kind == "Var":
        return _element(node.name, node.indices)  # type: ignore[attr-defined]
    if kind in ("Float", "Int"):
        return str(node.lexeme)  # type: ignore[attr-defined]
    if kind == "NotEqual":
        return terms.reduce(["or", terms.reduce(["<", *arguments]), terms.reduce([">", *arguments])])
    if kind in _OPERATORS:
        return terms.reduce([_OPERATORS[kind], *arguments])
    raise Refused(f"{shown(kind)} is not supported; expected comparisons, and, or, and linear terms")


def _line(node: vnnlib._core.Node) -> int:
    """The first line that the package knows below this node."""
    while not hasattr(node, "line"):
        node = node.children()[0]
    return int(node.line)
