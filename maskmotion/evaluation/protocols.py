"""Protocols: named sets of measures. A number means something only beside others of the same protocol.

`maskmotion-v1` computes the formulas of the papers. `emage-v1` computes what EMAGE's scripts of 2024 did and
`evaltools-v1` what the tools of 2025 do, flaws included, so that published tables can be compared with. What a protocol
needs and does not get is absent with the reason; nothing stands in for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from maskmotion.evaluation import measures
from maskmotion.evaluation.fgd import RELEASED_EPS
from maskmotion.evaluation.measures import Measure
from maskmotion.evaluation.released_beat import (
    SCRIPTS_THRESHOLD,
    TOOLS_THRESHOLD,
    onsets_of_scripts,
    onsets_of_tools,
)

_RELEASED_MULTIPLE = 32  # frames to a multiple of which the releases cut a clip before it is encoded


@dataclass(frozen=True)
class Protocol:
    """A named set of measures. absent: what its source has and no motion of ours can be measured by, with the reason."""

    name: str
    about: str
    measures: tuple[Measure, ...]
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def shown(self) -> dict[str, tuple[str, float]]:
        """Key -> title and factor of every number that a table shows, in order."""
        return {name: told for measure in self.measures for name, told in measure.shown.items()}


def protocol(name: str) -> Protocol:
    """A protocol by its name; ValueError names those that exist."""
    if name not in PROTOCOLS:
        raise ValueError(f"no protocol {name!r}; there are {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


PROTOCOLS: Mapping[str, Protocol] = {
    one.name: one
    for one in (
        Protocol(
            "maskmotion-v1",
            "the formulas of the papers; joints by the library's own skeleton",
            (
                measures.gestures(),
                measures.frechet("fgd", "FGD"),
                measures.frechet("fmd", "FMD", "motion"),
                measures.frechet("fed", "FED", "face"),
                measures.beat_constancy(),
                measures.beat_alignment(),
                measures.diversity(),
                measures.face("paper", mse=1e8, lvd=1e5),
                measures.semantic_recall("paper"),
                *measures.feet(),
                measures.jerk(),
            ),
        ),
        Protocol(
            "emage-v1",
            "what EMAGE's evaluation of 2024 computed (and those of SemTalk and EchoMask), flaws included",
            (
                measures.frechet("fgd", "FGD", multiple=_RELEASED_MULTIPLE, scale=10.0),
                measures.released_beat_constancy(
                    SCRIPTS_THRESHOLD, onsets_of_scripts, root=True, rectified=True, needs=("body", "mean_speed")
                ),
                measures.deviation(root=True),
                measures.face("scripts", mse=1e8, lvd=1e5),
            ),
            {"srgr": "the scripts of 2024 have it for BEAT's 47 joints; SMPL-X has 55"},
        ),
        Protocol(
            "evaltools-v1",
            "what the emage_evaltools of 2025 compute, flaws included",
            (
                measures.frechet("fgd", "FGD", eps=RELEASED_EPS, multiple=_RELEASED_MULTIPLE, scale=10.0),
                measures.released_beat_constancy(
                    TOOLS_THRESHOLD, onsets_of_tools, root=False, rectified=False, needs=("body",)
                ),
                measures.deviation(root=False),
                measures.face("tools", mse=1e8, lvd=1e5),
                measures.semantic_recall("tools"),
            ),
        ),
    )
}
