"""Tables of measures: printed with what chance and the best possible would be, and written as CSV."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maskmotion.evaluation.bench import PROTOCOL, Bench
from maskmotion.training.checkpoint import write_text

COLUMNS = {
    "labels": "labels used",
    "lift": "mask lift",
    "auroc_within": "AUROC",
    "gesture_accuracy": "gesture accuracy",
    "gesture_choice": "forced choice",
    "false_alarms": "false alarms",
    "amplitude": "amplitude",
    "latent_error": "latent error",
    "fgd": "FGD",
    "bc": "BC",
    "bc_chance": "BC chance",
    "l1_diversity": "L1 diversity",
    "seconds": "train s",
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
    """The main measures of every row, and below them chance, bounds, number of samples and the extractor's name."""
    from rich.console import Console
    from rich.table import Table

    shown = {name: title for name, title in COLUMNS.items() if any(name in row for row in rows)}
    where = f"{bench.corpus.name}, {len(bench.clips)} {bench.split} clips, protocol {PROTOCOL}"
    table = Table("row", *shown.values(), title=where)
    for row in rows:
        table.add_row(str(row["row"]), *(_cell(row.get(name, "")) for name in shown))
    Console(width=None if sys.stdout.isatty() else 210).print(table)
    first = rows[0]
    if "words" in first:
        print(
            f"AUROC: of the scores, within windows. {first['words']:.0f} words with a gesture; forced choice: without 'none'."
        )
    if "latent_error" in first:
        print("latent error: on semantic tokens with all but the seed hidden, in units of the latents' variance.")
    print(
        f"FGD: extractor {bench.extractor.fingerprint[:12]}, trained on the training split; compare only with the same."
    )


def bounds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows for what chance gives, and for what an oracle reaches at the mask ratio of the first row."""
    first = rows[0]
    chance = {"lift": 1.0, "auroc_within": 0.5, "gesture_accuracy": first.get("gesture_chance")}
    chance["gesture_choice"] = first.get("choice_chance")
    oracle = {"lift": first.get("oracle_lift"), "auroc_within": 1.0}
    told = [("chance", chance), ("oracle", oracle)] if "oracle_lift" in first else []
    return [{"row": name, **{key: value for key, value in row.items() if value is not None}} for name, row in told]


def _cell(value: Any) -> str:
    return f"{round(value, 3) + 0.0:.3f}" if isinstance(value, float) else str(value)
