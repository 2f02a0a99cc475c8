"""What a layer's bits cost in milliseconds, measured with the kernels that will run.

The whole network is quantized uniformly, once for every pair of bits, and the engine's profile of each of these networks gives every
layer's time at that pair: with its neighbours, caches and memory plan around it, fused epilogue included. The networks take turns, so
that a drifting machine drifts for all of them; medians over the turns are kept. What the layers do not account for (quantizing the input,
pools, reshapes, the executor) is the fixed cost: the run's time less the layers'.

Activations are bytes at every width, so a layer's neighbours do not change its work. They can change its clock: a processor that slows
down for heavy instructions stays slow for a while (8/8 layers on AVX2 took 9 % longer behind 4-bit ones). So a solution is measured as it
stands, and :func:`refined` puts what was seen into the problem.
"""

from __future__ import annotations

import copy
import hashlib
import os
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from statistics import median
from typing import Any

from torch import Tensor, nn

from pyqinfer import _core
from pyqinfer.allocation.cache import Times, load_times, save_times
from pyqinfer.allocation.problem import Problem, Solution
from pyqinfer.bits import LayerBits
from pyqinfer.conversion import convert
from pyqinfer.measure.build import engine_build
from pyqinfer.model import Model
from pyqinfer.quantization.calibrate import calibrate, with_progress
from pyqinfer.quantization.emit import emit_activations, emit_weight
from pyqinfer.quantization.fold import fold_batch_norm
from pyqinfer.quantization.graph import TracedModel
from pyqinfer.quantization.nodes import QuantNode
from pyqinfer.quantization.observers import MinMaxObserver
from pyqinfer.quantization.placement import place
from pyqinfer.quantization.weights import WeightCodes, quantize_weight
from pyqinfer.report import Column, Report
from pyqinfer.session import Session

LATENCY = "latency_ms"
_TURNS = 8
_TURN_SECONDS = 0.1
_LEAST_RUNS = 5  # of each network in a turn
_INTEGER = LayerBits(8, 8)


@dataclass(frozen=True)
class Measured:
    """The times of one network: ``layers``, ms by layer name, and ``rest_ms``, everything else of a run."""

    layers: Mapping[str, float]
    rest_ms: float

    @property
    def total_ms(self) -> float:
        return sum(self.layers.values()) + self.rest_ms


class Meter:
    """Measures one network's layers at any bits.

    Args:
        model, examples: as for :func:`pyqinfer.quantize`; times are for inputs of the examples' shapes.
        nodes: the model's layers. threads, isa: of the sessions.
    """

    def __init__(self, model: nn.Module, examples: tuple[Tensor, ...], nodes: Sequence[QuantNode], threads: int, isa: str) -> None:
        self._model, self._examples, self._threads = model, examples, threads
        self.isa = _resolved(isa)
        batch = len(examples[0]) if examples[0].ndim else 1
        self._keys = {node.name: layer_key(node, batch) for node in nodes}
        info = _core.cpu_info()
        self._environment = f"{info['brand']} | {self.isa} | {threads} threads | pyqinfer {engine_build()} | algorithm auto"

    def table(self, wanted: Mapping[str, Sequence[LayerBits]]) -> tuple[dict[str, dict[LayerBits, float]], float]:
        """Milliseconds by layer name and bits, and those of everything else; from the cache where they were measured before.

        Raises:
            UnsupportedError: this CPU lacks the instruction set, or the engine an operation of the model.
        """
        shapes = [str(tuple(x.shape)) for x in self._examples]
        network = hashlib.sha256("\n".join([*self._keys.values(), *shapes]).encode()).hexdigest()[:16]
        times = load_times(self._environment)
        missing = {b for name, options in wanted.items() for b in options if f"{self._keys[name]} {b}" not in times["layers"]}
        if missing or network not in times["networks"]:
            found = self._uniform(sorted(missing | {_INTEGER}, key=str), network)
            new = {kind: {key: ms for key, ms in found[kind].items() if key not in times[kind]} for kind in times}
            save_times(self._environment, new)
            times = {kind: {**times[kind], **new[kind]} for kind in times}
        layers = {name: {b: times["layers"][f"{self._keys[name]} {b}"] for b in options} for name, options in wanted.items()}
        return layers, times["networks"][network]

    def measure(self, configs: Sequence[Mapping[str, LayerBits]]) -> list[Measured]:
        """Quantize the network with each of the bits and time all of them in turns. Nothing is cached."""
        sessions = [Session(self.network(config), threads=self._threads, isa=self.isa) for config in with_progress(configs, "quantizing")]
        inputs = [session.arrays(session.name_inputs(self._examples))[0] for session in sessions]
        runs = [_runs_per_turn(session, arrays) for session, arrays in zip(sessions, inputs, strict=True)]
        layers: list[dict[str, list[float]]] = [{} for _ in sessions]
        rest: list[list[float]] = [[] for _ in sessions]
        for _ in with_progress(range(_TURNS), f"measuring layers on {self.isa}"):
            for i, session in enumerate(sessions):
                whole = _run_ms(session, inputs[i], runs[i])
                profile = {name: ms for name, ms in session.native.profile(inputs[i], runs[i]) if name in self._keys}
                for name, ms in profile.items():
                    layers[i].setdefault(name, []).append(ms)
                rest[i].append(whole - sum(profile.values()))
        medians = [{name: median(samples) for name, samples in found.items()} for found in layers]
        return [Measured(found, max(0.0, median(samples))) for found, samples in zip(medians, rest, strict=True)]

    def _uniform(self, pairs: Sequence[LayerBits], network: str) -> Times:
        """Times of all layers at each pair, those with one key averaged, and of everything else."""
        grouped: dict[str, list[float]] = {}
        measured = self.measure([dict.fromkeys(self._keys, pair) for pair in pairs])
        for pair, found in zip(pairs, measured, strict=True):
            for name, key in self._keys.items():
                # A layer that the engine runs under another name is part of the rest.
                grouped.setdefault(f"{key} {pair}", []).append(found.layers.get(name, 0.0))
        rest = median(found.rest_ms for pair, found in zip(pairs, measured, strict=True) if pair.is_integer)
        return {"layers": {key: sum(values) / len(values) for key, values in grouped.items()}, "networks": {network: rest}}

    @cached_property
    def _folded(self) -> tuple[TracedModel, dict[str, MinMaxObserver]]:
        """The network ready to be quantized, with the ranges of its tensors (from the examples: ranges do not change times)."""
        traced = TracedModel(self._model, self._examples)
        fold_batch_norm(traced)
        at_8 = place(traced, dict.fromkeys((layer.name for layer in traced.layers), _INTEGER))
        observers = {node: MinMaxObserver() for node in at_8.bits}
        calibrate(traced.module, observers, [self._examples])
        return traced, {node.name: observer for node, observer in observers.items()}

    def network(self, config: Mapping[str, LayerBits]) -> Model:
        """The network with these bits, as it is measured."""
        original, observers = self._folded
        with warnings.catch_warnings():
            # torch 2.13 copies its own deprecated classes here: nothing that a user could mend.
            warnings.filterwarnings("ignore", message=r".*treespec, LeafSpec", category=FutureWarning)
            traced = copy.deepcopy(original)
        placement = place(traced, config)
        params = {node: observers[node.name].params(bits) for node, bits in placement.bits.items()}
        for layer in traced.layers:
            bits = config[layer.name]
            if not bits.is_float:
                codes = WeightCodes(*quantize_weight(layer.weight, bits, search=False), *bits.weight_range)
                emit_weight(traced, layer, codes)
        emit_activations(traced, placement, params)
        return convert(traced.finish(), example_inputs=self._examples, samples=0, check=False)


def layer_key(node: QuantNode, batch: int) -> str:
    """What a layer's time depends on, apart from its bits: op, shapes, geometry, share of zeros, and whether its epilogue adds."""
    geometry = [list(a) if isinstance(a, (list, tuple)) else a for a in node.node.args[3:]]
    x = "x".join(str(size) for size in (batch, *node.input_shape[1:]))
    weight = "x".join(map(str, node.weight_shape))
    zeros = 5 * round(20 * node.zeros)  # in steps of 5 %: codes of few bits are fast where most are zero
    return f"{node.op} {weight} on {x} {geometry}" + (f" {zeros} % zeros" if zeros else "") + (" + residual" if node.residual else "")


def refined(problem: Problem, solution: Solution, kept: Mapping[str, float], measured: Measured) -> Problem:
    """The problem with a solution's own times: those of its choices as measured, those of other choices scaled like the measured layers
    of the same bits. ``kept``: what the layers that do not choose were taken to cost, by name."""
    rows = problem.costs[LATENCY]
    taken = {name: rows[i][solution.choice[i]] for i, name in enumerate(problem.names)}
    seen: dict[LayerBits, list[float]] = {}
    for name, bits in solution.bits.items():
        if name in measured.layers:
            before, after = seen.setdefault(bits, [0.0, 0.0])
            seen[bits] = [before + taken[name], after + measured.layers[name]]
    ratio = {bits: after / before for bits, (before, after) in seen.items() if before > 0}
    updated = []
    for i, name in enumerate(problem.names):
        row = [ms * ratio.get(bits, 1.0) for ms, bits in zip(rows[i], problem.options[i], strict=True)]
        row[solution.choice[i]] = measured.layers.get(name, taken[name])
        updated.append(tuple(row))
    fixed = measured.rest_ms + sum(measured.layers.get(name, ms) for name, ms in kept.items())
    return replace(problem, costs={**problem.costs, LATENCY: tuple(updated)}, fixed={**problem.fixed, LATENCY: fixed})


def check_latency(model: Model, inputs: Sequence[Any], predicted_ms: float, threads: int, isa: str, runs: int = 5) -> Report:
    """Measure a converted model against what was predicted for its bits.

    Args:
        model: with the bits of the allocation. inputs: of the shapes that the prediction is for.
        predicted_ms, threads, isa: of the allocation. runs: blocks of calls; the median of their medians is reported.

    Returns:
        One row: predicted and measured ms and their difference in % of the measured time.
    """
    session = Session(model, threads=threads, isa=isa)
    arrays, _ = session.arrays(session.name_inputs(inputs))
    measured = median(_run_ms(session, arrays, _runs_per_turn(session, arrays)) for _ in range(runs))
    row = {"predicted_ms": predicted_ms, "measured_ms": measured, "difference": 100 * (predicted_ms / measured - 1)}
    columns = [
        Column("predicted_ms", "predicted ms", ".3f"),
        Column("measured_ms", "measured ms", ".3f"),
        Column("difference", "difference %", "+.1f"),
    ]
    facts = {"cpu": _core.cpu_info()["brand"], "isa": session.isa, "threads": threads, "runs": runs}
    return Report(f"Latency ({session.isa}, {threads} threads)", columns, [row], facts)


def _resolved(isa: str) -> str:
    name = os.environ.get("PYQINFER_ISA", "auto") if isa == "auto" else isa
    return str(_core.cpu_info()["best"]) if name == "auto" else name


def _runs_per_turn(session: Session, arrays: Mapping[str, Any]) -> int:
    for _ in range(2):
        session.native.run(arrays, [])
    return max(_LEAST_RUNS, min(200, int(_TURN_SECONDS * 1e3 / _run_ms(session, arrays, 3))))


def _run_ms(session: Session, arrays: Mapping[str, Any], runs: int) -> float:
    """Median time of a run."""
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        session.native.run(arrays, [])
        times.append((time.perf_counter() - start) * 1e3)
    return median(times)
