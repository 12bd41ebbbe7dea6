"""What the README shows runs."""

import re
import shlex
import sys

import numpy as np
import pytest

from arfj.attack.__main__ import _parser as attack_parser
from arfj.bounds.__main__ import _parser as bounds_parser
from arfj.bounds.__main__ import main as bounds_main
from arfj.certify.__main__ import main as certify_main
from arfj.certify.cdf.command import _parser as cdf_parser
from arfj.certify.cvar.command import _parser as cvar_parser
from arfj.certify.scenario.command import samples_parser, scenario_parser
from arfj.cli import run
from arfj.data import bundle_folder, bundled_images, growth_manifest
from arfj.evaluate.__main__ import _parser as evaluate_parser
from arfj.verify.__main__ import _parser as verify_parser
from arfj.verify.__main__ import main as verify_main
from arfj.verify.standard import CAPABILITIES
from arfj.verify.standard import _parser as standard_parser
from experiments.table_bundled import README
from training.train import parser as training_parser

TEXT = README.read_text(encoding="utf-8")
COMMANDS = [line.split("#")[0].strip() for line in TEXT.splitlines() if line.startswith("    python -m ")]
NOMINAL = bundle_folder() / "networks" / "nominal.npz"
PARSERS = {
    "arfj.attack": attack_parser,
    "arfj.bounds": bounds_parser,
    "arfj.verify": verify_parser,
    "arfj.evaluate": evaluate_parser,
    "training.train": training_parser,
}


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_have_known_options(command):
    _, _, module, *arguments = shlex.split(command)
    match arguments:
        case ["verify", *rest]:
            standard_parser().parse_args(rest)
        case ["cvar", *rest]:
            cvar_parser().parse_args(rest)
        case ["supports", capability]:
            assert capability in CAPABILITIES
        case ["cdf", *rest]:
            cdf_parser().parse_args(rest)
        case ["--version"]:
            pass
        case ["scenario", *rest]:
            scenario_parser().parse_args(rest)
        case ["samples", *rest]:
            samples_parser().parse_args(rest)
        case _:
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


@pytest.mark.parametrize(("eps", "verdict"), [("0.005", "robust"), ("0.01", "falsified")])
def test_the_property_of_your_own_is_decided(tmp_path, monkeypatch, capsys, eps, verdict):
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "boot.vnnlib" in block)
    assert ", 0.005" in code
    assert "At 0.005 it is robust, at 0.01 it is falsified" in TEXT
    monkeypatch.chdir(tmp_path)
    exec(code.replace(", 0.005", f", {eps}"), {})  # noqa: S102
    assert run(verify_main, [str(NOMINAL), "boot.vnnlib"]) == 0
    assert capsys.readouterr().out.startswith(verdict)
    assert run(bounds_main, [str(NOMINAL), "--image", "boot.npy", "--box", eps]) == 0


def test_certificates_run(tmp_path, monkeypatch, capsys):
    """The example, and the first command, on the bundled network."""
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "Safe.margin" in block)
    exec(code, {})  # noqa: S102
    assert capsys.readouterr().out.startswith("11508 True safe: with confidence 1 - 1e-05")
    monkeypatch.chdir(tmp_path)
    np.save("boot.npy", bundled_images().nominal[9])
    (command,) = (line for line in COMMANDS if "nominal.npz --image boot.npy --true 9 --all-rivals" in line)
    arguments = shlex.split(command.replace("arfj/bundle/networks/nominal.npz", shlex.quote(str(NOMINAL))))[3:]
    assert run(certify_main, arguments) == 0
    assert "safe: with confidence" in capsys.readouterr().out


def test_the_certificate_for_given_moments_holds(tmp_path, monkeypatch, capsys):
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "certify_classes" in block)
    monkeypatch.chdir(tmp_path)
    exec(code, {})  # noqa: S102
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("True -")
    assert float(printed[1]) == pytest.approx(2.5)
    (command,) = (line for line in COMMANDS if "nominal.npz --mean" in line)
    arguments = [str(NOMINAL) if part.endswith("nominal.npz") else part for part in shlex.split(command)[3:]]
    assert run(certify_main, arguments) == 0
    assert "at most 0" in capsys.readouterr().out


def test_the_distributions_are_bounded(tmp_path, monkeypatch, capsys):
    (code,) = (block for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL) if "point.npy" in block)
    monkeypatch.chdir(tmp_path)
    exec(code, {})  # noqa: S102
    commands = [shlex.split(command)[3:] for command in COMMANDS if " arfj.certify cdf " in command]
    assert len(commands) == 3
    for command in commands:
        assert run(certify_main, command) == 0
        assert capsys.readouterr().err == ""


def test_links_to_files_exist():
    for target in re.findall(r"\]\((?!#|http)([^)]+)\)", TEXT):
        assert (README.parent / target).is_file(), target


@pytest.mark.skipif(sys.platform == "win32", reason="make")
def test_make_targets_exist():
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    for target in set(re.findall(r"(?:`|^    )make (\w+)", TEXT, re.MULTILINE)):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize("name", growth_manifest()["sets"])
def test_growth_rows_are_those_of_the_manifest(name):
    part = growth_manifest()["sets"][name]
    shares = [100 * entry["accuracy"] for entry in part["networks"]]
    distances = [entry["d_osd"] for entry in part["networks"][1:]]
    ranges = f"{min(shares):.1f} to {max(shares):.1f} % | {min(distances):.4f} to {max(distances):.4f} |"
    (row,) = (line for line in TEXT.splitlines() if line.startswith(f"| `{name}` |"))
    assert row.endswith(f"| {part['relus']} | {len(shares)} | {ranges}")
