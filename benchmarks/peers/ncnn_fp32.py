"""ncnn in fp32, converted by pnnx."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.peers.cache import artifact, digest, installed
from benchmarks.peers.candidate import FP32, Candidate, Loaded
from benchmarks.peers.case import Case

_OFF = ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_packed", "use_bf16_storage")
_REPORTED = ("num_threads", "use_winograd_convolution", "use_sgemm_convolution", "use_packing_layout", *_OFF)


class NcnnFp32(Candidate):
    """ncnn with its 16-bit modes off; Winograd and packed layouts stay on, as by default."""

    name = "ncnn"
    variant = FP32
    packages = ("ncnn", "pnnx")

    def _folder(self, case: Case) -> Path:
        made_from = {**{package: installed(package) for package in self.packages}, "recipe": digest([Path(__file__)])}
        return artifact(case.folder, "ncnn-fp32", made_from, lambda folder: _convert(case, folder))

    def prepare(self, case: Case) -> None:
        self._folder(case)

    def load(self, case: Case, threads: int) -> Loaded:
        import ncnn

        folder = self._folder(case)
        net = ncnn.Net()
        net.opt.num_threads = threads
        for option in _OFF:
            setattr(net.opt, option, False)
        if net.load_param(str(folder / "model.ncnn.param")) != 0 or net.load_model(str(folder / "model.ncnn.bin")) != 0:
            raise RuntimeError("ncnn does not load the network that pnnx converted")
        images = [x[0] for x in case.inputs]

        def run() -> NDArray[np.float32]:
            extractor = net.create_extractor()
            for number, image in enumerate(images):
                extractor.input(f"in{number}", ncnn.Mat(image))
            status, output = extractor.extract("out0")
            if status != 0:
                raise RuntimeError(f"ncnn: extract returned {status}")
            return np.array(output)[np.newaxis]

        return Loaded(run, {option: getattr(net.opt, option) for option in _REPORTED})


def _convert(case: Case, folder: Path) -> None:
    import pnnx
    import torch

    torch.jit.trace(case.module(), case.tensors()).save(folder / "model.pt")  # type: ignore[no-untyped-call]
    shape = "inputshape=" + ",".join("[" + ",".join(map(str, x.shape)) + "]" for x in case.inputs)
    done = subprocess.run(
        [pnnx.EXEC_PATH, "model.pt", shape, "fp16=0"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    if done.returncode != 0 or not (folder / "model.ncnn.bin").is_file():
        raise RuntimeError(f"pnnx failed ({done.returncode}): {done.stdout[-400:]}")
    for file in folder.iterdir():
        if not file.name.startswith("model.ncnn."):
            file.unlink()
