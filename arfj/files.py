"""Atomic writes and pickle-free reads: a killed run leaves the old file or the new one, never half of either."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from numpy.typing import NDArray

from arfj.errors import ArfjError, UsageError

_CURES = {
    errno.EACCES: "no permission to write there; choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.ENOSPC: "the disk is full; free some space or choose another folder",
    errno.EDQUOT: "the disk quota is used up; free some space or choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EEXIST: "a file of that name is in the way; choose another folder",
    errno.EISDIR: "a folder of that name is in the way; choose another name",
}
# What NumPy and zipfile raise on damaged files (found by flipping bytes; RuntimeError is an encryption flag).
_DAMAGE = (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error)


def write_error(path: str | os.PathLike[str], error: OSError) -> ArfjError:
    """The one-line error for a failed write to `path`."""
    cure = _CURES.get(error.errno or 0, error.strerror or str(error))
    return ArfjError(f"cannot write {os.fspath(path)}: {cure}")


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file beside `path`, and move it there when the block ends well.

    Raises:
        ArfjError: the folder cannot be made or written, or the disk is full; `path` is then as it was before.
    """
    target = Path(os.path.realpath(path))  # a link stays what it is
    temporary: Path | None = None
    try:
        if is_device(path):
            with Path(path).open("wb") as stream:
                yield stream
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        temporary = Path(name)
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
        temporary = None
    except OSError as error:
        raise write_error(path, error) from error
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                temporary.unlink()


def is_device(path: str | os.PathLike[str]) -> bool:
    """Whether `path` is /dev/null, a pipe or the like: written to, and never replaced by a file."""
    target = Path(path)
    return target.exists() and not target.is_file() and not target.is_dir()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Make the folder `path` (and its parents) and check that it can be written, before any work is spent.

    Raises:
        ArfjError: it cannot be made or written.
    """
    folder = Path(path)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise write_error(folder, error) from error
    return folder


def save_arrays(path: str | os.PathLike[str], arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write named arrays to a compressed `.npz` without pickles, atomically.

    Raises:
        ArfjError: as `atomic_write`.
    """
    with atomic_write(path) as stream, zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # A fixed date: the same arrays always give the same bytes.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


def load_arrays(path: str | os.PathLike[str]) -> dict[str, NDArray[np.generic]]:
    """Read all arrays of a `.npz` file; pickled objects are refused.

    Raises:
        ArfjError: the file is missing, truncated, not a `.npz`, or holds pickles.
    """
    name = os.fspath(path)
    try:
        # Opened here, because NumPy leaves its own stream open when the archive is broken.
        with Path(name).open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if isinstance(archive, np.ndarray):
                raise ArfjError(f"{name} holds one bare array; expected a .npz archive of named arrays")
            with archive:
                return {key: _member(archive, key) for key in archive.files}
    except ArfjError:
        raise
    except FileNotFoundError:
        raise ArfjError(f"{name} does not exist; give the path of a .npz file") from None
    except _DAMAGE as error:
        raise ArfjError(_unreadable(name, error)) from error


def _member(archive: Mapping[str, NDArray[np.generic]], key: str) -> NDArray[np.generic]:
    array = archive[key]
    if not isinstance(array, np.ndarray):  # NumPy hands members that are no .npy files out as bytes
        raise ValueError(f"{key} is no array")
    return array


def load_array(path: str | os.PathLike[str]) -> NDArray[np.generic]:
    """Read one array from a `.npy` file; pickled objects are refused.

    Raises:
        ArfjError: the file is missing, truncated, not a `.npy`, or holds pickles.
    """
    name = os.fspath(path)
    try:
        with Path(name).open("rb") as stream:
            array = np.load(stream, allow_pickle=False)
            if isinstance(array, np.ndarray):
                return array
            array.close()
    except FileNotFoundError:
        raise ArfjError(f"{name} does not exist; give the path of a .npy file") from None
    except _DAMAGE as error:
        raise ArfjError(_unreadable(name, error)) from error
    raise ArfjError(f"{name} is a .npz archive; expected one bare array in a .npy file (numpy.save writes one)")


def load_numbers(path: str | os.PathLike[str]) -> NDArray[np.float64]:
    """Read finite real numbers from a `.npy` file.

    Raises:
        ArfjError: as `load_array`. UsageError: it holds something else, or nothing.
    """
    found = load_array(path)
    if found.dtype.kind not in "fiu":
        raise UsageError(f"{os.fspath(path)} holds {found.dtype} values; expected real numbers")
    if not found.size or not np.isfinite(found).all():
        raise UsageError(f"{os.fspath(path)} is empty or holds NaN or infinity; expected finite numbers")
    return np.asarray(found, dtype=np.float64)


def _unreadable(name: str, error: Exception) -> str:
    if "Object arrays" in str(error) or _starts_like_a_pickle(name):
        return f"{name} holds pickled objects, which are refused; save plain numeric arrays with numpy.savez"
    if isinstance(error, PermissionError):
        return f"{name} cannot be read: no permission"
    if isinstance(error, IsADirectoryError):
        return f"{name} is a folder; give the path of a file"
    return f"{name} is broken, truncated or no NumPy file ({type(error).__name__}); write it again with numpy"


def _starts_like_a_pickle(name: str) -> bool:
    # NumPy says "pickled" of anything that it does not know; the opcode PROTO tells the pickles among it.
    try:
        with Path(name).open("rb") as stream:
            return stream.read(1) == b"\x80"
    except OSError:
        return False
