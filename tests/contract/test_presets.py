"""Every preset builds, trains a step of every stage, generates, and survives a round trip."""

from __future__ import annotations

import inspect

import pytest
import torch

import maskmotion as mm
from maskmotion.testing import example_batch


@pytest.mark.parametrize("name", mm.names("preset"))
def test_preset(name, tmp_path, hear_with):
    whole = mm.preset(name)
    assert mm.Recipe.model_validate_json(whole.model_dump_json()) == whole
    scaled = "scale" in inspect.signature(mm.lookup("preset", name)).parameters
    recipe = hear_with(mm.preset(name, "tiny") if scaled else whole)
    model = mm.Model.build(recipe)
    batch = example_batch(frames=recipe.body.window)
    model.body.set_statistics(batch.motion)
    model.body.train()(batch)
    for stage in model.generator.stages:
        losses = model.generator.train()(batch, teacher=model.generator, progress=0.5, stage=stage)
        assert all(bool(value.isfinite()) for value in losses.values())
    model.save_pretrained(tmp_path)
    again = mm.Model.from_pretrained(tmp_path)
    hidden = torch.ones_like(batch.motion, dtype=torch.bool)
    hidden[:, :4] = False
    one, two = (m.generator.eval().generate(batch, hidden).motion for m in (model, again))
    assert torch.equal(one, two)


def test_a_recipe_hears_with_the_tests_hubert_at_any_depth(hear_with, small_hubert):
    inner = {"name": "aligned", "speech": {"name": "released_speech", "dim": 48}, "project": False, "dim": 48}
    recipe = mm.preset("tiny").but({"conditioners": {"deep": inner, "plain": "speech", "mel": "mel"}})
    heard = hear_with(recipe)
    deep, plain = heard.conditioners["deep"].arguments["speech"], heard.conditioners["plain"]
    assert deep.arguments == {"checkpoint": str(small_hubert), "low": 1, "high": -1, "dim": 48}
    assert plain.arguments == {"checkpoint": str(small_hubert), "low": 1, "high": -1}
    assert set(recipe.diff(heard)) == {
        f"conditioners.{where}.{what}" for where in ("deep.speech", "plain") for what in ("checkpoint", "low")
    }
    assert hear_with(mm.preset("tiny")) == mm.preset("tiny")


def test_the_same_seed_builds_the_same_weights():
    one, two = (mm.Model.build(mm.preset("tiny")).state_dict() for _ in range(2))
    assert all(torch.equal(one[name], two[name]) for name in one)
    other = mm.Model.build(mm.preset("tiny").but({"seed": 1})).state_dict()
    assert not torch.equal(one["generator.motion_in.weight"], other["generator.motion_in.weight"])
