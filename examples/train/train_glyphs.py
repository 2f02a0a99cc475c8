"""Train ResNet-20 on the glyph data set and store it the way `pyqinfer.zoo.load_trained` reads it.

    python examples/train/train_glyphs.py --out pyqinfer/zoo/weights

Two CPU cores need about six minutes. Each epoch sees fresh jitter of the training fonts; the test fonts are looked at once,
at the end.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import PIL
import torch
from torch import Tensor, nn

from pyqinfer.zoo import glyphs, resnet20
from pyqinfer.zoo.fonts import FAMILIES, SPLITS
from pyqinfer.zoo.glyphs import LETTERS
from pyqinfer.zoo.trained import WEIGHTS, save_trained


def accuracy(model: nn.Module, split: str, size: int) -> tuple[float, int]:
    """Top-1 in percent on the split drawn with seed 0, and the number of images."""
    images, labels = glyphs(split, size)
    model.eval()
    with torch.inference_mode():
        predicted = torch.cat([model(batch).argmax(1) for batch in torch.from_numpy(images).tensor_split(len(images) // 256)])
    return 100 * (predicted == torch.from_numpy(labels)).double().mean().item(), len(labels)


def train_epoch(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    batch: int,
) -> float:
    """One pass in the order given (the data set is shuffled already); returns the mean loss."""
    model.train()
    total = 0.0
    steps = len(images) // batch
    for i in range(steps):
        part = slice(i * batch, (i + 1) * batch)
        x = images[part].contiguous(memory_format=torch.channels_last)
        loss = nn.functional.cross_entropy(model(x), labels[part], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        total += loss.item()
    return total / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for resnet20_glyphs.npz and .json")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--learning-rate", type=float, default=0.25, help="peak of the one-cycle schedule")
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--size", type=int, default=28)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    arguments = {"num_classes": len(LETTERS), "in_channels": 1}
    model = resnet20(**arguments).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=args.weight_decay)
    per_epoch = len(glyphs("train", args.size)[1]) // args.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, args.learning_rate, total_steps=args.epochs * per_epoch, pct_start=0.25)
    start = time.monotonic()
    for epoch in range(args.epochs):
        images, labels = map(torch.from_numpy, glyphs("train", args.size, seed=args.seed + epoch))
        loss = train_epoch(model, images, labels, optimizer, schedule, args.batch)
        top1, _ = accuracy(model, "validation", args.size)
        seconds = time.monotonic() - start
        print(f"epoch {epoch + 1:2d}  loss {loss:.4f}  validation {top1:.2f} %  {seconds:.0f} s", file=sys.stderr, flush=True)

    results = {}
    for split in ("validation", "test"):
        top1, count = accuracy(model, split, args.size)
        results[split] = {"top1_percent": round(top1, 3), "images": count}
    record = {
        "model": "resnet20",
        "arguments": arguments,
        "data": {"name": "glyphs", "size": args.size, "seed": 0, "classes": LETTERS},
        "accuracy": results,
        "training": {
            "epochs": args.epochs,
            "batch": args.batch,
            "optimizer": "SGD, Nesterov momentum 0.9, one-cycle",
            "peak_learning_rate": args.learning_rate,
            "weight_decay": args.weight_decay,
            "label_smoothing": 0.05,
            "seed": args.seed,
            "jitter_seeds": [args.seed, args.seed + args.epochs - 1],
        },
        "fonts": {split: [f"{family.name} ({family.package})" for family in FAMILIES if family.split == split] for split in SPLITS},
        "versions": {"torch": torch.__version__, "pillow": PIL.__version__},
    }
    save_trained("resnet20_glyphs", model, record, args.out)
    print(f"test: {results['test']['top1_percent']} % of {results['test']['images']} images", file=sys.stderr)


if __name__ == "__main__":
    main()
