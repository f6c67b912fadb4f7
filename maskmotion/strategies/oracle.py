"""Oracle masking: scores are the labels themselves, what a masker could reach that knew the meaning of every frame."""

from __future__ import annotations

from torch import Tensor

from maskmotion.interfaces import MaskContext, Masker
from maskmotion.shapes import Float


class Oracle(Masker):
    """Hide the frames that are labelled as carrying meaning: a bound and a control, never a method."""

    def scores(self, context: MaskContext) -> Float[Tensor, "B T"]:
        """[B, T] semantic scores of the labels, BEAT2's scale. ValueError for a batch without them."""
        if "semantic" not in context.batch.labels:
            raise ValueError(
                f"the oracle hides by frame labels 'semantic', and this batch has only {sorted(context.batch.labels)}; "
                "use data with a sem folder, such as the planted corpus, or another masker"
            )
        return context.batch.labels["semantic"].float()
