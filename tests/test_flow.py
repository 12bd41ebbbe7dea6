"""The order of the folder is the flow of the data: a module imports only what stands before it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import arfj

ROOT = Path(arfj.__file__).parent
ORDER = [
    "starting",
    "cli",
    "errors",
    "files",
    "network",
    "graph",
    "simplify",
    "builder",
    "region",
    "ensemble",
    "question",
    "onnx_models",
    "keras_layers",
    "keras_models",
    "data",
    "bounds",
    "conflicts",
    "encoding",
    "solver",
    "bab",
    "tighten",
    "probe",
    "across",
    "evaluate",
    "attack",
    "verify",
    "exact",
    "certify",
    "report",
]
EARLY = {
    "cli": {"starting", "errors"},
    # load_network looks at the suffix and imports the reader
    "network": {"errors", "files", "graph", "onnx_models", "keras_models"},
    "onnx_models": {"errors", "network", "graph", "builder"},
    "keras_layers": {"errors", "network", "builder"},
    "keras_models": {"errors", "network", "graph", "builder", "keras_layers"},
    "data": {"errors", "files", "network", "ensemble", "keras_models"},
}
"""Parts that are allowed these and nothing else."""

MODULES = sorted(
    path
    for path in ROOT.rglob("*.py")
    if path.name != "__main__.py" and path != ROOT / "__init__.py" and "__pycache__" not in path.parts
)
HEAVY = [
    "tensorflow",
    "keras",
    "jax",
    "onnx",
    "onnxruntime",
    "scipy.sparse",
    "pyscipopt",
    "gurobipy",
    "cvxpy",
    "matplotlib",
    "scipy.optimize",
    "rich",
    "joblib",
]


def part_of(name):
    """`arfj.bounds.crown` -> `bounds`; None for what is not ours or is the package itself."""
    pieces = name.split(".")
    return pieces[1] if pieces[0] == "arfj" and len(pieces) > 1 else None


def imported_parts(source):
    """Every part of arfj that the module imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module == "arfj":
            names = [f"arfj.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            names = [node.module]
        else:
            continue
        yield from (part for part in map(part_of, names) if part is not None)


def misplaced(part, source):
    """The imports of a module of `part` that stand behind it."""
    allowed = EARLY.get(part, set(ORDER[: ORDER.index(part)]))
    return sorted(set(imported_parts(source)) - allowed - {part})


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_stand_before(path):
    part = path.relative_to(ROOT).parts[0].removesuffix(".py")
    assert part in ORDER, f"{part} has no place in the order of the flow"
    assert misplaced(part, path.read_text(encoding="utf-8")) == []


def test_the_check_sees_every_form():
    assert misplaced("bounds", "from arfj.solver.record import Limits") == ["solver"]
    assert misplaced("bounds", "import arfj.encoding.paper as p") == ["encoding"]
    assert misplaced("network", "from arfj import region") == ["region"]
    assert misplaced("bounds", "def f():\n    from arfj.attack import descent") == ["attack"]
    assert misplaced("bounds", "from arfj.region import Region\nimport numpy") == []


def loaded_by(statement):
    code = f"{statement}\nimport sys\nprint(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_is_light():
    assert loaded_by("import arfj") & set(HEAVY) == set()


def test_naming_solvers_loads_none():
    assert loaded_by("import arfj.solver") & {"pyscipopt", "gurobipy"} == set()


def test_one_solver_does_not_load_the_other():
    assert "gurobipy" not in loaded_by("import arfj.solver.scip")
