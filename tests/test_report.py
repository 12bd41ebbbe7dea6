"""What a user keeps of a run: resume, table, live line, figures."""

import contextlib
import errno
import io
import json
import math
import os
import sys
from dataclasses import replace

import numpy as np
import pytest
from processes import LIMIT, started

from arfj.attack.progress import Progress
from arfj.attack.result import AttackResult
from arfj.errors import ArfjError
from arfj.evaluate import Replay, Witness
from arfj.network import Network
from arfj.report import figure
from arfj.report.live import LiveLine, describe, describe_count, duration
from arfj.report.store import Store
from arfj.report.table import AttackTable, summary

NAMES = ("T-shirt/top", "Trouser", "Ankle boot")
DONE = AttackResult(
    kind="inner", true=2, target=0, alpha=1, gamma=0.2, scenarios=2, status="optimal", reason="", distance=1.5,
    bound=1.5, seconds=12.34, nodes=56, solver="scip", formulation="tight", variables=10, binaries=2, constraints=20,
    witness="w.npz", replay=Replay(True, 1.5, (0, 0), (0.1, 0.0), 0.0), label="test 7",
)  # fmt: skip
STOPPED = replace(DONE, status="feasible", reason="time limit of 60 s", bound=1.2, label="8")
NOTHING = replace(
    DONE, status="unknown", reason="no answer within 60 s", distance=None, bound=0.5, witness=None, replay=None
)


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "output" / "results.jsonl")


class TestStore:
    def test_empty(self, store):
        assert store.rows() == []
        assert store.find("a") is None
        assert store.settled("a", 60) is None
        assert not store.path.parent.exists()

    def test_row_comes_back(self, store):
        store.append("a", 60, DONE.as_json())
        assert store.rows() == [{**json.loads(json.dumps(DONE.as_json())), "key": "a", "time_limit": 60}]

    def test_last_row_of_a_key_counts(self, store):
        for key, distance in [("a", 3), ("b", 5), ("a", 2)]:
            store.append(key, 60, {"status": "feasible", "distance": distance})
        assert store.find("a")["distance"] == 2
        assert store.find("b")["distance"] == 5
        assert store.find("c") is None
        assert len(store.rows()) == 3

    @pytest.mark.parametrize("status", ["optimal", "infeasible"])
    def test_proven_rows_are_final(self, store, status):
        store.append("a", 60, {"status": status})
        assert store.settled("a", 1e9) is not None
        assert store.settled("a", math.inf) is not None

    @pytest.mark.parametrize("status", ["feasible", "unknown", "never heard of"])
    def test_unproven_rows_are_solved_again_with_more_time_only(self, store, status):
        store.append("a", 60, {"status": status})
        assert store.settled("a", 10) is not None
        assert store.settled("a", 60) is not None
        assert store.settled("a", 60.001) is None
        store.append("a", 120, {"status": status})
        assert store.settled("a", 100) is not None

    def test_no_time_limit_is_the_largest(self, store):
        store.append("a", math.inf, {"status": "feasible"})
        assert store.find("a")["time_limit"] is None
        assert store.settled("a", math.inf) is not None

    def test_no_nan_in_the_file(self, store):
        store.append("a", 60, {"bound": -math.inf, "replay": {"margins": (math.nan, 1.0)}})
        assert json.loads(store.path.read_text(), parse_constant=pytest.fail)["replay"]["margins"] == [None, 1.0]

    @pytest.mark.parametrize("half", ['{"key": "b", "sta', "{", '{"key": "b"}', "x" * 10_000])
    def test_half_line_of_a_killed_run(self, store, half):
        store.append("a", 60, DONE.as_json())
        whole = store.path.read_bytes()
        with store.path.open("ab") as stream:
            stream.write(half.encode())
        assert store.find("a") is not None
        store.append("c", 60, {"status": "optimal"})
        assert store.path.read_bytes().startswith(whole + b'{"status"')
        assert [row["key"] for row in store.rows()] == ["a", "c"]

    def test_file_that_is_one_half_line(self, store):
        store.path.parent.mkdir()
        store.path.write_text('{"key": "a", ')
        store.append("b", 1, {})
        assert [row["key"] for row in store.rows()] == ["b"]

    def test_lines_of_others_are_skipped(self, store):
        store.append("a", 60, {})
        with store.path.open("ab") as stream:
            stream.write(b'hello\n[1]\n{"no": "key"}\n\xff\xfe\n\n')
        store.append("b", 60, {})
        assert [row["key"] for row in store.rows()] == ["a", "b"]

    @pytest.mark.parametrize("part", [0, 7])
    def test_full_disk_leaves_the_file_as_it_was(self, store, monkeypatch, part):
        store.append("a", 60, {})
        before = store.path.read_bytes()
        write, calls = os.write, []

        def refuse(descriptor, data):
            calls.append(data)
            if len(calls) == 1 and part:
                return write(descriptor, data[:part])
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "write", refuse)
        with pytest.raises(ArfjError, match="disk is full"):
            store.append("b", 60, {})
        assert calls
        assert store.path.read_bytes() == before

    def test_folder_that_cannot_be_made(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ArfjError, match="cannot write"):
            Store(tmp_path / "file" / "results.jsonl").append("a", 1, {})
        (tmp_path / "results.jsonl").mkdir()
        with pytest.raises(ArfjError, match="cannot read"):
            Store(tmp_path / "results.jsonl").rows()

    def test_many_processes_append(self, store):
        code = """if True:
            import sys
            from pathlib import Path
            from arfj.report.store import Store
            for i in range(40):
                Store(Path(sys.argv[1])).append(f"{sys.argv[2]} {i}", 1, {"fill": "x" * 9000})
            """
        with contextlib.ExitStack() as running:
            jobs = [running.enter_context(started("-c", code, store.path, n)) for n in range(3)]
            assert [job.wait(LIMIT) for job in jobs] == [0, 0, 0]
        assert sorted(row["key"] for row in store.rows()) == sorted(f"{n} {i}" for n in range(3) for i in range(40))
        assert store.path.read_bytes().count(b"\n") == 120


class TestTable:
    def printed(self, *results, names=NAMES):
        stream = io.StringIO()
        table = AttackTable([result.label for result in results], names, stream)
        table.start()
        for result in results:
            table.add(result)
        table.finish(results)
        return stream.getvalue().splitlines()

    def test_text(self):
        assert self.printed(DONE, STOPPED, NOTHING) == [
            "image   true -> target               distance      bound    gap %   seconds    nodes  status      replay",
            "test 7  Ankle boot -> T-shirt/top     1.50000    1.50000    0.000      12.3       56  optimal     hit",
            "8       Ankle boot -> T-shirt/top     1.50000    1.20000   20.000      12.3       56  feasible    hit"
            "     time limit of 60 s",
            "test 7  Ankle boot -> T-shirt/top           -    0.50000        -      12.3       56  unknown     -"
            "       no answer within 60 s",
            "3 images: 1 optimal, 1 feasible, 1 unknown; 2 of 2 answers hit on replay; mean distance 1.50000; "
            "largest gap 20.000 %; 37.0 s",
        ]

    def test_class_numbers(self):
        assert self.printed(DONE, names=None)[1].startswith("test 7  2 -> 0          ")

    def test_missed_replay_is_loud(self):
        missed = replace(DONE, replay=replace(DONE.replay, hit=False))
        assert "MISS" in self.printed(missed)[1]
        assert "0 of 1 answers hit" in summary([missed])

    def test_nothing(self):
        assert summary([], 1.0) == "0 images: nothing solved; 1.0 s"
        assert "infeasible" in summary([replace(NOTHING, status="infeasible")])

    def test_rows_stream(self):
        class Stream(io.StringIO):
            flushed = 0

            def flush(self):
                self.flushed = len(self.getvalue())

        stream = Stream()
        AttackTable(stream=stream).add(DONE)
        assert stream.flushed == len(stream.getvalue()) > 0

    def test_long_reasons_stay_on_one_line(self):
        assert len(self.printed(replace(STOPPED, reason="because " * 60))) == 3


class Terminal(io.StringIO):
    def isatty(self):
        return True


MOMENT = Progress(3, 10, "test 7", "branch and bound", 2.0, 1.5, 1234, 30.4, 600.0)


class TestLiveLine:
    def test_sequential(self):
        assert describe(MOMENT, since=5) == (
            "3/10 test 7  9:24 min left  distance 2.0000  bound 1.5000  gap 25.0 %  branch and bound  1234 nodes"
        )
        assert describe(Progress(1, 1, "7", "bounds")) == "1/1 7  0 s  bounds"
        assert "  0 s left  " in describe(replace(MOMENT, elapsed=700.0))

    def test_parallel(self):
        assert describe_count(0, 10, 3.0) == "0 of 10 images done  3 s"
        assert describe_count(4, 10, 60.0) == "4 of 10 images done  1:00 min  about 1:30 min left"
        assert describe_count(10, 10, 60.0) == "10 of 10 images done  1:00 min"

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (60, "1:00 min"), (3599, "59:59 min"), (3723, "1:02:03 h")]
    )
    def test_duration(self, seconds, text):
        assert duration(seconds) == text

    def test_silent_without_a_terminal(self, capsys, monkeypatch):
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("FORCE_COLOR", "1")  # what rich takes for a terminal
        with LiveLine() as live:
            live.update(MOMENT)
            with live.aside():
                print("row")
            live.count(1, 2)
        assert capsys.readouterr() == ("row\n", "")

    def test_on_a_terminal(self, monkeypatch, capsys):
        terminal = Terminal()
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("COLUMNS", "60")
        monkeypatch.setattr(sys, "stderr", terminal)
        with LiveLine() as live:
            live.update(MOMENT)
            with live.aside():
                shown = terminal.getvalue()
                print("row")
                assert terminal.getvalue() == shown
            live.count(1, 2)
            print("out of place, but on stdout")
        assert "3/10 test 7" in terminal.getvalue()
        assert "1 of 2 images" in terminal.getvalue()
        assert capsys.readouterr().out == "row\nout of place, but on stdout\n"


def witness_of(shape, seed=0):
    rng = np.random.default_rng(seed)
    x, nominal = rng.random(shape), rng.random(shape)
    return Witness(x, nominal, 2, 0, 0.2, float(np.abs(x - nominal).sum()), 1.0)


def networks_for(shape, count=2):
    rng = np.random.default_rng(1)
    size = math.prod(shape)
    return [Network.from_arrays([rng.normal(size=(size, 3))], [np.zeros(3)]) for _ in range(count)]


class TestFigure:
    @pytest.fixture(autouse=True)
    def _needs_matplotlib(self):
        pytest.importorskip("matplotlib")

    def size(self, path):
        from PIL import Image

        with Image.open(path) as image:
            image.load()
            assert image.format == "PNG"
            assert len(set(image.convert("L").getextrema())) == 2
            return image.size

    @pytest.mark.parametrize("shape", [(28, 28), (49,), (5,), (4, 6, 1), (3, 4, 4)])
    def test_draw(self, tmp_path, shape):
        path = tmp_path / "a.png"
        figure.draw(witness_of(shape), networks_for(shape), DONE, path, NAMES if len(shape) > 1 else None)
        assert self.size(path) == (1760, 504)

    def test_two_classes_and_many_networks_and_no_change(self, tmp_path):
        witness = replace(witness_of((9,)), true=1)
        nets = [Network.from_arrays([np.ones((9, 2))], [np.zeros(2)])] * 21
        figure.draw(
            replace(witness, nominal=witness.x), nets, replace(STOPPED, alpha=21, scenarios=21), tmp_path / "a.png"
        )
        self.size(tmp_path / "a.png")

    @pytest.mark.parametrize("count", [1, 5, 10])
    def test_overview(self, tmp_path, count):
        figure.overview([(witness_of((28, 28), n), DONE) for n in range(count)], tmp_path / "a.png", NAMES)
        assert self.size(tmp_path / "a.png")[0] == (1792 if count > 5 else 896)

    def test_overview_of_nothing(self, tmp_path):
        with pytest.raises(ArfjError, match="at least one"):
            figure.overview([], tmp_path / "a.png")

    def test_equal_bytes(self, tmp_path):
        for name in ("a.png", "b.png"):
            figure.draw(witness_of((16,)), networks_for((16,)), DONE, tmp_path / name)
        assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()

    def test_no_global_state(self, tmp_path, monkeypatch):
        import matplotlib as mpl

        monkeypatch.delitem(sys.modules, "matplotlib.pyplot", raising=False)  # another test may have loaded it
        before = [mpl.rcParams[key] for key in figure.STYLE]
        figure.draw(witness_of((16,)), networks_for((16,)), DONE, tmp_path / "a.png")
        assert [mpl.rcParams[key] for key in figure.STYLE] == before
        assert "matplotlib.pyplot" not in sys.modules

    def test_without_matplotlib(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
        with pytest.raises(ArfjError, match=r"pip install 'arfj\[plot\]'"):
            figure.draw(witness_of((16,)), networks_for((16,)), DONE, tmp_path / "a.png")
        assert list(tmp_path.iterdir()) == []

    def test_names_of_the_scenarios(self):
        assert figure.scenario_names(DONE, 2) == ["nominal", "1"]
        assert figure.scenario_names(replace(DONE, alpha=2), 2) == ["1", "2"]


@pytest.mark.parametrize(
    ("shape", "shown"),
    [
        ((49,), (7, 7)),
        ((4, 6), (4, 6)),
        ((4, 6, 1), (4, 6)),
        ((1, 4, 6), (4, 6)),
        ((3, 4, 6), (4, 6, 3)),
        ((4, 6, 3), (4, 6, 3)),
    ],
)
def test_picture(shape, shown):
    assert figure.picture(np.zeros(shape)).shape == shown


@pytest.mark.parametrize("shape", [(5,), (1,), (2, 2, 5), (2, 2, 2, 2)])
def test_no_picture(shape):
    assert figure.picture(np.zeros(shape)) is None
