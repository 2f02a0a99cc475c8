"""All sources of models. A float ``nn.Module`` needs none: it is traced, and its ops have handlers in ``aten``."""

from pyqinfer.frontend.sources import brevitas, dynamic, fake_quant, legacy, nncf, onnx, pt2e, torchao
from pyqinfer.frontend.sources.source import Source

# The first row that knows a model or a module reads it.
SOURCES: tuple[Source, ...] = (
    pt2e.SOURCE,
    fake_quant.SOURCE,
    torchao.SOURCE,
    legacy.SOURCE,
    nncf.SOURCE,
    dynamic.SOURCE,
    onnx.SOURCE,
    brevitas.SOURCE,
)
