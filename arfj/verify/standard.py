"""The commands of VNN-LIB 2.0, chapter "Command-line interface": `verify`, `supports`, `--name` and `--version`.

stdout carries what the standard asks for and nothing else. A query over float32 or float64 is answered for real
numbers, of which the floats are some; the standard would have such a query written over `real`, so a line on stderr
says so.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import sys
import time
from collections.abc import Callable, Sequence

from arfj.cli import ANSWERED, INTERRUPTED, Parser, checked_seconds
from arfj.errors import ArfjError, NetworkError, UsageError
from arfj.verify.files import is_onnx, verify_file
from arfj.verify.outcome import INTERRUPTED as REASON
from arfj.verify.outcome import Outcome, standard_answer
from arfj.verify.portfolio import Options
from arfj.verify.progress import watched
from arfj.verify.property import Property, Tensor
from arfj.verify.vnnlib import read_property

PROG = "python -m arfj.verify"
NAME = "arfj"
COMMANDS = ("verify", "supports", "--name", "--version")
SECONDS = 60.0
EXAMPLES = f"""\
  {PROG} verify query.vnnlib --network f=network.onnx --timeout 60
  {PROG} supports --onnx-operators
  {PROG} --version
"""


def _operators() -> list[str]:
    from arfj.onnx_models.operators import CURVED, OPERATORS

    return sorted(OPERATORS.keys() - CURVED)


def _opsets() -> list[str]:
    from arfj.onnx_models.read import OPSETS

    return [str(OPSETS[0]), str(OPSETS[-1])]


CAPABILITIES: dict[str, Callable[[], Sequence[str]]] = {
    "--onnx-opset-versions": _opsets,
    "--onnx-element-types": lambda: ["real"],
    "--onnx-operators": _operators,
    "--vnnlib-versions": lambda: ["1.0", "2.0"],
    "--hidden-node-theories": lambda: ["NH"],
    "--multiple-input-output-theories": lambda: ["SIO"],
    "--multiple-network-theories": lambda: ["SNET"],
    "--multiple-node-comparison-theories": lambda: ["SNC"],
    "--arithmetic-complexity-theories": lambda: ["BND", "OUTC"],
    "--optimised-disjunctive-reasoning": lambda: ["false"],
    "--serialise-assignments": lambda: ["false"],
}
"""Section "The supports command": what each capability prints, one item a line.

Linear terms of outputs are read as well, those of inputs are not: so LIN is not claimed. A query becomes a disjunctive
normal form before anything else.
"""


def main(argv: Sequence[str]) -> int:
    """Run one of `COMMANDS`."""
    command, arguments = argv[0], list(argv[1:])
    match command:
        case "verify":
            return _verify(_parser().parse_args(arguments))
        case "supports":
            return _supports(arguments)
        case "--name" | "--version" if arguments:
            raise UsageError(f"{command} takes no argument; expected {PROG} {command}")
        case "--name":
            print(NAME)
        case _:
            print(_version())
    return ANSWERED


def _version() -> str:
    try:
        return importlib.metadata.version("arfj")
    except importlib.metadata.PackageNotFoundError:
        raise ArfjError("arfj runs from a folder and is not installed; pip install -e . in it") from None


def _supports(arguments: Sequence[str]) -> int:
    if len(arguments) != 1 or arguments[0] not in CAPABILITIES:
        raise UsageError(f"supports {' '.join(arguments)}: expected one of {', '.join(CAPABILITIES)}")
    print("\n".join(CAPABILITIES[arguments[0]]()))
    return ANSWERED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(f"{PROG} verify", "Decide a VNN-LIB query as the standard's second version asks.", EXAMPLES)
    parser.usage = f"{PROG} verify QUERY --network NAME=FILE [--timeout S] [--device cpu | gpu]"
    parser.add_argument("query", metavar="QUERY", help="VNN-LIB, .vnnlib or .vnnlib.gz")
    parser.add_argument(
        "--network", metavar="NAME=FILE", action="append", default=[], help="the file of the declared network NAME"
    )
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=lambda text: checked_seconds("--timeout", text),
        default=SECONDS,
        help=f"seconds (default {SECONDS:g})",
    )
    parser.add_argument("--device", choices=["cpu", "gpu"], default="cpu", help="as without `verify`")
    return parser


def _verify(options: argparse.Namespace) -> int:
    begun = time.perf_counter()
    limits = Options(options.timeout, options.device)
    prop: Property | None = None
    try:
        prop = read_property(options.query)
        path = _network(options.network, prop)
        _check_types(path, prop)
        with watched(limits.seconds) as progress:
            outcome = verify_file(path, prop, limits, progress, begun)
    except KeyboardInterrupt:
        outcome = Outcome("unknown", REASON, time.perf_counter() - begun, 0)
    if outcome.verdict == "unknown":
        print(f"unknown: {outcome.reason}", file=sys.stderr)
    print(standard_answer(outcome, prop), end="")
    return INTERRUPTED if outcome.interrupted else ANSWERED


def _network(given: Sequence[str], prop: Property) -> str:
    """The file of the one declared network."""
    pairs = [item.partition("=") for item in given]
    for item, (name, equals, path) in zip(given, pairs, strict=True):
        if not (name and equals and path):
            raise UsageError(f"--network {item}: expected NAME=FILE")
    declared = None if prop.declaration is None else prop.declaration.network
    expected = declared or "NAME"
    if len(pairs) != 1:
        raise UsageError(f"{len(pairs)} networks are given, one is declared; expected --network {expected}=FILE")
    name, _, path = pairs[0]
    if declared is not None and name != declared:
        raise UsageError(f"network {name} is not declared in the query; expected --network {declared}=FILE")
    return path


def _check_types(path: str, prop: Property) -> None:
    """Refuse element types that are not the ONNX file's, as the standard asks; `real` stands for all."""
    if prop.declaration is None:
        return
    tensors = (prop.declaration.input, prop.declaration.output)
    if all(tensor.kind == "real" for tensor in tensors):
        return
    print("float32 and float64 are answered for real numbers", file=sys.stderr)
    if is_onnx(path):
        from arfj.onnx_models.read import element_types

        for tensor, kind in zip(tensors, element_types(path), strict=True):
            _check_type(path, tensor, kind)


def _check_type(path: str | os.PathLike[str], tensor: Tensor, kind: str) -> None:
    if tensor.kind not in ("real", kind):
        raise NetworkError(f"{path} has {kind} where the query declares {tensor.name} as {tensor.kind}; declare {kind}")
