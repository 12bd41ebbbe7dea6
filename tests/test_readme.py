"""What the README shows runs."""

import re
import shlex
import sys

import pytest

from arfj.attack.__main__ import _parser as attack_parser
from arfj.evaluate.__main__ import _parser as evaluate_parser
from experiments.table_bundled import README
from training.train import parser as training_parser

TEXT = README.read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].strip() for line in TEXT.splitlines() if line.startswith("    python -m ")]
PARSERS = {
    "arfj.attack": attack_parser,
    "arfj.evaluate": evaluate_parser,
    "training.train": training_parser,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_known_options(command):
    _, _, module, *arguments = shlex.split(command)
    PARSERS[module]().parse_args(arguments)


def test_first_screen_runs(tmp_path, monkeypatch, capsys):
    """The ten lines of Python, with the nominal network alone so that it takes seconds."""
    code = re.search(r"```python\n(.*?)```", TEXT, re.DOTALL)[1]
    assert "alpha=5" in code
    monkeypatch.chdir(tmp_path)
    exec(code.replace("alpha=5", "alpha=0"), {})  # noqa: S102
    printed = capsys.readouterr().out
    assert printed.startswith("optimal ")
    assert "Split(target=" in printed


def test_links_to_files_exist():
    for target in re.findall(r"\]\((?!#|http)([^)]+)\)", TEXT):
        assert (README.parent / target).is_file(), target


@pytest.mark.skipif(sys.platform == "win32", reason="make")
def test_make_targets_exist():
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:`|^    )make (\w+)", TEXT, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
