"""The one part that is compiled, where there is a compiler; all else stands in setup.cfg."""

from hashlib import sha256
from pathlib import Path

from setuptools import Extension, setup

SOURCE = "arfj/bab/fast.pyx"
digest = sha256((Path(__file__).parent / SOURCE).read_bytes()).hexdigest()

setup(
    ext_modules=[
        Extension("arfj.bab.fast", [SOURCE], define_macros=[("ARFJ_SOURCE", f'"{digest}"')], optional=True),
    ]
)
