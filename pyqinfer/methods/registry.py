"""All quantization methods. Importing this module loads none of them: each is loaded, and torch with it, when it is first used."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the public classes as type checkers and editors see them
    from pyqinfer.methods.ompq import OMPQ as OMPQ
    from pyqinfer.methods.pruned_ternary import PrunedTernary as PrunedTernary
    from pyqinfer.methods.ptq import PTQ as PTQ
    from pyqinfer.methods.qat import QAT as QAT
    from pyqinfer.methods.saq import SAQ as SAQ
    from pyqinfer.methods.zeroq import ZeroQ as ZeroQ


@dataclass(frozen=True)
class MethodRow:
    """One quantization method.

    What it reads of a task, and what it needs, are attributes of its class (:class:`pyqinfer.quantization.Method`); which options of
    ``pyqinfer quantize`` it takes are the keywords of the class's ``from_options``.

    Args:
        name: the class's name, under ``pyqinfer``.
        word: what it is called on the command line and in studies, and what its file in this folder is called.
        summary: a few words for the command line's help.
        trains: whether it needs labelled batches: then its command is ``pyqinfer train``, not ``pyqinfer quantize``.
    """

    name: str
    word: str
    summary: str
    trains: bool = False

    @property
    def module(self) -> str:
        """Where the class is defined."""
        return f"pyqinfer.methods.{self.word}"

    def load(self) -> Any:
        """The class."""
        return getattr(import_module(self.module), self.name)


METHODS = (
    MethodRow("PTQ", "ptq", "post-training"),
    MethodRow("ZeroQ", "zeroq", "without data"),
    MethodRow("OMPQ", "ompq", "bits by orthogonality of layers"),
    MethodRow("QAT", "qat", "training with learned steps", trains=True),
    MethodRow("SAQ", "saq", "training towards flat minima", trains=True),
    MethodRow("PrunedTernary", "pruned_ternary", "training of sparse ternary weights", trains=True),
)
METHOD_WORDS = ", ".join(row.word for row in METHODS if not row.trains)  # of those that need no labelled batches


def find_method(word: str) -> MethodRow:
    """The row of a word. Raises ValueError for another word."""
    for row in METHODS:
        if row.word == word:
            return row
    raise ValueError(f"method {word!r}: expected {', '.join(row.word for row in METHODS)}")
