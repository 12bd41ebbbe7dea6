"""`python -m arfj.attack`: adversarial examples of least L1 change that fool every network of an uncertainty set."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from arfj.attack.options import TIME_LIMIT, Options
from arfj.attack.result import AttackResult
from arfj.attack.run import Job, run_jobs, share_of_cores
from arfj.attack.scenarios import Scenarios, check_true_class, given, nominal_class, sampled
from arfj.cli import ANSWERED, Parser, run
from arfj.data import bundled_images, bundled_nominal, load_image, test_image
from arfj.ensemble import ALPHA, EPSILON_INNER, EPSILON_OUTER, Oracle
from arfj.errors import ArfjError, UsageError
from arfj.evaluate import Witness, load_witness
from arfj.files import make_folder
from arfj.network import Floats, Network, load_dense, load_network
from arfj.question import MOST_GAMMA, Demand, Question
from arfj.report.live import LiveLine
from arfj.report.store import Store
from arfj.report.table import AttackTable

PROG = "python -m arfj.attack"
OUTPUT = "arfj-output"
CLASS_NAMES = ("T-shirt", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Boot")
EXAMPLES = f"""\
  {PROG} --outer --alpha 5                     the ten nominal images; the nominal network and 5 retrained ones
  {PROG} --outer --alpha 5 --true 9            only the image of class 9
  {PROG} --nominal                             the nominal network alone (Fischetti-Jo)
  {PROG} --inner --alpha 20 --seed 3           20 networks with perturbed weights
  {PROG} --outer --n-jobs 1 --time-limit 60    one image at a time, a minute each
  {PROG} --outer --share 0.8                   at least 5 of the 6 networks
  {PROG} --outer --cvar 0.5                    the worst half of the networks on average
  {PROG} --networks a.npz b.npz --image x.npy --target 3 --json
  {PROG} --grey-box attacked.npz --alpha 5     the attacked network is asked for probabilities only"""


def main(argv: Sequence[str]) -> int:
    """Run the attack that `argv` asks for; the answer goes to stdout, progress to stderr."""
    options = _parser().parse_args(argv)
    demand = _demand(options)
    scenarios = _scenarios(options)
    jobs = [_job(options, scenarios, demand, *image) for image in _images(options, scenarios)]
    folder = make_folder(options.output)
    for name in ("witnesses", "pictures"):
        if (folder / name).exists():  # what stands in the way is met before any work is spent
            make_folder(folder / name)
    settings = Options(
        formulation=options.formulation,
        bounds=options.bounds,
        solver=options.solver,
        time_limit=options.time_limit,
        threads=share_of_cores(options.n_jobs, len(jobs)),
        seed=options.seed,
        memory=options.memory_limit,
    )
    if scenarios.discarded:
        print(f"sampled networks that were not near enough: {scenarios.discarded}", file=sys.stderr)
    names = CLASS_NAMES if not options.networks else None
    _answer(options, jobs, settings, folder, names)
    return ANSWERED


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        PROG, "The least L1 change of an image that every network of an uncertainty set takes for the target.", EXAMPLES
    )
    _add_networks(parser)
    _add_image(parser)
    _add_solving(parser)
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output", default=OUTPUT, metavar="DIR", help=f"witnesses, pictures, results.jsonl ({OUTPUT})"
    )
    output.add_argument("--json", action="store_true", help="print one JSON document instead of the table")
    return parser


def _add_networks(parser: Parser) -> None:
    """Which networks, and how they are sampled."""
    networks = parser.add_argument_group("networks to fool").add_mutually_exclusive_group()
    networks.add_argument(
        "--nominal", dest="kind", action="store_const", const="nominal", help="the nominal network alone"
    )
    networks.add_argument(
        "--inner", dest="kind", action="store_const", const="inner", help="it and perturbed copies of it"
    )
    networks.add_argument(
        "--outer",
        dest="kind",
        action="store_const",
        const="outer",
        help="it and networks trained from scratch (default)",
    )
    networks.add_argument(
        "--networks", nargs="+", metavar="FILE", help="these .npz, .onnx, .keras or .h5 files; the first is nominal"
    )
    sampling = parser.add_argument_group("sampling")
    sampling.add_argument("--alpha", type=int, metavar="N", help=f"number of sampled networks (default {ALPHA})")
    sampling.add_argument(
        "--epsilon",
        type=float,
        metavar="E",
        help=f"radius: d_in of inner ({EPSILON_INNER}), d_osd of outer ({EPSILON_OUTER})",
    )
    sampling.add_argument(
        "--grey-box", metavar="FILE", help="the attacked network, asked for probabilities only; no scenario"
    )
    sampling.add_argument("--train", action="store_true", help="train fresh outer networks instead of the bundled ones")
    sampling.add_argument(
        "--seed", type=int, default=0, metavar="N", help="of inner draws, training, search and solver (0)"
    )


def _add_image(parser: Parser) -> None:
    """The image, the class to reach, and by how many networks."""
    image = parser.add_argument_group("image")
    image.add_argument(
        "--image", metavar="FILE|INDEX", help=".npy file or Fashion-MNIST test index (default: the ten nominal)"
    )
    image.add_argument("--true", type=int, metavar="C", help="its class (default: the nominal network's)")
    image.add_argument("--target", type=int, metavar="C", help="the class to reach (default: true - 1, cyclic)")
    image.add_argument(
        "--gamma", type=float, default=0.2, metavar="G", help="target >= (1 + G) times every other (0.2)"
    )
    demand = parser.add_argument_group("how many to fool").add_mutually_exclusive_group()
    demand.add_argument(
        "--share", type=float, default=1.0, metavar="RHO", help="at least this share of the networks (1: all of them)"
    )
    demand.add_argument(
        "--cvar",
        type=float,
        metavar="BETA",
        help="instead: the mean slack of the worst 1 - BETA of the networks is at least 0 (0: of all networks)",
    )


def _add_solving(parser: Parser) -> None:
    """The model, who solves it, and with what."""
    solving = parser.add_argument_group("solving")
    solving.add_argument("--formulation", choices=("tight", "paper"), default="tight", help="model (default tight)")
    solving.add_argument(
        "--bounds",
        choices=("interval", "crown", "alpha-crown", "exact"),
        default="alpha-crown",
        help="of the big-M constants (alpha-crown); exact: alpha-crown, from the start tightened by a small "
        "search a neuron, where the others are only if an image proves hard",
    )
    solving.add_argument(
        "--solver",
        choices=("bab", "scip", "gurobi"),
        default="bab",
        help="who proves: our own branch and bound on SCIP's linear programs (bab, the default; --formulation "
        "paper is SCIP's then), SCIP or Gurobi",
    )
    solving.add_argument("--time-limit", type=float, default=TIME_LIMIT, metavar="S", help="seconds an image (600)")
    solving.add_argument("--memory-limit", type=float, metavar="MIB", help="of the solver (bab: of open nodes), in MiB")
    solving.add_argument(
        "--n-jobs",
        type=int,
        default=-1,
        metavar="N",
        help="images at a time (-1: as many as cores); cores that are left over help with the proofs",
    )


def _demand(options: argparse.Namespace) -> Demand:
    """What the options ask of the networks."""
    if options.cvar is not None and options.formulation == "paper":
        raise UsageError("--formulation paper has no mean of the worst networks; drop it, or --cvar")
    return Demand(options.share, options.cvar)


def _scenarios(options: argparse.Namespace) -> Scenarios:
    """The networks that the options ask for."""
    _check_numbers(options)
    if options.networks:
        for name in ("grey_box", "train"):
            if getattr(options, name):
                raise UsageError(f"--networks gives all scenarios; drop --{name.replace('_', '-')}")
        if options.epsilon is not None:
            raise UsageError("--networks gives all scenarios and samples none; drop --epsilon")
        return given([load_dense(path) for path in options.networks], options.alpha)
    oracle = None if options.grey_box is None else _oracle(options.grey_box)
    trainer = _trainer(options.n_jobs) if options.train else None
    if options.train and options.kind in (None, "outer"):
        make_folder(options.output)  # before minutes of training are spent
    return sampled(options.kind or "outer", options.alpha, options.epsilon, options.seed, oracle, trainer)


def _oracle(path: str) -> Oracle:
    """The probabilities of the attacked network: nothing else of it is used."""
    network = load_network(path)
    inputs = bundled_images().osd.shape[1]
    if network.inputs != inputs:
        raise UsageError(f"{path} takes {network.inputs} inputs; the bundled samples take {inputs}")
    if network.classes != (classes := bundled_nominal().classes):
        raise UsageError(f"{path} has {network.classes} classes; the bundled samples have {classes}")

    def asked(images: ArrayLike) -> Floats:
        with np.errstate(over="ignore", invalid="ignore"):
            found = network.probabilities(images)
        if not np.isfinite(found).all():
            raise UsageError(f"the outputs of {path} are too large for floating-point numbers; scale its weights down")
        return found

    return asked


def _check_numbers(options: argparse.Namespace) -> None:
    if not options.time_limit > 0:
        raise UsageError(f"--time-limit is {options.time_limit:g}; expected seconds, more than 0")
    if options.memory_limit is not None and not options.memory_limit > 0:
        raise UsageError(f"--memory-limit is {options.memory_limit:g}; expected MiB, more than 0")
    if not options.output:
        raise UsageError("--output is empty; expected a folder")
    if options.n_jobs == 0:
        raise UsageError("--n-jobs is 0; expected a number of processes, or -1 for all cores")
    if options.seed < 0:
        raise UsageError(f"--seed is {options.seed}; expected 0 or more")
    if not 0 <= options.gamma <= MOST_GAMMA:
        raise UsageError(f"--gamma is {options.gamma:g}; expected a number >= 0, {MOST_GAMMA:g} at most")


def _trainer(n_jobs: int) -> partial[Iterator[Network | None]]:
    try:
        from training import fresh_networks
    except ImportError as error:
        raise ArfjError("--train needs the training package and TensorFlow; pip install 'arfj[train]'") from error
    return partial(fresh_networks, n_jobs=n_jobs)


def _images(options: argparse.Namespace, scenarios: Scenarios) -> Iterator[tuple[str, Floats, int]]:
    """Label, image and true class of every question."""
    network = scenarios.ensemble.networks[0]
    if options.image is None:
        bundled = bundled_images()
        if network.inputs != bundled.nominal.shape[1]:
            raise UsageError(f"the networks take {network.inputs} values, the bundled images have 784; give --image")
        for index, image, true in zip(bundled.nominal_indices, bundled.nominal, bundled.nominal_classes, strict=True):
            if options.true in (None, int(true)):
                yield f"{index:05d}", image, int(true)
        if options.true is not None and options.true not in bundled.nominal_classes:
            raise UsageError(f"--true {options.true} is out of range; the bundled images have classes 0 to 9")
        return
    label, image = _one_image(options.image)
    shapes = {network.input_shape, (network.inputs,)} | ({(28, 28)} if network.inputs == 784 else set())
    if image.shape not in shapes:
        expected = " or ".join(map(str, sorted(shapes)))
        raise UsageError(f"the image has shape {image.shape}; the networks take inputs of shape {expected}")
    yield label, image, nominal_class(scenarios.ensemble, image.reshape(-1)) if options.true is None else options.true


def _one_image(name: str) -> tuple[str, Floats]:
    if re.fullmatch(r"-?[0-9]+", name) and not Path(name).exists():
        return f"{int(name):05d}", test_image(int(name))[0]
    return Path(name).stem, load_image(name)


def _job(
    options: argparse.Namespace, scenarios: Scenarios, demand: Demand, label: str, image: Floats, true: int
) -> Job:
    classes = scenarios.ensemble.networks[0].classes
    target = (true - 1) % classes if options.target is None else options.target
    question = Question(image, true, target, scenarios.ensemble, options.gamma, demand)
    check_true_class(scenarios.ensemble, question.flat, true)
    return Job(question, label)


def _answer(
    options: argparse.Namespace, jobs: Sequence[Job], settings: Options, folder: Path, names: Sequence[str] | None
) -> None:
    """Solve, print each row as it comes, draw it, and sum up; what was finished survives errors and interrupts."""
    results: list[AttackResult] = []
    pairs: list[tuple[Witness, AttackResult]] = []
    table = None if options.json else AttackTable([job.label for job in jobs], names)
    place = _place(jobs)
    try:
        with LiveLine() as live:
            store = Store(folder / "results.jsonl")
            if options.n_jobs != 1 and len(jobs) > 1:
                live.count(0, len(jobs))
            for job, result in run_jobs(jobs, settings, folder, store, options.n_jobs, live.update):
                results.append(result)
                if table is not None:
                    with live.aside():
                        if len(results) == 1:  # not before: an error that comes first leaves stdout empty
                            table.start()
                        table.add(result)
                if options.n_jobs != 1 and len(jobs) > 1:
                    live.count(len(results), len(jobs))
                pairs.extend(_drawn(job, result, folder, names))
    except (ArfjError, KeyboardInterrupt):
        if results:
            _sum_up(sorted(results, key=place), folder, table)
        raise
    _sum_up(sorted(results, key=place), folder, table)
    if len(pairs) > 1:
        _overview(sorted(pairs, key=lambda pair: place(pair[1])), folder, names)


def _place(jobs: Sequence[Job]) -> Callable[[AttackResult], int]:
    """Where a result's question stands: several at a time end as they end."""
    places = {(job.label, job.question.true): index for index, job in enumerate(jobs)}
    return lambda result: places[result.label, result.true]


def _sum_up(results: Sequence[AttackResult], folder: Path, table: AttackTable | None) -> None:
    """The one JSON document, or the closing lines of the table."""
    if table is None:
        print(json.dumps({"results": [result.as_json() for result in results]}, indent=2, allow_nan=False))
    else:
        table.finish(results)
        print(f"written to {folder}: results.jsonl, witnesses/ and pictures/")


def _drawn(
    job: Job, result: AttackResult, folder: Path, names: Sequence[str] | None
) -> Iterable[tuple[Witness, AttackResult]]:
    """The picture of an answer; without matplotlib none is made, which is said once."""
    if result.witness is None:
        return []
    witness = load_witness(result.witness)
    try:
        from arfj.report.figure import draw

        path = folder / "pictures" / f"{Path(result.witness).stem}.png"
        if not path.exists() or path.stat().st_mtime < Path(result.witness).stat().st_mtime:
            draw(witness, job.question.ensemble.networks, result, path, names)
    except ArfjError as error:
        _say_once(str(error))
        return []
    return [(witness, result)]


def _overview(pairs: Sequence[tuple[Witness, AttackResult]], folder: Path, names: Sequence[str] | None) -> None:
    from arfj.report.figure import overview

    overview(pairs, folder / "pictures" / "overview.png", names)


_said: set[str] = set()


def _say_once(message: str) -> None:
    if message not in _said:
        _said.add(message)
        print(f"no pictures: {message}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(run(main))
