"""Which joint of a mocap skeleton is which of SMPL-X, by the names that programs give them."""

from __future__ import annotations

import re

_LIMBS = ("hip", "knee", "ankle", "foot", "collar", "shoulder", "elbow", "wrist")
_FAMILIES: tuple[tuple[str, ...], ...] = (
    ("upleg", "leg", "foot", "toebase|toe", "shoulder", "arm", "forearm", "hand"),  # MotionBuilder, Mixamo, Vicon, BEAT
    ("hip", "knee", "ankle", "foot|toe", "collar", "shoulder", "elbow", "wrist"),  # SMPL-X, Poser
    ("thigh|upperleg", "calf|shin|lowerleg", "foot", "ball|toe|toes", "clavicle|shoulder", "upperarm", "lowerarm|forearm",
     "hand"),  # Unreal, Blender, VRM
)  # fmt: skip
_FINGERS = {"index": "index", "middle": "middle|mid", "pinky": "pinky|little", "ring": "ring", "thumb": "thumb"}
_SPINE = r"(?:lowerback|spine|chest|upperchest|torso|abdomen)\d*"


def known_joints(names: tuple[str, ...]) -> dict[str, int]:
    """SMPL-X joint -> number of the joint with one of its usual names, parents first; those not found are left out."""
    plain = {_plain(name): number for number, name in reversed(list(enumerate(names)))}
    limbs = max((_limbs(family, plain) for family in _FAMILIES), key=len)
    found = limbs | _fingers(plain) | _first({"neck": "neck", "head": "head"}, plain)
    spine = sorted(number for name, number in plain.items() if re.fullmatch(_SPINE, name))
    places = {0: (), 1: (0,), 2: (0, 1)}.get(len(spine), (0, (len(spine) - 1) // 2, len(spine) - 1))
    found |= {f"spine{which}": spine[place] for which, place in enumerate(places, 1)}
    return found | _first({"pelvis": "hips|pelvis|hip|root"}, plain)


def _limbs(family: tuple[str, ...], plain: dict[str, int]) -> dict[str, int]:
    return _first({f"{side}_{limb}": _sided(side, one) for side in _SIDES for limb, one in zip(_LIMBS, family)}, plain)


def _fingers(plain: dict[str, int]) -> dict[str, int]:
    wanted = {}
    for side in _SIDES:
        for finger, names in _FINGERS.items():
            for place in (1, 2, 3):
                wanted[f"{side}_{finger}{place}"] = f"{side}(?:hand|finger)?(?:{names})(?:finger)?0?{place}"
    return _first(wanted, plain)


_SIDES = ("left", "right")


def _sided(side: str, names: str) -> str:
    return f"{side}(?:{names})"


def _first(patterns: dict[str, str], plain: dict[str, int]) -> dict[str, int]:
    """What a pattern matches as a whole; of several, the one that stands first in the file."""
    found = {}
    for target, pattern in patterns.items():
        numbers = [number for name, number in plain.items() if re.fullmatch(pattern, name)]
        if numbers:
            found[target] = min(numbers)
    return found


def _plain(name: str) -> str:
    """`mixamorig:LeftUpLeg`, `left_up_leg`, `LUpLeg` and `UpLeg_L` are one name."""
    name = name.split(":")[-1].strip()
    for letter, side in (("L", "Left"), ("R", "Right")):
        name = re.sub(rf"^{letter}_?(?=[A-Z])|^{letter.lower()}_(?=[A-Za-z])", side, name)
        name = re.sub(rf"^(.*)[_.](?:{letter}|{letter.lower()})$", rf"{side}\1", name)
    return re.sub(r"[^a-z0-9]", "", name.lower())
