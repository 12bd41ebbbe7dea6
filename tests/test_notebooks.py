"""The notebooks run, and are committed without output."""

import asyncio
import warnings
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs pip install 'arfj[dev]'")

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))
SMALL = {"01_first_attack": "ALPHA, SECONDS, TRUE, TARGET = 1, 60.0, 1, 0"}
"""Settings that make a notebook quick, one line a notebook; they replace its first code cell."""


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_without_output(path):
    for cell in code_cells(nbformat.read(path, as_version=4)):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path):
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    code_cells(notebook)[0].source = SMALL[path.stem]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the notebook's machinery
        NotebookClient(notebook, timeout=180, startup_timeout=120, kernel_name="python3").execute()
        asyncio.set_event_loop(None)
    printed = "".join(output.text for cell in code_cells(notebook) for output in cell.outputs if "text" in output)
    assert printed.count("optimal") == 2
    pictures = [
        output for cell in code_cells(notebook) for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == 2
