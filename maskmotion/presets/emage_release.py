"""The presets `emage-release`, `emage-2024-text` and `emage-2024-audio`: the networks that EMAGE's authors released."""

from __future__ import annotations

from typing import Any, Literal

from maskmotion.config import Recipe, Root, Spec, Tokenizer, Training
from maskmotion.schedules import Linear
from maskmotion.tokenizers.root_losses import ROOT_WEIGHTS

STEPS, EPOCH = 100_000, 135  # of the audio model of 2025: all steps, and steps an epoch
_PART_LOSSES = dict.fromkeys(
    (
        *("geodesic", "rotation_velocity", "rotation_acceleration", "contact"),
        *("expression", "expression_velocity", "expression_acceleration"),
    ),
    1.0,
)
_BODY, _ALL = ["codes", "latents"], ["codes", "face_codes", "latents"]


Scale = Literal["full", "small", "tiny"]
_SCALES: dict[Scale, tuple[int, int, int, int]] = {
    "full": (256, 768, 8, 4),
    "small": (128, 256, 4, 2),
    "tiny": (32, 64, 2, 1),
}
"""Scale -> width of tokenizers and sound, width of the network, decoder layers of body and face."""


def _passes(masked: list[str]) -> list[dict[str, Any]]:
    return [
        {"name": "seed", "mask": "seed", "losses": _BODY},
        {"name": "audio", "losses": masked},
        {"name": "mask", "speech": False, "losses": masked},
    ]


def emage_release(scale: Scale = "full") -> Recipe:
    """EMAGE's audio model of January 2025 (H-Liu1997/emage_audio): loads its checkpoint, cuts clips as it does.

    Departures from the paper: convolutions over 337 columns and no spatial transformer, no content-rhythm attention, no
    words; masks by column and frame; squared latent errors; no class loss of the face; three times a decoder over the
    sum of the other parts instead of a second transformer. Flaws of the release that are kept here, and nowhere else:
    the mask ratio lacks a pair of parentheses, so everything is hidden from step 1 on; sound is cut by 533 samples a
    frame; short windows hear one step too many; clips lose up to 4 frames (8 frames or less are an error); the lower
    body's untrained translation is fed to the root network; hints are seen and altered. One speaker.

    scale: "full" is the release's size; "small" and "tiny" are ours.
    """
    width, dim, audio_layers, face_layers = _SCALES[scale]
    return Recipe(
        name="emage-release",
        tokenizer=Tokenizer(
            width=width,
            network=Spec("plain", layers=2),
            quantizer=Spec("vq", codebook_size=256, learning="gradient", commitment=1.0, revive_below=0.0),
            losses=_PART_LOSSES | {"joints": 1.0, "foot_sliding": 20.0},
            normalise=False,
            by_part={"face": {"difference": "l2"}, "lower": {"network.layers": 4}},
        ),
        root=Root(
            network="plain", width=width, layers=4, losses=dict(ROOT_WEIGHTS), velocity="central", translation=True
        ),
        conditioners={
            "face_audio": Spec("waveform", dim=width, samples_per_frame=533),
            "body_audio": Spec("waveform", dim=width, samples_per_frame=533),
            "face_speaker": Spec("speaker", dim=dim, count=1),
            "body_speaker": Spec("speaker", dim=dim, count=1),
        },
        masker=Spec(
            "random", ratio=Linear(0.05, 0.05 + 0.95 * 400 / EPOCH * STEPS), unit="column", exact=False
        ),  # meant to be 0.05 + 0.95 * iteration / (135 * 400): above 1 from the first iteration on
        generator=Spec(
            "emage_release",
            dim=dim,
            features=width,
            audio_layers=audio_layers,
            face_layers=face_layers,
            slope=0.1,
            speaker_in_query=True,
            query_in_residual=True,
            place_in_refinement=False,
            extra_sound=True,
            snapped=("face",),
            windows="release",
            passes=_passes(_BODY),
        ),
        training={
            "tokenizer": Training(steps=70000, batch_size=64, lr=1.5e-4, decay="constant", betas=(0.5, 0.999)),
            "root": Training(steps=90000, batch_size=64, lr=1.5e-4, decay="constant", betas=(0.5, 0.999)),
            "generator": Training(
                steps=STEPS, batch_size=56, lr=1.5e-4, decay="constant", warmup=0.0, betas=(0.9, 0.999), grad_norm=1e9
            ),
        },
    )


def emage_2024(model: Literal["text", "audio"] = "text", scale: Scale = "full") -> Recipe:
    """EMAGE's scripts of 2024 (H-Liu1997/EMAGE): the text model `emage_240.bin`, or the audio model `emage_audio_175.bin`.

    Departures from the paper: as `emage_release` in what the network lacks, but with a word table and content-rhythm
    attention of one linear layer (text). Kept flaws: the onsets' frame numbers are taken for sample numbers, the speaker
    that should be added to what the body asks of speech is overwritten. Mask ratio by epoch as intended, 0.05 to 1.
    Departures from the scripts: clips are cut as the library does, so no tail is lost; the audio model's sound of
    a window is that of its frames (34133 samples, as its training data had it).
    """
    text = model == "text"
    changes: dict[str, Any] = {
        "name": f"emage-2024-{model}",
        "root.translation": False,
        "masker.ratio": Linear(0.05, 1.0),
        "generator.slope": 0.2,
        "generator.speaker_in_query": False,
        "generator.query_in_residual": False,
        "generator.place_in_refinement": True,
        "generator.extra_sound": False,
        "generator.windows": "library",
        "generator.passes": _passes(_ALL),
        "training.generator": Training(
            steps=47000, batch_size=64, lr=2.5e-4, decay="constant", warmup=0.0, betas=(0.5, 0.999), grad_norm=0.99
        ),
    }
    for branch in ("face", "body"):
        sound = {"signal": "onset_amplitude"} if text else {}
        changes[f"conditioners.{branch}_audio"] = Spec("waveform", dim=_SCALES[scale][0], **sound)
        changes[f"conditioners.{branch}_speaker.count"] = 25
        if text:
            changes[f"conditioners.{branch}_words"] = Spec("words")
    return emage_release(scale).but(changes)


def emage_2024_text(scale: Scale = "full") -> Recipe:
    """EMAGE's text and audio model of 2024 (`emage_240.bin`); see `emage_2024`."""
    return emage_2024("text", scale)


def emage_2024_audio(scale: Scale = "full") -> Recipe:
    """EMAGE's audio model of 2024 (`emage_audio_175.bin`); see `emage_2024`."""
    return emage_2024("audio", scale)
