"""uint8 NHWC images as inputs: the codes of the first layer are those of torch's ToTensor, Normalize and quantize."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from agreement import assert_engine_equals_twin
from torch import Tensor, nn
from typer.testing import CliRunner

import pyqinfer as pq
from pyqinfer import _core
from pyqinfer.cli.app import app
from pyqinfer.session import Session

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
IMAGE = {"x": pq.ImageInput(MEAN, STD)}


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Glyphs, uint8 [N, H, W, 3]: grey, inverted and half as bright."""
    grey, _ = pq.zoo.glyphs("validation", 12)
    image = np.rint(grey[:16, 0] * 127.5 + 127.5).astype(np.uint8)[..., None]
    return np.concatenate([image, 255 - image, image // 2], 3)


def normalized(image: np.ndarray) -> Tensor:
    """The pixels as torchvision's ToTensor and Normalize give them."""
    x = torch.from_numpy(image).permute(0, 3, 1, 2).to(torch.float32).div(255)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, STD))
    return (x - mean).div(std).contiguous()


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.last = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(torch.relu(self.conv(x)))


def test_bytes_enter_the_first_layer_with_the_codes_of_the_float_path(pixels: np.ndarray) -> None:
    x = normalized(pixels)
    quantized = pq.quantize(Net().eval(), pq.PTQ(), example_inputs=(x,), calibration=[(x,)])
    from_floats = pq.convert(quantized, example_inputs=(x,))
    from_bytes = pq.convert(quantized, example_inputs=(x,), image_inputs=IMAGE, dynamic_size=True)
    first, *others = from_bytes.graph["nodes"]
    assert first["op"] == "table"
    assert from_bytes.graph["constants"][first["constants"]["table"]]["shape"] == [3, 256]
    assert [node["op"] for node in others] == [node["op"] for node in from_floats.graph["nodes"]][1:]
    assert_engine_equals_twin(from_bytes, torch.from_numpy(pixels))
    codes = Session(from_floats, threads=1).run({"x": x.numpy()}, capture=["x.quantize"])
    for isa in _core.cpu_info()["isas"]:
        result = Session(from_bytes, threads=2, isa=isa).run({"x": pixels}, capture=[first["name"]])
        np.testing.assert_array_equal(result[first["name"]], codes["x.quantize"])
        np.testing.assert_array_equal(result["output"], codes["output"])


def test_float_layers_read_bytes_through_a_normalization_in_float(pixels: np.ndarray) -> None:
    net, x = Net().eval(), normalized(pixels)
    model = pq.convert(net, example_inputs=(x,), image_inputs=IMAGE)
    assert [node["op"] for node in model.graph["nodes"]][:2] == ["affine", "conv2d"]
    result = Session(model, threads=1)(pixels)
    np.testing.assert_allclose(result, net(x).detach().numpy(), rtol=1e-5, atol=1e-5)
    assert_engine_equals_twin(model, torch.from_numpy(pixels))


def test_one_normalization_for_all_channels_is_one_table(pixels: np.ndarray) -> None:
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div(255).contiguous()
    quantized = pq.quantize(Net().eval(), pq.PTQ(), example_inputs=(x,), calibration=[(x,)])
    model = pq.convert(quantized, example_inputs=(x,), image_inputs={"x": pq.ImageInput()})
    first = model.graph["nodes"][0]
    assert model.graph["constants"][first["constants"]["table"]]["shape"] == [256]
    floats = Session(pq.convert(quantized, example_inputs=(x,)), threads=1)(x.numpy())
    np.testing.assert_array_equal(Session(model, threads=1)(pixels), floats)


def test_the_stored_sample_is_an_image_and_verifies(pixels: np.ndarray, tmp_path: Path) -> None:
    x = normalized(pixels)
    model = pq.convert(Net().eval(), example_inputs=(x,), image_inputs=IMAGE)
    (sample,) = model.graph["samples"]
    np.testing.assert_array_equal(model.constant(sample["inputs"]["x"]), pixels[:1])
    model.save(tmp_path / "net.pqi")
    assert CliRunner().invoke(app, ["verify", str(tmp_path / "net.pqi")]).exit_code == 0


def test_the_command_line_takes_mean_and_std(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("import torch\nnet = lambda: torch.nn.Conv2d(3, 4, 3).eval()\n")
    arguments = ["convert", f"{tmp_path}/nets.py:net", "--input", "1x3x9x8", "--out", f"{tmp_path}/a.pqi"]
    result = CliRunner().invoke(app, [*arguments, "--image-mean", "0.5,0.4,0.3", "--image-std", "0.2"])
    assert result.exit_code == 0, result.output
    graph = pq.load(tmp_path / "a.pqi").graph
    value = graph["values"][graph["inputs"][0]["value"]]
    assert (value["dtype"], value["shape"]) == ("u8", ["N", 9, 8, 3])
    assert CliRunner().invoke(app, [*arguments, "--image-mean", "a"]).exit_code != 0


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"y": pq.ImageInput()}, "no input"),
        ({"x": pq.ImageInput((0.5, 0.5))}, "2 and std 1 numbers for 3 channels"),
    ],
)
def test_images_that_do_not_fit_the_model_are_refused(images: dict[str, pq.ImageInput], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pq.convert(Net().eval(), example_inputs=(torch.zeros(1, 3, 8, 8),), image_inputs=images)


@pytest.mark.parametrize("arguments", [((0.5,), (0.0,)), ((float("nan"),), 1.0), (0.0, (-1.0,))])
def test_a_normalization_that_means_nothing_is_refused(arguments: tuple) -> None:
    with pytest.raises(ValueError, match="finite"):
        pq.ImageInput(*arguments)
