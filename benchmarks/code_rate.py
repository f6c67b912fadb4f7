"""RVQ against VQ at equal code rate on one recorded take: what comes back, and which codes are used.

    python benchmarks/code_rate.py PATH/TO/beat_english_v2.0.0 --out docs/results/code_rate.csv

Learns from the first 48 s of the take and measures on its last 12 s, which choose nothing (no best step, no setting). Every
row spends 8 bit a frame and part: one code of 256 a frame, or four codes of 256 every fourth frame. Rows that are in the
csv already are not trained again. Intervals are Student's t over seeds: the same take each time, so they say nothing about
other takes or speakers.
"""

from __future__ import annotations

import argparse
import csv
import math
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from seeds import interval

import maskmotion as mm
from maskmotion.config import Recipe, Spec
from maskmotion.data.beat2 import load_clip, recordings
from maskmotion.data.windows import split_time
from maskmotion.evaluation.tokens import code_use, errors_by_depth, part_errors
from maskmotion.types import Clip

LEARN, MEASURE = 48.0, 12.0  # seconds
RVQ = {
    "tokenizer.network": Spec("dilated", downsample=4, dilations=(9, 3, 1)),
    "tokenizer.quantizer": Spec("rvq", codebook_size=256, num_layers=4),
}
ROWS: dict[str, dict[str, Any]] = {
    "vq, a code a frame": {
        "tokenizer.network": Spec("dilated", downsample=1, dilations=(9, 3, 1)),
        "tokenizer.quantizer": Spec("vq", codebook_size=256),
    },
    "vq, EMAGE's network": {
        "tokenizer.network": Spec("plain", layers=2),
        "tokenizer.quantizer": Spec("vq", codebook_size=256),
        "tokenizer.by_part": {"lower": {"network.layers": 4}},
    },
    "rvq, 4 codes each 4 frames": RVQ,
}

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", type=Path, help="a BEAT2 tree with at least one take of 64 s")
parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--width", type=int, default=128)
parser.add_argument("--processes", type=int, default=2)
parser.add_argument("--out", type=Path, required=True, help="csv, gone on with where it exists")

FIELDS = ("row", "seed", "part", "layers", "degrees", "centimetres", "expression", "perplexity", "unused")


def take(data: Path) -> tuple[Clip, Clip]:
    """The part of the first take to learn from, and the part to measure on."""
    clip = load_clip(data, recordings(data, "train")[0].id)
    first, _ = split_time(clip, LEARN)
    _, last = split_time(clip, clip.frames / clip.fps - MEASURE)
    return first, last


def recipe(row: str, seed: int, steps: int, width: int) -> Recipe:
    """Tokenizers of a row, with nothing but what the row says changed."""
    shared = {"seed": seed, "tokenizer.width": width, "training.tokenizer.steps": steps}
    return mm.preset("tiny").but(shared | ROWS[row])


def measure(row: str, seed: int, steps: int, width: int, data: Path) -> list[dict[str, Any]]:
    """Train one row's tokenizers and measure them, by part and depth."""
    torch.set_num_threads(1)
    first, last = take(data)
    corpus = mm.Corpus(f"{first.name}, first {LEARN:g} s", [first], [], lambda: [last])
    with TemporaryDirectory() as folder:
        body = mm.train(recipe(row, seed, steps, width), corpus, folder, only=["tokenizer"]).body
    use = code_use(body, [first.motion])
    found = []
    for depth, errors in enumerate(errors_by_depth(body, last.motion), 1):
        for part, error in errors.items():
            layer = {name: float(values[depth - 1]) for name, values in use[part]._asdict().items()}
            found.append({"row": row, "seed": seed, "part": part, "layers": depth, **error._asdict(), **layer})
    return found


def mean_pose(data: Path) -> dict[str, Any]:
    """What the mean of the learned seconds scores: the row that says how large an error is."""
    first, last = take(data)
    layout = mm.preset("tiny").body.layout()
    return part_errors(layout, last.motion, first.motion.mean(0).expand(last.frames, -1))


def read(path: Path) -> list[dict[str, Any]]:
    """Rows of the csv so far."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8") as file:
        return [
            {name: row[name] if name in ("row", "part") else float(row[name]) for name in FIELDS}
            for row in csv.DictReader(file)
        ]


def cell(values: list[float], digits: int = 2) -> str:
    """Mean and 95 % interval, or nothing where nothing was measured."""
    if any(math.isnan(value) for value in values):
        return ""
    mean, half = interval(np.array(values))
    return f"{mean:.{digits}f} ± {half:.{digits}f}"


def table(rows: list[dict[str, Any]], data: Path) -> None:
    """Print errors and code use, by row, part and number of layers."""
    print("| row | layers | part | degrees | cm | expression | perplexity of 256 | unused |\n" + "|---" * 8 + "|")
    for part, error in mean_pose(data).items():
        expression = "" if math.isnan(error.expression) else f"{error.expression:.2f}"
        print(f"| mean pose | | {part} | {error.degrees:.2f} | {error.centimetres:.2f} | {expression} | | |")
    parts = list(mean_pose(data))
    keys = {(row["row"], row["layers"], row["part"]) for row in rows}
    for key in sorted(keys, key=lambda key: (parts.index(key[2]), list(ROWS).index(key[0]), key[1])):
        mine = [row for row in rows if (row["row"], row["layers"], row["part"]) == key]
        cells = [cell([row[name] for row in mine]) for name in ("degrees", "centimetres", "expression")]
        cells += [cell([row[name] for row in mine], 0) for name in ("perplexity", "unused")]
        print(f"| {key[0]} | {key[1]:g} | {key[2]} | " + " | ".join(cells) + " |")


def main() -> None:
    """Train what is missing, write the csv after every run, print the table."""
    arguments = parser.parse_args()
    rows = read(arguments.out)
    done = {(row["row"], row["seed"]) for row in rows}
    wanted = [(row, seed) for seed in arguments.seeds for row in ROWS if (row, seed) not in done]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        sizes = (arguments.steps, arguments.width, arguments.data)
        for future in [pool.submit(measure, row, seed, *sizes) for row, seed in wanted]:
            rows += future.result()
            with arguments.out.open("w", encoding="utf-8", newline="") as file:
                writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
                writer.writeheader()
                writer.writerows(rows)
    table(rows, arguments.data)


if __name__ == "__main__":
    main()
