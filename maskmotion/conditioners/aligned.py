"""Speech as motion would say it: learned queries, aligned with quantized motion in a joint space (EchoMask's MAM)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.interfaces import Conditioner
from maskmotion.losses import info_nce, weighted_mean
from maskmotion.nn.alignment import BOTH, Alignment, time_mean, token_means
from maskmotion.nn.convolution import shrink
from maskmotion.nn.linear import Mlp
from maskmotion.nn.transformer import positions
from maskmotion.shapes import Bool, Float
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.types import Batch, Condition, Quantized

JOINT = "joint"  # name of the one space where parts have none of their own
_LEAK = 0.2


class Aligned(Conditioner):
    """Motion-audio alignment (EchoMask, section 3.3): one learned query a frame listens to speech, low level first.

    Queries and motion tokens pass the same transformer; contrastive losses pull those of the same place together. Motion
    is heard in training only. Frames are padded, cut short or as many as one likes: nothing is tied to a window of 64.

    Defaults follow the paper, which leaves sizes open. Its release differs: `by_part`, one query that starts at zero,
    encoders (2, 2, 2), no maps, negatives of the clip, no sentence term, and two terms that the paper does not have.

    Args:
        body: given: the parts and the width of their latents.
        speech: a conditioner whose condition has the levels "low" and "high": `speech` or `released_speech`.
        dim: C. heads: of every attention.
        encoders: layers of the transformer that queries and motion share: before, between and after the two levels.
        levels: of speech that are heard; the attention over the other is left out (EchoMask, Table 2).
        hierarchy: False: one attention, in the place of the lower level's, over the sum of both (EchoMask, Table 2,
            "low&high").
        by_part: a space and queries for each part; False: one, whose motion is all parts' latents together.
        queries: learned vectors, repeated over time (64: one a frame of a window; 1: time is told by positions alone).
            query_std: of the normal distribution that they start from.
        project: linear maps of the levels, and of the latents, to dim; False: both have that width already. All parts'
            latents together are always mapped.
        frame: weight of the contrast of motion tokens and the mean speech of their frames. negatives: what a token is
            told from: the tokens of its clip (positions tell those, so that it falls to nothing where speech and motion have
            nothing in common), or of the batch on this device.
        sentence: weight of the contrast of means over time, between the batch's rows. temperature: of both.
        match: weight of telling pairs of means that belong together; match_negatives: from pairs of different rows;
            False: there are only pairs that belong together, as in the release, and nothing to learn.
        regress: weight of the squared error of motion tokens guessed from speech, which both sides may lower.
        dropout: after positions and in every layer.
        near: frames; a query's attention over speech falls by exp(-distance / near), so that time need not be learned
            first. None, as in paper and release: nothing but positions tells which frame is whose.
        pre_norm: layers normalise what they read instead of what they give; ours, for small networks that learn for minutes.
    """

    given: ClassVar[frozenset[str]] = frozenset({"body"})

    def __init__(
        self,
        body: BodyTokenizer,
        speech: Conditioner,
        dim: int = 256,
        heads: int = 4,
        encoders: tuple[int, int, int] = (0, 0, 2),
        levels: tuple[Literal["low", "high"], ...] = ("low", "high"),
        hierarchy: bool = True,
        by_part: bool = False,
        queries: int = 64,
        query_std: float = 0.02,
        project: bool = True,
        frame: float = 1.0,
        sentence: float = 1.0,
        temperature: float = 0.1,
        negatives: Literal["clip", "batch"] = "batch",
        match: float = 0.0,
        match_negatives: bool = True,
        regress: float = 0.0,
        dropout: float = 0.1,
        near: float | None = None,
        pre_norm: bool = False,
    ) -> None:
        super().__init__()
        self.weights = {"frame": frame, "sentence": sentence, "match": match, "regress": regress}
        _check(speech, levels, encoders, queries, query_std, temperature, self.weights)
        if not hierarchy and len(levels) < 2:
            raise ValueError(f"aligned.hierarchy=False is one attention over both levels, got levels={levels}")
        if near is not None and near <= 0:
            raise ValueError(f"aligned.near is a distance in frames above 0, or None, got {near}")
        learns = any(self.weights.values())
        if not project and (odd := _other_widths(body, speech, dim, by_part, learns)):
            raise ValueError(
                f"aligned.project=False needs everything as wide as dim={dim}, got {odd}; let it project, or set dim"
            )
        self.speech, self.dim, self.levels, self.hierarchy = speech, dim, levels, hierarchy
        self.body_parts, self.fold = body.parts, body.downsample
        self.temperature, self.negatives, self.match_negatives = temperature, negatives, match_negatives
        names = body.parts if by_part else (JOINT,)
        latents = body.dim if by_part else body.dim * len(body.parts)
        mapped = names if learns and (project or not by_part) else ()
        attended: tuple[str, ...] = levels if hierarchy else (BOTH,)
        self.hear = nn.ModuleDict({level: nn.Linear(speech.dim, dim) for level in (levels if project else ())})
        self.see = nn.ModuleDict({name: nn.Linear(latents, dim) for name in mapped})
        self.spaces = nn.ModuleDict(
            {
                name: Alignment(dim, heads, encoders, attended, queries, query_std, dropout, near, pre_norm)
                for name in names
            }
        )
        self.matcher = nn.ModuleDict({name: Mlp(2 * dim, dim, 2, _LEAK) for name in (names if match else ())})
        self.regressor = nn.ModuleDict({name: Mlp(dim, dim, dim, _LEAK) for name in (names if regress else ())})
        self.dropout = nn.Dropout(dropout)

    def forward(self, batch: Batch) -> Condition:
        """Aligned speech [B, T, dim], zero in padded frames; `levels` as the queries hear them, of the same shape.

        Where each part has a space of its own, `parts` has them, and `features` is their mean. ValueError for speech
        whose condition lacks a level or has another number of steps than frames.
        """
        heard = self._heard(batch)
        spoken = {name: way["aligned"] for name, way in self._listen(heard, batch.valid).items()}
        keep = batch.valid[..., None]
        spoken, heard = ({name: torch.where(keep, x, 0.0) for name, x in some.items()} for some in (spoken, heard))
        if JOINT in spoken:
            return Condition(spoken[JOINT], batch.valid, levels=heard)
        return Condition(torch.stack(list(spoken.values())).mean(0), batch.valid, levels=heard, parts=spoken)

    def way(self, batch: Batch) -> dict[str, dict[str, Float[Tensor, "_ T C"]]]:
        """Part (or "joint") -> the queries at their start ("queries"), after each level, and at their end ("aligned")."""
        return self._listen(self._heard(batch), batch.valid)

    def look(self, motion: Mapping[str, Quantized]) -> dict[str, Float[Tensor, "B N C"]]:
        """Part (or "joint") -> its motion tokens at the width of the space, before `embed` encodes them. ValueError as there.

        A data set that lacks parts has none of their spaces; in the joint one their latents are zero.
        """
        if not any(self.weights.values()):
            raise ValueError("no loss of this alignment has weight, so it has never seen motion: give one a weight")
        if JOINT in self.spaces:
            none = torch.zeros_like(next(iter(motion.values())).latents)
            latents = [motion[part].latents if part in motion else none for part in self.body_parts]
            together = {JOINT: torch.cat(latents, dim=-1)}
        else:
            together = {part: motion[part].latents for part in self.spaces if part in motion}
        maps = self.see
        return {name: maps[name](x) if name in maps else x for name, x in together.items()}

    def embed(self, motion: Mapping[str, Quantized], valid: Bool[Tensor, "B N"]) -> dict[str, Float[Tensor, "B N C"]]:
        """Part (or "joint") -> its motion tokens in the space that its speech is aligned in. ValueError without losses."""
        return {name: self._space(name).encode(x, valid) for name, x in self.look(motion).items()}

    def losses(self, batch: Batch, condition: Condition, motion: Mapping[str, Quantized]) -> dict[str, Tensor]:
        """The terms of `__init__` that have weight; none without motion.

        Each is a mean over valid tokens (frame, regress), rows (sentence) or pairs of rows (match). Where each part has a
        space, it is the sum over the parts, as in the release. A token is valid when any of its frames is.
        """
        if not (motion and any(self.weights.values())):
            return {}
        short = -batch.valid.shape[1] % self.fold
        valid = shrink(F.pad(batch.valid, (0, short)), self.fold)
        assert valid is not None
        spoken = condition.parts or {JOINT: condition.features}
        seen = self.embed(motion, valid)
        each = [self._terms(name, spoken[name], seen[name], batch.valid, valid) for name in seen]
        return {name: sum((terms[name] for terms in each[1:]), each[0][name]) for name in each[0]}

    def _terms(
        self,
        space: str,
        speech: Float[Tensor, "B T C"],
        motion: Float[Tensor, "B N C"],
        frames: Bool[Tensor, "B T"],
        tokens: Bool[Tensor, "B N"],
    ) -> dict[str, Tensor]:
        """Weighted losses of one space."""
        wanted, terms = {name for name, weight in self.weights.items() if weight}, {}
        if wanted & {"frame", "regress"}:
            by_token = token_means(speech, frames, self.fold)
            if "frame" in wanted:
                terms["frame"] = info_nce(by_token, motion, tokens, self.temperature, self.negatives)
            if "regress" in wanted:
                missed = (self.regressor[space](by_token) - motion).square().mean(-1)
                terms["regress"] = weighted_mean(missed, tokens.to(missed))
        if wanted & {"sentence", "match"}:
            rows, one, other = tokens.any(dim=1), time_mean(speech, frames), time_mean(motion, tokens)
            if "sentence" in wanted:
                terms["sentence"] = info_nce(one[:, None], other[:, None], rows[:, None], self.temperature, "batch")
            if "match" in wanted:
                terms["match"] = self._match(self.matcher[space], one, other, rows)
        return {term: self.weights[term] * value for term, value in terms.items()}

    def _match(self, matcher: nn.Module, speech: Tensor, motion: Tensor, rows: Tensor) -> Tensor:
        """Cross-entropy of "these belong together", for each row's own motion and that of the row before it."""
        pairs, counts = [torch.cat([speech, motion], -1)], [rows]
        if self.match_negatives and len(rows) > 1:
            pairs.append(torch.cat([speech, motion.roll(1, 0)], -1))
            counts.append(rows & rows.roll(1, 0))
        target = torch.cat([torch.full_like(count, number == 0) for number, count in enumerate(counts)]).long()
        missed = F.cross_entropy(matcher(torch.cat(pairs)).float(), target, reduction="none")
        return weighted_mean(missed[None], torch.cat(counts).to(missed)[None])

    def _space(self, name: str) -> Alignment:
        space = self.spaces[name]
        assert isinstance(space, Alignment)
        return space

    def _heard(self, batch: Batch) -> dict[str, Tensor]:
        """The levels at the width of the queries."""
        condition = self.speech(batch)
        if absent := [level for level in self.levels if level not in condition.levels]:
            raise ValueError(_no_levels(self.speech, absent))
        if condition.valid.shape != batch.valid.shape:
            raise ValueError(
                f"aligned.speech has {condition.valid.shape[1]} steps for {batch.valid.shape[1]} frames; use a "
                "conditioner with one step a frame"
            )
        maps = self.hear
        return {
            level: maps[level](x) if level in maps else x
            for level, x in condition.levels.items()
            if level in self.levels
        }

    def _listen(self, heard: Mapping[str, Tensor], valid: Tensor) -> dict[str, dict[str, Tensor]]:
        some = None if bool(valid.all()) else valid
        if not self.hierarchy:
            heard = {BOTH: torch.stack(list(heard.values())).sum(0)}
        memory = {level: self.dropout(x + positions(x.shape[1], x.shape[2], x)) for level, x in heard.items()}
        return {name: self._space(name).listen(memory, some) for name in self.spaces}


def _no_levels(speech: Conditioner, absent: Sequence[str]) -> str:
    return (
        f"aligned.speech is {type(speech).__name__}, whose condition has no level {' and '.join(absent)}; use 'speech' or "
        "'released_speech' (HuBERT), or a conditioner of your own whose Condition.levels has them and that names them in "
        "its attribute `levels`"
    )


def _check(
    speech: Conditioner,
    levels: Sequence[str],
    encoders: Sequence[int],
    queries: int,
    query_std: float,
    temperature: float,
    weights: Mapping[str, float],
) -> None:
    """ValueError for arguments that make no alignment."""
    if not levels or len(set(levels)) < len(levels):
        raise ValueError(f'levels are "low", "high" or both, each once; got {levels}')
    if absent := [level for level in levels if level not in speech.levels]:
        raise ValueError(_no_levels(speech, absent))
    if min(encoders) < 0 or queries < 1 or query_std < 0:
        raise ValueError(
            "encoders and query_std are 0 or more, queries at least 1; "
            f"got encoders={encoders}, queries={queries}, query_std={query_std}"
        )
    if temperature <= 0:
        raise ValueError(f"a temperature is above 0, got {temperature}")
    if negative := {name: weight for name, weight in weights.items() if weight < 0}:
        raise ValueError(f"weights of losses are 0 or more, got {negative}")


def _other_widths(body: BodyTokenizer, speech: Conditioner, dim: int, by_part: bool, learns: bool) -> str:
    """What has not the width `dim`, in words; empty when all have."""
    odd = [] if speech.dim == dim else [f"levels of speech of {speech.dim}"]
    if by_part and learns and body.dim != dim:
        odd.append(f"latents of {body.dim}")
    return " and ".join(odd)
