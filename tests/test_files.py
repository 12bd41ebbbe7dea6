"""Atomic writes and pickle-free reads."""

import errno
import os
import pickle
import stat
import zipfile

import numpy as np
import pytest

from arfj.errors import ArfjError
from arfj.files import atomic_write, load_array, load_arrays, make_folder, save_arrays


def only(folder):
    return sorted(path.name for path in folder.iterdir())


class Interrupted(BaseException):
    """Stands for Ctrl-C, which is no Exception."""


@pytest.mark.parametrize("error", [RuntimeError, Interrupted])
def test_failure_midway_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def write():
        with atomic_write(path) as stream:
            stream.write(b"new")
            raise error

    with pytest.raises(error):
        write()
    assert path.read_bytes() == b"old"
    assert only(tmp_path) == ["file"]


def test_success_replaces_the_file_and_makes_folders(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    for content in (b"one", b"two"):
        with atomic_write(path) as stream:
            stream.write(content)
        assert path.read_bytes() == content
    assert only(path.parent) == ["file"]


def test_permissions_follow_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        with atomic_write(tmp_path / "file"):
            pass
        assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640
    finally:
        os.umask(before)


@pytest.mark.parametrize(
    ("number", "cure"), [(errno.ENOSPC, "disk is full"), (errno.EDQUOT, "quota"), (errno.EACCES, "permission")]
)
def test_failed_write_says_what_to_do(tmp_path, monkeypatch, number, cure):
    def refuse(descriptor):
        raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(ArfjError, match=cure), atomic_write(tmp_path / "file") as stream:
        stream.write(b"new")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert only(tmp_path) == ["file"]


def test_parent_that_is_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ArfjError, match="file"), atomic_write(tmp_path / "file" / "x"):
        pass
    with pytest.raises(ArfjError, match="file"), atomic_write(tmp_path / "file" / "deep" / "x"):
        pass
    with pytest.raises(ArfjError, match="in the way"):
        make_folder(tmp_path / "file")


def test_target_that_is_a_folder(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ArfjError, match="folder of that name"), atomic_write(tmp_path / "folder"):
        pass
    assert only(tmp_path) == ["folder"]


def test_make_folder(tmp_path):
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert make_folder(tmp_path / "a" / "b").is_dir()
    assert only(tmp_path / "a" / "b") == []


def test_arrays_round_trip_with_equal_bytes(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "word": np.array("relu"), "n": np.array(3)}
    for name in ("one.npz", "two.npz"):
        save_arrays(tmp_path / name, arrays)
    found = load_arrays(tmp_path / "one.npz")
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[key], arrays[key]) for key in arrays)
    assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()


def test_objects_are_not_saved(tmp_path):
    with pytest.raises(ValueError, match="Object arrays"):
        save_arrays(tmp_path / "a.npz", {"a": np.array([{}], dtype=object)})
    assert only(tmp_path) == []


def test_pickles_are_refused(tmp_path):
    np.savez(tmp_path / "objects.npz", a=np.array([{}], dtype=object))
    np.save(tmp_path / "objects.npy", np.array([{}], dtype=object))
    (tmp_path / "raw.npz").write_bytes(pickle.dumps([1]))
    (tmp_path / "raw.npy").write_bytes(pickle.dumps([1]))
    for name, read in [("objects.npz", load_arrays), ("objects.npy", load_array)]:
        with pytest.raises(ArfjError, match="refused"):
            read(tmp_path / name)
    for name, read in [("raw.npz", load_arrays), ("raw.npy", load_array)]:
        with pytest.raises(ArfjError, match="refused"):
            read(tmp_path / name)


def test_one_kind_of_file_for_the_other(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(2))
    np.savez(tmp_path / "a.npz", a=np.zeros(2))
    with pytest.raises(ArfjError, match="one bare array"):
        load_arrays(tmp_path / "a.npy")
    with pytest.raises(ArfjError, match="archive; expected one bare array"):
        load_array(tmp_path / "a.npz")
    assert np.array_equal(load_array(tmp_path / "a.npy"), np.zeros(2))


def test_member_that_is_no_array(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("notes.txt", "hello")
    with pytest.raises(ArfjError, match="broken"):
        load_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_damage_is_one_error(tmp_path, save):
    path = tmp_path / "a.npz"
    save(path, W0=np.arange(12.0).reshape(3, 4), b0=np.zeros(4))
    data = path.read_bytes()
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(100):
        broken = bytearray(data)
        for at in rng.integers(len(broken), size=3):
            broken[at] = rng.integers(256)
        path.write_bytes(broken[: rng.integers(1, len(broken) + 1)] if rng.random() < 0.3 else broken)
        try:
            load_arrays(path)
        except ArfjError:
            refused += 1
    assert refused > 50


def test_missing_file(tmp_path):
    with pytest.raises(ArfjError, match="does not exist"):
        load_arrays(tmp_path / "none.npz")
    with pytest.raises(ArfjError, match="does not exist"):
        load_array(tmp_path / "none.npy")


def test_a_pipe_and_a_link_stay_what_they_are(tmp_path):
    pipe, link, real = tmp_path / "pipe", tmp_path / "link", tmp_path / "real"
    os.mkfifo(pipe)
    link.symlink_to(real)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        for path in (pipe, link):
            with atomic_write(path) as stream:
                stream.write(b"unsat")
        assert os.read(reader, 100) == b"unsat"
    finally:
        os.close(reader)
    assert pipe.is_fifo()
    assert link.is_symlink()
    assert real.read_bytes() == b"unsat"
