"""JAX as bounds and certificates use it: asked for by name, in float64, its programs kept, its seconds told apart."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Literal, cast

from arfj.errors import UsageError

Device = Literal["cpu", "gpu"]
"""What a command is asked to compute on: NumPy here, or JAX on a GPU."""
Engine = Literal["numpy", "jax"]


def check_device(device: Device) -> None:
    """Refuse a GPU that JAX does not find.

    Raises:
        UsageError: JAX is missing, or finds no GPU.
    """
    if device == "cpu":
        return
    try:
        import jax
    except ImportError:
        raise UsageError("--device gpu needs JAX: pip install 'jax[cuda13]'") from None
    try:
        found = jax.default_backend()
    except (RuntimeError, AssertionError) as error:  # the user's JAX_PLATFORMS names what is not there
        said = str(error) or "it asserts that there is a platform"
        raise UsageError(f"--device gpu: JAX does not start ({said}); leave the option out to use the CPU") from error
    if found == "cpu":
        raise UsageError("--device gpu: JAX finds no GPU here; leave the option out to use the CPU")


def in_float64(engine: Engine) -> AbstractContextManager[object]:
    """JAX rounds all float64 to float32 unless told not to; here it is told, for what is done inside alone."""
    if engine == "numpy":
        return nullcontext()
    import jax

    if hasattr(jax, "enable_x64"):
        return cast(AbstractContextManager[object], jax.enable_x64(True))
    experimental: Any = importlib.import_module("jax.experimental")
    return cast(AbstractContextManager[object], experimental.enable_x64())


def cache_folder() -> Path:
    """Where compiled programs are kept: `$XDG_CACHE_HOME/arfj/jax`, by default below `~/.cache`."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "arfj" / "jax"


def keep_programs() -> None:
    """Have JAX keep what it compiles for a GPU, unless it was told already where to keep it, or the disk refuses.

    To be called before anything is compiled. On a CPU nothing is kept: what was compiled for one processor may not run
    on another that shares the home folder.
    """
    import jax

    config: Any = jax.config
    if config.jax_compilation_cache_dir is not None or jax.default_backend() == "cpu":
        return
    folder = cache_folder()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError:
        return
    if os.access(folder, os.W_OK | os.X_OK):
        config.update("jax_compilation_cache_dir", str(folder))


class Compiled:
    """A function compiled by JAX for every signature that it meets.

    Args:
        function: to be compiled.
        fixed: how many of its first arguments are no arrays, but hashable and part of the signature.

    Attributes:
        seconds: spent in compiling (or in loading what was compiled by an earlier run) so far.
    """

    def __init__(self, function: Callable[..., Any], fixed: int) -> None:
        import jax

        self.seconds = 0.0
        self._fixed = fixed
        self._jitted = jax.jit(function, static_argnums=tuple(range(fixed)))
        self._programs: dict[object, Any] = {}

    def __call__(self, *arguments: Any) -> Any:
        """The function's value; the arguments are the fixed ones, then arrays, nested in tuples."""
        signature = (arguments[: self._fixed], _shapes(arguments[self._fixed :]))
        program = self._programs.get(signature)
        if program is None:
            begun = time.perf_counter()
            program = self._programs[signature] = self._jitted.lower(*arguments).compile()
            self.seconds += time.perf_counter() - begun
        return program(*arguments[self._fixed :])


def _shapes(tree: Any) -> object:
    if isinstance(tree, tuple):
        return tuple(map(_shapes, tree))
    return None if tree is None else (tree.shape, str(tree.dtype))
