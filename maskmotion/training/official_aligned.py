"""EchoMask's official alignment of speech and motion: where each of its tensors belongs in the conditioner `Aligned`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from maskmotion.training.official_layers import layer_keys, mlp_keys

ENCODERS = (2, 2, 2)  # layers of the transformer that queries and motion share, as released
_SEQUENTIAL = ("mlp.0", "mlp.2")


def aligned_keys(parts: Sequence[str], official: str = "MAM.", ours: str = "") -> Iterator[tuple[str, str]]:
    """(official, ours) of every learned tensor; positions are computed. official, ours: what the names begin with.

    The official queries are [1, 1, C], ours [1, C]. Ours are those of an alignment with the release's arguments: by part,
    encoders (2, 2, 2), one query, nothing projected, match and regress with weight.
    """
    for part in parts:
        space = f"{ours}spaces.{part}"
        yield f"{official}moau_query_{part}", f"{space}.queries"
        for number, layers in enumerate(ENCODERS):
            for layer in range(layers):
                theirs = f"{official}motion_encoder_{part}_{number + 1}.layers.{layer}"
                yield from layer_keys(theirs, f"{space}.encoders.{number}.{layer}", decoder=False)
        for level in ("low", "high"):
            yield from layer_keys(f"{official}{part}_decoder_{level}.layers.0", f"{space}.decoders.{level}")
        yield from mlp_keys(f"{official}predict_motion_{part}", f"{ours}regressor.{part}", _SEQUENTIAL)
        yield from mlp_keys(f"{official}match_{part}_classifier", f"{ours}matcher.{part}", _SEQUENTIAL)
