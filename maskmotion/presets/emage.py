"""The preset `emage`: masked audio-gesture modelling as the paper has it (Liu et al., CVPR 2024, arXiv:2401.00374)."""

from __future__ import annotations

from typing import Any, Literal

from maskmotion.config import Body, Recipe, Root, Spec, Tokenizer, Training
from maskmotion.schedules import Linear
from maskmotion.tokenizers.root_losses import ROOT_WEIGHTS

Scale = Literal["full", "small", "tiny"]

TOKENIZER_LOSSES = {
    **dict.fromkeys(("geodesic", "rotation_velocity", "rotation_acceleration", "contact"), 1.0),
    **dict.fromkeys(("expression", "expression_velocity", "expression_acceleration"), 1.0),
    **dict.fromkeys(("translation", "translation_velocity"), 1.0),
}
_SCALES: dict[str, dict[str, Any]] = {
    "small": {
        "tokenizer.width": 128,
        "root.width": 128,
        "generator.dim": 256,
        "generator.spatial": 128,
        "generator.audio_layers": 4,
        "generator.face_layers": 2,
        "training.tokenizer.steps": 6000,
        "training.root.steps": 2000,
        "training.generator.steps": 10000,
    },
    "tiny": {
        "tokenizer.width": 48,
        "root.width": 48,
        "root.layers": 2,
        "conditioners.transcript.dim": 32,
        "conditioners.speaker.dim": 32,
        "generator.dim": 64,
        "generator.spatial": 32,
        "generator.audio_layers": 2,
        "generator.face_layers": 1,
        "generator.dropout": 0.0,
        "generator.direct": True,
        "generator.passes": [
            {"name": "seed", "mask": "seed", "share": 0.34},
            {"name": "a2g", "share": 0.33},
            {"name": "mg2g", "speech": False, "share": 0.33, "losses": ["latents"]},
        ],
        "training.tokenizer": {"steps": 350, "batch_size": 32, "lr": 2e-3},
        "training.root": {"steps": 150, "batch_size": 32, "lr": 2e-3},
        "training.generator": {"steps": 1000, "batch_size": 8, "lr": 2e-3, "ema_decay": 0.99},
    },
}


def emage(scale: Scale = "full") -> Recipe:
    """EMAGE: gestures hidden by joint and frame, hints that select what is heard, one VQ-VAE a part (CVPR 2024).

    As in the paper: spatial transformer with a class token, content-rhythm attention, masks over joints and frames whose
    ratio rises from 0 to 95 %, L1 in the latent space, translation by the global motion predictor. Numbers that the paper
    does not give (layers, weights of the losses) are the release's. Ours: the lower body's translation is supervised.

    scale: "full" is the paper's size, "small" trains in hours and "tiny" in minutes on a CPU; "tiny" alone hears with
    `direct`, which is ours.
    """
    full = Recipe(
        name="emage",
        body=Body(window=64, seed_frames=4),
        tokenizer=Tokenizer(
            width=256,
            network=Spec("plain", layers=2),
            quantizer=Spec("vq", codebook_size=256, learning="gradient", commitment=1.0),
            losses=TOKENIZER_LOSSES,
            by_part={"lower": {"network.layers": 4}},
        ),
        root=Root(network="plain", width=256, layers=4, losses=dict(ROOT_WEIGHTS)),
        conditioners={
            "rhythm": Spec("rhythm"),
            "transcript": Spec("transcript", dim=300),
            "speaker": Spec("speaker", dim=256),
        },
        masker=Spec("random", ratio=Linear(0.0, 0.95), unit="joint"),
        generator=Spec("emage"),
        training={
            "tokenizer": Training(steps=24000, batch_size=64, lr=2.5e-4, decay="constant"),
            "root": Training(steps=24000, batch_size=64, lr=1.5e-4, decay="constant"),
            "generator": Training(steps=47000, batch_size=64, lr=2.5e-4, decay="constant", betas=(0.5, 0.999)),
        },
    )
    return full.but(_SCALES.get(scale, {}))
