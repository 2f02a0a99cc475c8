"""Every candidate there is, by variant."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.peers.candidate import FP32, INT8, Candidate
from benchmarks.peers.engine import Engine
from benchmarks.peers.ncnn_fp32 import NcnnFp32
from benchmarks.peers.onnx_runtime import OnnxRuntime, OnnxRuntimeDynamic
from benchmarks.peers.open_vino import OpenVino, OpenVinoOnnx
from benchmarks.peers.torch_fp32 import TorchCompiled, TorchEager

# Quantized by other people's tools for other people's engines: there is nothing below 8 bits that they run as such.
_PEERS: tuple[Candidate, ...] = (
    TorchEager(),
    TorchCompiled(),
    OnnxRuntime(FP32),
    OpenVino(FP32),
    NcnnFp32(),
    OnnxRuntime(INT8),
    OnnxRuntimeDynamic(),
    OpenVino(INT8),
    OpenVinoOnnx(),
)


def candidates(variants: Sequence[str], skip: Sequence[str] = ()) -> list[Candidate]:
    """The peers and pyqinfer in each of the variants, without the names in ``skip``.

    Raises ValueError for a variant that is no precision, or a name that no candidate has.
    """
    chosen: list[Candidate] = []
    for variant in dict.fromkeys(variants):
        chosen += [peer for peer in _PEERS if peer.variant == variant]
        try:
            chosen.append(Engine(variant))
        except ValueError as error:
            raise ValueError(
                f"variant {variant!r}: expected {FP32}, {INT8} or weight/activation bits such as 4/4, t/4:90 ({error})"
            ) from None
    names = [candidate.name for candidate in chosen]
    unknown = [name for name in skip if name not in names]
    if unknown:
        raise ValueError(f"no such candidate: {', '.join(unknown)}; there are: {', '.join(names)}")
    return [candidate for candidate in chosen if candidate.name not in skip]
