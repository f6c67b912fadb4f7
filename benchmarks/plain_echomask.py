"""EchoMask's released graph as anybody would write it: stock PyTorch layers under the release's names of weights.

The yardstick of `echomask_step.py` and `echomask_generation.py`. It computes what the release computes, pass by pass and
window by window, without a single idea about speed; official state dicts load by name, but for the weights that the release
never uses. In one thing it may be quicker than the release: attention weights are averaged where somebody reads them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from plain_emage import Convolutions, Positions, motion_encoder
from plain_rvq import BODY, BOOKS, PARTS, SEED, PlainBody
from torch import Tensor, nn

ASKED = ("hands", "upper", "lower")  # the parts that query motion, in the order of the fusion weights
FRAMES, TOKENS = 64, 16


class Mlp(nn.Module):
    """Two linear layers."""

    def __init__(self, dim: int, hidden: int, out: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.LeakyReLU(0.2), nn.Linear(hidden, out))

    def forward(self, x: Tensor) -> Tensor:
        """[..., dim] -> [..., out]."""
        return self.mlp(x)


class Place(Positions):
    """Adds a sinusoidal table of one window, then drops."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, FRAMES)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C], same shape."""
        return F.dropout(super().forward(x), 0.1, self.training)


class Halve(nn.Conv1d):
    """A convolution that joins neighbours."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim, dim, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, C] -> [B, T / 2, C]."""
        return super().forward(x.mT).mT


def encoder(dim: int, feed: int, layers: int) -> nn.TransformerEncoder:
    """Post-norm layers with four heads."""
    layer = nn.TransformerEncoderLayer(dim, 4, feed, batch_first=True)
    return nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)


def decoder(dim: int, feed: int, layers: int, heads: int = 4) -> nn.TransformerDecoder:
    """Post-norm layers that look at themselves, then at a memory."""
    return nn.TransformerDecoder(nn.TransformerDecoderLayer(dim, heads, feed, batch_first=True), layers)


def pooled(heard: Tensor) -> Tensor:
    """[B, 64, C] -> [B, 16, C]: means of a token's frames."""
    return heard.unflatten(1, (TOKENS, -1)).mean(2)


def nce(motion: Tensor, heard: Tensor) -> Tensor:
    """Every token of speech [B, 64, C] finds its own among the 16 of motion [B, 16, C]."""
    likeness = F.normalize(pooled(heard), dim=-1) @ F.normalize(motion, dim=-1).mT / 0.1
    return F.cross_entropy(likeness.flatten(0, 1), torch.arange(TOKENS).repeat(len(motion)))


class Alignment(nn.Module):
    """MAM: speech as a part's motion would put it, the same for motion, and the losses between them."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        for part in PARTS:
            self.register_parameter(f"moau_query_{part}", nn.Parameter(torch.zeros(1, 1, dim)))
            for number in (1, 2, 3):
                self.add_module(f"motion_encoder_{part}_{number}", encoder(dim, 2 * dim, 2))
            for level in ("low", "high"):
                self.add_module(f"{part}_decoder_{level}", decoder(dim, 2 * dim, 1))
            self.add_module(f"predict_motion_{part}", Mlp(dim, dim, dim))
            self.add_module(f"match_{part}_classifier", Mlp(2 * dim, dim, 2))
        self.position_embeddings, self.position_embeddings_hubert = Place(dim), Place(dim)

    def forward(self, high: Tensor, low: Tensor) -> dict[str, Tensor]:
        """Both levels [B, 64, C] -> part -> [B, 64, C]."""
        high, low = self.position_embeddings_hubert(high), self.position_embeddings_hubert(low)
        found = {}
        for part in PARTS:
            query = getattr(self, f"moau_query_{part}").expand(len(high), FRAMES, -1)
            x = self._of("motion_encoder", part, 1)(self.position_embeddings(query))
            x = self._of("motion_encoder", part, 2)(getattr(self, f"{part}_decoder_low")(x, low))
            found[part] = self._of("motion_encoder", part, 3)(getattr(self, f"{part}_decoder_high")(x, high))
        return found

    def losses(self, heard: Mapping[str, Tensor], zq: Mapping[str, Tensor]) -> Tensor:
        """What `forward` gives and code vectors [B, 6, 16, C] of every part -> the sum of all terms."""
        total = torch.zeros(())
        for part in PARTS:
            motion = self.position_embeddings(zq[part].sum(1))
            for number in (1, 2, 3):
                motion = self._of("motion_encoder", part, number)(motion)
            said = pooled(heard[part])
            both = torch.cat([said.mean(1), motion.mean(1)], -1)
            match = getattr(self, f"match_{part}_classifier")(both)
            guess = getattr(self, f"predict_motion_{part}")(said)
            total = total + nce(motion, heard[part]) + F.mse_loss(guess, motion)
            total = total + F.cross_entropy(match, torch.ones(len(match), dtype=torch.long))
        return total

    def _of(self, name: str, part: str, number: int) -> nn.Module:
        return getattr(self, f"{name}_{part}_{number}")


class Telling(nn.TransformerDecoderLayer):
    """A decoder layer that tells how it looks at its memory, while `told` is a list."""

    told: list[Tensor] | None = None

    def _mha_block(self, x: Tensor, mem: Tensor, *masks: Any, **how: Any) -> Tensor:
        if self.told is None:
            return super()._mha_block(x, mem, *masks, **how)
        x, weights = self.multihead_attn(x, mem, mem)
        self.told.append(weights)
        return self.dropout2(x)


class MaskGenerator(nn.Module):
    """Eight layers, run once a part: what speech finds in motion, and how much it looks at each frame."""

    def __init__(self, dim: int, feed: int) -> None:
        super().__init__()
        self.fusion_weights = nn.Parameter(torch.full((len(ASKED),), 0.33))
        self.shared_transformer_decoder = nn.TransformerDecoder(Telling(dim, 4, feed, batch_first=True), 8)

    def forward(self, asked: Mapping[str, Tensor], memory: Tensor, tell: bool = False) -> tuple[Tensor, Tensor | None]:
        """Queries [B, 64, C] of three parts, motion [B, 64, C] -> hints [B, 64, C]; scores [B, 64] where told."""
        told: list[Tensor] = []
        for layer in self.shared_transformer_decoder.layers:
            layer.told = told if tell else None
        found = [self.shared_transformer_decoder(asked[part], memory) for part in ASKED]
        hints = sum(w * x for w, x in zip(self.fusion_weights, found)) / len(ASKED)
        if not tell:
            return hints, None
        each = torch.stack(told).unflatten(0, (len(ASKED), -1)).mean(dim=(1, 3))  # [3, B, 64]
        return hints, (self.fusion_weights[:, None, None] * each).sum(0) / len(ASKED)


class ResidualHead(nn.Module):
    """Five layers of codes after the first, each from those before it and from speech."""

    def __init__(self, dim: int, codes: int) -> None:
        super().__init__()
        for book in range(1, BOOKS):
            if book > 1:
                self.add_module(f"map_zq{book}", nn.Linear(book * dim, dim))
            self.add_module(f"cross_attn_{book}", decoder(dim, 4 * dim, 3, heads=8))
            self.add_module(f"classfier_{book}", Mlp(dim, dim, codes))

    def forward(self, first: Tensor, heard: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """[B, 16, C] and [B, 64, C] -> latents of six layers, class scores of five."""
        latents, scores = [first], []
        for book in range(1, BOOKS):
            x = first if book == 1 else getattr(self, f"map_zq{book}")(torch.cat(latents, -1))
            latents.append(getattr(self, f"cross_attn_{book}")(x, heard) + x)
            scores.append(getattr(self, f"classfier_{book}")(latents[-1]))
        return latents, scores


class PlainEchoMask(nn.Module):
    """The network: speech, speaker and masked motion to latents and class scores of the four parts."""

    def __init__(
        self, dim: int = 768, features: int = 256, hint_feed: int = 2048, codes: int = 256, speakers: int = 25
    ) -> None:
        super().__init__()
        f = features
        self.mask_embeddings = nn.Parameter(torch.randn(1, 1, 337) * dim**-0.5)
        self.MAM, self.mask_generator = Alignment(f), MaskGenerator(dim, hint_feed)
        self.motion_encoder = Convolutions(motion_encoder(337, f, 3))
        self.spearker_encoder_face, self.spearker_encoder_body = (
            nn.Embedding(speakers, dim),
            nn.Embedding(speakers, dim),
        )
        self.spearker_encoder_body1d, self.body1d = Halve(dim), Halve(dim)
        self.bodyhints_face, self.bodyhints_body = Mlp(f, dim, f), Mlp(f, dim, f)
        self.position_embeddings = Place(dim)
        self.feature2face, self.face2latent, self.feature2motion = (
            nn.Linear(2 * f, dim), nn.Linear(dim, f), nn.Linear(f, dim),
        )  # fmt: skip
        self.face_decoder = decoder(dim, 2 * dim, 4)
        self.face1d, self.face1d_2, self.face_latent_mlp = Halve(f), Halve(f), Mlp(f, dim, f)
        self.motion_self_encoder = encoder(dim, 2 * dim, 1)
        for part in BODY:
            self.add_module(f"audio_feature2motion_{part}", nn.Linear(f, dim))
            self.add_module(f"motion2latent_{part}", Mlp(dim, dim, dim))
            self.add_module(f"{part}_decoder", decoder(dim, 2 * dim, 1))
            self.add_module(f"motion_down_{part}", nn.Linear(dim, f))
            self.add_module(f"{part}1d", Halve(f))
        for name in ("hands_face", "face_hands", "upper_hands", "lower_hands"):
            self.add_module(f"{name}_decoder", decoder(f, 2 * f, 1))
        for part in PARTS:
            self.add_module(f"{part}_classifier", Mlp(f, dim, codes))
            self.add_module(f"predict_res_{part}", ResidualHead(f, codes))

    def load_official(self, tensors: Mapping[str, Tensor]) -> PlainEchoMask:
        """Load a state dict of the release: of it all weights that are ours, which must all be there (tables may not)."""
        lacks = [name for name in self.load_state_dict(tensors, strict=False).missing_keys if not name.endswith(".pe")]
        if lacks:
            raise KeyError(", ".join(lacks))
        return self.eval()

    def forward(
        self,
        high: Tensor,
        low: Tensor,
        motion: Tensor,
        speaker: Tensor,
        mask: Tensor,
        hints: bool = True,
        zq: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """One pass over a window.

        high, low [B, 64, C], motion [B, 64, 337], speaker and mask [B, 64] (1: hidden); zq: part -> [B, 6, 16, C], in
        training. Returns `rec_PART` [B, 6, 16, C], `cls_PART` [B, 16, K, 6], and losses.
        """
        heard = self.MAM(high, low)
        hint = self.motion_encoder(torch.where(mask[..., None] == 1, self.mask_embeddings, motion))
        face = self.look_out(hint, heard["face"], speaker)
        first, apart = self.move(hint, heard, speaker, face, hints)
        out = {"face_nce": nce(face, heard["face"]), "hands_nce": nce(apart["hands"], heard["hands"])}
        if zq is not None:
            out["mam"] = self.MAM.losses(heard, zq)
        for part in PARTS:
            latents, scores = getattr(self, f"predict_res_{part}")(first[part], heard[part])
            out[f"rec_{part}"] = torch.stack(latents, 1)
            out[f"cls_{part}"] = torch.stack([getattr(self, f"{part}_classifier")(first[part]), *scores], -1)
        return out

    def look_out(self, hint: Tensor, heard: Tensor, speaker: Tensor) -> Tensor:
        """The face [B, 16, C]."""
        memory = self.feature2face(torch.cat([heard, self.bodyhints_face(hint)], -1))
        face = self.face_decoder(self.position_embeddings(self.spearker_encoder_face(speaker)), memory)
        return self.face1d_2(self.face_latent_mlp(self.face1d(self.face2latent(face))))

    def gather(self, hint: Tensor, speaker: Tensor) -> Tensor:
        """What the body knows of itself [B, 64, dim]."""
        x = self.feature2motion(self.bodyhints_body(hint)) + self.spearker_encoder_body(speaker)
        return self.motion_self_encoder(self.position_embeddings(x))

    def ask(self, heard: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Queries of the parts that look at motion [B, 64, dim]."""
        return {part: getattr(self, f"audio_feature2motion_{part}")(heard[part]) for part in ASKED}

    def move(
        self, hint: Tensor, heard: Mapping[str, Tensor], speaker: Tensor, face: Tensor, hints: bool
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Latents [B, 16, C] of every part, and those of the body before the parts looked at each other."""
        x = self.gather(hint, speaker)
        if hints:
            x = x + self.mask_generator(self.ask(heard), self.position_embeddings(x))[0]
        x, who = self.body1d(x), self.spearker_encoder_body1d(self.spearker_encoder_body(speaker))
        own = {part: getattr(self, f"motion2latent_{part}")(x) for part in BODY}
        apart = {}
        for part in BODY:
            others = sum(value for other, value in own.items() if other != part)
            x = getattr(self, f"{part}_decoder")(self.position_embeddings(own[part] + who), others)
            apart[part] = getattr(self, f"{part}1d")(getattr(self, f"motion_down_{part}")(x + own[part]))
        hands = self.hands_face_decoder(apart["hands"], face)
        first = {"hands": hands, "face": self.face_hands_decoder(face, apart["hands"])}
        first["upper"] = self.upper_hands_decoder(apart["upper"], hands + apart["lower"])
        first["lower"] = self.lower_hands_decoder(apart["lower"], apart["upper"] + hands)
        return first, apart

    def scores(self, high: Tensor, low: Tensor, motion: Tensor, speaker: Tensor, zq: Mapping[str, Tensor]) -> Tensor:
        """How much speech looks at each frame [B, 64], as the release's teacher comes to it: much is thrown away."""
        heard = self.MAM(high, low)
        self.MAM.losses(heard, zq)
        x = self.gather(self.motion_encoder(motion), speaker)
        found = self.mask_generator(self.ask(heard), self.position_embeddings(x), tell=True)[1]
        assert found is not None
        return found


@dataclass(frozen=True)
class Windows:
    """A batch: speech [B, 64, C] twice, motion [B, 64, 337], speaker [B, 64], part -> [B, 6, 16, C] and [B, 16, 6]."""

    high: Tensor
    low: Tensor
    motion: Tensor
    speaker: Tensor
    zq: Mapping[str, Tensor]
    codes: Mapping[str, Tensor]

    @property
    def given(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What the network reads."""
        return self.high, self.low, self.motion, self.speaker


def select(scores: Tensor, progress: float) -> Tensor:
    """The teacher's mask [B, 64]: the frames looked at most, then chance (the release's soft draw takes all it may)."""
    hard = round(0.2 * progress * FRAMES)
    sure = hard + round((0.2 - 0.2 * progress) * FRAMES)
    rank = scores.argsort(-1, descending=True).argsort(-1)
    order = torch.where(rank < sure, rank - FRAMES, torch.rand(scores.shape)).argsort(-1).argsort(-1)
    return (order < round(0.375 * FRAMES)).float()


def losses(out: Mapping[str, Tensor], batch: Windows, seed: bool) -> dict[str, Tensor]:
    """Terms of one pass; the contrast of face and hands belongs to the seed pass alone."""
    found = {"mam": out["mam"]}
    if seed:
        found |= {name: out[name] for name in ("face_nce", "hands_nce")}
    scores = {part: out[f"cls_{part}"].log_softmax(2).transpose(1, 2) for part in PARTS}  # [B, K, 16, 6]
    each = [
        sum(F.nll_loss(scores[part][..., book], batch.codes[part][..., book]) for part in PARTS) / (book + 1)
        for book in range(BOOKS)
    ]
    found["cls"] = torch.stack(each).sum()
    found["latent"] = 0.5 * sum(F.mse_loss(out[f"rec_{part}"], batch.zq[part]) for part in PARTS)
    return found


def passes(student: PlainEchoMask, batch: Windows, hidden: Tensor) -> dict[str, Tensor]:
    """Terms of a training step, `seed/cls` and so on; hidden [B, 64]: of the passes under the teacher's mask."""
    after = (torch.arange(FRAMES) >= SEED).float().expand(len(hidden), -1)
    found = {}
    for name, mask, hints in (("seed", after, True), ("self", hidden, False), ("word", hidden, True)):
        out = student(*batch.given, mask, hints, batch.zq)
        found |= {f"{name}/{term}": value for term, value in losses(out, batch, name == "seed").items()}
    return found


def adam(student: PlainEchoMask) -> torch.optim.Adam:
    """The release's optimizer."""
    return torch.optim.Adam(student.parameters(), 5e-5, (0.5, 0.999))


def train_step(
    student: PlainEchoMask,
    teacher: PlainEchoMask,
    optimizer: torch.optim.Optimizer,
    batch: Windows,
    progress: float = 0.0,
    hidden: Tensor | None = None,
) -> dict[str, Tensor]:
    """One step of training, teacher included. hidden [B, 64]: a mask to use in place of the teacher's, which still works."""
    with torch.no_grad():
        chosen = select(teacher.scores(*batch.given, batch.zq), progress)
    found = passes(student, batch, chosen if hidden is None else hidden)
    optimizer.zero_grad()
    torch.stack(list(found.values())).sum().backward()
    nn.utils.clip_grad_norm_(student.parameters(), 0.99)
    optimizer.step()
    with torch.no_grad():
        for old, new in zip(teacher.parameters(), student.parameters(), strict=True):
            old.mul_(0.9999).add_(new, alpha=1e-4)
    return {name: value.detach() for name, value in found.items()}


@torch.inference_mode()
def generate(
    model: PlainEchoMask,
    body: PlainBody,
    high: Tensor,
    low: Tensor,
    speaker: Tensor,
    seed: Tensor,
    start: Tensor,
) -> dict[str, Tensor]:
    """A clip, window by window, each seeded by the one before; codes are decoded once more at the end.

    high, low [B, T, C], speaker [B], seed [B, 4, 337], start [B, 3]. Returns what `PlainBody.finish` does, for 4 + 60 n
    frames: the rest of the speech is lost.
    """
    step = FRAMES - SEED
    count = (high.shape[1] // 8 * 8 - SEED) // step
    hidden = (torch.arange(FRAMES) >= SEED).float().expand(len(high), -1)
    who = speaker[:, None].expand(-1, FRAMES)
    joined: dict[str, list[Tensor]] = {part: [] for part in PARTS}
    for number in range(count):
        span = slice(number * step, number * step + FRAMES)
        motion = F.pad(seed, (0, 0, 0, step))
        out = model(high[:, span], low[:, span], motion, who, hidden)
        codes = {part: out[f"cls_{part}"].softmax(2).argmax(2) for part in PARTS}
        seed = body.seed(codes, start)
        for part, values in codes.items():
            joined[part].append(values[:, 1 if number else 0 :])
    return body.finish({part: torch.cat(values, 1) for part, values in joined.items()}, start)
