"""Verification of files: what `python -m arfj.verify` does between its arguments and its answer."""

from __future__ import annotations

import importlib.util
import os
import time
from dataclasses import replace
from pathlib import Path

from arfj.bounds.compiled import check_device
from arfj.errors import ArfjError
from arfj.network import Floats, load_network
from arfj.verify.outcome import Outcome, confirm_with_onnxruntime
from arfj.verify.portfolio import Options, verify
from arfj.verify.property import Property
from arfj.verify.search import Progress, silent
from arfj.verify.vnnlib import read_property

LEAST_SECONDS = 1e-3
"""Left for the search where reading has used the time up."""


def verify_files(
    network: str | os.PathLike[str],
    prop: str | os.PathLike[str],
    options: Options | None = None,
    progress: Progress = silent,
) -> tuple[Outcome, Property]:
    """Read a network and a property, and decide it as `verify_file`; reading counts as time, too.

    Raises:
        ArfjError: a file that cannot be read, sizes that differ, or a package that is missing.
    """
    begun = time.perf_counter()
    question = read_property(prop)
    return verify_file(network, question, options, progress, begun), question


def verify_file(
    network: str | os.PathLike[str],
    question: Property,
    options: Options | None = None,
    progress: Progress = silent,
    begun: float | None = None,
) -> Outcome:
    """Read a network, decide the property, and have onnxruntime confirm a counterexample of an ONNX file.

    Args:
        network: the file.
        question: the property.
        options: limits.
        progress: told what is going on.
        begun: `time.perf_counter()` from which the time counts; now, by default.

    Raises:
        ArfjError: a file that cannot be read, sizes that differ, or a package that is missing.
    """
    begun = time.perf_counter() if begun is None else begun
    options = options or Options()
    check_device(options.device)
    onnx = is_onnx(network)
    if onnx and importlib.util.find_spec("onnxruntime") is None:
        raise ArfjError("counterexamples of ONNX files are confirmed by onnxruntime: pip install 'arfj[verify]'")
    loaded = load_network(network)
    left = max(LEAST_SECONDS, options.seconds - (time.perf_counter() - begun))

    def confirmed(x: Floats) -> bool:
        return confirm_with_onnxruntime(network, x, question)

    outcome = verify(loaded, question, replace(options, seconds=left), progress, confirmed if onnx else None)
    return replace(outcome, seconds=time.perf_counter() - begun)


def is_onnx(path: str | os.PathLike[str]) -> bool:
    """Whether the name is that of an ONNX file, plain or gzipped."""
    return Path(path).name.lower().removesuffix(".gz").endswith(".onnx")
