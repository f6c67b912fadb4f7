"""Phones and words of the planted language: 24 phones, 60 words, of which the first 12 carry a meaning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from maskmotion.data.planted.parameters import NUM_CLASSES

NUM_WORDS = 60


@dataclass(frozen=True)
class Phone:
    """One speech sound.

    peaks: spectral peaks (Hz, bandwidth Hz, gain) of its envelope. voicing: share of the harmonic source.
    duration in seconds. mouth: opening, width, rounding, lip contact, tongue height, tongue front; each in [-1, 1].
    """

    name: str
    spelling: str
    peaks: tuple[tuple[float, float, float], ...]
    voicing: float
    loudness: float
    duration: float
    mouth: tuple[float, float, float, float, float, float]
    plosive: bool = False


def _voiced(
    name: str, spelling: str, formants: tuple[int, int, int], loudness: float, duration: float, *mouth: float
) -> Phone:
    peaks = tuple((float(f), width, gain) for f, width, gain in zip(formants, (90.0, 130.0, 220.0), (1.0, 1.6, 1.8)))
    return Phone(name, spelling, peaks, 1.0, loudness, duration, mouth)  # type: ignore[arg-type]


def _noisy(name: str, spelling: str, centre: int, width: int, voicing: float, loudness: float, *mouth: float) -> Phone:
    peaks = ((float(centre), float(width), 1.0), (220.0, 120.0, 0.8 * voicing))
    return Phone(name, spelling, peaks, voicing, loudness, 0.075, mouth)  # type: ignore[arg-type]


def _plosive(name: str, centre: int, width: int, voicing: float, *mouth: float) -> Phone:
    peaks = ((float(centre), float(width), 1.0), (220.0, 120.0, voicing))
    return Phone(name, name, peaks, 0.5 * voicing, 0.5, 0.07, mouth, plosive=True)  # type: ignore[arg-type]


# Formants and noise centres are textbook values of English sounds, rounded.
PHONES: tuple[Phone, ...] = (
    _voiced("aa", "a", (750, 1150, 2500), 1.0, 0.115, 1.0, 0.1, -0.3, -1.0, -1.0, -0.6),
    _voiced("ae", "ae", (680, 1750, 2450), 1.0, 0.115, 0.8, 0.6, -0.6, -1.0, -0.7, 0.6),
    _voiced("eh", "e", (550, 1850, 2500), 0.9, 0.1, 0.5, 0.5, -0.5, -1.0, -0.2, 0.7),
    _voiced("iy", "ee", (290, 2250, 3000), 0.75, 0.105, -0.2, 1.0, -0.8, -0.9, 0.9, 1.0),
    _voiced("ih", "i", (400, 1950, 2550), 0.8, 0.085, 0.0, 0.6, -0.5, -0.9, 0.5, 0.7),
    _voiced("ow", "o", (480, 900, 2400), 0.95, 0.115, 0.4, -0.7, 0.9, -0.8, -0.1, -0.8),
    _voiced("uw", "u", (320, 850, 2250), 0.75, 0.105, -0.2, -1.0, 1.0, -0.6, 0.7, -0.9),
    _voiced("er", "er", (490, 1350, 1700), 0.85, 0.105, 0.2, -0.2, 0.3, -0.8, 0.1, -0.1),
    _voiced("m", "m", (250, 1100, 2200), 0.4, 0.065, -0.9, -0.1, 0.1, 1.0, -0.2, 0.0),
    _voiced("n", "n", (250, 1500, 2500), 0.4, 0.06, -0.5, 0.1, -0.2, -0.5, 0.8, 0.6),
    _voiced("l", "l", (360, 1050, 2800), 0.5, 0.06, -0.2, 0.1, -0.1, -0.7, 0.7, 0.5),
    _voiced("r", "r", (330, 1100, 1500), 0.5, 0.06, -0.3, -0.4, 0.6, -0.5, 0.3, -0.2),
    _noisy("s", "s", 5800, 1300, 0.0, 0.3, -0.7, 0.5, -0.4, -0.6, 0.8, 0.9),
    _noisy("sh", "sh", 3200, 900, 0.0, 0.35, -0.6, -0.5, 0.8, -0.6, 0.6, 0.4),
    _noisy("f", "f", 6500, 3500, 0.0, 0.12, -0.6, 0.2, -0.2, 0.6, -0.3, 0.0),
    _noisy("h", "h", 1500, 1500, 0.0, 0.12, 0.1, 0.0, 0.0, -0.9, -0.3, -0.3),
    _noisy("z", "z", 5400, 1300, 0.6, 0.3, -0.7, 0.4, -0.4, -0.6, 0.8, 0.8),
    _noisy("v", "v", 5000, 3500, 0.6, 0.2, -0.6, 0.1, -0.1, 0.6, -0.3, 0.0),
    _plosive("p", 700, 900, 0.0, -1.0, -0.1, 0.2, 1.0, -0.2, 0.0),
    _plosive("t", 4200, 1500, 0.0, -0.6, 0.2, -0.2, -0.4, 1.0, 0.8),
    _plosive("k", 1900, 700, 0.0, -0.3, 0.0, 0.0, -0.7, 0.6, -1.0),
    _plosive("b", 500, 700, 1.0, -1.0, -0.1, 0.1, 1.0, -0.3, 0.0),
    _plosive("d", 3600, 1400, 1.0, -0.6, 0.2, -0.2, -0.4, 0.9, 0.7),
    _plosive("g", 1600, 700, 1.0, -0.3, 0.0, 0.1, -0.7, 0.6, -0.9),
)
VOWELS = range(8)
CODAS = (8, 9, 10, 11, 12, 16, 19, 20)  # m n l r s z t k may close a syllable
MOUTH = np.array([phone.mouth for phone in PHONES])


@dataclass(frozen=True)
class WordForm:
    """A word of the lexicon: syllables of phone indices, the stressed syllable (-1 for a word said without stress)."""

    text: str
    syllables: tuple[tuple[int, ...], ...]
    stress: int


def _syllable(rng: np.random.Generator) -> tuple[int, ...]:
    onset, vowel = int(rng.integers(8, 24)), int(rng.integers(8))
    return (onset, vowel, int(rng.choice(CODAS))) if rng.random() < 0.3 else (onset, vowel)


def _word(rng: np.random.Generator, count: int, borrowed: list[tuple[int, ...]]) -> WordForm:
    syllables = [_syllable(rng) for _ in range(count)]
    if borrowed and rng.random() < 0.5:
        syllables[int(rng.integers(count))] = borrowed[int(rng.integers(len(borrowed)))]
    stress = int(rng.integers(count)) if count > 1 or rng.random() < 0.7 else -1
    spelling = "".join(PHONES[phone].spelling for syllable in syllables for phone in syllable)
    return WordForm(spelling, tuple(syllables), stress)


def build_lexicon(seed: int) -> tuple[WordForm, ...]:
    """60 words; word i < 12 has gesture class i.

    Half of the other words borrow a syllable of a semantic one, so no single sound gives a meaning away.
    """
    rng = np.random.default_rng([seed, 11])
    counts = [2 + i % 2 for i in range(NUM_CLASSES)] + [
        1 + i % 2 + (i % 8 == 7) for i in range(NUM_WORDS - NUM_CLASSES)
    ]
    words: dict[str, WordForm] = {}
    for count in counts:
        semantic = [s for form in list(words.values())[:NUM_CLASSES] for s in form.syllables]
        word = _word(rng, count, semantic if len(words) >= NUM_CLASSES else [])
        while word.text in words:
            word = _word(rng, count, [])
        words[word.text] = word
    return tuple(words.values())
