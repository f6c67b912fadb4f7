"""The demonstration: four masking strategies on the planted corpus, from nothing to motion, pictures and a table."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from maskmotion.config import Recipe, Spec
from maskmotion.data.beat2 import load_clip, recordings
from maskmotion.data.corpus import Corpus, open_corpus
from maskmotion.data.windows import split_time
from maskmotion.evaluation.bench import Bench
from maskmotion.evaluation.report import bounds, print_table, write_csv
from maskmotion.model import Model
from maskmotion.progress import progress_bar
from maskmotion.registry import lookup
from maskmotion.rng import seed
from maskmotion.schedules import Linear
from maskmotion.training.checkpoint import RunError
from maskmotion.training.runs import read_log
from maskmotion.training.stages import train

_CURRICULUM: dict[str, Any] = {"ratio": 0.5, "hard": Linear(0.0, 0.3), "soft": Linear(0.3, 0.0)}  # EchoMask's best
STRATEGIES: dict[str, dict[str, Any]] = {
    "random": {"masker": Spec("random", ratio=0.5)},
    "loss_based": {"masker": Spec("loss_based", **_CURRICULUM)},
    "speech_queried": {"masker": Spec("speech_queried", **_CURRICULUM)},
    "speech_queried + L_sem": {"masker": Spec("speech_queried", **_CURRICULUM), "generator.semantic": 1.0},
}
SECONDS_SHOWN = 12
CAUTION = """\
This is a demonstration on one seed, not a result: differences of a few hundredths are chance. L_sem trains on the labels
that mask lift is scored by, so its row says what labels give, not what speech finds by itself."""


def demo(run: Path, data: str = "planted", changes: Mapping[str, Any] | None = None) -> None:
    """Corpus, tokenizers, a generator for each strategy (two at a time, one thread each), a clip, pictures, the table.

    Leaves clip.npz, clip.mp4, masks.png, results.csv in `run`, beside the runs themselves. What is there already is not
    done again.
    """
    started = time.perf_counter()
    say = _Speaker(started)
    recipe = lookup("preset", "tiny")().but(dict(changes or {}))
    say(f"corpus {data}")
    root, corpus = _corpus(data, recipe)
    say("tokenizers: face, upper, hands, lower; root translation")
    train(recipe, corpus, run / "tokenizer", only=["tokenizer", "root"], show=True)
    recipes = {name: recipe.but(change) for name, change in STRATEGIES.items()}
    say(f"generators: {', '.join(recipes)}")
    _train_all(recipes, data, run, say)
    models = {name: Model.from_pretrained(run / _folder(name)) for name in recipes}
    say("measures on held-out clips")
    bench = Bench(corpus)
    rows = _measure(bench, models, run)
    say("a clip for unseen speech, its video and the masks")
    _show(root, models, run, recordings(root, "test")[0].id)
    write_csv(run / "results.csv", rows)
    print_table(rows, bench)
    print(CAUTION)
    say(f"done: {run / 'clip.npz'}, clip.mp4, masks.png, results.csv")


class _Speaker:
    """Says what begins, with the seconds since the start."""

    def __init__(self, started: float) -> None:
        self.started = started

    def __call__(self, what: str) -> None:
        print(f"[{time.perf_counter() - self.started:5.0f} s] {what}", flush=True)


def _corpus(data: str, recipe: Recipe) -> tuple[Path, Corpus]:
    from maskmotion.data.planted import planted_root

    return planted_root(name="planted-v1" if data == "planted" else data), open_corpus(data, recipe.body.window)


def _folder(name: str) -> str:
    return name.replace(" + ", "-").replace(" ", "-").lower()


def _train_all(recipes: Mapping[str, Recipe], data: str, run: Path, say: _Speaker) -> None:
    """Each strategy in a process of its own with one thread, two at a time; progress is read from their logs."""
    waiting = list(recipes)
    running: dict[str, tuple[subprocess.Popen[bytes], float]] = {}
    total = sum(one.training["generator"].steps for one in recipes.values())
    base = lookup("preset", "tiny")()
    with progress_bar("generators", total) as advance:
        while waiting or running:
            while waiting and len(running) < min(2, os.cpu_count() or 1):
                name = waiting.pop(0)
                running[name] = (_start(name, base.diff(recipes[name]), data, run), time.perf_counter())
            time.sleep(0.5)
            for name, (process, begun) in list(running.items()):
                if process.poll() is None:
                    continue
                del running[name]
                if process.returncode != 0:
                    for other, _ in running.values():
                        other.terminate()
                    told = (run / f"{_folder(name)}.log").read_text()[-2000:]
                    raise RunError(f"training {name} failed:\n{told}")
                say(f"  {name} trained in {time.perf_counter() - begun:.0f} s")
            advance(sum(_steps_done(run / _folder(name)) for name in recipes), ", ".join(running))


def _start(name: str, changes: Mapping[str, Any], data: str, run: Path) -> subprocess.Popen[bytes]:
    spelled = [f"{path}={json.dumps(value)}" for path, value in changes.items()]
    folder = run / _folder(name)
    options = ["--data", data, "--tokenizer", str(run / "tokenizer"), "--run", str(folder), "--threads", "1", "--quiet"]
    command = [sys.executable, "-m", "maskmotion", "train", "tiny", *spelled, *options]
    with (run / f"{folder.name}.log").open("wb") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"OMP_NUM_THREADS": "1"}
        )


def _steps_done(folder: Path) -> int:
    log = folder / "log.jsonl"
    return max((row["step"] for row in read_log(log) if row["stage"] == "generator"), default=0) if log.exists() else 0


def _measure(bench: Bench, models: Mapping[str, Model], run: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with progress_bar("measures", len(models) + 1) as advance:
        for number, (name, model) in enumerate(models.items()):
            log = read_log(run / _folder(name) / "log.jsonl")
            seconds = next(row["seconds"] for row in reversed(log) if row["stage"] == "generator")
            labels = "yes" if model.recipe.generator.arguments.get("semantic") else "no"
            rows.append({"row": name, "labels": labels, **bench.model_measures(model), "seconds": seconds})
            advance(number + 1, name)
        some = next(iter(models.values()))
        rows += bounds(rows) + [{"row": name, **values} for name, values in bench.sanity_rows(some).items()]
    return rows


def _show(root: Path, models: Mapping[str, Model], run: Path, name: str) -> None:
    from maskmotion.views.clips import excerpt, spoken
    from maskmotion.views.masks import plot_masks
    from maskmotion.views.strategies import masking_rows
    from maskmotion.views.video import render_video

    truth = load_clip(root, name)
    *_, model = models.values()
    made = model.generate(root / "wave16k" / f"{name}.wav", speaker=truth.speaker, rng=seed(0))
    made.save(run / "clip.npz")
    short, _ = split_time(made, SECONDS_SHOWN) if made.frames > SECONDS_SHOWN * made.fps else (made, None)
    render_video(
        run / "clip.mp4", replace(short, name="generated"), other=replace(truth, name="ground truth"), progress=True
    )
    shown = excerpt(truth, SECONDS_SHOWN)
    rows = masking_rows(models, shown, ["own"])
    plot_masks(run / "masks.png", rows=rows, title=f"{shown.name}: what each strategy hides", **spoken(shown))
