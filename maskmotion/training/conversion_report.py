"""What a conversion did, file by file, as data and as text; and the error of one that cannot be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maskmotion.motion.layout import FOUR_PARTS
from maskmotion.training.official import KNOWN, Release
from maskmotion.training.official_tokenizers import ROOT


class ConvertError(ValueError):
    """A source that cannot be converted: every problem on a line of its own. Nothing has been written."""


@dataclass(frozen=True)
class FileReport:
    """One file of the source.

    file: path below the source. network: what it holds, in words. release: whose layout that is.
    mapped, kept, ignored: names of its tensors; kept: under their own names in the file `kept_in`; ignored: weights that
    the release has and never uses. beside: what else lay in the file and is no weight. lacks: of a network that is kept,
    what would have made a model of it; empty: nothing does in this version.
    """

    file: str
    sha256: str
    network: str
    release: Release
    mapped: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    kept_in: str | None = None
    ignored: tuple[str, ...] = ()
    beside: tuple[str, ...] = ()
    lacks: str = ""

    @property
    def official_name(self) -> str | None:
        """Name of the official file with this sha256; None for a file that is not known."""
        return KNOWN[self.sha256][0] if self.sha256 in KNOWN else None

    @property
    def licence(self) -> str:
        """Licence of the weights, as far as it can be told."""
        if self.sha256 in KNOWN:
            release = KNOWN[self.sha256][1]
            return f"{release.licence}; {release.title}"
        return f"{self.release.licence}; {self.release.title}, if that is where it is from"

    def lines(self) -> list[str]:
        """The file as text: what it is first, what became of it below."""
        told = [f"mapped: {_groups(self.mapped)}"]
        if self.kept_in is not None:
            why = f"a model needs {self.lacks} beside it" if self.lacks else "no network of this version reads it"
            told = [f"kept under its own names in {self.kept_in}, {why}: {len(self.kept)} tensors"]
        told.append(f"ignored by name (its release never uses them): {_groups(self.ignored, _inner)}")
        if self.beside:
            told.append(f"not weights, left out: {', '.join(self.beside)}")
        told += ["missing: none", f"sha256 {self.sha256}: {self.official_name or 'unknown file'}"]
        return [f"{self.file}: {self.network}", *(f"  {line}" for line in [*told, f"licence: {self.licence}"])]


@dataclass(frozen=True)
class Report:
    """What `convert` read and wrote. notes: what else is worth knowing, one sentence each."""

    source: str
    target: Path
    files: tuple[FileReport, ...]
    notes: tuple[str, ...] = ()

    @property
    def origin(self) -> dict[str, Any]:
        """Where the weights come from, to be saved beside them."""
        files = [
            {"file": file.file, "sha256": file.sha256, "name": file.official_name, "licence": file.licence}
            for file in self.files
        ]
        return {"source": self.source, "files": files}

    def render(self) -> str:
        """The report as text."""
        lines = [line for file in self.files for line in file.lines()]
        if self.notes:
            lines += ["Notes", *(f"  {note}" for note in self.notes)]
        return "\n".join([*lines, f"Written: {self.target}"])


def what_lacks(parts: Sequence[str]) -> Iterator[str]:
    """Notes on what no file holds, given the parts ("root" among them) that files hold."""
    if not parts:
        yield "no tokenizers among them: the folder has no plan and nothing of this version loads it"
    elif absent := [part for part in FOUR_PARTS if part not in parts]:
        yield f"no file holds {', '.join(absent)}: these tokenizers leave it at rest"
    if parts and ROOT not in parts:
        yield "no file holds a global motion predictor: these tokenizers have no root network"


def _groups(names: Iterable[str], group: Callable[[str], str] = lambda name: name.partition(".")[0]) -> str:
    """How many names there are, and how many by their first steps: `27 (encoder 12, quantizer 1, decoder 14)`."""
    counts = Counter(group(name) for name in names)
    shown = ", ".join(f"{one} {count}" for one, count in counts.items())
    return f"{sum(counts.values())} ({shown})" if counts else "none"


def _inner(name: str) -> str:
    """The first step, or two where networks lie within the network, of which some are used and some are not."""
    first, _, rest = name.partition(".")
    return f"{first}.{rest.partition('.')[0]}" if first == "MAM" or first.startswith("predict_res_") else first
