"""The two tasks on scenes, each with its network, loss and score, and the training of the float networks that lie in ``weights``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.methods.scenes import detector, metrics
from benchmarks.methods.scenes.data import LETTERS, Scenes
from pyqinfer import zoo
from pyqinfer.zoo.trained import save_trained

WEIGHTS = Path(__file__).parent / "weights"
_BATCH = 64
_CLASSES = len(LETTERS) + 1

Run = Callable[[np.ndarray[Any, Any]], Any]  # a batch of images to the network's output or tuple of outputs


@dataclass(frozen=True)
class Task:
    """What a network is for.

    Args:
        name: of its rows and weights. title: of its table.
        make: the untrained network. loss: ``loss(outputs, targets)``.
        targets: of scenes, one tensor or several. scores: names and values (percent) of what a network's outputs for scenes are worth.
        epochs: of the float network. learning_rate: peak of its one-cycle schedule.
        bfloat16: whether it is trained under autocast, twice as fast for large maps.
        heads: layers that write outputs, beside the one that is executed last.
    """

    name: str
    title: str
    make: Callable[[], nn.Module]
    loss: Callable[[Any, Any], Tensor]
    targets: Callable[[Scenes], tuple[Tensor, ...]]
    scores: Callable[[Run, Scenes], dict[str, float]]
    epochs: int
    learning_rate: float
    bfloat16: bool = False
    heads: tuple[str, ...] = ()

    def loader(self, data: Scenes) -> DataLoader[Any]:
        """Shuffled training batches of images and targets."""
        dataset = TensorDataset(torch.from_numpy(data.images), *self.targets(data))
        return DataLoader(dataset, _BATCH, shuffle=True, drop_last=len(data) >= _BATCH)


def _batches(data: Scenes) -> Iterator[np.ndarray[Any, Any]]:
    for start in range(0, len(data), _BATCH):
        yield data.images[start : start + _BATCH]


def _detection_scores(run: Run, data: Scenes) -> dict[str, float]:
    found = [image for batch in _batches(data) for image in detector.decode(run(batch))]
    places = [labels >= 0 for labels in data.labels]
    truth = [
        metrics.Detections(boxes[there], labels[there], np.ones(int(there.sum())))
        for boxes, labels, there in zip(data.boxes, data.labels, places, strict=True)
    ]
    return {"AP": 100 * metrics.mean_average_precision(found, truth), "AP50": 100 * metrics.average_precision(found, truth, 0.5)}


def _segmentation_scores(run: Run, data: Scenes) -> dict[str, float]:
    predicted = np.concatenate([np.asarray(run(batch)).argmax(1) for batch in _batches(data)])
    return {"IoU": 100 * metrics.mean_iou(predicted, data.masks, _CLASSES)}


def _segmentation_loss(outputs: Tensor, masks: Tensor) -> Tensor:
    """Cross entropy in which the ground, nine pixels of ten, weighs a fifth of a letter."""
    return F.cross_entropy(outputs, masks, torch.tensor([0.2] + [1.0] * len(LETTERS)).to(outputs))


TASKS = {
    task.name: task
    for task in (
        Task(
            "detector",
            "Detector (RetinaNet-shaped), scenes 64x64",
            detector.Detector,
            detector.loss,
            lambda data: (torch.from_numpy(data.boxes), torch.from_numpy(data.labels)),
            _detection_scores,
            epochs=16,
            learning_rate=4e-3,
            heads=("score", "box"),
        ),
        Task(
            "unet",
            "U-Net (width 8, depth 3), scenes 64x64",
            lambda: zoo.unet(num_classes=_CLASSES, in_channels=1, width=8, depth=3),
            _segmentation_loss,
            lambda data: (torch.from_numpy(data.masks),),
            _segmentation_scores,
            epochs=12,
            learning_rate=1e-2,
            bfloat16=True,
        ),
    )
}


def load(task: Task, folder: Path = WEIGHTS) -> nn.Module:
    """The task's trained float network, in evaluation mode. Raises OSError if there is none."""
    model = task.make()
    with np.load(folder / f"{task.name}.npz", allow_pickle=False) as arrays:
        model.load_state_dict({key: torch.from_numpy(arrays[key]) for key in arrays.files})
    return model.eval()


def train_float(task: Task, data: Scenes, folder: Path, seed: int = 0, epochs: int | None = None) -> nn.Module:
    """Train the task's network from nothing by AdamW along one cycle, on CUDA where there is one, and keep it in ``folder``.

    Every epoch moves the images' grey values by another random gain and offset.
    """
    torch.manual_seed(seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    count = task.epochs if epochs is None else epochs
    layout = torch.channels_last if task.bfloat16 else torch.contiguous_format
    model = task.make().to(device, memory_format=layout).train()  # type: ignore[call-overload]
    loader = task.loader(data)
    optimizer = torch.optim.AdamW(model.parameters(), lr=task.learning_rate, weight_decay=1e-3)
    steps = max(1, count * len(loader))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, task.learning_rate, total_steps=steps, pct_start=0.2)
    total = 0.0
    for epoch in range(count):
        total = 0.0
        for batch in loader:
            images, *targets = (x.to(device) for x in batch)
            shape = (len(images), 1, 1, 1)
            images = images * (0.8 + 0.4 * torch.rand(shape, device=device)) + 0.2 * torch.randn(shape, device=device)
            with torch.autocast(device, torch.bfloat16, enabled=task.bfloat16):
                outputs = model(images.contiguous(memory_format=layout))
            wanted = targets[0] if len(targets) == 1 else tuple(targets)
            loss = task.loss(outputs.float() if task.bfloat16 else outputs, wanted)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        print(f"{task.name}: epoch {epoch + 1} of {count}, loss {total / len(loader):.4f}", flush=True)
    model = model.cpu().to(memory_format=torch.contiguous_format).eval()
    training = {"scenes": len(data), "epochs": count, "batch": _BATCH, "optimizer": "AdamW, one-cycle", "seed": seed}
    training |= {
        "peak_learning_rate": task.learning_rate,
        "weight_decay": 1e-3,
        "bfloat16": task.bfloat16,
        "last_loss": total / len(loader),
    }
    save_trained(task.name, model, {"title": task.title, "training": training, "versions": {"torch": str(torch.__version__)}}, folder)
    return model


def torch_run(model: nn.Module) -> Run:
    """A torch module as what `Task.scores` runs."""

    def run(images: np.ndarray[Any, Any]) -> Any:
        with torch.inference_mode():
            outputs = model(torch.from_numpy(images))
        return [x.numpy() for x in outputs] if isinstance(outputs, Sequence) else outputs.numpy()

    return run
