"""The examples for Ray and Dask on local workers: the labels are those of one process, whatever worker and batch an image came to."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import pyqinfer as pq

pytest.importorskip("pyarrow")
EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "distributed"


def run(script: str, *arguments: Path | str) -> str:
    places = [str(Path(pq.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(places)}
    command = [sys.executable, EXAMPLES / script, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, images, and the labels that one process gives."""
    path = tmp_path_factory.mktemp("distributed")
    x = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    net = pq.zoo.load_trained("resnet20_glyphs")
    pq.convert(pq.quantize(net, pq.PTQ(), example_inputs=x[:1], calibration=x), example_inputs=x[:1]).save(path / "model.pqi")
    run("make_images.py", path / "images.parquet", "10000")
    assert "10000 images" in run("classify.py", path / "model.pqi", path / "images.parquet", path / "one.npy")
    return path


@pytest.mark.slow
@pytest.mark.parametrize(("package", "script"), [("dask.dataframe", "with_dask.py"), ("ray", "with_ray.py")])
def test_workers_give_the_labels_of_one_process(folder: Path, package: str, script: str) -> None:
    pytest.importorskip(package)
    run(script, folder / "model.pqi", folder / "images.parquet", folder / "many.npy")
    assert np.array_equal(np.load(folder / "many.npy"), np.load(folder / "one.npy"))
