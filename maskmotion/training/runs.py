"""Run folders: what a run has done, its log, and whether it may go on here."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskmotion.config import Recipe
from maskmotion.training.checkpoint import RunError, write_text

RECIPE, STATE, LOG = "recipe.json", "run.json", "log.jsonl"


class Run:
    """A folder with recipe.json, run.json (stages done), log.jsonl, checkpoint-STAGE.safetensors and the saved model.

    Opening one checks that it can be written and that it holds this recipe on this data, or nothing. Raises RunError,
    and changes nothing, when it cannot be used.
    """

    def __init__(self, folder: str | Path, recipe: Recipe, data: str) -> None:
        self.folder = Path(folder)
        self.recipe = recipe
        if self.folder.exists() and not self.folder.is_dir():
            raise RunError(f"{self.folder} is a file; a run needs a folder: give another --run")
        self.state: dict[str, Any] = {"data": data, "done": []}
        if (self.folder / RECIPE).is_file():
            self._check_same(data)
            if (self.folder / STATE).is_file():
                self.state = json.loads((self.folder / STATE).read_text())
        elif self.folder.is_dir() and any(self.folder.iterdir()):
            raise RunError(f"{self.folder} is not empty and holds no run; give another --run folder, or empty this one")
        write_text(self.folder / RECIPE, recipe.model_dump_json(indent=2))
        self._write_state()

    def _check_same(self, data: str) -> None:
        old = Recipe.model_validate_json((self.folder / RECIPE).read_text())
        changes = old.diff(self.recipe)
        if changes:
            told = ", ".join(f"{path}={value!r}" for path, value in changes.items())
            raise RunError(
                f"{self.folder} holds a run of another recipe (differs in {told}); give another --run folder"
            )
        state = json.loads((self.folder / STATE).read_text()) if (self.folder / STATE).is_file() else {}
        if state.get("data", data) != data:
            raise RunError(f"{self.folder} was trained on {state['data']}, not on {data}; give another --run folder")

    def _write_state(self) -> None:
        write_text(self.folder / STATE, json.dumps(self.state, indent=2))

    def done(self, stage: str) -> bool:
        """Whether a stage has finished."""
        return stage in self.state["done"]

    def finish(self, stage: str) -> None:
        """Note that a stage has finished and its weights are saved; its checkpoints are no longer needed."""
        self.state["done"].append(stage)
        self._write_state()
        for prefix in ("", "best-"):
            (self.folder / f"{prefix}{self.checkpoint(stage).name}").unlink(missing_ok=True)

    def note_clips(self, train: Iterable[str], validation: Iterable[str]) -> None:
        """Note, beside those noted before, the clips that the run learns from and those that choose its best step."""
        noted = self.state.get("clips", {"train": [], "validation": []})
        self.state["clips"] = {
            "train": sorted({*noted["train"], *train}),
            "validation": sorted({*noted["validation"], *validation}),
        }
        self._write_state()

    def checkpoint(self, stage: str) -> Path:
        """The file a stage goes on from."""
        return self.folder / f"checkpoint-{stage.replace('/', '-')}.safetensors"


def noted_clips(folder: str | Path) -> dict[str, list[str]] | None:
    """Names of clips that a run has learned from ("train") and chosen by ("validation"); None where it does not say."""
    path = Path(folder) / STATE
    return json.loads(path.read_text()).get("clips") if path.is_file() else None


class Log:
    """log.jsonl: one row an entry; rows that a resumed stage writes again are dropped first."""

    def __init__(self, folder: Path, stage: str, every: int = 10) -> None:
        self.path, self.stage, self.every = folder / LOG, stage, every
        self.started = time.perf_counter()
        self._sums: dict[str, float] = {}
        self._counts: dict[str, int] = {}

    def forget_after(self, step: int) -> None:
        """Drop this stage's rows after `step`, because they are about to come again."""
        if not self.path.exists():
            return
        kept = [row for row in read_log(self.path) if row["stage"] != self.stage or row["step"] <= step]
        write_text(self.path, "".join(json.dumps(row) + "\n" for row in kept))

    def losses(self, step: int, losses: Mapping[str, float]) -> None:
        """Average each named loss over the steps that had it, and write a row every few steps."""
        for name, value in losses.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
            self._counts[name] = self._counts.get(name, 0) + 1
        if step % self.every == 0:
            self._write(step, {name: value / self._counts[name] for name, value in self._sums.items()}, "losses")
            self._sums, self._counts = {}, {}

    def observed(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Write a row of a module's own numbers (perplexity, dead codes) at the same steps as losses."""
        if values and step % self.every == 0:
            numbers = torch.stack([value.float() for value in values.values()]).tolist()
            self._write(step, dict(zip(values, numbers)), "observed")

    def measured(self, step: int, values: Mapping[str, float]) -> None:
        """Write a row of values measured on held-out clips."""
        self._write(step, dict(values), "validation")

    def _write(self, step: int, values: Mapping[str, float], kind: str) -> None:
        seconds = round(time.perf_counter() - self.started, 2)
        row = {"stage": self.stage, "step": step, "seconds": seconds, kind: {k: round(v, 6) for k, v in values.items()}}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a log.jsonl; a last line cut short by a crash is left out."""
    rows = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows
