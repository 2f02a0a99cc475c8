"""A small detector of RetinaNet's shape (Lin et al. 2017, arXiv 1708.02002): feature pyramid, heads that all levels share, focal loss.

Anchors, decoding and non-maximum suppression lie outside the network, so that what is quantized and converted is convolutions alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.methods.scenes.data import LETTERS, SIZE, overlaps
from benchmarks.methods.scenes.metrics import Detections

# Stride of each level of the pyramid, and the sides of its square anchors in pixels.
LEVELS = ((8, (13.0, 18.0)), (16, (22.0, 29.0)))
_ANCHORS = 2
_CLASSES = len(LETTERS)
_PRIOR = 0.01  # score of every anchor in the beginning
_SCALE = 0.1  # of the network's box outputs, so that they have a spread of about 1
_CANDIDATES, _LEAST_SCORE, _SAME = 60, 0.05, 0.5  # of an image before suppression; IoU from which two boxes of a class are one


def _block(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU())


class Detector(nn.Module):
    """``[N, 1, S, S]`` to scores and boxes of each level: ``[N, anchors * classes, s, s]`` and ``[N, anchors * 4, s, s]``, in turns."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(_block(1, 16, 2), _block(16, width, 2), _block(width, width))
        self.stage3 = nn.Sequential(_block(width, 2 * width, 2), _block(2 * width, 2 * width))
        self.stage4 = nn.Sequential(_block(2 * width, 3 * width, 2), _block(3 * width, 3 * width))
        self.lateral3, self.lateral4 = nn.Conv2d(2 * width, width, 1), nn.Conv2d(3 * width, width, 1)
        self.smooth3, self.smooth4 = _block(width, width), _block(width, width)
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.score_tower, self.box_tower = _block(width, width), _block(width, width)
        self.score = nn.Conv2d(width, _ANCHORS * _CLASSES, 3, padding=1)
        self.box = nn.Conv2d(width, _ANCHORS * 4, 3, padding=1)
        for layer in (self.score, self.box):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.score.bias, float(np.log(_PRIOR / (1 - _PRIOR))))  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        third = self.stage3(self.stem(x))
        fourth = self.lateral4(self.stage4(third))
        third = self.lateral3(third) + self.up(fourth)
        outputs: list[Tensor] = []
        for level in (self.smooth3(third), self.smooth4(fourth)):
            outputs += [self.score(self.score_tower(level)), self.box(self.box_tower(level))]
        return tuple(outputs)


def anchors() -> NDArray[np.float32]:
    """``[A, 4]``, in the order of `flatten`: by level, row, column, size."""
    found = []
    for stride, sides in LEVELS:
        centre = (np.arange(SIZE // stride) + 0.5) * stride
        y, x, side = np.meshgrid(centre, centre, sides, indexing="ij")
        found.append(np.stack([x - side / 2, y - side / 2, x + side / 2, y + side / 2], -1).reshape(-1, 4))
    return np.concatenate(found).astype(np.float32)


def flatten(outputs: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """The network's outputs as scores ``[N, A, classes]`` (logits) and boxes ``[N, A, 4]``."""

    def rows(maps: Sequence[Tensor], width: int) -> Tensor:
        return torch.cat([x.permute(0, 2, 3, 1).reshape(len(x), -1, width) for x in maps], 1)

    return rows(outputs[0::2], _CLASSES), rows(outputs[1::2], 4)


def loss(outputs: Sequence[Tensor], targets: tuple[Tensor, Tensor]) -> Tensor:
    """Focal loss of the scores and smooth L1 loss of the boxes of matched anchors, per matched anchor.

    ``targets``: boxes ``[N, T, 4]`` and labels ``[N, T]``, -1 where there is none.
    """
    scores, boxes = flatten(outputs)
    wanted, shifts = _targets(*targets)
    matched = (wanted >= 0).sum().clamp(min=1)
    counts = wanted > -2  # those between background and match are left out
    one_hot = F.one_hot(wanted.clamp(min=0), _CLASSES).to(scores) * (wanted >= 0).unsqueeze(-1)
    plain = F.binary_cross_entropy_with_logits(scores, one_hot, reduction="none")
    chance = scores.sigmoid()
    wrong = one_hot * (1 - chance) + (1 - one_hot) * chance
    weight = (0.25 * one_hot + 0.75 * (1 - one_hot)) * wrong.square() * counts.unsqueeze(-1)
    positive = wanted >= 0
    return (weight * plain).sum() / matched + F.smooth_l1_loss(boxes[positive], shifts[positive], reduction="sum", beta=0.5) / matched


def _targets(boxes: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each anchor the class (-1 background, -2 neither) and the box in its terms: ``[N, A]`` and ``[N, A, 4]``."""
    places = torch.from_numpy(anchors()).to(boxes)
    first = torch.maximum(places[:, None, :2], boxes[:, None, :, :2])
    last = torch.minimum(places[:, None, 2:], boxes[:, None, :, 2:])
    common = (last - first).clamp(min=0).prod(-1)
    area, own = (boxes[..., 2:] - boxes[..., :2]).prod(-1), (places[:, 2:] - places[:, :2]).prod(-1)
    table = common / (own[:, None] + area[:, None, :] - common)
    table = table.masked_fill((labels < 0)[:, None, :], 0.0)
    best, which = table.max(2)
    wanted = torch.where(best >= 0.5, labels.gather(1, which), torch.where(best < 0.4, -1, -2))
    # Every letter has at least the anchor that fits it best.
    closest = table.argmax(1)
    for place in range(labels.shape[1]):
        there = (labels[:, place] >= 0).nonzero().flatten()
        wanted[there, closest[there, place]] = labels[there, place]
        which[there, closest[there, place]] = place
    chosen = boxes.gather(1, which.unsqueeze(-1).expand(-1, -1, 4))
    side = places[:, 2:] - places[:, :2]
    centre, middle = (places[:, 2:] + places[:, :2]) / 2, (chosen[..., 2:] + chosen[..., :2]) / 2
    size = (chosen[..., 2:] - chosen[..., :2]).clamp(min=1)
    return wanted, torch.cat([(middle - centre) / side, (size / side).log()], -1) / _SCALE


def decode(outputs: Sequence[NDArray[np.float32]]) -> list[Detections]:
    """What the network says of a batch, class by class without those that a better scored box covers."""
    scores, boxes = (x.numpy() for x in flatten([torch.from_numpy(np.asarray(x)) for x in outputs]))
    places = anchors()
    side, centre = places[:, 2:] - places[:, :2], (places[:, 2:] + places[:, :2]) / 2
    middle = centre + _SCALE * boxes[..., :2] * side
    half = np.exp(np.clip(_SCALE * boxes[..., 2:], -4, 4)) * side / 2
    corners = np.concatenate([middle - half, middle + half], -1)
    chances = 1 / (1 + np.exp(-np.clip(scores, -30, 30)))
    return [_suppress(image_boxes, image_chances) for image_boxes, image_chances in zip(corners, chances, strict=True)]


def _suppress(boxes: NDArray[np.float32], chances: NDArray[np.float32]) -> Detections:
    anchor, label = np.nonzero(chances >= _LEAST_SCORE)
    score = chances[anchor, label]
    order = np.argsort(-score, kind="stable")[:_CANDIDATES]
    anchor, label, score = anchor[order], label[order], score[order]
    table = overlaps(boxes[anchor], boxes[anchor]) * (label[:, None] == label[None])
    kept: list[int] = []
    for i in range(len(anchor)):
        if not (table[i, kept] > _SAME).any():
            kept.append(i)
    return Detections(boxes[anchor[kept]], label[kept], score[kept])
