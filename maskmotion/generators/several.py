"""Several: one generator that learns from several data sets, some of which lack parts (EMAGE, section 5.2.3)."""

from __future__ import annotations

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from maskmotion.config import RecipeError
from maskmotion.interfaces import Generator
from maskmotion.tokenizers.body import BodyTokenizer
from maskmotion.types import Batch


class Several(nn.Module):
    """A generator, and for each further data set its own tokenizers and the heads that speak their tokens.

    All else is shared. A batch goes through the network with the tokenizers and heads of its data set (`Batch.data`), so
    that losses exist only for the parts that this one has. `generator` stays what it is without further data sets; what
    it generates and how it is measured knows nothing of them.

    Args:
        generator: of the main data set; it names its heads in `token_heads`.
        bodies: name -> tokenizers of a further data set, in the order of their numbers, which begin with 1.

    Raises:
        RecipeError: a generator whose heads cannot be told from the rest.
    """

    def __init__(self, generator: Generator, bodies: Mapping[str, BodyTokenizer]) -> None:
        super().__init__()
        if not generator.token_heads:
            raise RecipeError(
                f"generator: {type(generator).__name__} cannot learn from several data sets, as it does not say in "
                "`token_heads` which of its modules belong to the tokenizers; train it on one"
            )
        self.generator, self.names = generator, tuple(bodies)
        self.bodies = nn.ModuleList(bodies.values())
        self.heads = nn.ModuleList(_copied_heads(generator, body) for body in bodies.values())

    def of(self, data: int) -> Generator:
        """The generator as data set number `data` sees it; 0: the generator itself."""
        if data == 0:
            return self.generator
        own = copy.copy(self.generator)
        body, heads = self.bodies[data - 1], self.heads[data - 1]
        assert isinstance(heads, nn.ModuleDict)
        own._modules = {**self.generator._modules, "body": body, **dict(heads.items())}
        return own

    def forward(self, batch: Batch, *, teacher: Several, progress: float, stage: str) -> dict[str, Tensor]:
        """Named losses of the batch's data set; those of further data sets carry its name."""
        losses = self.of(batch.data)(batch, teacher=teacher.of(batch.data), progress=progress, stage=stage)
        if batch.data == 0:
            return losses
        return {f"{self.names[batch.data - 1]}/{name}": loss for name, loss in losses.items()}

    @torch.no_grad()
    def freeze(self) -> None:
        """Hold the further tokenizers as they are, and let the network see all motion on the main data set's scale."""
        for body in self.bodies:
            assert isinstance(body, BodyTokenizer)
            body.requires_grad_(False).eval()
            body.mean.copy_(self.generator.body.mean)
            body.scale.copy_(self.generator.body.scale)

    def train(self, mode: bool = True) -> Several:
        """Training mode for everything but the tokenizers."""
        super().train(mode)
        self.bodies.eval()
        return self


def _copied_heads(generator: Generator, body: BodyTokenizer) -> nn.ModuleDict:
    """Heads of the body's parts, beginning where those of the main data set begin."""
    heads = nn.ModuleDict()
    for name in generator.token_heads:
        table = getattr(generator, name)
        heads[name] = nn.ModuleDict({part: copy.deepcopy(table[part]) for part in body.parts})
    return heads
