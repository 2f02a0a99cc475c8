"""Every block of Python in the README and in docs/ runs, in the order of its page and in one namespace; every link leads somewhere."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import pyqinfer as pq

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def small_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)),
    ).eval()


def names() -> dict[str, Any]:
    """What pages take for granted: a model, an input, batches of inputs and of images with labels."""
    images = torch.randn(4, 8, 3, 16, 16)
    loader = [(batch, torch.arange(8) % 5) for batch in images]
    own = {"model": small_net(), "x": images[0][:1], "batches": list(images), "loader": loader, "val_loader": loader, "steps": len(loader)}
    return {"pq": pq, "torch": torch, "F": F, **own}


def write_onnx(folder: Path) -> None:
    pytest.importorskip("onnx")
    (folder / "net.onnx").write_bytes(pq.convert(small_net(), example_inputs=torch.randn(1, 3, 16, 16)).to_onnx())


# What lies in the folder that a page's blocks run in.
FILES: dict[str, Callable[[Path], None]] = {"onnx.md": write_onnx}


def blocks(page: Path) -> list[tuple[int, str]]:
    """Line and text of each block."""
    text = page.read_text()
    return [(text.count("\n", 0, match.start(1)) + 1, match[1]) for match in BLOCK.finditer(text)]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page)], ids=lambda page: page.name)
def test_the_blocks_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    FILES.get(page.name, lambda folder: None)(tmp_path)
    namespace = names()
    for line, text in blocks(page):
        # Lines of the page, so that a failure shows where it is.
        exec(compile("\n" * (line - 1) + text, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    targets = [target for target in LINK.findall(page.read_text()) if "://" not in target]
    assert [target for target in targets if not (page.parent / target).exists()] == []


def test_the_api_page_names_what_there_is() -> None:
    found = re.findall(r"^::: (\S+)$", (ROOT / "docs" / "api.md").read_text(), re.MULTILINE)
    for path in found:
        module, _, name = path.rpartition(".")
        if path != "pyqinfer.errors":
            assert hasattr(import_module(module), name), path
    left_out = {"CancelFlag", "FakeQuant", "__version__", "cpu_info", "get_cmake_dir", "get_include", "register_fake_quant", "train", "zoo"}
    errors = {name for name in pq.__all__ if name.endswith("Error")}
    assert set(pq.__all__) - left_out - errors <= {path.rpartition(".")[2] for path in found}


def test_the_site_has_every_page() -> None:
    nav = (ROOT / "mkdocs.yml").read_text().partition("\nnav:\n")[2]
    assert sorted(re.findall(r": (\S+\.md)$", nav, re.MULTILINE)) == sorted(page.name for page in (ROOT / "docs").glob("*.md"))
