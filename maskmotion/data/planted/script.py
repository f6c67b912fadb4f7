"""What is said and shown, and when: words and phones in speech; gestures, beats and jolts in motion."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maskmotion.data.planted.lexicon import PHONES, WordForm
from maskmotion.data.planted.parameters import NUM_CLASSES, SPEAKERS, SPLITS, Planted

GESTURE_SECONDS = 0.87
GESTURE_APEX = 0.45  # share of the gesture that lies before its apex
JOLT_SECONDS = 0.36
BEAT_SPACING = 0.34
SEMANTIC_SPACING = 1.6  # seconds between starts of semantic words: their gestures must not overlap
BEAT_CHANCE, JOLT_CHANCE = 0.7, 0.55
TEMPO = (1.0, 1.05, 0.96, 1.02)  # duration of everything said, by speaker


@dataclass(frozen=True)
class Spoken:
    """A word of the lexicon said at a time (seconds); `meaning` is its class or -1."""

    text: str
    meaning: int
    start: float
    end: float


@dataclass(frozen=True)
class Gesture:
    """A semantic gesture: its class, its word, and the seconds it takes."""

    meaning: int
    text: str
    start: float
    end: float


@dataclass
class Script:
    """One recording as events, times in seconds."""

    name: str
    speaker: int
    words: list[Spoken] = field(default_factory=list)
    phones: list[tuple[int, float, float, float]] = field(default_factory=list)  # phone, start, end, stress 0..1
    gestures: list[Gesture] = field(default_factory=list)
    beats: list[float] = field(default_factory=list)  # apex
    jolts: list[float] = field(default_factory=list)  # start
    phrases: list[tuple[float, float]] = field(default_factory=list)

    @property
    def phone_table(self) -> np.ndarray:
        """[phones, 4] float64: index, start, end, stress."""
        return np.array(self.phones, dtype=np.float64)


class _Deck:
    """Cards drawn without replacement, reshuffled when used up: counts stay balanced."""

    def __init__(self, cards: list, rng: np.random.Generator) -> None:
        self.cards, self.rng = cards, rng
        self.rest: list[Any] = []

    def draw(self) -> Any:
        if not self.rest:
            self.rest = [self.cards[i] for i in self.rng.permutation(len(self.cards))]
        return self.rest.pop()


class _Writer:
    """Writes the scripts of one split; classes and showings are balanced over the split."""

    def __init__(self, parameters: Planted, lexicon: tuple[WordForm, ...], split: str, take: tuple[int, ...]) -> None:
        self.rng = np.random.default_rng([parameters.seed, 12, SPLITS.index(split), *take])
        self.parameters, self.lexicon = parameters, lexicon
        shown = round(10 * parameters.gesture_chance)
        self.meanings = _Deck(list(range(NUM_CLASSES)), self.rng)
        self.owed = _Deck([0, 1, 1, 1, 1, 2, 2], self.rng)  # semantic words in a phrase; unsaid ones are carried over
        self.shown = [_Deck([True] * shown + [False] * (10 - shown), self.rng) for _ in range(NUM_CLASSES)]
        common = 1 / np.sqrt(np.arange(1, len(lexicon) - NUM_CLASSES + 1))
        self.common = common / common.sum()

    def script(self, name: str, speaker: int) -> Script:
        script = Script(name, speaker)
        now, last, owed = self.rng.uniform(0.6, 1.0), -9.0, 0
        end = self.parameters.seconds - 1.2
        while now < end:
            start, owed = now, owed + self.owed.draw()
            length = int(self.rng.integers(6, 11))
            for place in range(length):
                semantic = bool(
                    owed > 0 and now - last > SEMANTIC_SPACING and self.rng.random() < 1.5 * owed / (length - place)
                )
                if semantic:
                    owed, last = owed - 1, now
                now = self._say(script, now, semantic)
                if now > end:
                    break
            script.phrases.append((start, now))
            if self.rng.random() < JOLT_CHANCE:
                script.jolts.append(now + self.rng.uniform(-0.15, 0.15))
            now += self.rng.uniform(0.3, 0.75)
        self._clear_gestures(script)
        return script

    def _say(self, script: Script, now: float, semantic: bool) -> float:
        """Append one word, its phones and the movement it triggers; returns its end."""
        meaning = self.meanings.draw() if semantic else -1
        index = meaning if semantic else NUM_CLASSES + int(self.rng.choice(len(self.common), p=self.common))
        form, start, accent = self.lexicon[index], now, now
        emphasis = 1.6 if semantic else 1.0  # what is shown with the hands is said with some weight
        for place, syllable in enumerate(form.syllables):
            stressed = place == form.stress
            for phone in syllable:
                stretch = (
                    TEMPO[script.speaker] * (1.25 if stressed else 1.0) * np.exp(0.12 * self.rng.standard_normal())
                )
                length = PHONES[phone].duration * stretch
                script.phones.append((phone, now, now + length, emphasis if stressed else 0.0))
                if stressed and phone < 8:
                    accent = now + length / 2
                now += length
        script.words.append(Spoken(form.text, meaning, start, now))
        if semantic and self.shown[meaning].draw():
            self._gesture(script, meaning, form.text, accent)
        elif not semantic and form.stress >= 0 and self.rng.random() < BEAT_CHANCE:
            apex = accent + 0.05 + 0.04 * self.rng.standard_normal()
            if not script.beats or apex - script.beats[-1] > BEAT_SPACING:
                script.beats.append(apex)
        return now

    def _gesture(self, script: Script, meaning: int, text: str, accent: float) -> None:
        spread = 0.07 * self.parameters.variety
        length = GESTURE_SECONDS * float(np.exp(spread * np.clip(self.rng.standard_normal(), -2, 2)))
        start = accent + 0.04 * np.clip(self.rng.standard_normal(), -2, 2) - GESTURE_APEX * length
        start = max(start, script.gestures[-1].end + 0.04) if script.gestures else start
        script.gestures.append(Gesture(meaning, text, start, start + length))

    def _clear_gestures(self, script: Script) -> None:
        """Leave out beats and jolts that would blur a gesture."""
        spans = np.array([(g.start - 0.1, g.end + 0.1) for g in script.gestures]).reshape(-1, 2)
        script.beats = [b for b in script.beats if not ((spans[:, 0] < b) & (b < spans[:, 1])).any()]
        clear = [j for j in script.jolts if not ((spans[:, 0] < j + JOLT_SECONDS) & (j < spans[:, 1])).any()]
        script.jolts = clear if self.parameters.distraction > 0 else []


def write_scripts(
    parameters: Planted, lexicon: tuple[WordForm, ...], take: tuple[int, ...] = ()
) -> dict[str, list[Script]]:
    """Split -> its scripts; speakers take turns, recording numbers count up per speaker over all splits.

    take: of other recordings with the same words.
    """
    numbers = [0] * len(SPEAKERS)
    scripts: dict[str, list[Script]] = {}
    for split in SPLITS:
        writer = _Writer(parameters, lexicon, split, take)
        scripts[split] = []
        for clip in range(parameters.clips[split]):
            speaker = clip % len(SPEAKERS)
            numbers[speaker] += 1
            name = f"{SPEAKERS[speaker]}_0_{numbers[speaker]}_{numbers[speaker]}"
            scripts[split].append(writer.script(name, speaker))
    return scripts
