"""The verb `maskmotion ablate`: a table of recipes, trained with several seeds, measured and compared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from maskmotion.ablations.results import Results


def ablate(
    table: Annotated[str | None, typer.Argument(help="a table's name (--list shows them), or a JSON file")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Argument(help="recipe changes for all rows, path=value, e.g. training.generator.steps=800"),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="folder; default: runs/TABLE. An interrupted table goes on where it stopped"),
    ] = None,
    data: Annotated[
        str, typer.Option("--data", help="'planted' (made on first use) or the path of a BEAT2 tree")
    ] = "planted",
    seeds: Annotated[int, typer.Option(min=1, help="seeds a row; one has no interval")] = 3,
    scale: Annotated[
        str | None, typer.Option(help="full, small or tiny; default: tiny, where the preset has scales")
    ] = None,
    jobs: Annotated[
        int, typer.Option(min=0, help="cells at a time, one thread each; 0: one by one in this process")
    ] = 2,
    own_tokenizers: Annotated[
        bool, typer.Option("--own-tokenizers", help="every seed trains its own; default: those of seed 0 serve all")
    ] = False,
    device: Annotated[
        str, typer.Option("--device", help="'auto' takes an accelerator where there is one; or 'cpu'")
    ] = "cpu",
    body_model: Annotated[Path | None, typer.Option(help="your SMPL-X npz, for the columns of face vertices")] = None,
    estimate: Annotated[bool, typer.Option("--estimate", help="say what it would cost, and stop")] = False,
    show_list: Annotated[bool, typer.Option("--list", help="the tables of the library")] = False,
) -> None:
    """Train every row of an ablation table with several seeds, and compare them: intervals, directions, the paper's beside.

    Says what it will cost before it starts. Leaves table.md, table.tex, cells.csv, summary.csv, training.csv and pictures in
    the run's folder.

    Examples:

        maskmotion ablate --list

        maskmotion ablate echomask-table2 --data planted --seeds 3 --scale tiny --run runs/table2

        maskmotion ablate my-table.json --estimate
    """
    from maskmotion.cli import parse_changes

    if show_list:
        _list()
        return
    if table is None:
        raise typer.BadParameter("name a table, or ask for --list")
    import maskmotion as mm
    from maskmotion.ablations import runner

    common: dict[str, Any] = {
        "data": data,
        "run": run,
        "seeds": seeds,
        "scale": scale,
        "changes": parse_changes(changes or []),
    }
    common |= {"jobs": jobs, "own_tokenizers": own_tokenizers, "device": device, "body_model": body_model}
    if estimate:
        print(runner.estimate(table, **common))
        return
    results = mm.ablate(table, **common)
    _print(results)
    print(f"{results.folder / 'table.md'}, and beside it table.tex, cells.csv, summary.csv, training.csv, table.png")


def _list() -> None:
    from rich.console import Console
    from rich.table import Table

    from maskmotion.ablations.papers import TABLES

    shown = Table("table", "preset", "rows", "what it compares")
    for name, one in TABLES.items():
        shown.add_row(name, str(one.base), "\n".join(one.rows), one.about)
        shown.add_section()
    Console(width=None if sys.stdout.isatty() else 160).print(shown)


def _print(results: Results) -> None:
    """The values on the terminal; the rest is in the files."""
    from rich.console import Console
    from rich.table import Table

    from maskmotion.ablations.report import spelled_interval
    from maskmotion.ablations.results import column

    shown = Table("row", *(column(name).title for name in results.measures), title=results.table.name)
    for label in results.cells:
        shown.add_row(label, *(spelled_interval(results.interval(label, name)) for name in results.measures))
    Console(width=None if sys.stdout.isatty() else 240).print(shown)
