"""Dotted paths into a recipe: replace, compare, and tell what is wrong with its path, the rule and a way out."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError


class RecipeError(Exception):
    """A recipe that cannot be: every problem on a line of its own, with its path, the rule and a way out."""


class SpecProblem(ValueError):
    """Problems inside one Spec, to be told with the Spec's own path in front."""

    def __init__(self, problems: list[tuple[tuple[Any, ...], str]]) -> None:
        self.problems = problems
        super().__init__("; ".join(message for _, message in problems))


def plain(value: Any) -> Any:
    """Models as dicts, all the way down."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return value


def replace(data: dict[str, Any], path: str, value: Any, whole: str = "a recipe") -> None:
    """Set the value at a dotted path, in place. RecipeError for a path that leads nowhere, with what there is."""
    *parents, last = path.split(".")
    here: Any = data
    for depth, part in enumerate(parents):
        if not isinstance(here, dict) or part not in here or here[part] is None:
            where = ".".join(parents[:depth]) or whole
            fields = ", ".join(here) if isinstance(here, dict) else "nothing"
            raise RecipeError(f"{path}: {where} has no {part!r}{close(part, here)}; it has: {fields}")
        if isinstance(here[part], str) and ".".join(parents[: depth + 1]) != "name":
            here[part] = {"name": here[part]}  # a component that an earlier change gave by its bare name
        here = here[part]
    if not isinstance(here, dict):
        raise RecipeError(f"{path}: {'.'.join(parents)} is a single value, {here!r}; set it as a whole")
    here[last] = value


def diff(old: Any, new: Any, path: str = "") -> dict[str, Any]:
    """Dotted path -> new value, of everything that differs; a component that is another one as a whole."""
    if old == new:
        return {}
    nested = isinstance(old, dict) and isinstance(new, dict) and path
    same_component = nested and old.get("name") == new.get("name") and old.keys() <= new.keys()
    if path and not same_component:
        return {path: new}
    changes: dict[str, Any] = {}
    for key, value in new.items():
        below = f"{path}.{key}" if path else key
        changes.update(diff(old[key], value, below) if key in old else {below: value})
    return changes


def problems(error: ValidationError, fields: tuple[str, ...]) -> list[tuple[tuple[Any, ...], str]]:
    """Where and what is wrong, in words; `fields`: the names that exist where an unknown one stands."""
    found: list[tuple[tuple[Any, ...], str]] = []
    for problem in error.errors():
        location = tuple(part for part in problem["loc"] if not _is_validator(part))
        cause = problem.get("ctx", {}).get("error")
        if isinstance(cause, SpecProblem):
            found += [(location + inner, message) for inner, message in cause.problems]
            continue
        message = problem["msg"]
        if problem["type"] == "extra_forbidden":
            message += f"{close(str(location[-1]), fields)}; known: {', '.join(fields)}" if len(location) == 1 else ""
        elif problem["type"] not in ("missing", "model_type") and not isinstance(problem["input"], Mapping):
            message += f", got {problem['input']!r}"
        found.append((location, message))
    return found


def _is_validator(part: Any) -> bool:
    """Pydantic names the branch of a union or the validator in the location; a user's path has no such step."""
    return (isinstance(part, str) and (part[:1].isupper() or "[" in part or "(" in part)) or part in ("float", "none")


def close(name: str, known: Any) -> str:
    """A hint at the known name that is meant, or nothing."""
    close = difflib.get_close_matches(name, list(known) if isinstance(known, dict | tuple) else [], n=1)
    return f"; did you mean {close[0]!r}?" if close else ""
