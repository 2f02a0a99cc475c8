"""The machine's int8 dot-product peak: what a direct convolution could reach at best, and a thermometer of the machine."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import statistics
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.cache import artifact, digest

_SOURCE = Path(__file__).with_name("peak.c")
_COMPILERS = ("clang-19", "clang", "gcc", "cc")
_DISCARDED, _SAMPLES, _SAMPLE_SECONDS = 5, 25, 0.01
_BURSTS, _BURST_SECONDS = 300, 0.001  # shorter than a scheduler's time slice: some are undisturbed even on a busy machine


@dataclass(frozen=True)
class Peak:
    """A loop of dot-product instructions, or the reason why there is none.

    Args:
        instruction: what it repeats, e.g. ``vpdpbusd zmm``; empty without a loop. reason: why there is none.
    """

    instruction: str
    reason: str
    _library: ctypes.CDLL | None

    def gmacs(self, threads: int) -> float | None:
        """GMAC/s of ``threads`` threads together: the sum of each one's median over short samples. None without a loop.

        A median, not the best: a machine that works for somebody else half of the time shall not look quiet.
        """
        library = self._library
        if library is None:
            return None
        macs = int(library.peak_macs_per_iteration())
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(lambda _: statistics.median(_rates(library, macs, _SAMPLES, _SAMPLE_SECONDS)), range(threads)))

    def undisturbed_gmacs(self, threads: int) -> float | None:
        """GMAC/s that ``threads`` threads would reach if nobody else were there: the best of many short bursts. None without a loop."""
        if self._library is None:
            return None
        return threads * max(_rates(self._library, int(self._library.peak_macs_per_iteration()), _BURSTS, _BURST_SECONDS))


def _rates(library: ctypes.CDLL, macs: int, samples: int, seconds: float) -> list[float]:
    """GMAC/s of the calling thread in each of some samples of about ``seconds``."""
    iterations = 100_000
    iterations = max(1, int(iterations * seconds / min(_seconds(library, iterations) for _ in range(_DISCARDED))))
    return [macs * iterations / _seconds(library, iterations) / 1e9 for _ in range(samples)]


def _seconds(library: ctypes.CDLL, iterations: int) -> float:
    start = time.perf_counter()
    library.peak_run(iterations)  # ctypes releases the interpreter's lock: threads run side by side
    return time.perf_counter() - start


def load_peak(root: Path) -> Peak:
    """Compile the loop into ``root`` unless it is there, and load it. Never raises: without a peak a race is only not checked."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return Peak("", f"no peak loop for {platform.machine()}", None)
    names = [os.environ.get("CC", ""), *_COMPILERS]
    compiler = next((path for name in names if name and (path := shutil.which(name))), None)
    if compiler is None:
        return Peak("", f"no C compiler found (looked for {', '.join(_COMPILERS)})", None)

    def make(folder: Path) -> None:
        command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(folder / "peak.so"), str(_SOURCE)]
        subprocess.run(command, check=True, capture_output=True, text=True)

    try:
        library = ctypes.CDLL(str(artifact(root, "peak", {"source": digest([_SOURCE]), "compiler": compiler}, make) / "peak.so"))
    except subprocess.CalledProcessError as error:
        return Peak("", f"{compiler} failed: {error.stderr.strip()[:200]}", None)
    except OSError as error:
        return Peak("", str(error), None)
    library.peak_instruction.restype = ctypes.c_char_p
    library.peak_macs_per_iteration.restype = ctypes.c_int64
    library.peak_run.argtypes = [ctypes.c_int64]
    library.peak_run.restype = None
    instruction = library.peak_instruction().decode()
    if not instruction:
        return Peak("", "this CPU has no AVX2", None)
    return Peak(instruction, "", library)
