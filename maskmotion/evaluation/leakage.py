"""Leakage guard: numbers on clips that a model has learned from say nothing about speech it has not heard."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from maskmotion.training.runs import noted_clips

_PART = re.compile(r"\[(\d+):(\d+)\]")


@dataclass(frozen=True)
class Learned:
    """Names of the clips that a run has learned from, and of those by which it chose its best step."""

    train: tuple[str, ...]
    validation: tuple[str, ...]


def learned_from(run: str | Path) -> Learned | None:
    """What a run folder says of its clips; None for a saved model without run.json, or a run that does not say."""
    clips = noted_clips(run)
    return None if clips is None else Learned(tuple(clips["train"]), tuple(clips["validation"]))


def span(name: str) -> tuple[str, int, int]:
    """Recording, first frame and end of a clip by its name: `x[10:90][5:20]` is frames 15 to 30 of `x`."""
    recording, first, end = name.partition("[")[0], 0, sys.maxsize
    for match in _PART.finditer(name):
        first, end = first + int(match[1]), min(end, first + int(match[2]))
    return recording, first, end


def overlapping(measured: Iterable[str], learned: Sequence[str]) -> list[str]:
    """Which of the measured clips share a frame with one that was learned from, by their names."""
    known: dict[str, list[tuple[int, int]]] = {}
    for name in learned:
        recording, first, end = span(name)
        known.setdefault(recording, []).append((first, end))
    found = []
    for name in measured:
        recording, first, end = span(name)
        if any(first < other_end and other_first < end for other_first, other_end in known.get(recording, [])):
            found.append(name)
    return found


def guard(measured: Sequence[str], run: str | Path, force: bool = False) -> list[str]:
    """Refuse to measure on clips that a run has learned from; returns what a reader should know, one sentence each.

    Raises:
        ValueError: they overlap, and `force` is False.
    """
    learned = learned_from(run)
    if learned is None:
        return [f"{run} does not say which clips it learned from: whether it has seen these is not known"]
    seen = overlapping(measured, learned.train)
    if seen and not force:
        shown = f"{', '.join(seen[:4])}{', ...' if len(seen) > 4 else ''}"
        raise ValueError(
            f"{run} has learned from {len(seen)} of the {len(measured)} clips to measure on: {shown}; measure on others, or "
            "say --force to see what it knows by heart"
        )
    notes = [f"LEAKED: {run} has learned from {len(seen)} of these clips"] if seen else []
    chosen = overlapping(measured, learned.validation)
    return notes + ([f"{run} chose its best step by {len(chosen)} of these clips"] if chosen else [])
