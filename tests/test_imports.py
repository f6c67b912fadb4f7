"""Importing is quick and torch waits until somebody needs it; every public name exists and says what it is."""

from __future__ import annotations

import inspect
import pkgutil
import subprocess
import sys
import time
from importlib import import_module

import pytest

import maskmotion as mm

MODULES = sorted(
    found.name for found in pkgutil.walk_packages(mm.__path__, "maskmotion.") if not found.name.endswith("__main__")
)
VERBS = {"", "demo", "train", "generate", "evaluate", "list", "data", "data make", "data check"}


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)


def test_importing_takes_no_time():
    empty, ours = [
        min(_seconds(code) for _ in range(5)) for code in ("pass", "import maskmotion; maskmotion.__version__")
    ]
    assert ours - empty < 0.3, f"{ours - empty:.2f} s"


def _seconds(code: str) -> float:
    start = time.perf_counter()
    assert python(code).returncode == 0
    return time.perf_counter() - start


def test_neither_the_import_nor_any_help_loads_torch():
    done = python(
        """
import sys, maskmotion
assert "torch" not in sys.modules and "numpy" not in sys.modules, "import maskmotion"
import typer
from typer.testing import CliRunner
from maskmotion.cli import app

def verbs(command, path=()):
    yield path
    for name, below in getattr(command, "commands", {}).items():
        yield from verbs(below, (*path, name))

for verb in verbs(typer.main.get_command(app)):
    done = CliRunner().invoke(app, [*verb, "--help"])
    assert done.exit_code == 0 and "Usage:" in done.output, (verb, done.output)
    assert "torch" not in sys.modules, verb
    print(*verb)
"""
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.splitlines()) >= VERBS


def test_every_public_name_resolves():
    assert len(set(mm.__all__)) == len(mm.__all__)
    for name in mm.__all__:
        thing = getattr(mm, name)
        assert thing.__doc__ if callable(thing) else thing is not None, name
    assert set(dir(mm)) == set(mm.__all__)
    with pytest.raises(AttributeError, match="no attribute 'maskd'"):
        mm.maskd  # noqa: B018


@pytest.mark.parametrize("name", MODULES)
def test_a_module_imports_and_everything_public_in_it_has_a_docstring(name):
    module = import_module(name)
    assert _is_sentence(module), f"{name}: a module says in one sentence what it is"
    bare = [found for found, thing in _public(module) if not _is_sentence(thing)]
    assert not bare, f"{name}: no docstring, or no full stop at the end of its first sentence"


def _public(module):
    """Classes and functions that this module defines, and their public methods, by dotted name."""
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module.__name__:
            continue
        if inspect.isclass(thing):
            yield name, thing
            for method, inner in vars(thing).items():
                function = inner.fget if isinstance(inner, property) else getattr(inner, "__func__", inner)
                is_default = getattr(function, "__name__", "") == "<lambda>"  # of a dataclass field
                if not method.startswith("_") and inspect.isfunction(function) and not is_default:
                    yield f"{name}.{method}", function
        elif inspect.isfunction(thing):
            yield name, thing


def _is_sentence(thing) -> bool:
    """A docstring of the thing's own whose first paragraph ends like a sentence."""
    first = (vars(thing).get("__doc__") or thing.__doc__ or "").strip().split("\n\n")[0]
    return first.rstrip().endswith(".")
