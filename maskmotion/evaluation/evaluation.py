"""An evaluation: every measure of a protocol over pairs of generated and recorded motion, streamed clip by clip."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from maskmotion.evaluation.accumulator import Accumulator
from maskmotion.evaluation.fgd import Frechet
from maskmotion.evaluation.measures import Setup
from maskmotion.evaluation.pairs import Pair, Reference
from maskmotion.evaluation.protocols import Protocol
from maskmotion.shapes import Float


@dataclass(frozen=True)
class Row:
    """Numbers of one kind of motion. values: by key, plain. absent: what could not be measured, with the reason."""

    values: Mapping[str, float]
    absent: Mapping[str, str] = field(default_factory=dict)
    clips: int = 0
    frames: int = 0


class _Counts(Accumulator):
    """Clips, frames, and how many clips each measure took."""

    def __init__(self, names: Sequence[str]) -> None:
        self.state = {name: torch.zeros(1, dtype=torch.float64) for name in ("clips", "frames", *names)}

    def add(self, name: str, count: int = 1) -> None:
        """Count."""
        self.state = {**self.state, name: self.state[name] + count}

    def result(self) -> dict[str, int]:
        """Name -> count."""
        return {name: int(value) for name, value in self.state.items()}


class Evaluation:
    """All measures of a protocol at once. Clips may come in any grouping, and on several processes: the numbers agree.

    Args:
        protocol: `maskmotion.evaluation.protocols.protocol(name)`. setup: what its measures need beside motion.
    """

    def __init__(self, protocol: Protocol, setup: Setup) -> None:
        self.protocol, self.setup = protocol, setup
        lacking = [(measure, measure.lacks(setup)) for measure in protocol.measures]
        self._absent = {name: why for measure, why in lacking if why for name in measure.shown}
        self._taken = [measure for measure, why in lacking if not why]
        self._sums: dict[str, Accumulator] = {measure.name: measure.build(setup) for measure in self._taken}
        self._counts = _Counts([measure.name for measure in self._taken])

    @torch.no_grad()
    def update(self, generated: Sequence[Float[Tensor, "_ D"]], references: Sequence[Reference]) -> None:
        """Add one motion [T, 437] for each recording; the longer of the two is cut.

        Raises:
            ValueError: not as many motions as recordings.
        """
        if len(generated) != len(references):
            raise ValueError(f"every recording needs one motion, got {len(generated)} for {len(references)}")
        for motion, reference in zip(generated, references):
            pair = Pair(motion.detach().cpu(), reference)
            self._counts.add("clips")
            self._counts.add("frames", pair.frames)
            for measure in self._taken:
                why = measure.unwanted(pair)
                if why is None:
                    measure.add(self._sums[measure.name], self.setup, pair)
                    self._counts.add(measure.name)

    def merge(self, other: Evaluation) -> None:
        """Add the clips that another evaluation, of the same protocol and setup, has seen."""
        self._counts.merge(other._counts)
        for name, measure in self._sums.items():
            measure.merge(other._sums[name])

    def gather(self) -> Evaluation:
        """The evaluation over the clips of all processes (accelerate, torchrun), the same in each; all have to call it."""
        whole = copy.copy(self)
        whole._counts = self._counts.gather()
        whole._sums = {name: measure.gather() for name, measure in self._sums.items()}
        return whole

    def result(self) -> Row:
        """Every number, and every one that is absent with the reason."""
        counts = self._counts.result()
        values: dict[str, float] = {}
        absent = {**self.protocol.absent, **self._absent}
        for measure in self._taken:
            why = None if counts[measure.name] else measure.nothing()
            try:
                found = {} if why else measure.read(self._sums[measure.name].result())
            except ValueError as error:  # too few samples, nothing shown: told, not raised, as the other measures stand
                why, found = str(error), {}
            values |= found
            absent |= {name: why for name in measure.shown if why}
        return Row(values, absent, counts["clips"], counts["frames"])


def between(protocol: Protocol, setup: Setup, first: Sequence[Tensor], second: Sequence[Tensor]) -> Row:
    """The Frechet distances of a protocol between two sets of motions that need not belong together."""
    values: dict[str, float] = {}
    for measure in protocol.measures:
        if measure.reads is not None and not measure.lacks(setup):
            extractor, sums = setup.extractors[measure.reads], measure.build(setup)
            assert isinstance(sums, Frechet)
            sums.update(*(extractor.features(motions, measure.multiple) for motions in (first, second)))
            values |= measure.read(sums.result())
    absent = {name: "no distance between two sets of clips" for name in protocol.shown if name not in values}
    return Row(values, absent, len(first), sum(map(len, first)))
