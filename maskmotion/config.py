"""Recipes: which component and which arguments, checked against the constructors' own signatures."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticUndefined

from maskmotion.paths import RecipeError, SpecProblem, plain, problems, replace
from maskmotion.paths import diff as difference

if TYPE_CHECKING:
    from maskmotion.motion.layout import BodyLayout

STRICT = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Spec(BaseModel, frozen=True, extra="allow"):
    """A component by name with its arguments, `Spec("rvq", num_layers=6)`. Inside a recipe every default is filled in."""

    name: str
    _kind: str = PrivateAttr("")  # of the component, known once the Spec has been checked

    def __init__(self, name: str, **arguments: Any) -> None:
        super().__init__(name=name, **arguments)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and (self.name, self.arguments) == (other.name, other.arguments)

    @property
    def arguments(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return dict(self.model_extra or {})


@cache
def spec_type(kind: str) -> Any:
    """Annotation of a Spec whose component is of `kind`: a bare name will do, and defaults are written down."""
    return Annotated[Spec, BeforeValidator(_from_name), AfterValidator(lambda spec: resolve(kind, spec))]


def _from_name(value: Any) -> Any:
    if isinstance(value, Mapping) and "name" not in value:
        raise ValueError(f"a component needs a name, e.g. {{'name': 'random'}}; got only {sorted(value)}")
    return {"name": value} if isinstance(value, str) else value


def resolve(kind: str, spec: Spec) -> Spec:
    """The same Spec with every argument checked and every default filled in."""
    from maskmotion.registry import RegistryError, lookup, schema

    try:
        model = schema(lookup(kind, spec.name))
    except RegistryError as error:
        raise SpecProblem([((), str(error))]) from None
    try:
        checked = model(**spec.arguments)
    except ValidationError as error:
        raise SpecProblem(problems(error, tuple(model.model_fields))) from None
    resolved = Spec(spec.name, **{field: getattr(checked, field) for field in model.model_fields})
    resolved._kind = kind
    return resolved


def build(spec: Spec, **given: Any) -> Any:
    """Construct the component that a checked Spec describes; `given` are the collaborators the library supplies.

    What is nested in it may ask for them too.
    """
    from maskmotion.registry import lookup

    cls = lookup(spec._kind, spec.name)
    arguments = {name: _built(value, given) for name, value in spec.arguments.items()}
    return cls(**{name: value for name, value in given.items() if name in cls.given}, **arguments)


def _built(value: Any, given: Mapping[str, Any]) -> Any:
    """Nested Specs (a conditioner that holds another) become components."""
    if isinstance(value, Spec):
        return build(value, **given)
    if isinstance(value, Mapping):
        return {key: _built(item, given) for key, item in value.items()}
    return value


class Body(BaseModel):
    """The body and the window: frames per second, frames a window, known frames at its start, parts.

    parts: "four" (face, upper, hands, lower), "whole" (one part), or a table of your own: part -> joint names,
    "translation", "contacts", "expressions".
    """

    model_config = STRICT
    fps: Literal[30] = 30
    window: int = Field(64, ge=8)
    seed_frames: int = Field(4, ge=0)
    parts: Literal["four", "whole"] | dict[str, tuple[str, ...]] = "four"

    def table(self) -> dict[str, tuple[str, ...]]:
        """Part -> joint names, "translation", "contacts", "expressions"."""
        from maskmotion.motion.layout import FOUR_PARTS, WHOLE_BODY

        named = {"four": FOUR_PARTS, "whole": WHOLE_BODY}
        return dict(named[self.parts] if isinstance(self.parts, str) else self.parts)

    def layout(self) -> BodyLayout:
        """The columns of each part. ValueError for a table that cannot be."""
        from maskmotion.motion.layout import BodyLayout

        return BodyLayout.named(self.table())

    @model_validator(mode="after")
    def _check_parts(self) -> Body:
        if not isinstance(self.parts, str):
            self.layout()
        return self


class Tokenizer(BaseModel):
    """One tokenizer a body part.

    width: of the latents. network: convolutions between motion and latents. losses: name -> weight, of a part
    (`tokenizers.losses.TERMS`) or of the whole body (`tokenizers.body_losses.BODY_TERMS`); the commitment's weight is the
    quantizer's. difference: norm of the velocities and accelerations of rotations and expressions.
    normalise: centre and scale the motion by statistics of the training data; the releases do not.
    by_part: changes for single parts, e.g. {"lower": {"network.layers": 4}}.
    """

    model_config = STRICT
    width: int = Field(64, ge=1)
    network: spec_type("autoencoder")  # type: ignore[valid-type]
    quantizer: spec_type("quantizer")  # type: ignore[valid-type]
    losses: dict[str, Annotated[float, Field(ge=0)]] = {"reconstruction": 1.0, "velocity": 0.5}
    difference: Literal["l1", "l2"] = "l1"
    normalise: bool = True
    by_part: dict[str, dict[str, Any]] = {}

    def for_part(self, part: str) -> Tokenizer:
        """The plan of one part: this one with the part's changes. RecipeError for a change that cannot be."""
        data = self.model_dump(exclude={"by_part"})
        for path, value in self.by_part.get(part, {}).items():
            replace(data, path, plain(value), "a tokenizer")
        try:
            return Tokenizer.model_validate(data)
        except ValidationError as error:
            where = f"tokenizer.by_part.{part}"
            lines = [f"{where}: {'.'.join(map(str, p))}: {text}" for p, text in problems(error, tuple(data))]
            raise RecipeError("\n".join(lines)) from None

    @model_validator(mode="after")
    def _check_losses(self) -> Tokenizer:
        from maskmotion.tokenizers.body_losses import BODY_TERMS
        from maskmotion.tokenizers.losses import TERMS

        if unknown := set(self.losses) - set(TERMS) - set(BODY_TERMS):
            known = ", ".join([*TERMS, *BODY_TERMS])
            raise ValueError(f"no loss named {', '.join(sorted(unknown))}; known: {known}")
        for part, changes in self.by_part.items():
            own = self.for_part(part)
            for name in BODY_TERMS:
                if own.losses.get(name) != self.losses.get(name) and any(path.startswith("losses") for path in changes):
                    raise ValueError(f"tokenizer.by_part.{part}: {name} is a loss of the whole body, not of a part")
        return self


class Root(BaseModel):
    """The root-translation network; fields as the arguments of `RootPredictor`."""

    model_config = STRICT
    network: Literal["residual", "plain"] = "residual"
    width: int = Field(64, ge=1)
    layers: int = Field(2, ge=1)
    contacts: bool = True
    translation: bool = False
    losses: dict[str, Annotated[float, Field(ge=0)]] = {"velocity": 1.0, "height": 1.0, "position": 1.0}
    velocity: Literal["forward", "central"] = "forward"

    @model_validator(mode="after")
    def _check_losses(self) -> Root:
        from maskmotion.tokenizers.root_losses import ROOT_TERMS

        if unknown := set(self.losses) - set(ROOT_TERMS):
            raise ValueError(f"no loss named {', '.join(sorted(unknown))}; known: {', '.join(ROOT_TERMS)}")
        return self


class Training(BaseModel):
    """How one stage learns.

    lr follows a warm-up over `warmup` (share of the steps), then `decay`. stride: frames between windows.
    ema_decay: None keeps no average. accumulate: batches a step. validate_every: steps; None: eight times a run.
    """

    model_config = STRICT
    steps: int = Field(400, ge=0)
    batch_size: int = Field(32, ge=1)
    stride: int = Field(20, ge=1)
    lr: float = Field(1e-3, gt=0)
    warmup: float = Field(0.1, ge=0, le=1)
    decay: Literal["constant", "linear", "cosine"] = "cosine"
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = Field(0.0, ge=0)
    grad_norm: float = Field(1.0, gt=0)
    ema_decay: float | None = Field(None, ge=0, lt=1)
    accumulate: int = Field(1, ge=1)
    precision: Literal["no", "bf16", "fp16"] = "no"
    validate_every: int | None = Field(None, ge=1)
    checkpoint_every: int = Field(200, ge=1)


class Recipe(BaseModel):
    """A full experiment: everything but data, device and folder."""

    model_config = STRICT
    name: str
    body: Body = Body()
    tokenizer: Tokenizer
    root: Root = Root()
    conditioners: dict[str, spec_type("conditioner")]  # type: ignore[valid-type]
    masker: spec_type("masker") | None = None  # type: ignore[valid-type]
    generator: spec_type("generator")  # type: ignore[valid-type]
    seed: int = 0
    training: dict[str, Training]

    @model_validator(mode="wrap")
    @classmethod
    def _explain(cls, value: Any, handler: Any) -> Recipe:
        try:
            return handler(value)
        except ValidationError as error:
            lines = [f"{'.'.join(map(str, path))}: {text}" for path, text in problems(error, tuple(cls.model_fields))]
            raise RecipeError("\n".join(lines)) from None

    def but(self, changes: Mapping[str, Any]) -> Recipe:
        """A new recipe with these dotted paths replaced, validated again.

        A new `name` of a component keeps the arguments that were set by hand and forgets the old class's defaults.
        Raises RecipeError with the path of everything that is wrong.
        """
        data = self.model_dump()
        # names first: `masker=span masker.length=5` sets the length of the new masker, in whatever order it is written
        for path, value in sorted(
            changes.items(), key=lambda item: (item[0].count("."), not item[0].endswith(".name"))
        ):
            if path.endswith(".name"):
                _forget_defaults(self, data, path, value)
            replace(data, path, plain(value))
        return Recipe.model_validate(data)

    def diff(self, other: Recipe) -> dict[str, Any]:
        """The smallest `changes` with self.but(changes) == other."""
        return difference(self.model_dump(), other.model_dump())


def _forget_defaults(recipe: Recipe, data: dict[str, Any], path: str, new_name: Any) -> None:
    """Drop what the old class's defaults wrote down, so that the new class brings its own."""
    from maskmotion.registry import lookup, schema

    spec: Any = recipe
    for part in path.split(".")[:-1]:
        spec = spec.get(part) if isinstance(spec, Mapping) else getattr(spec, part, None)
        data = (data or {}).get(part, {})
    if not isinstance(spec, Spec) or spec.name == new_name:
        return
    for name, info in schema(lookup(spec._kind, spec.name)).model_fields.items():
        if info.default is not PydanticUndefined and info.default == spec.arguments[name]:
            data.pop(name, None)
