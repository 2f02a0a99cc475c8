"""Trains both networks on scikit-learn's digits and writes their weights into this folder; 30 seconds of one core.

    PYTHONPATH=tests python -m trained

New weights need a look at the bounds of the tests that use them.
"""

from __future__ import annotations

import digits_net
import digits_resnet
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trained import save

_EPOCHS = 8
_BATCH = 64


def train(net: nn.Module, images: Tensor, labels: Tensor, learning_rate: float, weight_decay: float) -> nn.Module:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    steps = len(images) // _BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=_EPOCHS * steps)
    for _ in range(_EPOCHS):
        for rows in torch.randperm(len(images))[: steps * _BATCH].split(_BATCH):
            optimizer.zero_grad()
            F.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
            schedule.step()
    return net.eval()


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    save("digits_net", train(digits_net.DigitsNet(), *digits_net.data("train"), learning_rate=0.2, weight_decay=1e-4))
    torch.manual_seed(0)
    save("digits_resnet", train(digits_resnet.untrained(), *digits_resnet.digit_images("train"), learning_rate=0.1, weight_decay=3e-3))
    print(f"digits_net {digits_net.accuracy(digits_net.trained()):.2f} %")
    print(f"digits_resnet {digits_resnet.top1(digits_resnet.digits_net()):.2f} %")


if __name__ == "__main__":
    main()
