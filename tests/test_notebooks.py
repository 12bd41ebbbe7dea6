"""The notebooks run, and are committed without output."""

import asyncio
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

nbformat = pytest.importorskip("nbformat", reason="needs pip install 'arfj[dev]'")

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@dataclass(frozen=True)
class Small:
    """Settings that make a notebook quick, in place of its first code cell, and what it then shows.

    Attributes:
        settings: one line.
        words: what is printed, and how often.
        pictures: how many are shown.
    """

    settings: str
    words: Mapping[str, int]
    pictures: int


SMALL = {
    "01_first_attack": Small("ALPHA, SECONDS, TRUE, TARGET = 1, 60.0, 1, 0", {"optimal": 2}, 2),
    "02_your_own_network": Small(
        "EPOCHS, HIDDEN, SECONDS, SMALL, LARGE = 30, 16, 60.0, 0.001, 0.3",
        # The command prints `optimal` in the row and in the line that sums up.
        {" optimal: distance": 3, "1 optimal; 1 of 1 answers hit": 1, "robust: ": 2, "falsified: ": 2, "expected": 3},
        3,
    ),
    "03_grey_box": Small(
        "ALPHA, SECONDS, TRUE, TARGET, OTHERS = 2, 60.0, 2, 1, (9,)",
        {
            " optimal: ": 4,
            "those of sampled(...): True": 1,
            "with 95 % confidence": 2,
            "calls: 5, images in all: 105": 1,
        },
        2,
    ),
    "04_paper_tables": Small(
        'PAPER, AGAIN, SECONDS, FIGURES = ("table2", "figures"), (("FJAE", 9),), 60.0, 1',
        {"FJAE of class 9: optimal": 1, "relative difference": 1},
        2,
    ),
}


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_is_committed_without_output(path):
    for cell in code_cells(nbformat.read(path, as_version=4)):
        assert cell.outputs == []
        assert cell.execution_count is None


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path):
    from nbclient import NotebookClient

    notebook, small = nbformat.read(path, as_version=4), SMALL[path.stem]
    code_cells(notebook)[0].source = small.settings
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of the notebook's machinery
        NotebookClient(notebook, timeout=400, startup_timeout=120, kernel_name="python3").execute()
        asyncio.set_event_loop(None)
    printed = "".join(output.text for cell in code_cells(notebook) for output in cell.outputs if "text" in output)
    assert {word: printed.count(word) for word in small.words} == small.words
    pictures = [
        output for cell in code_cells(notebook) for output in cell.outputs if "image/png" in output.get("data", {})
    ]
    assert len(pictures) == small.pictures
