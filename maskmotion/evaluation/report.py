"""Tables of measures: printed with what chance and the best possible would be, and written as CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maskmotion.evaluation.bench import Bench
from maskmotion.evaluation.fgd import SAMPLES_PER_DIMENSION
from maskmotion.evaluation.protocols import protocol
from maskmotion.evaluation.provenance import differences, versions
from maskmotion.evaluation.sanity import NEEDED
from maskmotion.training.checkpoint import write_text

MEANING = {
    "labels": "labels used",
    "lift": "mask lift",
    "auroc_within": "AUROC",
    "gesture_accuracy": "gesture accuracy",
    "gesture_choice": "forced choice",
    "false_alarms": "false alarms",
    "amplitude": "amplitude",
    "latent_error": "latent error",
    "seconds": "train s",
}
"""Numbers of masks and meaning, beside those of the protocol -> title."""
SHARED = ("protocol", "measured_on", "extractors", "body_model", "mean_speed")
"""What two tables must have in common to be one."""


@dataclass(frozen=True)
class Table:
    """Rows, what they are numbers of, and why some are absent; `save` and `read` keep all of it.

    about: protocol, data, clips, frames, factors of printed numbers, extractors, versions. recipes: row -> hash.
    """

    about: Mapping[str, Any]
    rows: Sequence[Mapping[str, Any]]
    absent: Mapping[str, str] = field(default_factory=dict)
    recipes: Mapping[str, str] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @classmethod
    def of(cls, bench: Bench, rows: Sequence[Mapping[str, Any]], **more: Any) -> Table:
        """A table of what a bench has measured."""
        return cls(about(bench), rows, bench.absent, **more)

    def save(self, path: Path) -> list[Path]:
        """Write the CSV, and beside it a JSON with everything; returns both paths."""
        told = {"about": self.about, "recipes": self.recipes, "absent": self.absent, "notes": list(self.notes)}
        beside = path.with_suffix(".json")
        write_text(beside, json.dumps({**told, "rows": list(self.rows)}, indent=1))
        return [write_csv(path, self.rows), beside]

    @classmethod
    def read(cls, path: str | Path) -> Table:
        """A table that `save` wrote, from its JSON. ValueError for another file."""
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
            return cls(**{name: found[name] for name in ("about", "rows", "absent", "recipes", "notes")})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no table of `maskmotion evaluate` ({error!r})") from None

    def joined(self, other: Table) -> Table:
        """Both tables as one; a row that both have, such as a sanity row, stands once.

        Raises:
            ValueError: they were measured by another protocol or extractor or on other clips, or differ in a row's numbers.
        """
        if problems := differences(dict(self.about), dict(other.about), SHARED):
            raise ValueError("these numbers do not belong in one table; they differ in\n  " + "\n  ".join(problems))
        mine = {str(row["row"]): row for row in self.rows}
        rows = list(self.rows)
        for row in other.rows:
            name = str(row["row"])
            if name in mine and any(not _same(value, row.get(key)) for key, value in mine[name].items()):
                raise ValueError(f"both tables have a row {name!r}, with other numbers; give one of them another name")
            rows += [] if name in mine else [row]
        first = [row for row in rows if row["row"] not in NEEDED]
        return Table(
            self.about,
            first + [row for row in rows if row["row"] in NEEDED],
            {**self.absent, **other.absent},
            {**self.recipes, **other.recipes},
            list(dict.fromkeys([*self.notes, *other.notes])),
        )

    def show(self) -> None:
        """Print it: masks and meaning, then motion, then what the numbers depend on. ValueError without its sanity rows."""
        from rich.console import Console
        from rich.table import Table as Grid

        if missing := [name for name in NEEDED if name not in {row["row"] for row in self.rows}]:
            raise ValueError(f"a table is not printed without its sanity rows; it has no {', '.join(missing)}")
        shown = protocol(self.about["protocol"]).shown
        motion = {name: _title(*told) for name, told in shown.items() if name not in MEANING}
        factors = {name: factor for name, (_, factor) in shown.items()}
        console = Console(width=None if sys.stdout.isatty() else 210)
        for kind, titles in (("masks and meaning", MEANING), ("motion", motion)):
            there = {name: title for name, title in titles.items() if any(name in row for row in self.rows)}
            if there:
                grid = Grid("row", *there.values(), title=f"{self.about['title']}: {kind}")
                for row in self.rows:
                    grid.add_row(str(row["row"]), *(_cell(row.get(name, ""), factors.get(name, 1.0)) for name in there))
                console.print(grid)
        for line in self._below():
            print(line)

    def _below(self) -> list[str]:
        first, told = self.rows[0], []
        if "words" in first:
            told.append(
                f"AUROC: of the scores, within windows. {first['words']:.0f} words with a gesture; forced choice: without "
                "'none'."
            )
        if "latent_error" in first:
            told.append(
                "latent error: on semantic tokens with all but the seed hidden, in units of the latents' variance."
            )
        for name, one in self.about["extractors"].items():
            samples = first.get(f"{name}_samples", 0.0)
            few = (
                ""
                if samples >= SAMPLES_PER_DIMENSION * one["dim"]
                else f", fewer than {SAMPLES_PER_DIMENSION} a dimension"
            )
            told.append(
                f"{name.upper()}: extractor {one['fingerprint'][:12]} ({one['origin']}), {samples:.0f} feature vectors of "
                f"{one['dim']} dimensions a side{few}; compare only with the same."
            )
        told += [f"recipe of {row}: {name}" for row, name in self.recipes.items()]
        reasons: dict[str, list[str]] = {}
        for name, why in self.absent.items():
            reasons.setdefault(why, []).append(name)
        told += [f"absent: {', '.join(names)}: {why}" for why, names in reasons.items()]
        numbers = ", ".join(f"{name} {value}" for name, value in self.about["versions"].items())
        told.append(f"measured on clips {self.about['measured_on'][:12]} of {self.about['data']}; {numbers}")
        return [*told, *(f"note: {note}" for note in self.notes)]


def about(bench: Bench) -> dict[str, Any]:
    """What the numbers of a bench depend on."""
    frames = sum(clip.frames for clip in bench.clips)
    name, frechet = bench.protocol.name, [m for m in bench.protocol.measures if m.reads is not None]
    read = {measure.name: bench.extractors[str(measure.reads)] for measure in frechet}
    return {
        "title": f"{bench.corpus.name}, {len(bench.clips)} {bench.split} clips, {frames} frames, protocol {name}",
        "protocol": name,
        "data": bench.corpus.name,
        "split": bench.split,
        "measured_on": bench.measured_on,
        "clips": len(bench.clips),
        "frames": frames,
        "factors": {key: factor for key, (_, factor) in bench.protocol.shown.items()},
        "extractors": {
            key: {
                "fingerprint": one.fingerprint,
                "dim": one.dim,
                "origin": str(one.about.get("name", "trained on the training split")),
            }
            for key, one in read.items()
        },
        "body_model": bench.body_model_hash,
        "mean_speed": bench.setup.mean_speed is not None,
        "versions": versions(),
    }


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Every measure of every row; returns the path. Atomic."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())
    return path


def print_table(rows: Sequence[Mapping[str, Any]], bench: Bench) -> None:
    """The main measures of every row, and below them chance, bounds, number of samples and the extractors' names."""
    Table.of(bench, rows).show()


def bounds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for what chance gives, and for what an oracle reaches at the mask ratio of the first row."""
    first = rows[0]
    chance = {"lift": 1.0, "auroc_within": 0.5, "gesture_accuracy": first.get("gesture_chance")}
    chance["gesture_choice"] = first.get("choice_chance")
    oracle = {"lift": first.get("oracle_lift"), "auroc_within": 1.0}
    told = [("chance", chance), ("oracle", oracle)] if "oracle_lift" in first else []
    return [{"row": name, **{key: value for key, value in row.items() if value is not None}} for name, row in told]


def _title(title: str, factor: float) -> str:
    return title if factor == 1 else f"{title} x {factor:g}"


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, float) and isinstance(second, float):
        return math.isclose(first, second, rel_tol=1e-6, abs_tol=1e-9) or (math.isnan(first) and math.isnan(second))
    return bool(first == second)


def _cell(value: Any, factor: float) -> str:
    return f"{round(value * factor, 3) + 0.0:.3f}" if isinstance(value, float) else str(value)
