"""Tokenizers without a generator: part tables, plans by part, a folder of their own, taken over by a run."""

from __future__ import annotations

import json

import pytest
import torch
from smplx_file import write_random_smplx

import maskmotion as mm
from maskmotion.config import Body, Root, Spec, Tokenizer
from maskmotion.motion.layout import FOUR_PARTS, SMPLX, WHOLE_BODY, BodyLayout
from maskmotion.testing import example_batch
from maskmotion.tokenizers.autoencoder import Plain
from maskmotion.tokenizers.pretrained import TokenizerPlan, Tokenizers

SMALL = Tokenizer(width=8, network=Spec("dilated"), quantizer=Spec("rvq", codebook_size=16, num_layers=2))
EMAGE = {
    "tokenizer.network": Spec("plain", layers=2),
    "tokenizer.quantizer": Spec("vq", codebook_size=16, learning="gradient", commitment=1.0, revive_below=0.0),
    "tokenizer.by_part": {"lower": {"network.layers": 4}, "face": {"difference": "l2"}},
}


def saved(folder, **sections):
    plan = TokenizerPlan(**{"body": Body(), "tokenizer": SMALL, "root": Root(width=8), **sections})
    torch.manual_seed(0)
    tokenizers = Tokenizers.build(plan)
    tokenizers.body.train()(example_batch())
    tokenizers.eval().save_pretrained(folder)
    return tokenizers


def test_the_named_tables_are_the_fields_four_parts_and_one_whole():
    assert BodyLayout.named(FOUR_PARTS).columns == SMPLX.columns
    whole = BodyLayout.named(WHOLE_BODY).columns["body"]
    assert sorted(whole) == sorted(column for columns in SMPLX.columns.values() for column in columns)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": ("nose",)}, "no joint named 'nose'.*or translation, contacts, expressions"),
        ({"a": ("jaw",), "b": ("jaw", "head")}, "a column belongs to one part at most"),
        ({"a": ()}, "part 'a': columns must lie in"),
    ],
)
def test_part_tables_that_cannot_be(table, message):
    with pytest.raises(ValueError, match=message):
        BodyLayout.named(table)
    with pytest.raises(mm.RecipeError, match=message):
        mm.preset("tiny").but({"body.parts": table})


@pytest.mark.parametrize("parts", ["whole", {"arms": ("left_wrist", "right_wrist"), "voice": ("jaw", "expressions")}])
def test_any_part_table_trains_and_generates(parts, quick_recipe, small_corpus, speech_file, tmp_path):
    few = {f"training.{stage}.steps": 2 for stage in quick_recipe.training}
    model = mm.train(quick_recipe.but({"body.parts": parts, **few}), small_corpus, tmp_path / "run")
    names = ("body",) if parts == "whole" else ("arms", "voice")
    assert model.body.parts == names
    again = mm.Model.from_pretrained(tmp_path / "run")
    assert again.generate(speech_file).frames == 75
    owned = {c for columns in model.body.layout.columns.values() for c in columns}
    motion = model.body.decode({part: torch.randn(1, 2, 48) for part in names})
    free = [c for c in range(437) if c not in owned]
    assert torch.equal(motion[..., free], SMPLX.rest[free].expand(1, 8, -1)), "what no part owns is at rest"


def test_a_plan_by_part_changes_that_part_alone():
    body = mm.Model.build(mm.preset("tiny").but(EMAGE)).body
    layers = {part: len(body[part].network.encoder) for part in body.parts}
    assert layers == {"face": 2, "upper": 2, "hands": 2, "lower": 4}
    assert body["face"].losses.difference == "l2"
    assert body["hands"].losses.difference == "l1"
    assert isinstance(body["upper"].network, Plain)
    assert body.downsample == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"tokenizer.by_part": {"lower": {"network.layrs": 4}}},
            "tokenizer.by_part.lower: network.layrs: Extra inputs",
        ),
        ({"tokenizer.by_part": {"tail": {"width": 4}}}, "no part named tail; parts: face, upper, hands, lower"),
        ({"tokenizer.by_part": {"lower": {"width": 12}}}, "all parts need the same frames a token, width"),
        ({"tokenizer.by_part": {"lower": {"losses.joints": 1}}}, "joints is a loss of the whole body"),
        ({"tokenizer.losses": {"geodisc": 1.0}}, "no loss named geodisc; known: reconstruction"),
        ({"tokenizer.losses": {"geodesic": -1.0}}, "greater than or equal to 0"),
        ({"root.losses": {"speed": 1.0}}, "no loss named speed; known: velocity"),
        ({"tokenizer.network.downsample": 3}, "power of two, got 3"),
    ],
)
def test_plans_that_cannot_be_are_refused(changes, message):
    with pytest.raises(mm.RecipeError, match=message):
        mm.Model.build(mm.preset("tiny").but(changes))


def test_losses_of_the_recipe_are_named_in_the_log(quick_recipe, small_corpus, tmp_path):
    losses = {"geodesic": 1.0, "translation": 0.5, "joints": 2.0, "foot_sliding": 0.1}
    few = {"training.tokenizer.steps": 10, "tokenizer.losses": losses}
    mm.train(quick_recipe.but(few), small_corpus, tmp_path / "run", only=["tokenizer"])
    rows = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    trained = next(row["losses"] for row in rows if "losses" in row)
    parts = {f"{part}/{name}" for part in SMPLX.parts for name in ("geodesic", "commitment")}
    assert set(trained) == parts | {"lower/translation", "joints", "foot_sliding"}
    observed = next(row["observed"] for row in rows if "observed" in row)
    held_out = next(row["validation"] for row in rows if "validation" in row)
    for name in ("perplexity/0", "dead/2", "error/1"):
        assert f"hands/{name}" in observed
    assert 1 <= held_out["hands/perplexity/0"] <= 64
    assert 0 <= held_out["hands/unused/0"] < 64


def test_losses_on_vertices_ask_for_the_model_file(quick_recipe, small_corpus, tmp_path):
    recipe = quick_recipe.but({"tokenizer.losses": {"vertices": 1.0}})
    with pytest.raises(ValueError, match=r"maskmotion\[body\]"):
        mm.train(recipe, small_corpus, tmp_path / "run", only=["tokenizer"])


def test_a_folder_of_tokenizers_comes_back_as_it_was(tmp_path):
    one = saved(tmp_path / "own")
    two = Tokenizers.from_pretrained(tmp_path / "own")
    assert two.plan == one.plan
    motion = example_batch().motion
    codes = [tokenizers.body.tokenize(motion) for tokenizers in (one, two)]
    assert all(torch.equal(codes[0][part], codes[1][part]) for part in SMPLX.parts)
    assert torch.equal(one.root.predict(motion), two.root.predict(motion))


def test_the_tokenizers_of_a_run_load_alone(quick_run):
    run, alone = mm.Model.from_pretrained(quick_run), Tokenizers.from_pretrained(quick_run)
    motion = example_batch().motion
    codes = run.body.tokenize(motion)
    assert all(torch.equal(index, alone.body.tokenize(motion)[part]) for part, index in codes.items())


def test_a_folder_that_holds_none_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no tokenizers"):
        Tokenizers.from_pretrained(tmp_path)


def test_a_run_takes_a_folder_of_tokenizers_over(tmp_path, quick_recipe, small_corpus):
    own = saved(tmp_path / "own")
    with pytest.raises(mm.RunError, match=r"another `tokenizer`.*plan\.changes\(\)"):
        mm.train(quick_recipe, small_corpus, tmp_path / "no", tokenizer=tmp_path / "own")
    recipe = quick_recipe.but(own.plan.changes())
    assert recipe.tokenizer == SMALL
    model = mm.train(recipe, small_corpus, tmp_path / "run", tokenizer=tmp_path / "own")
    motion = example_batch().motion
    codes = own.body.tokenize(motion)
    assert all(torch.equal(index, model.body.tokenize(motion)[part]) for part, index in codes.items())


def test_losses_do_not_tell_tokenizers_apart(tmp_path, quick_recipe, small_corpus):
    own = saved(tmp_path / "own")
    recipe = quick_recipe.but({**own.plan.changes(), "tokenizer.losses": {"geodesic": 1.0}})
    mm.train(recipe, small_corpus, tmp_path / "run", tokenizer=tmp_path / "own")


def test_without_a_root_network_no_run_can_take_them(tmp_path, quick_recipe, small_corpus):
    own = saved(tmp_path / "own", root=None)
    assert own.root is None
    assert "root" not in own.plan.changes()
    with pytest.raises(mm.RunError, match="no root network"):
        mm.train(quick_recipe.but(own.plan.changes()), small_corpus, tmp_path / "run", tokenizer=tmp_path / "own")


def test_a_run_with_losses_on_vertices_poses_the_mesh_of_the_users_file(quick_recipe, small_corpus, tmp_path):
    pytest.importorskip("smplx", reason="the extra `body` is not installed")
    write_random_smplx(tmp_path / "model.npz")
    weights = {"reconstruction": 1.0, "vertices": 1.0, "vertex_velocity": 1.0, "vertex_acceleration": 1.0}
    few = {"training.tokenizer.steps": 1, "training.tokenizer.batch_size": 1, "body.window": 16}
    corpus = mm.Corpus("few frames", small_corpus.train[:1], [], lambda: [])
    model = mm.train(
        quick_recipe.but({**few, "tokenizer.losses": weights}),
        corpus,
        tmp_path / "run",
        only=["tokenizer"],
        body_model=tmp_path / "model.npz",
    )
    assert model.body.body_model is not None
    assert not any("shapedirs" in name for name in model.state_dict()), "the user's mesh stays with the user"
    losses = model.body(example_batch(rows=1, frames=8))
    assert set(weights) - {"reconstruction"} <= set(losses)
    assert all(0 < losses[name].item() < 10 for name in weights if name.startswith("vert"))
