"""Results: every cell's measures, and what they say together. Means, intervals, paired differences, agreement."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from maskmotion.ablations.table import Table
from maskmotion.config import Recipe
from maskmotion.evaluation.bench import PROTOCOL
from maskmotion.evaluation.intervals import Interval, paired_difference, t_interval
from maskmotion.evaluation.protocols import protocol

Better = Literal["higher", "lower", ""]
Verdict = Literal["agrees", "disagrees", "cannot tell"]


class Column(NamedTuple):
    """Heading of a measure, and which direction is better, "" where neither is."""

    title: str
    better: Better = ""


COLUMNS = {
    "lift": Column("mask lift"),
    "auroc": Column("AUROC pooled"),
    "auroc_within": Column("AUROC within"),
    "auroc_within_shuffled_audio": Column("AUROC within, audio shuffled"),
    "auroc_within_shuffled_motion": Column("AUROC within, motion shuffled"),
    "auroc_shuffled_audio": Column("AUROC pooled, audio shuffled"),
    "auroc_shuffled_motion": Column("AUROC pooled, motion shuffled"),
    "distractor_lift": Column("distractor lift"),
    "run_length": Column("hidden run, frames"),
    "latent_error": Column("latent error", "lower"),
    "gesture_accuracy": Column("gesture accuracy", "higher"),
    "gesture_choice": Column("forced choice", "higher"),
    "false_alarms": Column("false alarms", "lower"),
    "amplitude": Column("amplitude"),
    "fgd": Column("FGD", "lower"),
    "bc": Column("BC", "higher"),
    "l1_diversity": Column("L1 diversity", "higher"),
    "mse": Column("face MSE", "lower"),
    "lvd": Column("LVD", "lower"),
    "seconds": Column("train s"),
}
USUAL = (
    *("lift", "auroc_within", "auroc_within_shuffled_audio", "auroc_within_shuffled_motion", "run_length"),
    *("latent_error", "gesture_accuracy", "gesture_choice", "fgd", "bc", "l1_diversity", "seconds"),
)


def column(measure: str) -> Column:
    """Heading of a measure; the protocol's, or its own name, where it is none of the usual ones."""
    shown = protocol(PROTOCOL).shown
    return COLUMNS.get(measure, Column(shown[measure][0] if measure in shown else measure))


@dataclass(frozen=True)
class Results:
    """A finished table.

    cells: label -> seed -> measure -> value. curves: label -> seed -> measurements while training, in order.
    sanity: row -> measure -> value, of ground truth and the like. reconstruction: of each row's tokenizers, the sanity row
    they belong to. about: provenance, as the jobs wrote it. weights: label -> number of the generator's.
    """

    table: Table
    recipes: Mapping[str, Recipe]
    cells: Mapping[str, Mapping[int, Mapping[str, float]]]
    curves: Mapping[str, Mapping[int, list[dict[str, Any]]]]
    sanity: Mapping[str, Mapping[str, float]]
    reconstruction: Mapping[str, str]
    about: Mapping[str, Any]
    weights: Mapping[str, int]
    folder: Path

    @property
    def seeds(self) -> int:
        """Number of seeds a row."""
        return max(map(len, self.cells.values()))

    @property
    def measures(self) -> list[str]:
        """The columns to show: those of the table, or the usual ones that were measured."""
        wanted = self.table.measures or USUAL
        return [name for name in wanted if any(name in cell for row in self.cells.values() for cell in row.values())]

    @property
    def everything(self) -> list[str]:
        """All that was measured."""
        return list(dict.fromkeys(name for row in self.cells.values() for cell in row.values() for name in cell))

    def values(self, label: str, measure: str) -> dict[int, float]:
        """Seed -> value of a row."""
        return {seed: float(cell.get(measure, math.nan)) for seed, cell in self.cells[label].items()}

    def interval(self, label: str, measure: str) -> Interval:
        """Mean over seeds with its 95 % t interval."""
        return t_interval(list(self.values(label, measure).values()))

    def difference(self, label: str, measure: str) -> Interval | None:
        """Row minus the row it is compared with, paired by seed; None where it is compared with none."""
        other = self.table.other(label)
        return None if other is None else paired_difference(self.values(label, measure), self.values(other, measure))

    def paper(self, label: str, measure: str) -> tuple[int, float | None]:
        """The paper's direction against the row that this one is compared with (1, -1; 0: none), and its difference."""
        other = self.table.other(label)
        if other is None:
            return 0, None
        expected = self.table.expected.get(label, {}).get(measure)
        own, base = (self.table.paper.get(name, {}).get(measure) for name in (label, other))
        if own is None or base is None:
            return {"higher": 1, "lower": -1}.get(expected or "", 0), None
        return (own > base) - (own < base), own - base

    def verdict(self, label: str, measure: str) -> Verdict | None:
        """Whether the direction agrees with the paper's; None where the paper has none. Nothing is tuned until it does."""
        direction, _ = self.paper(label, measure)
        found = self.difference(label, measure)
        if not direction or found is None:
            return None
        if not found.direction:
            return "cannot tell"
        return "agrees" if found.direction == direction else "disagrees"

    @property
    def compared(self) -> list[tuple[str, str]]:
        """(label, measure) of everything that the paper gives a direction for."""
        named = {name for source in (self.table.paper, self.table.expected) for row in source.values() for name in row}
        ordered = [name for name in COLUMNS if name in named] + sorted(named - set(COLUMNS))
        return [(label, name) for label in self.cells for name in ordered if self.paper(label, name)[0]]

    def render(self) -> str:
        """The whole report as Markdown."""
        from maskmotion.ablations.report import markdown

        return markdown(self)

    def save(self) -> Path:
        """Write table.md, table.tex, cells.csv, summary.csv, training.csv and, with the extra `viz`, the pictures."""
        from maskmotion.ablations.report import write_all

        return write_all(self)
