"""`python -m arfj.certify scenario` and `samples`."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence

from arfj.bounds.compiled import Engine, check_device
from arfj.certify.scenario import sizes
from arfj.certify.scenario.certificate import LAMBDA, Request, Safe, ScenarioCertificate, certify
from arfj.certify.scenario.noise import KINDS, parsed
from arfj.certify.scenario.parameters import certify_networks, inner_sampler
from arfj.certify.scenario.sizes import rounded
from arfj.certify.scenario.stream import Source
from arfj.certify.scenario.surrogate import certify_by_surrogate
from arfj.cli import ANSWERED, Parser, status_line
from arfj.data import load_image
from arfj.errors import UsageError
from arfj.graph import Graph
from arfj.network import Floats, Network, load_network

PROG = "python -m arfj.certify"
BALLS = ("l2", "linf", "l1")
EXAMPLES = f"""\
  {PROG} scenario --network n.npz --image x.npy --true 9 --all-rivals --noise uniform:0.1
  {PROG} scenario --network n.onnx --image x.npy --true 9 --target 8 --noise gauss:0.05 --clip --epsilon 0.01
  {PROG} scenario --network n.npz --image x.npy --true 9 --target 8 --noise l1:5 --set l2 --regularise 0.1 --json
  {PROG} scenario --network n.keras --image x.npy --true 9 --all-rivals --noise uniform:0.1 --device gpu
"""
SAMPLES = f"""\
  {PROG} samples --epsilon 0.001 --delta 1e-5 --p 1     how many
  {PROG} samples --samples 5000 --delta 1e-5 --p 1      which epsilon they certify
"""


def certified(argv: Sequence[str]) -> int:
    """`scenario`: the certificate goes to stdout."""
    options = scenario_parser().parse_args(argv)
    request = _request(options)
    check_device(options.device)
    network = load_network(options.network)
    image = _image(options.image, network)
    safe = Safe.margin(network.classes, options.true, _targets(options, network.classes))
    with status_line("samples"):
        found = _found(options, network, image, safe, request)
    if options.json:
        print(json.dumps(found.as_json(), indent=2, allow_nan=False))
    else:
        _print(options, network.classes, found)
    return ANSWERED


def sized(argv: Sequence[str]) -> int:
    """`samples`: both sizes go to stdout."""
    options = samples_parser().parse_args(argv)
    if options.samples is not None:
        return _inverted(options)
    options.epsilon = sizes.EPSILON if options.epsilon is None else options.epsilon
    found = {
        "exact": sizes.exact_size(options.epsilon, options.delta, options.p),
        "paper": sizes.paper_size(options.epsilon, options.delta, options.p),
    }
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        print(f"exact  {found['exact']}   the least N with P(Bin(N, epsilon) <= p - 1) <= delta")
        print(f"paper  {found['paper']}   (2 / epsilon) (ln(1 / delta) + p)")
    return ANSWERED


def _inverted(options: argparse.Namespace) -> int:
    """The inverse question: what N samples certify."""
    if options.epsilon is not None:
        raise UsageError("--samples asks for epsilon; leave out --epsilon")
    found = {
        "exact": sizes.exact_epsilon(options.samples, options.delta, options.p),
        "paper": sizes.paper_epsilon(options.samples, options.delta, options.p),
    }
    if options.json:
        print(json.dumps({"epsilon": found}, indent=2))
    else:
        print(f"exact  epsilon {rounded(found['exact'], up=True)}")
        print(f"paper  epsilon {rounded(found['paper'], up=True)}")
    return ANSWERED


def scenario_parser() -> Parser:
    """The options of `scenario`."""
    parser = Parser(f"{PROG} scenario", "How safe is the output of a network under random noise?", EXAMPLES)
    parser.usage = f"{PROG} scenario --network FILE --image FILE.npy --true C --noise NOISE [options]"
    parser.add_argument("--network", metavar="FILE", required=True, help=".npz, .onnx, .onnx.gz, .keras or .h5")
    parser.add_argument("--image", metavar="FILE.npy", required=True, help="the image in the middle, pixels in [0, 1]")
    parser.add_argument(
        "--true", metavar="C", type=int, required=True, help="the class that is to have the largest output"
    )
    rivals = parser.add_mutually_exclusive_group()
    rivals.add_argument("--target", metavar="I", type=int, help="against this class; default (C - 1) mod classes")
    rivals.add_argument("--all-rivals", action="store_true", help="against all others at once, with p = 1")
    parser.add_argument(
        "--noise",
        required=True,
        help=f"{KINDS}, each an independent draw of it; or inner:E, noise on the parameters as of arfj.attack --inner",
    )
    parser.add_argument("--clip", action="store_true", help="clip noisy images into [0, 1]")
    _add_probabilities(parser)
    count = parser.add_mutually_exclusive_group()
    count.add_argument("--samples", metavar="N", type=int, help="so many, of which those in excess are discarded")
    count.add_argument("--sizing", choices=("exact", "paper"), default="exact", help="how N follows (default exact)")
    parser.add_argument(
        "--set", choices=("halfspace", *BALLS), default="halfspace", help="sets of outputs (default halfspace)"
    )
    parser.add_argument(
        "--regularise", metavar="LAMBDA", type=float, help=f"weight of the squared radius of a ball (default {LAMBDA})"
    )
    parser.add_argument(
        "--surrogate", metavar="K", type=int, help="sample the first K layers only, with affine bounds of the others"
    )
    parser.add_argument(
        "--device", choices=["cpu", "gpu"], default="cpu", help="who evaluates the network: NumPy here, or JAX on a GPU"
    )
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the noise (default 0)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a text")
    return parser


def samples_parser() -> Parser:
    """The options of `samples`."""
    parser = Parser(f"{PROG} samples", "How many samples does a certificate need?", SAMPLES)
    parser.usage = f"{PROG} samples (--epsilon E | --samples N) --delta D --p P [--json]"
    _add_probabilities(parser, None)
    parser.add_argument("--samples", metavar="N", type=int, help="the inverse question: which epsilon do N certify?")
    parser.add_argument(
        "--p", metavar="P", type=int, default=1, help="variables: 1 for a half-space, outputs + 1 for a ball"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a text")
    return parser


def _add_probabilities(parser: argparse.ArgumentParser, epsilon: float | None = sizes.EPSILON) -> None:
    parser.add_argument(
        "--epsilon",
        metavar="E",
        type=float,
        default=epsilon,
        help=f"the probability with which it may fail to be safe (default {sizes.EPSILON})",
    )
    parser.add_argument(
        "--delta",
        metavar="D",
        type=float,
        default=sizes.DELTA,
        help=f"the probability of a wrong certificate (default {sizes.DELTA})",
    )


def _request(options: argparse.Namespace) -> Request:
    """How sure, and by which sets; what does not go together is refused."""
    if options.set == "halfspace" and options.regularise is not None:
        raise UsageError("--regularise is about balls; name one with --set l2, linf or l1, or leave it out")
    if options.set != "halfspace" and options.all_rivals:
        raise UsageError("--all-rivals takes half-spaces; leave out --set, or name one rival with --target")
    if options.surrogate is not None and options.noise.startswith("inner:"):
        raise UsageError("--surrogate is about noise on the image; leave it out with --noise inner:E")
    if options.device != "cpu" and options.noise.startswith("inner:"):
        raise UsageError(
            "--device gpu is about noise on the image; leave it out with --noise inner:E, where drawing a network "
            "takes longer than asking it"
        )
    weight = LAMBDA if options.regularise is None else options.regularise
    return Request(options.epsilon, options.delta, options.samples, options.sizing, options.set, weight)


def _targets(options: argparse.Namespace, classes: int) -> list[int] | None:
    if options.all_rivals:
        return None
    return [(options.true - 1) % classes if options.target is None else options.target]


def _image(name: str, network: Network | Graph) -> Floats:
    image = load_image(name)
    shapes = {network.input_shape, (network.inputs,)} | ({(28, 28)} if network.inputs == 784 else set())
    if image.shape not in shapes:
        expected = " or ".join(map(str, sorted(shapes)))
        raise UsageError(f"the image has shape {image.shape}; the network takes inputs of shape {expected}")
    return image.reshape(network.input_shape)


def _found(
    options: argparse.Namespace, network: Network | Graph, image: Floats, safe: Safe, request: Request
) -> ScenarioCertificate:
    if options.noise.startswith("inner:"):
        if not isinstance(network, Network):
            raise UsageError(
                "--noise inner:E perturbs the weights of dense layers with ReLU; this network is of another kind"
            )
        if options.clip:
            raise UsageError("--clip is about noise on the image; leave it out with --noise inner:E")
        return certify_networks(inner_sampler(network, _inner(options.noise)), image, safe, request, options.seed)
    engine: Engine = "jax" if options.device == "gpu" else "numpy"
    source = Source(network, image, parsed(options.noise), options.seed, options.clip, engine)
    if options.surrogate is not None:
        return certify_by_surrogate(source, safe, options.surrogate, request)
    return certify(source, safe, request)


def _inner(text: str) -> float:
    try:
        radius = float(text.removeprefix("inner:"))
    except ValueError:
        radius = math.nan
    if not 0 <= radius < math.inf:
        raise UsageError(f"--noise {text} is not known; expected inner:E with a number E >= 0, such as inner:0.05")
    return radius


def _print(options: argparse.Namespace, classes: int, found: ScenarioCertificate) -> None:
    rival = "all rivals" if options.all_rivals else f"class {_targets(options, classes)[0]}"  # type: ignore[index]
    dropped = f", {found.discarded} of them discarded" if found.discarded else ""
    print(f"margin of class {options.true} over {rival}, noise {options.noise}: at least {rounded(found.bound)}")
    print(f"{found.samples} samples{dropped} ({found.sizing}; p = {found.p}), {found.set}, {found.seconds:.2f} s")
    print(found.sentence())
