"""torchvision's networks for classification, segmentation, detection (up to the heads' raw outputs) and optical flow."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from benchmarks.coverage.case import Built, Case

# The members of a family that are tried beside its first one would say nothing new: one network a family.
_CLASSIFIERS = [
    "alexnet",
    "convnext_tiny",
    "densenet121",
    "efficientnet_b0",
    "efficientnet_v2_s",
    "googlenet",
    "inception_v3",
    "maxvit_t",
    "mnasnet0_5",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "regnet_x_400mf",
    "regnet_y_400mf",
    "resnet18",
    "resnet50",
    "resnext50_32x4d",
    "shufflenet_v2_x0_5",
    "squeezenet1_0",
    "swin_t",
    "swin_v2_t",
    "vgg11",
    "vgg11_bn",
    "vit_b_16",
    "wide_resnet50_2",
]
_SEGMENTERS = ("deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50", "fcn_resnet50", "lraspp_mobilenet_v3_large")
_VIDEO = ("r3d_18", "mc3_18", "r2plus1d_18", "s3d", "mvit_v2_s", "swin3d_t")
# Frames, height and width of the networks that do not take any.
_FRAMES = {"s3d": (16, 224, 224), "mvit_v2_s": (16, 224, 224), "swin3d_t": (4, 64, 64)}
_DETECTORS = ("retinanet_resnet50_fpn", "fcos_resnet50_fpn", "ssd300_vgg16", "ssdlite320_mobilenet_v3_large", "fasterrcnn_resnet50_fpn")
_FIXED_SIZES = {
    "vit_b_16": 224,
    "maxvit_t": 224,
    "swin_t": 64,
    "swin_v2_t": 64,
    "inception_v3": 96,
    "ssd300_vgg16": 300,
    "ssdlite320_mobilenet_v3_large": 320,
}
_NO_INIT = {"googlenet", "inception_v3"}


def _classifier(name: str) -> Built:
    from torchvision import models

    torch.manual_seed(0)
    options = {"init_weights": False} if name in _NO_INIT else {}
    size = _FIXED_SIZES.get(name, 64)
    return Built(models.get_model(name, weights=None, **options).eval(), (torch.randn(2, 3, size, size),))


def _segmenter(name: str) -> Built:
    from torchvision import models

    torch.manual_seed(0)
    return Built(models.get_model(name, weights=None, weights_backbone=None).eval(), (torch.randn(2, 3, 64, 64),))


def _video(name: str) -> Built:
    from torchvision import models

    torch.manual_seed(0)
    return Built(models.get_model(name, weights=None).eval(), (torch.randn(2, 3, *_FRAMES.get(name, (4, 32, 32))),))


class _Flow(nn.Module):
    """Optical flow after two steps of its refinement."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        y: Tensor = self.network(first, second, num_flow_updates=2)[-1]
        return y


def _flow(name: str) -> Built:
    from torchvision import models

    torch.manual_seed(0)
    return Built(_Flow(models.get_model(name, weights=None)).eval(), (torch.randn(2, 3, 128, 128), torch.randn(2, 3, 128, 128)))


class _Body(nn.Module):
    """A detector without what picks boxes: features of the backbone, and the head's raw outputs where it has one."""

    def __init__(self, detector: nn.Module) -> None:
        super().__init__()
        self.backbone = detector.backbone
        self.head = getattr(detector, "head", None)
        self.rpn = detector.rpn.head if hasattr(detector, "rpn") else None

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        features = list(self.backbone(images).values())
        if self.head is not None:
            found: dict[str, Tensor] = self.head(features)
            return found
        assert self.rpn is not None
        scores, boxes = self.rpn(features)
        return {f"{kind}{i}": x for kind, xs in (("scores", scores), ("boxes", boxes)) for i, x in enumerate(xs)}


def _detector(name: str) -> Built:
    from torchvision import models

    torch.manual_seed(0)
    size = _FIXED_SIZES.get(name, 64)
    return Built(_Body(models.get_model(name, weights=None, weights_backbone=None).eval()).eval(), (torch.randn(2, 3, size, size),))


def cases() -> list[Case]:
    """Every network as a case."""
    kinds: list[tuple[Callable[[str], Built], tuple[str, ...] | list[str]]] = [
        (_classifier, _CLASSIFIERS),
        (_segmenter, _SEGMENTERS),
        (_detector, _DETECTORS),
        (_video, _VIDEO),
        (_flow, ("raft_small",)),
    ]
    return [Case("torchvision", name, partial(build, name)) for build, names in kinds for name in names]
