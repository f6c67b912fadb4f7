"""The joint space of speech and motion on its way through the alignment, as a picture and in numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from maskmotion.conditioners.aligned import Aligned
from maskmotion.data.features import FeatureCache, default_folder
from maskmotion.data.windows import WindowDataset, window_starts
from maskmotion.model import Model
from maskmotion.nn.alignment import token_means
from maskmotion.shapes import Bool, Float, Int
from maskmotion.types import Batch, Clip
from maskmotion.views.canvas import BLUE, GREY, INK, ORANGE, PALE, VERMILLION, new_figure, save_png, viz

# kind -> its name in the legend, marker, colour, size
_KINDS = {
    "hubert": ("HuBERT features", "s", ORANGE, 14),
    "motion": ("motion tokens", "^", BLUE, 18),
    "speech": ("speech queries", "o", VERMILLION, 16),
}
_TITLES = {
    "queries": "before: the learned queries",
    "low": "after low-level speech",
    "high": "after high-level speech",
    "both": "after both levels of speech",
    "aligned": "after the shared transformer",
}
_JOINED = 1  # windows whose speech and motion are joined by lines; all of them would hide the points
_TIE = 1e-6  # of cosine similarity: queries that are the same in all windows differ by rounding
_PERPLEXITY = 30.0  # of t-SNE, scikit-learn's default; less where there are few points


@dataclass(frozen=True)
class JointSpace:
    """Tokens of speech and motion at one stage of the alignment, in windows of N tokens; the same place belongs together.

    Args:
        speech: [W, N, C] mean of the queries of each token's frames. motion: [W, N, C]. hubert: [W, N, C], as mapped.
        recording: [W] the number of each window's recording.
    """

    speech: Float[Tensor, "W N C"]
    motion: Float[Tensor, "W N C"]
    hubert: Float[Tensor, "W N C"]
    recording: Int[Tensor, " W"]

    def measures(self) -> dict[str, float]:
        """What a picture cannot show, by cosine similarity of speech and motion.

        in_time: share of speech tokens whose most similar motion token of their window is their own, by chance 1 / N.
        Positions alone can do that. across: of the tokens at the same place of all windows of the recording, where neither
        positions nor a voice and its owner's habits say which; by chance the mean of 1 / windows. own, other_time,
        other_window: mean similarity to their own motion token, to the others of the window, and to those at the same
        place of the recording's other windows.
        """
        speech, motion = F.normalize(self.speech, dim=-1), F.normalize(self.motion, dim=-1)
        within, across = speech @ motion.mT, speech.transpose(0, 1) @ motion.permute(1, 2, 0)  # [W, N, N], [N, W, W]
        every = torch.ones_like(within[0], dtype=torch.bool)
        same = self.recording[:, None] == self.recording
        return {
            "in_time": _share_first(within, every),
            "in_time_chance": 1 / len(every),
            "across": _share_first(across, same),
            "across_chance": float((1 / same.sum(1)).mean()),
            "own": float(within.diagonal(dim1=1, dim2=2).mean()),
            "other_time": _others(within, every),
            "other_window": _others(across, same),
        }


def _share_first(similarity: Float[Tensor, "rows n n"], among: Bool[Tensor, "n n"]) -> float:
    """Share of queries nothing is more similar to than their own key; ties count by chance."""
    similarity = similarity.masked_fill(~among, -torch.inf)
    first = similarity >= similarity.amax(-1, keepdim=True) - _TIE
    return float((first.diagonal(dim1=1, dim2=2) / first.sum(-1)).mean())


def _others(similarity: Float[Tensor, "rows n n"], among: Bool[Tensor, "n n"]) -> float:
    off = among & ~torch.eye(len(among), dtype=torch.bool, device=among.device)
    return float(similarity[:, off].mean())


@torch.no_grad()
def joint_space(model: Model, clips: Sequence[Clip]) -> dict[str, dict[str, JointSpace]]:
    """Part -> stage -> tokens of the whole windows of the clips; the part is "joint" where one space serves all.

    Stages: "queries", then each level of speech that is heard ("low", "high"), then "aligned". Motion is its quantized
    latents, as mapped to the space's width, up to the last stage, and there what the shared transformer makes of them.

    Raises ValueError for a model without alignment (or one that never saw motion), and when no clip has two whole windows.
    """
    aligned = _alignment(model)
    batch, recording = _whole_windows(model, clips)
    model.eval()
    motion = model.body.encode(batch.motion, batch.valid)
    tokens = model.body.token_mask(batch.valid)
    mapped, seen = aligned.look(motion), aligned.embed(motion, tokens)
    fold, levels = model.body.downsample, aligned(batch).levels

    def by_token(x: Tensor) -> Tensor:
        return token_means(x.expand(len(batch.valid), -1, -1), batch.valid, fold).cpu()

    spaces: dict[str, dict[str, JointSpace]] = {}
    for part, way in aligned.way(batch).items():
        spaces[part] = {}
        for stage, speech in way.items():
            heard = levels[stage if stage in levels else list(levels)[-1]]
            there = seen[part] if stage == "aligned" else mapped[part]
            spaces[part][stage] = JointSpace(by_token(speech), there.cpu(), by_token(heard), recording)
    return spaces


def plot_space(
    path: str | Path, *, stages: Mapping[str, JointSpace], windows: int = 6, seed: int = 0, title: str = ""
) -> Path:
    """Draw one t-SNE a stage, speech, motion and HuBERT together, with its numbers (EchoMask, Figure 10); returns the path.

    Every stage has a t-SNE of its own, by cosine distance: distances between pictures, axes and the sizes of clusters
    mean nothing. Lines join speech and the motion of the same moment in one window. The numbers are of all windows.

    Args:
        path: file to write, .png.
        stages: as `joint_space` gives for a part.
        windows: how many are drawn, evenly chosen; the more, the fuller.
        seed: of t-SNE. title: headline.

    Raises:
        ValueError: no stage.
        ImportError: the extra `viz` is not installed.
    """
    if not stages:
        raise ValueError("nothing to draw: stages come from joint_space(model, clips)[part]")
    figure = new_figure(3.9 * min(2, len(stages)), 4.35 * -(-len(stages) // 2) + 0.8, dpi=100)
    figure.set_layout_engine("constrained")
    figure.suptitle(title or "Speech and motion in the joint space", fontsize=12, weight="bold", color=INK)
    for number, (stage, space) in enumerate(stages.items()):
        axes = figure.add_subplot(-(-len(stages) // 2), min(2, len(stages)), number + 1)
        _draw(axes, _TITLES.get(stage, stage), space, windows, seed)
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    return save_png(figure, path)


def tell(spaces: Mapping[str, Mapping[str, JointSpace]]) -> list[str]:
    """The numbers of every part and stage as lines of text, aligned in columns."""
    rows: list[tuple[str, ...]] = [
        ("part", "stage", "in time", "chance", "across", "chance", "own", "other time", "other window")
    ]
    for part, stages in spaces.items():
        for stage, space in stages.items():
            found = space.measures()
            shares = (f"{found[key]:.1%}" for key in ("in_time", "in_time_chance", "across", "across_chance"))
            rows.append((part, stage, *shares, *(f"{found[key]:.3f}" for key in ("own", "other_time", "other_window"))))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows]


def _draw(axes: Any, title: str, space: JointSpace, windows: int, seed: int) -> None:
    count = len(space.speech)
    chosen = np.unique(np.linspace(0, count - 1, min(max(1, windows), count)).round().astype(int))
    points = {kind: getattr(space, kind)[chosen].flatten(0, 1).numpy() for kind in _KINDS}
    placed = _tsne(np.concatenate(list(points.values())), seed)
    where = dict(zip(points, np.split(placed, np.cumsum([len(found) for found in points.values()])[:-1])))
    pairs = np.stack([where["speech"], where["motion"]], axis=1)[: _JOINED * space.speech.shape[1]]
    lines = viz("matplotlib.collections").LineCollection(pairs, colors=GREY, linewidths=0.6, alpha=0.5)
    lines.set_label("the same moment")
    axes.add_collection(lines)
    for kind, (label, marker, color, size) in _KINDS.items():
        axes.scatter(
            *where[kind].T, marker=marker, s=size, color=color, label=label, linewidths=0.3, edgecolors="white"
        )
    axes.set_title(title, fontsize=10, color=INK)
    axes.set(xticks=[], yticks=[])
    for side in axes.spines.values():
        side.set_color(PALE)
    axes.set_xlabel(_told(space.measures()), fontsize=8, color=INK, linespacing=1.4)


def _told(found: Mapping[str, float]) -> str:
    return (
        f"finds its motion: in its window {found['in_time']:.1%} (chance {found['in_time_chance']:.1%}),\n"
        f"among the recording's windows {found['across']:.1%} (chance {found['across_chance']:.1%})\n"
        f"cosine: own {found['own']:.2f}, other times {found['other_time']:.2f}, "
        f"other windows {found['other_window']:.2f}"
    )


def _tsne(points: np.ndarray, seed: int) -> np.ndarray:
    """[n, C] -> [n, 2]; points that coincide are one point."""
    distinct, back = np.unique(points.round(5), axis=0, return_inverse=True)
    perplexity = min(_PERPLEXITY, (len(distinct) - 1) / 3)
    reducer = viz("sklearn.manifold").TSNE(
        perplexity=perplexity, metric="cosine", init="random", random_state=seed, n_jobs=1
    )
    placed: np.ndarray = reducer.fit_transform(distinct)[back.reshape(-1)]
    return placed


def _alignment(model: Model) -> Aligned:
    found = next((one for one in model.generator.modules() if isinstance(one, Aligned)), None)
    if found is None:
        raise ValueError(
            f"{model.recipe.name} has no joint space of speech and motion: its conditioners are "
            f"{', '.join(spec.name for spec in model.recipe.conditioners.values()) or 'none'}, and one must be 'aligned', "
            "as in the preset 'echomask'"
        )
    return found


def _whole_windows(model: Model, clips: Sequence[Clip]) -> tuple[Batch, Int[Tensor, " W"]]:
    """Windows without overlap and padding, and the number of each one's clip; a clip with one such window is left out.

    Features are kept on disk.
    """
    size = model.recipe.body.window
    whole = [number for number, clip in enumerate(clips) if clip.frames >= 2 * size]
    if not whole:
        raise ValueError(
            f"the joint space is compared between whole windows of {size / model.recipe.body.fps:.2f} s of a recording; "
            "at least one clip must have two"
        )
    chosen = [clips[number] for number in whole]
    data = WindowDataset(chosen, size, size, model.extractors, FeatureCache(default_folder()), audio=model.reads_audio)
    starts = [first for clip in chosen for first in window_starts(clip.frames, size, size)]
    rows = [row for row, first in enumerate(starts) if first % size == 0]
    count = torch.tensor([clip.frames // size for clip in chosen])
    return data.batch(rows).to(model.device), torch.tensor(whole).repeat_interleave(count)
