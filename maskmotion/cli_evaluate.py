"""The verb `maskmotion evaluate`: models, motion files of anyone's model, and tables of earlier calls."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from maskmotion.evaluation.report import Table


def evaluate(
    sources: Annotated[
        list[str], typer.Argument(help="runs, saved models or hub ids; or folders of motion files; or tables (.json)")
    ],
    data: Annotated[str, typer.Option("--data", help="'planted' or the path of a BEAT2 tree")] = "planted",
    split: Annotated[Literal["test", "validation", "train"], typer.Option(help="which clips to measure on")] = "test",
    protocol: Annotated[
        Literal["maskmotion-v1", "emage-v1", "evaltools-v1"], typer.Option(help="which measures, and how")
    ] = "maskmotion-v1",
    extractor: Annotated[
        Path | None, typer.Option(help="folder of FGD's extractor, from `maskmotion convert`; default: one is trained")
    ] = None,
    body_model: Annotated[
        Path | None, typer.Option(help="your SMPL-X npz, for face vertices and SMPL-X joints")
    ] = None,
    mean_speed: Annotated[
        Path | None, typer.Option(help="npy of mean joint speeds; default: weights/ of the tree, if it is there")
    ] = None,
    trained_by: Annotated[
        Path | None, typer.Option(help="run whose training clips motion files must not be of")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="measure also on clips that were learned from")] = False,
    out: Annotated[
        Path | None, typer.Option(help="csv to write, with a json beside it; default: in the source")
    ] = None,
    device: Annotated[Literal["cpu", "cuda", "mps"], typer.Option(help="where to generate")] = "cpu",
) -> None:
    """Measure held-out motion under a named protocol, with the rows that say what the numbers mean.

    A folder of motion files holds ID.npz (or ID_output.npz) in BEAT2's format for recordings of the split. Clips that a
    run has learned from are refused. Tables of earlier calls are put into one, if they belong in one.

    Examples:

        maskmotion evaluate runs/random runs/queried

        maskmotion evaluate outputs/ --data PATH/TO/beat_english_v2.0.0 --protocol evaltools-v1 --extractor aeskconv

        maskmotion evaluate runs/random/evaluation-test.json outputs/evaluation-test.json
    """
    from maskmotion.evaluation.files import holds_files
    from maskmotion.evaluation.report import Table

    if all(source.endswith(".json") for source in sources):
        table, *others = (Table.read(source) for source in sources)
        for other in others:
            table = table.joined(other)
        table.show()
        if out is not None:
            print(*table.save(out), sep="\n")
        return
    options: dict[str, Any] = {
        "protocol": protocol,
        "extractor": extractor,
        "body_model": body_model,
        "mean_speed": mean_speed,
    }
    kinds = {holds_files(source) for source in sources}
    if kinds == {True}:
        table = _files([Path(source) for source in sources], data, split, trained_by, force, options)
    elif kinds == {False}:
        table = _models(sources, data, split, force, device, options)
    else:
        raise ValueError(
            "give either models or folders of motion files; then join their tables, `maskmotion evaluate *.json`"
        )
    table.show()
    suffix = "" if protocol == "maskmotion-v1" else f"-{protocol}"
    place = Path(sources[0]) if Path(sources[0]).is_dir() else Path()  # a hub id is no folder
    print(*table.save(out or place / f"evaluation-{split}{suffix}.csv"), sep="\n")


def _models(sources: list[str], data: str, split: str, force: bool, device: str, options: dict[str, Any]) -> Table:
    """A table of models, each of which generates for the speech of every clip."""
    from maskmotion.data.corpus import open_corpus
    from maskmotion.evaluation.bench import Bench
    from maskmotion.evaluation.leakage import guard
    from maskmotion.evaluation.provenance import recipe_hash
    from maskmotion.evaluation.report import Table, bounds
    from maskmotion.model import Model

    models = {source: Model.from_pretrained(source, device=device) for source in sources}
    corpus = open_corpus(data, next(iter(models.values())).recipe.body.window)
    bench = Bench(corpus, split, **options)
    notes = [note for source in sources for note in guard([clip.name for clip in bench.clips], source, force)]
    for model in models.values():
        corpus.require(model.recipe.body.layout())
    names = _row_names(models)
    rows = [{"row": names[source], **bench.model_measures(model)} for source, model in models.items()]
    some = next(iter(models.values()))
    rows += bounds(rows) + [{"row": name, **values} for name, values in bench.sanity_rows(some).items()]
    recipes = {names[source]: recipe_hash(model.recipe) for source, model in models.items()}
    return Table.of(bench, rows, recipes=recipes, notes=notes)


def _row_names(models: dict[str, Any]) -> dict[str, str]:
    """The recipe's name, or the source where recipes share one."""
    named = [model.recipe.name for model in models.values()]
    return {
        source: model.recipe.name if named.count(model.recipe.name) == 1 else source for source, model in models.items()
    }


def _files(
    folders: list[Path], data: str, split: str, trained_by: Path | None, force: bool, options: dict[str, Any]
) -> Table:
    """A table of folders of motion files, all of which hold the same recordings."""
    from maskmotion.evaluation.bench import Bench
    from maskmotion.evaluation.files import corpus_of_files, file_of, read_files
    from maskmotion.evaluation.leakage import guard
    from maskmotion.evaluation.report import Table

    if split == "train" and not force:
        raise ValueError(
            "the split 'train' is what models learn from, and numbers on it say nothing about speech they have not heard; "
            "say --force to have them all the same"
        )
    corpus, notes = corpus_of_files(data, split, folders[0])
    bench = Bench(corpus, split, **options)
    notes += ["LEAKED: measured on the training split"] if split == "train" else []
    if trained_by is not None:
        notes += guard([clip.name for clip in bench.clips], trained_by, force)
    rows: list[dict[str, Any]] = []
    for folder in folders:
        if missing := [clip.name for clip in bench.clips if file_of(folder, clip.name) is None]:
            raise ValueError(f"{folder} has no file for {', '.join(missing[:6])}, which {folders[0]} has")
        motions, told = read_files(folder, bench.clips)
        notes += told
        rows.append({"row": folder.name, **bench.motion_measures(motions)})
    rows += [{"row": name, **values} for name, values in bench.sanity_rows().items()]
    return Table.of(bench, rows, notes=notes)
