"""Networks of the methods experiment, quantized to 8 bits by the tools of other engines and run by those engines."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.methods.networks import Network
from benchmarks.peers import onnx_files
from benchmarks.peers.cache import digest, installed
from benchmarks.peers.candidate import is_installed
from benchmarks.peers.onnx_runtime import session_options
from benchmarks.peers.open_vino import SETTINGS
from pyqinfer.study.evaluate import Accuracy, pack_hits
from pyqinfer.study.pareto import OnProgress
from pyqinfer.study.rows import Row, read_row, write_row

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_BATCH = 64
_INPUT = "x"  # the name of the input in every ONNX file made here


class Peer(ABC):
    """One quantizer with its engine.

    Attributes:
        name: the row's name, printed.
        method: the row's method, and the name of its folder.
        packages: distributions it needs.
    """

    name: str
    method: str
    packages: tuple[str, ...]

    @abstractmethod
    def quantize(self, network: Network, folder: Path) -> list[Path]:
        """Write the 8-bit network into `folder`; returns the files that one would ship."""

    @abstractmethod
    def open(self, folder: Path, threads: int, shape: tuple[int, ...] | None) -> Run:
        """What :meth:`quantize` made, ready to run: for any batch, or for the one input shape whose latency counts."""

    def row(self, network: Network, folder: Path, threads: int, on_progress: OnProgress) -> Row:
        """The peer's row without latency, read from `folder` if it was made before; where packages are missing it says so."""
        missing = [package for package in self.packages if not is_installed(package)]
        if missing:
            return Row(self.name, self.method, status=f"not installed: pip install {' '.join(missing)}")
        files = folder / self.method
        key = repr(
            (network.name, len(network.data), [installed(p) for p in self.packages], digest([Path(__file__), Path(onnx_files.__file__)]))
        )
        known = read_row(files / "row.json", key)
        if known is not None:
            return known
        files.mkdir(parents=True, exist_ok=True)
        shipped = self.quantize(network, files)
        run = self.open(files, threads, None)
        row = Row(
            self.name,
            self.method,
            accuracy=_accuracy(run, network, lambda done, total: on_progress(self.name, done, total)),
            bytes=sum(path.stat().st_size for path in shipped),
        )
        write_row(files / "row.json", key, row)
        return row

    def timed(self, network: Network, folder: Path, threads: int) -> Callable[..., Any]:
        """A callable for :func:`pyqinfer.benchmark`."""
        (example,) = network.example
        run, image = self.open(folder / self.method, threads, tuple(example.shape)), example.numpy()
        return lambda *inputs: run(image)


def _accuracy(run: Run, network: Network, on_progress: Callable[[int, int], None]) -> Accuracy:
    right: list[NDArray[np.bool_]] = []
    done = 0
    for images, labels in network.data.batches(_BATCH):
        right.append(run(images).argmax(1) == labels)
        done += len(labels)
        on_progress(done, len(network.data))
    hits = np.concatenate(right)
    return Accuracy(done, 100 * float(hits.mean()), hits=pack_hits(hits))


class OnnxRuntime(Peer):
    """``quantize_static``: QDQ, u8 activations, s8 weights per channel, after its own pre-processing."""

    name = "ONNX Runtime 8/8"
    method = "onnxruntime"
    packages = ("onnx", "onnxscript", "onnxruntime")

    def quantize(self, network: Network, folder: Path) -> list[Path]:
        exported, target = folder / "fp32.onnx", folder / "model.onnx"
        _export(network, exported)
        onnx_files.quantize_u8s8(exported, target, ({_INPUT: batch.numpy()} for batch in network.calibration))
        return [target]

    def open(self, folder: Path, threads: int, shape: tuple[int, ...] | None) -> Run:
        import onnxruntime

        session = onnxruntime.InferenceSession(str(folder / "model.onnx"), session_options(threads), providers=["CPUExecutionProvider"])
        return lambda x: session.run(None, {_INPUT: x})[0]  # type: ignore[no-any-return]


class Nncf(Peer):
    """``nncf.quantize`` with its defaults on OpenVINO's model, run by OpenVINO."""

    name = "NNCF 8/8 (OpenVINO)"
    method = "nncf"
    packages = ("openvino", "nncf")

    def quantize(self, network: Network, folder: Path) -> list[Path]:
        import nncf
        import openvino

        (example,) = network.example
        model = openvino.convert_model(network.model, example_input=example, input=[-1, *example.shape[1:]])
        samples = [image[None].numpy() for batch in network.calibration for image in batch]
        quantized = nncf.quantize(model, nncf.Dataset(samples), subset_size=len(samples))
        openvino.save_model(quantized, folder / "model.xml")
        return [folder / "model.xml", folder / "model.bin"]

    def open(self, folder: Path, threads: int, shape: tuple[int, ...] | None) -> Run:
        import openvino

        core = openvino.Core()
        model = core.read_model(folder / "model.xml")
        if shape is not None:
            model.reshape(list(shape))
        request = core.compile_model(model, "CPU", {**SETTINGS, "INFERENCE_NUM_THREADS": threads}).create_infer_request()
        return lambda x: np.array(request.infer([x])[0])


PEERS: tuple[Peer, ...] = (Nncf(), OnnxRuntime())


def _export(network: Network, path: Path) -> None:
    import torch

    (example,) = network.example
    batch = torch.cat([example, example])  # torch.export takes a batch of 1 for a constant
    torch.onnx.export(
        network.model,
        (batch,),
        path,
        input_names=[_INPUT],
        output_names=["y"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
