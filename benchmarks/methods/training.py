"""Methods that train, on the networks of ``networks.py``: rows of ``training_entries.py``, each made once.

Run from the repository's root::

    python -m benchmarks.methods.training --out build/training                   # hours on two cores; CUDA is used where there is one
    python -m benchmarks.methods.training --quick                                # a smoke test
    python -m benchmarks.methods.training --data imagenet --model torchvision.models:resnet18 --weights IMAGENET1K_V1
    python -m benchmarks.methods.document build/training/results.json docs/methods.md

A row that is in the folder is not made again while network, data, settings and engine stay the same; a training that was stopped goes
on from its last whole epoch.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

import pyqinfer as pq
from benchmarks.command_line import commit, words
from benchmarks.methods.claims import claims, standard_error
from benchmarks.methods.networks import Network, folder_network, glyph_network
from benchmarks.methods.results import TRAINING_FORMAT, claims_report, collected, earlier, network_result, save, with_earlier
from benchmarks.methods.training_entries import FOLDER_RECIPE, QUICK_RECIPE, RECIPES, Recipe, TrainedEntry, rows
from pyqinfer import zoo
from pyqinfer.cli.common import named_progress
from pyqinfer.study.grid import Entry
from pyqinfer.study.labelled import Arrays
from pyqinfer.study.pareto import OnProgress, Study, conditions, with_latency
from pyqinfer.study.pareto_report import study_report
from pyqinfer.study.rows import Row
from pyqinfer.study.training_data import Augmentation, Images, load_splits, training_batches, validation_batches
from pyqinfer.train.pruning import GradualPruning, finish_pruning

_CALIBRATION_IMAGES = 512
_QUICK_IMAGES = 300
_TORCH_IMAGES = 1000
_VALIDATION_BATCH = 256
# Held-out images on which a search judges bits.
_JUDGES = 1024
# Share of the steps in front of a pruned network's quantization along which zeros rise, and the rate of that training.
_PRUNING_SHARE, _PRUNING_RATE = 0.6, 0.02


@dataclass(frozen=True)
class TrainingStudy(Study):
    """A study whose entries may be trained.

    Args:
        train: labelled images to train on, the first of which calibrate. val: those on which SAQ judges bits.
        augmentation: of training images.
    """

    train: Images | None = None
    val: Images | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)

    def _quantize(self, entry: Entry) -> tuple[Any, dict[str, float]]:
        if not isinstance(entry, TrainedEntry):
            return super()._quantize(entry)
        assert self.train is not None
        loader = training_batches(_first(self.train, entry.recipe.images), entry.recipe.batch, self.augmentation)
        model = _pruned(self.model, entry, loader, self.examples) if entry.pruned else self.model
        budget = self.budget(entry)
        checkpoint = self.folder / f"{entry.slug}-{self._key(entry)}.pt"
        graph = pq.quantize(
            model,
            replace(entry.configuration(), checkpoint=checkpoint),
            example_inputs=self.examples,
            calibration=self.calibration,
            train=loader,
            val=None if budget is None or self.val is None else validation_batches(_first(self.val, _JUDGES), _VALIDATION_BATCH),
            budget=budget,
        )
        for path in (checkpoint, Path(f"{checkpoint}.bits.json")):
            path.unlink(missing_ok=True)
        return graph.cpu(), {} if budget is None else budget.limits

    def _key(self, entry: Entry) -> str:
        if not isinstance(entry, TrainedEntry) or self.train is None:
            return super()._key(entry)
        image, _ = self.train.item(0)
        data = repr((super()._key(entry), len(self.train), self.augmentation)).encode() + image.tobytes()
        return hashlib.sha256(data).hexdigest()[:24]


@dataclass(frozen=True)
class Subject:
    """A network with what it is trained on, and for how long."""

    network: Network
    train: Images
    val: Images | None
    augmentation: Augmentation
    recipe: Recipe

    def study(self, options: argparse.Namespace, on_progress: OnProgress) -> TrainingStudy:
        """The study of its rows, in a folder of its own."""
        return TrainingStudy(
            model=self.network.model,
            examples=self.network.example,
            calibration=self.network.calibration,
            data=self.network.data,
            folder=options.out / self.network.name,
            threads=options.threads,
            torch_images=options.torch_images,
            on_progress=on_progress,
            train=self.train,
            val=self.val,
            augmentation=self.augmentation,
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Make what is missing, then tables on stdout and results.json in the folder, written after each row; progress on stderr."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        for subject in _subjects(options):
            with named_progress(subject.network.name) as update:
                study = subject.study(options, partial(_update, update, subject.network.name))
                _run(subject.network, study, rows(subject.network.name, subject.recipe, options.seeds, options.quick), options)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _update(update: OnProgress, network: str, what: str, done: int, total: int) -> None:
    update(f"{network}: {what}", done, total)


def _run(network: Network, study: TrainingStudy, entries: list[Entry], options: argparse.Namespace) -> None:
    wanted = [entry for entry in entries if not options.only or entry.name in options.only]
    row = study.row if "rows" in options.stages else study.known
    made = collected(wanted, row, partial(_write, network, study, entries, options=options))
    if made and "latency" in options.stages:
        made = with_latency(made, {isa: study.latency(wanted, isa) for isa in options.isa})
        _write(network, study, entries, made, options)
    if made:
        print(study_report(network.title, made, conditions(study)).render(options.output), end="\n\n")
        print(claims_report(claims(network.name, made, options.isa)).render(options.output), end="\n\n", flush=True)


def _write(network: Network, study: Study, entries: Sequence[Entry], made: Sequence[Row], options: argparse.Namespace) -> None:
    """Keep what there is, with the rows of earlier runs that this one leaves out. How each row was trained stands beside the rows."""
    path = options.out / "results.json"
    before = earlier(path, TRAINING_FORMAT).get(network.name, {"rows": [], "training": {}})
    contents = with_earlier([row.to_dict() for row in made], before["rows"], [entry.name for entry in entries])
    together = [Row.from_dict(dict(content)) for content in contents]
    result = network_result(network.title, network.record, conditions(study), together, claims(network.name, together, options.isa))
    by_name = {entry.name: entry for entry in entries}
    result["training"] = dict(before["training"])
    for row in made:
        entry = by_name[row.name]
        facts = entry.facts() if isinstance(entry, TrainedEntry) else {}
        result["training"][row.name] = {**facts, "standard_error": standard_error(row) if row.accuracy is not None else None}
    versions = {"pyqinfer": pq.__version__, "pyqinfer_commit": commit(), "torch": str(torch.__version__)}
    save(path, {"versions": versions, "quick": options.quick}, {network.name: result}, TRAINING_FORMAT)


def _pruned(model: nn.Module, entry: TrainedEntry, loader: Any, examples: tuple[torch.Tensor, ...]) -> nn.Module:
    """The float network with a share of its weights or channels gone, trained as long as it will be trained quantized."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(entry.seed)
    by_channel = entry.pruned == "channels"
    smaller = pq.train.remove_channels(model, entry.share, example_inputs=examples) if by_channel else copy.deepcopy(model)
    smaller = smaller.to(device).train()
    steps = entry.recipe.epochs * len(loader)
    prune: Callable[[], Any] = lambda: None  # noqa: E731
    if entry.pruned == "weights":
        prune = GradualPruning(smaller, entry.share, steps=max(1, round(_PRUNING_SHARE * steps))).step
    optimizer = torch.optim.SGD(smaller.parameters(), lr=_PRUNING_RATE, momentum=0.9, nesterov=True, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(entry.recipe.epochs):
        for images, labels in loader:
            prune()
            optimizer.zero_grad()
            nn.functional.cross_entropy(smaller(images.to(device)), labels.to(device)).backward()
            optimizer.step()
            schedule.step()
    return finish_pruning(smaller.cpu()).eval()


def _first(data: Images, count: int | None) -> Images:
    """The first images of arrays; a folder's are in the order of their classes, so that it is taken whole."""
    return data.first(count) if isinstance(data, Arrays) else data


def _subjects(options: argparse.Namespace) -> Iterator[Subject]:
    images = _QUICK_IMAGES if options.quick and options.images is None else options.images
    if options.data is not None:
        if options.model is None:
            raise ValueError("--data needs --model module:callable, the network that it was trained for")
        train, val = load_splits(options.data, None, options.size)
        held_out = options.data / "val"
        if val is None:
            raise ValueError(f"--data {options.data}: expected folders train and val, each with a folder of images per class")
        network = folder_network(options.model, held_out, options.size, images, _CALIBRATION_IMAGES, options.weights)
        yield Subject(network, train, val, Augmentation(flip=True), _recipe(FOLDER_RECIPE, options))
        return
    unknown = [name for name in options.networks if name not in RECIPES]
    if unknown:
        raise ValueError(f"--networks {unknown[0]!r}: expected some of {', '.join(RECIPES)}")
    for name in options.networks:
        network = glyph_network(name, images)
        size = network.example[0].shape[-1]
        train, val = (Arrays(*zoo.glyphs(split, size)) for split in ("train", "validation"))
        yield Subject(network, train, val, Augmentation(shift=1), _recipe(RECIPES[name], options))


def _recipe(recipe: Recipe, options: argparse.Namespace) -> Recipe:
    """The recipe with what the command line says otherwise."""
    recipe = QUICK_RECIPE if options.quick else recipe
    epochs = recipe.epochs if options.epochs is None else options.epochs
    return replace(recipe, epochs=epochs, images=recipe.images if options.train_images is None else options.train_images)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.methods.training", description=__doc__, allow_abbrev=False)
    add = parser.add_argument
    add("--out", type=Path, default=Path("build/training"), help="folder of rows and results.json; what is there is kept")
    add("--quick", action="store_true", help=f"a few rows, trained on {QUICK_RECIPE.images} images, on {_QUICK_IMAGES} test images")
    add("--networks", type=words, default=list(RECIPES), help="checkpoints of pyqinfer.zoo, comma list")
    add("--only", type=words, default=[], help="names of rows, comma list such as 'fp32,qat 4/4'; default: all")
    add("--seeds", type=lambda text: [int(word) for word in words(text)], default=[0], help="of the trainings, comma list such as 0,1,2")
    add("--epochs", type=int, default=None, help="default: by network")
    add("--train-images", type=int, default=None, help="images of an epoch; default: by network")
    add("--isa", type=words, default=["auto"], help="instruction sets whose latency is measured, comma list")
    add("--threads", type=int, default=1, help="of torch and the engines")
    add("--images", type=int, default=None, help="test images; default: all")
    add("--torch-images", type=int, default=_TORCH_IMAGES, help="of them, images that torch runs as well")
    add("--stages", type=words, default=["rows", "latency"], help="rows (without: those that are there), latency; comma list")
    add("--data", type=Path, default=None, help="a folder with train and val, each with a folder of images per class, such as ImageNet")
    add("--model", default=None, help="with --data: module:callable or file.py:callable")
    add("--weights", default=None, help="with --data: a file of a state dict, or a name that the callable takes as weights=")
    add("--size", type=int, default=224, help="with --data: side of the images, pixels")
    add("--output", "-o", choices=("table", "md", "csv", "json"), default="table", help="style of the tables on stdout")
    return parser


if __name__ == "__main__":
    sys.exit(main())
