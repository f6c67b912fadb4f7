"""The files of a finished table: Markdown, LaTeX, csv and pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

from maskmotion.ablations.caveats import caveats, origins
from maskmotion.ablations.results import Results, Verdict, column
from maskmotion.evaluation.intervals import Interval
from maskmotion.evaluation.provenance import recipe_hash
from maskmotion.evaluation.report import write_csv
from maskmotion.training.checkpoint import write_text

_ARROWS = {"higher": " ↑", "lower": " ↓", "": ""}


def write_all(results: Results) -> Path:
    """Write every file of the report into the run's folder; returns the folder."""
    folder = results.folder
    write_text(folder / "table.md", markdown(results))
    write_text(folder / "table.tex", latex(results))
    write_csv(folder / "cells.csv", cells(results))
    write_csv(folder / "summary.csv", summary(results))
    write_csv(folder / "training.csv", training(results))
    from maskmotion.views.ablation import plot_rows, plot_training

    try:
        plot_rows(folder / "table.png", results)
        if any(row for seeds in results.curves.values() for row in seeds.values()):
            plot_training(folder / "training.png", results)
    except ImportError as error:
        write_text(folder / "no-pictures.txt", f"{error}\n")
    return folder


def markdown(results: Results) -> str:
    """The tables, what they rest on and what they cannot tell."""
    parts = [f"# {results.table.name}", results.table.about, _setting(results), _values(results)]
    parts += [_differences(results), _agreement(results), _sanity(results)]
    parts += ["## What this table cannot tell\n\n" + "\n".join(f"- {line}" for line in caveats(results))]
    parts += [_readings(results), origins(results)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _setting(results: Results) -> str:
    about = results.about
    seconds = about["frames"] / about["fps"]
    return (
        f"Protocol {about['protocol']}; {about['data']}, {about['clips']} {about['split']} clips, {about['frames']} frames "
        f"({seconds / 60:.1f} min), the same for all rows; {results.seeds} seeds; mean and 95 % t interval over seeds."
    )


def _values(results: Results) -> str:
    heads = ["row", *(column(name).title + _ARROWS[column(name).better] for name in results.measures)]
    rows = [
        [label, *(spelled_interval(results.interval(label, name)) for name in results.measures)]
        for label in results.cells
    ]
    return "## Values\n\n" + _grid(heads, rows)


def _differences(results: Results) -> str:
    shown = [name for name in results.measures if name != "seconds"]
    rows = []
    for label in results.cells:
        other = results.table.other(label)
        if other is not None:
            found = [results.difference(label, name) for name in shown]
            told = [_directed(one, column(name).better) for one, name in zip(found, shown) if one is not None]
            rows.append([label, other, *told])
    if not rows:
        return ""
    heads = ["row", "minus", *(column(name).title for name in shown)]
    note = (
        "Paired by seed. Where the interval excludes zero the direction is in bold, with better or worse for measures that "
        "have such a side."
    )
    return f"## Differences\n\n{note}\n\n" + _grid(heads, rows)


def _agreement(results: Results) -> str:
    """The paper's directions beside ours, as found; measures that were not taken are named once."""
    if not results.compared:
        return ""
    rows, lost = [], set()
    for label, name in results.compared:
        found = results.difference(label, name)
        if found is None or not found.n:
            lost.add(column(name).title)
            continue
        sign, paper = results.paper(label, name)
        theirs = ("higher" if sign > 0 else "lower") + ("" if paper is None else f" ({paper:+.4g})")
        other, verdict = results.table.other(label) or "", str(results.verdict(label, name))
        rows.append([label, other, column(name).title, theirs, spelled_interval(found, "+"), verdict])
    counts = ", ".join(f"{sum(row[-1] == one for row in rows)} {one}" for one in get_args(Verdict))
    note = (
        f"Directions as found: {counts}. The paper's numbers are of other data and another scale; only signs compare."
    )
    note += f" Not measured here: {', '.join(sorted(lost))}." if lost else ""
    heads = ["row", "against", "measure", "paper", "here", "direction"]
    return f"## The paper's directions\n\n{note}\n\n" + _grid(heads, rows)


def _sanity(results: Results) -> str:
    shown = [name for name in results.measures if any(name in row for row in results.sanity.values())]
    shown += [name for name in ("bc_chance",) if any(name in row for row in results.sanity.values())]
    rows = [[label, *(_number(row.get(name)) for name in shown)] for label, row in results.sanity.items()]
    return "## What the numbers mean\n\n" + _grid(["row", *(column(name).title for name in shown)], rows)


def _readings(results: Results) -> str:
    if not results.table.readings:
        return ""
    return "## How the rows were read\n\n" + "\n".join(
        f"- **{label}**: {text}" for label, text in results.table.readings.items()
    )


def _grid(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)


def _number(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:.3f}"


def spelled_interval(found: Interval, sign: str = "") -> str:
    """`0.512 ± 0.031`, the mean alone where there is no interval, nothing where there is no value."""
    if not found.n:
        return ""
    mean = f"{found.mean:{sign}.1f}" if abs(found.mean) >= 100 else f"{found.mean:{sign}.3f}"
    return mean if math.isnan(found.half) else f"{mean} ± {_number(found.half)}"


def _directed(found: Interval, better: str) -> str:
    text = spelled_interval(found, "+")
    if not found.direction:
        return text
    direction = "higher" if found.direction > 0 else "lower"
    side = "" if not better else ", better" if direction == better else ", worse"
    return f"{text} **{direction}{side}**"


def latex(results: Results) -> str:
    """The values as a LaTeX tabular (booktabs), intervals behind the means."""
    heads = [_escaped(column(name).title) + _ARROWS_TEX[column(name).better] for name in results.measures]
    lines = [
        f"% {results.table.name}: mean and 95 % t interval over {results.seeds} seeds, "
        f"{results.about['data']}, {results.about['protocol']}",
        rf"\begin{{tabular}}{{l{'r' * len(heads)}}}",
        r"\toprule",
        " & ".join(["", *heads]) + r" \\",
        r"\midrule",
    ]
    for label in results.cells:
        found = [spelled_interval(results.interval(label, name)).replace("±", r"\pm") for name in results.measures]
        lines.append(" & ".join([_escaped(label), *(f"${one}$" if one else "--" for one in found)]) + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


_ARROWS_TEX = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "": ""}


def _escaped(text: str) -> str:
    return "".join(f"\\{one}" if one in "&%$#_{}" else one for one in text)


def cells(results: Results) -> list[dict[str, Any]]:
    """One line a cell: row, seed and everything that was measured."""
    return [
        {
            "row": label,
            "seed": seed,
            "recipe": recipe_hash(results.recipes[label]),
            **{name: cell.get(name, "") for name in results.everything},
        }
        for label, row in results.cells.items()
        for seed, cell in sorted(row.items())
    ]


def summary(results: Results) -> list[dict[str, Any]]:
    """One line a row and measure: mean, interval, difference, direction, the paper's, agreement."""
    lines = []
    for label in results.cells:
        for name in results.everything:
            own, found = results.interval(label, name), results.difference(label, name)
            line: dict[str, Any] = {"row": label, "measure": name, "mean": own.mean, "half": own.half, "n": own.n}
            if found is not None:
                sign, paper = results.paper(label, name)
                line |= {
                    "against": results.table.other(label),
                    "difference": found.mean,
                    "difference_half": found.half,
                    "direction": {1: "higher", -1: "lower", 0: ""}[found.direction],
                    "paper": {1: "higher", -1: "lower", 0: ""}[sign],
                    "paper_difference": "" if paper is None else paper,
                    "agreement": results.verdict(label, name) or "",
                }
            lines.append(line)
    return lines


def training(results: Results) -> list[dict[str, Any]]:
    """One line a cell and validation: what was measured on held-out clips while training."""
    return [
        {"row": label, "seed": seed, **point}
        for label, row in results.curves.items()
        for seed, curve in sorted(row.items())
        for point in curve
    ]
