"""EchoMask: what passes share, what hears what, where attention goes, and what it cannot be built of."""

from __future__ import annotations

import copy
import functools
from dataclasses import replace

import pytest
import torch

import maskmotion as mm
from maskmotion.generators import EchoMask
from maskmotion.generators.echomask_parts import FACE, Fold, halvings
from maskmotion.generators.echomask_residual import ResidualHead, released_losses
from maskmotion.generators.masked import MaskedGenerator
from maskmotion.generators.several import Several
from maskmotion.motion.layout import SMPLX
from maskmotion.nn.post_norm import DecoderLayer, EncoderLayer
from maskmotion.quantizers import RVQ, VQ, Identity
from maskmotion.strategies import LossBased, SpeechQueried, attention_scores
from maskmotion.testing import example_batch, example_generator
from maskmotion.tokenizers import BodyTokenizer, Dilated, PartTokenizer, Plain
from maskmotion.training.ema import EMA
from maskmotion.types import Condition

SIZES = {
    **{"dim": 16, "features": 8, "heads": 2, "layers": 2, "feed": 24, "face_layers": 2},
    **{"residual_layers": 2, "residual_heads": 2, "residual_feed": 12, "dropout": 0.0},
}
THREE = (mm.Pass("seed", "seed"), mm.Pass("self", speech=False), mm.Pass("word", like="self"))
BODY = ("upper", "hands", "lower")


@functools.cache
def example():
    """Trained tokenizers and conditioners, made once."""
    return example_generator()


def build(**arguments):
    """A small EchoMask on sound, words and speaker."""
    torch.manual_seed(0)
    one = copy.deepcopy(example())
    given = {"body": one.body, "conditioners": dict(one.conditioners), "masker": one.masker}
    return EchoMask(**{**given, **SIZES, **arguments}).eval()


def tokenizers(network=Dilated, quantizer=RVQ, parts=SMPLX.columns, **arguments):
    return {
        part: PartTokenizer(columns, network(len(columns), 8, **arguments), quantizer(8))
        for part, columns in parts.items()
    }


def learn(generator, batch=None):
    torch.manual_seed(1)
    batch = example_batch() if batch is None else batch
    return generator.train()(batch, teacher=generator, progress=0.5, stage="generator")


def predict(generator, batch, hidden=None, **options):
    hidden = generator.generation_mask(batch.valid) if hidden is None else hidden
    return generator.predict(batch.motion, hidden, batch.valid, generator.condition(batch), **options)


@pytest.fixture(scope="module")
def generator():
    return build()


@torch.no_grad()
def test_passes_predicted_together_are_what_each_is_alone():
    generator = build(passes=THREE, fusion="learned", attended=("hands", "lower"))
    batch = example_batch()
    rows = {one.name: torch.arange(3) for one in THREE}
    masks = {"seed": generator.generation_mask(batch.valid)}
    masks["self"] = masks["word"] = SMPLX.expand(torch.rand(batch.valid.shape) > 0.5)
    given = (THREE, batch, generator.condition(batch), rows, masks, torch.tensor([2, 0]))
    together, attention = generator.predict_passes(*given)
    alone, asked = MaskedGenerator.predict_passes(generator, *given)
    for name, one in alone.items():
        for part in SMPLX.parts:
            assert torch.allclose(together[name].logits[part], one.logits[part], atol=1e-5)
            assert torch.allclose(together[name].latents[part], one.latents[part], atol=1e-5)
    assert set(attention) == {"hands", "lower"}
    assert all(torch.allclose(attention[part], asked[part], atol=1e-6) for part in asked)
    assert not torch.allclose(alone["self"].logits["upper"], alone["word"].logits["upper"], atol=1e-3)


def test_a_step_does_nothing_twice(monkeypatch):
    generator = build(passes=THREE, masker=SpeechQueried(0.5), semantic=1.0)
    seen: dict[str, list[int]] = {}

    def count(name):
        module = generator.get_submodule(name)
        module.register_forward_hook(lambda _, __, out: seen.setdefault(name, []).append(len(_first(out))))

    for name in ("see_motion", "face", "gather", "ask", "move", "conditioners.mel"):
        count(name)
    asked = []
    monkeypatch.setattr(type(generator.ask), "ask", _counted(type(generator.ask).ask, asked))
    learn(generator)
    teacher, passes, sem = 3, 6, 3  # rows: 3 a pass, and self and word see the same
    assert seen["see_motion"] == [teacher, passes, sem]
    assert seen["gather"] == [teacher, passes, sem]
    assert seen["face"] == [passes]
    assert seen["ask"] == [6]  # rows that hear: seed and word
    assert seen["move"] == [9]
    assert seen["conditioners.mel"] == [3, 3]  # the student's and the teacher's
    assert len(asked) == 2


def _first(out):
    """The tensor in what a module gives."""
    out = next(iter(out.values())) if isinstance(out, dict) else out
    return out.features if isinstance(out, Condition) else out


def _counted(function, calls):
    def run(*given):
        calls.append(None)
        return function(*given)

    return run


def test_a_pass_like_another_has_its_rows_and_its_mask():
    chosen = []

    class Remembers(mm.Masker):
        def scores(self, context):
            chosen.append(len(context.batch.motion))
            return torch.rand(context.batch.valid.shape)

    passes = (
        mm.Pass("seed", "seed", share=0.5),
        mm.Pass("self", speech=False, share=0.5),
        mm.Pass("word", like="self"),
    )
    losses = learn(build(passes=passes, masker=Remembers(0.5)), example_batch(rows=8))
    assert chosen == [4]
    assert {name for name in losses if name.startswith("word")} == {"word/codes", "word/latents"}


@pytest.mark.parametrize(
    ("passes", "message"),
    [
        ((mm.Pass("word", like="self"), mm.Pass("self")), "must be an earlier pass"),
        ((mm.Pass("seed", "seed"), mm.Pass("word", like="seed")), "earlier pass with mask='masker'"),
        ((mm.Pass("a"), mm.Pass("b", like="a"), mm.Pass("c", like="b")), "like no other"),
        ((mm.Pass("a"), mm.Pass("a")), "got 'a' twice"),
    ],
)
def test_passes_that_cannot_be(passes, message):
    with pytest.raises(ValueError, match=message):
        build(passes=passes)


@torch.no_grad()
def test_what_is_hidden_has_no_effect(generator):
    batch = example_batch()
    hidden = SMPLX.expand(torch.rand(batch.valid.shape) > 0.5)
    one = predict(generator, batch, hidden)
    other = predict(generator, replace(batch, motion=torch.where(hidden, 9.0, batch.motion)), hidden)
    assert all(torch.equal(one.logits[part], other.logits[part]) for part in SMPLX.parts)
    seen = predict(generator, replace(batch, motion=torch.where(hidden, batch.motion, 9.0)), hidden)
    assert not torch.allclose(one.logits["hands"], seen.logits["hands"])


@torch.no_grad()
def test_without_speech_the_body_has_no_hints_and_its_heads_hear(generator):
    batch = example_batch()
    quiet = replace(batch, audio=batch.audio * 0, labels={})
    loud, silent = (predict(generator, one, speech=False) for one in (batch, quiet))
    tokens = {part: torch.equal(loud.hidden[part], silent.hidden[part]) for part in SMPLX.parts}
    assert tokens == {"face": False, "upper": True, "hands": True, "lower": True}
    for part in SMPLX.parts:
        assert not torch.allclose(loud.logits[part][:, :, 1], silent.logits[part][:, :, 1])
    hinted = predict(generator, batch)
    assert not torch.allclose(hinted.hidden["upper"], loud.hidden["upper"])
    assert torch.equal(hinted.hidden["face"], loud.hidden["face"])


@torch.no_grad()
def test_every_part_hears_its_own_speech(generator):
    batch = example_batch()
    conditions = generator.condition(batch)
    mel = conditions["mel"]
    own = dict.fromkeys(SMPLX.parts, mel.features)
    same = generator.generation_mask(batch.valid)

    def levels(parts):
        told = {**conditions, "mel": replace(mel, features=mel.features * 0, parts=parts)}
        found = generator.predict(batch.motion, same, batch.valid, told, speech=False).logits
        return {part: found[part][:, :, 1:] for part in found}

    one, other = levels(own), levels({**own, "lower": 2 * mel.features})
    assert {part for part in one if not torch.allclose(one[part], other[part])} == {"lower"}


@pytest.mark.parametrize("frames", [1, 5, 30, 64, 101])
@torch.no_grad()
def test_windows_of_any_length(generator, frames):
    batch = example_batch(rows=1, frames=frames)
    batch = replace(batch, valid=torch.ones_like(batch.valid))
    prediction = predict(generator, batch)
    tokens = -(-frames // 4)
    assert prediction.logits["face"].shape == (1, tokens, 2, 16)
    assert prediction.latents["lower"].shape == (1, tokens, 2, 8)
    attention = generator.teacher_attention(batch)
    assert tuple(attention) == ("face", "hands", "upper", "lower")
    assert all(one.shape == (1, frames, frames) for one in attention.values())


@pytest.mark.parametrize(("fold", "halves"), [(1, (0, 0)), (2, (1, 0)), (4, (1, 1)), (8, (2, 1))])
@torch.no_grad()
def test_frames_are_folded_as_the_tokenizers_fold_them(fold, halves):
    assert halvings(fold) == halves
    generator = build(body=BodyTokenizer(tokenizers(downsample=fold)))
    batch = example_batch(frames=20)
    assert predict(generator, batch).logits["upper"].shape[1] == -(-20 // fold)


@pytest.mark.parametrize("parts", [{"face": SMPLX.columns["face"]}, {"whole": tuple(range(437))}])
def test_a_body_of_other_parts_is_refused(parts):
    from maskmotion.motion.layout import BodyLayout

    body = BodyTokenizer(tokenizers(parts=parts), BodyLayout(parts))
    with pytest.raises(ValueError, match=r"has the parts face, upper, hands, lower, got .*body.parts"):
        build(body=body)


def test_a_fold_that_is_no_power_of_two_is_refused():
    with pytest.raises(ValueError, match="3 frames a token is no power of two"):
        halvings(3)


@torch.no_grad()
def test_a_fold_is_a_convolution_of_kernel_and_stride_two():
    fold, convolution = Fold(3, 1), torch.nn.Conv1d(3, 3, 2, 2)
    convolution.weight.copy_(fold.pairs[0].weight.unflatten(1, (2, 3)).permute(0, 2, 1))
    convolution.bias.copy_(fold.pairs[0].bias)
    x, valid = torch.randn(2, 6, 3), torch.tensor([[True] * 6, [True] * 3 + [False] * 3])
    folded, real = fold(x, valid)
    assert torch.allclose(folded, convolution((x * valid[..., None]).mT).mT, atol=1e-6)
    assert real.tolist() == [[True] * 3, [True, True, False]]


@torch.no_grad()
def test_padding_neither_asks_nor_is_asked(generator):
    batch = example_batch()
    real = int(batch.valid[2].sum())
    attention = generator.teacher_attention(batch)
    short = batch.rows(torch.tensor([2]))
    short = replace(
        short,
        motion=short.motion[:, :real],
        valid=short.valid[:, :real],
        audio=short.audio[:, : real * 16000 // 30],
        labels={name: value[:, :real] for name, value in short.labels.items()},
    )
    alone = generator.teacher_attention(short)
    for part, one in attention.items():
        assert torch.allclose(one.sum(-1), batch.valid.float(), atol=1e-5)
        assert not one[2, :, real:].any()
        assert torch.allclose(one[2, : real - 1, :real], alone[part][0, : real - 1], atol=0.02)


@torch.no_grad()
def test_learned_weights_scale_the_parts():
    generator = build(fusion="learned", attended=("hands", "upper"))
    generator.ask.fusion.copy_(torch.tensor([0.5, 0.0]))
    batch = example_batch(rows=1)
    batch = replace(batch, valid=torch.ones_like(batch.valid))
    attention = generator.teacher_attention(batch)
    assert torch.allclose(attention["hands"].sum(-1), torch.tensor(0.5))
    assert not attention["upper"].any()
    one = predict(generator, batch)
    generator.ask.project["upper"].weight.mul_(3.0)
    assert torch.equal(one.logits["lower"], predict(generator, batch).logits["lower"])


@torch.no_grad()
def test_scores_follow_the_attention_of_every_layer_and_part(generator):
    """The attention of `attend` is what the network attends with: the mean over layers and heads."""
    batch, found = example_batch(rows=2), []
    for layer in generator.ask.layers:
        weights = layer.cross.weights
        layer.cross.weights = lambda *given, weights=weights: found.append(weights(*given)) or found[-1]
    attention = generator.teacher_attention(batch)
    for layer in generator.ask.layers:
        del layer.cross.weights
    maps = torch.stack(found).mean((0, 2)).unflatten(1, (4, -1))  # [B, P, S, T]
    assert torch.allclose(torch.stack(list(attention.values()), dim=1), maps * batch.valid[:, None, :, None], atol=1e-6)


def test_the_teacher_gets_no_gradient_and_shares_what_is_frozen():
    generator = build(masker=SpeechQueried(0.5), semantic=0.0).train()
    ema = EMA(generator, 0.9)
    assert ema.model.body is generator.body
    losses = generator(example_batch(), teacher=ema.model, progress=0.5, stage="generator")
    torch.stack(list(losses.values())).sum().backward()
    assert all(one.grad is None and not one.requires_grad for one in ema.model.parameters())
    lacking = {name for name, one in generator.named_parameters() if one.requires_grad and one.grad is None}
    assert lacking == {"semantic_affine", "conditioners.transcript.words"}  # no vectors were given


def test_l_sem_teaches_the_attention_and_needs_labels():
    generator, batch = build(), example_batch()
    losses = learn(generator, batch)
    assert set(losses) == {"seed/codes", "seed/latents", "speech/codes", "speech/latents", "semantic"}
    losses["semantic"].backward()
    assert generator.ask.project["face"].weight.grad.any()
    assert generator.heads["face"].classes[0].enter.weight.grad is None
    assert "semantic" not in learn(build(), replace(batch, labels={"words": batch.labels["words"]}))
    assert "semantic" not in learn(build(semantic=0.0), batch)


def test_labels_of_another_length_are_told():
    batch = example_batch()
    labels = {**batch.labels, "semantic": batch.labels["semantic"][:, :-2]}
    with pytest.raises(ValueError, match="one semantic label a frame: got 30 for 32 frames"):
        learn(build(), replace(batch, labels=labels))


def test_the_contrasts_of_the_release_are_in_the_seed_pass_alone():
    losses = learn(build(passes=THREE, contrast=2.0))
    assert {name for name in losses if "contrast" in name} == {"seed/face_contrast", "seed/hands_contrast"}
    once = learn(build(passes=THREE, contrast=1.0))
    for name in ("seed/face_contrast", "seed/hands_contrast"):
        assert losses[name].item() == pytest.approx(2 * once[name].item(), rel=1e-4)
    with pytest.raises(ValueError, match=r"none: add one, or let contrast=0"):
        build(passes=(mm.Pass("self"),), contrast=1.0)


def test_the_sums_of_the_release():
    logits = torch.zeros(1, 2, 2, 4)
    prediction = mm.Prediction({"a": logits, "b": logits}, {"a": torch.ones(1, 2, 2, 3), "b": torch.zeros(1, 2, 2, 3)})
    codes = dict.fromkeys("ab", torch.zeros(1, 2, 2, dtype=torch.long))
    vectors = dict.fromkeys("ab", torch.zeros(1, 2, 2, 3))
    found = released_losses(prediction, codes, vectors, dict.fromkeys("ab", torch.ones(1, 2)))
    assert found["codes"].item() == pytest.approx(2 * (1 + 1 / 2) * torch.log(torch.tensor(4.0)).item())
    assert found["latents"].item() == 1.0


def test_sums_as_released_hold_every_layers_latents_to_the_codebook():
    generator, batch = build(sums="release", latent=0.5, visible=1.0), example_batch()
    targets = generator.body.encode(batch.motion, batch.valid)
    vectors = {part: generator.body[part].quantizer.embed(one.codes) for part, one in targets.items()}
    logits = {part: torch.zeros(*one.codes.shape, 16) for part, one in targets.items()}
    hidden = generator.generation_mask(batch.valid)
    exact = generator.losses(batch, mm.Prediction(logits, vectors), targets, hidden)
    assert exact["latents"].item() == 0.0
    swapped = {part: one.flip(2) for part, one in vectors.items()}  # the same sums
    assert generator.losses(batch, mm.Prediction(logits, swapped), targets, hidden)["latents"] > 0.01


def test_a_silent_batch_learns_the_passes_that_hear_nothing():
    silent = replace(example_batch(), silent=True)
    assert set(learn(build(passes=THREE), silent)) == {"self/codes", "self/latents"}


@pytest.mark.parametrize("quantizer", [VQ, Identity, lambda dim: RVQ(dim, 16, 3)])
@pytest.mark.parametrize("network", [Dilated, Plain])
def test_tokenizers_of_other_kinds(network, quantizer):
    body = BodyTokenizer(tokenizers(network, quantizer))
    batch = example_batch()
    body.set_statistics(batch.motion)
    body.train()(batch)
    generator = build(body=body)
    losses = learn(generator, batch)
    assert bool(losses["seed/codes"]) == bool(body.codebook_size)
    motion = generator.eval().generate(batch, generator.generation_mask(batch.valid)).motion
    assert motion.shape == batch.motion.shape


@torch.no_grad()
def test_a_residual_layer_is_made_of_those_before_it():
    torch.manual_seed(0)
    layer = functools.partial(DecoderLayer, heads=2, dropout=0.0, feed=16)
    head = ResidualHead(16, 8, 8, 3, 5, 1, layer).eval()
    token, real, heard = torch.randn(1, 4, 8), torch.ones(1, 4, dtype=torch.bool), torch.ones(1, 16, dtype=torch.bool)
    memory = head.remember(torch.randn(1, 16, 8))
    logits, latents = head(token, memory, real, heard)
    assert logits.shape == (1, 4, 3, 5)
    assert torch.equal(latents[:, :, 0], token)
    head.decoders[0][0].norm_feed.bias.add_(1.0)  # only the second layer and what follows may change
    changed, _ = head(token, memory, real, heard)
    assert [torch.equal(logits[:, :, q], changed[:, :, q]) for q in range(3)] == [True, False, False]
    assert ResidualHead(16, 8, 8, 1, 5, 1, layer).remember(torch.randn(1, 16, 8)) is None


@pytest.mark.parametrize("masker", [LossBased(0.5), SpeechQueried(0.5), None])
def test_every_strategy_runs_on_it(masker):
    passes = {} if masker else {"passes": (mm.Pass("seed", "seed"),), "semantic": 0.0}
    generator = build(masker=masker, **passes)
    assert all(bool(value.isfinite()) for value in learn(generator).values())
    if isinstance(masker, SpeechQueried):
        batch = example_batch()
        scores = attention_scores(generator.eval().teacher_attention(batch))
        assert torch.allclose(scores.sum(1), batch.valid.sum(1).float(), atol=1e-3)


@pytest.mark.parametrize("attended", [(), ("feet",), ("face", "face")])
def test_attended_parts_are_parts(attended):
    with pytest.raises(ValueError, match="attended names parts of the body, each once"):
        build(attended=attended)


def test_it_needs_speech_and_takes_a_speaker_a_branch():
    one = example_generator()
    speaker = one.conditioners["speaker"]
    with pytest.raises(ValueError, match="needs a condition of speech, got speaker"):
        EchoMask(one.body, {"speaker": speaker}, one.masker, **SIZES)
    mel = one.conditioners["mel"]
    both = EchoMask(one.body, {"mel": mel, "face_speaker": speaker, "body_speaker": speaker}, one.masker, **SIZES)
    assert both.who == {FACE: "face_speaker", "body": "body_speaker"}
    nobody = EchoMask(one.body, {"mel": mel}, one.masker, **SIZES).eval()
    assert nobody.who == {FACE: None, "body": None}
    assert predict(nobody, example_batch()).logits["face"].isfinite().all()


def test_further_data_sets_have_heads_of_their_own():
    generator = build()
    lacking = {part: columns for part, columns in SMPLX.columns.items() if part != "face"}
    from maskmotion.motion.layout import BodyLayout

    body = BodyTokenizer(tokenizers(quantizer=lambda dim: RVQ(dim, 16, 2), parts=lacking), BodyLayout(lacking))
    own = Several(generator, {"other": body}).of(1)
    batch = example_batch()
    assert set(predict(own, batch).logits) == set(BODY)
    assert own.heads["upper"] is not generator.heads["upper"]


def test_a_condition_shorter_than_whole_tokens_is_padded(generator):
    batch = example_batch(rows=1, frames=10)
    batch = replace(batch, valid=torch.ones_like(batch.valid))
    heard = generator.hear(generator.condition(batch), batch.valid)
    assert heard.kept.valid.tolist() == [[True] * 10 + [False] * 2]
    assert isinstance(generator.condition(batch)["mel"], Condition)
    part = heard.rows(torch.tensor([0, 0]))
    assert part.kept.memory["face"].shape[0] == part.asked.steps.shape[0] == part.begun.speaker.shape[0] == 2


@pytest.mark.parametrize("option", [{"pre_norm": True}, {"speech_layers": 1}, {"direct": True}, {"normalise": True}])
@torch.no_grad()
def test_every_option_for_small_networks_changes_what_is_said(option, generator):
    batch, changed = example_batch(), build(**option)
    changed.load_state_dict(generator.state_dict(), strict=False)
    one, other = (predict(each, batch).logits["hands"] for each in (generator, changed))
    assert other.isfinite().all()
    assert not torch.allclose(one, other)


@torch.no_grad()
def test_layers_that_normalise_before_keep_what_they_are_given():
    torch.manual_seed(0)
    x, memory = 100 * torch.randn(1, 5, 8), torch.randn(1, 7, 16)
    for before in (True, False):
        decoder = DecoderLayer(8, 2, 0.0, before=before)
        given = {"encoder": EncoderLayer(8, 2, 0.0, before=before)(x), "decoder": decoder(x, memory)}
        for name, out in given.items():
            assert (float((out - x).abs().max()) < 10) == before, name


@pytest.mark.parametrize("name", ["echomask", "echomask-release"])
def test_the_presets_train_and_generate_at_tiny_scale(name, tmp_path, hear_with, small_corpus, speech_file):
    few = {
        f"training.{stage}.{field}": value
        for stage in ("tokenizer", "root", "generator")
        for field, value in (("steps", 2), ("batch_size", 4), ("validate_every", 2))
    }
    model = mm.train(hear_with(mm.preset(name, "tiny")).but(few), small_corpus, tmp_path / "run", cache=tmp_path)
    clip = model.generate(speech_file)
    assert clip.motion.shape == (75 if name == "echomask" else 64, 437)
    assert clip.motion.isfinite().all()
