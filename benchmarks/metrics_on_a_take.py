"""What every measure of maskmotion-v1 says of a recorded take that was changed in a known way.

    python benchmarks/metrics_on_a_take.py PATH/TO/beat_english_v2.0.0 --out docs/results/metrics_on_a_take.csv

The first take with motion is held against itself: as it is; 1 s late (its own motion, beside the speech of 1 s before);
smoothed (a Gaussian of 0.2 s on rotations, translation and expressions); reversed in time; and beside the speech of the
tree's recordings without motion. Changed motion passes through a motion file, so that contacts are its own. The feature
extractors learn from the take itself, 119 feature vectors of 32 dimensions: enough to order changes of one take, no more.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from maskmotion.data.audio import load_audio, sample_of
from maskmotion.data.beat2 import load_clip, recordings
from maskmotion.evaluation.evaluation import Evaluation, Row
from maskmotion.evaluation.extractor import train_extractor
from maskmotion.evaluation.measures import Setup
from maskmotion.evaluation.pairs import Reference
from maskmotion.evaluation.protocols import protocol
from maskmotion.evaluation.report import write_csv
from maskmotion.motion.body_model import BodyModel
from maskmotion.motion.files import MotionFile, from_tensor, to_tensor
from maskmotion.types import SAMPLE_RATE, Clip

LATE, BLUR = 1.0, 0.2  # seconds
TRUTH, SHIFTED, SMOOTHED, REVERSED, OTHER = "as it is", "1 s late", "smoothed", "reversed", "other speech"

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("data", type=Path, help="a BEAT2 tree with a take that has motion, and others")
parser.add_argument("--body-model", type=Path, help="your SMPL-X npz, for MSE and LVD")
parser.add_argument("--out", type=Path, required=True, help="csv to write")


def as_file(motion: Tensor) -> Tensor:
    """What is left of a motion [T, 437] after a motion file: whole rotations, contacts of its own."""
    return to_tensor(MotionFile(**from_tensor(motion), betas=torch.zeros(300).numpy()))


def smoothed(motion: Tensor, seconds: float = BLUR) -> Tensor:
    """A Gaussian over time on every column."""
    return as_file(torch.from_numpy(gaussian_filter1d(motion.numpy(), 30 * seconds, axis=0)))


def other_speech(clip: Clip, data: Path) -> list[Clip]:
    """The take's motion beside the sound of every other recording of the tree, as long as both last."""
    found = []
    for path in sorted((data / "wave16k").glob("*.wav")):
        if path.stem != clip.name:
            sound = load_audio(path).samples
            frames = min(clip.frames, len(sound) * clip.fps // SAMPLE_RATE)
            found.append(replace(clip, motion=clip.motion[:frames], audio=sound[: sample_of(frames)], labels={}))
    return found


def take(data: Path) -> Clip:
    """The first recording with motion."""
    return load_clip(data, next(row.id for row in recordings(data) if row.motion.is_file()))


def rows(clip: Clip, others: list[Clip], setup: Setup) -> dict[str, Row]:
    """Change -> what is measured."""
    reference = Reference(clip)
    pairs: Mapping[str, tuple[list[Tensor], list[Reference]]] = {
        TRUTH: ([clip.motion], [reference]),
        SHIFTED: ([clip.motion[round(LATE * clip.fps) :]], [reference]),
        SMOOTHED: ([smoothed(clip.motion)], [reference]),
        REVERSED: ([as_file(clip.motion.flip(0))], [reference]),
        OTHER: ([other.motion for other in others], [Reference(other) for other in others]),
    }
    found = {}
    for name, (motions, references) in pairs.items():
        evaluation = Evaluation(protocol("maskmotion-v1"), setup)
        evaluation.update(motions, references)
        found[name] = evaluation.result()
    return found


def extractors(clip: Clip, steps: int = 600) -> Setup:
    """Extractors that have learned from the take."""
    return Setup({reads: train_extractor([clip.motion], steps, reads=reads) for reads in ("body", "motion", "face")})


def margin(row: Row, name: str) -> float:
    """By how much a beat measure is above what chance gives."""
    return row.values[name] - row.values[f"{name}_chance"]


def cell(value: float | None) -> str:
    """Four digits, and no zeros of 1e-14."""
    return "" if value is None else f"{value if abs(value) > 1e-9 else 0.0:.4g}"


def main() -> None:
    """Measure, write the csv, print the table: a measure a line, a change a column."""
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    clip = take(arguments.data)
    setup = extractors(clip)
    if arguments.body_model is not None:
        setup = replace(setup, body=BodyModel(arguments.body_model))
    found = rows(clip, other_speech(clip, arguments.data), setup)
    print(write_csv(arguments.out, [{"row": name, **row.values} for name, row in found.items()]))
    print(f"\n| | {' | '.join(found)} |\n" + "|---" * (len(found) + 1) + "|")
    titles = {name: title for name, (title, _) in protocol("maskmotion-v1").shown.items()}
    for name, title in titles.items():
        if name in found[TRUTH].values:
            print(f"| {title} | {' | '.join(cell(row.values.get(name)) for row in found.values())} |")
    for name in ("bc", "ba"):
        print(f"| {titles[name]} above chance | {' | '.join(f'{margin(row, name):+.4f}' for row in found.values())} |")
    for name, reason in found[TRUTH].absent.items():
        print(f"absent: {name}: {reason}")


if __name__ == "__main__":
    main()
