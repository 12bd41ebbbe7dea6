"""The committed rows of the transfer study: the document shows them, and its numbers are computed anew another way."""

import itertools
import json

import numpy as np
import pytest
from scipy.stats import beta, binomtest

from arfj.data import bundled_nominal
from experiments.answers import image_of
from experiments.committed import shown
from experiments.studies import Scale, read
from experiments.transfer import baselines, certain, rivals, sheets
from experiments.transfer.cells import TITLES
from experiments.transfer.plan import Asked, demand_of
from experiments.transfer.study import STUDY
from experiments.transfer.subject import subject


@pytest.fixture(scope="module")
def rows():
    return read(STUDY.rows)


def chosen(rows, method="exact", alpha=5, gamma=0.2, goal="paper"):
    """Exact answers by image; softer demands and other draws left out."""
    wanted = (method, alpha, gamma, goal)
    return {
        row["position"]: row
        for row in rows
        if row["method"] != "targets"
        and (row["method"], row.get("alpha"), row.get("gamma"), row.get("goal")) == wanted
        and "share" not in row
        and "cvar" not in row
        and not row.get("block")
        and row.get("change") is not None
    }


def test_the_document_shows_them(rows):
    text = STUDY.document.read_text(encoding="utf-8")
    assert shown(STUDY, rows, text) == text


def test_they_are_small_and_whole(rows):
    assert STUDY.rows.stat().st_size < 5_000_000
    assert not [row["key"] for row in rows if row.get("status") == "error"]
    exact = [row for row in rows if row["method"] == "exact"]
    assert len(exact) == 560
    assert {"host", "machine", "jobs", "load", "took", "threads"} <= exact[0].keys()
    targets = {row["set"]: len(row["networks"]) for row in rows if row["method"] == "targets"}
    assert targets["same"] >= 50
    assert len(targets) >= 6


def test_answers_replay_from_their_rows(rows):
    """At the distance told, every demand is met; bounds lie below."""
    networks = subject(Scale())
    for row in rows:
        if row["method"] != "exact" or row["distance"] is None:
            continue
        asked = Asked(row["position"], row["alpha"], row["gamma"], row["goal"], demand_of(row), row["block"])
        question = asked.question(networks)
        x = image_of(row, question.flat)
        assert question.slack(x) >= -1e-6
        assert question.distance(x) == pytest.approx(row["distance"], abs=1e-9)
        assert row["bound"] <= row["distance"]


def test_baselines_keep_the_distance(rows):
    networks = subject(Scale())
    for row in rows:
        if "budget" in row:
            nominal = networks.images[row["position"]]
            assert np.abs(image_of(row, nominal) - nominal).sum() <= row["budget"] + 1e-6


def test_more_networks_cost_more(rows):
    """Proven bounds of fewer networks never exceed an answer to more of them."""
    networks = [chosen(rows, alpha=alpha) for alpha in (0, 1, 2, 5, 10, 20)]
    for few, many in itertools.pairwise(networks):
        for position, row in many.items():
            assert few[position]["bound"] <= row["distance"] * (1 + 1e-6)


def test_shares_and_intervals_of_images(rows):
    clean = {row["position"]: row["seen"]["same"]["class"] for row in rows if row["method"] == "clean"}
    found = chosen(rows)
    table = {line[0]: line for line in certain.by_image(rows).rows}
    for position, row in found.items():
        counted = [
            answer == row["target"]
            for answer, unharmed in zip(row["seen"]["same"]["class"], clean[position], strict=True)
            if unharmed == row["true"]
        ]
        line = table[row["index"]]
        assert line[6] == f"{sum(counted)} of {len(counted)}"
        low, high = binomtest(sum(counted), len(counted)).proportion_ci(0.95, method="exact")
        assert line[7] == f"{100 * low:.0f} to {100 * high:.0f}"


def test_means_by_alpha(rows):
    clean = {row["position"]: row["seen"]["same"]["class"] for row in rows if row["method"] == "clean"}
    table = sheets.by_alpha(rows).rows
    shared = set.intersection(*(set(chosen(rows, alpha=int(line[0]))) for line in table))
    assert len(shared) >= 45
    for line in table:
        hits, trials = 0, 0
        for position in shared:
            row = chosen(rows, alpha=int(line[0]))[position]
            for answer, unharmed in zip(row["seen"]["same"]["class"], clean[position], strict=True):
                trials += unharmed == row["true"]
                hits += unharmed == row["true"] and answer == row["target"]
        assert line[6] == pytest.approx(hits / trials)


def test_bootstrap_of_alpha_5_by_loops(rows):
    """Images and targets drawn again and again, cell by cell; two methods of drawing agree within their noise."""
    clean = {row["position"]: row["seen"]["same"]["class"] for row in rows if row["method"] == "clean"}
    found = chosen(rows)
    positions = sorted(found)
    hit = np.array([np.array(found[p]["seen"]["same"]["class"]) == found[p]["target"] for p in positions])
    valid = np.array([np.array(clean[p]) == found[p]["true"] for p in positions])
    rng, means = np.random.default_rng(7), []
    for _ in range(1500):
        image, network = rng.integers(0, hit.shape[0], hit.shape[0]), rng.integers(0, hit.shape[1], hit.shape[1])
        counted = valid[np.ix_(image, network)]
        means.append(hit[np.ix_(image, network)][counted].mean())
    low, high = 100 * np.quantile(means, [0.025, 0.975])
    line = next(line for line in sheets.by_alpha(rows).rows if line[0] == "5")
    told = [float(end) for end in line[7].split(" to ")]
    assert told == pytest.approx([low, high], abs=1.5)


def test_differences_at_equal_distance_by_loops(rows):
    """Exact answers minus the gradient's, on images that every line of the table has an answer to."""
    clean = {row["position"]: row["seen"]["same"]["class"] for row in rows if row["method"] == "clean"}
    found, alone = chosen(rows), chosen(rows, alpha=0)
    others = {m: {r["position"]: r for r in rows if r["method"] == m} for m in baselines.METHODS}
    positions = sorted(set(found) & set(alone).intersection(*map(set, others.values())))
    valid = np.array([np.array(clean[p]) == found[p]["true"] for p in positions])

    def hits(answers):
        return np.array([np.array(answers[p]["seen"]["same"]["class"]) == found[p]["target"] for p in positions])

    table = {line[0]: line for line in rivals.by_method(rows).rows}
    exact = hits(found)
    rng = np.random.default_rng(11)
    for method, title in TITLES.items():
        apart = exact.astype(float) - hits(others[method])
        line = table[title]
        assert line[1] == len(positions)
        assert line[7] == pytest.approx(100 * apart[valid].mean())
        means = []
        for _ in range(1500):
            image, network = rng.integers(0, len(exact), len(exact)), rng.integers(0, exact.shape[1], exact.shape[1])
            counted = valid[np.ix_(image, network)]
            means.append(100 * apart[np.ix_(image, network)][counted].mean())
        told = [float(end) for end in line[8].split(" to ")]
        assert told == pytest.approx(np.quantile(means, [0.025, 0.975]).tolist(), abs=2.0)


def test_power_by_the_formula(rows):
    """The least difference shown: (1.96 + 0.84) standard errors, from the printed components and numbers."""
    for line in rivals.designs(rows).rows:
        _, images, targets, image, target, rest, detectable, wanted = line
        # The mask has holes, so that the effective numbers are a little smaller than those printed.
        error = np.sqrt(image**2 / images + target**2 / targets + rest**2 / (images * targets))
        assert 100 * 2.8016 * error <= detectable * (1 + 1e-3)
        assert detectable <= 1.15 * 100 * 2.8016 * error
        assert (wanted is None) == (100 * 2.8016 * image * np.sqrt(1 / images) > 10) or detectable > 8


def test_certificates_of_fresh_networks(rows):
    bounds = []
    for row in chosen(rows).values():
        classes = row["seen"]["same"]["class"]
        k, n = sum(c == row["target"] for c in classes), len(classes)
        bounds.append(beta.ppf(0.05, k, n - k + 1) if k else 0.0)
    line = next(line for line in certain.certificates(rows).rows if line[0] == 5)
    for told, proven in zip(line[5:8], (min(bounds), np.median(bounds), max(bounds)), strict=True):
        assert proven - 1e-3 < told <= proven


def test_no_target_is_a_network_of_the_attack(rows):
    attack = {network.fingerprint() for network in subject(Scale()).attack}
    targets = [row["fingerprint"] for part in rows if part["method"] == "targets" for row in part["networks"]]
    assert len(targets) == len(set(targets))
    assert not attack & set(targets)
    assert bundled_nominal().fingerprint() in attack


def test_rows_are_json(rows):
    assert json.loads(json.dumps(rows)) == rows
