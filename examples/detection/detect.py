"""Detect objects with an 8-bit network: the engine runs backbone, pyramid and heads, boxes are decoded and suppressed outside of it.

    python examples/detection/detect.py --out detections.png

A detector's last steps, the choice of candidates and non-maximum suppression, give results whose number depends on the picture. No
layer of the engine does that, and nothing is lost by it: they cost little beside the network. So a model is converted up to the raw
outputs of its heads, here those of a small RetinaNet-shaped network for letters (`benchmarks/methods/scenes`), and NumPy does the rest
(`decode` in `benchmarks/methods/scenes/detector.py`). Run it from the repository's root.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).parents[2]))

import pyqinfer as pq
from benchmarks.methods.scenes.data import LETTERS, scenes
from benchmarks.methods.scenes.detector import Detections, decode
from benchmarks.methods.scenes.networks import TASKS, load

_ENLARGED = 6


def drawn(image: np.ndarray, found: Detections, least_score: float) -> Image.Image:
    """A scene [1, S, S] with the boxes that were found in it."""
    low, high = float(image.min()), float(image.max())
    pixels = (255 * (image[0] - low) / max(high - low, 1e-6)).astype(np.uint8)
    picture = Image.fromarray(pixels).resize([_ENLARGED * size for size in pixels.shape[::-1]]).convert("RGB")
    draw = ImageDraw.Draw(picture)
    for box, label, score in zip(found.boxes, found.labels, found.scores, strict=True):
        if score >= least_score:
            corners = [_ENLARGED * float(c) for c in box]
            draw.rectangle(corners, outline="red", width=2)
            draw.text((corners[0] + 3, corners[1] + 1), f"{LETTERS[label]} {score:.2f}", fill="red")
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("detections.png"), help="picture of the scenes with their boxes")
    parser.add_argument("--scenes", type=int, default=6, help="how many are looked at")
    parser.add_argument("--score", type=float, default=0.3, help="least score of a box that is drawn")
    options = parser.parse_args()

    network = load(TASKS["detector"])
    calibration = list(torch.from_numpy(scenes("train", 128).images).split(32))
    quantized = pq.quantize(network, pq.PTQ(), example_inputs=(calibration[0][:1],), calibration=calibration)
    session = pq.Session(pq.convert(quantized, example_inputs=(calibration[0][:1],)))

    images = scenes("test", options.scenes).images
    found = decode(session(images))
    pictures = [drawn(image, boxes, options.score) for image, boxes in zip(images, found, strict=True)]
    sheet = Image.new("RGB", (sum(picture.width for picture in pictures), pictures[0].height))
    for i, picture in enumerate(pictures):
        sheet.paste(picture, (sum(other.width for other in pictures[:i]), 0))
    sheet.save(options.out)
    count = sum(int((boxes.scores >= options.score).sum()) for boxes in found)
    print(f"{count} boxes in {len(images)} scenes: {options.out}")


if __name__ == "__main__":
    main()
