"""The library's own plug-in: registers everything below it, through the same hook as anybody's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from maskmotion.plugins import hookimpl


@hookimpl
def maskmotion_register(register: Callable[[str, Any], Any]) -> None:
    """Register the built-in components and presets."""
    from maskmotion import conditioners, generators, presets, quantizers, strategies, tokenizers

    for name, thing in {
        "vq": quantizers.VQ,
        "rvq": quantizers.RVQ,
        "product": quantizers.Product,
        "external": quantizers.External,
        "identity": quantizers.Identity,
        "dilated": tokenizers.Dilated,
        "plain": tokenizers.Plain,
        "random": strategies.Random,
        "span": strategies.Span,
        "loss_based": strategies.LossBased,
        "speech_queried": strategies.SpeechQueried,
        "oracle": strategies.Oracle,
        "mel": conditioners.Mel,
        "rhythm": conditioners.Rhythm,
        "speech": conditioners.Speech,
        "transcript": conditioners.Transcript,
        "speaker": conditioners.Speaker,
        "released_speech": conditioners.ReleasedSpeech,
        "aligned": conditioners.Aligned,
        "waveform": conditioners.Waveform,
        "words": conditioners.Words,
        "tiny": generators.Tiny,
        "emage": generators.Emage,
        "emage_release": generators.EmageRelease,
        "echomask": generators.EchoMask,
    }.items():
        register(name, thing)
    register("tiny", presets.tiny)
    register("echomask", presets.echomask)
    register("echomask-release", presets.echomask_release)
    register("emage", presets.emage)
    register("emage-release", presets.emage_release)
    register("emage-2024-text", presets.emage_2024_text)
    register("emage-2024-audio", presets.emage_2024_audio)
