"""Tables and figures of the paper: measured in a small form, printed from rows, checked against what must hold."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from paper_rows import THREE, answer_row, rows_file, said

from arfj.attack import solve_question
from arfj.cli import run
from arfj.data import bundled_images, bundled_nominal, bundled_outer
from arfj.ensemble import d_in, d_osd
from arfj.errors import ArfjError, DataError
from arfj.evaluate import Witness, cross_check
from experiments import answers
from experiments.__main__ import main
from experiments.answers import change, seen
from experiments.paper import claims, figures, grey_box, published, table1, table2, table3, table45, ten
from experiments.paper.published import IRAE_OVER, ORAE_TOTAL, Published, beside
from experiments.paper.shares import mean, shares
from experiments.sheets import Column, Sheet
from experiments.studies import read

SHEETS = [
    "table1", "table1_published", "table2", "table2_published", "table3", "table3_published", "table3_sizes",
    "table45", "table4", "table5", "grey_box", "claims",
]  # fmt: skip

# Seconds that are enough where other work is done beside the tests.
SMOKE = ("paper", "--smoke", "--limit", "100", "--jobs", "1", "--out")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """Every study in its small form, once; the data set is not asked for."""
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        for module in (table1, table2):
            patch.setattr(module, "load_fashion_mnist", lambda: pytest.fail("the smoke form asked for Fashion-MNIST"))
        assert run(main, [*SMOKE, str(folder)]) == 0
    return folder


@pytest.mark.slow
class TestSmoke:
    def test_every_sheet_and_figure_is_written(self, smoke):
        for name in SHEETS:
            assert (smoke / f"{name}.md").read_text().startswith("**")
            assert (smoke / f"{name}.tex").read_text().startswith("\\begin{table}")
            with (smoke / f"{name}.csv").open() as stream:
                head, *lines = csv.reader(stream)
            assert lines
            assert all(len(line) == len(head) for line in lines)
        for number in range(1, 5):
            assert (smoke / f"figure{number}.png").read_bytes().startswith(b"\x89PNG")
            assert (smoke / f"figure{number}.pdf").read_bytes().startswith(b"%PDF")
        assert len(list(smoke.iterdir())) == 3 * len(SHEETS) + 2 * 4 + 1

    def test_rows_are_those_of_the_attack(self, smoke):
        """Distances known from the attack's own committed rows; the ordering is asserted on them."""
        found = {row["key"]: row for row in read(smoke / "results.jsonl")}
        for key, distance in {"answer/FJAE/1": 11.02373, "answer/IRAE/1": 11.02430, "answer/ORAE/1": 11.80197}.items():
            assert found[key]["status"] == "optimal"
            assert found[key]["distance"] == pytest.approx(distance, abs=2e-5)
            assert set(found[key]["seen"]) == {"inner", "outer"}
        assert set(found["grey/ORAE/1"]["seen"]) == {"attacked"}
        assert {key.split("/")[0] for key in found} == {"refit", "outer", "size", "answer", "grey"}

    def test_refitted_networks_hardly_move(self, smoke):
        for row in read(smoke / "results.jsonl"):
            if row["key"].startswith("refit/"):
                assert 0 < row["d_osd"] < row["d_in"] < 1
                assert table1.LEAST <= row["probability"] <= table1.MOST

    def test_a_second_run_makes_nothing_anew(self, smoke):
        path = smoke / "results.jsonl"
        before = path.read_bytes()
        pictures = {name.name: name.read_bytes() for name in smoke.glob("*.p*")}
        assert run(main, [*SMOKE, str(smoke)]) == 0
        assert path.read_bytes() == before
        assert {name.name: name.read_bytes() for name in smoke.glob("*.p*")} == pictures

    def test_a_run_that_was_killed_goes_on(self, smoke, tmp_path):
        """Two rows gone, and half of a third: these are made again, and no others."""
        lines = (smoke / "results.jsonl").read_bytes().splitlines(keepends=True)
        path = tmp_path / "results.jsonl"
        path.write_bytes(b"".join(lines[:-2])[: -len(lines[-3]) // 2])
        kept = lines[:-3]
        assert run(main, [*SMOKE, str(tmp_path)]) == 0
        again = path.read_bytes().splitlines(keepends=True)
        assert again[: len(kept)] == kept
        keys = [json.loads(line)["key"] for line in again]
        assert sorted(keys) == sorted(json.loads(line)["key"] for line in lines)

    def test_other_processes_give_the_same_answer(self, tmp_path):
        assert run(main, ["table3", "--smoke", "--jobs", "2", "--only", "answer/FJAE", "--out", str(tmp_path)]) == 0
        rows = read(tmp_path / "results.jsonl")
        assert [row["distance"] for row in rows] == [pytest.approx(11.02373, abs=2e-5)]
        assert all(row["seen"]["inner"]["class"] == 15 * [row["target"]] for row in rows)


def test_an_open_row_is_gone_on_from(monkeypatch):
    """Its answer and its bound are handed on, and its seconds count; a row without an answer hands on nothing."""
    asked = []

    def solve(question, options, path, label, earlier=None):
        asked.append(earlier)
        return solve_question(question, options, path, label, earlier=earlier)

    monkeypatch.setattr(answers, "solve_question", solve)
    first = ten.answer("FJAE", 9, 20.0)
    far = bundled_images().nominal[8]
    row = first | {
        "change": change(far, bundled_images().nominal[9]),
        "distance": 300.0,
        "bound": 1.25,
        "seconds": 1000.0,
    }
    (task,) = (task for task in ten.answers(ten.Scale("full"), [row]) if task.key == "answer/FJAE/9")
    second = task.call()
    assert asked[0] is None
    assert asked[1].bound == 1.25
    assert np.array_equal(asked[1].x, far)
    assert second["distance"] == pytest.approx(first["distance"], abs=1e-5)
    assert second["seconds"] > 1000.0
    assert answers.going_on(row | {"change": None, "distance": None}, far) is None


def test_no_tensorflow_but_for_table1(tmp_path):
    code = (
        "import sys; sys.modules['tensorflow'] = None; sys.modules['keras'] = None\n"
        "from experiments.__main__ import main\n"
        f"main(['table2', '--smoke', '--jobs', '1', '--out', {str(tmp_path)!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "| outer 5 |" in done.stdout


class TestTable1:
    ROWS = tuple(
        {"key": f"refit/{rate}/0", "rate": rate, "image": 4, "label": 2, "probability": 0.96, "before": 0.85,
         "after": 0.8512, "d_in": 4 * rate, "d_osd": rate / 5, "test_images": 10000, "data": "training"}
        for rate in table1.RATES
    )  # fmt: skip

    def test_known_rows(self):
        first, second, third = table1.sheets(self.ROWS)
        assert first.markdown().splitlines()[4] == "| 4 | 2 | 0.9600 | 85.00 % | 85.12 % | 0.12 | 0.0400 | 0.00200 |"
        assert second.markdown().splitlines()[4:7] == [
            "| d_in | Table 1 | 0.040 | 0.009 to 0.095 | 1 of 1 |",
            "| d_osd | Table 1 | 0.0020 | 0.0007 to 0.0080 | 1 of 1 |",
            "| change of the accuracy, points, either way | Table 1 | 0.12 | at most 0.10 | 0 of 1 |",
        ]
        assert third.markdown().splitlines()[4:8] == [
            "| 0.1 | 0.400 | 0.0200 | 0.12 |",
            "| 0.01 | 0.040 | 0.0020 | 0.12 |",
            "| 0.001 | 0.004 | 0.0002 | 0.12 |",
            "| published | 0.009 to 0.095 | 0.0007 to 0.0080 | at most 0.10 |",
        ]

    def test_images_are_chosen_by_their_probability(self):
        rows = np.full((8, 10), 0.0)
        own = [0.94, 0.95, 0.9951, 0.995, 0.97, 0.96, 0.98, 0.99]
        rows[np.arange(8), 3] = own
        assert table1.chosen(rows, np.full(8, 3)) == [1, 3, 4, 5, 6]
        with pytest.raises(ArfjError, match="only 1 of 2"):
            table1.chosen(rows[:2], np.full(2, 3))

    def test_without_the_data_set_the_other_studies_go_on(self, tmp_path, monkeypatch, capsys):
        def missing():
            raise DataError("Fashion-MNIST is in none of four places")

        monkeypatch.setattr(table1, "load_fashion_mnist", missing)
        monkeypatch.setattr(table2, "at_hand", lambda: False)
        table1.training_images.cache_clear()
        assert run(main, ["table1", "table2", "--run", "--jobs", "1", "--out", str(tmp_path)]) == 1
        printed = capsys.readouterr()
        assert "in none of four places" in printed.err.splitlines()[-1]
        assert "Accuracy on 200 test images" in printed.out
        # Once it is there, what was measured on few images is made again.
        monkeypatch.setattr(table2, "at_hand", lambda: True)
        rows = read(tmp_path / "results.jsonl")
        (task, *_) = table2.stage(ten.Scale("full"), rows)
        assert task.limit > next(row["time_limit"] for row in rows if row["key"] == task.key)


class TestTable2:
    ROWS = tuple(
        {
            "key": f"outer/{at}",
            "network": at,
            "accuracy": 0.85,
            "d_osd": 0.07 * at,
            "d_in": 901.26 * at,
            "test_images": 9,
        }
        for at in range(3)
    )

    def test_known_rows(self):
        first, second = table2.sheets(self.ROWS)
        assert first.markdown().splitlines()[4:7] == [
            "| nominal | 85.00 % | 0.0000 | 0.0 |",
            "| outer 1 | 85.00 % | 0.0700 | 901.3 |",
            "| outer 2 | 85.00 % | 0.1400 | 1802.5 |",
        ]
        assert second.markdown().splitlines()[4:6] == [
            "| d_osd | Table 2 | 0.07 to 0.14 | 0.11 to 0.15 | 1 of 2 |",
            "| d_in | Table 2 | 901 to 1,803 | 890 to 970 | 1 of 2 |",
        ]

    def test_a_sample_outside_of_the_set_is_an_error(self):
        assert table2.violations(self.ROWS) == []
        (sentence,) = table2.violations([self.ROWS[1] | {"d_osd": 0.2}])
        assert sentence == "outer/1 has d_osd 0.2000, not below 0.2"


class TestTable3:
    def test_known_rows(self):
        sheet, ranges = table3.sheets(THREE)
        assert sheet.markdown().splitlines()[2:] == [
            "| image | true → target | model | distance | proven bound | gap | seconds | nodes | over FJAE |",
            "|---|---|---|---:|---:|---:|---:|---:|---:|",
            "| 00001 | 1 → 0 | FJAE | 8.00000 | 8.00000 | 0.0000 % | 1.2 | 7 | - |",
            "| 00001 | 1 → 0 | IRAE | 8.00080 | 8.00080 | 0.0000 % | 1.2 | 7 | 0.010 % |",
            "| 00001 | 1 → 0 | ORAE | 12.00000 | 11.40000 | 5.0000 % | 1.2 | 7 | 50.000 % |",
            "",
            "- FJAE: 1 of 1 proven optimal; 1 replayed hits; 1 s in all.",
            "- IRAE: 1 of 1 proven optimal; 1 replayed hits; 1 s in all.",
            "- ORAE: 0 of 1 proven optimal, the largest open gap 5.00 %; 1 replayed hits; 1 s in all.",
            "- FJAE at most IRAE and FJAE at most ORAE: checked on 2 pairs, holds on all.",
        ]
        assert ranges.markdown().splitlines()[4:7] == [
            "| distance of IRAE above that of FJAE | Table 3 | 0.010 % | at most 0.020 % | 1 of 1 |",
            "| distance of ORAE above that of FJAE | Table 3 | 50 % | 19 to 135 % | 1 of 1 |",
            "| seconds of an ORAE (CPU seconds there, wall clock here) | Table 3 | 1 | 312 to 30,949 | 0 of 1 |",
        ]

    def test_sizes_stand_beside_the_published_ones(self):
        rows = [table3.size("FJAE") | {"key": "size/FJAE"}, table3.size("ORAE") | {"key": "size/ORAE"}]
        sheet = table3.sheets([*rows, *THREE, answer_row("ORAE", 2, 12.0, binaries=9)])[-1]
        assert sheet.markdown().splitlines()[4:10] == [
            "| FJAE | 1 | published | 1772 | 68 | 2565 |",
            "| FJAE | 1 | paper, built here | 1772 | 68 | 2565 |",
            "| FJAE | 1 | tight, solved here | 10 | 4 | 5 |",
            "| ORAE | 6 | published | 6712 | 408 | 8334 |",
            "| ORAE | 6 | paper, built here | 6712 | 408 | 8334 |",
            "| ORAE | 6 | tight, solved here | 10 | 4 to 9 | 5 |",
        ]

    @pytest.mark.parametrize(
        ("changed", "told"),
        [
            (answer_row("IRAE", 1, 7.9), "IRAE of class 1 has distance 7.9, below the bound 8 proven for FJAE"),
            (answer_row("ORAE", 1, 9.0, 9.5), "ORAE of class 1 has distance 9, below the bound 9.5 proven for ORAE"),
            (answer_row("ORAE", 1, 12.0, replay={"hit": False}), "ORAE of class 1 has an answer that does not replay"),
        ],
    )  # fmt: skip
    def test_a_violation_is_an_error(self, tmp_path, capsys, changed, told):
        """The tables are printed all the same."""
        rows = [*(row for row in THREE if row["key"] != changed["key"]), changed]
        path = rows_file(tmp_path / "r.jsonl", *rows)
        assert run(main, ["table3", "--rows", str(path)]) == 1
        printed = capsys.readouterr()
        assert printed.err.splitlines()[-1] == f"error: table3: {told}"
        assert f"- Violated: {told}." in printed.out

    def test_open_proofs_are_compared_by_their_bounds(self):
        """An FJAE that is not proven says nothing by its distance, and all by its bound."""
        open_one = answer_row("FJAE", 1, 8.5, 7.5, "feasible")
        assert table3.violations([open_one, answer_row("IRAE", 1, 8.0)]) == []
        assert len(table3.violations([open_one, answer_row("IRAE", 1, 7.4)])) == 1
        assert table3.violations([answer_row("FJAE", 1, 8.0), answer_row("IRAE", 1, 8.0 - 8e-6)]) == []
        nothing = answer_row("ORAE", 1, None, 9.0, "unknown")
        assert table3.violations([open_one, nothing]) == []
        sheet = table3.sheets([open_one, nothing])[0]
        assert sheet.rows[1][-1] is None
        assert "ORAE: 0 of 1 proven optimal, 1 without an answer; 0 replayed hits; 1 s in all." in sheet.notes


class TestShares:
    def test_by_hand(self):
        row = answer_row("FJAE", 1, 8.0) | {
            "seen": {"outer": said([0, 1, 7, 0], [0.9, 0.2, 0.1, 0.6], [0.1, 0.7, 0.3, 0.1], [0.1, 0.7, 0.6, 0.2])}
        }
        found = shares(row, "outer")
        rates, probabilities = (0.5, 0.25, 0.25), (0.45, 0.3, 0.25)
        assert found.cells == pytest.approx((*rates, *probabilities, 0.15, 0.05))
        assert mean([found, found]) == found

    @given(hnp.arrays(np.float64, 784, elements=st.floats(0, 1)), st.integers(0, 9), st.integers(1, 9))
    def test_agrees_with_the_evaluator(self, x, true, step):
        """On any image; the rows hold four decimals."""
        target = (true + step) % 10
        networks = bundled_outer()
        check = cross_check(Witness(x, x, true, target, 0.2, 0.0, 0.0), networks)
        found = shares({"target": target, "true": true, "seen": {"outer": seen(x, true, target, networks)}}, "outer")
        assert found.cells[:3] == pytest.approx((check.rate.target, check.rate.true, check.rate.other))
        probabilities = (check.probability.target, check.probability.true, check.probability.other)
        assert found.cells[3:] == pytest.approx((*probabilities, check.weak_confidence, check.margin), abs=2e-4)


def test_means_and_gain():
    """Two images, one of them without an ORAE: the gain is over the images that both have."""
    hit, miss = said([0, 0], [0.8, 0.8], [0.1, 0.1], [0.1, 0.1]), said([1, 1], [0.1, 0.1], [0.8, 0.8], [0.8, 0.8])
    rows = [
        answer_row("FJAE", 1, 8.0, seen={"inner": hit, "outer": miss}),
        answer_row("ORAE", 1, 9.0, seen={"inner": hit, "outer": hit}),
        answer_row("FJAE", 2, 8.0, seen={"inner": hit, "outer": {**hit, "class": [5, 5]}}),
        answer_row("IRAE", 3, None, 1.0, "unknown"),
    ]
    whole, fourth, fifth = table45.sheets(rows)
    lines = whole.markdown().splitlines()
    assert lines[6] == (
        "| Table 5 | outer | FJAE | 0.0 % | 50.0 % | 50.0 % "
        "| 0.4500 | 0.4500 | 0.1000 | 0.0000 | 0.0000 | mostly fails |"
    )
    assert "- On fresh outer networks ORAE hits 100.0 points more than FJAE." in lines
    assert not any("more than IRAE" in line for line in lines)
    assert [line[:2] for line in fourth.rows] == [
        ("1 → 0", "FJAE"), ("1 → 0", "ORAE"), ("2 → 1", "FJAE"), ("mean", "FJAE"), ("mean", "ORAE"),
    ]  # fmt: skip
    assert fifth.rows[-1][2:5] == (1.0, 0.0, 0.0)


class TestClaims:
    @staticmethod
    def told(rows):
        return [(claim.here, claim.holds) for claim in claims.judged(rows)]

    def test_of_distances(self):
        assert self.told(THREE) == [("2 of 2", True), ("0.010 %", True), ("50 %", True)]
        wrong = [*THREE[:1], answer_row("IRAE", 1, 7.9), answer_row("ORAE", 1, 20.0)]
        assert self.told(wrong) == [("1 of 2", False), ("-1.250 %", True), ("150 %", False)]

    def test_of_networks(self):
        near, far = TestTable1.ROWS[1], TestTable2.ROWS[1]
        assert self.told([near, far]) == [("at most 0.12", False), ("22,532 times", True)]
        assert self.told([near | {"after": 0.85}, far | {"d_in": 1.0}]) == [
            ("at most 0.00", True), ("25 times", False),
        ]  # fmt: skip
        assert self.told([]) == []
        assert claims.sheets([]) == []

    def test_of_fresh_networks(self):
        """Only the image that all kinds have counts."""
        hit, half, miss = (said(found, *3 * ([0.3, 0.3],)) for found in ([0, 0], [0, 1], [1, 1]))
        rows = [
            answer_row("FJAE", 1, 8.0, seen={"inner": hit, "outer": miss}),
            answer_row("IRAE", 1, 8.0, seen={"inner": hit, "outer": half}),
            answer_row("ORAE", 1, 9.6, seen={"inner": half, "outer": hit}),
            answer_row("FJAE", 2, 8.0, seen={"inner": hit, "outer": {**hit, "class": [1, 1]}}),
        ]
        assert self.told(rows)[-3:] == [
            ("by 50.0 % at least", False), ("fooled: 0.0 % and 50.0 %", False), ("100.0 %, +50.0 points", True),
        ]  # fmt: skip


class TestGreyBox:
    def test_the_attacked_network_is_no_scenario(self):
        prints = {kind: [network.fingerprint() for network in grey_box.scenarios(kind)] for kind in ten.KINDS}
        assert all(bundled_nominal().fingerprint() not in found for found in prints.values())
        assert [len(found) for found in prints.values()] == [1, 6, 5]
        assert prints["IRAE"][0] == prints["FJAE"][0] == grey_box.artificial().fingerprint()
        assert not set(prints["ORAE"]) & set(prints["IRAE"])
        osd = bundled_images().osd
        assert d_osd(grey_box.artificial().probabilities(osd), bundled_nominal().probabilities(osd)) < 0.2
        for network in tuple(grey_box.scenarios("IRAE"))[1:]:
            assert d_in(network, grey_box.artificial()) == pytest.approx(0.05)

    def test_known_rows(self):
        hit, miss = said([0], [0.5], [0.25], [0.25]), said([2], [0.25], [0.5], [0.5])
        grey = [answer_row("FJAE", true, 4.0 * true, role="grey", d_osd=0.1) for true in (1, 2)]
        rows = [row | {"seen": {"attacked": one}} for row, one in zip(grey, (hit, miss), strict=True)]
        none = answer_row("FJAE", 3, None, 1.0, "unknown", role="grey", d_osd=0.1)
        (sheet,) = grey_box.sheets([*rows, none])
        assert sheet.markdown().splitlines()[4] == (
            "| FJAE | 1 | 3 | 1 | 6.000 | 0.3750 | 0.3750 | 0.2500 | 0.0000 | 0.0000 | 0.00 % |"
        )


class TestFigures:
    def test_the_curve_falls_behind_each_probability(self):
        levels = np.array([0.0, 0.2, 0.2001, 0.7, 0.71, 1.0])
        assert figures.reached(np.array([0.2, 0.7, 0.7]), levels).tolist() == [3, 3, 2, 2, 0, 0]

    def test_drawn_from_rows(self):
        nominal = bundled_images().nominal[9]
        x = nominal.copy()
        x[:3] = 0.5
        rows = [answer_row(kind, 9, 1.5, change=change(x, nominal)) for kind in ten.KINDS]
        grey = answer_row("ORAE", 9, 1.5, role="grey", seen={"attacked": said([8], [0.6], [0.2], [0.2])})
        drawn = figures.figures([*rows, grey])
        assert list(drawn) == ["figure1", "figure2", "figure3", "figure4"]
        texts = [text.get_text() for text in drawn["figure2"]().texts]
        assert texts == ["IRAE: Boot → Bag", "L1 distance 1.500   ·   proven optimal   ·   6 networks"]
        shown_images = [axes.images[0].get_array() for axes in drawn["figure3"]().axes if axes.images]
        assert np.allclose(shown_images[1].ravel(), x - nominal)
        curve = drawn["figure4"]().axes[0].lines[-1]
        assert curve.get_xdata().tolist() == [0.0, 0.6, 1.0]
        assert curve.get_ydata().tolist() == [1.0, 1.0, 0.0]

    def test_one_image_for_all_three(self):
        assert figures.shown([("FJAE", 9), ("IRAE", 9), ("FJAE", 2), ("IRAE", 2), ("ORAE", 2)]) == 2
        assert figures.shown([("FJAE", 2), ("FJAE", 9)]) == 9
        assert figures.shown([("FJAE", 5), ("FJAE", 2)]) == 2

    def test_without_answers_nothing_is_drawn(self):
        assert figures.figures([answer_row("FJAE", 9, None, 1.0, "unknown")]) == {}


class TestPublished:
    def test_ranges(self):
        one = Published("q", "Table 0", 19, 135, 0, " %")
        assert one.told == "19 to 135 %"
        assert one.here([7.4, 46.9]) == "7 to 47 %"
        assert [one.holds(value) for value in (18.4, 18.6, 135.4, 135.6)] == [False, True, True, False]
        assert IRAE_OVER.told == "at most 0.020 %"
        assert IRAE_OVER.here([-1e-9]) == "0.000 %"
        assert ORAE_TOTAL.told == "87,469"
        assert beside("n", "t", [(one, [])]).rows == []

    def test_every_number_is_known(self):
        """A published number that is not among these has no source."""
        ranges = {(one.low, one.high) for one in vars(published).values() if isinstance(one, Published)}
        assert ranges == {
            (0.009, 0.095), (0.0007, 0.008), (None, 0.1), (0.11, 0.15), (890, 970), (None, 0.02), (19, 135),
            (312, 30949), (87469, 87469),
        }  # fmt: skip


def test_latex_and_csv():
    sheet = Sheet(
        "s", "50 % & more", [Column("a_b"), Column("n", 1, percent=True)], [("1 → 0", 0.125), ("{~}", None)], ["x < 1"]
    )
    assert sheet.csv() == "a_b,n\n1 → 0,0.125\n{~},\n"
    assert sheet.latex() == "\n".join([
        "\\begin{table}", "\\centering", "\\caption{50 \\% \\& more}", "\\label{tab:s}", "\\begin{tabular}{lr}",
        "\\toprule", "a\\_b & n \\\\", "\\midrule", "1 $\\to$ 0 & 12.5 \\% \\\\",
        "\\{\\textasciitilde{}\\} & - \\\\", "\\bottomrule",
        "\\end{tabular}", "\\par\\smallskip\\footnotesize x $<$ 1", "\\end{table}", "",
    ])  # fmt: skip
