"""Names for components: filed by base class, checked at the door, and helpful when they miss."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

import maskmotion as mm
from maskmotion.config import build, resolve
from maskmotion.registry import kind_of
from maskmotion.testing import check, example_batch


@pytest.fixture
def own():
    """Register things under names that are forgotten after the test, whatever happens in it."""
    taken = []

    def register(name, thing):
        taken.append((kind_of(thing), name))
        return mm.register(name, thing)

    yield register
    for kind, name in taken:
        mm.unregister(kind, name)


class Early(mm.Masker):
    """Hide the first frames."""

    def scores(self, context):
        return -torch.arange(context.batch.valid.shape[1]).expand(context.batch.valid.shape).float()


class Stack(mm.Conditioner):
    """The features of other conditioners side by side, each with a weight."""

    def __init__(self, first: mm.Conditioner, others: Mapping[str, mm.Conditioner], gain: float = 1.0) -> None:
        super().__init__()
        self.held = torch.nn.ModuleDict({"first": first, **others})
        self.gain = gain
        self.dim = sum(one.dim for one in self.held.values())
        self.extractors = tuple(extractor for one in self.held.values() for extractor in one.extractors)

    def forward(self, batch):
        held = [one(batch) for one in self.held.values()]
        return mm.Condition(self.gain * torch.cat([one.features for one in held], dim=-1), batch.valid)


def test_register_is_a_decorator_and_a_call():
    try:
        decorated = mm.register("early")(Early)
        assert decorated is Early
        assert mm.lookup("masker", "early") is Early
        assert mm.register("early-too", Early) is Early
        assert {"early", "early-too"} <= set(mm.names("masker"))
    finally:
        mm.unregister("masker", "early")
        mm.unregister("masker", "early-too")
    assert "early" not in mm.names("masker")
    with pytest.raises(mm.RegistryError):
        mm.lookup("masker", "early")


def test_the_kind_is_the_base_class(own):
    own("early", Early)
    own("stack", Stack)
    assert "early" not in mm.names("conditioner") + mm.names("generator") + mm.names("quantizer")
    assert mm.lookup("conditioner", "stack") is Stack
    kinds = {
        "vq": "quantizer", "random": "masker", "mel": "conditioner", "tiny": "generator", "plain": "autoencoder",
    }  # fmt: skip
    assert {name: kind_of(mm.lookup(kind, name)) for name, kind in kinds.items()} == kinds
    assert kind_of(Early()) == "masker"


def test_what_is_no_component_cannot_have_a_name():
    with pytest.raises(
        TypeError, match="Linear is no Quantizer, Masker, Conditioner, Generator or Autoencoder, and no preset"
    ):
        mm.register("linear", torch.nn.Linear)


def test_a_taken_name_says_who_holds_it(own):
    own("early", Early)

    class Late(Early):
        """Another class."""

    with pytest.raises(mm.RegistryError, match=r"masker 'early' is already .*test_registry\.Early; choose another"):
        mm.register("early", Late)
    assert mm.lookup("masker", "early") is Early
    mm.names("masker")  # the built-ins are there once somebody looks
    with pytest.raises(mm.RegistryError, match=r"already maskmotion\.strategies\.random\.Random"):
        mm.register("random", Late)


def test_one_name_may_serve_several_kinds(own):
    own("mel", Early)
    assert mm.lookup("masker", "mel") is Early
    assert mm.lookup("conditioner", "mel") is not Early


def test_a_cell_that_is_run_again_redefines_its_own_name(own):
    def cell():
        class Redefined(mm.Masker):
            """A class in a notebook cell."""

            def scores(self, context):
                return context.batch.valid.float()

        return own("redefined", Redefined)

    first, second = cell(), cell()
    assert first is not second
    assert mm.lookup("masker", "redefined") is second


@pytest.mark.parametrize(
    ("kind", "name", "near"),
    [("masker", "rnadom", "random"), ("conditioner", "mell", "mel"), ("quantizer", "rqv", "rvq"), ("preset", "tny", "tiny")],
)  # fmt: skip
def test_an_unknown_name_lists_what_exists_and_the_near_miss(kind, name, near):
    with pytest.raises(mm.RegistryError) as error:
        mm.lookup(kind, name)
    assert str(error.value).startswith(f"no {kind} named {name!r}; known: ")
    assert all(known in str(error.value) for known in mm.names(kind))
    assert f"did you mean {near!r}?" in str(error.value)


def test_a_far_miss_suggests_nothing():
    with pytest.raises(mm.RegistryError) as error:
        mm.lookup("masker", "zzzzzz")
    assert "did you mean" not in str(error.value)


def test_signatures_that_no_recipe_can_check_are_refused():
    class Stars(Early):
        def __init__(self, *ratios):
            super().__init__(*ratios)

    class DoubleStars(Early):
        def __init__(self, **anything):
            super().__init__(**anything)

    class Named(Early):
        def __init__(self, name: str = "me") -> None:
            super().__init__()

    for cls, word in ((Stars, r"\*ratios"), (DoubleStars, r"\*\*anything")):
        with pytest.raises(TypeError, match=f"takes {word}: spell its parameters out"):
            mm.register("refused", cls)
    with pytest.raises(TypeError, match="parameter 'name', which recipes use"):
        mm.register("refused", Named)
    assert "refused" not in mm.names("masker")


def test_a_conditioner_may_hold_others(own):
    own("stack", Stack)
    nested = mm.Spec("stack", first="rhythm", others={"who": mm.Spec("speaker", dim=5)}, gain=2.0)
    recipe = mm.preset("tiny").but({"conditioners.both": nested})
    assert recipe.conditioners["both"].others["who"].count == 25, "defaults are written down inside, too"
    assert mm.Recipe.model_validate_json(recipe.model_dump_json()) == recipe
    model = mm.Model.build(recipe)
    both = model.generator.conditioners["both"]
    assert isinstance(both.held["first"], mm.lookup("conditioner", "rhythm"))
    assert both.dim == 3 + 5
    assert {extractor.key for extractor in both.extractors} <= {extractor.key for extractor in model.extractors}
    check(build(resolve("conditioner", nested)))


def test_errors_inside_a_held_component_have_its_path(own):
    own("stack", Stack)
    with pytest.raises(mm.RecipeError) as error:
        mm.preset("tiny").but(
            {"conditioners.both": mm.Spec("stack", first="rythm", others={"who": mm.Spec("speaker", dmi=5)})}
        )
    assert "conditioners.both.first: no conditioner named 'rythm'" in str(error.value)
    assert "did you mean 'rhythm'?" in str(error.value)
    assert "conditioners.both.others.who.dmi: " in str(error.value)


def test_a_preset_is_a_function(own):
    def early() -> mm.Recipe:
        """The preset `tiny` that hides the first frames."""
        return mm.preset("tiny").but({"name": "early", "masker": mm.Spec("early", ratio=0.25)})

    own("early", Early)
    own("early", early)
    recipe = mm.preset("early")
    assert recipe.masker.arguments == {"ratio": 0.25, "hard": None, "soft": 0.0}
    masker = mm.Model.build(recipe).generator.masker
    batch = example_batch(frames=32).rows(torch.tensor([0]))
    assert masker(mm.MaskContext(batch, {}))[0].tolist() == [True] * 8 + [False] * 24
