"""vocab.json: words in the order of their index, special ones first."""

from __future__ import annotations

import json

import pytest

from maskmotion.data.vocabulary import EOS, PAD, SOS, SPECIAL, UNK, Vocabulary

WORDS = [*SPECIAL, "", "hello", "Straße"]


def write(tmp_path, found):
    path = tmp_path / "vocab.json"
    path.write_text(found if isinstance(found, str) else json.dumps(found), encoding="utf-8")
    return path


def test_words_have_the_index_of_their_place(tmp_path):
    vocabulary = Vocabulary.read(write(tmp_path, {"words": WORDS}))
    assert len(vocabulary) == 7
    assert [vocabulary.index(word) for word in WORDS] == list(range(7))
    assert (vocabulary.index("<PAD>"), vocabulary.index("<SOS>"), vocabulary.index("<EOS>")) == (PAD, SOS, EOS)


def test_an_unknown_word_is_unknown(tmp_path):
    vocabulary = Vocabulary.read(write(tmp_path, {"words": WORDS}))
    assert vocabulary.index("Hello") == vocabulary.index("hello ") == UNK == 3
    assert vocabulary.index("") == 4, "silence is a word like any other where the vocabulary has it"


def test_a_vocabulary_is_frozen():
    vocabulary = Vocabulary(tuple(WORDS))
    with pytest.raises(AttributeError):
        vocabulary.words = ()
    assert vocabulary == Vocabulary(tuple(WORDS))


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ("{", "not a JSON file"),
        ("[]", r'a vocabulary is \{"words": \[...\]\}'),
        ({"hello": 4}, r'a vocabulary is \{"words": \[...\]\}'),
        ({"words": {"hello": 4}}, "the words in the order of their index"),
        ({"words": ["hello"]}, "begins with <PAD>, <SOS>, <EOS>, <UNK>, got \\['hello'\\]"),
        ({"words": ["<SOS>", "<PAD>", "<EOS>", "<UNK>"]}, "begins with <PAD>"),
        ({"words": [*SPECIAL, 5]}, "holds words .* got 5"),
        ({"words": [*SPECIAL, ["a"]]}, "holds words"),
        ({"words": [*SPECIAL, "a", "b", "a"]}, "each word once, 'a' stands in it twice"),
    ],
)
def test_anything_else_is_told(found, message, tmp_path):
    path = write(tmp_path, found)
    with pytest.raises(ValueError, match=message) as caught:
        Vocabulary.read(path)
    assert str(caught.value).startswith(str(path))


def test_bytes_that_are_no_text_are_told(tmp_path):
    (tmp_path / "vocab.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a JSON file"):
        Vocabulary.read(tmp_path / "vocab.json")


def test_no_file_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such vocabulary"):
        Vocabulary.read(tmp_path / "vocab.json")
