"""ablate(): a table from its rows to its files, in a run folder that can be interrupted anywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maskmotion.ablations.cells import Plan, Setting
from maskmotion.ablations.estimate import spelled, training_seconds
from maskmotion.ablations.jobs import RESULT, agree
from maskmotion.ablations.processes import Task, Tick, only_one, run_apart, run_here
from maskmotion.ablations.results import Results
from maskmotion.ablations.table import Table, load_table, tokenizer_recipe
from maskmotion.config import Recipe
from maskmotion.evaluation.provenance import recipe_hash
from maskmotion.evaluation.report import bounds
from maskmotion.evaluation.sanity import RECONSTRUCTION
from maskmotion.progress import progress_bar
from maskmotion.training.checkpoint import RunError, write_text

TABLE = "table.json"


def ablate(
    table: str | Path | Mapping[str, Any] | Table,
    data: str | Path = "planted",
    run: str | Path | None = None,
    *,
    seeds: int = 3,
    scale: str | None = None,
    changes: Mapping[str, Any] | None = None,
    jobs: int = 2,
    own_tokenizers: bool = False,
    device: str = "cpu",
    body_model: str | Path | None = None,
    show: bool = True,
) -> Results:
    """Train and measure every row of a table with every seed, and write the comparison into the run's folder.

    What is done already is not done again: an interrupted table goes on, inside its cells too, and ends as an unbroken one
    would have; a table with more seeds or further rows takes over the cells that it shares with the one before.

    Args:
        table: name of a table of the library, path of a JSON file, a dict, or a `Table`.
        data: "planted", or the path of a BEAT2 tree. run: folder; default: runs/ and the table's name.
        seeds: how many, from 0. They vary the generator's initialisation and its batches.
        scale: of the base preset; None: "tiny" where it has scales. changes: dotted paths, for the base of all rows.
        jobs: cells at a time, each in a process of its own with one thread. 0: one after the other in this process, which
            alone knows components that a notebook or script has just registered.
        own_tokenizers: every seed trains its own tokenizers; else those of seed 0 serve all, once for every plan of them.
        device: "cpu", or "auto" for an accelerator where there is one.
        body_model: your SMPL-X file; without it the columns of face vertices are absent.
        show: say what it will cost, and draw progress on a terminal.

    Raises RecipeError for a table that cannot be, RunError for a folder that cannot be used and for a cell that fails.
    """
    options: dict[str, Any] = {
        "seeds": seeds,
        "scale": scale,
        "changes": changes,
        "jobs": jobs,
        "device": device,
        "show": show,
    }
    options |= {"own_tokenizers": own_tokenizers, "body_model": body_model}
    with _prepared(table, data, run, **options) as work:
        if show:
            print(work.told, flush=True)
        tasks = work.plan.tasks
        with _progress(tasks, work.seconds, show) as tick:
            _run(tasks, jobs, tick, work.held)
        results = work.collect()
        results.save()
    return results


def estimate(table: str | Path | Mapping[str, Any] | Table, data: str | Path = "planted", **options: Any) -> str:
    """What `ablate` would cost, from a few timed steps of every row and from the cells that are done; options as there."""
    with _prepared(table, data, **options) as work:
        return work.told


class _Work:
    """A prepared run: the plan, what it rests on, and seconds that each task will take."""

    def __init__(self, table: Table, setting: Setting, plan: Plan, about: dict[str, Any], jobs: int, held: Any) -> None:
        self.table, self.setting, self.plan, self.about, self.held = table, setting, plan, about, held
        self.seconds = {task.name: self._seconds(task) for task in plan.tasks}
        self.told = self._tell(max(1, jobs))

    def _seconds(self, task: Task) -> float:
        own = task.job.result
        alike = [own] if own else []
        if not own and task.job.kind == "cell":
            row = self.plan.cells[next(iter(task.job.recipes))]
            alike = [found for one in row.values() if (found := one.job.result) is not None]
        if alike:
            return sum(found["seconds"]["training"] + found["seconds"]["measuring"] for found in alike) / len(alike)
        recipe = task.job.recipe
        stages = self.about["recipes"][recipe_hash(recipe.but({"seed": 0}))]["seconds"]
        training = sum(training_seconds(recipe.training[stage], seconds) for stage, seconds in stages.items())
        return float(training + self.about["measuring"])

    def _tell(self, at_once: int) -> str:
        rows, seeds = len(self.plan.cells), self.setting.seeds
        open_tasks = [task for task in self.plan.tasks if task.job.result is None]
        left = [self.seconds[task.name] * (1 - task.job.share()) for task in open_tasks]
        cells = sum(task.job.kind == "cell" for task in open_tasks)
        text = f"{rows * seeds} cells ({rows} rows x {seeds} seeds), {rows * seeds - cells} done; "
        text += f"tokenizers: {len(self.plan.tokenizers)}, {len(open_tasks) - cells} to train. "
        if not left:
            return text + "Nothing is left to train."
        wall = max(sum(left) / at_once, max(left))
        return text + f"About {spelled(wall)}, {at_once} at a time; {spelled(sum(left))} of one core."

    def collect(self) -> Results:
        """The results of all cells. RunError where they do not belong into one table."""
        found = {task.name: task.job.result for task in self.plan.tasks}
        missing = [name for name, result in found.items() if result is None]
        if missing:
            raise RunError(f"no result of {', '.join(missing)}; run the same command again")
        done = {name: result for name, result in found.items() if result is not None}
        problems = agree({"preparing": self.about} | done)
        problems += [
            f"{name} heard {', '.join(result['hears'])}"
            for name, result in done.items()
            if "hears" in result and result["hears"] != self.about["recipes"][result["recipe"]]["hears"]
        ]
        if problems:
            raise RunError(
                f"{self.setting.folder} holds results that do not belong into one table; {'; '.join(problems)}. "
                "Give another --run folder, or remove the ones that are out of date"
            )
        cells = {label: {seed: done[one.name] for seed, one in row.items()} for label, row in self.plan.cells.items()}
        measures = {
            label: {s: one["measures"] | {"seconds": one["seconds"]["training"]} for s, one in row.items()}
            for label, row in cells.items()
        }
        sanity, names = self._sanity(done)
        bounding = [
            {"row": label, **cell} for label, row in measures.items() for cell in row.values() if "lift" in cell
        ]
        limits = {str(row.pop("row")): row for row in bounds(bounding[:1] or [{"row": ""}])}
        seen = {json.dumps(result["versions"]): name for name, result in done.items()}
        about = self.about | {"own_tokenizers": self.setting.own_tokenizers}
        about["mixed"] = "; ".join(f"{name}: {told}" for told, name in seen.items()) if len(seen) > 1 else ""
        hashes = {label: recipe_hash(recipe) for label, recipe in self.plan.recipes.items()}
        return Results(
            table=self.table,
            recipes=self.plan.recipes,
            cells=measures,
            curves={label: {seed: one["curve"] for seed, one in row.items()} for label, row in cells.items()},
            sanity=limits | sanity,
            reconstruction=names,
            about=about,
            weights={label: self.about["recipes"][key]["weights"] for label, key in hashes.items()},
            folder=self.setting.folder,
        )

    def _sanity(self, done: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, str]]:
        """Sanity rows, those of other tokenizers by a name of their own; and label -> the row of its tokenizers."""
        used = {label: self.plan.tokenizer_of(label).name for label in self.plan.cells}
        first = {name: next(label for label, one in used.items() if one == name) for name in used.values()}
        names = {one: RECONSTRUCTION + (f" ({label})" if len(first) > 1 else "") for one, label in first.items()}
        rows: dict[str, Any] = dict(done[next(iter(first))]["sanity"])
        rows.pop(RECONSTRUCTION)
        rows |= {row: done[name]["sanity"][RECONSTRUCTION] for name, row in names.items()}
        return rows, {label: names[one] for label, one in used.items()}


@contextmanager
def _prepared(
    table: str | Path | Mapping[str, Any] | Table,
    data: str | Path,
    run: str | Path | None = None,
    *,
    seeds: int = 3,
    scale: str | None = None,
    changes: Mapping[str, Any] | None = None,
    jobs: int = 2,
    own_tokenizers: bool = False,
    device: str = "cpu",
    body_model: str | Path | None = None,
    show: bool = True,
) -> Iterator[_Work]:
    """Check everything, hold the folder, look at the data and time a few steps."""
    if seeds < 1 or jobs < 0:
        raise ValueError(f"seeds is 1 or more and jobs 0 or more, got seeds={seeds} jobs={jobs}")
    found = load_table(table)
    recipes = found.resolve(scale, changes)
    folder = Path(run if run is not None else f"runs/{found.name}")
    mesh = None if body_model is None else Path(body_model)
    setting = Setting(folder, str(data), seeds, device, own_tokenizers, mesh)
    first = setting.plan(recipes, jobs > 0)
    with only_one(folder) as held:
        _open_folder(folder, found, str(data))
        about = _look(first.prepare, recipes, jobs, held, show)
        yield _Work(found, setting, setting.plan(recipes, jobs > 0, about["split"]), about, jobs, held)


def _open_folder(folder: Path, table: Table, data: str) -> None:
    """Note what the folder is for. RunError when it is for something else."""
    path = folder / TABLE
    if path.is_file():
        old = json.loads(path.read_text(encoding="utf-8"))
        if (old["table"]["name"], old["data"]) != (table.name, data):
            raise RunError(f"{folder} holds {old['table']['name']} on {old['data']}; give another --run folder")
    elif any(one.name != ".lock" for one in folder.iterdir()):
        raise RunError(f"{folder} is not empty and holds no table; give another --run folder, or empty this one")
    write_text(path, json.dumps({"data": data, "table": table.model_dump(mode="json")}, indent=1))


def _look(task: Task, recipes: Mapping[str, Recipe], jobs: int, held: int | None, show: bool) -> dict[str, Any]:
    """What the prepare job found; done again where it has not timed all of these recipes."""
    needed = {recipe_hash(one) for recipe in recipes.values() for one in (recipe, tokenizer_recipe(recipe))}
    found = task.job.result
    if found is None or not needed <= set(found["recipes"]):
        (task.job.folder / RESULT).unlink(missing_ok=True)
        with progress_bar("data, features, a few steps of every row", 1, show) as advance:
            _run([task], jobs, lambda running: advance(0, ""), held)
            advance(1, "")
        found = task.job.result
    assert found is not None
    return found


def _run(tasks: Sequence[Task], jobs: int, tick: Tick, held: int | None) -> None:
    if jobs:
        run_apart(tasks, jobs, tick, held)
    else:
        run_here(tasks, tick)


@contextmanager
def _progress(tasks: Sequence[Task], seconds: Mapping[str, float], show: bool) -> Iterator[Tick]:
    """Time left, in seconds of work by the estimate: cells differ in what they cost."""
    shares = {task.name: task.job.share() for task in tasks}
    before: dict[str, Task] = {}
    with progress_bar("seconds of work", round(sum(seconds.values())), show) as advance:

        def tick(running: Sequence[Task]) -> None:
            nonlocal before
            now = {task.name: task for task in running}
            shares.update({name: task.job.share() for name, task in (before | now).items()})
            before = now
            advance(round(sum(seconds[name] * share for name, share in shares.items())), " | ".join(now))

        yield tick
