"""What the documentation says is run: every python block, every command line, every link."""

from __future__ import annotations

import re
import runpy
import shlex
import shutil
from pathlib import Path

import pytest
import typer

import maskmotion as mm
from maskmotion.cli import app, parse_changes
from maskmotion.registry import KINDS

ROOT = Path(__file__).parents[1]
PLUGIN = ROOT / "examples" / "plugin"
PAGES = [ROOT / "README.md", *sorted(path for path in ROOT.glob("docs/**/*.md") if "results" not in path.parts)]
FEW = {f"training.{stage}.steps": 2 for stage in ("tokenizer", "root", "generator")}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def blocks(path: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in these languages, in order."""
    found = re.findall(r"^ *```(\w*)[^\n]*\n(.*?)^ *```", path.read_text(encoding="utf-8"), re.S | re.M)
    return [code for language, code in found if language in languages]


def quick(code: str) -> str:
    """The same code on the small corpus and in a few steps."""
    code = re.sub(r'mm\.train\("(\w+)"', r'mm.train(mm.preset("\1")', code)
    code = re.sub(r'mm\.preset\("(\w+)"\)', r'mm.preset("\1").but(FEW)', code)
    return re.sub(r'(?<!checkpoint=)"planted(-v1)?"', '"planted-v1-small"', code)


@pytest.fixture
def desk(tmp_path, monkeypatch, quick_run, speech_file) -> Path:
    """A reader's folder with a speech.wav; what was registered in it is forgotten again."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(speech_file, "speech.wav")
    before = {kind: set(mm.names(kind)) for kind in ("preset", *KINDS)}
    yield tmp_path
    for kind, names in before.items():
        for new in set(mm.names(kind)) - names:
            mm.unregister(kind, new)


def test_there_is_a_readme():
    assert PAGES[0].is_file()


@pytest.mark.parametrize("page", [path for path in PAGES if path.is_file() and blocks(path, "python")], ids=name)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, desk, quick_run):
    namespace = {"FEW": FEW, "__name__": "page"}
    for number, code in enumerate(blocks(page, "python"), 1):
        for run in re.findall(r'from_pretrained\("([^"]+)"', code):
            if not Path(run).exists():  # the reader has trained it on the command line
                shutil.copytree(quick_run, run)
        exec(compile(quick(code), f"{name(page)}, python block {number}", "exec"), namespace)


def test_the_tutorial_ends_with_the_package_in_examples():
    page = ROOT / "docs" / "tutorials" / "masker.md"
    assert (PLUGIN / "loudest_masker.py").read_text() == blocks(page, "python")[-1]
    assert [(PLUGIN / "pyproject.toml").read_text()] == blocks(page, "toml")


def commands(path: Path) -> list[list[str]]:
    """The `maskmotion ...` command lines of a page, without what a pipe or redirection does with them."""
    text = "\n".join(blocks(path, "", "sh", "bash", "shell", "console", "text")).replace("\\\n", " ")
    lines = re.findall(r"^\s*(?:\$ )?(?:\S*/)?maskmotion +(.*)$", text, re.M)
    return [shlex.split(re.split(r"\s[|>&]", line)[0], comments=True) for line in lines]


def _command(words: list[str]):
    """The verb of a command line, and what follows it."""
    command = typer.main.get_command(app)
    while words and words[0] in getattr(command, "commands", {}):
        command, words = command.commands[words[0]], words[1:]
    return command, words


LINES = [(path, words) for path in [*PAGES, PLUGIN / "README.md"] if path.is_file() for words in commands(path)]


def test_command_lines_are_found():
    verbs = {words[0] for _, words in LINES}
    assert verbs >= {"demo", "train", "generate", "evaluate", "list", "data"}


@pytest.mark.parametrize(("page", "words"), LINES, ids=[f"{path.stem}: {shlex.join(words)}" for path, words in LINES])
def test_a_command_line_parses(page, words, desk):
    if "masker.ratoi=0.5" in words:  # shown with its error
        with pytest.raises(mm.RecipeError, match="did you mean 'ratio'"):
            mm.preset("tiny").but(parse_changes(words[2:3]))
        return
    command, rest = _command(words)
    assert not getattr(command, "commands", {}) or rest == ["--help"], f"{words} names no verb"
    if rest == ["--help"]:
        return
    given = command.make_context(words[0], rest).params  # raises for unknown options and wrong values
    if "preset" in given and given["preset"].islower():
        runpy.run_path(str(PLUGIN / "loudest_masker.py"))["maskmotion_register"](mm.register)
        mm.preset(given["preset"]).but(parse_changes(given["changes"] or []))


def test_a_wrong_command_line_would_be_noticed():
    command, rest = _command(["train", "tiny", "--dta", "planted"])
    with pytest.raises(Exception, match="No such option"):
        command.make_context("train", rest)


@pytest.mark.parametrize("page", [path for path in PAGES if path.is_file()], ids=name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    links += re.findall(r'(?:src|href)="([^"#]+)"', page.read_text(encoding="utf-8"))
    lost = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert not lost


@pytest.mark.parametrize("page", [path for path in PAGES if path.is_file()], ids=name)
def test_presets_and_components_that_are_named_exist(page, desk):
    """`Spec("...")` and `preset("...")` in running text and code."""
    runpy.run_path(str(PLUGIN / "loudest_masker.py"))["maskmotion_register"](mm.register)
    text = page.read_text(encoding="utf-8")
    own = set(re.findall(r'register\("([\w-]+)"', text))
    known = {found for kind in ("preset", *KINDS) for found in mm.names(kind)}
    assert set(re.findall(r'(?:Spec|preset)\("([\w-]+)"', text)) <= known | own
