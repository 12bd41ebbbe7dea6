"""`python -m experiments.transfer.targets`: train the target networks, set by set, into a folder.

    DIR/same/000.npz ...  DIR/wide/000.npz ...  DIR/targets.json  DIR/.trained/

The first set is what the sampler itself would draw next; each of the others shifts one thing: the architecture, the
optimiser, the data, or what is left to chance. No seed is one of the bundle's, and no two sets share one, so that the
targets are independent of the scenarios and of each other (but for the initial weights of the set `order`, which are
the nominal network's). `.trained` keeps every network that was trained, those discarded included: a run that was
interrupted, or is asked for more networks, goes on from there.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import Any

from arfj.cli import ANSWERED, Parser, run
from arfj.data import FashionMnist, bundled_nominal, growth_manifest, load_fashion_mnist, manifest, scaled
from arfj.ensemble import EPSILON_OUTER, d_in, d_osd
from arfj.errors import ArfjError, UsageError
from arfj.files import atomic_write, make_folder
from arfj.network import Network, load_dense
from training import Outcome, Settings, outcomes
from training.growth import larger, save_single
from training.many import accuracy_of, silence
from training.sets import OSD_IMAGES, Draw, commit, discarded_entry, draws, versions

ROWS, CACHE = "targets.json", ".trained"
SUFFIXES = (".npz", ".onnx", ".onnx.gz", ".keras", ".h5")
LEAST = 0.8
"""The accuracy of another method's networks; most of those with a dead output unit are below."""
RULE = (
    "for each set the first seeds, from first_seed on, whose networks have an accuracy in [settings.least, "
    "settings.most], and d_osd < epsilon_outer to the bundled nominal network (filtered sets) or an output for every "
    "class on the test images (others)"
)
EXAMPLES = """\
  python -m experiments.transfer.targets --output out/targets                     all sets, some 130 networks
  python -m experiments.transfer.targets --output out/targets --sets same adam    these only
"""

Told = Callable[[str, int, int, int], None]
Row = dict[str, Any]


@dataclass(frozen=True)
class TargetSet:
    """Networks of one method of training.

    Attributes:
        name: of the set and of its folder.
        title: what differs from the bundled networks.
        settings: the method.
        count: networks to keep.
        filtered: whether they must have d_osd < 0.2 to the bundled nominal network, as an outer sample.
        first_seed: seeds are tried one by one from here.

    Raises:
        UsageError: no network, or a seed that the bundle may have used.
    """

    name: str
    title: str
    settings: Settings
    count: int
    filtered: bool
    first_seed: int

    def __post_init__(self) -> None:
        if self.count < 1 or self.first_seed <= last_bundled_seed():
            raise UsageError(
                f"set {self.name}: {self.count} networks from seed {self.first_seed} on; expected at least 1, "
                f"and seeds above {last_bundled_seed()}, the last of the bundle"
            )


def target_sets() -> dict[str, TargetSet]:
    """The sets by name: the sampler's own distribution first, then one shift each."""
    wide = Settings((16, 16, 16), least=LEAST, most=1.0)
    shifts = {
        "wide": ("16 neurons a hidden layer instead of 8", wide),
        "deep": ("five hidden layers instead of three", replace(wide, hidden=(8,) * 5)),
        "shallow": ("two hidden layers instead of three", replace(wide, hidden=(8,) * 2)),
        "conv": ("a convolution and one hidden layer", replace(larger()["conv"], least=LEAST)),
        "adam": ("Adam instead of SGD", Settings(least=LEAST, most=1.0, optimiser="adam", rate=1e-3)),
        "half": ("a random half of the training images", Settings(least=LEAST, most=1.0, images=0.5)),
        "order": (
            "the nominal network's initial weights, another order of the images",
            Settings(least=LEAST, most=1.0, weights_seed=nominal_seed()),
        ),
    }
    same = TargetSet("same", "the same method and filter, other seeds", Settings(), 60, True, 1000)
    others = (
        TargetSet(name, title, settings, 10, False, 1000 * number)
        for number, (name, (title, settings)) in enumerate(shifts.items(), start=2)
    )
    return {chosen.name: chosen for chosen in (same, *others)}


def nominal_seed() -> int:
    """The seed of the bundled nominal network."""
    return int(manifest()["networks"][0]["seed"])


def last_bundled_seed() -> int:
    """The largest seed that the bundle has tried, discarded ones included."""
    tried = (entry for part in _bundled() for key in ("networks", "discarded") for entry in part[key])
    # An inner sample is not trained: its seed is that of a perturbation.
    return max(int(entry["seed"]) for entry in tried if entry.get("kind") != "inner")


def _bundled() -> list[Row]:
    return [manifest(), *growth_manifest()["sets"].values()]


def make_targets(
    folder: Path,
    sets: Iterable[TargetSet],
    n_jobs: int = 1,
    told: Told = lambda name, kept, wanted, trained: None,
    data: FashionMnist | None = None,
) -> list[Row]:
    """Train what is missing, and return one row a network: set, file, seed, accuracy, d_osd, d_in, fingerprint.

    Every network is a file as soon as it is trained, and in its set's folder as soon as it is kept.
    `folder`/targets.json has the same rows by set, with the settings and the discarded seeds; it is written after each
    set, and keeps those of an earlier run.

    Args:
        folder: is made; networks of an older set of one of these names are removed.
        sets: what to make.
        n_jobs: processes.
        told: called after each training with the set's name, the networks kept, those wanted and those trained.
        data: Fashion-MNIST; by default it is looked for on this machine.

    Raises:
        ArfjError: too few networks are accepted, the folder cannot be written, or TensorFlow or the data is missing.
    """
    images = load_fashion_mnist() if data is None else data
    make_folder(make_folder(folder) / CACHE)
    known = known_targets(folder)
    content = {"rule": RULE, "commit": commit(), "versions": versions(), "sets": known}
    rows: list[Row] = []
    for chosen in sets:
        found, networks = _made(folder, chosen, images, n_jobs, told)
        known[chosen.name] = {
            "title": chosen.title,
            "settings": chosen.settings.as_json(),
            "epsilon_outer": EPSILON_OUTER if chosen.filtered else None,
            "first_seed": chosen.first_seed,
            "trained": len(found),
            "discarded": [discarded_entry(draw) for draw in found if draw.reason],
            "networks": networks,
        }
        with atomic_write(folder / ROWS) as stream:
            stream.write((json.dumps(content, indent=1) + "\n").encode())
        rows += networks
    return rows


def known_targets(folder: Path) -> dict[str, Row]:
    """What is recorded of the sets in a folder, by name.

    Raises:
        ArfjError: the record is broken.
    """
    path = folder / ROWS
    if not path.exists():
        return {}
    try:
        sets = dict(json.loads(path.read_text(encoding="utf-8"))["sets"])
        _ = [(network["file"], network["fingerprint"]) for part in sets.values() for network in part["networks"]]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ArfjError(f"{path} is broken ({error!r}); remove it, and what is trained is taken up again") from error
    return sets


def _made(folder: Path, chosen: TargetSet, data: FashionMnist, n_jobs: int, told: Told) -> tuple[list[Draw], list[Row]]:
    """Everything drawn for a set, and the rows of what was kept, whose files are written one by one."""
    trained = outcomes(itertools.count(chosen.first_seed), chosen.settings, n_jobs, data, folder / CACHE)
    epsilon = EPSILON_OUTER if chosen.filtered else float("inf")
    seen = lambda kept, count: told(chosen.name, kept, chosen.count, count)  # noqa: E731
    found: list[Draw] = []
    rows: list[Row] = []
    try:
        checked = _checked(trained, chosen, data)
        for draw in draws(checked, chosen.count, epsilon, data, seen, bundled_nominal()):
            found.append(draw)
            if not draw.reason:
                rows.append(_written(folder, f"{chosen.name}/{len(rows):03d}.npz", draw.outcome, data))
    except ArfjError as error:
        raise ArfjError(f"set {chosen.name}: {error}") from error
    for stale in set((folder / chosen.name).glob("*.npz")) - {folder / row["file"] for row in rows}:
        stale.unlink()
    return found, rows


def _checked(trained: Iterator[Outcome], chosen: TargetSet, data: FashionMnist) -> Iterator[Outcome]:
    """Discard what is no target: a network of the bundle; with another method, one that never gives some class.

    The sampler does not ask for the latter, so a filtered set does not either.
    """
    bundled = {entry["fingerprint"] for part in _bundled() for entry in part["networks"]}
    for outcome in trained:
        reason = outcome.reason
        if not reason and not chosen.filtered:
            reason = silence(outcome.network.classify(scaled(data.test_images)), outcome.network.classes)
        if outcome.network.fingerprint() in bundled:
            reason = "is a network of the bundle"
        yield replace(outcome, reason=reason)


def _written(folder: Path, file: str, outcome: Outcome, data: FashionMnist) -> Row:
    """Write a network, and measure it as it is on disk."""
    save_single(folder / file, outcome.network)
    network, nominal = load_dense(folder / file), bundled_nominal()
    images = scaled(data.train_images[:OSD_IMAGES])
    return {
        "set": Path(file).parent.name,
        "file": file,
        "seed": outcome.seed,
        "accuracy": accuracy_of(network.classify(scaled(data.test_images)), data),
        "d_osd": d_osd(network.probabilities(images), nominal.probabilities(images)),
        "d_in": d_in(network, nominal) if network.sizes == nominal.sizes else None,
        "fingerprint": network.fingerprint(),
    }


def load_targets(folder: Path) -> dict[str, tuple[Network, ...]]:
    """The networks of every sub-folder of `folder`, by its name: all .npz, .onnx, .keras and .h5 files, sorted.

    Folders whose names start with a dot are left out.

    Raises:
        ArfjError: no such folder, no networks in it or in a sub-folder, a file that is no chain of dense layers with
            ReLU, or networks that differ in inputs or classes.
    """
    if not folder.is_dir():
        raise ArfjError(f"{folder} is no folder; expected one with a sub-folder of network files for each set")
    inside = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not inside:
        raise ArfjError(f"{folder} has no sub-folders; expected one with network files ({_suffixes()}) for each set")
    found = {path.name: tuple(map(load_dense, network_files(path))) for path in inside}
    _check_alike(folder, found)
    return found


def network_files(folder: Path) -> list[Path]:
    """The network files of a folder, sorted.

    Raises:
        ArfjError: there are none.
    """
    if not folder.is_dir():
        raise ArfjError(f"{folder} is no folder; expected one with network files ({_suffixes()})")
    visible = (path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    files = sorted(path for path in visible if path.name.lower().endswith(SUFFIXES))
    if not files:
        raise ArfjError(f"{folder} holds no network; expected {_suffixes()} files, or remove the folder")
    return files


def _suffixes() -> str:
    return f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"


def _check_alike(folder: Path, found: Mapping[str, tuple[Network, ...]]) -> None:
    shapes = {(network.inputs, network.classes): name for name, networks in found.items() for network in networks}
    if len(shapes) > 1:
        told = "; ".join(
            f"{inputs} inputs and {classes} classes in {name}" for (inputs, classes), name in shapes.items()
        )
        raise ArfjError(f"{folder}: {told}; expected networks of one question")


class TrainingProgress:
    """A line on stderr for each training, with the time left: at the rate at which the last ones were kept.

    What an interrupted run had trained comes at once, and is soon out of the window.
    """

    def __init__(self, wanted: int, window: int = 20) -> None:
        self.wanted, self.earlier = wanted, 0
        self.times = deque([perf_counter()], maxlen=window)
        self.kept = 0

    def __call__(self, name: str, kept: int, wanted: int, trained: int) -> None:
        """Told after each training."""
        if self.earlier + kept > self.kept:
            self.kept = self.earlier + kept
            self.times.append(perf_counter())
        each = (perf_counter() - self.times[0]) / max(len(self.times) - 1, 1)
        left = f"about {each * (self.wanted - self.kept) / 60:.0f} min left"
        print(f"{name}: {kept} of {wanted} kept, {trained} trained; {left}", file=sys.stderr, flush=True)
        self.earlier += wanted if kept == wanted else 0


def summary(folder: Path) -> str:
    """One line a set: how many networks, accuracies, d_osd, discards.

    Raises:
        ArfjError: the folder's targets.json is broken.
    """
    lines = []
    for name, part in known_targets(folder).items():
        ranges = (f"{key} {_range([row[key] for row in part['networks']])}" for key in ("accuracy", "d_osd"))
        counts = f"discarded {len(part['discarded'])} of {part['trained']} trained"
        lines.append(f"{name:8} {len(part['networks']):3} networks  {'  '.join(ranges)}  {counts}")
    return "\n".join(lines)


def _range(values: Sequence[float]) -> str:
    return f"{min(values):.4f}..{max(values):.4f}"


def main(argv: Sequence[str]) -> int:
    """Train what is missing; one line a set.

    Raises:
        ArfjError: one line saying what to mend.
    """
    parser = Parser("python -m experiments.transfer.targets", "Train target networks, set by set.", EXAMPLES)
    sets = target_sets()
    titles = "; ".join(f"{name}: {chosen.title}" for name, chosen in sets.items())
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="where the networks go")
    parser.add_argument("--sets", nargs="+", choices=list(sets), metavar="NAME", help=f"these only, of {titles}")
    parser.add_argument("--n-jobs", type=int, default=-1, metavar="N", help="processes; -1: one a core (%(default)s)")
    options = parser.parse_args(argv)
    if options.n_jobs == 0:
        raise UsageError("--n-jobs is 0; expected a number of processes, or -1 for one a core")
    chosen = [sets[name] for name in dict.fromkeys(options.sets or sets)]
    make_targets(options.output, chosen, options.n_jobs, TrainingProgress(sum(one.count for one in chosen)))
    print(summary(options.output))
    return ANSWERED


if __name__ == "__main__":
    sys.exit(run(main))
