"""Writes a planted corpus in BEAT2's own layout, once, and finds it again."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import wave
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from maskmotion.data.contents import Contents, write_contents
from maskmotion.data.planted import face, lexicon
from maskmotion.data.planted.gestures import GESTURE_JOINTS, Repertoire, build_repertoire, upper_body
from maskmotion.data.planted.parameters import CORPORA, FPS, PARTIAL, SPEAKERS, Partial, Planted
from maskmotion.data.planted.script import JOLT_SECONDS, Script, write_scripts
from maskmotion.data.planted.speech import synthesise
from maskmotion.data.planted.stance import stand_and_step
from maskmotion.motion.files import write_motion
from maskmotion.motion.skeleton import FEET, PART_JOINTS
from maskmotion.progress import progress_bar
from maskmotion.types import NO_GESTURE, SAMPLE_RATE

# BEAT2's names of the meaningful gesture kinds; a frame's score is the number / 10
_KINDS = ("05_iconic_l", "06_iconic_m", "07_iconic_h", "08_metaphoric_l", "09_metaphoric_m", "10_metaphoric_h")
_TRACKER_NOISE = 0.03  # degrees; fingers are cleaner


def planted_root(cache: str | Path | None = None, name: str | Planted = "planted-v1") -> Path:
    """The folder of a planted corpus, generated on first use (under ten seconds for planted-v1).

    Args:
        cache: folder that holds the corpora; default `$MASKMOTION_CACHE`, else `~/.cache/maskmotion`.
        name: "planted-v1", "planted-v1-small", one of these with "-body" (no face, no hands) or "-body-hands" (no face, no
            speech) behind it, or parameters of your own.

    Raises:
        ValueError: no corpus has that name.
        FileExistsError: its folder holds something else.
    """
    if isinstance(name, str) and name not in CORPORA and name not in PARTIAL:
        known = ", ".join([*CORPORA, *PARTIAL])
        raise ValueError(f"no planted corpus named {name!r}; known: {known}, or pass Planted(...)")
    partial = PARTIAL.get(name) if isinstance(name, str) else None
    parameters = name if isinstance(name, Planted) else CORPORA[name if partial is None else partial.whole]
    folder = parameters.name if partial is None else str(name)
    base = Path(cache or os.environ.get("MASKMOTION_CACHE") or Path.home() / ".cache" / "maskmotion").expanduser()
    root = base / folder
    if (root / "planted.json").exists():
        return root
    base.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder}-", dir=base))
    try:
        write_corpus(building, parameters, partial)
        building.chmod(0o755)
        _move(building, root)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return root


def _move(building: Path, root: Path) -> None:
    """Put the finished corpus in place, unless another process was faster: its bytes are the same."""
    try:
        building.rename(root)
    except OSError:
        if not (root / "planted.json").exists():
            raise FileExistsError(
                f"{root}: exists, but is no finished planted corpus (it has no planted.json); move it away and try again"
            ) from None


def write_corpus(root: Path, parameters: Planted, partial: Partial | None = None) -> None:
    """Write every file of the corpus into `root`.

    partial: leave out what was not recorded: joints at rest, no speech, transcript or annotation of it, and parts.json.
    """
    contents = Contents() if partial is None else partial.contents
    take = () if partial is None else (partial.take,)
    if not contents.whole:
        write_contents(root, contents)
    for folder in ("smplxflame_30", "labels", *(("wave16k", "textgrid", "sem") if contents.audio else ())):
        (root / folder).mkdir(parents=True, exist_ok=True)
    words = lexicon.build_lexicon(parameters.seed)
    repertoire = build_repertoire(parameters.seed)
    scripts = write_scripts(parameters, words, take)
    rows = [f"{script.name},{split}" for split, members in scripts.items() for script in members]
    (root / "train_test_split.csv").write_text("\n".join(["id,type", *rows]) + "\n", encoding="utf-8")
    everyone = [script for members in scripts.values() for script in members]
    with progress_bar(f"making {parameters.name}", len(everyone)) as advance:
        for index, script in enumerate(everyone):
            seed = [parameters.seed, 15, index, *take]
            _write_clip(root, script, parameters, repertoire, seed, contents)
            advance(index + 1, "")
    description = _description(parameters, words) | ({} if partial is None else {"take": partial.take})
    (root / "planted.json").write_text(json.dumps(description, indent=1) + "\n", encoding="utf-8")


def _write_clip(
    root: Path, script: Script, parameters: Planted, repertoire: Repertoire, seed: Sequence[int], contents: Contents
) -> None:
    *streams, voice = np.random.default_rng(seed).spawn(6)
    path = root / "smplxflame_30" / f"{script.name}.npz"
    _write_motion(path, _motion(script, parameters, repertoire, streams), contents)
    np.savez(root / "labels" / f"{script.name}.npz", **labels(script, parameters.frames))
    if contents.audio:
        _write_speech(root, script, parameters, voice)


def _write_speech(root: Path, script: Script, parameters: Planted, voice: np.random.Generator) -> None:
    with wave.open(str(root / "wave16k" / f"{script.name}.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(SAMPLE_RATE)
        file.writeframes(synthesise(script, parameters.seconds, parameters.audio_noise, voice).astype("<i2").tobytes())
    _write_textgrid(root / "textgrid" / f"{script.name}.TextGrid", script, parameters.seconds)
    (root / "sem" / f"{script.name}.txt").write_text(_semantic_lines(script, parameters.seconds), encoding="utf-8")


def _write_motion(path: Path, motion: dict[str, np.ndarray], contents: Contents) -> None:
    for part, joints in PART_JOINTS.items():
        if part not in contents.parts:
            motion["poses"][:, list(joints)] = 0
    if "face" not in contents.parts:
        motion["poses"][:, 23:25] = 0
        motion["expressions"] = np.zeros_like(motion["expressions"])
    write_motion(path, **(motion | {"poses": motion["poses"].reshape(-1, 165)}), fps=FPS)


def _motion(
    script: Script, parameters: Planted, repertoire: Repertoire, streams: Sequence[np.random.Generator]
) -> dict[str, np.ndarray]:
    """Every layer draws from a stream of its own, so a change to one of them leaves the others as they were."""
    frames = parameters.frames
    body, legs, lips, gaze, tracker = streams
    pose = upper_body(script, repertoire, parameters, body)
    stance = stand_and_step(legs, frames)
    for joint, track in stance.poses.items():
        pose[:, joint] = track
    mouth = face.mouth_track(script, frames)
    pose[:, 22] = face.jaw(mouth, lips)
    pose[:, 23:25] = face.eyes(gaze, frames)
    noise = np.full((55, 1), _TRACKER_NOISE)
    noise[list(FEET)] *= 2
    noise[20:] *= 0.25
    return {
        "poses": np.deg2rad(pose + noise * tracker.standard_normal(pose.shape)),
        "trans": stance.trans,
        "expressions": face.expressions(mouth, parameters.seed, lips),
    }


def labels(script: Script, frames: int) -> dict[str, Any]:
    """The answers of frame i, at i / 30 s: gesture and word_class (int64, -1 none), beat and distractor (bool)."""
    times = np.arange(frames) / FPS
    gesture = np.full(frames, NO_GESTURE)
    word_class = np.full(frames, NO_GESTURE)
    beat, distractor = np.zeros(frames, dtype=bool), np.zeros(frames, dtype=bool)
    for shown in script.gestures:
        gesture[(shown.start <= times) & (times <= shown.end)] = shown.meaning
    for word in script.words:
        if word.meaning >= 0:
            word_class[(word.start <= times) & (times <= word.end)] = word.meaning
    beat[np.clip(np.round(np.array(script.beats) * FPS).astype(int), 0, frames - 1)] = True
    for start in script.jolts:
        distractor[(start <= times) & (times <= start + JOLT_SECONDS)] = True
    return {"gesture": gesture, "word_class": word_class, "beat": beat, "distractor": distractor}


def _semantic_lines(script: Script, seconds: int) -> str:
    """BEAT2's tab-separated rows: kind, start, end, duration, score, keyword; beats fill what lies between gestures."""
    rows, now = [], 0.0
    for gesture in script.gestures:
        kind = _KINDS[gesture.meaning % len(_KINDS)]
        rows.append(f"01_beat_align\t{now:.3f}\t{gesture.start:.3f}\t{gesture.start - now:.3f}\t0.1")
        span = f"{gesture.start:.3f}\t{gesture.end:.3f}\t{gesture.end - gesture.start:.3f}"
        rows.append(f"{kind}\t{span}\t{int(kind[:2]) / 10:g}\t{gesture.text}")
        now = gesture.end
    rows.append(f"01_beat_align\t{now:.3f}\t{seconds:.3f}\t{seconds - now:.3f}\t0.1")
    return "\n".join(rows) + "\n"


def _write_textgrid(path: Path, script: Script, seconds: int) -> None:
    from praatio import textgrid

    grid = textgrid.Textgrid(0, seconds)
    words = [(round(word.start, 4), round(word.end, 4), word.text) for word in script.words]
    phones = [(round(a, 4), round(b, 4), lexicon.PHONES[phone].name) for phone, a, b, _ in script.phones]
    for name, entries in (("words", words), ("phones", phones)):
        grid.addTier(textgrid.IntervalTier(name, entries, 0, seconds))
    grid.save(str(path), format="long_textgrid", includeBlankSpaces=True)


def _description(parameters: Planted, words: tuple[lexicon.WordForm, ...]) -> dict:
    classes = [
        {"class": i, "word": form.text, "kind": _KINDS[i % len(_KINDS)]}
        for i, form in enumerate(words[: lexicon.NUM_CLASSES])
    ]
    return {
        "name": parameters.name,
        "parameters": asdict(parameters),
        "speakers": list(SPEAKERS),
        "phones": [phone.name for phone in lexicon.PHONES],
        "lexicon": [form.text for form in words],
        "classes": classes,
        "gesture_joints": list(GESTURE_JOINTS),
    }
