"""Mean and 95 % interval over seeds of the demonstration's rows, as a Markdown table.

    for seed in 0 1 2; do maskmotion demo seed=$seed training.generator.validate_every=100 --run runs/seeds/$seed; done
    python benchmarks/seeds.py runs/seeds/*/results.csv

Intervals are Student's t over seeds: with three of them a factor of 4.3 on the standard error. The difference to the first
row is paired by seed.
"""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
from scipy.stats import t

MEASURES = ("lift", "auroc_within", "gesture_accuracy", "gesture_choice", "false_alarms", "latent_error", "fgd")


def read(path: Path) -> dict[str, dict[str, float]]:
    """Row -> measure -> value of one results.csv."""
    with path.open(encoding="utf-8") as file:
        return {
            row["row"]: {name: float(row[name]) for name in MEASURES if row[name]}
            for row in csv.DictReader(file)
            if row["seconds"]  # the rows that were trained
        }


def interval(values: np.ndarray) -> tuple[float, float]:
    """Mean and half width of the 95 % t interval."""
    half = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(half)


def main(paths: list[str]) -> None:
    """Print the table of values and the table of paired differences to the first row."""
    if len(paths) < 2:
        raise SystemExit("give the results.csv of at least two seeds")
    seeds = [read(Path(path)) for path in paths]
    rows = list(seeds[0])
    for title, base in (("value", None), (f"difference to {rows[0]}", rows[0])):
        print(f"\n| {title} | {' | '.join(MEASURES)} |\n|{'---|' * (len(MEASURES) + 1)}")
        for row in rows:
            cells = []
            for name in MEASURES:
                values = np.array([seed[row][name] - (seed[base][name] if base else 0.0) for seed in seeds])
                mean, half = interval(values)
                cells.append(f"{mean:.3f} ± {half:.3f}")
            print(f"| {row} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main(sys.argv[1:])
