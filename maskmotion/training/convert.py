"""Official checkpoints to our safetensors folder: the one place that reads a `.bin`, and it never runs what is in it."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from maskmotion.data.vocabulary import Vocabulary
from maskmotion.evaluation.skeleton_extractor import SkeletonExtractor
from maskmotion.model import Model
from maskmotion.motion.layout import FOUR_PARTS
from maskmotion.quantizers.codebook import Codebook
from maskmotion.quantizers.rvq import RVQ
from maskmotion.tokenizers.pretrained import TokenizerPlan, Tokenizers
from maskmotion.training.checkpoint import RunError, read_tensors, write_tensors, write_text
from maskmotion.training.conversion_report import ConvertError, FileReport, Report, what_lacks
from maskmotion.training.conversion_source import WORDS, contradictions, find, read_config, sha256
from maskmotion.training.official import EMAGE_HUB, OtherNetwork, other_network
from maskmotion.training.official_echomask import TABLES, build_echomask
from maskmotion.training.official_emage import POSITIONS, YEARS, build_emage
from maskmotion.training.official_extractor import EXTRACTOR, build_extractor
from maskmotion.training.official_tokenizers import (
    BOOKS,
    ROOT,
    TokenizerNetwork,
    body_of,
    root_of,
    tokenizer_network,
    tokenizer_of,
)

ORIGIN = "origin.json"
__all__ = ["ConvertError", "FileReport", "Report", "convert"]


@dataclass(frozen=True)
class _Tokenizer:
    """A tokenizer's file that has exactly the tensors it needs."""

    report: FileReport
    network: TokenizerNetwork
    tensors: Mapping[str, Tensor]


@dataclass(frozen=True)
class _Other:
    """A file of another network, without the weights its release never uses, and the numbers of its config.json."""

    report: FileReport
    network: OtherNetwork
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any]


@dataclass(frozen=True)
class _Extractor:
    """EMAGE's FGD extractor, built."""

    report: FileReport
    built: SkeletonExtractor


def convert(source: str | Path, target: str | Path) -> Report:
    """Convert official checkpoints to a folder that `Tokenizers.from_pretrained` loads, whole EMAGEs and EchoMasks to models.

    Tokenizers of EMAGE, EchoMask and SemTalk are known by the names and shapes of what is in a file, whatever it is
    called. A network of EMAGE or EchoMask beside the tokenizers of all its parts and its global motion predictor makes a
    folder that `Model.from_pretrained` loads. EMAGE's FGD extractor becomes one that `load_extractor` reads. Networks of other
    kinds are kept under their own names, each in a file beside them. `vocab.json` is copied.

    Args:
        source: a folder, a single file, or a hub id OWNER/NAME.
        target: folder to write; it must not exist.

    Raises ConvertError, with nothing written, for weights that are missing, unknown or of another shape, for files that
    are not what they should be, and for a source without any; FileNotFoundError for no source.
    """
    target = Path(target)
    if os.path.lexists(target):
        raise ConvertError(f"{target} exists already; give the name of a new folder, or remove that one")
    origin = find(source)
    found: list[_Tokenizer | _Other | _Extractor] = []
    problems: list[str] = []
    for path in origin.files:
        try:
            found.append(_open(path, path.relative_to(origin.root).as_posix()))
        except ConvertError as error:
            problems += str(error).splitlines()
    tokenizers = [one for one in found if isinstance(one, _Tokenizer)]
    extractors = [one for one in found if isinstance(one, _Extractor)]
    if len(extractors) > 1:
        names = ", ".join(one.report.file for one in extractors)
        problems.append(f"{len(extractors)} files hold an FGD extractor: {names}; convert a folder with one of them")
    if problems := problems or list(_disagreements(tokenizers)):
        raise ConvertError("\n".join(problems))
    others = _named([one for one in found if isinstance(one, _Other)])
    whole = _whole(tokenizers, others)
    others = [_taken(one) if one is whole else one for one in others]
    reports = [
        *(one.report for one in tokenizers),
        *(one.report for one in others),
        *(one.report for one in extractors),
    ]
    if whole is not None and whole.network.file == "emage_text_2024" and origin.words is None:
        origin = replace(origin, notes=(*origin.notes, f"without {WORDS} no word is known to the text model"))
    notes = [
        *origin.notes,
        *(f"`maskmotion evaluate --extractor {target}` measures FGD with {one.report.file}" for one in extractors),
    ]
    if tokenizers or not extractors:
        notes += what_lacks([one.network.part for one in tokenizers])
    notes += [
        f"{one.report.file} has {one.network.books} residual layers, the releases have {BOOKS}"
        for one in tokenizers
        if one.network.family == "dilated" and one.network.books != BOOKS
    ]
    report = Report(origin.title, target, tuple(reports), tuple(notes))
    built = _build(tokenizers, report) if tokenizers else None
    model = None if whole is None or built is None else _model(whole, built, origin.words)
    kept = [one for one in others if one.report.kept_in]
    _write(target, model or built, kept, [one.built for one in extractors], origin.words, report)
    return report


def _whole(tokenizers: Sequence[_Tokenizer], others: Sequence[_Other]) -> _Other | None:
    """The one network that all its tokenizers lie beside."""
    parts = {one.network.part: one.network.family for one in tokenizers}
    kinds = {family for part, family in parts.items() if part != ROOT}
    networks = [one for one in others if one.network.beside in kinds]
    return networks[0] if len(networks) == 1 and set(parts) == {*FOUR_PARTS, ROOT} else None


def _taken(one: _Other) -> _Other:
    """A network that the model reads: its tables of positions are computed anew, all else is mapped."""
    tables = {POSITIONS, *TABLES}
    mapped = tuple(name for name in one.report.kept if name not in tables)
    ignored = (*one.report.ignored, *(name for name in one.report.kept if name in tables))
    return replace(one, report=replace(one.report, mapped=mapped, ignored=ignored, kept=(), kept_in=None))


def _model(one: _Other, tokenizers: Tokenizers, words: Path | None) -> Model:
    vocabulary = None if words is None else Vocabulary.read(words)
    try:
        if one.network.file in YEARS:
            return build_emage(one.tensors, YEARS[one.network.file], tokenizers, vocabulary)
        return build_echomask(one.tensors, tokenizers)
    except ValueError as error:
        raise ConvertError(f"{one.report.file} ({one.network.title}): {error}") from None


def _open(path: Path, name: str) -> _Tokenizer | _Other | _Extractor:
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
        return _Other(replace(report, kept=tuple(kept), ignored=dead, lacks=lacks), network, kept, config)
    if problems := [*_differences(shapes, network), *contradictions(path, network, config)]:
        raise ConvertError("\n".join(f"{name} ({network.title}): {problem}" for problem in problems))
    network = replace(network, commitment=float(config.get("vae_quantizer_lambda", 1.0)))
    return _Tokenizer(replace(report, mapped=tuple(tensors)), network, tensors)


def _extractor(report: FileReport, tensors: Mapping[str, Tensor]) -> _Extractor:
    """The FGD extractor of a file, which knows where it is from. ConvertError with every problem."""
    try:
        built = build_extractor(tensors)
    except ValueError as error:
        told = (f"{report.file} ({report.network}): {problem}" for problem in str(error).splitlines())
        raise ConvertError("\n".join(told)) from None
    name = report.official_name or f"{report.file}, not the published file"
    built.about = {"name": name, "sha256": report.sha256, "licence": report.licence}
    return _Extractor(report, built)


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


def _disagreements(files: Sequence[_Tokenizer]) -> Iterator[str]:
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


def _named(others: Sequence[_Other]) -> list[_Other]:
    """With the file that each is kept in, counted where there are several of a kind."""
    named, seen = [], Counter[str]()
    for one in others:
        seen[one.network.file] += 1
        count = f"-{seen[one.network.file]}" if seen[one.network.file] > 1 else ""
        report = replace(one.report, kept_in=f"{one.network.file}{count}.safetensors")
        named.append(replace(one, report=report))
    return named


def _build(files: Sequence[_Tokenizer], report: Report) -> Tokenizers:
    """Tokenizers with the weights of the files. ConvertError for those of another shape than the rest asks for."""
    networks = {one.network.part: one.network for one in files}
    root = networks.pop(ROOT, None)
    plan = TokenizerPlan(
        body=body_of(networks),
        tokenizer=tokenizer_of(networks),
        root=None if root is None else root_of(root),
        origin=report.origin,
    )
    built, problems = Tokenizers.build(plan), []
    state = built.state_dict()
    for one in files:
        place = "root" if one.network.part == ROOT else f"body.tokenizers.{one.network.part}"
        for official, ours in one.network.keys.items():
            value, ours_is = one.tensors[official], state[f"{place}.{ours}"]
            if value.shape != ours_is.shape or not value.is_floating_point():
                got, needed = (f"{tuple(tensor.shape)} {tensor.dtype}" for tensor in (value, ours_is))
                problems.append(f"{one.report.file}: {official} is {got}, needed {needed}")
            else:
                ours_is.copy_(value)
    if problems:
        raise ConvertError("\n".join(problems))
    for part in built.body.parts:
        quantizer = built.body[part].quantizer
        assert isinstance(quantizer, RVQ)
        for book in quantizer.codebooks:
            _set_out(book)
    return built


def _set_out(book: Codebook) -> None:
    """What no release saves, so that training goes on from the codes: as if each had been chosen once."""
    book.counts.fill_(1.0)
    book.started.fill_(True)
    if book.learning == "ema":
        book.sums.copy_(book.codes)


def _write(
    target: Path,
    built: Model | Tokenizers | None,
    others: Sequence[_Other],
    extractors: Sequence[SkeletonExtractor],
    words: Path | None,
    report: Report,
) -> None:
    """The whole folder or nothing. Beside a model stands where its weights come from; tokenizers have it in their plan."""
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        if built is not None:
            built.save_pretrained(folder)
        if isinstance(built, Model):
            write_text(folder / ORIGIN, json.dumps(report.origin, indent=2))
        for one in others:
            assert one.report.kept_in is not None
            told = {"network": one.network.title, "sha256": one.report.sha256, "licence": one.report.licence}
            write_tensors(folder / one.report.kept_in, one.tensors, {**told, "config": dict(one.config)})
        for extractor in extractors:
            extractor.save(folder)
        if words is not None:
            write_text(folder / WORDS, words.read_text(encoding="utf-8"))
        umask = os.umask(0)  # mkdtemp makes private folders; give this one the permissions any new folder gets
        os.umask(umask)
        folder.chmod(0o777 & ~umask)
        folder.rename(target)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
