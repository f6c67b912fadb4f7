"""Body mocap to a BEAT2 tree of its own: `maskmotion data import SOURCE TARGET`."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from maskmotion.data.amass import read_amass, still_hands
from maskmotion.data.audio import load_audio
from maskmotion.data.beat2 import SPLIT_FILE
from maskmotion.data.bvh import read_bvh
from maskmotion.data.contents import ALL_PARTS, Contents, write_contents
from maskmotion.data.retarget import to_smplx
from maskmotion.motion.files import MotionFile, from_tensor, to_tensor, write_motion

_SHAPES = re.compile(r"shape\.npz|.*_stagei\.npz")  # of AMASS; body shapes without motion


@dataclass
class Imported:
    """What became of a folder of mocap: recordings written, what they have, and what is wrong with the others."""

    root: Path
    contents: Contents
    names: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def render(self) -> str:
        """A few lines of text."""
        lines = [f"{self.root}: {len(self.names)} recordings; {self.contents.describe()}"]
        return "\n".join(lines + [f"left out: {problem}" for problem in self.problems] + self.notes)


@dataclass(frozen=True)
class _Reader:
    """How a kind of file is read: motion and the parts it has."""

    suffix: str
    read: Callable[[Path], tuple[MotionFile, tuple[str, ...]]]


def import_mocap(
    source: str | Path,
    target: str | Path,
    *,
    kind: Literal["amass", "bvh"] | None = None,
    parts: tuple[str, ...] | None = None,
    joints: str | Path | Mapping[str, str] | None = None,
    up: Literal["y", "z"] = "y",
    rest: Literal["zero", "first"] = "zero",
    progress: Callable[[int, int], None] | None = None,
) -> Imported:
    """Write AMASS npz or BVH files, one or a folder of them, as a tree that `--data` takes after a whole data set.

    Motion is resampled to 30 frames per second (rotations by slerp) and y is up. A wav file of the same name beside a
    motion file is its speech; either all recordings have one, or those without are left out. Every folder of the source
    counts as a speaker. All recordings are for training; where a tree has no other split, one in ten is held out.

    Args:
        source: a file or a folder, searched with its subfolders.
        target: folder to write; it must not exist, and holds nothing where this fails.
        kind: None: by the endings of the files.
        parts: what to keep of face, upper, hands, lower; None: what the files have. A file that lacks one is left out.
        joints: of BVH: joint of the file -> SMPL-X joint, or a JSON file that says so; None: by the usual names.
        up, rest: of BVH, as in `retarget.to_smplx`.
        progress: called with (done, total) after each file.

    Raises:
        FileNotFoundError: no such source, or no file of that kind in it.
        FileExistsError: the target exists.
        ValueError: a table of joints that is none, or not one file that could be read.
    """
    source, target = Path(source), Path(target)
    if target.exists():
        raise FileExistsError(f"{target} exists; give a folder that does not, or move it away")
    reader, files = _find(source, kind, _table(joints), up, rest)
    found = Imported(target, Contents())
    wanted = None if parts is None else Contents(tuple(parts)).parts
    heard = any(path.with_suffix(".wav").is_file() for path in files)
    folders = sorted({path.parent for path in files})
    target.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{target.name}-", dir=target.parent))
    try:
        kept: list[tuple[str, ...]] = []
        for number, path in enumerate(files, 1):
            name = f"{folders.index(path.parent) + 1}_{_plain(source, path)}"
            try:
                kept.append(_write(building, reader, path, name, heard, wanted, found))
                found.names.append(name)
            except (ValueError, OSError) as error:
                found.problems.append(str(error))
            if progress is not None:
                progress(number, len(files))
        if not found.names:
            raise ValueError(f"{source}: none of {len(files)} file(s) could be used; the first: {found.problems[0]}")
        common = tuple(part for part in ALL_PARTS if all(part in one for one in kept))
        if wanted is None and any(set(one) != set(common) for one in kept):
            found.notes.append(f"not every file has the same parts; kept is what all have: {', '.join(common)}")
        found.contents = Contents(wanted or common, heard)
        write_contents(building, found.contents)
        rows = ["id,type", *(f"{name},train" for name in found.names)]
        (building / SPLIT_FILE).write_text("\n".join(rows) + "\n", encoding="utf-8")
        building.chmod(0o755)
        building.rename(target)
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return found


def _find(
    source: Path,
    kind: str | None,
    table: Mapping[str, str] | None,
    up: Literal["y", "z"],
    rest: Literal["zero", "first"],
) -> tuple[_Reader, list[Path]]:
    """The reader for what is there, and the files."""
    readers = {
        "amass": _Reader(".npz", lambda path: (read_amass(path), ("upper", "hands", "lower"))),
        "bvh": _Reader(".bvh", lambda path: _read_bvh(path, table, up, rest)),
    }
    if not source.exists():
        raise FileNotFoundError(f"{source}: no such file or folder")
    everything = sorted(source.rglob("*")) if source.is_dir() else [source]
    for name, reader in readers.items():
        files = [
            path for path in everything if path.suffix.lower() == reader.suffix and not _SHAPES.fullmatch(path.name)
        ]
        if files and kind in (None, name):
            return reader, files
    wanted = ", ".join(reader.suffix for name, reader in readers.items() if kind in (None, name))
    raise FileNotFoundError(f"{source}: no file that ends in {wanted}")


def _read_bvh(
    path: Path, table: Mapping[str, str] | None, up: Literal["y", "z"], rest: Literal["zero", "first"]
) -> tuple[MotionFile, tuple[str, ...]]:
    bvh = read_bvh(path)
    try:
        return to_smplx(bvh, table, up, rest)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _write(
    root: Path, reader: _Reader, path: Path, name: str, heard: bool, wanted: tuple[str, ...] | None, found: Imported
) -> tuple[str, ...]:
    """Write one recording; returns the parts it has. ValueError when it lacks what it should have."""
    motion, parts = reader.read(path)
    lacking = [part for part in wanted or () if part not in parts]
    if lacking:
        raise ValueError(f"{path}: no {', no '.join(lacking)}; it has {', '.join(parts)}")
    sound = path.with_suffix(".wav")
    if heard and not sound.is_file():
        raise ValueError(f"{path}: no {sound.name} beside it, and other recordings have speech")
    if heard:
        load_audio(sound)
    if "hands" in (wanted or parts) and still_hands(motion):
        found.notes.append(f"{path}: no finger moves, so its hands were hardly recorded; leave it out, or drop hands")
    arrays = from_tensor(to_tensor(motion)) | {"betas": motion.betas}
    write_motion(root / "smplxflame_30" / f"{name}.npz", **arrays)  # type: ignore[arg-type]  # fps stays 30
    if heard:
        (root / "wave16k").mkdir(exist_ok=True)
        shutil.copyfile(sound, root / "wave16k" / f"{name}.wav")
    return parts


def _table(joints: str | Path | Mapping[str, str] | None) -> Mapping[str, str] | None:
    if joints is None or isinstance(joints, Mapping):
        return joints
    path = Path(joints)
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error})") from error
    if not isinstance(table, dict) or not all(isinstance(name, str) for name in table.values()):
        raise ValueError(f'{path}: a table of joints is {{"joint of the file": "SMPL-X joint", ...}}')
    return table


def _plain(source: Path, path: Path) -> str:
    """The path below the source as a name."""
    below = path.relative_to(source) if source.is_dir() else Path(path.name)
    return re.sub(r"[^A-Za-z0-9]+", "_", str(below.with_suffix(""))).strip("_")
