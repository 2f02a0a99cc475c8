"""Networks to race by name: of this package's zoo, of other packages, and of a user's own file."""

from __future__ import annotations

import inspect
import runpy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pyqinfer import zoo

_TOKENS, _VOCABULARY = 128, 1000  # of a transformer's text where a name does not say how long it is; every model has as many words


_Made = tuple[nn.Module, tuple[Tensor, ...]]


@dataclass(frozen=True)
class Network:
    """A network in eval mode, and the inputs that it is raced on, batch 1."""

    module: nn.Module
    inputs: tuple[Tensor, ...]


def build(name: str, size: int, seed: int) -> Network:
    """The network of a name, with random weights that ``seed`` decides wherever its maker does not bring real ones.

    Args:
        name: ``resnet18`` (a function of ``pyqinfer.zoo``), ``torchvision:NAME``, ``timm:NAME``, ``transformers:CLASS`` (its default
            configuration), ``transformers:CLASS@TOKENS``, or ``path/file.py:FUNCTION``. The function is called with ``size`` where it has
            such a parameter, and gives a module, which is raced on an image of that size, or a module and a tuple of inputs.
        size: height and width of an image, pixels. Where a package's network has a size of its own that it insists on, that one is taken.

    Raises ValueError for a name that nobody has.
    """
    torch.manual_seed(seed)
    source, colon, rest = name.rpartition(":")
    if not colon:
        module, inputs = _zoo(name), _image(size)
    elif source in _PACKAGES:
        module, inputs = _PACKAGES[source](rest, size)
    else:
        module, inputs = _own(Path(source), rest, size)
        return Network(module.eval().requires_grad_(False), inputs)  # a file's weights and statistics may be real ones
    return Network(zoo.randomize_batchnorm(module, seed).eval().requires_grad_(False), inputs)


def exists(name: str) -> None:
    """Raises ValueError for a name that :func:`build` cannot know, without building anything."""
    source, colon, rest = name.rpartition(":")
    if not colon:
        _zoo_function(name)
    elif source not in _PACKAGES:
        if not Path(source).is_file():
            raise ValueError(f"{name!r}: no file {source}, and no package of {', '.join(_PACKAGES)}")
        if not rest:
            raise ValueError(f"{name!r}: which function of {source}?")


def _image(size: int, channels: int = 3) -> tuple[Tensor, ...]:
    return (torch.randn(1, channels, size, size),)


def _zoo_function(name: str) -> Callable[[], nn.Module]:
    found = getattr(zoo, name, None)
    if not callable(found):
        raise ValueError(f"pyqinfer.zoo has no model {name!r}")
    function: Callable[[], nn.Module] = found
    return function


def _zoo(name: str) -> nn.Module:
    return _zoo_function(name)()


def _torchvision(name: str, size: int) -> _Made:
    from torchvision import models

    options: dict[str, Any] = {"weights": None}
    parameters = inspect.signature(models.get_model_builder(name)).parameters
    if "weights_backbone" in parameters:
        options["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "aux_logits": False}  # theirs are drawn for a minute; branches for training alone are left out
    return _First(models.get_model(name, **options)).eval(), _image(size)


def _timm(name: str, size: int) -> _Made:
    import timm

    model = timm.create_model(name, pretrained=False).eval()
    channels, height, _ = model.default_cfg.get("input_size", (3, size, size))
    return model, _image(height if model.default_cfg.get("fixed_input_size") else size, channels)


def _transformers(name: str, size: int) -> _Made:
    import transformers

    kind, _, tokens = name.partition("@")
    model = getattr(transformers, kind)
    config = model.config_class()
    config.use_cache = False
    if hasattr(config, "image_size"):
        inputs = {"pixel_values": _image(config.image_size)[0]}
    else:
        inputs = {"input_ids": torch.randint(0, _VOCABULARY, (1, int(tokens or _TOKENS)))}
    return _First(model(config), tuple(inputs)).eval(), tuple(inputs.values())


def _own(path: Path, function: str, size: int) -> _Made:
    found = runpy.run_path(str(path)).get(function)
    if not callable(found):
        raise ValueError(f"{path} has no function {function!r}")
    made = found(size) if "size" in inspect.signature(found).parameters else found()
    return (made[0], tuple(made[1])) if isinstance(made, tuple) else (made, _image(size))


_PACKAGES: dict[str, Callable[[str, int], _Made]] = {"torchvision": _torchvision, "timm": _timm, "transformers": _transformers}


class _First(nn.Module):
    """A network whose inputs have names or whose outputs do: called with tensors in an order, it gives its first output."""

    def __init__(self, network: nn.Module, names: tuple[str, ...] = ()) -> None:
        super().__init__()
        self.network = network
        self.names = names

    def forward(self, *inputs: Tensor) -> Tensor:
        result: Any = self.network(**dict(zip(self.names, inputs, strict=True))) if self.names else self.network(*inputs)
        while not isinstance(result, Tensor):
            result = next(iter(result.values())) if hasattr(result, "values") else result[0]
        return result
