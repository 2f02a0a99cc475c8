"""Train a network of the zoo on the glyph data set and store it the way `pyqinfer.zoo.load_trained` reads it.

    python examples/train/train_glyphs.py --model resnet20
    python examples/train/train_glyphs.py --model resnet20_wide
    python examples/train/train_glyphs.py --model mobilenet_v2_small

Two CPU cores need 6 to 20 minutes each. Every epoch sees fresh jitter of the training fonts; the test fonts are looked at once,
at the end. A run that is stopped goes on from its last whole epoch, kept in `--state`.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import PIL
import torch
from torch import Tensor, nn

from pyqinfer import zoo
from pyqinfer.zoo import glyphs
from pyqinfer.zoo.fonts import FAMILIES, SPLITS
from pyqinfer.zoo.glyphs import LETTERS
from pyqinfer.zoo.trained import WEIGHTS, save_trained

_LABEL_SMOOTHING = 0.05


@dataclass(frozen=True)
class Recipe:
    """Settings of one run.

    Args:
        size: side of the images in pixels, in the last epochs and in the record.
        epochs: number of epochs in all.
        small_size, small_epochs: the first epochs see smaller images, which cost less and teach nearly as much.
        learning_rate: peak of the one-cycle schedule.
        bfloat16: autocast; about three times as fast for wide convolutions on a CPU with AMX, no gain for depthwise ones.
        compiled: by torch.compile, which takes a quarter off the time of large images (and needs a C++ compiler).
    """

    size: int
    epochs: int
    learning_rate: float
    small_size: int = 0
    small_epochs: int = 0
    batch: int = 128
    weight_decay: float = 5e-4
    bfloat16: bool = False
    compiled: bool = False
    seed: int = 0

    def size_of(self, epoch: int) -> int:
        return self.small_size if epoch < self.small_epochs else self.size


RECIPES = {
    "resnet20": Recipe(size=28, epochs=12, learning_rate=0.25),
    "resnet20_wide": Recipe(size=64, epochs=7, learning_rate=0.25, small_size=32, small_epochs=5, bfloat16=True, compiled=True),
    "mobilenet_v2_small": Recipe(size=28, epochs=12, learning_rate=0.25, weight_decay=1e-4),
}


def accuracy(model: nn.Module, split: str, size: int) -> tuple[float, int]:
    """Top-1 in percent on the split drawn with seed 0, in float32, and the number of images."""
    images, labels = glyphs(split, size)
    model.eval()
    with torch.inference_mode():
        predicted = torch.cat([model(batch).argmax(1) for batch in torch.from_numpy(images).tensor_split(len(images) // 256)])
    return 100 * (predicted == torch.from_numpy(labels)).double().mean().item(), len(labels)


class Run:
    """A model in training with all that a later process needs to go on."""

    def __init__(self, model: nn.Module, recipe: Recipe) -> None:
        self.model, self.recipe, self.epoch = model, recipe, 0
        self.forward = torch.compile(model, dynamic=False) if recipe.compiled else model
        self.optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=recipe.weight_decay)
        steps = recipe.epochs * (len(glyphs("train", recipe.size_of(0))[1]) // recipe.batch)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, recipe.learning_rate, total_steps=steps, pct_start=0.25)

    def train_epoch(self) -> float:
        """One pass in the order given (the data set is shuffled already); returns the mean loss."""
        size = self.recipe.size_of(self.epoch)
        images, labels = map(torch.from_numpy, glyphs("train", size, seed=self.recipe.seed + self.epoch))
        self.model.train()
        steps = len(images) // self.recipe.batch
        total = 0.0
        for i in range(steps):
            part = slice(i * self.recipe.batch, (i + 1) * self.recipe.batch)
            total += self._step(images[part], labels[part])
        self.epoch += 1
        return total / steps

    def _step(self, images: Tensor, labels: Tensor) -> float:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.recipe.bfloat16):
            logits = self.forward(images.contiguous(memory_format=torch.channels_last))
        loss = nn.functional.cross_entropy(logits.float(), labels, label_smoothing=_LABEL_SMOOTHING)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()

    def save(self, path: Path) -> None:
        state = {
            "recipe": asdict(self.recipe),
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": torch.get_rng_state(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, path.with_suffix(".part"))
        os.replace(path.with_suffix(".part"), path)

    def resume(self, path: Path) -> None:
        """Go on from `path`, if there is one of the same recipe."""
        if not path.exists():
            return
        state = torch.load(path, weights_only=True)
        if state["recipe"] != asdict(self.recipe):
            print(f"{path} belongs to other settings: starting anew", file=sys.stderr)
            return
        self.epoch = state["epoch"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["random"])


def training_record(name: str, arguments: dict[str, int], recipe: Recipe, accuracies: dict[str, object]) -> dict[str, object]:
    return {
        "model": name,
        "arguments": arguments,
        "data": {"name": "glyphs", "size": recipe.size, "seed": 0, "classes": LETTERS},
        "accuracy": accuracies,
        "training": {
            "epochs": recipe.epochs,
            "image_sizes": [recipe.size_of(epoch) for epoch in range(recipe.epochs)],
            "batch": recipe.batch,
            "optimizer": "SGD, Nesterov momentum 0.9, one-cycle",
            "peak_learning_rate": recipe.learning_rate,
            "weight_decay": recipe.weight_decay,
            "label_smoothing": _LABEL_SMOOTHING,
            "precision": "bfloat16 autocast" if recipe.bfloat16 else "float32",
            "seed": recipe.seed,
            "jitter_seeds": [recipe.seed, recipe.seed + recipe.epochs - 1],
        },
        "fonts": {split: [f"{family.name} ({family.package})" for family in FAMILIES if family.split == split] for split in SPLITS},
        "versions": {"torch": torch.__version__, "pillow": PIL.__version__},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=RECIPES, required=True)
    parser.add_argument("--out", type=Path, default=WEIGHTS, help="folder for MODEL_glyphs.npz and .json")
    parser.add_argument("--state", type=Path, default=Path("build/train"), help="folder for the state after each epoch")
    args = parser.parse_args()

    recipe = RECIPES[args.model]
    torch.manual_seed(recipe.seed)
    arguments = {"num_classes": len(LETTERS), "in_channels": 1}
    model: nn.Module = getattr(zoo, args.model)(**arguments).to(memory_format=torch.channels_last)
    run = Run(model, recipe)
    state = args.state / f"{args.model}_glyphs.pt"
    run.resume(state)
    start = time.monotonic()
    while run.epoch < recipe.epochs:
        size = recipe.size_of(run.epoch)
        loss = run.train_epoch()
        run.save(state)
        top1, _ = accuracy(model, "validation", size)
        seconds = time.monotonic() - start
        print(f"epoch {run.epoch:2d}  loss {loss:.4f}  validation {top1:.2f} %  {seconds:.0f} s", file=sys.stderr, flush=True)

    results: dict[str, object] = {}
    for split in ("validation", "test"):
        top1, count = accuracy(model, split, recipe.size)
        results[split] = {"top1_percent": round(top1, 3), "images": count}
        print(f"{split}: {top1:.3f} % of {count} images", file=sys.stderr)
    save_trained(f"{args.model}_glyphs", model, training_record(args.model, arguments, recipe, results), args.out)


if __name__ == "__main__":
    main()
