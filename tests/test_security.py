"""What the package never does: run what stands in a file, or hand strings to a shell."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "maskmotion"
FILES = sorted(PACKAGE.rglob("*.py"))

SERIALISERS = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
STARTS_PROCESSES = {"demo.py", "ablations/processes.py"}  # train some models at a time, by their own interpreter
READS_CHECKPOINTS = {"training/official_files.py"}  # official checkpoints, with weights_only=True


def offences(source: str, file: str) -> list[str]:
    """Everything in a module that this project forbids, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        found += [f"{node.lineno}: {what}" for what in _forbidden(node, file)]
    return found


def _forbidden(node: ast.AST, file: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [problem for alias in node.names for problem in _import(alias.name, file)]
    if isinstance(node, ast.ImportFrom):
        names = [f"{node.module}.{alias.name}" for alias in node.names]
        return [problem for name in names for problem in _import(name, file) or _reference(name, file)]
    if isinstance(node, ast.Call):
        return _call(node, file)
    if isinstance(node, ast.Attribute):
        return _reference(ast.unparse(node), file)
    return []


def _import(name: str, file: str) -> list[str]:
    root = name.split(".")[0]
    if root in SERIALISERS:
        return [f"import of {root}"]
    if root in ("subprocess", "pty", "popen2") and file not in STARTS_PROCESSES:
        return [f"import of {root} outside {sorted(STARTS_PROCESSES)}"]
    return []


def _reference(name: str, file: str) -> list[str]:
    """A dotted name, called or passed on."""
    if name == "torch.load" and file not in READS_CHECKPOINTS:
        return ["torch.load"]
    if name in ("os.system", "os.popen", "yaml.load", "yaml.unsafe_load", "torch.hub.load", "pd.read_pickle"):
        return [name]
    if name.startswith(("os.exec", "os.spawn")):
        return [name]
    return []


def _call(node: ast.Call, file: str) -> list[str]:
    name = ast.unparse(node.func)
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    found = []
    if name in ("eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec"):
        found.append(name)
    if "allow_pickle" in given and not _is(given["allow_pickle"], False):
        found.append("allow_pickle")
    if name in ("np.load", "numpy.load") and len(node.args) > 2:
        found.append("np.load with allow_pickle by position")
    if "shell" in given and not _is(given["shell"], False):
        found.append("shell=True")
    if name == "torch.load" and not ("weights_only" in given and _is(given["weights_only"], True)):
        found.append("torch.load without weights_only=True")
    if given.get("trust_remote_code") is not None and not _is(given["trust_remote_code"], False):
        found.append("trust_remote_code")
    return found


def _is(node: ast.expr, value: bool) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_a_module_is_harmless(path):
    assert offences(path.read_text(encoding="utf-8"), path.relative_to(PACKAGE).as_posix()) == []


@pytest.mark.parametrize(
    ("code", "what"),
    [
        ("import pickle", "pickle"),
        ("from joblib import load", "joblib"),
        ("import dill as d", "dill"),
        ("import numpy as np\nnp.load(path, allow_pickle=True)", "allow_pickle"),
        ("np.load(path, allow_pickle=flag)", "allow_pickle"),
        ("np.load(path, None, True)", "by position"),
        ("torch.load(path)", "torch.load"),
        ("read = torch.load", "torch.load"),
        ("from torch import load", "torch.load"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("yaml.load(text)", "yaml.load"),
        ("import os\nos.system(command)", "os.system"),
        ("run(command, shell=True)", "shell=True"),
        ("import subprocess", "subprocess outside"),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", "trust_remote_code"),
    ],
)
def test_the_rules_catch(code, what):
    assert any(what in offence for offence in offences(code, "somewhere.py"))


def test_the_rules_let_through_what_is_safe():
    code = "np.load(path)\nnp.load(path, allow_pickle=False)\nmodel.load_state_dict(state)\nmodel.eval()\nre.compile(x)"
    assert offences(code, "somewhere.py") == []
    assert offences("import subprocess\nsubprocess.Popen([sys.executable])", "demo.py") == []


def test_a_converter_may_read_weights_only():
    assert offences("torch.load(path, weights_only=True)", "training/official_files.py") == []
    assert offences("torch.load(path)", "training/official_files.py") == ["1: torch.load without weights_only=True"]
    assert offences("torch.load(path, weights_only=False)", "training/official_files.py")


def test_the_lists_of_exceptions_name_files_that_need_them():
    for file in STARTS_PROCESSES:
        assert "subprocess" in (PACKAGE / file).read_text(), f"{file} starts no process any more; take it off the list"
