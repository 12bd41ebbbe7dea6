"""Verification of files: what `python -m arfj.verify` does between its arguments and its answer."""

from __future__ import annotations

import importlib.util
import os
from dataclasses import replace
from pathlib import Path

from arfj.errors import ArfjError
from arfj.network import load_network
from arfj.verify.outcome import Outcome, confirm_with_onnxruntime
from arfj.verify.portfolio import Options, verify
from arfj.verify.property import Property
from arfj.verify.search import Progress, silent
from arfj.verify.vnnlib import read_property


def verify_files(
    network: str | os.PathLike[str],
    prop: str | os.PathLike[str],
    options: Options | None = None,
    progress: Progress = silent,
) -> tuple[Outcome, Property]:
    """Read a network and a property, decide it, and have onnxruntime confirm a counterexample of an ONNX file.

    Raises:
        ArfjError: a file that cannot be read, sizes that differ, or a package that is missing.
    """
    onnx = is_onnx(network)
    if onnx and importlib.util.find_spec("onnxruntime") is None:
        raise ArfjError("counterexamples of ONNX files are confirmed by onnxruntime: pip install 'arfj[verify]'")
    question = read_property(prop)
    outcome = verify(load_network(network), question, options, progress)
    found = outcome.counterexample
    if onnx and found is not None and not confirm_with_onnxruntime(network, found.x, question):
        reason = "a counterexample in float64 that onnxruntime, in the file's own precision, does not confirm"
        outcome = replace(outcome, verdict="unknown", reason=reason, counterexample=None)
    return outcome, question


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Whether the name is that of an ONNX file, plain or gzipped."""
    return Path(path).name.lower().removesuffix(".gz").endswith(".onnx")
