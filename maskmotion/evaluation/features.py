"""What every feature extractor of Frechet distances is: motion to vectors, a fingerprint, a folder it is kept in."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from maskmotion.motion.layout import EXPRESSIONS, ROTATIONS, SMPLX
from maskmotion.shapes import Float
from maskmotion.storage import atomic

CONFIG, WEIGHTS = "extractor.json", "extractor.safetensors"
DOWNSAMPLE = 16  # frames per feature vector, as in EMAGE's extractor
READS: Mapping[str, tuple[int, ...]] = {
    "body": tuple(range(ROTATIONS.start, ROTATIONS.stop)),
    "motion": (*range(ROTATIONS.start, ROTATIONS.stop), *range(EXPRESSIONS.start, EXPRESSIONS.stop)),
    "face": SMPLX.columns["face"],
}
"""What an extractor reads -> columns of the motion tensor: FGD body rotations (jaw among them), FMD these and the
expressions, FED jaw and expressions."""

_Own = TypeVar("_Own", bound="MotionFeatures")


class MotionFeatures(nn.Module):
    """Maps [B, T, columns] to feature vectors [B, T/16, dim].

    dim: channels of a feature vector. multiple: whole clips are cut to a multiple of so many frames. reads: which
    columns, a key of `READS`. kind: names the class in `extractor.json`. config: the constructor's arguments. about:
    where the weights come from; saved beside them, no part of the fingerprint.
    """

    kind: str
    dim: int
    multiple: int = DOWNSAMPLE
    reads: str = "body"
    config: dict[str, Any]

    def __init__(self) -> None:
        super().__init__()
        self.about: dict[str, Any] = {}

    @abstractmethod
    def forward(self, columns: Float[Tensor, "B T P"]) -> Float[Tensor, "B N C"]:
        """[B, T, columns] -> [B, T/16, dim]; T a multiple of `multiple`."""

    @torch.no_grad()
    def features(self, motions: Iterable[Float[Tensor, "_ D"]], multiple: int | None = None) -> Float[Tensor, "n C"]:
        """Feature vectors of whole clips, one clip after the other, each cut to a multiple of `multiple` frames.

        Args:
            motions: clips [T, 437] (or their 330 rotation columns, for the body); what is shorter has no feature.
            multiple: None: the extractor's own.
        """
        multiple = multiple or self.multiple
        device = next(self.parameters()).device
        columns = list(READS[self.reads])
        rows = [motion[: len(motion) - len(motion) % multiple, columns].float() for motion in motions]
        kept = [self(row[None].to(device))[0] for row in rows if len(row)]
        return torch.cat(kept) if kept else torch.zeros(0, self.dim)

    @property
    def fingerprint(self) -> str:
        """Sha256 over sizes and every weight: two extractors with one fingerprint give the same numbers."""
        digest = hashlib.sha256(json.dumps(self.config, sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()

    def save(self, folder: str | Path) -> Path:
        """Write `extractor.safetensors` and `extractor.json` into `folder`; returns it. Each file atomic."""
        from safetensors.torch import save

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        weights = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        told = {"kind": self.kind, **self.config, "fingerprint": self.fingerprint, "about": self.about}
        _write(folder / WEIGHTS, save(weights))
        _write(folder / CONFIG, json.dumps(told, indent=2).encode())
        return folder

    @classmethod
    def load(cls: type[_Own], folder: str | Path) -> _Own:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: a file is missing. ValueError: an extractor of another kind, or weights that are not those
            that the fingerprint names.
        """
        from safetensors.torch import load_file

        folder = Path(folder)
        config = _config(folder)
        kind, expected, about = config.pop("kind"), config.pop("fingerprint"), config.pop("about", {})
        if kind != cls.kind:
            raise ValueError(f"{folder} holds an extractor of kind {kind!r}, not {cls.kind!r}; use load_extractor()")
        extractor = cls(**config)
        extractor.load_state_dict(load_file(folder / WEIGHTS))
        if extractor.fingerprint != expected:
            raise ValueError(
                f"{folder}: the weights have fingerprint {extractor.fingerprint[:12]}, {CONFIG} says "
                f"{expected[:12]}; the two files belong to different extractors, train or copy them again"
            )
        extractor.about = about
        return extractor.eval()


def load_extractor(folder: str | Path) -> MotionFeatures:
    """The extractor in a folder, of whatever kind: trained here, or EMAGE's own that `maskmotion convert` wrote.

    Raises what `MotionFeatures.load` raises; ValueError for a kind that is not known.
    """
    from maskmotion.evaluation.extractor import FeatureExtractor
    from maskmotion.evaluation.skeleton_extractor import SkeletonExtractor

    kinds: dict[str, type[MotionFeatures]] = {one.kind: one for one in (FeatureExtractor, SkeletonExtractor)}
    kind = _config(Path(folder))["kind"]
    if kind not in kinds:
        raise ValueError(f"{folder}: no extractor of kind {kind!r}; known: {', '.join(kinds)}")
    return kinds[kind].load(folder)


def _config(folder: Path) -> dict[str, Any]:
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"no {name} in {folder}; an extractor's folder is written by `maskmotion convert` from EMAGE's "
                "AESKConv_240_100.bin, or by FeatureExtractor.save(folder)"
            )
    return json.loads((folder / CONFIG).read_text())


def _write(path: Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)
