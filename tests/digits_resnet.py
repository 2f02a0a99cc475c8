"""A small residual network (9 BatchNorms, 10 layers) trained on scikit-learn's digits at 3x32x32: seconds to train, and real statistics."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyqinfer import zoo
from pyqinfer.zoo.resnet import SmallImageResNet

_EPOCHS = 8
_BATCH = 64


@lru_cache
def digit_images(split: str) -> tuple[Tensor, Tensor]:
    """Images ``[N, 3, 32, 32]`` of about mean 0 and standard deviation 1, and labels."""
    images, labels = zoo.digits(split)
    enlarged = F.interpolate(torch.from_numpy(images), size=(32, 32), mode="bilinear", align_corners=False)
    train_mean, train_std = -0.39, 0.69
    return ((enlarged - train_mean) / train_std).expand(-1, 3, -1, -1).contiguous(), torch.from_numpy(labels)


@lru_cache
def digits_net() -> nn.Module:
    """Trained once per test session, deterministically; in eval mode. Tests must leave it as it is."""
    torch.manual_seed(0)
    net = SmallImageResNet(width=16, depth=1, in_channels=3, num_classes=10)
    images, labels = digit_images("train")
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=3e-3)
    steps = _EPOCHS * (len(images) // _BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
    for _ in range(_EPOCHS):
        for chosen in torch.randperm(len(images))[: len(images) // _BATCH * _BATCH].split(_BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(images[chosen]), labels[chosen]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def top1(model: nn.Module) -> float:
    """Percent of the 359 test images."""
    images, labels = digit_images("test")
    with torch.inference_mode():
        return 100 * float((model(images).argmax(1) == labels).double().mean())
