"""EMAGE's feature extractor of FGD: a convolutional autoencoder whose channels belong to the bones of the skeleton.

The shape is that of the published `AESKConv_240_100.bin` (a skeleton-aware network, Aberman et al., 2020): 55 joints to
features of 240 channels, one for every 16 frames. `maskmotion convert` fills it from that file.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from maskmotion.evaluation.features import MotionFeatures
from maskmotion.motion.skeleton import NUM_JOINTS, PARENTS
from maskmotion.shapes import Bool, Float

Edge = tuple[int, int]
VIRTUAL = NUM_JOINTS  # a joint above the root: the bone (root, virtual) carries the root's rotation
REACH = 2  # bones so many steps apart see each other
GROWTH = (1, 1, 2, 1)  # factor of each layer on the channels of a bone
CHANNELS = 6  # of a bone at the input: its joint's row-6D
_GROUPS = 10


def skeleton_edges() -> list[Edge]:
    """Bones of the SMPL-X skeleton, bone j the one that ends at joint j; bone 0 is (root, virtual joint)."""
    return [(0, VIRTUAL), *((parent, joint) for joint, parent in enumerate(PARENTS) if joint)]


def neighbours(edges: Sequence[Edge]) -> list[list[int]]:
    """Bones within `REACH` of each bone, itself among them; bones that share a joint are one step apart."""
    joints = torch.zeros(len(edges), NUM_JOINTS + 1)
    for number, edge in enumerate(edges):
        joints[number, list(edge)] = 1
    near = (joints @ joints.T).clamp(max=1)
    within = torch.linalg.matrix_power(near, REACH) > 0
    return [row.nonzero()[:, 0].tolist() for row in within]


def pooling(edges: Sequence[Edge]) -> list[list[int]]:
    """Bones that are averaged into one: pairs along every chain; of an odd chain the first bone stays alone.

    A chain ends at the tip of a limb or where it forks; the root is no fork. Chains are followed depth first.
    """
    below: dict[int, list[int]] = {}
    degree: dict[int, int] = {}
    for number, (start, end) in enumerate(edges):
        below.setdefault(start, []).append(number)
        for joint in (start, end):
            degree[joint] = degree.get(joint, 0) + 1
    pooled: list[list[int]] = []

    def follow(joint: int, chain: list[int]) -> None:
        if degree[joint] != 2 and joint != 0:  # a fork or a tip
            odd = len(chain) % 2
            pooled.extend([chain[:1]] if odd else [])
            pooled.extend(chain[i : i + 2] for i in range(odd, len(chain), 2))
            chain = []
        for number in below.get(joint, []):
            follow(edges[number][1], [*chain, number])

    follow(0, [])
    return pooled


def pooled_edges(edges: Sequence[Edge], groups: Sequence[Sequence[int]]) -> list[Edge]:
    """The bones after pooling: from the start of the first to the end of the last of each group."""
    return [(edges[group[0]][0], edges[group[-1]][1]) for group in groups]


class _BoneConv(nn.Conv1d):
    """A convolution whose output bones see the input bones near them only."""

    near: Tensor

    def __init__(self, seen: Bool[Tensor, "bones bones"], inputs: int, outputs: int, kernel: int, padding: int) -> None:
        super().__init__(len(seen) * inputs, len(seen) * outputs, kernel, stride=2, padding=padding)
        near = seen.repeat_interleave(outputs, 0).repeat_interleave(inputs, 1)
        self.register_buffer("near", near[..., None].float(), persistent=False)

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B D N"]:
        """[B, C, T] -> [B, D, T / 2]."""
        return F.conv1d(x, self.weight * self.near, self.bias, self.stride, self.padding)


class SkeletonLayer(nn.Module):
    """tanh(pool(norm(convolution of 4 frames) + convolution of 1 frame)), both with stride 2."""

    pool: Tensor | None

    def __init__(self, edges: Sequence[Edge], channels: int, growth: int) -> None:
        super().__init__()
        outputs = channels * growth
        seen = torch.zeros(len(edges), len(edges), dtype=torch.bool)
        for number, row in enumerate(neighbours(edges)):
            seen[number, row] = True
        self.conv = _BoneConv(seen, channels, outputs, kernel=4, padding=1)
        self.norm = nn.GroupNorm(_GROUPS, len(edges) * outputs)
        self.shortcut = _BoneConv(seen, channels, outputs, kernel=1, padding=0)
        groups = pooling(edges)
        self.edges = pooled_edges(edges, groups)
        shares = torch.zeros(len(groups), len(edges))
        for number, group in enumerate(groups):
            shares[number, group] = 1 / len(group)
        pool = torch.kron(shares, torch.eye(outputs)) if len(groups) < len(edges) else None
        self.register_buffer("pool", pool, persistent=False)

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B D N"]:
        """[B, C, T] -> [B, D, T / 2]."""
        summed = self.norm(self.conv(x)) + self.shortcut(x)
        return torch.tanh(summed if self.pool is None else self.pool @ summed)


class _Residual(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv1d(dim, dim, 3, padding=1) for _ in range(2))

    def forward(self, x: Float[Tensor, "B C T"]) -> Float[Tensor, "B C T"]:
        """[B, C, T] -> [B, C, T]."""
        return x + self.second(F.leaky_relu(self.first(x), 0.2))


class SkeletonExtractor(MotionFeatures):
    """The skeleton autoencoder of EMAGE's FGD: [B, T, 330] -> [B, T/16, 240], every feature in (-1, 1).

    Reads plain row-6D of all 55 joints, jaw and eyes among them, without any normalisation. Whole clips are cut to a
    multiple of 32 frames first. Random until `maskmotion convert` has filled it; the random one says nothing.
    """

    kind = "skeleton"
    dim = 240
    multiple = 32

    def __init__(self) -> None:
        super().__init__()
        self.config = {}
        edges, channels, layers = skeleton_edges(), CHANNELS, []
        for growth in GROWTH:
            layers.append(SkeletonLayer(edges, channels, growth))
            edges, channels = layers[-1].edges, channels * growth
        self.layers = nn.ModuleList(layers)
        columns = CHANNELS * NUM_JOINTS
        self.residuals = nn.Sequential(_Residual(self.dim), _Residual(self.dim))
        outputs = (self.dim, self.dim, self.dim, columns)
        self.up = nn.ModuleList(nn.Conv1d(self.dim, size, 3, padding=1) for size in outputs)
        self.out = nn.Conv1d(columns, columns, 3, padding=1)

    def forward(self, columns: Float[Tensor, "B T D"]) -> Float[Tensor, "B N C"]:
        """[B, T, 330] -> [B, T/16, 240]; T a multiple of 16. Raises ValueError for any other T."""
        return self.stages(columns)[-1].mT

    def stages(self, columns: Float[Tensor, "B T D"]) -> list[Float[Tensor, "B C N"]]:
        """What each of the four layers gives, [B, channels, T / 2] first."""
        if columns.shape[1] % 16:
            raise ValueError(f"T must be a multiple of 16, got {columns.shape[1]}; cut the clip")
        found = [columns.mT.contiguous()]
        for layer in self.layers:
            found.append(layer(found[-1]))
        return found[1:]

    def decode(self, features: Float[Tensor, "B N C"]) -> Float[Tensor, "B T D"]:
        """Features -> the row-6D columns they stand for, 16 frames each; what the network was trained by."""
        x = self.residuals(features.mT.contiguous())
        for layer in self.up:
            x = F.leaky_relu(layer(F.interpolate(x, scale_factor=2, mode="nearest")), 0.2)
        return self.out(x).mT
