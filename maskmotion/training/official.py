"""What is known of the official checkpoints: files by sha256, licences, and networks that are no tokenizers.

Facts of the releases of EMAGE, SemTalk and EchoMask; not a line of theirs is here. Their tokenizers are in
`official_tokenizers`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Release:
    """Where files come from and under which licence."""

    title: str
    licence: str


_ASK = "no licence file, tag 'other' on the hub: ask its authors before you pass it on"
EMAGE_HUB = Release("EMAGE's audio model on the hub (H-Liu1997/emage_audio)", "Apache-2.0, by its tag on the hub")
EMAGE_2024 = Release("EMAGE, weights of 2024 (H-Liu1997/EMAGE)", "CC BY-NC 4.0: non-commercial, name its authors")
SEMTALK = Release("SemTalk (X-Zhang/SemTalk)", _ASK)
ECHOMASK = Release("EchoMask (X-Zhang/EchoMask)", _ASK)
RVQ_RELEASE = Release(f"{ECHOMASK.title} or {SEMTALK.title}", _ASK)

KNOWN: Mapping[str, tuple[str, Release]] = {
    "13ff79afef2c3209804c0cae2b9a7c467c1a39268efa87a637e860b8e6b1b4c0": ("last_790_face_v2.bin", EMAGE_2024),
    "58ffcb34ff18f3aeaf53898980ef623ea9ce36f0302a005b5f95ceef1a206a8f": ("upper_vertex_1layer_710.bin", EMAGE_2024),
    "1595a13fbdf38b95da2baf6a4ba9f0c62cd6af8b8f537da12c1c90321affa3b3": ("hands_vertex_1layer_710.bin", EMAGE_2024),
    "0e323ed5f7014957433b59249497188656811b76952d666eae5f4affdc341786": ("lower_foot_600.bin", EMAGE_2024),
    "f293265b828c6b45e12068c9b7956283c92b40cfdc9dd56ae960bbeb7bba1ad6": ("last_1700_foot.bin", EMAGE_2024),
    "b19f845300e7f52c77eddfb6307f48c8fd2766edada3efa8ad1973a87990c1ea": ("emage_audio_175.bin", EMAGE_2024),
    "5cd9566b24264f34d44003b3de62cdfd50aa85b7cdde2d369214599023c40f55": ("AESKConv_240_100.bin", EMAGE_2024),
}
"""sha256 of official files -> name and release."""


@dataclass(frozen=True)
class OtherNetwork:
    """A network that is no tokenizer: it becomes a model with its tokenizers, or is kept under its own names.

    file: name of the safetensors file to write. marks: it is known by a name that begins with each of them. tensors: how
    many the release has. dead: patterns of the first steps of names of weights that the release has and never uses.
    beside: the kind of tokenizers that it becomes a model with; None: nothing of this version reads it.
    """

    title: str
    file: str
    release: Release
    marks: tuple[str, ...]
    tensors: int
    dead: tuple[str, ...] = ()
    beside: Literal["plain", "dilated"] | None = None

    def is_dead(self, name: str) -> bool:
        """Whether the release never uses this weight."""
        return any(re.match(rf"{start}(\.|$)", name) for start in self.dead)


_TEMPLATES = ("transformer_en_layer", "transformer_de_layer")  # copied into the stacks when built, then never run
_UNUSED = (*_TEMPLATES, "transformer_de_fu_layer", "face_cons_mlp", "hands_cons_mlp", r"predict_res_\w+\.cross_layer")
OTHERS: tuple[OtherNetwork, ...] = (
    OtherNetwork(
        "EMAGE's audio model",
        file="emage_audio",
        release=EMAGE_HUB,
        marks=("mask_embedding", "moton_proj."),
        tensors=608,
        dead=("transformer_en_layer", "audio_motion_cross_attn_layer"),
        beside="plain",
    ),
    OtherNetwork(
        "EchoMask",
        file="echomask",
        release=ECHOMASK,
        marks=("mask_embeddings", "MAM.", "mask_generator."),
        tensors=2553,
        dead=(
            *(*_UNUSED, *(rf"MAM\.{name}" for name in _TEMPLATES), "wordhints_decoder", "joint_dim_reducer"),
            *(r"hubert_encoder(_body)?", r"at_attn_\w+", r"audio_pre_encoder_\w+"),
        ),
        beside="dilated",
    ),
    OtherNetwork(
        "SemTalk's sparse model",
        file="semtalk_sparse",
        release=SEMTALK,
        marks=("mask_embeddings", "semantic_body_decoder."),
        tensors=1390,
        dead=(
            *(*_UNUSED, "audio_pre_encoder_body", "emotion_embedding", "at_attn_face_semantic"),
            *("at_attn_body_semantic", "gate_face", "gate_body"),
        ),
    ),
    OtherNetwork(
        "SemTalk's base model",
        file="semtalk_base",
        release=SEMTALK,
        marks=("mask_embeddings", "predict_res_face."),
        tensors=1790,
        dead=_UNUSED,
    ),
    OtherNetwork(
        "EMAGE's text model of 2024",
        file="emage_text_2024",
        release=EMAGE_2024,
        marks=("mask_embeddings", "text_pre_encoder_face."),
        tensors=618,
        dead=_TEMPLATES,
        beside="plain",
    ),
    OtherNetwork(
        "EMAGE's audio model of 2024",
        file="emage_audio_2024",
        release=EMAGE_2024,
        marks=("mask_embeddings", "audio_pre_encoder_face.feat_extractor."),
        tensors=608,
        dead=_TEMPLATES,
        beside="plain",
    ),
    OtherNetwork(
        "the FGD feature extractor AESKConv",
        file="fgd_extractor",
        release=EMAGE_2024,
        marks=("encoder.layers.0.0.residual.", "fc_mu."),
        tensors=56,
        dead=("fc_mu", "fc_logvar"),
    ),
)
"""Networks that are no tokenizers, the one with the more particular marks first."""


def other_network(names: Iterable[str]) -> OtherNetwork | None:
    """Which of the networks that are no tokenizers a state dict holds, by its names; None for none of them."""
    found = list(names)
    fits = (other for other in OTHERS if all(any(name.startswith(mark) for name in found) for mark in other.marks))
    return next(fits, None)
