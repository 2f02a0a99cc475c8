"""A model as a function of columns, for frameworks that send batches to workers: Ray Data, Dask, Spark."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyqinfer.model import load
from pyqinfer.session import Session


class Predictor:
    """Loads a file once and maps a dict of arrays to a dict of arrays.

    It is batch-invariant: a row gets the same bits whatever batch it comes in, on whichever worker, thread count or kind of CPU.
    It is pickled as its arguments, so a worker that receives one opens the file itself: the path must lead to it there as well.

    Args:
        path: of a ``.pqi`` file.
        inputs: name of a column -> name of the model's input. Default: columns are called like the inputs.
        outputs: name of the model's output -> name of the column that it becomes. Default: columns are called like the outputs.
        threads, isa: see :class:`pyqinfer.Session`.

    Raises:
        ValueError: an input or output that the model does not have, or an input that no column is for. Errors of loading pass through.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        inputs: Mapping[str, str] | None = None,
        outputs: Mapping[str, str] | None = None,
        threads: int | None = None,
        isa: str = "auto",
    ) -> None:
        self._arguments = (os.fspath(path), inputs, outputs, threads, isa)
        self._session = Session(load(path), threads, isa)
        model = self._session.model
        self.inputs = dict(inputs) if inputs is not None else {name: name for name in model.inputs}
        self.outputs = dict(outputs) if outputs is not None else {name: name for name in model.outputs}
        if sorted(self.inputs.values()) != sorted(model.inputs):
            raise ValueError(f"inputs: expected a column for each of {', '.join(model.inputs)}, got {self.inputs}")
        if unknown := sorted(set(self.outputs) - set(model.outputs)):
            raise ValueError(f"outputs: the model has no {', '.join(unknown)}; its outputs are {', '.join(model.outputs)}")

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
        """Give the output columns of a batch: a mapping from columns to arrays whose first dimension is the rows.

        Columns that are no inputs are left aside. A column may be a list of arrays of one shape, as Parquet and Arrow give them.

        Raises:
            ValueError: a column is missing. The errors of :meth:`pyqinfer.Session.run` pass through.
        """
        missing = [column for column in self.inputs if column not in batch]
        if missing:
            raise ValueError(f"the batch has no column {', '.join(missing)}; it has {', '.join(map(str, batch))}")
        arrays = {name: _column(batch[column]) for column, name in self.inputs.items()}
        result = self._session.run(arrays)
        return {column: result[name] for name, column in self.outputs.items()}

    def __reduce__(self) -> tuple[Any, ...]:
        return Predictor, self._arguments


def _column(values: Any) -> NDArray[Any]:
    array = np.asarray(values)
    return np.stack(list(array)) if array.dtype == object else array
