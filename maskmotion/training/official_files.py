"""The files of a release: each is read, told by its tensors, and checked; the one place that reads a `.bin`, running nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskmotion.evaluation.skeleton_extractor import SkeletonExtractor
from maskmotion.training.checkpoint import RunError, read_tensors
from maskmotion.training.conversion_report import ConvertError, FileReport
from maskmotion.training.conversion_source import contradictions, read_config, sha256
from maskmotion.training.official import EMAGE_HUB, OtherNetwork, other_network
from maskmotion.training.official_extractor import EXTRACTOR, build_extractor
from maskmotion.training.official_tokenizers import ROOT, TokenizerNetwork, tokenizer_network


@dataclass(frozen=True)
class OfficialTokenizer:
    """A tokenizer's file that has exactly the tensors it needs."""

    report: FileReport
    network: TokenizerNetwork
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class OfficialNetwork:
    """A file of another network, without the weights its release never uses, and the numbers of its config.json."""

    report: FileReport
    network: OtherNetwork
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class OfficialExtractor:
    """EMAGE's FGD extractor, built."""

    report: FileReport
    built: SkeletonExtractor


def open_official(path: Path, name: str) -> OfficialTokenizer | OfficialNetwork | OfficialExtractor:
    """Read one file and check that it is whole. ConvertError with every problem."""
    tensors, beside = _read(path, name)
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    try:
        network = tokenizer_network(shapes) or other_network(shapes)
    except ValueError as error:
        raise ConvertError(f"{name}: {error}") from None
    if network is None:
        shown = ", ".join(list(shapes)[:3])
        raise ConvertError(
            f"{name} is no network of EMAGE, SemTalk or EchoMask that is known here; it holds {shown}, ..."
        )
    config = read_config(path)
    release = EMAGE_HUB if config else network.release
    report = FileReport(name, sha256(path), network.title, release, beside=beside)
    if isinstance(network, OtherNetwork):
        if len(tensors) != network.tensors:
            raise ConvertError(f"{name}: {network.title} has {network.tensors} tensors, this file {len(tensors)}")
        dead = tuple(key for key in tensors if network.is_dead(key))
        kept = {key: value for key, value in tensors.items() if key not in dead}
        if network.file == EXTRACTOR:
            return _extractor(replace(report, mapped=tuple(kept), ignored=dead), tensors)
        lacks = "the tokenizers of all its parts and its global motion predictor" if network.beside else ""
        return OfficialNetwork(replace(report, kept=tuple(kept), ignored=dead, lacks=lacks), network, kept, config)
    if problems := [*_differences(shapes, network), *contradictions(path, network, config)]:
        raise ConvertError("\n".join(f"{name} ({network.title}): {problem}" for problem in problems))
    network = replace(network, commitment=float(config.get("vae_quantizer_lambda", 1.0)))
    return OfficialTokenizer(replace(report, mapped=tuple(tensors)), network, tensors)


def _extractor(report: FileReport, tensors: Mapping[str, Tensor]) -> OfficialExtractor:
    """The FGD extractor of a file, which knows where it is from. ConvertError with every problem."""
    try:
        built = build_extractor(tensors)
    except ValueError as error:
        told = (f"{report.file} ({report.network}): {problem}" for problem in str(error).splitlines())
        raise ConvertError("\n".join(told)) from None
    name = report.official_name or f"{report.file}, not the published file"
    built.about = {"name": name, "sha256": report.sha256, "licence": report.licence}
    return OfficialExtractor(report, built)


def _read(path: Path, name: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Tensors by name without `module.`, and the names of what else lay beside the state dict."""
    if path.suffix == ".safetensors":
        try:
            loaded: Any = read_tensors(path)[0]
        except RunError:
            raise ConvertError(f"{name} is no safetensors file, or one cut short; get it again") from None
    else:
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # of torch, of zip files, of pickles: one fact, this is no file of plain weights
            raise ConvertError(
                f"{name} holds more than weights, or is damaged, and was not opened ({_first_line(error)}); get it again, "
                'or write its state dict alone, torch.save({"model_state": ...}, FILE), where you trust it'
            ) from None
    beside: tuple[str, ...] = ()
    if isinstance(loaded, dict) and isinstance(loaded.get("model_state"), dict):
        beside = tuple(str(key) for key in loaded if key != "model_state")
        loaded = loaded["model_state"]
    if not isinstance(loaded, dict) or not loaded:
        raise ConvertError(f"{name} holds no state dict")
    if odd := [str(key) for key, value in loaded.items() if not isinstance(value, Tensor)]:
        raise ConvertError(f"{name} is no state dict; these entries are no tensors: {', '.join(odd)}")
    wrapped = all(str(key).startswith("module.") for key in loaded)
    return {str(key).removeprefix("module.") if wrapped else str(key): value for key, value in loaded.items()}, beside


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _differences(shapes: Mapping[str, tuple[int, ...]], network: TokenizerNetwork) -> Iterator[str]:
    if missing := [name for name in network.keys if name not in shapes]:
        yield f"missing: {', '.join(missing)}"
    if unknown := [name for name in shapes if name not in network.keys]:
        yield f"unknown: {', '.join(unknown)}"


def disagreements(files: Sequence[OfficialTokenizer]) -> Iterator[str]:
    """What keeps files that are whole from being one set of tokenizers."""
    for part, count in Counter(one.network.part for one in files).items():
        if count > 1:
            names = ", ".join(one.report.file for one in files if one.network.part == part)
            yield f"{count} files hold {part}: {names}; convert a folder with one of them"
    parts = [one for one in files if one.network.part != ROOT]
    if files and not parts:
        yield (
            f"{files[0].report.file} is a global motion predictor alone; a folder of tokenizers needs a part: put it beside "
            "the tokenizers it belongs to and convert that folder"
        )
    networks = [one.network for one in parts]
    if len({(network.family, network.width, network.codes, network.books) for network in networks}) > 1:
        told = "; ".join(f"{one.report.file}: {one.network.title}" for one in parts)
        yield f"the parts of one body need the same kind, width and codes, got {told}"
