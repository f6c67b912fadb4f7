"""BodyLayout: the columns of the motion tensor by name.

437 columns: 330 rotations (55 joints x row-6D), 3 translation (metres, y up), 4 foot contacts, 100 expressions.
The released masked encoders read the first 337 of them (`visible_input`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from maskmotion.motion.skeleton import JOINTS, NUM_EXPRESSIONS, NUM_JOINTS, PART_JOINTS, joint
from maskmotion.shapes import Bool, Float

IDENTITY_6D = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ROTATIONS = slice(0, 6 * NUM_JOINTS)
TRANSLATION = slice(330, 333)
CONTACTS = slice(333, 337)
EXPRESSIONS = slice(337, 337 + NUM_EXPRESSIONS)


class BodyLayout:
    """Which columns belong to which part; splits a motion into parts and joins them again.

    Args:
        parts: part name -> its columns of the [B, T, D] tensor, in order. The default is the field's four parts:
            face (106: jaw, expressions), upper (78), hands (180), lower (61: rotations, translation, contacts).
    """

    dim = 437
    visible_input = slice(0, 337)

    def __init__(self, parts: Mapping[str, tuple[int, ...]] | None = None) -> None:
        self.columns = (
            dict(parts)
            if parts is not None
            else {p: tuple(c for name in names for c in _columns(name)) for p, names in FOUR_PARTS.items()}
        )
        for part, columns in self.columns.items():
            if not columns or min(columns) < 0 or max(columns) >= self.dim:
                raise ValueError(f"part {part!r}: columns must lie in 0..{self.dim - 1}, got {columns!r}")
        owned = [column for columns in self.columns.values() for column in columns]
        if len(set(owned)) < len(owned):
            twice = sorted({column for column in owned if owned.count(column) > 1})
            raise ValueError(f"a column belongs to one part at most; these are given twice: {twice}")

    @classmethod
    def named(cls, table: Mapping[str, Sequence[str]]) -> BodyLayout:
        """A layout from part -> what it owns: joint names, "translation", "contacts", "expressions", in that order.

        ValueError for an unknown name and for what two parts claim.
        """
        return cls(
            {part: tuple(column for name in names for column in _columns(name)) for part, names in table.items()}
        )

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts, in order."""
        return tuple(self.columns)

    def size(self, part: str) -> int:
        """Number of columns of a part."""
        return len(self.columns[part])

    def split(self, motion: Float[Tensor, "*any D"]) -> dict[str, Tensor]:
        """[..., D] -> part -> [..., columns of the part]."""
        return {part: motion.index_select(-1, index.to(motion.device)) for part, index in self._indices.items()}

    def join(self, parts: Mapping[str, Tensor]) -> Tensor:
        """Inverse of `split`; what no part covers (the eyes) is at rest: identity rotation, zero elsewhere."""
        first = next(iter(parts.values()))
        motion = self.rest.to(first).expand(*first.shape[:-1], self.dim).clone()
        for part, values in parts.items():
            motion[..., list(self.columns[part])] = values
        return motion

    @cached_property
    def rest(self) -> Float[Tensor, " D"]:
        """The rest pose: identity rotations, zero elsewhere."""
        rest = torch.zeros(self.dim)
        rest[ROTATIONS] = torch.tensor(IDENTITY_6D).repeat(NUM_JOINTS)
        return rest

    @cached_property
    def _indices(self) -> dict[str, Tensor]:
        return {part: torch.tensor(columns) for part, columns in self.columns.items()}

    @cached_property
    def membership(self) -> Float[Tensor, "D parts"]:
        """Share of each part that each column makes up: values per column @ membership = means per part."""
        table = torch.zeros(self.dim, len(self.parts))
        for number, part in enumerate(self.parts):
            table[list(self.columns[part]), number] = 1 / self.size(part)
        return table

    @cached_property
    def column_joint(self) -> Tensor:
        """[D] int64: the joint each column follows; translation and contacts the pelvis, expressions the jaw."""
        joints = torch.arange(NUM_JOINTS).repeat_interleave(6)
        return torch.cat([joints, torch.zeros(7, dtype=torch.long), torch.full((NUM_EXPRESSIONS,), 22)])

    def expand(self, mask: Bool[Tensor, "*shape"]) -> Bool[Tensor, "B T D"]:
        """[B, T], [B, T, J] or [B, T, D] -> [B, T, D]. Raises ValueError for any other shape."""
        if mask.ndim == 2:
            return mask[..., None].expand(*mask.shape, self.dim)
        if mask.ndim == 3 and mask.shape[-1] == NUM_JOINTS:
            return mask[..., self.column_joint.to(mask.device)]
        if mask.ndim == 3 and mask.shape[-1] == self.dim:
            return mask
        raise ValueError(
            f"a mask is [B, T], [B, T, {NUM_JOINTS}] (joints) or [B, T, {self.dim}] (columns), got {list(mask.shape)}"
        )


def rotation_columns(joints: tuple[int, ...]) -> tuple[int, ...]:
    """The 6 columns of each joint, joint by joint."""
    return tuple(6 * joint + i for joint in joints for i in range(6))


def _columns(name: str) -> tuple[int, ...]:
    if name in KINDS and KINDS[name] != ROTATIONS:
        return tuple(range(KINDS[name].start, KINDS[name].stop))
    try:
        return rotation_columns((joint(name),))
    except ValueError as error:
        raise ValueError(f"{error}; or translation, contacts, expressions") from None


KINDS = {"rotations": ROTATIONS, "translation": TRANSLATION, "contacts": CONTACTS, "expressions": EXPRESSIONS}
_EXTRAS: dict[str, tuple[str, ...]] = {"face": ("expressions",), "lower": ("translation", "contacts")}

FOUR_PARTS: dict[str, tuple[str, ...]] = {
    part: (*(JOINTS[number] for number in joints), *_EXTRAS.get(part, ())) for part, joints in PART_JOINTS.items()
}
"""The field's four parts with the releases' channel order (EMAGE and EchoMask agree)."""

WHOLE_BODY: dict[str, tuple[str, ...]] = {
    "body": (
        *(JOINTS[number] for number in sorted(number for joints in PART_JOINTS.values() for number in joints)),
        *("translation", "contacts", "expressions"),
    )
}
"""Everything that the four parts hold as one part (EMAGE's ablation with a single VQ-VAE)."""

SMPLX = BodyLayout()
