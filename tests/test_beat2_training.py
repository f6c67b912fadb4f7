"""The main job on real input: learn one BEAT2 take, measure on its held-out end, generate for other real speech."""

from __future__ import annotations

import pytest
import torch

import maskmotion as mm
from maskmotion.data.beat2 import load_clip
from maskmotion.data.features import FeatureCache
from maskmotion.data.windows import WindowDataset, split_time
from maskmotion.evaluation.bench import reconstruct
from maskmotion.motion.files import read_motion
from maskmotion.motion.kinematics import forward_kinematics
from maskmotion.training.measure import measure_losses
from maskmotion.training.runs import read_log
from maskmotion.training.stages import take_tokenizers

STEPS = {"training.tokenizer.steps": 160, "training.root.steps": 60, "training.generator.steps": 120}


@pytest.fixture(scope="module")
def corpus(beat2) -> mm.Corpus:
    """First 48 s to learn, last 12 s to measure."""
    clip = load_clip(beat2, "2_scott_0_1_1")
    first, _ = split_time(clip, 48.0)
    _, last = split_time(clip, clip.frames / clip.fps - 12.0)
    return mm.Corpus("scott", [first], [last])


@pytest.fixture(scope="module")
def trained(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("beat2") / "run"
    return mm.train(mm.preset("tiny").but(STEPS), corpus, folder), folder


def joint_error(model: mm.Model, motion: torch.Tensor) -> torch.Tensor:
    """Mean distance of every joint in centimetres after a motion went through the tokenizers; root at its true place."""

    def positions(some: torch.Tensor) -> torch.Tensor:
        return forward_kinematics(some[:, :330].unflatten(-1, (-1, 6)), motion[:, 330:333])

    return 100 * (positions(reconstruct(model, motion)) - positions(motion)).norm(dim=-1).mean()


def test_losses_fall(trained):
    _, folder = trained
    held_out = {}
    for row in read_log(folder / "log.jsonl"):
        if "validation" in row:
            held_out.setdefault(row["stage"], []).append(row["validation"])
    reconstruction = [sum(v for k, v in row.items() if k.endswith("reconstruction")) for row in held_out["tokenizer"]]
    assert reconstruction[-1] < 0.8 * reconstruction[0]
    rows = [row["losses"] for row in read_log(folder / "log.jsonl") if row["stage"] == "generator" and "losses" in row]
    assert rows[-1]["speech/codes"] < 0.8 * rows[0]["speech/codes"]


def test_masked_prediction_of_the_held_out_end_improves(trained, corpus):
    """48 s teach latents, not codes: held-out class loss stays near log 64 = 4.16 and must only beat an untrained network."""
    model, folder = trained
    untrained = mm.Model.build(model.recipe)
    take_tokenizers(untrained, folder)
    data = WindowDataset(corpus.validation, 64, 16, model.extractors, FeatureCache(None))

    def held_out(some: mm.Model) -> dict[str, float]:
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(0)
            return measure_losses(some.generator.eval(), 1.0, data)

    before, after = held_out(untrained), held_out(model)
    print({name: f"{before[name]:.2f} -> {after[name]:.2f}" for name in before})
    assert after["speech/latents"] < 0.8 < before["speech/latents"], "1 is what the mean latent would score"
    assert after["speech/codes"] < before["speech/codes"]


def test_the_tokenizers_joint_error_is_known_in_centimetres(trained, corpus):
    model, _ = trained
    error = joint_error(model, corpus.validation[0].motion)
    mean = model.rest_pose().expand(corpus.validation[0].frames, -1)
    still = (
        100
        * (
            forward_kinematics(mean[:, :330].unflatten(-1, (-1, 6)), corpus.validation[0].motion[:, 330:333])
            - forward_kinematics(
                corpus.validation[0].motion[:, :330].unflatten(-1, (-1, 6)), corpus.validation[0].motion[:, 330:333]
            )
        )
        .norm(dim=-1)
        .mean()
    )
    print(f"mean joint error on the last 12 s: tokenizers {error:.2f} cm, mean pose {still:.2f} cm")
    assert error < 0.8 * still


def test_real_speech_becomes_a_motion_file(trained, beat2, tmp_path):
    _, folder = trained
    model = mm.Model.from_pretrained(folder)
    clip = model.generate(beat2 / "wave16k" / "2_scott_0_2_2.wav", speaker=1)
    motion = read_motion(clip.save(tmp_path / "out.npz"))
    import soundfile

    assert len(motion.poses) == soundfile.info(beat2 / "wave16k" / "2_scott_0_2_2.wav").frames * 30 // 16000


def test_a_tree_of_one_recording_holds_out_its_end(beat2):
    corpus = mm.open_corpus(beat2)
    assert len(corpus.train) == len(corpus.validation) == 1
    assert not corpus.test
    whole = load_clip(beat2, "2_scott_0_1_1").frames
    assert corpus.validation[0].frames == pytest.approx(0.2 * whole, abs=2)
    assert corpus.train[0].frames + corpus.validation[0].frames <= whole - 63
