"""One loop for every stage: it learns, resumes exactly, keeps the best, and never harms a folder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

import maskmotion as mm
from maskmotion.config import Training
from maskmotion.data.windows import WindowDataset
from maskmotion.testing import example_generator
from maskmotion.training import checkpoint as checkpoints
from maskmotion.training.ema import EMA
from maskmotion.training.loop import TrainingDiverged, fit, lr_share, window_indices
from maskmotion.training.runs import read_log

WEIGHTS = "model.safetensors"


def same_state(one: torch.nn.Module, two: torch.nn.Module) -> bool:
    a, b = one.state_dict(), two.state_dict()
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


class Stop(Exception):
    """Stands for a killed process."""


def test_a_run_leaves_a_model_a_log_and_no_checkpoints(quick_run):
    names = {path.name for path in quick_run.iterdir()}
    assert names == {"recipe.json", "run.json", "log.jsonl", WEIGHTS, "plugins.json"}
    rows = read_log(quick_run / "log.jsonl")
    assert {row["stage"] for row in rows} == {"tokenizer", "root", "generator"}
    validated = [row for row in rows if row["stage"] == "generator" and "validation" in row]
    assert {"loss", "lift", "seed/codes"} <= set(validated[-1]["validation"])


def test_a_finished_run_is_loaded_not_trained_again(quick_run, quick_recipe, small_corpus):
    before = (quick_run / WEIGHTS).stat().st_mtime_ns
    again = mm.train(quick_recipe, small_corpus, quick_run)
    assert (quick_run / WEIGHTS).stat().st_mtime_ns == before
    assert same_state(again, mm.Model.from_pretrained(quick_run))


@pytest.mark.parametrize(("stage", "stop_at"), [("tokenizer", 4), ("generator", 3)])
def test_an_interrupted_run_goes_on_exactly(
    tmp_path, quick_run, quick_recipe, small_corpus, monkeypatch, stage, stop_at
):
    from maskmotion.training import runs

    original = runs.Log.losses

    def stopping(self, step, losses):
        if self.stage == stage and step == stop_at:
            raise Stop
        original(self, step, losses)

    with monkeypatch.context() as patch:
        patch.setattr(runs.Log, "losses", stopping)
        with pytest.raises(Stop):
            mm.train(quick_recipe, small_corpus, tmp_path / "run")
    torch.manual_seed(12345)  # whatever happened in between
    resumed = mm.train(quick_recipe, small_corpus, tmp_path / "run")
    assert same_state(resumed, mm.Model.from_pretrained(quick_run))

    def told(folder):
        return [
            (r["stage"], r["step"], r.get("validation")) for r in read_log(folder / "log.jsonl") if "validation" in r
        ]

    assert told(tmp_path / "run") == told(quick_run)


def test_training_does_not_disturb_the_users_random_numbers(tmp_path, quick_recipe, small_corpus):
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    mm.train(quick_recipe, small_corpus, tmp_path / "run", only=["tokenizer"])
    assert torch.equal(torch.rand(2), expected)


def test_tokenizers_of_another_run_are_taken_over(tmp_path, quick_run, quick_recipe, small_corpus):
    recipe = quick_recipe.but({"masker": "span"})
    model = mm.train(recipe, small_corpus, tmp_path / "span", tokenizer=quick_run)
    first = mm.Model.from_pretrained(quick_run)
    assert same_state(model.body, first.body)
    assert same_state(model.root, first.root)
    with pytest.raises(mm.RunError, match="another `tokenizer`"):
        mm.train(recipe.but({"tokenizer.width": 8}), small_corpus, tmp_path / "other", tokenizer=quick_run)


def test_the_tokenizers_do_not_move_while_the_generator_learns(quick_run, tmp_path, quick_recipe, small_corpus):
    only = mm.train(quick_recipe, small_corpus, tmp_path / "run", only=["tokenizer", "root"])
    assert same_state(only.body, mm.Model.from_pretrained(quick_run).body)


def test_a_folder_of_another_recipe_or_other_data_is_refused(quick_run, quick_recipe, small_corpus):
    with pytest.raises(mm.RunError, match=r"another recipe \(differs in masker.ratio=0.7\); give another --run"):
        mm.train(quick_recipe.but({"masker.ratio": 0.7}), small_corpus, quick_run)
    other = mm.Corpus("other", small_corpus.train[:1], small_corpus.validation)
    with pytest.raises(mm.RunError, match="was trained on"):
        mm.train(quick_recipe, other, quick_run)


def test_folders_that_cannot_be_used(tmp_path, quick_recipe, small_corpus):
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("precious")
    with pytest.raises(mm.RunError, match="not empty and holds no run"):
        mm.train(quick_recipe, small_corpus, full)
    assert (full / "thesis.txt").read_text() == "precious"
    with pytest.raises(mm.RunError, match="is a file"):
        mm.train(quick_recipe, small_corpus, full / "thesis.txt")
    with pytest.raises(mm.RunError, match="cannot write"):
        mm.train(quick_recipe, small_corpus, "/proc/maskmotion")  # read-only, for root too


def test_a_full_disk_loses_nothing(tmp_path, monkeypatch):
    from safetensors import torch as safetensors_torch

    path = tmp_path / "checkpoint.safetensors"
    checkpoints.write_tensors(path, {"a": torch.ones(3)}, {"step": 1})

    def full(_, path, **__):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(safetensors_torch, "save_file", full)
    with pytest.raises(mm.RunError, match="No space left on device.*What was saved before is untouched"):
        checkpoints.write_tensors(path, {"a": torch.zeros(3)}, {"step": 2})
    tensors, about = checkpoints.read_tensors(path)
    assert tensors["a"].tolist() == [1, 1, 1]
    assert about == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.safetensors"]


def test_a_damaged_checkpoint_says_so(tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    checkpoints.write_tensors(path, {"a": torch.ones(300)})
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(mm.RunError, match="is damaged"):
        checkpoints.read_tensors(path)


def test_a_log_cut_short_by_a_crash_is_still_read(tmp_path):
    (tmp_path / "log.jsonl").write_text(json.dumps({"stage": "root", "step": 10}) + '\n{"stage": "ro')
    assert read_log(tmp_path / "log.jsonl") == [{"stage": "root", "step": 10}]


def test_the_learning_rate_warms_up_and_decays():
    config = Training(steps=100, warmup=0.1, decay="cosine")
    shares = [lr_share(step, config) for step in range(100)]
    assert max(shares) == shares[10] == 1.0
    assert all(a < b for a, b in zip(shares[:10], shares[1:11]))
    assert all(a >= b for a, b in zip(shares[10:], shares[11:]))
    assert shares[-1] < 0.01
    flat = Training(steps=10, warmup=0.0, decay="constant")
    assert {lr_share(step, flat) for step in range(10)} == {1.0}


def test_batches_depend_on_step_and_seed_alone_and_cover_an_epoch():
    epoch = [i for number in range(5) for i in window_indices(number, 4, 20, 0, "generator")]
    assert sorted(epoch) == list(range(20))
    assert window_indices(7, 4, 20, 0, "generator") == window_indices(7, 4, 20, 0, "generator")
    assert window_indices(0, 4, 20, 0, "generator") != window_indices(0, 4, 20, 1, "generator")
    assert len(window_indices(0, 50, 20, 0, "generator")) == 50, "a batch may be larger than the data"


def test_accumulation_uses_as_many_windows_as_a_large_batch(small_corpus):
    seen = []

    class Spy(WindowDataset):
        def batch(self, indices):
            seen.append(list(indices))
            return super().batch(indices)

    model = mm.Model.build(mm.preset("tiny"))
    data = Spy(small_corpus.train, 64, 20)
    fit(model.root, data, Training(steps=2, batch_size=4, accumulate=3), stage="root", show=False)
    assert [len(indices) for indices in seen] == [4] * 6
    assert seen[3] == window_indices(3, 4, len(data), 0, "root")


def test_gradients_are_clipped_after_backward(small_corpus, monkeypatch):
    model = mm.Model.build(mm.preset("tiny"))
    data = WindowDataset(small_corpus.train, 64, 20)
    norms = []
    original = torch.nn.utils.clip_grad_norm_

    def clip(parameters, limit, *args, **kwargs):
        parameters = list(parameters)
        norm = original(parameters, limit, *args, **kwargs)
        after = torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm()
        norms.append((float(norm), float(after)))
        return norm

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", clip)
    fit(model.root, data, Training(steps=3, batch_size=4, grad_norm=0.01), stage="root", show=False)
    assert len(norms) == 3
    assert all(before > 0.01 and after <= 0.0101 for before, after in norms)


def test_a_loss_that_is_not_a_number_stops_with_its_name(small_corpus):
    model = mm.Model.build(mm.preset("tiny"))
    model.root.residual.leave.conv.bias.data[0] = float("nan")
    with pytest.raises(TrainingDiverged, match=r"root, step 1: loss .*velocity.* lower training.root.lr"):
        fit(model.root, WindowDataset(small_corpus.train, 64, 20), Training(steps=1), stage="root", show=False)


def test_the_best_measured_weights_are_returned(small_corpus):
    model = mm.Model.build(mm.preset("tiny"))
    values, states = iter([3.0, 1.0, 2.0]), []

    def measure(network, progress):
        states.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"loss": next(values)}

    data = WindowDataset(small_corpus.train, 64, 20)
    config = Training(steps=3, batch_size=4, validate_every=1, lr=1e-2)
    best = fit(model.root, data, config, stage="root", measure=measure, show=False)
    assert all(torch.equal(best.state_dict()[name], states[1][name]) for name in states[1])


def test_the_average_warms_up_shares_what_is_frozen_and_copies_buffers():
    generator = example_generator().train()
    ema = EMA(generator, 0.99)
    assert ema.model.body is generator.body, "frozen tokenizers are not copied"
    assert ema.model.motion_in.weight is not generator.motion_in.weight
    assert not any(p.requires_grad for p in ema.model.parameters())
    before = ema.model.motion_in.weight.clone()
    with torch.no_grad():
        generator.motion_in.weight += 1.0
    ema.update(generator, 0)
    assert torch.allclose(ema.model.motion_in.weight, before + 0.9)  # decay 1/10 at step 0
    assert EMA(generator, None).model is generator


def test_the_teacher_gets_no_gradient():
    from maskmotion.strategies import LossBased, SpeechQueried
    from maskmotion.testing import example_batch

    for masker in (LossBased(0.5), SpeechQueried(0.5)):
        student = example_generator().train()
        student.masker = masker
        teacher = EMA(student, 0.99).model
        losses = student(example_batch(), teacher=teacher, progress=0.5, stage="generator")
        sum(losses.values()).backward()
        assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.slow
def test_tiny_halves_its_losses_on_the_planted_corpus(tmp_path, small_corpus):
    recipe = mm.preset("tiny").but({"training.tokenizer.steps": 150, "training.generator.steps": 150})
    mm.train(recipe, small_corpus, tmp_path / "run")
    rows = [row for row in read_log(tmp_path / "run" / "log.jsonl") if "losses" in row]
    for stage, name in (("tokenizer", "upper/reconstruction"), ("generator", "speech/latents")):
        losses = [row["losses"][name] for row in rows if row["stage"] == stage]
        assert losses[-1] < 0.5 * losses[0]


def test_the_tokenizers_are_frozen_after_every_stage(quick_recipe, small_corpus, tmp_path):
    few = {f"training.{stage}.steps": 1 for stage in quick_recipe.training}
    model = mm.train(quick_recipe.but(few), small_corpus, tmp_path / "run")
    assert not any(weight.requires_grad for weight in model.body.parameters())
    assert any(weight.requires_grad for weight in model.generator.parameters())
