"""A small HuBERT that learns the phones of the planted corpus: what `speech.checkpoint="planted"` names."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskmotion.conditioners.hubert import FIELD, STEP, planted_folder
from maskmotion.data.audio import load_audio
from maskmotion.data.beat2 import Recording, recordings
from maskmotion.data.planted import planted_root
from maskmotion.data.textgrid import read_textgrid
from maskmotion.progress import progress_bar
from maskmotion.shapes import Bool, Float, Int
from maskmotion.types import SAMPLE_RATE

STEPS = 1000
ABOUT = "speech.json"  # beside the weights: what they were trained on; written last, so its folder is whole
_BATCH, _CROP = 4, 100  # crops of a batch, HuBERT steps of a crop: 2 s
_ALIGNED = 0.5  # share of the training that learns from the phones' times, which the corpus knows, before CTC
_HIDDEN, _SPAN = 0.3, 10  # share of the steps that spans of so many would hide if none overlapped: a quarter is
_DROPOUTS = ("hidden", "attention", "activation", "feat_proj", "final")  # hiding steps does their work
_LR, _WARMUP, _GRAD_NORM = 2e-3, 0.15, 1.0


@dataclass(frozen=True)
class Spoken:
    """A recording and the phones said in it.

    Args:
        audio: [samples], of zero mean and unit variance.
        phones: [P] in the order in which they are said, numbered from 1.
        said: [S], for each HuBERT step the place in `phones` of the one said at its centre; -1 in pauses.
    """

    audio: Float[Tensor, " samples"]
    phones: Int[Tensor, " P"]
    said: Int[Tensor, " S"]


@dataclass(frozen=True)
class SpeechEncoder:
    """A trained encoder's folder, what its `speech.json` says, and whether this call trained it."""

    folder: Path
    about: dict[str, Any]
    new: bool

    def render(self) -> str:
        """Where it is, how well it hears phones, and which weights they are."""
        about = self.about
        return (
            f"{self.folder}{'' if self.new else ' (there already)'}\n"
            f"  phone error rate {about['phone_error_rate']:.1%} on {about['held_out_clips']} held-out clips of "
            f"{about['data']}, after {about['steps']} steps in {about['seconds']:.0f} s\n"
            f"  sha256 {about['sha256']}"
        )


def build_speech(
    folder: str | Path | None = None, data: str = "planted-v1", steps: int = STEPS, seed: int = 0, show: bool = True
) -> SpeechEncoder:
    """Train the small HuBERT on the training split of a planted corpus and keep it; what is there is not trained again.

    One thread, whatever the machine has, so the same machine, versions and arguments give the same weights.

    Args:
        folder: where to; default: the cache's folder, which `speech.checkpoint="planted"` names for planted-v1.
        data: a planted corpus with speech; made on first use.
        steps: of the optimiser, each on 8 s of speech.
        seed: of weights, crops and hidden spans.
        show: progress with rate and time left, where there is a terminal.

    Raises:
        ValueError: the folder's encoder was trained in another way; no such corpus; `steps` below 1.
        FileExistsError: the folder holds something else.
    """
    folder = planted_folder(data) if folder is None else Path(folder)
    asked = {"data": data, "steps": steps, "seed": seed}
    if (folder / ABOUT).is_file():
        return SpeechEncoder(folder, _same(folder, asked), new=False)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(
            f"{folder}: holds something else than a finished encoder (no {ABOUT}); name another folder"
        )
    if steps < 1:
        raise ValueError(f"steps={steps}: need at least 1")
    root, begun = planted_root(name=data), time.perf_counter()
    symbols: list[str] = json.loads((root / "planted.json").read_text(encoding="utf-8"))["phones"]
    learned, held_out = ([read_spoken(row, symbols) for row in recordings(root, split)] for split in ("train", "val"))
    with _one_thread():
        model = train_phones(learned, len(symbols), steps, seed, show)
        about = asked | {
            "fingerprint": _fingerprint(learned),
            "minutes": round(sum(len(one.audio) for one in learned) / SAMPLE_RATE / 60, 2),
            "held_out_clips": len(held_out),
            "phone_error_rate": phone_error_rate(model, held_out),
            "seconds": round(time.perf_counter() - begun, 1),
        }
    return SpeechEncoder(folder, _save(model, folder, about), new=True)


def read_spoken(recording: Recording, symbols: Sequence[str]) -> Spoken:
    """A recording's speech and the phones of its TextGrid's tier "phones".

    Raises ValueError when there is no such tier, or it names another phone than `symbols`.
    """
    audio = load_audio(recording.audio).samples
    audio = (audio - audio.mean()) / (audio.var(unbiased=False) + 1e-7).sqrt()
    marks = read_textgrid(recording.textgrid).get("phones", ())
    if not marks or not {mark.text for mark in marks} <= set(symbols):
        raise ValueError(f"{recording.textgrid}: need a tier 'phones' whose marks are among {', '.join(symbols)}")
    starts, ends = np.array([(mark.start, mark.end) for mark in marks]).T
    centres = (np.arange((len(audio) - FIELD) // STEP + 1) * STEP + FIELD / 2) / SAMPLE_RATE
    latest = np.searchsorted(starts, centres, side="right") - 1
    said = np.where((latest >= 0) & (centres < ends[latest]), latest, -1)
    numbers = {symbol: number for number, symbol in enumerate(symbols, start=1)}
    return Spoken(audio, torch.tensor([numbers[mark.text] for mark in marks]), torch.from_numpy(said))


def train_phones(spoken: Sequence[Spoken], symbols: int, steps: int = STEPS, seed: int = 0, show: bool = True) -> Any:
    """A `HubertForCTC` trained on crops of 2 s: first each step's phone, then CTC; the blank is also the pause.

    A quarter of the steps is hidden in spans of 0.2 s, as in HuBERT's own training (Hsu et al., 2021,
    arXiv:2106.07447), so what is hidden is to be told from the words around it. Raises ValueError when no recording is
    as long as a crop.
    """
    crops = _Crops(spoken)
    random = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), progress_bar("phones", steps, show) as advance:
        torch.manual_seed(seed)
        model = _new_model(symbols + 1)
        optimizer = torch.optim.AdamW(model.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LR, max(steps, 8), pct_start=_WARMUP)
        for step in range(steps):
            loss = _loss(model, *crops.draw(random), aligned=step < _ALIGNED * steps, random=random)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), _GRAD_NORM)
            optimizer.step()
            schedule.step()
            advance(step + 1, f"loss {loss.item():.3f}")
    return model.eval()


@torch.no_grad()
def phone_error_rate(model: Any, spoken: Sequence[Spoken]) -> float:
    """Insertions, deletions and substitutions of the best CTC path, as a share of the phones said."""
    heard = [model(one.audio[None]).logits[0].argmax(dim=-1).unique_consecutive() for one in spoken]
    errors = sum(edit_distance(found[found > 0], one.phones) for found, one in zip(heard, spoken))
    return errors / sum(len(one.phones) for one in spoken)


def edit_distance(found: Int[Tensor, " n"], expected: Int[Tensor, " m"]) -> int:
    """Least number of insertions, deletions and substitutions that turn one row of symbols into the other."""
    places = torch.arange(len(expected) + 1)
    row = places.clone()
    for number, symbol in enumerate(found.tolist(), start=1):
        best = torch.minimum(row[1:] + 1, row[:-1] + (expected != symbol))
        row = torch.cat([torch.tensor([number]), best])
        row = (row - places).cummin(0).values + places  # one more of `expected` costs one, from the left
    return int(row[-1])


class _Crops:
    """Random crops of all recordings, which lie one behind the other in whole steps."""

    def __init__(self, spoken: Sequence[Spoken]) -> None:
        lengths = [len(one.audio) // STEP for one in spoken]
        self.audio = torch.cat([one.audio[: length * STEP] for one, length in zip(spoken, lengths)])
        before = np.cumsum([0, *(len(one.phones) for one in spoken)])
        said = [torch.where(one.said < 0, -1, one.said + first) for one, first in zip(spoken, before.tolist())]
        self.said = torch.cat([F.pad(one, (0, length - len(one)), value=-1) for one, length in zip(said, lengths)])
        self.phones = torch.cat([one.phones for one in spoken])
        room = torch.cat([torch.arange(length, 0, -1) for length in lengths])  # whole steps from here to the end
        self.starts = (room > _CROP).nonzero()[:, 0]  # one step more, because the last one sees FIELD samples
        if not len(self.starts):
            raise ValueError(
                f"speech is learned in crops of {_CROP * STEP / SAMPLE_RATE:g} s and no recording is as long"
            )

    def draw(self, random: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Audio [B, samples], each step's phone [B, S] (0 in pauses) and where a phone begins [B, S], bool."""
        first = self.starts[torch.randint(len(self.starts), (_BATCH, 1), generator=random)]
        said = self.said[first + torch.arange(_CROP)]
        begins = (said >= 0) & (said != F.pad(said, (1, 0), value=-1)[:, :-1])
        audio = self.audio[first * STEP + torch.arange((_CROP - 1) * STEP + FIELD)]
        return audio, torch.where(said < 0, 0, self.phones[said]), begins


def _loss(
    model: Any,
    audio: Float[Tensor, "B samples"],
    phones: Int[Tensor, "B S"],
    begins: Bool[Tensor, "B S"],
    *,
    aligned: bool,
    random: torch.Generator,
) -> Float[Tensor, ""]:
    first = torch.rand(phones.shape, generator=random) < _HIDDEN / _SPAN
    hidden = F.max_pool1d(F.pad(first.float(), (_SPAN - 1, 0)), _SPAN, stride=1) > 0
    logits = model.lm_head(model.hubert(audio, mask_time_indices=hidden).last_hidden_state)
    if aligned:
        return F.cross_entropy(logits.flatten(0, 1), phones.flatten())
    steps = torch.full((len(phones),), phones.shape[1])
    return F.ctc_loss(logits.log_softmax(-1).transpose(0, 1), phones[begins], steps, begins.sum(1), zero_infinity=True)


def _new_model(symbols: int) -> Any:
    """About 560,000 weights; narrow convolutions of HuBERT's own strides, so a step is 320 samples."""
    from transformers import HubertConfig, HubertForCTC

    none: dict[str, Any] = dict.fromkeys(("layerdrop", *(f"{name}_dropout" for name in _DROPOUTS)), 0.0)
    config = HubertConfig(
        hidden_size=96,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=384,
        conv_dim=(32, 32, 32, 32, 48, 64, 64),
        conv_bias=True,
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=4,
        feat_extract_norm="layer",  # the other kind takes its mean over all of the recording
        do_stable_layer_norm=True,
        vocab_size=symbols,
        mask_time_prob=_HIDDEN,  # a HubertModel has a vector for hidden steps only where this is above 0
        mask_time_length=_SPAN,
        **none,
    )
    return HubertForCTC(config).train()


def _save(model: Any, folder: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The encoder without its head, as `save_pretrained` would write it, moved into place when it is whole."""
    import transformers
    from safetensors.torch import save

    folder.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        weights = save({n: t.contiguous() for n, t in model.hubert.state_dict().items()}, metadata={"format": "pt"})
        (building / "model.safetensors").write_bytes(weights)
        model.hubert.config.save_pretrained(building)
        transformers.Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(building)
        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        about = about | {"sha256": hashlib.sha256(weights).hexdigest(), "versions": versions}
        (building / ABOUT).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
        building.chmod(0o755)
        building.replace(folder)  # an empty folder gives way
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return about


def _same(folder: Path, asked: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    found = {key: about.get(key) for key in asked}
    if found != asked:
        raise ValueError(
            f"{folder}: its encoder was trained with {found}, not {asked}; name another folder or remove it"
        )
    return about


def _fingerprint(spoken: Sequence[Spoken]) -> str:
    """Sound and phones of the recordings, as 8 hexadecimal digits."""
    digest = 0
    for tensor in (tensor for one in spoken for tensor in (one.audio, one.phones, one.said)):
        digest = zlib.crc32(tensor.numpy().tobytes(), digest)
    return f"{digest:08x}"


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums of several threads come in any order, and then the last digits of weights differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
