"""TensorFlow, imported once and set up for grids: quiet, deterministic, with XLA's cache on.

Environment variables that TensorFlow reads at import are set here and nowhere else, so every module that
computes imports TensorFlow through `tensorflow()` before anything of its own does.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import itertools
import os
import platform
import threading
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from harness.importing import without


def cache_folder() -> Path:
    """Where XLA keeps compiled programs between processes: `$OPTGRID_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("OPTGRID_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "optgrid" / "xla"


# More than the outermost loop touches in the program of a point, or of a network whose products are written
# out: compiled as one function, it takes a quarter less time to compile than as fifty kernels, and XLA has no
# operations of it to spread over threads.
SMALL_LOOP_BYTES = 2_000_000_000


def _has_wide_registers() -> bool:
    """Whether this processor has AVX-512: 32 registers of 64 bytes; else 16 of 32, or 32 of 16."""
    try:
        with Path("/proc/cpuinfo").open(encoding="utf-8") as lines:
            return any(line.startswith("flags") and " avx512f " in line for line in lines)
    except OSError:  # no Linux
        return False


# LLVM makes a masked store of numbers that are chosen between new ones and those that were there. AVX-512 has
# such stores at the price of others; cores of AMD with AVX2 alone take twenty cycles for each (measured).
MASKED_STORES = _has_wide_registers()

# Rows, terms and vectors of a product's tile, so that its sums stay in registers. XLA loses its way among the
# columns that are left over by tiles of more than two vectors: sums are wrong, and memory is overwritten.
# GFLOP/s of one core, [128, 256] @ [256, 256], where a library comes to 132: 139; by 2 terms 130, by 8 rows
# 108. With AVX2 alone 107 by 6 rows, 94 by 4.
TILE = "12:4:2" if _has_wide_registers() else "6:4:2"

# Measured on Adam x Rosenbrock, 1,024 lanes (benchmarks/NOTES.md):
XLA_FLAGS = {
    # Loops that touch less in a round become one function without a kernel to launch per operation. Matrix
    # products are plain loops there, so that `lift.in_kernels` keeps the loops of other networks out.
    # LLVM takes loops of a few rounds apart before it makes vectors of them: those over 16 lanes stay loops,
    # and those over ten classes.
    # Where it puts functions into each other it would note, for every access of memory, with which arguments
    # that has nothing to do, which takes a twentieth of compiling; XLA has said more about that already.
    # Products are tiles of registers (`harness.tiles`), large ones too.
    "xla_backend_extra_options": (
        f"xla_cpu_small_while_loop_byte_threshold={SMALL_LOOP_BYTES},-unroll-full-max-count=4"
        ",-enable-noalias-to-md-conversion=0"
        f",xla_force_enable_experimental_llvm_ir_gemm,xla_llvm_ir_gemm_tile_size={TILE}*vectwidth"
    ),
    # which XLA makes of none where a library may spread them over threads: a tile of runs has one
    "xla_cpu_multi_thread_eigen": "false",
    # the whole of an AVX-512 register, where there is one
    "xla_cpu_prefer_vector_width": "512",
    # reductions by a library of kernels cannot be part of such a function
    "xla_cpu_experimental_ynn_fusion_type": "",
}


def tiles_compile() -> bool:
    """Whether XLA makes products as `harness.tiles` has them; false where the user's flags say otherwise."""
    _, _, last = _STARTED.get("XLA_FLAGS", "").rpartition("--xla_cpu_multi_thread_eigen=")
    return last.startswith("false")


def xla_flags(given: str) -> str:
    """XLA's flags: ours, and behind them what the user has set, which holds where both say something. Of
    `xla_backend_extra_options`, a table, that is so entry by entry.

    Args:
        given: flags, or the name of a file with flags in it.
    """
    if given.strip() and not given.lstrip().startswith("-"):
        try:
            given = Path(given).read_text(encoding="utf-8")
        except OSError:
            return given  # XLA says what is wrong with it
    ours = " ".join(f"--{name}={value}" for name, value in XLA_FLAGS.items())
    # Those of a process that this one was started by: the same flags, so that XLA's cache knows them again.
    return given if given.startswith(ours) else f"{ours} {given}".strip()


def tf_xla_flags(given: str, folder: Path, xla: str) -> str:
    """TensorFlow's flags for XLA: what the user has set, and XLA's cache unless they have set that.

    Those of a process that this one was started by are made anew: its cache need not be in the same folder,
    nor its flags of XLA the same. What is cached depends on them, and TensorFlow does not look at them.

    Args:
        given: flags.
        folder: of XLA's cache.
        xla: XLA's own flags.
    """
    if f"{CACHE_PREFIX}=optgrid-" in given:
        ours = CACHE_FOLDER, CACHE_PREFIX
        given = " ".join(flag for flag in given.split() if flag.partition("=")[0] not in ours)
    if CACHE_FOLDER in given:
        return given
    made = hashlib.blake2b(xla.encode(), digest_size=4).hexdigest()
    cached = f"{CACHE_FOLDER}={folder} {CACHE_PREFIX}=optgrid-{made}"
    return f"{given} {cached}".strip()


CACHE_FOLDER, CACHE_PREFIX = "--tf_xla_persistent_cache_directory", "--tf_xla_persistent_cache_prefix"

# What TensorFlow imports for others' sake, in half of its time, and does without where it is not installed:
# Keras, and scikit-learn with it, and JAX, of which its Lite converter then knows nothing. `tf.keras` is
# there when it is asked for.
FOR_OTHERS = "keras", "jax"

_BEFORE: dict[str, str | None] = {}  # what the environment said of XLA, until it is put back
_STARTED: dict[str, str] = {}  # what it said when TensorFlow was imported


def _set(name: str, value: str) -> None:
    _BEFORE[name] = os.environ.get(name)
    os.environ[name] = _STARTED[name] = value


def xla_has_started() -> None:
    """Puts the environment back once XLA has read it: JAX in the same process, or a child, reads it too."""
    for name, before in list(_BEFORE.items()):
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before
    _BEFORE.clear()


def keep_imports() -> None:
    """Keeps from Python's collector what was made so far: in a process of this project's own, that is what it
    imported.

    Once for every few programs it would look at all of that again: a fifth of a second in which no thread
    traces.
    """
    gc.freeze()


@cache
def tensorflow() -> Any:
    """The TensorFlow module, configured.

    A tile per core keeps the cores busy. XLA runs programs in TensorFlow's pool for the inside of operations,
    whatever thread asks for them: that pool has a thread per core, or tiles would take turns on one (measured
    with two tiles on two cores: 1.0 times the speed of one with one thread, 1.9 to 2.0 with two).
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    _set("XLA_FLAGS", xla_flags(os.environ.get("XLA_FLAGS", "")))
    folder = cache_folder()
    with contextlib.suppress(OSError):  # a read-only home costs compile time, nothing else
        folder.mkdir(parents=True, exist_ok=True)
        _set(
            "TF_XLA_FLAGS", tf_xla_flags(os.environ.get("TF_XLA_FLAGS", ""), folder, os.environ["XLA_FLAGS"])
        )
    with without(*FOR_OTHERS):
        import tensorflow as tf
    from tensorflow.python.framework import ops

    _number_by_key(ops)
    # Every program is its own tf.function; TensorFlow's advice on retracing counts them as one.
    tf.get_logger().setLevel("ERROR")
    try:
        tf.config.threading.set_intra_op_parallelism_threads(cpu_count())
        tf.config.threading.set_inter_op_parallelism_threads(max(2, cpu_count()))
    except RuntimeError:
        pass  # the notebook already started TensorFlow: its own thread settings hold
    return tf


_NAMES = threading.local()


@contextlib.contextmanager
def stable_names(key: str) -> Iterator[None]:
    """Names that TensorFlow makes while tracing here depend on `key` alone.

    TensorFlow numbers functions by a counter of the process, the numbers are part of what XLA's cache looks
    up, and threads trace in no fixed order: without this, half of a study's programs are compiled again in
    the next process.

    Args:
        key: hexadecimal; two different programs must have different keys.
    """
    # Also ids of tensors on the tape, which are signed 64-bit numbers: 44 bits of key, 16 to count.
    before = getattr(_NAMES, "next", None)
    _NAMES.next = itertools.count(int(key[:11], 16) << 16)
    try:
        yield
    finally:
        _NAMES.next = before


@contextlib.contextmanager
def own_names() -> Iterator[None]:
    """Names that TensorFlow makes here are new in this process, within `stable_names` too.

    For what XLA never sees, and whose parts are traced by other threads, so that it is not the same twice.
    """
    kept, _NAMES.next = getattr(_NAMES, "next", None), None
    try:
        yield
    finally:
        _NAMES.next = kept


def _number_by_key(ops: Any) -> None:
    """Lets `stable_names` take over TensorFlow's counter in the thread that is inside it."""
    original = ops.uid

    def uid() -> int:
        numbers = getattr(_NAMES, "next", None)
        return original() if numbers is None else next(numbers)

    ops.uid = uid


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Memory that is free for use now, in bytes (a guess of 4 GiB where the system does not say)."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 4 * 2**30


def versions() -> dict[str, str]:
    """Versions of everything that has a part in the numbers."""
    found = {"python": platform.python_version()}
    for name in ("optgrid", "tensorflow", "keras", "numpy", "pyarrow", "scipy", "scikit-learn", "ray"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, Any]:
    """What the study ran on: processor, cores, memory, and the accelerators that TensorFlow sees."""
    tf = tensorflow()
    gpus = [
        tf.config.experimental.get_device_details(gpu).get("device_name", gpu.name)
        for gpu in tf.config.list_physical_devices("GPU")
    ]
    return {
        "processor": processor(),
        "cores": cpu_count(),
        "memory_bytes": memory_bytes(),
        "gpus": gpus,
        "system": f"{platform.system()} {platform.machine()}",
    }


def processor() -> str:
    """The processor's own name."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
