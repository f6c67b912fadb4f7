"""Tokenizers: part tokenizers and root network with the plan they were built from. Build, save, load, without a generator."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from torch import nn

from maskmotion.config import STRICT, Body, Recipe, RecipeError, Root, Tokenizer, build
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.tokenizers.body_losses import BODY_TERMS
from maskmotion.tokenizers.losses import TERMS
from maskmotion.tokenizers.part import PartTokenizer
from maskmotion.tokenizers.root import RootPredictor

PLAN, WEIGHTS = "tokenizers.json", "model.safetensors"


class TokenizerPlan(BaseModel):
    """What a set of tokenizers is built from: the sections `body`, `tokenizer` and `root` of a recipe, and its origin.

    origin: where converted weights come from (files, sha256, licence); empty for our own.
    """

    model_config = STRICT
    body: Body
    tokenizer: Tokenizer
    root: Root | None = None
    origin: dict[str, Any] = {}

    def changes(self) -> dict[str, Any]:
        """What makes a recipe use these tokenizers: `recipe.but(plan.changes())`.

        Whether a root network is fed translations is the recipe's affair (`Root.translation`) and goes back to its default.
        """
        root = None if self.root is None else self.root.model_copy(update={"translation": False})
        sections = {"body": self.body, "tokenizer": self.tokenizer, "root": root}
        return {name: section.model_dump() for name, section in sections.items() if section is not None}


class Tokenizers(nn.Module):
    """A BodyTokenizer and its root network (None where there is none), saved as a folder of their own."""

    def __init__(self, plan: TokenizerPlan, body: BodyTokenizer, root: RootPredictor | None) -> None:
        super().__init__()
        self.plan, self.body, self.root = plan, body, root

    @classmethod
    def build(cls, plan: TokenizerPlan) -> Tokenizers:
        """Untrained tokenizers of a plan. RecipeError when its parts disagree."""
        body, root = build_tokenizers(plan.body, plan.tokenizer, plan.root or Root())
        return cls(plan, body, None if plan.root is None else root)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write tokenizers.json and model.safetensors. Atomic per file."""
        from maskmotion.training.checkpoint import write_tensors, write_text

        folder = Path(folder)
        write_text(folder / PLAN, self.plan.model_dump_json(indent=2))
        write_tensors(folder / WEIGHTS, self.state_dict())
        return folder

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> Tokenizers:
        """Load a folder of tokenizers, or those of a saved model or run (recipe.json).

        Raises FileNotFoundError for a folder that is neither, RecipeError for a plan that cannot be built.
        """
        from maskmotion.training.checkpoint import read_tensors

        folder = Path(folder)
        if not (folder / WEIGHTS).is_file() or not ((folder / PLAN).is_file() or (folder / "recipe.json").is_file()):
            raise FileNotFoundError(
                f"{folder} holds no tokenizers: it needs {WEIGHTS} and {PLAN} (`maskmotion convert` writes them) "
                "or the recipe.json of a run"
            )
        tensors = read_tensors(folder / WEIGHTS)[0]
        if (folder / PLAN).is_file():
            plan = TokenizerPlan.model_validate(json.loads((folder / PLAN).read_text()))
        else:
            recipe = Recipe.model_validate_json((folder / "recipe.json").read_text())
            plan = TokenizerPlan(body=recipe.body, tokenizer=recipe.tokenizer, root=recipe.root)
            tensors = {name.removeprefix("generator."): value for name, value in tensors.items()}
            tensors = {name: value for name, value in tensors.items() if name.startswith(("body.", "root."))}
        found = cls.build(plan)
        found.load_state_dict(tensors)
        return found.eval()


def build_tokenizers(body: Body, plan: Tokenizer, root: Root) -> tuple[BodyTokenizer, RootPredictor]:
    """Untrained tokenizers and root network of these sections of a recipe. RecipeError when they disagree."""
    layout = body.layout()
    if unknown := set(plan.by_part) - set(layout.parts):
        raise RecipeError(f"tokenizer.by_part: no part named {', '.join(unknown)}; parts: {', '.join(layout.parts)}")
    try:
        tokenizers = {part: _build_part(plan.for_part(part), layout.columns[part]) for part in layout.parts}
        whole = BodyTokenizer(tokenizers, layout, _pick(plan.losses, BODY_TERMS), plan.normalise)
    except ValueError as error:
        raise RecipeError(f"tokenizer: {error}") from error
    if body.window % whole.downsample:
        raise RecipeError(
            f"body.window: must be a multiple of the tokenizers' {whole.downsample} frames a token, got {body.window}"
        )
    return whole, RootPredictor(**root.model_dump())


def _build_part(plan: Tokenizer, columns: tuple[int, ...]) -> PartTokenizer:
    network = build(plan.network, dim=len(columns), width=plan.width)
    quantizer = build(plan.quantizer, dim=plan.width)
    return PartTokenizer(columns, network, quantizer, _pick(plan.losses, TERMS), plan.difference)


def _pick(losses: Mapping[str, float], terms: Mapping[str, Any]) -> dict[str, float]:
    return {name: weight for name, weight in losses.items() if name in terms}
