"""A clip as a video: the stick figure beside its speech, with sound."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from maskmotion.progress import progress_bar
from maskmotion.storage import atomic
from maskmotion.types import SAMPLE_RATE, SEMANTIC_SCORE, Clip
from maskmotion.views.canvas import (
    GREY,
    INK,
    ORANGE,
    VERMILLION,
    draw_waveform,
    new_figure,
    runs,
    viz,
)
from maskmotion.views.figure import StickFigure, frame_axes, joint_positions, visible_height

HEIGHT, PERSON, SPEECH = 432, 448, 320  # pixels: the picture, one figure's and the speech panel's width (H.264: 16 n)
_DPI = 100


def render_video(path: str | Path, clip: Clip, *, other: Clip | None = None, progress: bool = False) -> Path:
    """Write an H.264 video (AAC sound where the clip has audio) that browsers play; returns its path. Atomic.

    Args:
        path: file to write, .mp4.
        clip: what is shown; its words and semantic frames are drawn with the waveform when it has them.
        other: a second clip, drawn beside the first (the ground truth); the video is as long as the shorter one.
        progress: show a progress bar.

    Raises:
        ValueError: another suffix than .mp4, an empty or non-finite motion, or clips of different frame rates.
        ImportError: the extra `viz` is not installed.
    """
    target = Path(path)
    if target.suffix.lower() != ".mp4":
        raise ValueError(f"{target}: videos are written as MP4; give a name that ends in .mp4")
    clips = [clip] if other is None else [clip, other]
    if len({shown.fps for shown in clips}) > 1:
        raise ValueError(f"clips of {clip.fps} and {clips[1].fps} frames a second cannot be shown side by side")
    frames = min(shown.frames for shown in clips)
    if frames == 0:
        raise ValueError(f"{clip.name}: a clip without frames cannot be shown")
    scene = Scene(clips, frames)
    with atomic(target) as temporary, tempfile.TemporaryDirectory() as folder:
        sound = _write_sound(Path(folder) / "speech.wav", clip, frames)
        with progress_bar(target.name, frames, show=progress) as advance:
            _encode(temporary, scene, clip.fps, sound, advance)
    return target


class Scene:
    """The picture of one moment; everything that stands still is drawn once.

    Args:
        clips: one or two clips, drawn from left to right; the first one's speech is shown.
        frames: number of frames shown.
    """

    def __init__(self, clips: list[Clip], frames: int) -> None:
        self.clip, self.frames = clips[0], frames
        self.seconds = frames / self.clip.fps
        self.size = (PERSON * len(clips) + SPEECH, HEIGHT)
        self.figure = new_figure(self.size[0] / _DPI, HEIGHT / _DPI, _DPI)
        self._people = self._draw_people(clips)
        self._speech_panel()
        self.figure.canvas.draw()
        self._still = self.figure.canvas.copy_from_bbox(self.figure.bbox)

    def images(self) -> Iterator[np.ndarray]:
        """The pictures in order, [height, width, 4] uint8; each is overwritten by the next."""
        canvas = self.figure.canvas
        for frame in range(self.frames):
            canvas.restore_region(self._still)
            for person in self._people:
                person.show(frame)
                person.draw()
            self._show_moment(frame / self.clip.fps)
            yield np.asarray(canvas.buffer_rgba())

    def _draw_people(self, clips: list[Clip]) -> list[StickFigure]:
        """One panel a clip, all at the same scale, so that bodies can be compared."""
        positions = [joint_positions(clip)[: self.frames] for clip in clips]
        metres = max(visible_height(joints, PERSON, HEIGHT) for joints in positions)
        people = []
        for index, (clip, joints) in enumerate(zip(clips, positions)):
            axes = self.figure.add_axes((index * PERSON / self.size[0], 0, PERSON / self.size[0], 1))
            caption = _short(clip.name, 48) if len(clips) > 1 else ""
            frame_axes(axes, joints, caption, metres, PERSON, HEIGHT)
            people.append(StickFigure(axes, joints))
        return people

    def _speech_panel(self) -> None:
        left, width = 1 - (SPEECH - 12) / self.size[0], (SPEECH - 32) / self.size[0]
        audio, meaning = self.clip.audio, self.clip.labels.get("semantic")
        self.figure.text(left, 0.9, _short(self.clip.name, 34), fontsize=12, color=INK, weight="bold")
        axes = self.figure.add_axes((left, 0.38, width, 0.28))
        samples = np.zeros(0, np.float32) if audio is None else audio.detach().cpu().numpy()
        draw_waveform(axes, samples[: round(self.seconds * SAMPLE_RATE)], self.seconds)
        if audio is None:
            axes.text(0.5, 0.5, "no sound", transform=axes.transAxes, ha="center", va="center", fontsize=9, color=GREY)
        if meaning is not None:
            for start, stop in runs(meaning[: self.frames].detach().cpu().numpy() > SEMANTIC_SCORE):
                axes.axvspan(start / self.clip.fps, stop / self.clip.fps, color=ORANGE, alpha=0.35, linewidth=0)
            self.figure.text(left, 0.27, "\N{BLACK SQUARE} semantic frames", fontsize=8, color=ORANGE)
        axes.tick_params(labelsize=8, color=GREY, labelcolor=INK)
        for name, side in axes.spines.items():
            side.set_visible(name == "bottom")
            side.set_color(GREY)
        self._axes = axes
        self._cursor = axes.axvline(0, color=VERMILLION, linewidth=1.6, animated=True)
        self._clock = self.figure.text(left, 0.83, "", fontsize=10, color=INK, animated=True)
        self._word = self.figure.text(
            left + width / 2, 0.71, "", fontsize=13, color=INK, ha="center", weight="bold", animated=True
        )

    def _show_moment(self, seconds: float) -> None:
        self._cursor.set_xdata([seconds, seconds])
        self._clock.set_text(f"{seconds:.1f} s of {self.seconds:.1f} s")
        spoken = [word.text for word in self.clip.words or () if word.start <= seconds < word.end]
        self._word.set_text(spoken[0] if spoken else "")
        self._axes.draw_artist(self._cursor)
        for text in (self._clock, self._word):
            self.figure.draw_artist(text)


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}\N{HORIZONTAL ELLIPSIS}"


def _write_sound(path: Path, clip: Clip, frames: int) -> Path | None:
    """The clip's audio as 16-bit wav, exactly as long as the pictures; None without audio."""
    if clip.audio is None:
        return None
    from scipy.io import wavfile

    samples = np.zeros(-(-frames * SAMPLE_RATE // clip.fps), np.float32)
    audio = clip.audio.detach().cpu().numpy()[: len(samples)]
    samples[: len(audio)] = audio
    wavfile.write(path, SAMPLE_RATE, (samples.clip(-1, 1) * 32767).astype(np.int16))
    return path


def _encode(path: Path, scene: Scene, fps: int, sound: Path | None, advance: Any) -> None:
    """Pipe the pictures to ffmpeg. OSError carries what ffmpeg said when it fails."""
    writer = viz("imageio_ffmpeg").write_frames(
        str(path),
        scene.size,
        pix_fmt_in="rgba",
        fps=fps,
        codec="libx264",
        audio_path=None if sound is None else str(sound),
        audio_codec=None if sound is None else "aac",
        ffmpeg_log_level="error",
        output_params=["-preset", "veryfast", "-movflags", "+faststart"],
    )
    writer.send(None)
    try:
        for index, image in enumerate(scene.images()):
            writer.send(np.ascontiguousarray(image))
            advance(index + 1, "")
    finally:
        writer.close()
    if not path.stat().st_size:
        raise OSError(f"ffmpeg wrote nothing to {path}; is the disk full?")
