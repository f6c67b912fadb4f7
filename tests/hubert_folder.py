"""A small HuBERT with random weights, as a checkpoint's folder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch


def write_hubert(folder: Path, layers: int = 3, normalise: bool = True, seed: int = 0, size: int = 16) -> Path:
    """config.json, model.safetensors and preprocessor_config.json in `folder`, which it returns."""
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(seed)
    config = transformers.HubertConfig(
        hidden_size=size,
        num_hidden_layers=layers,
        num_attention_heads=2,
        intermediate_size=24,
        conv_dim=(8,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
    )
    transformers.HubertModel(config).save_pretrained(folder)
    extractor = transformers.Wav2Vec2FeatureExtractor(do_normalize=normalise, return_attention_mask=True)
    extractor.save_pretrained(folder)
    return folder
