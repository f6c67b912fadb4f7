"""The laws of recipes, and errors that name the path."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import maskmotion as mm

CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "masker.ratio": st.floats(0.1, 0.9),
        "masker": st.sampled_from(
            [mm.Spec("span", length=5), mm.Spec("loss_based"), mm.Spec("speech_queried", hard=mm.Linear(0.0, 0.3))]
        ),
        "seed": st.integers(0, 99),
        "tokenizer.width": st.sampled_from([8, 16]),
        "tokenizer.quantizer": st.sampled_from([mm.Spec("vq", codebook_size=32), mm.Spec("identity")]),
        "generator.dim": st.sampled_from([32, 64]),
        "generator.passes": st.sampled_from([[{"name": "seed", "mask": "seed"}], [{"name": "a"}, {"name": "b"}]]),
        "training.generator.lr": st.floats(1e-5, 1e-2),
        "conditioners.words": st.just(mm.Spec("transcript")),
        "conditioners": st.just({"mel": mm.Spec("mel", bands=20)}),
    },
)


@given(CHANGES)
@settings(max_examples=40, deadline=None)
def test_the_laws(changes):
    if "masker" in changes:
        changes.pop("masker.ratio", None)
    if "conditioners" in changes:
        changes.pop("conditioners.words", None)
    base = mm.preset("tiny")
    other = base.but(changes)
    assert mm.Recipe.model_validate_json(other.model_dump_json()) == other
    assert base.but(base.diff(other)) == other
    assert other.but(other.diff(base)) == base
    assert other.but({}) == other
    assert other.diff(other) == {}


def test_every_default_is_written_down():
    recipe = mm.preset("tiny").but({"masker": "span"})
    assert recipe.masker.arguments == {"ratio": 0.4, "length": 12}


def test_a_diff_is_small():
    base = mm.preset("tiny")
    assert base.diff(base.but({"masker.ratio": 0.7})) == {"masker.ratio": 0.7}


def test_a_new_component_name_keeps_what_was_set_by_hand_and_drops_old_defaults():
    base = mm.preset("tiny").but({"masker": mm.Spec("speech_queried", ratio=0.5, hard=mm.Linear(0.0, 0.3))})
    changed = base.but({"masker.name": "loss_based"})
    assert changed.masker.name == "loss_based"
    assert changed.masker.hard == mm.Linear(0.0, 0.3)
    assert mm.preset("tiny").but({"masker.name": "span"}).masker.length == 12


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"masker.ratoi": 0.5}, ["masker.ratoi", "Extra inputs are not permitted", "did you mean 'ratio'"]),
        ({"trianing.seed": 1}, ["trianing.seed", "did you mean 'training'", "masker"]),
        ({"training.generatr.lr": 1}, ["training", "generatr", "did you mean 'generator'"]),
        ({"masker": "rnadom"}, ["masker", "no masker named 'rnadom'", "random, span"]),
        ({"masker": mm.Spec("mel")}, ["masker", "no masker named 'mel'"]),
        ({"masker.ratio": "much"}, ["masker.ratio", "got 'much'"]),
        ({"masker": {"ratio": 0.5}}, ["masker", "needs a name"]),
        ({"generator.passes": [{"nam": "x"}]}, ["generator.passes.0.nam"]),
        ({"tokenizer.quantizer.codebook_sze": 4}, ["tokenizer.quantizer.codebook_sze", "did you mean 'codebook_size'"]),
        ({"sede": 1}, ["sede", "did you mean 'seed'"]),
        ({"training.generator.lr": -1}, ["training.generator.lr", "greater than 0"]),
        ({"body.fps": 60}, ["body.fps", "30"]),
    ],
)
def test_errors_name_the_path_the_rule_and_the_way_out(changes, words):
    with pytest.raises(mm.RecipeError) as error:
        mm.preset("tiny").but(changes)
    for word in words:
        assert word in str(error.value)


def test_a_recipe_is_frozen():
    with pytest.raises(Exception, match="frozen"):
        mm.preset("tiny").seed = 3


def test_parts_that_disagree_are_refused_when_built():
    with pytest.raises(
        mm.RecipeError, match=r"body.window: must be a multiple of the tokenizers' 4 frames a token, got 30"
    ):
        mm.Model.build(mm.preset("tiny").but({"body.window": 30}))
    training = mm.preset("tiny").training
    with pytest.raises(mm.RecipeError, match="training: needs exactly generator, root, tokenizer"):
        mm.Model.build(mm.preset("tiny").but({"training": {"generator": training["generator"]}}))
