"""Rows of methods that train: what is trained on each network, and how long."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pyqinfer as pq
from benchmarks.methods.entries import fixed
from pyqinfer.bits import LayerBits
from pyqinfer.study.grid import FLOAT_METHOD, Entry, Limit, parse_limit
from pyqinfer.train.generator import Search

# These budgets are the BOPs of uniform 4/4 and 3/3 with first and last layer at 8/8, or a little less.
_LIKE_4, _LIKE_3 = "bops=1.58%", "bops=0.9%"
# On a CPU with AMX fewer than 8 bits gain no time, so that a budget of time is one of AVX2.
_TIME = "latency=70%"


@dataclass(frozen=True)
class Recipe:
    """How long a row trains, and how fast.

    Args:
        epochs: of every method. images: training images of an epoch, the first of the set; None for all. batch: images of a step.
        ternary: by how much more epochs PrunedTernary has, which starts far from where it ends.
        rate: by what the method's learning rate is multiplied.
    """

    epochs: int
    images: int | None = None
    batch: int = 128
    ternary: int = 3
    rate: float = 1.0


# The trainings of the zoo's networks differ because an image costs the wide network 16 times as much as the others. They are short, so
# that one command makes every row within an afternoon on two cores; the wide network has small batches, so that there are steps enough,
# and a rate that is smaller in proportion. A user's folder of images gets the training that stands first.
FOLDER_RECIPE = Recipe(epochs=10)
RECIPES = {
    "resnet20_glyphs": Recipe(epochs=2, images=9600),
    "mobilenet_v2_small_glyphs": Recipe(epochs=2, images=9600),
    "resnet20_wide_glyphs": Recipe(epochs=1, images=1600, batch=32, rate=0.25),
}
# By how much longer networks of 2 bits train: they start from nothing, and the others from nearly all.
_COARSE = 4
# The search for bits is shorter than the method's default, as the trainings are.
_SEARCH = Search(epochs=3, warmup=1, policy_steps=40, finalists=8)
QUICK_RECIPE = Recipe(epochs=1, images=256, batch=64, ternary=1)


@dataclass(frozen=True)
class TrainedEntry(Entry):
    """One row of a method that trains.

    Args:
        method: ``qat``, ``saq`` or ``ternary``. bits, limit, options, label: see `Entry`; options go to the method.
        pruned: what is taken out of the float network before, with some training: ``""`` nothing, ``"weights"`` or ``"channels"``.
        share: of it that goes.
        recipe: how long it trains. seed: of the training.
    """

    pruned: str = field(default="", kw_only=True)
    share: float = field(default=0.3, kw_only=True)
    recipe: Recipe = field(default=QUICK_RECIPE, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        if self.method not in ("qat", "saq", "ternary"):
            raise ValueError(f"method {self.method!r}: expected qat, saq or ternary")
        if (self.bits is None) == (self.limit is None):
            raise ValueError(f"{self.method}: expected either bits or a budget")

    @property
    def base_name(self) -> str:
        """The name without the seed: what rows of several seeds have in common."""
        words = [self.method, self.target, self.label]
        words += [f"{100 * self.share:g}% of {self.pruned} pruned"] if self.pruned else []
        return " ".join(word for word in words if word)

    @property
    def name(self) -> str:
        return f"{self.base_name} seed {self.seed}" if self.seed else self.base_name

    @property
    def needs_data(self) -> bool:
        return True

    def configuration(self) -> Any:
        """The method with this row's bits, epochs and seed."""
        settings: dict[str, Any] = {"epochs": self.recipe.epochs, "seed": self.seed, **dict(self.options)}
        if self.bits is not None:
            settings |= {"weight_bits": self.bits.weight, "act_bits": self.bits.act}
        if self.method == "ternary":
            method: Any = pq.PrunedTernary(**{**settings, "epochs": self.recipe.epochs * self.recipe.ternary})
        else:
            method = pq.QAT(**settings) if self.method == "qat" else pq.SAQ(**settings)
        return replace(method, lr=method.lr * self.recipe.rate)

    def facts(self) -> dict[str, Any]:
        """What the results say of the row's training beside its name."""
        method = self.configuration()
        return {
            "base": self.base_name,
            "seed": self.seed,
            "epochs": method.epochs,
            "learning_rate": method.lr,
            "images": self.recipe.images,
        }


def ternary(sparsity: int, act: int) -> TrainedEntry:
    """PrunedTernary with so many percent of zeros; activations of 32 bits are float."""
    return TrainedEntry("ternary", LayerBits("ternary", act), None, (("sparsity", sparsity / 100),), f"{sparsity}% zeros")


def trained(method: str, width: int) -> TrainedEntry:
    """Weights and activations of so many bits."""
    return TrainedEntry(method, LayerBits(width, width))


def mixed(limit: str, isa: str = "auto") -> TrainedEntry:
    """SAQ that finds its bits under a budget; one of time holds for an instruction set."""
    parsed: Limit = parse_limit(limit)
    return TrainedEntry("saq", None, parsed, (("search", _SEARCH),), isa=isa)


_STARTS = (Entry(FLOAT_METHOD), fixed("ptq", "8/8"), fixed("ptq", "4/4"), fixed("ptq", "3/3"), fixed("ptq", "2/2"))
_METHODS = (
    trained("qat", 8),
    trained("qat", 4),
    trained("qat", 3),
    trained("qat", 2),
    trained("saq", 4),
    trained("saq", 3),
    trained("saq", 2),
    mixed(_LIKE_4),
    mixed(_LIKE_3),
    mixed(_TIME, "avx2"),
    *(ternary(sparsity, act) for sparsity in (50, 88, 93) for act in (32, 4)),
)
_PRUNED = tuple(TrainedEntry("qat", LayerBits(8, 8), pruned=what) for what in ("weights", "channels"))
QUICK = (_STARTS[0], _STARTS[1], trained("qat", 4), ternary(88, 4))


def rows(network: str, recipe: Recipe, seeds: list[int], quick: bool = False) -> list[Entry]:
    """Every row of a network: where one starts from, then the trained ones, each with every seed."""
    wanted: list[Entry] = list(QUICK) if quick else [*_STARTS, *_METHODS]
    if not quick and network.startswith("mobilenet"):
        wanted += _PRUNED
    found: list[Entry] = []
    for entry in wanted:
        if isinstance(entry, TrainedEntry):
            coarse = entry.bits == LayerBits(2, 2)
            length = replace(recipe, epochs=recipe.epochs * _COARSE) if coarse else recipe
            found += [replace(entry, recipe=length, seed=seed) for seed in seeds]
        else:
            found.append(entry)
    return found
