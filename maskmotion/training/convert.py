"""Official checkpoints to our safetensors folder, with nothing written where anything is wrong."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from maskmotion.data.vocabulary import Vocabulary
from maskmotion.evaluation.skeleton_extractor import SkeletonExtractor
from maskmotion.model import Model
from maskmotion.motion.layout import FOUR_PARTS
from maskmotion.quantizers.codebook import Codebook
from maskmotion.quantizers.rvq import RVQ
from maskmotion.tokenizers.pretrained import TokenizerPlan, Tokenizers
from maskmotion.training.checkpoint import write_tensors, write_text
from maskmotion.training.conversion_report import ConvertError, FileReport, Report, what_lacks
from maskmotion.training.conversion_source import WORDS, find
from maskmotion.training.official_echomask import TABLES, build_echomask
from maskmotion.training.official_emage import POSITIONS, YEARS, build_emage
from maskmotion.training.official_files import (
    OfficialExtractor,
    OfficialNetwork,
    OfficialTokenizer,
    disagreements,
    open_official,
)
from maskmotion.training.official_tokenizers import (
    BOOKS,
    ROOT,
    body_of,
    root_of,
    tokenizer_of,
)

ORIGIN = "origin.json"
__all__ = ["ConvertError", "FileReport", "Report", "convert"]


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
    found: list[OfficialTokenizer | OfficialNetwork | OfficialExtractor] = []
    problems: list[str] = []
    for path in origin.files:
        try:
            found.append(open_official(path, path.relative_to(origin.root).as_posix()))
        except ConvertError as error:
            problems += str(error).splitlines()
    tokenizers = [one for one in found if isinstance(one, OfficialTokenizer)]
    extractors = [one for one in found if isinstance(one, OfficialExtractor)]
    if len(extractors) > 1:
        names = ", ".join(one.report.file for one in extractors)
        problems.append(f"{len(extractors)} files hold an FGD extractor: {names}; convert a folder with one of them")
    if problems := problems or list(disagreements(tokenizers)):
        raise ConvertError("\n".join(problems))
    others = _named([one for one in found if isinstance(one, OfficialNetwork)])
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


def _whole(tokenizers: Sequence[OfficialTokenizer], others: Sequence[OfficialNetwork]) -> OfficialNetwork | None:
    """The one network that all its tokenizers lie beside."""
    parts = {one.network.part: one.network.family for one in tokenizers}
    kinds = {family for part, family in parts.items() if part != ROOT}
    networks = [one for one in others if one.network.beside in kinds]
    return networks[0] if len(networks) == 1 and set(parts) == {*FOUR_PARTS, ROOT} else None


def _taken(one: OfficialNetwork) -> OfficialNetwork:
    """A network that the model reads: its tables of positions are computed anew, all else is mapped."""
    tables = {POSITIONS, *TABLES}
    mapped = tuple(name for name in one.report.kept if name not in tables)
    ignored = (*one.report.ignored, *(name for name in one.report.kept if name in tables))
    return replace(one, report=replace(one.report, mapped=mapped, ignored=ignored, kept=(), kept_in=None))


def _model(one: OfficialNetwork, tokenizers: Tokenizers, words: Path | None) -> Model:
    vocabulary = None if words is None else Vocabulary.read(words)
    try:
        if one.network.file in YEARS:
            return build_emage(one.tensors, YEARS[one.network.file], tokenizers, vocabulary)
        return build_echomask(one.tensors, tokenizers)
    except ValueError as error:
        raise ConvertError(f"{one.report.file} ({one.network.title}): {error}") from None


def _named(others: Sequence[OfficialNetwork]) -> list[OfficialNetwork]:
    """With the file that each is kept in, counted where there are several of a kind."""
    named, seen = [], Counter[str]()
    for one in others:
        seen[one.network.file] += 1
        count = f"-{seen[one.network.file]}" if seen[one.network.file] > 1 else ""
        report = replace(one.report, kept_in=f"{one.network.file}{count}.safetensors")
        named.append(replace(one, report=report))
    return named


def _build(files: Sequence[OfficialTokenizer], report: Report) -> Tokenizers:
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
    others: Sequence[OfficialNetwork],
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
