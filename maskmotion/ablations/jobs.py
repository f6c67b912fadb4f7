"""Jobs: what an ablation does in a process of its own. Prepare the data, train tokenizers, train and measure a cell.

A job is a JSON file; its result is a JSON file beside it that is written once all is done. A job that was stopped is
started again: its training goes on at the last checkpoint.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from maskmotion.ablations.estimate import stage_seconds, windows_of
from maskmotion.ablations.table import tokenizer_recipe
from maskmotion.config import STRICT, Recipe
from maskmotion.data.corpus import Corpus, open_corpus
from maskmotion.evaluation.bench import Bench
from maskmotion.evaluation.provenance import recipe_hash
from maskmotion.evaluation.report import SHARED, about
from maskmotion.evaluation.shuffled import shuffled_aurocs
from maskmotion.model import Model
from maskmotion.training.checkpoint import write_text
from maskmotion.training.runs import LOG, read_log
from maskmotion.training.stages import train

RESULT, RUN = "result.json", "run"


class Job(BaseModel):
    """One piece of work in a folder of its own.

    kind: "prepare" opens the data, caches features and extractor and times a few steps of every recipe; "tokenizers" trains
    tokenizers and root network and measures what they lose; "cell" trains a generator and measures it.
    recipes: label -> recipe; one of them but for "prepare". data: "planted" or a path. split: the clips to measure on, None
    for "prepare", which finds out. tokenizers: folder of the job whose tokenizers a cell takes over.
    body_model: the user's SMPL-X file. imports: modules of the user's own components, imported first.
    """

    model_config = STRICT
    kind: Literal["prepare", "tokenizers", "cell"]
    folder: Path
    recipes: dict[str, Recipe]
    data: str
    split: Literal["test", "validation"] | None = None
    tokenizers: Path | None = None
    device: str = "cpu"
    body_model: Path | None = None
    imports: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """The only recipe, or the first."""
        return next(iter(self.recipes.values()))

    @property
    def result(self) -> dict[str, Any] | None:
        """What the job found; None before it is done."""
        path = self.folder / RESULT
        found: dict[str, Any] | None = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        return found

    def share(self) -> float:
        """How much of the job is done, from 0 to 1, read off its log: its training counts as nine tenths."""
        if (self.folder / RESULT).is_file():
            return 1.0
        log = self.folder / RUN / LOG
        if self.kind == "prepare" or not log.is_file():
            return 0.0
        own = self.kind == "tokenizers"
        stages = [stage for stage in self.recipe.training if (stage in ("tokenizer", "root")) == own]
        last = {row["stage"]: row["step"] for row in read_log(log)}
        total = sum(self.recipe.training[stage].steps for stage in stages)
        return 0.9 * sum(last.get(stage, 0) for stage in stages) / max(1, total)

    def perform(self) -> None:
        """Do it, and write the result."""
        work = {"prepare": _prepare, "tokenizers": _tokenizers, "cell": _cell}
        found = work[self.kind](self)
        write_text(self.folder / RESULT, json.dumps(found, indent=1))


def _prepare(job: Job) -> dict[str, Any]:
    """Provenance of the data, the extractor's name, and seconds of a step and of a validation of every stage."""
    for recipe in job.recipes.values():
        Model.build(recipe)  # what cannot be built, or is not there, is told before anything takes time
    started = time.perf_counter()
    corpus = open_corpus(job.data, job.recipe.body.window)
    bench = Bench(corpus, "test" if len(corpus.test) else "validation", body_model=job.body_model)
    found = {
        **provenance(bench),
        "absent": dict(bench.absent),
        "fps": bench.clips[0].fps,
        "measuring": time.perf_counter() - started,  # about what a cell spends beside its training
    }
    timed: dict[str, Any] = {}
    for recipe in job.recipes.values():
        corpus.require(recipe.body.layout())
        shared = tokenizer_recipe(recipe)
        for one, stages in (
            (shared, ["tokenizer", "root"]),
            (recipe, sorted(set(recipe.training) - {"tokenizer", "root"})),
        ):
            if recipe_hash(one) not in timed:
                timed[recipe_hash(one)] = _timed(one, stages, corpus, bench, job.device)
    return found | {"recipes": timed}


def _timed(recipe: Recipe, stages: Sequence[str], corpus: Corpus, bench: Bench, device: str) -> dict[str, Any]:
    """Weights of a recipe's generator, what it hears, and stage -> seconds; features of all clips are cached on the way."""
    model = Model.build(recipe)
    bench.windows(model)
    windows = windows_of(model, corpus, bench.cache)
    weights = sum(p.numel() for p in model.generator.parameters()) - sum(p.numel() for p in model.body.parameters())
    seconds = {stage: stage_seconds(model, stage, windows, device) for stage in stages}
    return {"weights": weights, "hears": _hears(model), "seconds": seconds}


def _hears(model: Model) -> list[str]:
    """Keys of the audio features; of a pretrained encoder they name its weights."""
    return sorted(one.key for one in model.extractors)


def _tokenizers(job: Job) -> dict[str, Any]:
    """Train tokenizers and root network; measure the rows that say what numbers mean."""
    corpus = open_corpus(job.data, job.recipe.body.window)
    common: dict[str, Any] = {"device": job.device, "body_model": job.body_model}
    train(job.recipe, corpus, job.folder / RUN, only=["tokenizer", "root"], **common)
    begun = time.perf_counter()
    assert job.split is not None
    bench = Bench(corpus, job.split, body_model=job.body_model)
    sanity = bench.sanity_rows(Model.from_pretrained(job.folder / RUN))
    seconds = {"training": _seconds(job.folder / RUN), "measuring": time.perf_counter() - begun}
    return {"sanity": sanity, "seconds": seconds, **provenance(bench)}


def _cell(job: Job) -> dict[str, Any]:
    """Train the generator on the shared tokenizers; measure it on the held-out clips."""
    begun, (label, recipe) = time.perf_counter(), next(iter(job.recipes.items()))
    corpus = open_corpus(job.data, recipe.body.window)
    folder = job.folder / RUN
    assert job.tokenizers is not None and job.split is not None
    opened = time.perf_counter()
    common: dict[str, Any] = {"device": job.device, "body_model": job.body_model}
    model = train(recipe, corpus, folder, tokenizer=job.tokenizers / RUN, **common)
    trained = time.perf_counter()
    bench = Bench(corpus, job.split, body_model=job.body_model)
    measures = bench.model_measures(model)
    measures |= shuffled_aurocs(model.generator, bench.windows(model), seed=recipe.seed)
    log = [row for row in read_log(folder / LOG) if row["stage"] in model.generator.stages]
    spent = {"training": _seconds(folder), "measuring": time.perf_counter() - trained + opened - begun}
    return {
        "row": label,
        "seed": recipe.seed,
        "recipe": recipe_hash(recipe),
        "hears": _hears(model),
        "measures": measures,
        "curve": [{"stage": r["stage"], "step": r["step"], **r["validation"]} for r in log if "validation" in r],
        "seconds": spent,
        **provenance(bench),
    }


def provenance(bench: Bench) -> dict[str, Any]:
    """What the numbers of a bench depend on, with the clips that were learned from."""
    return {**about(bench), "fingerprint": bench.corpus.fingerprint}


def _seconds(run: Path) -> float:
    """Seconds of all training in a run's log; a stage that was resumed starts its clock again."""
    total, last = 0.0, ("", 0.0)
    for row in read_log(run / LOG):
        if row["stage"] != last[0] or row["seconds"] < last[1]:
            total += last[1]
        last = (row["stage"], row["seconds"])
    return total + last[1]


def agree(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What differs between results that ought to share it: `extractor: a (prepare), b (random, seed 1)`."""
    problems = []
    for key in ("data", "fingerprint", "split", *SHARED):
        seen: dict[str, str] = {}
        for name, result in results.items():
            seen.setdefault(json.dumps(result[key]), name)
        if len(seen) > 1:
            problems.append(f"{key}: " + ", ".join(f"{value} ({name})" for value, name in seen.items()))
    return problems
