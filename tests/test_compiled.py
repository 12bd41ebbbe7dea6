"""Bounds compiled by JAX: float64 proofs in every process, and programs that are kept for the next one."""

import contextlib
import json
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import SEESAW

from arfj.bounds import batched, crown_bounds
from arfj.bounds.ascent import compile_seconds
from arfj.bounds.batched import PhaseProgram
from arfj.bounds.compiled import Compiled, cache_folder, keep_programs
from arfj.cli import run
from arfj.network import Dense, Network
from arfj.region import Region
from arfj.verify.__main__ import main

jax = pytest.importorskip("jax")


def program(engine, **settings):
    rng = np.random.default_rng(0)
    sizes = (((3, 8), "relu"), ((8, 2), "linear"))
    network = Network(tuple(Dense(rng.normal(size=size), rng.normal(size=size[1]), kind) for size, kind in sizes))
    region = Region.between(-np.ones(3), np.ones(3))
    return PhaseProgram(network.graph(), crown_bounds(network, region), region, engine=engine, **settings)


def test_proofs_are_those_of_numpy_and_no_setting_changes():
    before = jax.numpy.ones(1, dtype=float).dtype
    found = program("jax", precision="float32")
    mixtures, signs = np.eye(2), np.zeros((2, found.neurons), dtype=np.int8)
    signs[0, 3], signs[1, 4] = 1, -1
    seconds = compile_seconds()
    answer = found(mixtures, signs)
    assert compile_seconds() > seconds
    seconds = compile_seconds()
    found(mixtures, signs)
    assert compile_seconds() == seconds
    again = program("numpy", steps=0)(mixtures, signs, answer.slopes, answer.betas)
    assert answer.bound.dtype == np.float64
    assert answer.bound == pytest.approx(again.bound, rel=1e-12)
    assert jax.numpy.ones(1, dtype=float).dtype == before


@pytest.mark.skipif(jax.config.jax_enable_x64, reason="float64 is on for the whole process")
@pytest.mark.filterwarnings("ignore:Explicitly requested dtype:UserWarning")
def test_rounded_to_float32_it_refuses(monkeypatch):
    monkeypatch.setattr(batched, "in_float64", lambda _engine: contextlib.nullcontext())
    with pytest.raises(TypeError, match="a proof is float64"):
        program("jax")


def test_a_signature_is_compiled_once():
    twice = Compiled(lambda factor, pair: (factor * pair[0], pair[1]), fixed=1)
    pair = (np.ones(3, dtype=np.float32), None)
    assert twice(2, pair)[0].tolist() == [2, 2, 2]
    first = twice.seconds
    assert first > 0
    assert twice(2, pair)[0].tolist() == [2, 2, 2]
    assert twice.seconds == first
    assert twice(3, pair)[0].tolist() == [3, 3, 3]
    second = twice.seconds
    assert second > first
    assert twice(3, (np.ones(4, dtype=np.float32), None))[0].tolist() == [3, 3, 3, 3]
    assert twice.seconds > second


@pytest.fixture
def told(monkeypatch, tmp_path):
    """What JAX, seeing a GPU, is told to set."""
    settings = {}
    config = SimpleNamespace(jax_compilation_cache_dir=None, update=settings.__setitem__)
    monkeypatch.setattr(jax, "config", config)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return settings


def test_programs_are_kept_in_the_users_cache(told, tmp_path):
    keep_programs()
    assert told == {"jax_compilation_cache_dir": str(tmp_path / "cache" / "arfj" / "jax")}
    assert cache_folder().is_dir()


def test_a_setting_of_the_user_stays(told):
    jax.config.jax_compilation_cache_dir = "elsewhere"
    keep_programs()
    assert told == {}


def test_a_cpu_keeps_nothing(told, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    keep_programs()
    assert told == {}


def test_without_a_place_nothing_is_kept(told, tmp_path):
    (tmp_path / "cache").write_bytes(b"no folder")
    keep_programs()
    assert told == {}


def test_the_users_folder_is_the_default(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "arfj" / "jax"


def test_verbose_verification_tells_the_seconds_of_compiling(tmp_path, capsys):
    SEESAW.save(tmp_path / "n.npz")
    names = "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
    (tmp_path / "p.vnnlib").write_text(f"{names}(assert (>= X_0 0.0))(assert (<= X_0 0.4))(assert (<= Y_0 Y_1))")
    assert run(main, [str(tmp_path / "n.npz"), str(tmp_path / "p.vnnlib"), "-v", "--json"]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["verdict"] == "robust"
    assert "s of them compiling" in told.err
