"""Exceptions of pyqinfer. Misuse raises TypeError or ValueError, the system's failures MemoryError or OSError; the rest is here."""

__all__ = ["CancelledError", "ConversionError", "IntegrityError", "ModelFormatError", "UnsupportedError"]


class ModelFormatError(ValueError):
    """A model file that breaks docs/format.md. The message names the node or tensor and the numbers."""


class IntegrityError(ModelFormatError):
    """A model file whose checksum does not match its contents."""


class CancelledError(RuntimeError):
    """A run that its caller ended (:class:`pyqinfer.CancelFlag`)."""


class ConversionError(RuntimeError):
    """A converted model computes something else than the torch model. The message names the layer and the numbers."""


class UnsupportedError(NotImplementedError):
    """An op, a file version, a feature or an instruction set that this build or this CPU lacks."""
