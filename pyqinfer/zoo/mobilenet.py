"""MobileNetV2 (Sandler et al. 2018, arXiv 1801.04381) with torchvision's layer names and parameter shapes."""

from __future__ import annotations

from torch import Tensor, nn

# (expansion, output channels, blocks): table 2 of the paper.
_STAGES = ((1, 16, 1), (6, 24, 2), (6, 32, 3), (6, 64, 4), (6, 96, 3), (6, 160, 3), (6, 320, 1))
# Strides of the stem and of each stage's first block.
_IMAGENET_STRIDES = (2, 1, 2, 2, 2, 1, 2, 1)
_SMALL_IMAGE_STRIDES = (1, 1, 2, 2, 1, 1, 2, 1)


def _scaled(channels: int, width: float) -> int:
    """`channels` times the width multiplier: a multiple of 8, at least 8 and not more than a tenth below the product."""
    scaled = max(8, int(channels * width + 4) // 8 * 8)
    return scaled + 8 if scaled < 0.9 * channels * width else scaled


def _conv_bn_relu6(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(inputs, outputs, kernel, stride=stride, padding=kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.ReLU6(inplace=True))


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise 3x3, project 1x1 without activation; a shortcut where the shape stays."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_conv_bn_relu6(inputs, hidden, 1)]
        layers += [
            _conv_bn_relu6(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        ]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.use_res_connect else y


class MobileNetV2(nn.Module):
    """``[N, in_channels, H, W] -> [N, num_classes]``."""

    def __init__(self, num_classes: int, in_channels: int, width: float, strides: tuple[int, ...]) -> None:
        super().__init__()
        channels = _scaled(32, width)
        features: list[nn.Module] = [_conv_bn_relu6(in_channels, channels, 3, strides[0])]
        for (expansion, outputs, blocks), stride in zip(_STAGES, strides[1:], strict=True):
            for i in range(blocks):
                features.append(InvertedResidual(channels, _scaled(outputs, width), stride if i == 0 else 1, expansion))
                channels = _scaled(outputs, width)
        last = _scaled(1280, max(1.0, width))
        features.append(_conv_bn_relu6(channels, last, 1))
        self.features = nn.Sequential(*features)
        linear = nn.Linear(last, num_classes)
        self.classifier = nn.Sequential(nn.Dropout(0.2), linear)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out")
        nn.init.normal_(linear.weight, 0.0, 0.01)
        nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.features(x)
        return self.classifier(x.mean((2, 3)))  # type: ignore[no-any-return]


def mobilenet_v2(num_classes: int = 1000) -> MobileNetV2:
    """MobileNetV2 1.0: 3,504,872 parameters and 300,774,272 MACs at 224x224 (1000 classes)."""
    return MobileNetV2(num_classes, 3, 1.0, _IMAGENET_STRIDES)


def mobilenet_v2_small(num_classes: int = 10, in_channels: int = 3, width: float = 0.5) -> MobileNetV2:
    """MobileNetV2 of half width for images of about 28x28 to 64x64: the stem keeps the resolution, and only three stages halve it."""
    return MobileNetV2(num_classes, in_channels, width, _SMALL_IMAGE_STRIDES)
