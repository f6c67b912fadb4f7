"""Speech queries aligned with motion: what they hear, what they must not see, and each loss by itself."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from hubert_folder import write_hubert

import maskmotion as mm
from maskmotion.conditioners import Aligned, Mel, ReleasedSpeech, Speech
from maskmotion.conditioners.aligned import JOINT
from maskmotion.generators import Tiny
from maskmotion.losses import info_nce
from maskmotion.motion.layout import SMPLX
from maskmotion.nn.post_norm import EncoderLayer
from maskmotion.nn.transformer import positions
from maskmotion.strategies import Random
from maskmotion.testing import check, example_batch, example_generator

DIM, WIDTH = 16, 12  # of the alignment, and of the speech it hears
RELEASE = {
    **{"by_part": True, "queries": 1, "query_std": 0.0, "encoders": (2, 2, 2), "negatives": "clip", "sentence": 0.0},
    **{"match": 1.0, "match_negatives": False, "regress": 1.0},
}
TERMS = ("frame", "sentence", "match", "regress")


class Given(mm.Conditioner):
    """Levels that stand in the batch, whatever there is in padded frames."""

    levels = ("low", "high")

    def __init__(self, dim: int = WIDTH) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, batch):
        return mm.Condition(batch.features["high"], batch.valid, levels=dict(batch.features))


@pytest.fixture(scope="module")
def body():
    return example_generator().body


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return write_hubert(tmp_path_factory.mktemp("checkpoint") / "small")


def make(body, dim=DIM, speech=None, seed=0, **options):
    torch.manual_seed(seed)
    return Aligned(body, Given() if speech is None else speech, dim=dim, **options).eval()


def window(rows=3, frames=32, lengths=None, seed=0, width=WIDTH):
    rng = torch.Generator().manual_seed(seed)
    valid = torch.arange(frames) < torch.tensor([frames] * rows if lengths is None else lengths)[:, None]
    features = {level: torch.randn(rows, frames, width, generator=rng) for level in ("low", "high")}
    return mm.Batch(torch.zeros(rows, frames, SMPLX.dim), valid, features=features)


def tokens(body, batch, seed=5):
    """Quantized motion of every part, as many tokens as the window has."""
    rng = torch.Generator().manual_seed(seed)
    rows, frames = batch.valid.shape

    def one():
        latents = torch.randn(rows, body.tokens(frames), body.dim, generator=rng)
        return mm.Quantized(latents, torch.zeros(*latents.shape[:2], 0).long(), torch.zeros(()), torch.zeros(0))

    return {part: one() for part in body.parts}


def losses(aligned, batch, motion):
    return aligned.losses(batch, aligned(batch), motion)


def change(x, where):
    """Other values where nobody may look."""
    return torch.where(where[..., None], 50.0 - 3 * x, x)


# ------------------------------------------------------------------------------------------------ what is said


@pytest.mark.parametrize("frames", [1, 3, 30, 64, 101])
@pytest.mark.parametrize("by_part", [False, True])
def test_windows_of_any_length_have_features_and_losses(body, frames, by_part):
    aligned = make(body, by_part=by_part, match=1.0, regress=1.0)
    batch = window(2, frames)
    condition = aligned(batch)
    assert condition.features.shape == (2, frames, DIM)
    assert torch.equal(condition.valid, batch.valid)
    assert {level: x.shape for level, x in condition.levels.items()} == dict.fromkeys(
        ("low", "high"), condition.features.shape
    )
    found = losses(aligned, batch, tokens(body, batch))
    assert set(found) == set(TERMS)
    assert all(loss.ndim == 0 and loss.isfinite() for loss in found.values())


def test_parts_have_speech_of_their_own_or_all_the_same(body):
    batch = window()
    parts = make(body, by_part=True)(batch)
    assert tuple(parts.parts) == body.parts
    torch.testing.assert_close(parts.features, torch.stack(list(parts.parts.values())).mean(0))
    assert not torch.allclose(parts.parts["face"], parts.parts["hands"])
    together = make(body)(batch)
    assert together.parts == {}
    assert together.features.abs().sum() > 0


@pytest.mark.parametrize("levels", [("low",), ("high",), ("low", "high")])
def test_only_the_levels_that_are_named_are_heard(body, levels):
    aligned, batch = make(body, levels=levels), window()
    said = aligned(batch)
    assert set(said.levels) == set(aligned.hear) == set(aligned.spaces[JOINT].decoders) == set(levels)
    for level in ("low", "high"):
        other = replace(batch, features={**batch.features, level: batch.features[level].flip(1)})
        assert torch.equal(aligned(other).features, said.features) == (level not in levels)
    assert list(aligned.way(batch)[JOINT]) == ["queries", *levels, "aligned"]


def test_low_is_heard_before_high_in_whatever_order_they_are_given(body):
    batch = window()
    backwards = replace(batch, features=dict(reversed(batch.features.items())))
    aligned = make(body, levels=("high", "low"))
    aligned.load_state_dict(make(body).state_dict())
    assert torch.equal(aligned(backwards).features, make(body)(batch).features)


def test_without_hierarchy_the_sum_of_both_levels_is_heard_at_once(body):
    aligned, batch = make(body, hierarchy=False, encoders=(1, 1, 1)), window()
    said = aligned(batch)
    assert list(aligned.way(batch)[JOINT]) == ["queries", "both", "aligned"]
    low, high = said.levels["low"], said.levels["high"]
    heard = low + high + positions(32, DIM, low)
    (space,) = aligned.spaces.values()
    assert torch.allclose(space.listen({"both": heard}, None)["aligned"], said.features)
    with pytest.raises(ValueError, match="one attention over both levels"):
        make(body, hierarchy=False, levels=("low",))


@pytest.mark.parametrize("encoders", [(0, 0, 2), (1, 0, 0), (2, 1, 3)])
def test_encoders_are_layers_before_between_and_after_the_levels(body, encoders):
    aligned = make(body, encoders=encoders)
    space = aligned.spaces[JOINT]
    assert tuple(len(layers) for layers in space.encoders) == encoders
    assert sum(isinstance(module, EncoderLayer) for module in aligned.modules()) == sum(encoders)
    batch = window()
    before = aligned(batch).features
    for number in (place for place, count in enumerate(encoders) if count):
        changed = make(body, encoders=encoders)
        for layer in changed.spaces[JOINT].encoders[number]:
            torch.nn.init.normal_(layer.feed.leave.weight)
        assert not torch.allclose(changed(batch).features, before), "speech passes it"
        motion = tokens(body, batch)
        valid = body.token_mask(batch.valid)
        assert not torch.allclose(changed.embed(motion, valid)[JOINT], aligned.embed(motion, valid)[JOINT])


def test_queries_are_repeated_over_time_and_positions_tell_steps_apart(body):
    aligned, batch = make(body, queries=8), window(2, 24)
    way = aligned.way(batch)[JOINT]["queries"].expand(2, -1, -1)
    places = make(body, queries=1, query_std=0.0).way(batch)[JOINT]["queries"]
    own = (way - places)[0]
    torch.testing.assert_close(own[:8], aligned.spaces[JOINT].queries)
    torch.testing.assert_close(own[8:16], own[:8])
    assert not torch.allclose(places[0, 0], places[0, 1])
    one = make(body, queries=1, query_std=0.0).spaces[JOINT].queries
    assert one.shape == (1, DIM)
    assert (one == 0).all()
    assert float(make(body, queries=64, query_std=0.5).spaces[JOINT].queries.detach().std()) == pytest.approx(
        0.5, rel=0.1
    )


def test_the_stages_on_the_way_end_with_what_is_said(body):
    aligned, batch = make(body, by_part=True), window()
    said = aligned(batch)
    for part, way in aligned.way(batch).items():
        assert list(way) == ["queries", "low", "high", "aligned"]
        assert torch.equal(way["aligned"], said.parts[part])


def test_dropout_acts_in_training_only(body):
    aligned, batch = make(body, dropout=0.5), window(1).rows(torch.tensor([0, 0]))
    assert torch.equal(aligned(batch).features[0], aligned(batch).features[1])
    trained = aligned.train()(batch).features
    assert not torch.allclose(trained[0], trained[1])


# ------------------------------------------------------------------------------------------------ padding


@pytest.mark.parametrize("options", [{}, {"negatives": "clip"}, RELEASE | {"sentence": 1.0, "match_negatives": True}])
def test_padding_changes_neither_speech_nor_any_loss(body, options):
    aligned = make(body, **{"match": 1.0, "regress": 1.0, **options})
    batch = window(4, 30, lengths=[30, 17, 1, 0])
    motion, valid = tokens(body, batch), body.token_mask(batch.valid)
    features = {level: change(x, ~batch.valid) for level, x in batch.features.items()}
    other = replace(batch, features=features)
    moved = {part: replace(one, latents=change(one.latents, ~valid)) for part, one in motion.items()}
    said, again = aligned(batch), aligned(other)
    torch.testing.assert_close(again.features, said.features)
    assert (said.features[~batch.valid] == 0).all()
    assert all((x[~batch.valid] == 0).all() for x in (*said.levels.values(), *said.parts.values()))
    expected, found = losses(aligned, batch, motion), losses(aligned, other, moved)
    for name, loss in expected.items():
        assert loss.isfinite()
        torch.testing.assert_close(found[name], loss, msg=name)


@pytest.mark.parametrize("by_part", [False, True])
def test_how_much_padding_there_is_changes_nothing(body, by_part):
    aligned = make(body, by_part=by_part, match=1.0, regress=1.0)
    long = window(2, 30, lengths=[18, 18])
    short = replace(
        long,
        motion=long.motion[:, :18],
        valid=long.valid[:, :18],
        features={level: x[:, :18] for level, x in long.features.items()},
    )
    motion = tokens(body, long)
    cut = {part: replace(one, latents=one.latents[:, :5], codes=one.codes[:, :5]) for part, one in motion.items()}
    torch.testing.assert_close(aligned(long).features[:, :18], aligned(short).features)
    expected = losses(aligned, short, cut)
    for name, loss in losses(aligned, long, motion).items():
        torch.testing.assert_close(loss, expected[name])


def test_rows_that_share_their_first_steps_are_what_they_are_alone(body):
    """Without padding the queries are one row until speech tells rows apart; with it they are not."""
    aligned, batch = make(body, encoders=(2, 2, 2)), window(3, 32)
    padded = window(3, 32, lengths=[32, 32, 9])
    torch.testing.assert_close(aligned(batch).features[:2], aligned(padded).features[:2])
    still = make(body, encoders=(2, 2, 2), dropout=0.0).train()(batch).features
    torch.testing.assert_close(still, aligned(batch).features)


@pytest.mark.parametrize("options", [{}, RELEASE])
def test_the_contract_of_conditioners_on_hubert(small, options):
    check(Aligned, speech=Speech(checkpoint=str(small), low=1), dim=DIM, **options)


def test_the_contract_of_conditioners_on_the_releases_speech(body, small):
    released = ReleasedSpeech(checkpoint=str(small), low=1, dim=body.dim)
    check(make(body, dim=body.dim, speech=released, project=False, heads=2, **RELEASE))


# ------------------------------------------------------------------------------------------------ losses


def token_speech(x, valid, fold):
    """Means of each token's frames, by a loop."""
    frames = range(0, valid.shape[1], fold)
    rows = [[x[b, n : n + fold][valid[b, n : n + fold]] for n in frames] for b in range(len(x))]
    return torch.stack([torch.stack([some.mean(0) if len(some) else x[0, 0] * 0 for some in row]) for row in rows])


def by_hand(aligned, space, speech, motion, batch, fold, options):
    """Every term of one space."""
    spoken = token_speech(speech, batch.valid, fold)
    valid = torch.stack([chunk.any(1) for chunk in batch.valid.split(fold, dim=1)], dim=1)
    one = torch.stack([speech[b][batch.valid[b]].mean(0) for b in range(len(speech))])
    other = torch.stack([motion[b][valid[b]].mean(0) for b in range(len(speech))])
    similar = F.cosine_similarity(one[:, None], other[None], dim=-1) / 0.1
    together = aligned.matcher[space](torch.cat([one, other], 1)).log_softmax(-1)[:, 1]
    apart = aligned.matcher[space](torch.cat([one, other[[len(one) - 1, *range(len(one) - 1)]]], 1))
    pairs = torch.cat([together, apart.log_softmax(-1)[:, 0]]) if options["match_negatives"] else together
    guessed = aligned.regressor[space](spoken)
    return {
        "frame": info_nce(spoken, motion, valid, 0.1, options["negatives"]),
        "sentence": -similar.log_softmax(1).diagonal().mean(),
        "match": -pairs.mean(),
        "regress": (guessed - motion)[valid].square().mean(),
    }


@pytest.mark.parametrize("by_part", [False, True])
@pytest.mark.parametrize(
    "options", [{"negatives": "clip", "match_negatives": False}, {"negatives": "batch", "match_negatives": True}]
)
@torch.no_grad()
def test_every_term_is_its_formula_and_parts_add_up(body, by_part, options):
    weights = {"frame": 0.5, "sentence": 2.0, "match": 3.0, "regress": 4.0}
    aligned = make(body, by_part=by_part, **options, **weights)
    batch = window(3, 30, lengths=[30, 21, 6])
    motion, said = tokens(body, batch), aligned(batch)
    seen = aligned.embed(motion, body.token_mask(batch.valid))
    spoken = said.parts or {JOINT: said.features}
    each = [by_hand(aligned, name, spoken[name], seen[name], batch, body.downsample, options) for name in seen]
    assert len(each) == (4 if by_part else 1)
    found = aligned.losses(batch, said, motion)
    for name, weight in weights.items():
        expected = weight * sum(terms[name] for terms in each)
        torch.testing.assert_close(found[name], expected, msg=name)


@pytest.mark.parametrize("term", TERMS)
@pytest.mark.parametrize("by_part", [False, True])
def test_every_term_alone_reaches_both_sides(body, term, by_part):
    aligned = make(body, by_part=by_part, **{**dict.fromkeys(TERMS, 0.0), term: 1.0})
    batch = window()
    motion = {part: replace(one, latents=one.latents.requires_grad_()) for part, one in tokens(body, batch).items()}
    found = losses(aligned, batch, motion)
    assert set(found) == {term}
    found[term].backward()
    assert all(one.latents.grad.any() for one in motion.values())
    named = dict(aligned.named_parameters())
    assert [name for name, one in named.items() if one.grad is None or not one.grad.any()] == []
    expected = {"match": "matcher", "regress": "regressor"}.get(term)
    kinds = {name.split(".")[0] for name in named}
    assert kinds == {"hear", "see", "spaces", *([expected] if expected else [])}, "nothing is built that nobody reads"


def test_without_weights_motion_is_not_looked_at(body):
    """Table 2 has such a row."""
    aligned = make(body, frame=0.0, sentence=0.0)
    batch = window()
    assert losses(aligned, batch, tokens(body, batch)) == {}
    assert len(aligned.see) == 0
    with pytest.raises(ValueError, match="never seen motion"):
        aligned.embed(tokens(body, batch), body.token_mask(batch.valid))


def test_negatives_of_the_match_are_told_from_positives_and_a_row_alone_has_none(body):
    batch = window(4)
    aligned = make(body, frame=0.0, sentence=0.0, match=1.0)
    motion, said = tokens(body, batch), aligned(batch)
    torch.nn.init.zeros_(aligned.matcher[JOINT].leave.weight)
    aligned.matcher[JOINT].leave.bias.data = torch.tensor([0.0, 5.0])  # "they belong together", of all pairs
    assert float(aligned.losses(batch, said, motion)["match"].detach()) == pytest.approx(
        (math.log1p(math.exp(-5)) + math.log1p(math.exp(5))) / 2, rel=1e-5
    )
    first = {part: replace(one, latents=one.latents[:1], codes=one.codes[:1]) for part, one in motion.items()}
    alone = aligned.losses(batch.rows(torch.tensor([0])), said.rows(torch.tensor([0])), first)["match"]
    assert float(alone.detach()) == pytest.approx(math.log1p(math.exp(-5)), rel=1e-4)


def test_a_data_set_without_some_parts_aligns_those_it_has(body):
    batch = window()
    motion = tokens(body, batch)
    some = {part: motion[part] for part in ("upper", "lower")}
    own = make(body, by_part=True)
    assert set(own.embed(some, body.token_mask(batch.valid))) == {"upper", "lower"}
    assert float(losses(own, batch, some)["frame"].detach()) < float(losses(own, batch, motion)["frame"].detach())
    none = {part: replace(one, latents=0 * one.latents) for part, one in motion.items()}
    joint = make(body)
    expected = losses(joint, batch, none | some)["frame"]
    torch.testing.assert_close(losses(joint, batch, some)["frame"], expected)


def test_contrast_falls_for_speech_and_motion_that_belong_together_and_not_for_shuffled_ones(body):
    """Motion follows from speech; what is learned holds on windows that were never seen, and not for wrong partners."""
    aligned = make(body, dim=32, dropout=0.0).train()
    mix = torch.randn(WIDTH, body.dim, generator=torch.Generator().manual_seed(1))

    def together(seed):
        batch = window(8, 32, seed=seed)
        slow = {level: x[:, :1] + 0.5 * x for level, x in batch.features.items()}
        batch = replace(batch, features=slow)
        latents = slow["high"].unflatten(1, (-1, body.downsample)).mean(2) @ mix
        return batch, {part: replace(one, latents=latents) for part, one in tokens(body, batch).items()}

    optimizer = torch.optim.Adam(aligned.parameters(), 3e-3)
    for step in range(50):
        loss = sum(losses(aligned, *together(100 + step)).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    batch, motion = together(7)
    shuffled = {part: replace(one, latents=one.latents.roll(3, 0)) for part, one in motion.items()}
    aligned.eval()
    with torch.no_grad():
        right, wrong = losses(aligned, batch, motion), losses(aligned, batch, shuffled)
    for name, chance in {"frame": math.log(8 * 8), "sentence": math.log(8)}.items():  # of 8 rows with 8 tokens each
        assert float(right[name]) < chance - 1, name
        assert float(wrong[name]) > chance, name


@pytest.mark.parametrize(("negatives", "least"), [("clip", 0.0), ("batch", math.log(8) - 0.05)])
def test_positions_alone_solve_the_contrast_within_a_clip_but_not_within_a_batch(body, negatives, least):
    """Speech and motion have nothing in common here: a batch of 8 leaves the 8 tokens of the same place to be told."""
    aligned = make(body, dim=32, dropout=0.0, sentence=0.0, negatives=negatives).train()
    optimizer = torch.optim.Adam(aligned.parameters(), 3e-3)
    for step in range(60):
        batch = window(8, 32, seed=step)
        loss = losses(aligned, batch, tokens(body, batch, seed=1000 + step))["frame"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert least <= float(loss.detach()) < least + 0.5


@pytest.mark.parametrize("by_part", [False, True])
def test_silence_has_finite_losses_and_gradients(body, by_part):
    aligned = make(body, by_part=by_part, match=1.0, regress=1.0).train()
    batch = window()
    batch = replace(batch, features={level: torch.zeros_like(x) for level, x in batch.features.items()})
    still = {part: replace(one, latents=0 * one.latents) for part, one in tokens(body, batch).items()}
    found = losses(aligned, batch, still)
    assert all(loss.isfinite() for loss in found.values())
    sum(found.values()).backward()
    assert all(one.grad is None or one.grad.isfinite().all() for one in aligned.parameters())


# ------------------------------------------------------------------------------------------------ in a model


@pytest.mark.parametrize("by_part", [False, True])
def test_a_training_step_hears_and_aligns_once(body, by_part, monkeypatch):
    calls = []
    forward, align = Given.forward, Aligned.losses
    monkeypatch.setattr(Given, "forward", lambda self, batch: calls.append("heard") or forward(self, batch))
    monkeypatch.setattr(Aligned, "losses", lambda self, *given: calls.append("aligned") or align(self, *given))
    batch = replace(example_batch(), features=window().features)
    generator = Tiny(body, {"speech": make(body, by_part=by_part)}, Random(0.5), dim=16).train()
    found = generator(batch, teacher=generator, progress=0.5, stage="generator")
    assert calls == ["heard", "aligned"]
    assert {
        name for name in found if name.startswith("speech/") and name.split("/")[1] not in ("codes", "latents")
    } == {
        "speech/frame",
        "speech/sentence",
    }
    sum(found.values()).backward()
    assert generator.conditioners["speech"].hear["low"].weight.grad.any()
    assert not any(name.startswith("conditioners.speech.body") for name in generator.state_dict())


def recipe(checkpoint, **options):
    spec = mm.Spec("aligned", speech=mm.Spec("speech", checkpoint=str(checkpoint), low=1), dim=DIM, **options)
    return mm.preset("tiny").but({"conditioners": {"speech": spec}})


def test_a_recipe_nests_speech_and_the_body_comes_from_the_library(small):
    made = recipe(small)
    again = mm.Recipe.model_validate_json(made.model_dump_json())
    assert again == made
    changed = again.but({"conditioners.speech.levels": ["low"], "conditioners.speech.by_part": True})
    model = mm.Model.build(changed)
    aligned = model.generator.conditioners["speech"]
    assert (aligned.levels, tuple(aligned.spaces)) == (("low",), model.body.parts)
    assert [one.key for one in model.extractors] == [Speech(checkpoint=str(small), low=1).extractor.key]
    twin = mm.Model.build(again.but(again.diff(changed)))
    assert set(twin.state_dict()) == set(model.state_dict())
    whole = mm.Model.build(made.but({"body.parts": "whole"})).generator.conditioners["speech"]
    assert whole.see[JOINT].in_features == model.body.dim


@pytest.mark.slow
def test_a_model_trains_and_generates_on_aligned_speech(
    small, quick_recipe, quick_run, small_corpus, speech_file, tmp_path
):
    spec = mm.Spec("aligned", speech=mm.Spec("speech", checkpoint=str(small), low=1), dim=DIM)
    made = quick_recipe.but({"conditioners": {"speech": spec}})
    mm.train(made, small_corpus, tmp_path / "run", tokenizer=quick_run, cache=tmp_path / "cache")
    assert mm.Model.from_pretrained(tmp_path / "run").generate(speech_file).frames == 75


# ------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize("speech", ["mel", "rhythm", "speaker"])
def test_speech_without_levels_is_refused_when_the_model_is_built_with_what_to_use(speech):
    plain = mm.preset("tiny").but({"conditioners": {"speech": mm.Spec("aligned", speech=mm.Spec(speech))}})
    with pytest.raises(ValueError, match=f"{speech.title()}, whose condition has no level low and high; use 'speech'"):
        mm.Model.build(plain)


def test_speech_that_promises_levels_and_has_none_is_refused_when_it_is_heard(body):
    class Promising(Mel):
        levels = ("low", "high")

    with pytest.raises(ValueError, match="Promising, whose condition has no level low and high"):
        make(body, speech=Promising())(example_batch())


def test_speech_of_another_rate_than_the_motion_is_refused(body):
    class Slow(Given):
        def forward(self, batch):
            levels = {level: x[:, ::2] for level, x in batch.features.items()}
            return mm.Condition(levels["high"], batch.valid[:, ::2], levels=levels)

    with pytest.raises(ValueError, match="16 steps for 32 frames"):
        make(body, speech=Slow())(window())


@pytest.mark.parametrize("width", [5, 12, 40])
def test_hubert_of_any_width_is_projected(body, width):
    aligned = make(body, speech=Given(width))
    assert aligned(window(width=width)).features.shape == (3, 32, DIM)


def test_hubert_of_another_width_is_named_where_nothing_is_projected(body):
    with pytest.raises(ValueError, match=r"project=False .* dim=16, got levels of speech of 12; let it project"):
        make(body, project=False)
    with pytest.raises(ValueError, match="got levels of speech of 12 and latents of 8"):
        make(body, project=False, by_part=True)
    fits = make(body, speech=Given(DIM), project=False)
    assert (len(fits.hear), list(fits.see)) == (0, [JOINT])
    fits = make(body, dim=body.dim, speech=Given(body.dim), project=False, by_part=True, heads=2)
    assert (len(fits.hear), len(fits.see)) == (0, 0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"levels": ()}, "levels are"),
        ({"levels": ("low", "low")}, "each once"),
        ({"encoders": (0, -1, 2)}, r"encoders=\(0, -1, 2\)"),
        ({"queries": 0}, "queries=0"),
        ({"query_std": -0.1}, "query_std=-0.1"),
        ({"temperature": 0.0}, "temperature is above 0"),
        ({"frame": -1.0}, "0 or more, got {'frame': -1.0}"),
        ({"heads": 3}, "multiple of heads"),
    ],
)
def test_arguments_that_make_no_alignment_are_refused(body, options, message):
    with pytest.raises(ValueError, match=message):
        make(body, **options)
