"""A third party's package: installed by pip, found through its entry point, and never able to break the rest."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import maskmotion as mm
from maskmotion.plugins import Hooks, manager

PLUGIN = Path(__file__).parents[1] / "examples" / "plugin"


def python(code: str, *paths: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run code in a fresh interpreter that also finds what is installed in `paths`."""
    settings = {"PYTHONPATH": os.pathsep.join(map(str, paths)), "OMP_NUM_THREADS": "1", "COLUMNS": "200", **environment}
    return subprocess.run([sys.executable, "-c", code], env=os.environ | settings, capture_output=True, text=True)


def entry_point(folder: Path, distribution: str, module: str, source: str) -> Path:
    """An installed distribution made by hand: a module, and metadata that names it as a plug-in."""
    (folder / f"{module}.py").write_text(source)
    about = folder / f"{distribution.replace('-', '_')}-1.2.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.2\n")
    (about / "entry_points.txt").write_text(f"[maskmotion]\n{module} = {module}\n")
    return folder


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """A folder into which pip has installed examples/plugin."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copytree(PLUGIN, folder / "source", ignore=shutil.ignore_patterns("build", "*.egg-info", "__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    done = subprocess.run([*command, "--target", folder / "site", folder / "source"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def loud_model(installed, tmp_path_factory) -> Path:
    """A model of the plug-in's preset, trained for a few steps in a process that has the plug-in."""
    run = tmp_path_factory.mktemp("runs") / "loud"
    done = python(
        f"""
import loudest_masker, maskmotion as mm
from maskmotion.testing import check
assert mm.lookup("masker", "loudest") is loudest_masker.Loudest
check(mm.lookup("masker", "loudest"))
recipe = mm.preset("tiny-loud")
steps = {{f"training.{{stage}}.steps": 2 for stage in recipe.training}}
model = mm.train(recipe.but(steps), "planted-v1-small", {str(run)!r})
assert type(model.generator.masker) is loudest_masker.Loudest
mm.Model.from_pretrained({str(run)!r})
""",
        installed,
    )
    assert done.returncode == 0, done.stderr
    return run


@pytest.fixture(scope="module")
def crowded(installed, tmp_path_factory) -> tuple[Path, Path]:
    """The good plug-in beside one that fails to import and one that wants a built-in's name."""
    folder = tmp_path_factory.mktemp("crowd")
    entry_point(folder, "torn-maskers", "torn", "import a_module_nobody_has\n")
    source = """
import maskmotion as mm
class Mine(mm.Masker):
    def scores(self, context):
        return context.batch.valid.float()
@mm.hookimpl
def maskmotion_register(register):
    register("random", Mine)
"""
    return installed, entry_point(folder, "greedy-maskers", "greedy", source)


def test_it_is_listed_with_its_package(installed):
    done = python("import sys; sys.argv = ['maskmotion', 'list']; from maskmotion.cli import main; main()", installed)
    assert re.search(r"masker +│ loudest +│ Hide the frames where speech is loudest\.", done.stdout), done.stderr
    assert re.search(r"preset +│ tiny-loud", done.stdout)
    assert re.search(r"plug-in +│ loudest +│ loaded +│ loudest-masker 0\.1\.0", done.stdout)


def test_its_own_tests_pass(installed):
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", PLUGIN],
        env=os.environ | {"PYTHONPATH": str(installed), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_a_model_remembers_its_plugins_and_says_which_one_is_missing(loud_model):
    assert (loud_model / "plugins.json").read_text() == '{\n  "loudest": "loudest-masker 0.1.0"\n}'
    with pytest.raises(mm.RecipeError) as error:
        mm.Model.from_pretrained(loud_model)  # this process has no such plug-in
    assert "no masker named 'loudest'" in str(error.value)
    assert "loudest comes from loudest-masker 0.1.0" in str(error.value)


def test_the_switch_leaves_plugins_out(installed):
    code = "import maskmotion as mm; print(*mm.names('masker'), *mm.names('preset'))"
    found = python(code, installed, MASKMOTION_PLUGINS="off").stdout
    assert "random" in found and "tiny" in found
    assert "loud" not in found


def test_broken_plugins_are_told_and_harm_nobody(crowded):
    code = """
import sys, maskmotion as mm
assert mm.lookup("masker", "loudest").__module__ == "loudest_masker"
assert mm.lookup("masker", "random").__module__ == "maskmotion.strategies.random"
mm.preset("tiny-loud")
try:
    mm.lookup("masker", "mine")
except mm.RegistryError as error:
    print(error)
sys.argv = ["maskmotion", "list"]
from maskmotion.cli import main
main()
"""
    done = python(code, *crowded)
    assert done.returncode == 0, done.stderr
    missed, listed = done.stdout.split("┏", 1)
    for report in (missed, re.sub(r"[\s│]+", " ", listed)):
        assert "plug-in 'torn' of torn-maskers 1.2 failed to load" in report
        assert "No module named 'a_module_nobody_has'" in report
        assert "plug-in 'greedy' of greedy-maskers 1.2 failed to load" in report
        assert "masker 'random' is already maskmotion.strategies.random.Random; choose another name" in report
        assert "uninstall or mend it, or set MASKMOTION_PLUGINS=off" in report


def test_there_is_one_hook():
    assert [name for name in vars(Hooks) if not name.startswith("_")] == ["maskmotion_register"]
    assert [name for name in vars(manager.hook) if not name.startswith("_")] == ["maskmotion_register"]
