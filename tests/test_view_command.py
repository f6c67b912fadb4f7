"""`maskmotion view` and what it is made of: whose clip, which stretch, what is hidden, attended to and aligned."""

from __future__ import annotations

import re
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from typer.testing import CliRunner

import maskmotion as mm
from maskmotion.cli import app
from maskmotion.data.corpus import data_root
from maskmotion.evaluation.masks import semantic_frames
from maskmotion.strategies import attention_scores
from maskmotion.views import (
    attention_map,
    excerpt,
    joint_space,
    masking_rows,
    open_clip,
    plot_attention,
    plot_space,
    spoken,
)
from maskmotion.views.clips import first_frame, held_out
from maskmotion.views.space import JointSpace, tell

pytest.importorskip("matplotlib")
pytest.importorskip("sklearn")

DATA = "planted-v1-small"
WINDOW = 64
PAGE = Path(__file__).parents[1] / "docs" / "views.md"


def run(*arguments):
    return CliRunner().invoke(app, [str(one) for one in arguments], catch_exceptions=False)


def picture(path):
    from matplotlib.image import imread

    return imread(path)


@pytest.fixture(scope="module")
def model(quick_run):
    return mm.Model.from_pretrained(quick_run)


@pytest.fixture(scope="module")
def clip():
    return open_clip(None, DATA)


@pytest.fixture(scope="module")
def emage():
    """An untrained network without speech-to-motion attention."""
    return mm.Model.build(mm.preset("emage", "tiny")).eval()


@pytest.fixture(scope="module")
def aligned_run(tmp_path_factory, quick_recipe):
    """An untrained `tiny` that hears through `aligned`, each part in its own space."""
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("aligned")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}
    few = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    transformers.HubertModel(transformers.HubertConfig(**sizes, **few)).save_pretrained(folder / "hubert")
    speech = mm.Spec("speech", checkpoint=str(folder / "hubert"), low=1)
    heard = mm.Spec("aligned", speech=speech, dim=32, by_part=True)
    recipe = quick_recipe.but({"conditioners": {"speech": heard}})
    return mm.Model.build(recipe).save_pretrained(folder / "run")


# ------------------------------------------------------------------------------------------------ the clip


def test_a_clip_is_found_by_its_id_and_the_first_of_test_stands_for_none(clip):
    assert clip.name in held_out(DATA, 99)
    assert open_clip(clip.name, DATA).motion.equal(clip.motion)
    assert clip.audio is not None and clip.words and "semantic" in clip.labels


def test_held_out_recordings_are_evenly_chosen():
    every = held_out(DATA, 10**6)
    assert held_out(DATA, 1) == every[:1]
    few = held_out(DATA, 3)
    assert 1 <= len(few) <= 3 and set(few) <= set(every)


def test_files_of_ones_own_become_a_clip(clip, model, speech_file, tmp_path):
    made = open_clip(speech_file, model=model)
    assert made.frames == 75
    path = made.save(tmp_path / "gesture.npz")
    text = tmp_path / "said.txt"
    text.write_text("one two")
    read = open_clip(path, speech=speech_file, text=text)
    assert [word.text for word in read.words] == ["one", "two"]
    assert read.frames == 75 and len(read.audio) == 40000
    torch.testing.assert_close(read.motion[:, :330], made.motion[:, :330], atol=1e-4, rtol=0)


def test_what_is_no_clip_is_told(speech_file, tmp_path, model):
    for give, words in (
        ({"name": "nobody", "data": DATA}, "no recording 'nobody' with motion; it has 1_amaro"),
        ({"name": speech_file}, "a speech file has no motion"),
        ({"name": tmp_path / "a.npz"}, "a motion file holds no sound; name its speech too"),
        ({"name": "1_amaro_0_3_3", "speech": speech_file}, "speech and text go with a file of your own"),
        ({"name": None, "text": tmp_path / "a.txt"}, "speech and text go with a file of your own"),
    ):
        with pytest.raises(ValueError, match=words):
            open_clip(**give)
    with pytest.raises(FileNotFoundError, match="no data at"):
        open_clip("one", tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="no such audio file"):
        open_clip(tmp_path / "none.wav", model=model)


def test_an_excerpt_has_meaning_and_the_lack_of_it(clip):
    short = excerpt(clip, WINDOW / 30)
    assert short.frames == WINDOW
    share = float(semantic_frames(short.labels).float().mean())
    assert 0.3 < share < 0.7
    first = first_frame(clip, WINDOW)
    assert short.motion.equal(clip.motion[first : first + WINDOW])
    assert short.name == f"{clip.name} from {first // 30} s on"
    plain = replace(clip, labels={})
    assert excerpt(plain, 2).motion.equal(clip.motion[:60])
    assert excerpt(clip, 1e6) is clip


def test_an_excerpt_starts_where_it_is_told(clip):
    part = excerpt(clip, 1, 2.5)
    assert part.motion.equal(clip.motion[75:105])
    assert len(part.audio) == 16000
    end = clip.frames / 30
    assert excerpt(clip, 1, end - 0.1).motion.equal(clip.motion[-30:])  # as late as it goes
    with pytest.raises(ValueError, match=f"lasts {end:.2f} s, so nothing starts at 1e\\+06 s"):
        excerpt(clip, 1, 1e6)
    with pytest.raises(ValueError, match="at least one frame"):
        excerpt(clip, 0.001)


# ------------------------------------------------------------------------------------------------ masks


def test_one_model_is_the_teacher_of_three_strategies(model, clip):
    shown = excerpt(clip, 3 * WINDOW / 30)
    rows = masking_rows({"a": model}, shown)
    assert list(rows) == ["random", "loss_based", "speech_queried"]
    for scores, hidden in rows.values():
        windows = hidden.view(3, WINDOW)
        assert windows.sum(1).tolist() == [32, 32, 32]  # half, as the recipe's own masker hides
        # what is hidden scores highest, and scores compare within a window
        ranked = scores.view(3, WINDOW)
        lowest, highest = (
            ranked.masked_fill(~windows, torch.inf).amin(1),
            ranked.masked_fill(windows, -torch.inf).amax(1),
        )
        assert (lowest >= highest - 1e-5).all()
        torch.testing.assert_close(ranked.mean(1), torch.zeros(3), atol=1e-4, rtol=0)
    few = masking_rows({"a": model}, shown, ["span", "own"], ratio=0.25)
    assert few["span"][1].sum() == 48 and few["own"][1].sum() == 96


def test_the_last_window_of_a_clip_ends_with_it_and_short_clips_have_one(model, clip):
    for frames in (WINDOW + 10, 40):
        shown = excerpt(clip, frames / 30, 0)
        ((scores, hidden),) = masking_rows({"a": model}, shown, ["speech_queried"]).values()
        assert len(scores) == len(hidden) == frames
        assert scores.isfinite().all()
        assert hidden[-WINDOW:].sum() == round(min(frames, WINDOW) / 2)


def test_several_models_are_compared_by_their_own_maskers(model, clip):
    shown = excerpt(clip, WINDOW / 30)
    assert list(masking_rows({"a": model, "b": model}, shown)) == ["a", "b"]
    rows = masking_rows({"a": model, "b": model}, shown, ["random", "span"])
    assert list(rows) == ["a: random", "a: span", "b: random", "b: span"]
    assert rows["a: random"][1].equal(rows["b: random"][1])  # the same chance for every model


def test_a_model_without_attention_has_no_speech_queried_row(emage, clip):
    shown = excerpt(clip, WINDOW / 30)
    with pytest.warns(UserWarning, match="no row speech_queried: .* predicts no attention"):
        assert list(masking_rows({"emage": emage}, shown)) == ["random", "loss_based"]
    with pytest.raises(ValueError, match="predicts no attention"):
        masking_rows({"emage": emage}, shown, ["speech_queried"])
    with pytest.raises(mm.RecipeError, match="speech_quereid"):
        masking_rows({"emage": emage}, shown, ["speech_quereid"])


def test_the_teacher_is_asked_once_for_all_rows(model, clip, monkeypatch):
    calls, attend = [], model.generator.teacher_attention
    monkeypatch.setattr(model.generator, "teacher_attention", lambda batch: calls.append(1) or attend(batch), False)
    masking_rows({"a": model}, excerpt(clip, WINDOW / 30), ["speech_queried"])
    assert calls == [1]


def test_the_command_draws_masks(quick_run, tmp_path):
    out = tmp_path / "m.png"
    done = run("view", "masks", quick_run, "--data", DATA, "-o", out)
    assert done.exit_code == 0 and str(out) in done.output.replace("\n", "")
    two = tmp_path / "two.png"
    clip = held_out(DATA, 1)[0]
    more = ["--clip", clip, "--start", 1, "--seconds", 3, "--masker", "random"]
    run("view", "masks", quick_run, shutil.copytree(quick_run, tmp_path / "other"), "--data", DATA, *more, "-o", two)
    assert picture(two).shape[0] < picture(out).shape[0]  # two rows, not three
    assert picture(two).shape[1] == picture(out).shape[1]


# ------------------------------------------------------------------------------------------------ attention


def test_an_attention_map_is_the_teachers_in_that_window(model, clip):
    found, shown = attention_map(model, clip, 2.0)
    assert list(found) == ["body"] and found["body"].shape == (WINDOW, WINDOW)
    torch.testing.assert_close(found["body"].sum(1), torch.ones(WINDOW))
    assert shown.motion.equal(clip.motion[60 : 60 + WINDOW])
    # speech of the window alone: its middle, where convolutions do not reach beyond it, looks alike
    rows = masking_rows({"a": model}, shown, ["speech_queried"])["speech_queried"][0]
    scores = attention_scores({"body": found["body"][None]})[0]
    assert float(np.corrcoef(rows, scores)[0, 1]) > 0.95


def test_a_clip_shorter_than_a_window_has_a_smaller_map(model, clip):
    short = excerpt(clip, 1, 0)
    found, shown = attention_map(model, short)
    assert found["body"].shape == (30, 30) and shown is short
    torch.testing.assert_close(found["body"].sum(1), torch.ones(30))


def test_a_model_without_attention_says_so(emage, clip):
    with pytest.raises(ValueError, match="emage has no speech-to-motion attention to show .*'tiny' or 'echomask'"):
        attention_map(emage, clip)


def attention_of(parts, frames=WINDOW, bright=slice(16, 32)):
    weights = torch.full((frames, frames), 1e-3)
    weights[:, bright] = 1.0
    weights = weights / weights.sum(1, keepdim=True)
    return dict.fromkeys(parts, weights)


def given(frames=WINDOW):
    semantic = torch.zeros(frames)
    semantic[16:32] = 0.9
    return {"audio": torch.zeros(frames * 16000 // 30), "fps": 30, "semantic": semantic}


def test_the_bright_columns_are_where_attention_is(tmp_path):
    pixels = picture(plot_attention(tmp_path / "a.png", attention=attention_of(["body"]), **given()))
    dark = (pixels[..., 0] < 0.2) & (pixels[..., 2] > 0.3)  # the map's darkest blue
    columns = np.flatnonzero(dark[: pixels.shape[0] * 3 // 4].sum(0) > 300)
    left = columns[columns < 650]  # beside the map stands the colour bar
    width = 4.3 * 110
    assert left.max() - left.min() == pytest.approx(width / 4, abs=4)
    orange = (pixels[..., 0] > 0.85) & (pixels[..., 2] < 0.1)  # the strip above marks the same frames
    above = np.flatnonzero(orange[: int(1.2 * 110)].sum(0) > 5)
    assert above.min() == pytest.approx(left.min(), abs=3)
    assert above.max() == pytest.approx(left.max(), abs=3)


def test_parts_have_maps_beside_the_one_they_make_together(tmp_path):
    one = picture(plot_attention(tmp_path / "one.png", attention=attention_of(["body"]), **given()))
    four = attention_of(["face", "upper", "hands", "lower"])
    pixels = picture(plot_attention(tmp_path / "four.png", attention=four, **given()))
    assert pixels.shape[1] > one.shape[1] + 300
    dark = ((pixels[..., 0] < 0.2) & (pixels[..., 2] > 0.3)).sum(0) > 300
    assert dark[one.shape[1] :].sum() > 60  # the bright frames of the small maps


def test_an_attention_picture_refuses_what_does_not_fit(tmp_path):
    maps = {"face": torch.eye(8), "upper": torch.eye(9)}
    for attention, words in (({}, "got none"), (maps, "one T for all parts"), ({"a": torch.ones(8, 9) / 9}, "one T")):
        with pytest.raises(ValueError, match=words):
            plot_attention(tmp_path / "a.png", attention=attention, **given(8))
    with pytest.raises(ValueError, match="semantic has 8 frames, the attention 64"):
        plot_attention(tmp_path / "a.png", attention=attention_of(["body"]), **given(8))
    assert list(tmp_path.iterdir()) == []


def test_the_command_draws_attention(quick_run, model, clip, speech_file, tmp_path):
    out = tmp_path / "a.png"
    done = run("view", "attention", quick_run, "--data", DATA, "--clip", clip.name, "--start", 2, "-o", out)
    assert done.exit_code == 0
    found, shown = attention_map(model, clip, 2.0)
    title = f"{Path(quick_run).name}: {shown.name}"
    again = plot_attention(tmp_path / "b.png", attention=found, title=title, **spoken(shown))
    assert np.array_equal(picture(out), picture(again))
    made = tmp_path / "c.png"
    assert run("view", "attention", quick_run, "--clip", speech_file, "-o", made).exit_code == 0
    assert made.is_file()


# ------------------------------------------------------------------------------------------------ space


def tokens(windows=6, count=16, width=8, seed=0):
    return torch.randn(windows, count, width, generator=torch.Generator().manual_seed(seed))


def space_of(speech, motion, hubert=None, recording=None):
    recording = torch.zeros(len(speech), dtype=torch.int64) if recording is None else torch.tensor(recording)
    return JointSpace(speech, motion, motion if hubert is None else hubert, recording)


def test_speech_that_is_its_motion_finds_it_everywhere():
    same = tokens()
    found = space_of(same, 3 * same).measures()
    assert found["in_time"] == found["across"] == 1
    assert found["own"] == pytest.approx(1)
    assert (found["in_time_chance"], found["across_chance"]) == (1 / 16, pytest.approx(1 / 6))
    unit = F.normalize(same, dim=-1)
    pairs = torch.einsum("wnc,wmc->wnm", unit, unit)
    assert found["other_time"] == pytest.approx(float((pairs.sum() - 96) / (6 * 16 * 15)), abs=1e-5)
    places = torch.einsum("wnc,vnc->nwv", unit, unit)
    assert found["other_window"] == pytest.approx(float((places.sum() - 96) / (16 * 6 * 5)), abs=1e-5)


def test_positions_alone_find_the_moment_and_not_the_window():
    place = tokens(1).expand(6, -1, -1)  # the same sixteen tokens in every window
    found = space_of(place, place).measures()
    assert found["in_time"] == 1
    assert found["across"] == pytest.approx(1 / 6)  # ties count by chance
    assert found["other_window"] == pytest.approx(1)


def test_a_voice_that_tells_the_recording_finds_no_window_in_it():
    voices = tokens(2).repeat_interleave(3, dim=0)  # two recordings of three windows each, all alike
    found = space_of(voices, voices, recording=[0, 0, 0, 1, 1, 1]).measures()
    assert found["across"] == found["across_chance"] == pytest.approx(1 / 3)
    assert found["other_window"] == pytest.approx(1)  # of the own recording only


def test_speech_without_motion_finds_nothing():
    found = space_of(tokens(200), tokens(200, seed=1)).measures()
    assert found["in_time"] == pytest.approx(1 / 16, abs=0.02)
    assert found["across"] == pytest.approx(1 / 200, abs=0.01)
    assert abs(found["own"]) < 0.03


def test_the_joint_space_has_every_stage_of_every_part(aligned_run, clip):
    model = mm.Model.from_pretrained(aligned_run)
    spaces = joint_space(model, [clip])
    assert list(spaces) == list(model.body.parts)
    whole = clip.frames // WINDOW
    for stages in spaces.values():
        assert list(stages) == ["queries", "low", "high", "aligned"]
        for space in stages.values():
            assert space.speech.shape == space.motion.shape == space.hubert.shape == (whole, 16, 32)
        # queries know nothing of the window, so they find it by chance
        assert stages["queries"].measures()["across"] == pytest.approx(1 / whole, abs=1e-6)
        assert not stages["queries"].motion.equal(stages["aligned"].motion)
        assert stages["low"].motion.equal(stages["high"].motion)
    again = joint_space(model, [excerpt(clip, 3, 0), clip])["face"]["aligned"]  # the first has one window
    assert again.recording.tolist() == [1] * whole
    torch.testing.assert_close(again.speech, spaces["face"]["aligned"].speech)
    lines = tell(spaces)
    assert len(lines) == 1 + 4 * 4 and lines[-1].split()[:2] == ["lower", "aligned"]


def test_a_space_without_motion_or_windows_says_what_is_needed(model, aligned_run, clip):
    with pytest.raises(ValueError, match="no joint space .* conditioners are mel, rhythm, speaker, .* 'aligned'"):
        joint_space(model, [clip])
    aligned = mm.Model.from_pretrained(aligned_run)
    with pytest.raises(ValueError, match="whole windows of 2.13 s .* at least one clip must have two"):
        joint_space(aligned, [excerpt(clip, 3, 0)])
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_space("never.png", stages={})


def test_the_same_seed_draws_the_same_picture(tmp_path):
    one = space_of(tokens(), tokens(seed=1), tokens(seed=2))
    files = [
        plot_space(tmp_path / f"{number}.png", stages={"aligned": one}, windows=2, seed=seed)
        for number, seed in enumerate((0, 0, 1))
    ]
    first, second, other = (picture(file) for file in files)
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_points_that_coincide_and_few_points_are_drawn(tmp_path):
    place = torch.zeros(2, 2, 4) + torch.tensor([1.0, 0, 0, 0])
    space = space_of(place, tokens(2, 2, 4), tokens(2, 2, 4, seed=1))
    assert plot_space(tmp_path / "s.png", stages={"queries": space}).is_file()


def test_without_scikit_learn_the_extra_is_named(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match=r"scikit-learn, which is not installed: pip install maskmotion\[viz\]"):
        plot_space(tmp_path / "s.png", stages={"aligned": space_of(tokens(), tokens())})
    assert list(tmp_path.iterdir()) == []


def test_the_command_draws_the_space_and_tells_its_numbers(aligned_run, clip, tmp_path):
    out = tmp_path / "s.png"
    more = ["--data", DATA, "--clip", clip.name, "--windows", 2, "--part", "hands", "-o", out]
    done = run("view", "space", aligned_run, *more)
    assert done.exit_code == 0 and out.is_file()
    rows = [line.split() for line in done.output.splitlines()]
    assert ["hands", "aligned"] in [row[:2] for row in rows]
    refused = CliRunner().invoke(app, [str(one) for one in ("view", "space", aligned_run, *more[:4], "--part", "tail")])
    assert refused.exit_code == 2 and "has: face, upper, hands, lower" in " ".join(refused.output.split())


# ------------------------------------------------------------------------------------------------ the page


@pytest.mark.skipif(not PAGE.is_file(), reason="no page")
def test_the_python_of_the_page_about_the_space_runs(aligned_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(aligned_run, "runs/echomask")
    (code,) = re.findall(r"^```py\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    exec(compile(code.replace('"planted"', f'"{DATA}"'), "docs/views.md", "exec"), {"__name__": "page"})
    assert list(Path().glob("*.png"))
    assert data_root(DATA).is_dir()
