"""What `experiments.peers` runs for each row: one tool, one variant, one instance, in a process of its own.

    python -m experiments.peers_child TOOL VARIANT REQUEST.npz ANSWER.json SECONDS
    python -m experiments.peers_child TOOL                                    print its versions

It runs in the interpreter that has the tool and needs NumPy besides; arfj is imported for TOOL "arfj" alone. The
problem, built by each tool's own interface:

    min ||x - xbar||_1   s.t.  x in [0, 1]^n, and for the outputs a of every network, before their ReLU:
        a_t >= (1 + gamma) a_j for every class j != t,   a_t >= 1e-3

The second row makes the first the same as y_t >= (1 + gamma) y_j, y = max(a, 0). The clock starts when the modules
are imported and the data is in memory, and stops when the answer is there. One thread; all tolerances and gaps are
those that the tool comes with.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Layers = tuple[tuple[Floats, Floats], ...]
Status = Literal["optimal", "infeasible", "unproven", "too large", "error"]

MODULES: Mapping[str, Sequence[str]] = {
    "arfj": ("arfj.attack", "arfj.evaluate", "arfj.bab", "arfj.solver.scip"),
    "gurobi-machinelearning": ("gurobipy", "gurobi_ml", "gurobi_ml.sklearn", "sklearn.neural_network"),
    "pyscipopt-ml": ("pyscipopt", "pyscipopt_ml", "pyscipopt_ml.sklearn", "sklearn.neural_network"),
    "omlt": ("highspy", "omlt", "omlt.neuralnet", "pyomo.environ", "pyomo.contrib.appsi.solvers"),
}
"""Imported before the clock starts."""
PACKAGES: Mapping[str, Sequence[str]] = {
    "arfj": ("arfj", "numpy", "scipy", "pyscipopt", "gurobipy"),
    "gurobi-machinelearning": ("gurobi-machinelearning", "gurobipy", "scikit-learn", "numpy"),
    "pyscipopt-ml": ("pyscipopt-ml", "pyscipopt", "scikit-learn", "numpy"),
    "omlt": ("omlt", "pyomo", "highspy", "numpy"),
}
"""Whose versions are told; the first is the tool."""
P_AND_Q, ROWS_OF_D = "x = xbar + p - q", "-d <= x - xbar <= d"
ENGINES: Mapping[str, Literal["bab", "scip", "gurobi"]] = {"bab": "bab", "SCIP": "scip", "Gurobi": "gurobi"}
VARIANTS: Mapping[str, Sequence[str]] = {
    "arfj": tuple(ENGINES),
    "gurobi-machinelearning": (P_AND_Q, ROWS_OF_D),
    "pyscipopt-ml": ("SOS1", "big-M"),
    "omlt": ("big-M", "partition"),
}
LEAST_OUTPUT = 1e-3
GUROBI_TOO_LARGE = 10010


@dataclass(frozen=True, eq=False)
class Instance:
    """An image, its class, the target, and the networks as weights (inputs, outputs) and biases, ReLU between."""

    nominal: Floats
    true: int
    target: int
    gamma: float
    networks: tuple[Layers, ...]

    @property
    def rivals(self) -> list[int]:
        """Every class but the target."""
        return [j for j in range(len(self.networks[0][-1][1])) if j != self.target]

    def save(self, path: Path) -> None:
        """Write `.npz`: the fields, and W and b by network and layer."""
        arrays = {
            f"{letter}_{index}_{k}": array
            for index, layers in enumerate(self.networks)
            for k, pair in enumerate(layers)
            for letter, array in zip("Wb", pair, strict=True)
        }
        numbers = {name: np.array(getattr(self, name)) for name in ("true", "target", "gamma")}
        np.savez(path, allow_pickle=False, nominal=self.nominal, **numbers, **arrays)


def load(path: Path) -> Instance:
    """Read what `Instance.save` wrote."""
    with np.load(path, allow_pickle=False) as archive:
        names = [name.split("_") for name in archive.files if name.startswith("W_")]
        networks = tuple(
            tuple(
                (archive[f"W_{index}_{k}"], archive[f"b_{index}_{k}"])
                for k in range(sum(name[1] == str(index) for name in names))
            )
            for index in range(len({name[1] for name in names}))
        )
        numbers = (int(archive["true"]), int(archive["target"]), float(archive["gamma"]))
        return Instance(archive["nominal"], *numbers, networks)


@dataclass(frozen=True)
class Answer:
    """What a tool said.

    Attributes:
        status: its claim; "unproven" where it stopped before a proof, "too large" where its licence refuses.
        x: its answer, as it came.
        objective, bound: its answer's distance and its lower bound, as it tells them; None where there is none.
        nodes: of its branch and bound.
        size: variables and rows of the model that was handed to the solver.
        message: the tool's word for its status.
        seconds: from data in memory to the answer.
        versions: of Python and the packages.
    """

    status: Status
    x: list[float] | None = None
    objective: float | None = None
    bound: float | None = None
    nodes: int | None = None
    size: tuple[int, int] | None = None
    message: str = ""
    seconds: float = 0.0
    versions: Mapping[str, str] | None = None


Left = Callable[[], float]
"""Seconds that are left of the time limit."""


def ask_arfj(instance: Instance, variant: str, left: Left) -> Answer:
    """The attack of this repository; `variant` is the solver."""
    from arfj.attack import Options, given, solve_question
    from arfj.evaluate import load_witness
    from arfj.network import Network
    from arfj.question import Question

    networks = [Network.from_arrays([w for w, _ in layers], [b for _, b in layers]) for layers in instance.networks]
    question = Question(instance.nominal, instance.true, instance.target, given(networks).ensemble, instance.gamma)
    with tempfile.TemporaryDirectory() as folder:
        options = Options(solver=ENGINES[variant], time_limit=left())
        result = solve_question(question, options, Path(folder) / "w.npz")
        x = None if result.witness is None else load_witness(result.witness).x.ravel().tolist()
    status: Status = "unproven"
    if result.status in ("optimal", "infeasible"):
        status = "optimal" if result.status == "optimal" else "infeasible"
    size = (result.variables, result.constraints)
    return Answer(status, x, result.distance, result.bound, result.nodes, size, result.reason or result.status)


def ask_gurobi(instance: Instance, variant: str, left: Left) -> Answer:
    """gurobi-machinelearning, networks as scikit-learn's; `variant` is how the distance is written.

    With p, q and x the model has 2352 columns before the networks, more than the licence of the wheel allows.
    """
    import gurobipy as gp
    from gurobi_ml import add_predictor_constr

    xbar = instance.nominal
    with gp.Env(params={"OutputFlag": 0}) as env, gp.Model(env=env) as model:
        x = model.addMVar(len(xbar), lb=0.0, ub=1.0)
        if variant == P_AND_Q:
            p, q = model.addMVar(len(xbar), ub=1.0 - xbar), model.addMVar(len(xbar), ub=xbar)
            model.addConstr(x == xbar + p - q)
            model.setObjective(p.sum() + q.sum())
        else:
            d = model.addMVar(len(xbar))
            model.addConstr(x - xbar <= d)
            model.addConstr(xbar - x <= d)
            model.setObjective(d.sum())
        for layers in instance.networks:
            a = model.addMVar(len(layers[-1][1]), lb=-gp.GRB.INFINITY)
            add_predictor_constr(model, _regressor(layers), x, a)
            for j in instance.rivals:
                model.addConstr(a[instance.target] >= (1.0 + instance.gamma) * a[j])
            model.addConstr(a[instance.target] >= LEAST_OUTPUT)
        model.Params.Threads = 1
        model.Params.TimeLimit = left()
        model.optimize()
        claims: Mapping[int, Status] = {
            gp.GRB.OPTIMAL: "optimal",
            gp.GRB.INFEASIBLE: "infeasible",
            gp.GRB.INF_OR_UNBD: "infeasible",  # no distance is below 0
        }
        size = (model.NumVars, model.NumConstrs)
        answer = Answer(
            claims.get(model.Status, "unproven"),
            bound=model.ObjBound,
            nodes=int(model.NodeCount),
            size=size,
            message=f"Gurobi status {model.Status}",
        )
        return replace(answer, x=np.asarray(x.X).tolist(), objective=model.ObjVal) if model.SolCount else answer


def ask_pyscipopt(instance: Instance, variant: str, left: Left) -> Answer:
    """PySCIPOpt-ML, networks as scikit-learn's; `variant` is how a ReLU is written."""
    import pyscipopt
    from pyscipopt_ml import add_predictor_constr

    xbar = instance.nominal
    model = pyscipopt.Model()
    model.hideOutput()
    x = model.addMatrixVar((1, len(xbar)), lb=0.0, ub=1.0)
    p = [model.addVar(ub=float(1.0 - pixel)) for pixel in xbar]
    q = [model.addVar(ub=float(pixel)) for pixel in xbar]
    for i, pixel in enumerate(xbar.tolist()):
        model.addCons(x[0][i] == pixel + p[i] - q[i])
    model.setObjective(pyscipopt.quicksum([*p, *q]))
    for index, layers in enumerate(instance.networks):
        a = model.addMatrixVar((1, len(layers[-1][1])), lb=None, ub=None)
        prefix = f"net{index}_"
        formulation = "sos" if variant == "SOS1" else "bigm"
        add_predictor_constr(model, _regressor(layers), x, a, prefix, formulation=formulation)
        for j in instance.rivals:
            model.addCons(a[0][instance.target] >= (1.0 + instance.gamma) * a[0][j])
        model.addCons(a[0][instance.target] >= LEAST_OUTPUT)
    size = (model.getNVars(transformed=False), model.getNConss(transformed=False))
    model.setParam("limits/time", left())
    model.optimize()
    said = model.getStatus()
    claims: Mapping[str, Status] = {"optimal": "optimal", "infeasible": "infeasible", "inforunbd": "infeasible"}
    answer = Answer(
        claims.get(said, "unproven"), bound=model.getDualbound(), nodes=model.getNTotalNodes(), size=size, message=said
    )
    if not model.getNSols():
        return answer
    return replace(answer, x=[model.getVal(x[0][i]) for i in range(len(xbar))], objective=model.getObjVal())


def ask_omlt(instance: Instance, variant: str, left: Left) -> Answer:
    """OMLT with HiGHS; `variant` is how a ReLU is written. It bounds the layers itself, from the inputs' bounds."""
    import pyomo.environ as pyo
    from omlt import OmltBlock
    from omlt.neuralnet import ReluBigMFormulation, ReluPartitionFormulation
    from pyomo.contrib.appsi.base import TerminationCondition
    from pyomo.contrib.appsi.solvers import Highs

    xbar = instance.nominal
    pixels = range(len(xbar))
    model = pyo.ConcreteModel()
    model.x = pyo.Var(pixels, bounds=(0.0, 1.0))
    model.p = pyo.Var(pixels, bounds=lambda _, i: (0.0, float(1.0 - xbar[i])))
    model.q = pyo.Var(pixels, bounds=lambda _, i: (0.0, float(xbar[i])))
    model.change = pyo.Constraint(pixels, rule=lambda m, i: m.x[i] == float(xbar[i]) + m.p[i] - m.q[i])
    model.distance = pyo.Objective(expr=pyo.quicksum(model.p.values()) + pyo.quicksum(model.q.values()))
    model.networks = OmltBlock(range(len(instance.networks)))
    model.conditions = pyo.ConstraintList()
    for index, layers in enumerate(instance.networks):
        block = model.networks[index]
        formulation = ReluPartitionFormulation if variant == "partition" else ReluBigMFormulation
        block.build_formulation(formulation(_definition(layers)))
        for i in pixels:
            model.conditions.add(block.inputs[i] == model.x[i])
        a = block.outputs
        for j in instance.rivals:
            model.conditions.add(a[instance.target] >= (1.0 + instance.gamma) * a[j])
        model.conditions.add(a[instance.target] >= LEAST_OUTPUT)
    size = tuple(len(list(model.component_data_objects(kind, active=True))) for kind in (pyo.Var, pyo.Constraint))
    solver = Highs()
    solver.config.load_solution = False
    solver.highs_options = {"threads": 1}
    solver.config.time_limit = left()
    results = solver.solve(model)
    said = results.termination_condition
    claims: Mapping[Any, Status] = {
        TerminationCondition.optimal: "optimal",
        TerminationCondition.infeasible: "infeasible",
        TerminationCondition.infeasibleOrUnbounded: "infeasible",
    }
    answer = Answer(
        claims.get(said, "unproven"),
        objective=results.best_feasible_objective,
        bound=results.best_objective_bound,
        size=(size[0], size[1]),
        message=said.name,
    )
    if results.best_feasible_objective is None:
        return answer
    results.solution_loader.load_vars()
    return replace(answer, x=[pyo.value(model.x[i]) for i in pixels])


def _regressor(layers: Layers) -> Any:  # noqa: ANN401 - a fitted MLPRegressor
    """The network as scikit-learn has it after a fit: identity after the last layer."""
    from sklearn.neural_network import MLPRegressor

    network = MLPRegressor([len(bias) for _, bias in layers[:-1]], activation="relu")
    network.coefs_ = [weight for weight, _ in layers]
    network.intercepts_ = [bias for _, bias in layers]
    network.n_layers_ = len(layers) + 1
    network.n_outputs_ = len(layers[-1][1])
    network.n_features_in_ = len(layers[0][0])
    network.out_activation_ = "identity"
    return network


def _definition(layers: Layers) -> Any:  # noqa: ANN401 - a NetworkDefinition
    """The network as OMLT has it, its inputs in [0, 1]."""
    from omlt.neuralnet import NetworkDefinition
    from omlt.neuralnet.layer import DenseLayer, InputLayer

    inputs = len(layers[0][0])
    definition = NetworkDefinition(scaled_input_bounds=dict.fromkeys(range(inputs), (0.0, 1.0)))
    before = InputLayer([inputs])
    definition.add_layer(before)
    for k, (weight, bias) in enumerate(layers):
        activation = "relu" if k < len(layers) - 1 else "linear"
        layer = DenseLayer([len(weight)], [len(bias)], weight, bias, activation=activation)
        definition.add_layer(layer)
        definition.add_edge(before, layer)
        before = layer
    return definition


TOOLS: Mapping[str, Callable[[Instance, str, Left], Answer]] = {
    "arfj": ask_arfj,
    "gurobi-machinelearning": ask_gurobi,
    "pyscipopt-ml": ask_pyscipopt,
    "omlt": ask_omlt,
}


def answer(tool: str, variant: str, instance: Instance, seconds: float) -> Answer:
    """Ask one tool; what it raises is an answer, too."""
    began = time.perf_counter()
    try:
        said = TOOLS[tool](instance, variant, lambda: max(0.1, seconds - (time.perf_counter() - began)))
    except Exception as error:  # a tool may raise anything
        said = _failed(error)
    return replace(said, seconds=time.perf_counter() - began)


def _failed(error: Exception) -> Answer:
    cause: BaseException | None = error
    while cause is not None and getattr(cause, "errno", None) != GUROBI_TOO_LARGE:
        cause = cause.__cause__
    line = (str(error).strip().splitlines() or [""])[0]
    return Answer("error" if cause is None else "too large", message=f"{type(error).__name__}: {line}"[:300])


def versions(tool: str) -> dict[str, str]:
    """Of Python and the packages of a tool, as far as they are here."""
    found = {"python": platform.python_version()}
    for name in PACKAGES[tool]:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found


def main(argv: Sequence[str]) -> int:
    """Read the request, answer it; with one argument, print the tool's versions."""
    tool = argv[0]
    if len(argv) == 1:
        print(json.dumps(versions(tool)))
        return 0
    variant, request, target, seconds = argv[1], Path(argv[2]), Path(argv[3]), float(argv[4])
    if sys.platform == "linux":
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    for name in (*MODULES[tool], *(["arfj.solver.gurobi"] if variant == "Gurobi" else [])):
        importlib.import_module(name)
    said = replace(answer(tool, variant, load(request), seconds), versions=versions(tool))
    target.write_text(json.dumps(asdict(said)), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
