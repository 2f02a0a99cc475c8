"""Train a network for low precision in a loop of one's own: any optimizer, any schedule, autocast, CUDA, several processes.

    python examples/train/own_loop.py
    python examples/train/own_loop.py --method saq --bits 3/3
    torchrun --nproc-per-node 2 examples/train/own_loop.py

pyqinfer prepares the module and exports it; everything between is ordinary torch. The data are scikit-learn's digits, enlarged to 16x16;
the float network is trained first, which takes a few seconds.
"""

from __future__ import annotations

import argparse
import os
from contextlib import nullcontext

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import pyqinfer as pq
from pyqinfer.zoo.resnet import SmallImageResNet


def digits(split: str) -> tuple[Tensor, Tensor]:
    images, labels = pq.zoo.digits(split)
    return F.interpolate(torch.from_numpy(images), size=16, mode="bilinear"), torch.from_numpy(labels)


def float_network(images: Tensor, labels: Tensor, epochs: int) -> nn.Module:
    """A small residual network, trained as one is used to."""
    torch.manual_seed(0)
    net = SmallImageResNet(width=8, depth=1, in_channels=1, num_classes=10)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-4)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            F.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
    return net.eval()


def train(method: pq.QAT | pq.SAQ, prepared: nn.Module, images: Tensor, labels: Tensor, epochs: int, rank: int, world: int) -> None:
    """The loop. `prepared` is the module that the method made; here it meets torch's own tools."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    prepared.to(device)
    model = DistributedDataParallel(prepared) if world > 1 else prepared
    # Weight decay for latent weights only. The optimizer is the user's choice.
    optimizer = torch.optim.AdamW(prepared.parameter_groups(weight_decay=1e-4), lr=1e-3)
    steps = epochs * (len(images) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps)
    # QAT has one pass in a step, SAQ two; under DistributedDataParallel the first of two keeps its gradients to itself.
    if isinstance(method, pq.SAQ):
        stepper = method.stepper(prepared, model.no_sync if world > 1 else nullcontext)
    else:
        stepper = method.stepper(prepared)
    prepared.train()
    for step in range(steps):
        # Freezes BatchNorms when the method's time for it has come; a method that prunes would prune here.
        method.advance(prepared, step / steps)
        rows = torch.randint(len(images), (64,), generator=torch.Generator().manual_seed(step)).chunk(world)[rank]
        x, y = images[rows].to(device), labels[rows].to(device)

        def loss(x: Tensor = x, y: Tensor = y) -> Tensor:
            with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
                outputs = model(x)
            return F.cross_entropy(outputs.float(), y, label_smoothing=0.05)

        optimizer.zero_grad()
        stepper.backward(loss)
        nn.utils.clip_grad_norm_(prepared.parameters(), 5.0)
        optimizer.step()
        schedule.step()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--method", choices=("qat", "saq"), default="qat")
    parser.add_argument("--bits", default="3/3", help="weights/activations")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--out", default="digits.pqi")
    arguments = parser.parse_args()
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1:
        dist.init_process_group("gloo")
    weight_bits, act_bits = map(int, arguments.bits.split("/"))
    method = pq.QAT(weight_bits, act_bits) if arguments.method == "qat" else pq.SAQ(weight_bits, act_bits, rho=0.1)

    images, labels = digits("train")
    net = float_network(images, labels, arguments.epochs)
    prepared = method.prepare(net, (images[:2],), calibration=images[:256].split(64))
    train(method, prepared, images, labels, arguments.epochs, rank, world)

    if rank == 0:
        graph = method.finish(prepared)
        model = pq.convert(graph, example_inputs=(images[:2],))
        model.save(arguments.out)
        seen, right = digits("test")
        with torch.no_grad():
            before = (net(seen).argmax(1) == right).double().mean().item()
        engine = np.asarray(pq.Session(model)(seen.numpy()))
        after = float((engine.argmax(1) == right.numpy()).mean())
        print(f"float {100 * before:.2f} %, {arguments.method} {arguments.bits} in the engine {100 * after:.2f} %: {arguments.out}")
    if world > 1:
        dist.destroy_process_group()


if __name__ == "__main__":
    main()
