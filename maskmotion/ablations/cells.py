"""Which cells a table has, what they share, and where in a run's folder each of them is."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskmotion.ablations.jobs import Job
from maskmotion.ablations.processes import Task
from maskmotion.ablations.table import slug, tokenizer_recipe
from maskmotion.config import Recipe, Spec
from maskmotion.evaluation.provenance import recipe_hash
from maskmotion.training.checkpoint import RunError


@dataclass(frozen=True)
class Plan:
    """Everything a run has to do. tokenizers: key -> task; cells: label -> seed -> task; apart: in processes of their own."""

    prepare: Task
    tokenizers: Mapping[str, Task]
    cells: Mapping[str, Mapping[int, Task]]
    recipes: Mapping[str, Recipe]

    @property
    def tasks(self) -> list[Task]:
        """All of them in the order they are done: a seed of every row before the next seed."""
        seeds = {seed for row in self.cells.values() for seed in row}
        cells = [row[seed] for seed in sorted(seeds) for row in self.cells.values() if seed in row]
        return [*self.tokenizers.values(), *cells]

    def tokenizer_of(self, label: str) -> Task:
        """The tokenizers that a row's first seed uses."""
        found = self.cells[label][min(self.cells[label])].job.tokenizers
        return next(task for task in self.tokenizers.values() if task.job.folder == found)


@dataclass(frozen=True)
class Setting:
    """What all cells of a run share. own_tokenizers: every seed trains its own; else they are of seed 0 for all.

    body_model: the user's SMPL-X file, for measures and losses of vertices.
    """

    folder: Path
    data: str
    seeds: int
    device: str = "cpu"
    own_tokenizers: bool = False
    body_model: Path | None = None

    def plan(self, recipes: Mapping[str, Recipe], apart: bool, split: Any = None) -> Plan:
        """The jobs of these rows. RunError for components that a process of its own could not find."""
        imports = own_modules(list(recipes.values()), apart)
        common: dict[str, Any] = {"data": self.data, "device": self.device, "imports": imports, "split": split}
        common["body_model"] = self.body_model
        prepare = Job(kind="prepare", folder=self.folder / "prepare", recipes=dict(recipes), **common)
        tokenizers: dict[str, Task] = {}
        cells: dict[str, dict[int, Task]] = {}
        for label, recipe in recipes.items():
            for seed in range(self.seeds):
                needed = self._tokenizers(recipe, seed if self.own_tokenizers else 0, common)
                shared = tokenizers.setdefault(needed.folder.name, Task(f"tokenizers {needed.folder.name}", needed)).job
                key = hashlib.sha256(f"{recipe_hash(recipe)} {self.own_tokenizers}".encode()).hexdigest()[:8]
                job = Job(
                    kind="cell",
                    folder=self.folder / "cells" / f"{slug(label)}-{key}" / f"seed-{seed}",
                    recipes={label: recipe.but({"seed": seed})},
                    tokenizers=shared.folder,
                    **common,
                )
                cells.setdefault(label, {})[seed] = Task(f"{label}, seed {seed}", job, (shared,))
        return Plan(Task("preparing", prepare), tokenizers, cells, recipes)

    def _tokenizers(self, recipe: Recipe, seed: int, common: Mapping[str, Any]) -> Job:
        plan = tokenizer_recipe(recipe).but({"seed": seed})
        name = recipe_hash(plan) + (f"-seed-{seed}" if self.own_tokenizers else "")
        return Job(kind="tokenizers", folder=self.folder / "tokenizers" / name, recipes={"tokenizers": plan}, **common)


def own_modules(recipes: Sequence[Recipe], apart: bool) -> tuple[str, ...]:
    """Modules of components that are neither the library's nor an installed plug-in's.

    RunError when other processes are to find them (`apart`) and cannot: classes of a notebook or of the script itself.
    """
    from maskmotion.plugins import manager

    installed = {getattr(plugin, "__name__", "").split(".")[0] for plugin in manager.get_plugins()} | {"maskmotion"}
    found = {name: module for recipe in recipes for name, module in _modules(recipe)}
    own = {name: module for name, module in found.items() if module.split(".")[0] not in installed}
    lost = {
        name: module
        for name, module in own.items()
        if module == "__main__" or getattr(sys.modules.get(module), "__spec__", None) is None
    }
    if lost and apart:
        told = ", ".join(f"{name!r} of {module}" for name, module in lost.items())
        raise RunError(
            f"cells run in processes of their own, which do not know {told}: put the class in a module that can be "
            "imported, or do all in this process with jobs=0"
        )
    return tuple(sorted(set(own.values()) - set(lost.values())))


def _modules(recipe: Recipe) -> list[tuple[str, str]]:
    """(name, module) of every component that a recipe names."""
    from maskmotion.registry import lookup

    found: list[tuple[str, str]] = []

    def visit(value: Any) -> None:
        if isinstance(value, Spec):
            found.append((value.name, lookup(value._kind, value.name).__module__))
            visit(value.arguments)
        elif isinstance(value, Mapping):
            for item in value.values():
                visit(item)

    visit({name: getattr(recipe, name) for name in Recipe.model_fields})
    visit({"quantizer": recipe.tokenizer.quantizer, "network": recipe.tokenizer.network})
    return found
