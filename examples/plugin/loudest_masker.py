"""A masking strategy of a third party: hide the frames where speech is loudest."""

import maskmotion as mm


class Loudest(mm.Masker):
    """Hide the frames where speech is loudest."""

    def scores(self, context):
        """[B, T]: the amplitude of each frame."""
        return context.conditions["rhythm"].features[..., 0]


def tiny_loud():
    """The preset `tiny` with half of the frames hidden where speech is loudest."""
    return mm.preset("tiny").but({"name": "tiny-loud", "masker": mm.Spec("loudest", ratio=0.5)})


@mm.hookimpl
def maskmotion_register(register):
    """Called by maskmotion when it looks for components."""
    register("loudest", Loudest)
    register("tiny-loud", tiny_loud)  # a preset is a function that returns a Recipe
