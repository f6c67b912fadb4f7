"""SMPL-X joints as data: names, parents, parts (order of the SMPL-X model, 55 joints)."""

from __future__ import annotations

_FINGERS = ("index", "middle", "pinky", "ring", "thumb")

JOINTS: tuple[str, ...] = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle", "right_ankle"),
    *("spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head", "left_shoulder"),
    *("right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "jaw", "left_eye", "right_eye"),
    *(f"left_{finger}{i}" for finger in _FINGERS for i in (1, 2, 3)),
    *(f"right_{finger}{i}" for finger in _FINGERS for i in (1, 2, 3)),
)

_BODY_PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19, 15, 15, 15)


def _finger_parents(wrist: int, first: int) -> tuple[int, ...]:
    return tuple(wrist if i == 0 else first + 3 * finger + i - 1 for finger in range(5) for i in range(3))


PARENTS: tuple[int, ...] = (*_BODY_PARENTS, *_finger_parents(20, 25), *_finger_parents(21, 40))

NUM_JOINTS = len(JOINTS)
NUM_EXPRESSIONS = 100
FEET: tuple[int, ...] = (7, 8, 10, 11)  # ankles and feet, the order of BEAT2's four contact channels

PART_JOINTS: dict[str, tuple[int, ...]] = {
    "face": (22,),
    "upper": (3, 6, 9, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21),
    "hands": tuple(range(25, 55)),
    "lower": (0, 1, 2, 4, 5, 7, 8, 10, 11),
}


def joint(name: str) -> int:
    """Index of a joint by name; ValueError lists the names that exist."""
    try:
        return JOINTS.index(name)
    except ValueError:
        raise ValueError(f"no joint named {name!r}; known: {', '.join(JOINTS)}") from None
