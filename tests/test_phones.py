"""The small HuBERT of the planted corpus: what it learns from, that it learns, and that a name finds it."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import soundfile
import torch
from hubert_folder import write_hubert
from typer.testing import CliRunner

from maskmotion.cli import app
from maskmotion.conditioners import Speech
from maskmotion.conditioners.hubert import FIELD, STEP, planted_folder
from maskmotion.conditioners.speech import HubertLayers
from maskmotion.data.beat2 import Recording, load_split, recordings
from maskmotion.data.planted import planted_root
from maskmotion.data.textgrid import read_textgrid
from maskmotion.errors import is_expected
from maskmotion.training import phones
from maskmotion.training.phones import Spoken, build_speech, edit_distance, phone_error_rate, read_spoken, train_phones
from maskmotion.types import SAMPLE_RATE

SMALL = "planted-v1-small"


@pytest.fixture(scope="module")
def symbols():
    return json.loads((planted_root(name=SMALL) / "planted.json").read_text())["phones"]


@pytest.fixture(scope="module")
def spoken(symbols):
    return [read_spoken(row, symbols) for row in recordings(planted_root(name=SMALL), "train")[:2]]


@pytest.fixture(scope="module")
def encoder(tmp_path_factory):
    """Three steps on the small corpus: to see what is written."""
    return build_speech(tmp_path_factory.mktemp("speech") / "three", SMALL, steps=3, show=False)


# ------------------------------------------------------------------------------------------------ what is learned from


def test_each_step_has_the_phone_of_its_centre(spoken, symbols):
    row = recordings(planted_root(name=SMALL), "train")[0]
    one, marks = spoken[0], read_textgrid(row.textgrid)["phones"]
    assert [symbols[number - 1] for number in one.phones.tolist()] == [mark.text for mark in marks]
    assert len(one.said) == 1 + (len(one.audio) - FIELD) // STEP
    for step in range(0, len(one.said), 7):
        time = (STEP * step + FIELD / 2) / SAMPLE_RATE
        inside = [place for place, mark in enumerate(marks) if mark.start <= time < mark.end]
        assert [int(one.said[step])] == (inside or [-1])
    assert abs(float(one.audio.mean())) < 1e-4 and float(one.audio.std()) == pytest.approx(1, abs=1e-3)


def test_a_recording_without_phones_or_with_others_is_refused(tmp_path, symbols):
    from praatio import textgrid

    for folder in ("wave16k", "textgrid"):
        (tmp_path / folder).mkdir()
    row = Recording(tmp_path, "1_amaro_0_1_1", "train")
    soundfile.write(row.audio, np.zeros(16000), 16000)
    for tier, phone in (("words", "aa"), ("phones", "zz")):
        grid = textgrid.Textgrid(0, 1)
        grid.addTier(textgrid.IntervalTier(tier, [(0.1, 0.4, phone)], 0, 1))
        grid.save(str(row.textgrid), format="long_textgrid", includeBlankSpaces=True)
        with pytest.raises(ValueError, match="need a tier 'phones' whose marks are among aa, ae"):
            read_spoken(row, symbols)


def test_a_crop_is_one_recordings_sound_with_its_own_phones():
    """The waveform counts its samples and says whose they are, so a crop tells where it is from."""
    clips, random = [], torch.Generator().manual_seed(0)
    for number, length in enumerate((300, 170, 100)):
        said = torch.repeat_interleave(torch.arange(-1, 99), 4)[:length]  # a pause, then phones of 4 steps
        audio = torch.arange(length * STEP + FIELD - STEP, dtype=torch.float64) + number * 1e6
        clips.append(Spoken(audio, torch.arange(100) % 24 + 1, said))
    crops, seen = phones._Crops(clips), set()
    for _ in range(60):
        audio, found, begins = crops.draw(random)
        for row in range(len(audio)):
            number, first = divmod(int(audio[row, 0]), 1_000_000)
            clip, step = clips[number], first // STEP
            seen.add(number)
            assert torch.equal(audio[row], clip.audio[first : first + len(audio[row])])
            said = clip.said[step : step + found.shape[1]]
            assert torch.equal(found[row], torch.where(said < 0, 0, clip.phones[said]))
            assert torch.equal(found[row][begins[row]], clip.phones[said[said >= 0].unique_consecutive()])
    assert seen == {0, 1}  # of the third no whole step is left behind the crop


def test_speech_that_is_shorter_than_a_crop_is_refused(spoken):
    short = Spoken(spoken[0].audio[:16000], spoken[0].phones[:5], spoken[0].said[:49])
    with pytest.raises(ValueError, match="crops of 2 s and no recording is as long"):
        train_phones([short], 24, steps=1, show=False)


# ------------------------------------------------------------------------------------------------ learning


def missed(model, spoken):
    """Cross-entropy of the phone at each step's centre."""
    one = spoken[0]
    with torch.no_grad():
        logits = model(one.audio[None]).logits[0]
    return float(torch.nn.functional.cross_entropy(logits, torch.where(one.said < 0, 0, one.phones[one.said])))


def test_a_few_steps_lower_the_loss(spoken):
    before, after = (train_phones(spoken, 24, steps, show=False) for steps in (0, 12))
    assert missed(after, spoken) < missed(before, spoken) - 0.2


@pytest.mark.parametrize(
    ("found", "expected", "distance"),
    [
        ([], [], 0),
        ([1, 2], [], 2),
        ([], [1, 2, 3], 3),
        ([1, 2, 3], [1, 2, 3], 0),
        ([1, 2, 3], [1, 3], 1),
        ([1, 3], [1, 2, 3], 1),
        ([1, 9, 3], [1, 2, 3], 1),
        ([2, 3, 4, 1], [1, 2, 3, 4], 2),
        ([5, 5, 5], [1, 2, 3, 5], 3),
    ],
)
def test_edit_distance(found, expected, distance):
    assert edit_distance(torch.tensor(found, dtype=torch.long), torch.tensor(expected, dtype=torch.long)) == distance


def test_edit_distance_is_that_of_the_textbooks_table():
    random = torch.Generator().manual_seed(0)
    for _ in range(30):
        one, other = (
            torch.randint(1, 5, (int(torch.randint(12, (1,), generator=random)),), generator=random) for _ in "ab"
        )
        table = np.add.outer(np.arange(len(one) + 1), np.arange(len(other) + 1))
        for i in range(1, len(one) + 1):
            for j in range(1, len(other) + 1):
                same = table[i - 1, j - 1] + int(one[i - 1] != other[j - 1])
                table[i, j] = min(same, table[i - 1, j] + 1, table[i, j - 1] + 1)
        assert edit_distance(one, other) == table[-1, -1]


def test_the_phone_error_rate_is_of_collapsed_paths_without_pauses():
    class Says(torch.nn.Module):
        def forward(self, audio):
            path = audio[0].long()
            return type("Output", (), {"logits": torch.nn.functional.one_hot(path, 25).float()[None]})

    def clip(path, *numbers):
        return Spoken(torch.tensor(path, dtype=torch.float), torch.tensor(numbers), torch.tensor([0]))

    right = clip([0, 3, 3, 0, 3, 7, 7, 0], 3, 3, 7)
    wrong = clip([0, 3, 3, 0, 3, 7, 7, 0], 3, 7, 1, 2, 5)
    assert phone_error_rate(Says(), [right]) == 0
    assert phone_error_rate(Says(), [right, wrong]) == 4 / 8


# ------------------------------------------------------------------------------------------------ what is written


def test_the_folder_says_what_it_was_trained_on_and_which_weights_it_has(encoder):
    about = json.loads((encoder.folder / "speech.json").read_text())
    assert about == encoder.about
    assert (about["data"], about["steps"], about["seed"], about["minutes"]) == (SMALL, 3, 0, 2.0)
    assert about["sha256"] == hashlib.sha256((encoder.folder / "model.safetensors").read_bytes()).hexdigest()
    assert about["held_out_clips"] == 1 and 0.5 < about["phone_error_rate"] <= 1.5
    assert {path.name for path in encoder.folder.iterdir()} == {
        "config.json", "model.safetensors", "preprocessor_config.json", "speech.json"
    }  # fmt: skip


def test_the_same_seed_gives_the_same_weights_whatever_the_threads(encoder, tmp_path):
    state = torch.get_rng_state()
    torch.set_num_threads(2)
    try:
        same = build_speech(tmp_path / "same", SMALL, steps=3, show=False)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    other = build_speech(tmp_path / "other", SMALL, steps=3, seed=1, show=False)
    assert same.new and other.new
    assert same.about["sha256"] == encoder.about["sha256"] != other.about["sha256"]
    assert same.about["fingerprint"] == encoder.about["fingerprint"]
    assert torch.equal(torch.get_rng_state(), state)


def test_the_weights_are_the_encoders_and_hear_what_was_trained(spoken, tmp_path):
    model = train_phones(spoken, 24, steps=2, show=False)
    phones._save(model, tmp_path / "encoder", {})
    extractor = HubertLayers(str(tmp_path / "encoder"), 2, -1)
    assert extractor.hubert.normalises
    audio = spoken[0].audio[: FIELD + 99 * STEP]
    audio = (audio - audio.mean()) / (audio.var(unbiased=False) + 1e-7).sqrt()
    with torch.no_grad():
        expected = model.hubert(audio[None]).last_hidden_state[0]
    high = extractor.hubert.hear(audio)[:, extractor.hubert.size :]
    torch.testing.assert_close(high, expected, atol=1e-5, rtol=1e-4)


def test_what_is_there_is_not_trained_again(encoder, monkeypatch):
    monkeypatch.setattr(phones, "train_phones", None)
    again = build_speech(encoder.folder, SMALL, steps=3, show=False)
    assert not again.new and again.about == encoder.about
    with pytest.raises(ValueError, match="trained with .*'steps': 3.* not .*'steps': 4.*remove it"):
        build_speech(encoder.folder, SMALL, steps=4, show=False)


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match="name another folder") as caught:
        build_speech(tmp_path, SMALL, steps=1, show=False)
    assert is_expected(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_training_that_breaks_leaves_nothing(tmp_path, monkeypatch):
    def broken(*_, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("safetensors.torch.save", broken)
    with pytest.raises(KeyboardInterrupt):
        build_speech(tmp_path / "speech", SMALL, steps=1, show=False)
    assert list(tmp_path.iterdir()) == []


def test_the_command_trains_once_and_says_how_well(tmp_path):
    words = ["data", "speech", str(tmp_path / "speech"), "--name", SMALL, "--steps", "2", "--quiet"]
    first, second = (CliRunner().invoke(app, words, catch_exceptions=False) for _ in range(2))
    about = json.loads((tmp_path / "speech" / "speech.json").read_text())
    for done in (first, second):
        assert done.exit_code == 0
        assert f"phone error rate {about['phone_error_rate']:.1%} on 1 held-out clips of {SMALL}" in done.output
        assert f"sha256 {about['sha256']}" in done.output
    assert "there already" in second.output and "there already" not in first.output


# ------------------------------------------------------------------------------------------------ the name "planted"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MASKMOTION_CACHE", str(tmp_path))
    return tmp_path


def test_planted_names_the_encoder_in_the_cache(cache):
    write_hubert(planted_folder(), layers=4, seed=1)
    speech = Speech("planted", low=2)
    assert speech.dim == 16
    key = speech.extractor.key
    assert key == Speech(str(cache / "speech" / "planted-v1"), low=2).extractor.key
    write_hubert(planted_folder(), layers=4, seed=2)
    assert Speech("planted", low=2).extractor.key != key


def test_a_missing_planted_encoder_names_the_command(cache):
    with pytest.raises(FileNotFoundError, match="train it once with `maskmotion data speech`"):
        Speech("planted", low=2)


def test_the_default_folder_is_where_planted_is_looked_up(cache, monkeypatch):
    monkeypatch.setattr(phones, "planted_root", lambda name: planted_root(cache.parent, "planted-v1-small"))
    built = build_speech(steps=1, show=False)
    assert built.folder == planted_folder() == cache / "speech" / "planted-v1"
    assert Speech("planted", low=2).dim == 96


# ------------------------------------------------------------------------------------------------ the real one


def told_by_a_frame(extractor, train, test, columns):
    """What a linear map tells from one frame of unseen speech: the area under the ROC curve of semantic frames, and the
    share of spoken frames whose word, of 60, it names."""
    from scipy.stats import rankdata

    def frames(clips):
        features = torch.cat([extractor(clip.audio, clip.frames, clip.fps)[:, columns] for clip in clips]).double()
        return features, torch.cat([clip.labels["semantic"] > 0.15 for clip in clips]), words(clips)

    def words(clips):
        return torch.cat([clip.labels["words"] for clip in clips])

    known = words(train).unique()
    (x, semantic, said), (z, truth, spoken) = frames(train), frames(test)
    mean, spread = x.mean(0), x.std(0) + 1e-4
    x, z = ((features - mean) / spread for features in (x, z))
    target = torch.cat([semantic[:, None], said[:, None] == known], dim=1).double()
    ridge = x.T @ x + len(x) * 1e-3 * torch.eye(x.shape[1]).double()
    guess = z @ torch.linalg.solve(ridge, x.T @ (target - target.mean(0))) + target.mean(0)
    ranks, positive = rankdata(guess[:, 0].numpy()), truth.numpy()
    area = (ranks[positive].mean() - (positive.sum() + 1) / 2) / (~positive).sum()
    named = known[guess[:, 1:].argmax(dim=1)] == spoken
    return area, float(named[spoken != 0].double().mean())


@pytest.mark.slow
def test_the_encoder_hears_phones_words_and_meaning_of_unseen_speech_better_than_mel(tmp_path):
    """docs/data.md has these numbers as they were when this was written."""
    from maskmotion.conditioners import Mel

    built = build_speech(tmp_path / "speech", show=False)
    assert built.about["phone_error_rate"] < 0.08  # 0.046
    root = planted_root()
    train, test = load_split(root, "train"), load_split(root, "test")
    hubert, mel = HubertLayers(str(built.folder), 2, -1), Mel().extractor
    by_mel = told_by_a_frame(mel, train, test, slice(None))
    for columns in (slice(hubert.hubert.size), slice(hubert.hubert.size, None)):
        area, word = told_by_a_frame(hubert, train, test, columns)
        assert area > by_mel[0] + 0.03
        assert word > by_mel[1] + 0.2
