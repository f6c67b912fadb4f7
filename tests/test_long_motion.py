"""Motion of any length in pieces: the same tokens and frames as at once, in bounded memory."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from maskmotion.motion.layout import SMPLX
from maskmotion.quantizers import RVQ, VQ
from maskmotion.tokenizers import BodyTokenizer, Dilated, PartTokenizer, Plain
from maskmotion.tokenizers.pieces import in_pieces, pieces


def body_of(network):
    torch.manual_seed(0)
    quantizer = VQ if network is Plain else RVQ
    options = {"layers": 2} if network is Plain else {"downsample": 4, "dilations": (9, 3, 1)}
    body = BodyTokenizer(
        {p: PartTokenizer(c, network(len(c), 8, **options), quantizer(8, 16)) for p, c in SMPLX.columns.items()}
    )
    body.set_statistics([SMPLX.rest + torch.randn(200, 437)])
    body.train()
    for _ in range(3):
        body.encode(SMPLX.rest + torch.randn(4, 64, 437))
    return body.eval()


@pytest.mark.parametrize("network", [Dilated, Plain])
@pytest.mark.parametrize("frames", [1, 3, 63, 400, 401])
def test_pieces_give_the_tokens_and_frames_of_the_whole(network, frames):
    body = body_of(network)
    motion = SMPLX.rest + torch.randn(2, frames, 437)
    whole = body.encode(motion)
    codes = body.tokenize(motion, piece=17)
    for part in body.parts:
        assert torch.equal(codes[part], whole[part].codes)
    at_once = body.decode({part: tokens.latents for part, tokens in whole.items()}, frames)
    assert at_once.shape == motion.shape
    assert torch.allclose(body.detokenize(codes, frames, piece=17), at_once, atol=1e-5)


@settings(max_examples=60, deadline=None)
@given(total=st.integers(1, 200), size=st.integers(1, 50), reach=st.integers(0, 40), fold=st.integers(1, 3))
def test_pieces_cover_every_unit_once_with_all_that_it_sees(total, size, reach, fold):
    covered = [unit for _, _, place in pieces(total, size, reach) for unit in range(place.start, place.stop)]
    assert covered == list(range(total))
    signal = torch.arange(total).double()[None]

    def sums(
        read: slice,
    ) -> dict[str, torch.Tensor]:  # of everything within reach, and what was not read counts as far away
        seen = signal[:, read]
        spread = (torch.arange(total)[read][:, None] - torch.arange(total)[read]).abs() <= reach
        return {"sum": (seen @ spread.double()).repeat_interleave(fold, dim=1)}

    whole = sums(slice(0, total))["sum"]
    assert torch.equal(in_pieces(sums, total, size, reach, fold)["sum"], whole)


class _Largest(TorchDispatchMode):
    """Remembers how large the largest tensor is that an operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: list[int] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        if isinstance(out, torch.Tensor) and not out._is_view():
            self.bytes.append(out.nbytes)
        return out


@pytest.mark.parametrize("network", [Dilated, Plain])
def test_the_work_of_a_long_motion_needs_no_more_memory_than_that_of_a_short_one(network):
    body, largest = body_of(network), {}
    for frames in (1600, 6400):
        motion = SMPLX.rest.expand(1, frames, -1)
        with _Largest() as seen:
            codes = body.tokenize(motion, piece=100)
        outputs = sorted({c.nbytes for c in codes.values()})
        with _Largest() as back:
            again = body.detokenize(codes, frames, piece=100)
        largest[frames] = (
            max(size for size in seen.bytes if size not in outputs),
            max(size for size in back.bytes if size != again.nbytes),
        )
    assert largest[1600] == largest[6400]


def test_long_decoding_needs_tokens_of_one_length():
    body = body_of(Plain)
    with pytest.raises(ValueError, match="all parts equally long"):
        body.decode({"face": torch.zeros(1, 4, 8), "upper": torch.zeros(1, 5, 8)})
    with pytest.raises(ValueError, match="at least one part"):
        body.detokenize({})


def test_a_part_that_is_not_given_is_at_rest():
    body = body_of(Plain)
    motion = body.decode({"upper": torch.randn(1, 6, 8)})
    others = [c for part, columns in SMPLX.columns.items() if part != "upper" for c in columns]
    assert torch.equal(motion[..., others], SMPLX.rest[others].expand(1, 6, -1))
    assert not torch.equal(
        motion[..., list(SMPLX.columns["upper"])], SMPLX.rest[list(SMPLX.columns["upper"])].expand(1, 6, -1)
    )
