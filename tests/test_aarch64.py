"""The aarch64 build gives the bits that this machine gives: `make test-all` builds `pqi` for aarch64 and runs it under qemu here."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch

import pyqinfer as pq

ROOT = Path(__file__).resolve().parent.parent
PQI = ROOT / "build" / "aarch64" / "csrc" / "tools" / "pqi"
QEMU = shutil.which("qemu-aarch64-static")
GOLDEN = sorted((ROOT / "tests" / "golden").glob("*.pqi"))

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(QEMU is None, reason="qemu-aarch64-static is not installed"),
    pytest.mark.skipif(not PQI.exists(), reason="there is no aarch64 build; `make test-all` makes it"),
]


# The strongest instruction set of each CPU that qemu emulates here.
CPUS = {"cortex-a72": "neon", "neoverse-n1": "dotprod", "max": "i8mm"}


def verify(path: Path, cpu: str = "max") -> str:
    command = [str(QEMU), "-L", "/usr/aarch64-linux-gnu", "-cpu", cpu, str(PQI), "verify", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("cpu", CPUS)
@pytest.mark.parametrize("path", GOLDEN, ids=[path.name for path in GOLDEN])
def test_golden_files_on_the_strongest_kernels_of_each_cpu(path: Path, cpu: str) -> None:
    assert f"on {CPUS[cpu]}" in verify(path, cpu)


def test_resnet18(tmp_path: Path) -> None:
    """ResNet-18 with random weights at 64x64; the stored outputs come from this machine's best kernels."""
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    model = pq.zoo.resnet18()
    pq.zoo.randomize_batchnorm(model, seed=0)
    quantized = pq.quantize(model.eval(), pq.PTQ(), example_inputs=(x,), calibration=[(x,)])
    pq.convert(quantized, example_inputs=(x,), samples=2).save(tmp_path / "resnet18.pqi")
    verify(tmp_path / "resnet18.pqi")
