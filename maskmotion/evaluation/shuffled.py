"""What a masker's scores follow: speech, motion, or both; read off when one of them is another window's.

A score that still finds meaning under the speech of another clip has read it off the motion; one that still finds it
under the motion of another clip has heard it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import torch

from maskmotion.data.windows import WindowDataset
from maskmotion.interfaces import Generator
from maskmotion.shapes import Int
from maskmotion.training.measure import quality_of
from maskmotion.types import Batch

Shuffled = Literal["audio", "motion"]
_HEARD = ("words",)  # labels that a conditioner may read as speech; the others are what is asked for


def shuffled_aurocs(generator: Generator, dataset: WindowDataset, size: int = 32, seed: int = 0) -> dict[str, float]:
    """Areas under the ROC curve of the masker's scores under shuffled speech and under shuffled motion.

    `auroc_shuffled_audio`, `auroc_within_shuffled_audio` and the same for `motion`, pooled and within windows as in
    `MaskResult`, at the end of the masker's schedule. Labels stay where they are. Empty where there is no masker, no
    label, no meaning, or one window only.
    """
    values: dict[str, float] = {}
    if len(dataset) < 2:
        return values
    for what in ("audio", "motion"):
        quality = quality_of(generator, 1.0, shuffled_batches(dataset, what, size), seed)
        if quality is not None:
            values[f"auroc_shuffled_{what}"] = quality.auroc
            values[f"auroc_within_shuffled_{what}"] = quality.auroc_within
    return values


def shuffled_batches(dataset: WindowDataset, what: Shuffled, size: int) -> Iterator[Batch]:
    """All windows in order, each with the speech, or with the motion, of its partner; valid where both are."""
    partner = partners(dataset)
    for start in range(0, len(dataset), size):
        index = torch.arange(start, min(start + size, len(dataset)))
        own, other = dataset.batch(index), dataset.batch(partner[index])
        valid = own.valid & other.valid
        if what == "motion":
            yield replace(own, motion=other.motion, valid=valid)
            continue
        labels = {key: (other if key in _HEARD else own).labels[key] for key in own.labels}
        yield replace(own, audio=other.audio, features=other.features, text=other.text, labels=labels, valid=valid)


def partners(dataset: WindowDataset) -> Int[torch.Tensor, " windows"]:
    """For every window another one, each taken once: of another clip, unless one clip has more than half of all windows.

    Windows stand in the order of their clips, so a shift by the longest clip's count leaves every clip; the speaker stays
    the window's own.
    """
    count = len(dataset)
    names = [name for start in range(0, count, 256) for name, _ in _sources(dataset, start)]
    _, sizes = torch.unique_consecutive(torch.tensor([names.index(name) for name in names]), return_counts=True)
    shift = min(int(sizes.max()), count // 2)
    return (torch.arange(count) + shift) % count


def _sources(dataset: WindowDataset, start: int) -> tuple[tuple[str, int], ...]:
    return dataset.batch(range(start, min(start + 256, len(dataset)))).source
