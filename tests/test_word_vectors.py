"""Word vectors of the user's own file: read, looked up, saved with the model, bad files refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import maskmotion as mm
from maskmotion.conditioners import Transcript
from maskmotion.data.textgrid import word_id
from maskmotion.data.word_vectors import read_vectors
from maskmotion.testing import check, example_batch

LINES = "3 4\nhello 1 2 3 4\nworld 5 6 7 8\nHello 9 9 9 9\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "words.vec"
    path.write_text(LINES)
    return path


def batch_of(words):
    batch = example_batch(rows=1, frames=len(words))
    ids = torch.tensor([[word_id(word) if word else 0 for word in words]])
    return replace(batch, labels={"words": ids}, valid=torch.ones_like(batch.valid))


def test_words_of_the_file_have_its_vectors_and_others_their_buckets(file):
    torch.manual_seed(0)
    transcript = Transcript(dim=4, vectors=str(file))
    features = transcript(batch_of(["hello", "WORLD", "", "unheard"])).features[0]
    assert features[0].tolist() == [1, 2, 3, 4], "of words that differ in case alone the first counts"
    assert features[1].tolist() == [5, 6, 7, 8]
    assert features[2].tolist() == [0, 0, 0, 0]
    assert features[3].abs().sum() > 0
    assert torch.equal(features[3], transcript.table.weight[word_id("unheard") % 4096 + 1])
    check(Transcript(dim=4, vectors=str(file)))


def test_the_vectors_learn_unless_they_may_not(file):
    for learned in (True, False):
        transcript = Transcript(dim=4, vectors=str(file), learned=learned)
        transcript(batch_of(["hello", "unheard"])).features.sum().backward()
        assert (transcript.words.grad is not None) == learned


def test_a_saved_model_needs_the_file_no_more(file, tmp_path):
    recipe = mm.preset("tiny").but({"conditioners.words": mm.Spec("transcript", dim=4, vectors=str(file))})
    model = mm.Model.build(recipe)
    model.save_pretrained(tmp_path / "model")
    file.unlink()
    again = mm.Model.from_pretrained(tmp_path / "model").generator.conditioners["words"]
    batch = batch_of(["hello", "world"])
    assert torch.equal(again(batch).features, model.generator.conditioners["words"](batch).features)
    with pytest.raises(FileNotFoundError, match="no word vectors at"):
        Transcript(dim=4, vectors=str(file))(batch)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("hello 1 2\n", "the first line of a .vec file"),
        ("2 2\nhello 1 2\n", "holds 1 words, its first line says 2; it may be cut short"),
        ("1 2\nhello 1 2 3\n", "line 2: 'hello' has 3 numbers, the first line says 2"),
        ("1 2\nhello one two\n", "line 2: 'hello' is not followed by numbers alone"),
    ],
)
def test_files_that_are_no_word_vectors(tmp_path, text, message):
    (tmp_path / "words.vec").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_vectors(tmp_path / "words.vec")
    with pytest.raises(FileNotFoundError, match=r"fastText's \.vec"):
        read_vectors(tmp_path / "none.vec")


def test_the_width_is_that_of_the_file(file):
    with pytest.raises(ValueError, match="vectors of 4 numbers; set the conditioner's dim to that, got 64"):
        Transcript(vectors=str(file))
