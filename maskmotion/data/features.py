"""Audio features on disk: computed once for each recording and extractor, whoever asks."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
import zlib
from pathlib import Path

import torch
from torch import Tensor

from maskmotion.interfaces import Extractor
from maskmotion.shapes import Float
from maskmotion.storage import atomic


def default_folder() -> Path:
    """$MASKMOTION_CACHE, or ~/.cache/maskmotion."""
    return Path(os.environ.get("MASKMOTION_CACHE") or Path.home() / ".cache" / "maskmotion")


class FeatureCache:
    """Features by extractor key, frame rate, length and the waveform itself: a changed recording is computed anew.

    Args:
        folder: where the files are kept (safetensors, one for each recording and extractor, written atomically);
            None keeps nothing on disk. `default_folder()` is the usual place.
    """

    def __init__(self, folder: str | Path | None = None) -> None:
        self.folder = None if folder is None else Path(folder)

    def get(
        self, extractor: Extractor, audio: Float[Tensor, " samples"], frames: int, fps: int, name: str
    ) -> Float[Tensor, "frames C"]:
        """The extractor's features of a waveform; `name` says whose, in errors.

        A damaged or half-written file is computed again; a folder that cannot be written warns and does without.
        Raises ValueError when the extractor returns another shape than it promises.
        """
        path = self._path(extractor, audio, frames, fps)
        found = None if path is None else _read(path, frames, extractor.dim)
        if found is not None:
            return found
        features = extractor(audio, frames, fps).detach().cpu().contiguous()
        if features.shape != (frames, extractor.dim):
            raise ValueError(
                f"{name}: extractor {extractor.key!r} gave {list(features.shape)} instead of "
                f"[frames, dim] = [{frames}, {extractor.dim}]"
            )
        if path is not None:
            _write(path, features)
        return features

    def _path(self, extractor: Extractor, audio: Tensor, frames: int, fps: int) -> Path | None:
        if self.folder is None:
            return None
        content = hashlib.sha256(f"{extractor.key}|{frames}|{fps}|".encode())
        content.update(audio.detach().cpu().float().contiguous().numpy().tobytes())
        readable = re.sub(r"[^A-Za-z0-9._-]+", "-", extractor.key)[:60]
        return self.folder / "features" / f"{readable}-{zlib.crc32(extractor.key.encode()):08x}" / content.hexdigest()


def _sum(features: Tensor) -> str:
    return f"{zlib.crc32(features.contiguous().view(torch.uint8).numpy().tobytes()):08x}"


def _read(path: Path, frames: int, dim: int) -> Tensor | None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(path), "pt") as file:
            features, expected = file.get_tensor("features"), (file.metadata() or {}).get("crc32")
    except (OSError, SafetensorError):
        return None
    return features if features.shape == (frames, dim) and _sum(features) == expected else None


def _write(path: Path, features: Tensor) -> None:
    from safetensors.torch import save

    try:
        with atomic(path) as temporary:
            temporary.write_bytes(save({"features": features}, metadata={"crc32": _sum(features)}))
    except OSError as error:
        warnings.warn(
            f"features are not cached: cannot write {path.parent} ({error}); set MASKMOTION_CACHE to a folder that "
            f"can be written",
            stacklevel=3,
        )
