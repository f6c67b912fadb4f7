"""The passes of one of EchoMask's training steps, which share all that they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from maskmotion.generators.echomask_records import Heard, Seen
from maskmotion.generators.passes import Pass, prediction_parts
from maskmotion.types import Batch, Prediction

if TYPE_CHECKING:
    from maskmotion.generators.echomask import EchoMask


def shared_predictions(
    network: EchoMask,
    passes: Sequence[Pass],
    batch: Batch,
    heard: Heard,
    rows: Mapping[str, Tensor],
    masks: Mapping[str, Tensor],
) -> dict[str, Prediction]:
    """Pass -> its prediction, for its rows of the batch.

    Motion is seen once for those that see the same (`Pass.like`), hints are made only for those that hear them, and all of
    them go through the rest of the network together. heard: of the whole batch, once.
    """
    views = [one for one in passes if one.like is None]
    index = torch.cat([rows[one.name] for one in views])
    seen = network.see(batch.motion[index], torch.cat([masks[one.name] for one in views]), heard.begun.rows(index))
    places = torch.arange(len(index), device=index.device).split([len(rows[one.name]) for one in views])
    at = {one.name: place for one, place in zip(views, places, strict=True)}
    order = sorted(passes, key=lambda one: not one.speech)
    together = seen.rows(torch.cat([at[one.like or one.name] for one in order]))
    body, hearing = together.body, [rows[one.name] for one in order if one.speech]
    if hearing and heard.asked is not None:
        asked = heard.asked.rows(torch.cat(hearing))
        hears = len(asked.valid)
        body = torch.cat([body[:hears] + network.hints(body[:hears], asked), body[hears:]])
    kept = heard.kept.rows(torch.cat([rows[one.name] for one in order]))
    prediction = network.say(Seen(together.face, body), kept)
    return prediction_parts(prediction, {one.name: len(rows[one.name]) for one in order})
