"""The presets `echomask`, as the paper has it, and `echomask-release`, which is its diff (ACM MM 2025)."""

from __future__ import annotations

from typing import Any, Literal

from maskmotion.config import Body, Recipe, Root, Spec, Tokenizer, Training
from maskmotion.schedules import Linear
from maskmotion.tokenizers.root_losses import ROOT_WEIGHTS

Scale = Literal["full", "small", "tiny"]

RELEASE_PASSES = [
    {"name": "seed", "mask": "seed"},
    {"name": "self", "speech": False},
    {"name": "word", "like": "self"},
]
_PART_LOSSES = dict.fromkeys(
    (
        *("geodesic", "rotation_velocity", "rotation_acceleration", "contact"),
        *("expression", "expression_velocity", "expression_acceleration"),
    ),
    1.0,
)
_TRANSLATION = {"translation": 1.0, "translation_velocity": 1.0}
_PLANTED = {"checkpoint": "planted", "low": 2, "high": -1}
_SCALES: dict[str, dict[str, Any]] = {
    "small": {
        "tokenizer.width": 96,
        "root.width": 96,
        "conditioners.speech.speech": Spec("speech", **_PLANTED),
        "conditioners.speech.dim": 96,
        "conditioners.speaker.dim": 256,
        "generator.dim": 256,
        "generator.features": 96,
        "generator.layers": 4,
        "generator.feed": 512,
        "generator.face_layers": 2,
        "generator.residual_layers": 2,
        "generator.residual_feed": 256,
        "training.tokenizer.steps": 6000,
        "training.root.steps": 2000,
        "training.generator.steps": 10000,
    },
    "tiny": {
        "tokenizer": {
            "width": 48,
            "network": {"name": "dilated", "downsample": 4, "dilations": [3, 1]},
            "quantizer": {"name": "rvq", "codebook_size": 64, "num_layers": 3},
        },  # and the root as in the preset `tiny`, so that their runs can share them
        "root": {},
        "conditioners.speech.speech": Spec("speech", **_PLANTED),
        "conditioners.speech.dim": 48,
        "conditioners.speech.heads": 2,
        "conditioners.speech.dropout": 0.0,
        "conditioners.speech.near": 0.5,
        "conditioners.speech.pre_norm": True,
        "conditioners.speech.frame": 0.1,  # by single runs with random masks, see docs/presets/echomask.md
        "conditioners.speech.sentence": 0.1,
        "conditioners.speaker.dim": 32,  # mapped: a vector as wide as the network would be added as it is and drown speech
        "generator.dim": 64,
        "generator.features": 64,
        "generator.heads": 2,
        "generator.layers": 1,
        "generator.feed": 128,
        "generator.face_layers": 1,
        "generator.residual_layers": 1,
        "generator.residual_heads": 2,
        "generator.residual_feed": 96,
        "generator.dropout": 0.0,
        "generator.normalise": True,
        "generator.pre_norm": True,
        "generator.speech_layers": 2,
        "generator.direct": True,
        "training.tokenizer": Training(steps=350, batch_size=32, lr=2e-3),
        "training.root": Training(steps=150, batch_size=32, lr=2e-3),
        "training.generator": Training(steps=500, batch_size=12, lr=3e-3, ema_decay=0.99),
    },
}


def echomask(scale: Scale = "full") -> Recipe:
    """EchoMask as its paper describes it: aligned speech asks motion where it means something, and that is hidden.

    Tokens, alignment (both contrasts of eq. 5), attention of four parts, L_sem where there are labels, soft-to-hard masks
    (eq. 7, the best of Figure 12), 200 epochs at 1e-4. What the paper leaves open is the release's: sizes of layers,
    batches of the tokenizers, the loss of their parts. Ours: half of every batch learns under the generation mask and half
    under the masker; the lower body's translation is supervised; the teacher's average begins fast.

    scale: "full" is the paper's size, "small" trains in hours and "tiny" in minutes on a CPU; both hear with the small
    HuBERT that `maskmotion data speech` trains.
    """
    constant = {"batch_size": 64, "decay": "constant", "warmup": 0.0}
    full = Recipe(
        name="echomask",
        body=Body(window=64, seed_frames=4),
        tokenizer=Tokenizer(
            width=256,
            network=Spec("dilated", downsample=4, dilations=(9, 3, 1)),
            quantizer=Spec("rvq", codebook_size=256, num_layers=6, commitment=1.0, quantizer_dropout=0.2),
            losses=_PART_LOSSES | _TRANSLATION,
        ),
        root=Root(network="plain", width=256, layers=4, losses=dict(ROOT_WEIGHTS)),
        conditioners={
            "speech": Spec("aligned", speech=Spec("speech")),
            "speaker": Spec("speaker", dim=768, count=25),
        },
        masker=Spec("speech_queried", ratio=0.5, hard=Linear(0.0, 0.3), soft=Linear(0.3, 0.0)),
        generator=Spec("echomask"),
        training={
            "tokenizer": Training(steps=94000, lr=1.5e-4, betas=(0.5, 0.999), **constant),
            "root": Training(steps=94000, lr=1.5e-4, betas=(0.5, 0.999), **constant),
            "generator": Training(steps=23500, lr=1e-4, betas=(0.9, 0.999), ema_decay=0.9999, **constant),
        },
    )
    return full.but(_SCALES.get(scale, {}))


def echomask_release(scale: Scale = "full") -> Recipe:
    """What EchoMask's authors released, as changes to `echomask`: loads its checkpoint.

    Departures from the paper: no L_sem; no face in the attention, whose parts have learned weights; an alignment for each
    part with negatives of the same clip alone, no sentence level, a regressor, and a classifier of matches that sees
    nothing but matches; speech read at the wrong rate and projected at random; three passes, losses on all tokens, two
    contrasts more; 37.5 % hidden. Its soft draw takes exactly the frames that come next, so that hard and soft together
    are the top fifth at every epoch: hard=0.2 here, and no schedule. The loss of the alignment counts three times,
    because it runs in every pass; here it runs once.

    Not as released: the teacher's average, which here begins fast; half precision, which is `training.precision`; the
    dropout of attention weights.
    """
    base = echomask(scale)
    dim, width = base.generator.arguments["dim"], base.tokenizer.width
    heard = base.conditioners["speech"].arguments["speech"].arguments
    learning: dict[str, Any] = {"betas": (0.5, 0.999), "decay": "constant", "warmup": 0.0, "grad_norm": 0.99}
    adam = {f"training.generator.{name}": value for name, value in learning.items()}
    full = {"training.generator.steps": 47000, "training.generator.lr": 5e-5, "training.generator.ema_decay": 0.9999}
    return base.but(
        {
            "name": "echomask-release",
            "tokenizer.network.dropout": 0.2,
            "tokenizer.quantizer.quantizer_dropout": 0.0,
            "tokenizer.quantizer.temperature": 0.5,
            "tokenizer.losses": _PART_LOSSES | {"joints": 1.0, "foot_sliding": 20.0},
            "tokenizer.normalise": False,
            "root.velocity": "central",
            "conditioners": {
                "speech": Spec(
                    "aligned",
                    speech=Spec("released_speech", dim=width, **{name: heard[name] for name in _PLANTED}),
                    dim=width,
                    encoders=(2, 2, 2),
                    by_part=True,
                    queries=1,
                    query_std=0.0,
                    project=False,
                    negatives="clip",
                    frame=3.0,
                    sentence=0.0,
                    match=3.0,
                    match_negatives=False,
                    regress=3.0,
                ),
                "face_speaker": Spec("speaker", dim=dim, count=25),
                "body_speaker": Spec("speaker", dim=dim, count=25),
            },
            "masker.ratio": 0.375,
            "masker.hard": 0.2,
            "masker.soft": 0.0,
            "generator.attended": ("hands", "upper", "lower"),
            "generator.fusion": "learned",
            "generator.passes": RELEASE_PASSES,
            "generator.sums": "release",
            "generator.latent": 0.5,
            "generator.contrast": 1.0,
            "generator.semantic": 0.0,
            "generator.visible": 1.0,
            "generator.windows": "release",
            **(adam | full if scale == "full" else {}),
        }
    )
