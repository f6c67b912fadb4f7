"""Further data sets of a run: which of the recipe's parts they have, their tokenizers, and the folder that keeps them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from maskmotion.config import Recipe, RecipeError
from maskmotion.data.corpus import Corpus
from maskmotion.generators.several import Several
from maskmotion.interfaces import Generator
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.tokenizers.pretrained import TokenizerPlan, Tokenizers
from maskmotion.training.checkpoint import RunError, read_tensors, write_tensors
from maskmotion.training.runs import Run

FOLDER, HEADS = "data", "heads.safetensors"


class Further:
    """One further data set: `stage` trains its tokenizers, `folder` (RUN/data/NAME) keeps them and the generator's heads.

    Raises RecipeError when it has none of the recipe's parts, or no speech and the generator no pass that needs none.
    """

    def __init__(self, recipe: Recipe, corpus: Corpus, generator: Generator, run: Path) -> None:
        self.corpus, self.name = corpus, folder_name(corpus)
        self.stage, self.folder = f"tokenizer/{self.name}", run / FOLDER / self.name
        self.learning = generator.stages
        passes = getattr(generator, "passes", ())
        if not corpus.contents.audio and all(one.speech for one in passes):
            raise RecipeError(
                f"generator: {self.name} has no speech, and {recipe.generator.name} has no pass that hears none; give it "
                'one in generator.passes, e.g. {"name": "motion", "speech": false}, or take the preset emage'
            )
        with torch.random.fork_rng():
            torch.manual_seed(recipe.seed)
            self.tokenizers = Tokenizers.build(plan_for(recipe, corpus))

    @property
    def body(self) -> BodyTokenizer:
        """Its tokenizers."""
        return self.tokenizers.body

    def save(self, heads: nn.Module | None = None) -> None:
        """Write the tokenizers, and the generator's heads once there are any."""
        self.tokenizers.save_pretrained(self.folder)
        if heads is not None:
            write_tensors(self.folder / HEADS, heads.state_dict())

    def load(self, heads: nn.Module, run: Run) -> None:
        """Read back what the stages that are done have saved."""
        if run.done(self.stage):
            self.body.load_state_dict(Tokenizers.from_pretrained(self.folder).body.state_dict())
        if (self.folder / HEADS).is_file() and any(run.done(stage) for stage in self.learning):
            heads.load_state_dict(read_tensors(self.folder / HEADS)[0])


def plan_for(recipe: Recipe, corpus: Corpus) -> TokenizerPlan:
    """The recipe's tokenizers for the parts that a corpus has. RecipeError when it has none."""
    missing = corpus.contents.missing(recipe.body.layout())
    table = {part: names for part, names in recipe.body.table().items() if part not in missing}
    if not table:
        raise RecipeError(
            f"body.parts: {corpus.name} has only {corpus.contents.describe()}, and so no part of this recipe as a whole "
            f"({', '.join(missing)}); take a recipe with body.parts=four"
        )
    changes = {part: change for part, change in recipe.tokenizer.by_part.items() if part in table}
    return TokenizerPlan(
        body=recipe.body.model_copy(update={"parts": table}),
        tokenizer=recipe.tokenizer.model_copy(update={"by_part": changes}),
    )


def add_further(recipe: Recipe, corpora: Sequence[Corpus], generator: Generator, run: Path) -> list[Further]:
    """The data sets after the first, which must have all parts and speech. RunError for two of one name."""
    corpora[0].require(recipe.body.layout())
    names = [folder_name(corpus) for corpus in corpora]
    if twice := {name for name in names if names.count(name) > 1}:
        raise RunError(
            f"two data sets are named {', '.join(sorted(twice))}; give each once, or rename the folder of one of them"
        )
    return [Further(recipe, corpus, generator, run) for corpus in corpora[1:]]


def several(generator: Generator, further: Sequence[Further], run: Run) -> Several | None:
    """The generator with the tokenizers and heads of further data sets, as far as the run has them; None without any."""
    if not further:
        return None
    network = Several(generator, {one.name: one.body for one in further})
    for one, heads in zip(further, network.heads, strict=True):
        one.load(heads, run)
    return network


def folder_name(corpus: Corpus) -> str:
    """A corpus' name as a folder and a prefix of losses."""
    return re.sub(r"[^\w.-]", "-", corpus.name)
