"""The registry: names for components and presets, and the schema that each constructor's signature implies."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, create_model

from maskmotion.interfaces import Conditioner, Generator, Masker, Quantizer
from maskmotion.tokenizers.autoencoder import Autoencoder

KINDS: dict[str, type] = {
    "autoencoder": Autoencoder,
    "quantizer": Quantizer,
    "masker": Masker,
    "conditioner": Conditioner,
    "generator": Generator,
}

_Thing = TypeVar("_Thing", bound=Callable[..., Any])
_things: dict[str, dict[str, Any]] = {kind: {} for kind in (*KINDS, "preset")}


class RegistryError(LookupError):
    """A name that is unknown, taken, or bound to something that cannot be registered."""


@typing.overload
def register(name: str) -> Callable[[_Thing], _Thing]: ...
@typing.overload
def register(name: str, thing: _Thing) -> _Thing: ...
def register(name: str, thing: Any = None) -> Any:
    """Give a component class or a preset function a name; also a decorator.

    The kind is read from the base class (a Masker is filed under maskers; a function is a preset), so it cannot be
    misfiled. Raises RegistryError for a taken name and TypeError for what is neither.
    """
    from maskmotion.plugins import load_plugins

    if thing is None:
        return lambda decorated: register(name, decorated)
    load_plugins()  # what is there already must be known before a name can be free
    kind = kind_of(thing)
    if kind != "preset":
        constructor_parameters(thing)  # a signature that no recipe can check is refused here, not at its first use
    holder = _things[kind].get(name)
    if holder is not None and holder is not thing and not _same_definition(holder, thing):
        raise RegistryError(f"{kind} {name!r} is already {_path(holder)}; choose another name")
    _things[kind][name] = thing
    return thing


def unregister(kind: str, name: str) -> None:
    """Forget a name (tests and notebooks)."""
    _things[kind].pop(name, None)


def kind_of(thing: Any) -> str:
    """The kind of a component class, instance or preset function. TypeError when it is none."""
    if inspect.isfunction(thing):
        return "preset"
    cls = thing if inspect.isclass(thing) else type(thing)
    for kind, base in KINDS.items():
        if issubclass(cls, base):
            return kind
    raise TypeError(
        f"{cls.__name__} is no Quantizer, Masker, Conditioner, Generator or Autoencoder, and no preset function"
    )


def lookup(kind: str, name: str) -> Any:
    """The component class or preset of that name. RegistryError lists what exists, and plug-ins that failed to load."""
    from maskmotion.plugins import broken, load_plugins

    load_plugins()
    if name in _things[kind]:
        return _things[kind][name]
    known = ", ".join(names(kind)) or "none"
    close = difflib.get_close_matches(name, _things[kind], n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    failures = "".join(f"\n{error}" for error in broken.values())
    raise RegistryError(f"no {kind} named {name!r}; known: {known}{hint}{failures}")


def names(kind: str) -> list[str]:
    """Registered names of a kind, sorted."""
    from maskmotion.plugins import load_plugins

    load_plugins()
    return sorted(_things[kind])


def constructor_parameters(cls: type) -> dict[str, inspect.Parameter]:
    """The parameters a recipe may set: all of the constructor's but those the library gives (`cls.given`)."""
    parameters = dict(inspect.signature(cls).parameters)
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise TypeError(
                f"{cls.__name__}.__init__ takes {parameter}: spell its parameters out, so that a recipe can check them"
            )
        if name == "name":
            raise TypeError(
                f"{cls.__name__}.__init__ has a parameter 'name', which recipes use for the component's own"
            )
    given: frozenset[str] = getattr(cls, "given", frozenset())
    return {name: parameter for name, parameter in parameters.items() if name not in given}


@cache
def schema(cls: type) -> type[BaseModel]:
    """A pydantic model of the constructor: same parameters, types and defaults; unknown names are refused."""
    hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]  # of the class itself, not of an instance
    fields: dict[str, Any] = {}
    for name, parameter in constructor_parameters(cls).items():
        annotation = _specified(hints.get(name, Any))
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (annotation, default)
    config = ConfigDict(extra="forbid", validate_default=True, arbitrary_types_allowed=True, frozen=True)
    return create_model(cls.__name__, __config__=config, **fields)


def _specified(annotation: Any) -> Any:
    """A component in a constructor's annotation is a Spec in a recipe, wherever it stands (`Mapping[str, Masker]`)."""
    from maskmotion.config import spec_type

    if inspect.isclass(annotation) and issubclass(annotation, tuple(KINDS.values())):
        return spec_type(kind_of(annotation))
    arguments = typing.get_args(annotation)
    if not arguments or all(_specified(a) is a for a in arguments if a is not ...):
        return annotation
    replaced = tuple(a if a is ... else _specified(a) for a in arguments)
    origin = typing.get_origin(annotation)
    if origin in (types.UnionType, typing.Union):
        return typing.Union[replaced]  # noqa: UP007  a union built at run time
    return (dict if origin is Mapping or issubclass(origin, Mapping) else origin)[replaced]


def _same_definition(old: Any, new: Any) -> bool:
    """A notebook cell or module that is run again redefines its own name; that is no clash."""
    return (old.__module__, old.__qualname__) == (new.__module__, new.__qualname__)


def _path(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"
