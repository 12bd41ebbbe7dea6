"""Files to text, and text to the reader of its version."""

from __future__ import annotations

import gzip
import os
import re
import zlib
from pathlib import Path

from arfj.errors import PropertyError
from arfj.verify.property import Property
from arfj.verify.vnnlib.version1 import parse_version1
from arfj.verify.vnnlib.version2 import parse_version2

_MOST_BYTES = 1 << 29
_GZIP = b"\x1f\x8b"
_VERSION2 = re.compile(r"(?:\s|;[^\n]*(?:\n|\Z))*\(\s*(?:vnnlib-version|declare-network)\b")
"""A comment ends with its line: were that open, every semicolon in it would begin another one."""


def read_property(path: str | os.PathLike[str]) -> Property:
    """Read a VNN-LIB file, plain or gzipped, as a property in disjunctive form.

    VNN-LIB asserts what a counterexample must satisfy: `robust` means that no input does. Each disjunct of the
    assertions is a box of inputs and a polyhedron of outputs; what is not of this form is refused. See
    `arfj.verify.vnnlib.cases` for how decimals are rounded.

    Raises:
        PropertyError: the file is missing, broken or not supported; it names the line and how to mend it.
    """
    name = os.fspath(path)
    return parse_property(_text(name), name)


def parse_property(text: str, name: str = "the property") -> Property:
    """The property that `text` asserts; `name` stands in errors.

    Raises:
        PropertyError: as `read_property`.
    """
    if _VERSION2.match(text):
        return parse_version2(text, name)
    return parse_version1(text, name)


def _text(name: str) -> str:
    content = _content(name)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise PropertyError(f"{name}, line {line}: not UTF-8; expected a VNN-LIB text file") from None


def _content(name: str) -> bytes:
    try:
        with Path(name).open("rb") as stream:
            packed = stream.read(2) == _GZIP
            stream.seek(0)
            content = gzip.GzipFile(fileobj=stream).read(_MOST_BYTES + 1) if packed else stream.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise PropertyError(f"{name} does not exist; give the path of a .vnnlib or .vnnlib.gz file") from None
    except IsADirectoryError:
        raise PropertyError(f"{name} is a folder; give the path of a .vnnlib or .vnnlib.gz file") from None
    except PermissionError:
        raise PropertyError(f"{name} cannot be read: no permission") from None
    except (OSError, EOFError, zlib.error) as error:
        raise PropertyError(f"{name} is broken or truncated ({error}); write it again") from error
    if len(content) > _MOST_BYTES:
        raise PropertyError(f"{name} holds over {_MOST_BYTES} bytes; split the property into several files")
    return content
