"""What a new user gets wrong: every row a call, the exception, and words of the sentence that says what to do.

No message is a traceback, and none shows the inside of torch. Rows came from trying; a mistake that was met again belongs here.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from command import invoke
from torch import nn

import pyqinfer as pq

MODULE = """
import torch
from torch import nn

def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()

def broken():
    raise RuntimeError("no weights here")

number = 3
"""
X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ONE = (X[:1],)


def make_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()


class Masked(nn.Module):
    """A model with two inputs, which a tokenizer gives as a dict."""

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return tokens * mask


class Faulty(nn.Module):
    """A model whose own code fails."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.no_such_method()  # type: ignore[operator]


@pytest.fixture(scope="module")
def w(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """A float network, its quantized graph, model, session and file, and files of arrays."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "nets.py").write_text(MODULE)
    net = make_net()
    graph = pq.quantize(net, pq.PTQ(), example_inputs=ONE, calibration=X)
    model = pq.convert(graph, example_inputs=ONE)
    model.save(folder / "net.pqi")
    for name, array in {"x": X.numpy(), "x64": X.double().numpy(), "x1": X[:, :1].numpy(), "objects": np.array([{}], object)}.items():
        np.save(folder / f"{name}.npy", array)
    np.savez(folder / "unlabelled.npz", x=X.numpy())
    np.savez(folder / "floats.npz", x=X.numpy(), y=np.zeros(4))
    return SimpleNamespace(folder=folder, net=net, graph=graph, model=model, session=pq.Session(model))


def calibrate(w: SimpleNamespace, data: Any, model: nn.Module | None = None, examples: Any = ONE) -> Any:
    return pq.quantize(model or w.net, pq.PTQ(), example_inputs=examples, calibration=data)


Row = tuple[str, Callable[[SimpleNamespace], Any], type[Exception], str]

CALIBRATION: list[Row] = [
    ("wrong channels", lambda w: calibrate(w, [X, X[:, :2]]), ValueError, "calibration batch 1: has shape [4, 2, 8, 8]"),
    ("channels last", lambda w: calibrate(w, [X.permute(0, 2, 3, 1)]), ValueError, "x.permute(0, 3, 1, 2)"),
    ("no batch dimension", lambda w: calibrate(w, [X[0]]), ValueError, "x[None] is a batch of one"),
    ("bytes", lambda w: calibrate(w, [X.byte()]), ValueError, "x.float() / 255"),
    ("float64", lambda w: calibrate(w, X.double().numpy()), ValueError, "call .to(torch.float32)"),
    ("not finite", lambda w: calibrate(w, [X, X * float("nan")]), ValueError, "calibration batch 1: holds NaN"),
    ("a path", lambda w: calibrate(w, "images.npy"), TypeError, "np.load('images.npy')"),
    ("a number", lambda w: calibrate(w, 32), TypeError, "a list, a generator or a DataLoader"),
    ("numbers", lambda w: calibrate(w, [1, 2]), TypeError, "calibration batch 0: expected a tensor, an array"),
    ("an empty list", lambda w: calibrate(w, []), ValueError, "a generator that has been read once is empty"),
    ("a dict of other names", lambda w: calibrate(w, [{"pixel_values": X}]), ValueError, "missing input among pixel_values"),
    ("one of two inputs", lambda w: calibrate(w, [X], Masked(), (X[:1], X[:1])), ValueError, "the model has 2 inputs, got 1"),
    ("another device", lambda w: calibrate(w, [X.to("meta")]), ValueError, "call .cpu() first"),
    ("none", lambda w: calibrate(w, None), ValueError, "needs batches of typical inputs"),
]

OPTIONS: list[Row] = [
    ("bits for all as bits", lambda w: pq.PTQ(bits=9), TypeError, "weight_bits= and act_bits= are for all layers"),
    ("nine bits of a layer", lambda w: pq.PTQ(bits={"fc": "9/8"}), ValueError, "layer 'fc': bits '9/8': weight bits: expected 2..8"),
    ("nine bits", lambda w: pq.PTQ(weight_bits=9), ValueError, "expected 2..8, 'ternary'"),
    ("bits as text", lambda w: pq.PTQ(weight_bits="4"), ValueError, "expected 2..8"),
    ("ends as a number", lambda w: pq.PTQ(first_last=8), TypeError, "first_last: bits: expected a string such as '4/8'"),
    ("an unknown observer", lambda w: pq.PTQ(observer="histogram"), ValueError, "expected one of mse, minmax"),
    ("iterations as text", lambda w: pq.PTQ(iterations="many"), TypeError, "iterations: expected int, got str"),
    ("a switch as text", lambda w: pq.PTQ(fold="yes"), TypeError, "fold: expected bool"),
    ("epochs as text", lambda w: pq.QAT(epochs="3"), TypeError, "epochs: expected int"),
    ("a learning rate below 0", lambda w: pq.QAT(lr=-1), ValueError, "lr: expected a number above 0"),
    ("an empty budget", lambda w: pq.Budget(), ValueError, "give at least one of bops, size_mb"),
    ("a budget in per cent", lambda w: pq.Budget(bops=5), ValueError, "a fraction of the float network's, at most 1"),
    ("bits without layers", lambda w: pq.BitConfig([8, 8]), TypeError, 'a mapping such as {"fc": "4/8"}'),
    ("bits from Python", lambda w: pq.BitConfig.load(w.folder / "nets.py"), ValueError, "not a JSON file of bits"),
    ("a deviation of 0", lambda w: pq.ImageInput(std=0), ValueError, "std positive"),
    ("memory as a float", lambda w: pq.RunOptions(max_memory=1e9), TypeError, "max_memory: expected int"),
]


def quantize(w: SimpleNamespace, model: Any = None, method: Any = None, **options: Any) -> Any:
    return pq.quantize(model or w.net, method or pq.PTQ(), **{"example_inputs": ONE, "calibration": X, **options})


MODELS: list[Row] = [
    ("the method's class", lambda w: quantize(w, method=pq.PTQ), TypeError, "expected an instance, pq.PTQ()"),
    ("the method's word", lambda w: quantize(w, method="ptq"), TypeError, "such as pq.PTQ()"),
    ("the model's class", lambda w: quantize(w, nn.Conv2d), TypeError, "make an instance, Conv2d(...)"),
    ("a function", lambda w: quantize(w, make_net), TypeError, "pass what it returns, make_net()"),
    ("a state dict", lambda w: quantize(w, make_net().state_dict()), TypeError, "load_state_dict"),
    ("a converted model", lambda w: quantize(w, w.model), TypeError, "pass the model that it was made of"),
    ("quantized twice", lambda w: quantize(w, w.graph), ValueError, "is quantized already; pq.convert("),
    ("half precision", lambda w: quantize(w, make_net().half()), ValueError, "its parameters are float16: call model.float()"),
    ("double precision", lambda w: pq.convert(make_net().double(), example_inputs=ONE), ValueError, "call model.float() first"),
    ("half examples", lambda w: pq.convert(w.net, example_inputs=(X.half(),)), ValueError, "call .float() on it"),
    ("examples of bytes", lambda w: pq.convert(w.net, example_inputs=(X.byte(),)), ValueError, "x.float() / 255"),
    ("no examples", lambda w: pq.convert(w.net), TypeError, "example_inputs=(torch.zeros(1, 3, 224, 224),)"),
    (
        "a shape as examples",
        lambda w: pq.convert(w.net, example_inputs=(1, 3, 8, 8)),
        TypeError,
        "example_inputs[0]: expected a torch tensor",
    ),
    (
        "one channel",
        lambda w: pq.convert(w.net, example_inputs=X[:, :1]),
        ValueError,
        "does not run on example_inputs [4, 1, 8, 8] float32",
    ),
    (
        "one channel, quantized",
        lambda w: calibrate(w, X[:, :1], examples=X[:, :1]),
        ValueError,
        "expected input[4, 1, 8, 8] to have 3 channels",
    ),
    ("too many inputs", lambda w: pq.convert(w.net, example_inputs=(X, X)), ValueError, "does not run on example_inputs"),
    ("a fault of the model", lambda w: pq.convert(Faulty(), example_inputs=ONE), ValueError, "test_wrong_inputs.py, line"),
    ("a layer that is not there", lambda w: quantize(w, keep={"fc": "8/8"}), ValueError, "no layer matches 'fc'; the layers are 0, 4"),
    ("layers as a list", lambda w: quantize(w, keep=["fc"]), TypeError, 'such as {"fc": "8/8"}'),
    ("a budget for PTQ", lambda w: quantize(w, budget=pq.Budget(bops=0.05)), ValueError, "pass them as PTQ(bits=...)"),
    ("a budget as a number", lambda w: quantize(w, method=pq.OMPQ(), budget=0.05), TypeError, "pq.Budget(bops=0.04)"),
    ("PTQ for allocation", lambda w: pq.allocate(w.net, pq.PTQ(), budget=pq.Budget(bops=0.1), example_inputs=ONE), TypeError, "pq.OMPQ()"),
    ("no training data", lambda w: pq.quantize(w.net, pq.QAT(), example_inputs=ONE), ValueError, "labelled batches"),
    ("no BatchNorm", lambda w: pq.quantize(w.net, pq.ZeroQ(), example_inputs=ONE), ValueError, "quantize it with pq.PTQ(...)"),
    ("a fallback that is none", lambda w: pq.convert(w.net, example_inputs=ONE, fallback="raise"), ValueError, "'float' or 'error'"),
    ("images as a list", lambda w: pq.convert(w.net, example_inputs=ONE, image_inputs=[1]), TypeError, 'such as {"x": pq.ImageInput()}'),
    ("a file of torch", lambda w: pq.convert("model.pt", example_inputs=ONE), pq.UnsupportedError, "load it yourself"),
    ("a file of ours", lambda w: pq.convert(w.folder / "net.pqi"), pq.UnsupportedError, "pq.load reads it"),
]

RUNNING: list[Row] = [
    ("no such file", lambda w: pq.load(w.folder / "no.pqi"), FileNotFoundError, "no.pqi"),
    ("another file", lambda w: pq.load(w.folder / "nets.py"), pq.ModelFormatError, "not a pyqinfer model"),
    ("a session of a module", lambda w: pq.Session(w.net), TypeError, "pq.convert makes a Model"),
    ("no threads", lambda w: pq.Session(w.model, threads=0), ValueError, "expected 1 to 1024"),
    ("an unknown instruction set", lambda w: pq.Session(w.model, isa="sse2"), ValueError, "known: reference, avx2"),
    ("another name", lambda w: w.session(y=X), ValueError, "the model's inputs are 'input'"),
    ("by position and by name", lambda w: w.session(X, input=X), TypeError, "by position or by name, not both"),
    ("no input", lambda w: w.session(), ValueError, "expected 1 inputs (input), got 0"),
    ("lists of numbers", lambda w: w.session(X.tolist()), TypeError, "expected a numpy array or a torch tensor, got list"),
    ("doubles", lambda w: w.session(X.double()), TypeError, "expected dtype float32, got float64"),
    ("another shape", lambda w: w.session(X[:, :1]), ValueError, "expected shape [N, 3, 8, 8], got [4, 1, 8, 8]"),
    ("a layer as text", lambda w: w.session.run(X, capture="0"), TypeError, "a list of layer names such as ['0']"),
    ("measured on a shape", lambda w: pq.profile(w.model, (1, 3, 8, 8)), TypeError, "expected an array or tensor"),
    ("measured on one channel", lambda w: pq.benchmark(w.net, X[:, :1]), ValueError, "the model does not run on inputs [4, 1, 8, 8]"),
    ("compared on one channel", lambda w: pq.compare(w.net, w.model, X[:, :1]), ValueError, "the model does not run on inputs"),
    ("a race of numbers", lambda w: pq.benchmark({"a": 3}, X), TypeError, "a: expected a pyqinfer Session or Model"),
    ("a race of nobody", lambda w: pq.benchmark([], X), ValueError, "at least one model"),
    ("profiled without a run", lambda w: pq.profile(w.session, X, repeat=0), ValueError, "repeat: expected at least 1"),
    ("compared with another net", lambda w: pq.compare(Masked(), w.session, (X,)), ValueError, "does not run on inputs"),
]

ROWS = [*CALIBRATION, *OPTIONS, *MODELS, *RUNNING]


@pytest.mark.parametrize(("call", "error", "text"), [row[1:] for row in ROWS], ids=[row[0] for row in ROWS])
def test_a_mistake_is_told_in_a_sentence(
    w: SimpleNamespace, call: Callable[[SimpleNamespace], Any], error: type[Exception], text: str
) -> None:
    with pytest.raises(error) as caught:
        call(w)
    message = str(caught.value)
    assert text in message
    assert len(message) < 400
    assert "\n" not in message
    shown = "".join(traceback.format_exception(caught.value))
    assert "site-packages/torch" not in shown


INPUT = ("--input", "1x3x8x8")
QUANTIZE = ("quantize", "{w}/nets.py:net", *INPUT, "--out", "{w}/a.pqi")

COMMANDS = [
    (("convert", "{w}/nets.py:net", "--input", "1x1x64x64", "--out", "{w}/a.pqi"), "to have 3 channels, but got 1"),
    (("convert", "{w}/nets.py:net", "--input", "0x3x8x8", "--out", "{w}/a.pqi"), "numbers above 0 joined by x"),
    (("convert", "{w}/nets.py:net", *INPUT, "--out", "{w}/a.txt"), "a name that ends in .pqi"),
    (("convert", "{w}/nets.py:net", *INPUT, "--out", "{w}/no/a.pqi"), "there is no folder"),
    (("convert", "{w}/nets.py:broken", *INPUT, "--out", "{w}/a.pqi"), "broken() raised RuntimeError: no weights here"),
    (("convert", "{w}/nets.py:number", *INPUT, "--out", "{w}/a.pqi"), "expected a torch.nn.Module, got int"),
    (("convert", "{w}/nets.py", *INPUT, "--out", "{w}/a.pqi"), "such as"),
    (("convert", "no_such_module:net", *INPUT, "--out", "{w}/a.pqi"), "No module named 'no_such_module'"),
    (("quantize", "{w}/nets.py:net", "--input", "1x1x8x8", "--out", "{w}/a.pqi"), "to have 3 channels, but got 1"),
    (("quantize", "{w}/net.pqi", *INPUT, "--out", "{w}/a.pqi"), "is converted already"),
    ((*QUANTIZE, "--calib", "{w}/x1.npy"), "calibration batch 0: has shape [4, 1, 8, 8]"),
    ((*QUANTIZE, "--calib", "{w}/x64.npy"), "calibration batch 0: is float64"),
    ((*QUANTIZE, "--calib", "{w}/objects.npy"), "a .npy or .npz file of numbers"),
    ((*QUANTIZE, "--calib", "{w}/nets.py"), "a .npy or .npz file of numbers"),
    ((*QUANTIZE, "--calib", "{w}/no.npy"), "No such file"),
    ((*QUANTIZE[:-1], "{w}/no/a.pqi"), "there is no folder"),
    (("bench", "{w}/nets.py:net", "--input", "1x1x8x8"), "the model does not run on inputs"),
    (("bench", "{w}/nets.py:net"), "a torch model needs --input SHAPE"),
    (("bench", "{w}/net.pqi", "--input", "1x1x8x8"), "expected shape [N, 3, 8, 8]"),
    (("compare", "{w}/nets.py:net", "{w}/net.pqi", "--data", "{w}/x1.npy"), "the model does not run on inputs"),
    (("pareto", "{w}/nets.py:net", *INPUT, "--eval", "{w}/x.npy"), "one array without labels: np.savez(path, x=images, y=classes)"),
    (("pareto", "{w}/nets.py:net", *INPUT, "--eval", "{w}/unlabelled.npz"), "x (images) and y (classes)"),
    (("pareto", "{w}/nets.py:net", *INPUT, "--eval", "{w}/floats.npz"), "labels: expected integers"),
    (("train", "{w}/nets.py:net", *INPUT, "--data", "{w}/x.npy", "--out", "{w}/a.pqi"), "one array without labels"),
    (("run", "{w}/net.pqi", "{w}/x1.npy", "--out", "{w}/y.npz"), "expected shape [N, 3, 8, 8], got [4, 1, 8, 8]"),
    (("run", "{w}/net.pqi", "{w}/x64.npy", "--out", "{w}/y.npz"), "expected dtype float32, got float64"),
    (("run", "{w}/net.pqi", "{w}/x.npy", "--out", "{w}/y.txt"), "ends in .npz or .npy"),
    (("inspect", "{w}/x.npy"), "not an ONNX file"),
    (("verify", "{w}/nets.py:net"), "expected a .pqi file"),
]


@pytest.mark.parametrize(("arguments", "text"), COMMANDS, ids=[f"{c[0][0]} {i}" for i, c in enumerate(COMMANDS)])
def test_a_mistake_on_the_command_line_is_one_line(w: SimpleNamespace, arguments: tuple[str, ...], text: str) -> None:
    code, _, err = invoke(*(argument.format(w=w.folder) for argument in arguments))
    assert code == 1
    assert text in err
    assert err.splitlines()[-1].startswith("error: ")
    assert "Traceback" not in err
    assert not Path(w.folder, "a.pqi").exists()
