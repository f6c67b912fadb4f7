"""EMAGE's released audio model as anybody would write it: stock PyTorch layers under the release's names of weights.

The yardstick of `emage_generation.py`. It computes what the release computes, window by window, with
`nn.TransformerDecoderLayer`, `nn.Conv1d` and `nn.BatchNorm1d`, and without a single idea about speed; official state
dicts load strictly, but for the two layers that the release copies its stacks from and then never runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PARTS = ("face", "upper", "hands", "lower")
TEMPLATES = ("transformer_en_layer.", "audio_motion_cross_attn_layer.")
ROTATIONS = {
    "face": [22],
    "upper": [3, 6, 9, *range(12, 22)],
    "hands": [*range(25, 55)],
    "lower": [0, 1, 2, 4, 5, 7, 8, 10, 11],
}
SIZES = {"face": 106, "upper": 78, "hands": 180, "lower": 61}
LAYERS = {"face": 2, "upper": 2, "hands": 2, "lower": 4, "global": 4}
SAMPLES = 533  # samples a frame
FULL = {
    "audio_f": 256, "motion_f": 256, "hidden_size": 768, "pose_length": 64, "seed_frames": 4, "speaker_dims": 1,
    "vae_codebook_size": 256,
}  # fmt: skip


class WavBlock(nn.Module):
    """Two convolutions of 15 samples with batch norms, and a shortcut."""

    def __init__(self, dim: int, out: int, stride: int, padding: int, shortcut: bool) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv1d(dim, out, 15, stride, padding), nn.BatchNorm1d(out)
        self.conv2, self.bn2 = nn.Conv1d(out, out, 15, 1, 7), nn.BatchNorm1d(out)
        self.downsample = None
        if shortcut:
            self.downsample = nn.Sequential(nn.Conv1d(dim, out, 15, stride, padding), nn.BatchNorm1d(out))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, N] -> [B, out, about N / stride]."""
        y = self.bn2(self.conv2(F.leaky_relu(self.bn1(self.conv1(x)))))
        return F.leaky_relu(y + (x if self.downsample is None else self.downsample(x)))


class WavEncoder(nn.Module):
    """A waveform to features, one in 540 samples."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        a, b = dim // 4, dim // 2
        self.feat_extractor = nn.Sequential(
            WavBlock(1, a, 5, 1600, True),
            WavBlock(a, a, 6, 0, True),
            WavBlock(a, a, 1, 7, False),
            WavBlock(a, b, 6, 0, True),
            WavBlock(b, b, 1, 7, False),
            WavBlock(b, dim, 3, 0, True),
        )

    def forward(self, audio: Tensor) -> Tensor:
        """[B, samples] -> [B, S, dim]."""
        return self.feat_extractor(audio[:, None]).transpose(1, 2)


class Residual(nn.Module):
    """x + convolutions of x."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.model = nn.Sequential(nn.Conv1d(dim, dim, 3, 1, 1), nn.LeakyReLU(0.2), nn.Conv1d(dim, dim, 3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Same shape."""
        return x + self.model(x)


def motion_encoder(size: int, width: int, layers: int) -> nn.Sequential:
    """Convolution, leaky rectifier, residual block, `layers` times."""
    found: list[nn.Module] = []
    for layer in range(layers):
        found += [nn.Conv1d(width if layer else size, width, 3, 1, 1), nn.LeakyReLU(0.2), Residual(width)]
    return nn.Sequential(*found)


class Convolutions(nn.Module):
    """A stack under the name `main`, on [B, T, C]."""

    def __init__(self, main: nn.Sequential) -> None:
        super().__init__()
        self.main = main

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T, out]."""
        return self.main(x.transpose(1, 2)).transpose(1, 2)


class Mlp(nn.Module):
    """Two linear layers."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(dim, hidden), nn.Linear(hidden, out)

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., out]."""
        return self.fc2(F.leaky_relu(self.fc1(x), 0.1))


class Positions(nn.Module):
    """Adds a sinusoidal table."""

    def __init__(self, dim: int, period: int) -> None:
        super().__init__()
        angle = torch.arange(period)[:, None] * torch.exp(
            torch.arange(0, dim, 2) * (-torch.log(torch.tensor(1e4)) / dim)
        )
        table = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)
        self.register_buffer("pe", table.repeat(2, 1)[None])

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C], same shape."""
        return x + self.pe[:, : x.shape[1]]


class PlainEmage(nn.Module):
    """The network: audio, speaker and masked motion to latents and class scores of the four parts."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        super().__init__()
        h, a, m, k = (config[key] for key in ("hidden_size", "audio_f", "motion_f", "vae_codebook_size"))
        self.mask_embedding = nn.Parameter(torch.zeros(1, 1, 337))
        self.audio_encoder_face, self.audio_encoder_body = WavEncoder(a), WavEncoder(a)
        self.speaker_embedding_body = nn.Embedding(config["speaker_dims"], h)
        self.speaker_embedding_face = nn.Embedding(config["speaker_dims"], h)
        self.motion_encoder = Convolutions(motion_encoder(337, m, 3))
        self.bodyhints_face, self.bodyhints_body = Mlp(m, h, m), Mlp(m, h, m)
        self.audio_body_motion_proj, self.moton_proj = nn.Linear(a, h), nn.Linear(m, h)
        self.position_embeddings = Positions(h, config["pose_length"])
        self.motion_self_encoder = nn.TransformerEncoder(
            nn.TransformerEncoderLayer(h, 4, 2 * h), 1, enable_nested_tensor=False
        )
        decoder = nn.TransformerDecoderLayer(h, 4, 2 * h)
        self.audio_motion_cross_attn = nn.TransformerDecoder(decoder, 8)
        for part in PARTS[1:]:
            self.add_module(f"motion2latent_{part}", Mlp(h, h, h))
            self.add_module(f"body_motion_decoder_{part}", nn.TransformerDecoder(decoder, 1))
            self.add_module(f"motion_out_proj_{part}", nn.Linear(h, k))
            self.add_module(f"motion_cls_{part}", Mlp(k, h, k))
        self.audio_face_motion_proj = nn.Linear(a + m, h)
        self.face_motion_decoder = nn.TransformerDecoder(decoder, 4)
        self.face_out_proj, self.face_cls = nn.Linear(h, k), Mlp(k, h, k)

    def load_official(self, tensors: Mapping[str, Tensor]) -> PlainEmage:
        """Load a state dict of the release; every name but those of the templates must be ours."""
        self.load_state_dict({name: value for name, value in tensors.items() if not name.startswith(TEMPLATES)})
        return self.eval()

    def forward(
        self, audio: Tensor, speaker: Tensor, motion: Tensor, mask: Tensor, use_audio: bool = True
    ) -> dict[str, Tensor]:
        """Audio [B, samples], speaker [B, 1], motion and mask [B, T, 337] (1: hidden) -> name -> [B, T, 256]."""
        hint = self.motion_encoder(torch.where(mask == 1, self.mask_embedding, motion))
        hint_body, hint_face = self.bodyhints_body(hint), self.bodyhints_face(hint)
        face, body = self.audio_encoder_face(audio), self.audio_encoder_body(audio)
        face = face[:, : motion.shape[1]]
        steps = face.shape[1]
        say_body = self.speaker_embedding_body(speaker).repeat(1, steps, 1)
        say_face = self.speaker_embedding_face(speaker).repeat(1, steps, 1)

        memory = self.audio_face_motion_proj(torch.cat([face, hint_face], -1))
        found = _across(self.face_motion_decoder, self.position_embeddings(say_face), memory)
        out = {"rec_face": self.face_out_proj(found)}
        out["cls_face"] = self.face_cls(out["rec_face"])

        query = self.position_embeddings(self.moton_proj(hint_body)) + say_body
        query = self.motion_self_encoder(query.transpose(0, 1)).transpose(0, 1)
        query = self.position_embeddings(query + say_body)
        heard = _across(self.audio_motion_cross_attn, query, self.audio_body_motion_proj(body))
        fused = query + (heard if use_audio else heard * 0)
        split = {part: getattr(self, f"motion2latent_{part}")(fused) for part in PARTS[1:]}
        others = {
            "upper": split["hands"] + split["lower"],
            "hands": split["upper"] + split["lower"],
            "lower": split["upper"] + split["hands"],
        }
        for part, own in split.items():
            refined = _across(getattr(self, f"body_motion_decoder_{part}"), own + say_body, others[part])
            out[f"rec_{part}"] = getattr(self, f"motion_out_proj_{part}")(own + refined)
            out[f"cls_{part}"] = getattr(self, f"motion_cls_{part}")(out[f"rec_{part}"])
        return out


def _across(decoder: nn.TransformerDecoder, query: Tensor, memory: Tensor) -> Tensor:
    """Time first, as the release has it."""
    return decoder(query.transpose(0, 1), memory.transpose(0, 1)).transpose(0, 1)


class PlainTokenizer(nn.Module):
    """A VQ-VAE of one part, or without codes the global motion predictor."""

    def __init__(self, size: int, width: int, layers: int, codes: int) -> None:
        super().__init__()
        self.encoder = Convolutions(motion_encoder(size, width, layers))
        decoder: list[nn.Module] = [Residual(width), Residual(width)]
        for layer in range(layers):
            decoder += [nn.Conv1d(width, size if layer == layers - 1 else width, 3, 1, 1), nn.LeakyReLU(0.2)]
        self.decoder = Convolutions(nn.Sequential(*decoder, nn.Conv1d(size, size, 3, 1, 1)))
        self.quantizer = nn.Module()
        if codes:
            self.quantizer.embedding = nn.Embedding(codes, width)

    def nearest(self, latents: Tensor) -> Tensor:
        """[B, T, C] -> index of the nearest code."""
        table = self.quantizer.embedding.weight
        flat = latents.flatten(0, 1)
        distance = flat.square().sum(1, keepdim=True) + table.square().sum(1) - 2 * flat @ table.T
        return distance.argmin(1).view(latents.shape[:2])


class PlainBody(nn.Module):
    """The tokenizers of the four parts and the global motion predictor."""

    def __init__(self, width: int = 256, codes: int = 256) -> None:
        super().__init__()
        for part in PARTS:
            self.add_module(part, PlainTokenizer(SIZES[part], width, LAYERS[part], codes))
        self.predictor = PlainTokenizer(61, width, LAYERS["global"], 0)

    def load_official(self, tensors: Mapping[str, Mapping[str, Tensor]]) -> PlainBody:
        """Load state dicts of the release by the names of its folders, "global" among them."""
        for part, values in tensors.items():
            (self.predictor if part == "global" else getattr(self, part)).load_state_dict(values)
        return self.eval()

    def decode(self, out: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """What the network says -> motion [B, T, 337], expressions [B, T, 100], the lower body as decoded [B, T, 61]."""
        index = {part: out[f"cls_{part}"].argmax(-1) for part in PARTS[1:]}
        index["face"] = self.face.nearest(out["rec_face"])
        decoded = {}
        for part in PARTS:
            tokenizer = getattr(self, part)
            decoded[part] = tokenizer.decoder(tokenizer.quantizer.embedding(index[part]))
        rotations = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(*decoded["face"].shape[:2], 55, 1)
        for part, joints in ROTATIONS.items():
            rotations[:, :, joints] = decoded[part][..., : 6 * len(joints)].unflatten(-1, (-1, 6))
        motion = torch.cat([orthonormal(rotations).flatten(2), decoded["lower"][..., 54:]], -1)
        return motion, decoded["face"][..., 6:], decoded["lower"]

    def walk(self, lower: Tensor, start: Tensor) -> Tensor:
        """Path [B, T, 3] from `start` [B, 3]: velocities are summed, the height is taken as it is."""
        moves = self.predictor.decoder(self.predictor.encoder(lower))[..., 54:57]
        flat = start[:, None, 0::2] + F.pad(moves[:, :-1, 0::2] / 30, (0, 0, 1, 0)).cumsum(1)
        return torch.stack([flat[..., 0], moves[..., 1], flat[..., 1]], -1)


def orthonormal(rotations: Tensor) -> Tensor:
    """Gram-Schmidt on the two rows of [..., 6]."""
    first = F.normalize(rotations[..., :3], dim=-1, eps=1e-12)
    second = rotations[..., 3:] - (first * rotations[..., 3:]).sum(-1, keepdim=True) * first
    return torch.cat([first, F.normalize(second, dim=-1, eps=1e-12)], -1)


@torch.inference_mode()
def generate(
    model: PlainEmage,
    body: PlainBody,
    audio: Tensor,
    speaker: Tensor,
    motion: Tensor | None = None,
    mask: Tensor | None = None,
    start: Tensor | None = None,
    window: int = 64,
    seed: int = 4,
) -> dict[str, Tensor]:
    """Motion for whole clips, window by window, each seeded by the one before; the latents are decoded once more at the end.

    audio [B, samples], speaker [B, 1]; motion and mask [B, T, 337] (1: hidden) are what is known. Returns the network's
    outputs, "motion" [B, T, 337], "expressions" [B, T, 100] and "translation" [B, T, 3].
    """
    frames, step = audio.shape[1] * 30 // 16000, window - seed
    known = torch.zeros(len(audio), frames, 337)
    known[..., :330] = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(55)
    hidden = torch.ones(len(audio), frames, 337)
    if motion is not None:
        known[:, : motion.shape[1]] = motion
    if mask is not None:
        hidden[:, : mask.shape[1]] = mask
    rounds, rest = (frames - seed) // step, (frames - seed) % step
    windows = [(number * step, window, step) for number in range(rounds)]
    if rest > seed:
        windows.append((rounds * step, seed + rest, seed + rest))
    last = known[:, :seed]
    outs: list[dict[str, Tensor]] = []
    for first, size, keep in windows:
        given, veil = known[:, first : first + size].clone(), hidden[:, first : first + size].clone()
        given[:, :seed] = torch.where(veil[:, :seed] == 0, given[:, :seed], last)
        veil[:, :seed] = 0
        out = model(audio[:, first * SAMPLES : (first + size) * SAMPLES], speaker, given, veil)
        last = body.decode(out)[0][:, -seed:]
        outs.append({name: value[:, :keep] for name, value in out.items()})
    out = {name: torch.cat([one[name] for one in outs], 1) for name in outs[0]}
    out["motion"], out["expressions"], lower = body.decode(out)
    out["translation"] = body.walk(lower, torch.zeros(len(audio), 3) if start is None else start)
    return out
