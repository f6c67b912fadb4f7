"""Table: an ablation as data. A base recipe, rows as dotted-path changes to it, and what the paper found."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError, model_validator

from maskmotion.config import STRICT, Recipe, RecipeError
from maskmotion.paths import plain, problems

FROM = "from"  # {"from": "conditioners.speech.speech"} as a value: whatever the base recipe has at that path


class Table(BaseModel):
    """Rows that differ from one recipe, each trained with several seeds and measured on the same clips.

    base: name of a preset, or a whole recipe. changes: for every row, the base of all rows.
    rows: label -> dotted path -> value, as `maskmotion train` takes them; a value {"from": PATH} is what the base has there.
    baseline: label of the row that the others are compared with; against: label -> another row for single ones.
    paper: label -> measure -> the paper's number. expected: label -> measure -> "higher" or "lower" than the row it is
    compared with, where the paper says so without a number.
    readings: label -> how the row was read. caveats: what this table cannot tell, beside what is told of every table.
    measures: the columns that are shown; none: the usual ones. What is measured besides is in the csv files.
    """

    model_config = STRICT
    name: str
    about: str = ""
    base: str | Recipe
    changes: dict[str, Any] = {}
    rows: dict[str, dict[str, Any]]
    baseline: str | None = None
    against: dict[str, str] = {}
    paper: dict[str, dict[str, float]] = {}
    expected: dict[str, dict[str, Literal["higher", "lower"]]] = {}
    readings: dict[str, str] = {}
    caveats: tuple[str, ...] = ()
    measures: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _check(self) -> Table:
        if len(self.rows) < 2:
            raise ValueError(f"a table compares rows and needs two at least, got {len(self.rows)}")
        spelled = [slug(label) for label in self.rows]
        if double := {one for one in spelled if spelled.count(one) > 1 or not one}:
            raise ValueError(
                f"labels of rows must differ in letters and digits, got {', '.join(sorted(double))!r} twice"
            )
        first = set() if self.baseline is None else {self.baseline}
        named = {"baseline": first, "against": {*self.against, *self.against.values()}}
        named |= {field: set(getattr(self, field)) for field in ("paper", "expected", "readings")}
        for field, labels in named.items():
            if unknown := labels - set(self.rows):
                raise ValueError(f"{field}: no row {', '.join(map(repr, unknown))}; rows: {', '.join(self.rows)}")
        return self

    def resolve(self, scale: str | None = None, changes: Mapping[str, Any] | None = None) -> dict[str, Recipe]:
        """Label -> recipe, with seed 0.

        Args:
            scale: of the base preset; None: "tiny" where the preset has scales.
            changes: further ones for the base of all rows.

        Raises RecipeError with the row and the path of everything that is wrong.
        """
        base = self._base(scale).but(self.changes).but(dict(changes or {}))
        recipes = {}
        for label, row in self.rows.items():
            if any(path.split(".")[0] == "seed" for path in row):
                raise RecipeError(f"row {label!r}: seed is not a row's to change; every row is trained with --seeds")
            try:
                recipes[label] = base.but({path: _taken(base, value) for path, value in row.items()} | {"seed": 0})
            except RecipeError as error:
                raise RecipeError(f"row {label!r}: {error}") from None
        return recipes

    def _base(self, scale: str | None) -> Recipe:
        import inspect

        import maskmotion as mm

        if isinstance(self.base, Recipe):
            if scale is not None:
                raise RecipeError(f"scale {scale!r} is of a preset, and the base of {self.name} is a whole recipe")
            return self.base
        scaled = "scale" in inspect.signature(mm.lookup("preset", self.base)).parameters
        return mm.preset(self.base, "tiny" if scale is None and scaled else scale)

    def other(self, label: str) -> str | None:
        """The row that `label` is compared with; None for the baseline itself and where there is none."""
        found = self.against.get(label, self.baseline)
        return None if found == label else found


def slug(label: str) -> str:
    """A label as part of a file name: letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", label.lower()).strip("-")


def tokenizer_recipe(recipe: Recipe) -> Recipe:
    """The part of a recipe that its tokenizers and root network depend on, as a recipe of its own, with seed 0."""
    from maskmotion.presets import tiny

    sections = {name: getattr(recipe, name) for name in ("body", "tokenizer", "root")}
    training = {f"training.{stage}": recipe.training[stage] for stage in ("tokenizer", "root")}
    return tiny().but({"name": "tokenizers", "seed": 0} | sections | training)


def _taken(base: Recipe, value: Any) -> Any:
    """The value, or what stands in the base at the path that {"from": path} names."""
    if not isinstance(value, Mapping) or set(value) != {FROM}:
        return value
    found: Any = base.model_dump()
    for part in str(value[FROM]).split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise RecipeError(f'{{"from": "{value[FROM]}"}}: the base recipe {base.name} has no such path')
        found = found[part]
    return found


def load_table(table: str | Path | Mapping[str, Any] | Table) -> Table:
    """A table of the library by its name, of a JSON file, or of a dict. RecipeError says what is wrong with it."""
    if isinstance(table, Table):
        return table
    if isinstance(table, Mapping):
        return _validated(dict(table), "the table")
    from maskmotion.ablations.papers import TABLES

    if str(table) in TABLES:
        return TABLES[str(table)]
    path = Path(table)
    if not path.is_file():
        raise RecipeError(
            f"no table {str(table)!r}; tables of the library: {', '.join(TABLES)}; or give the path of a JSON file"
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path} is no JSON file: {error}") from None
    if not isinstance(data, dict):
        raise RecipeError(f'{path}: a table is an object with "base" and "rows", got a {type(data).__name__}')
    return _validated({"name": path.stem} | data, str(path))


def _validated(data: dict[str, Any], where: str) -> Table:
    try:
        return Table.model_validate({"name": "table"} | plain(data))
    except ValidationError as error:
        lines = [f"{where}: {'.'.join(map(str, p)) or 'rows'}: {text}" for p, text in problems(error, _FIELDS)]
        raise RecipeError("\n".join(lines)) from None


_FIELDS = tuple(Table.model_fields)
