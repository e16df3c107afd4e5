"""No module of jaxrl can unpickle or evaluate anything: its source is searched."""

import ast

import pytest
from tiny import ROOT

pytestmark = pytest.mark.faults

MODULES = sorted(path for part in ("jaxrl", "experiments") for path in (ROOT / part).rglob("*.py"))
FORBIDDEN_MODULES = {"pickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "torch"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_METHODS = {("yaml", "load"), ("yaml", "unsafe_load"), ("yaml", "full_load"), ("torch", "load"),
                     ("pd", "read_pickle"), ("pandas", "read_pickle"), ("os", "system"), ("os", "popen"),
                     ("tarfile", "open"), ("shutil", "unpack_archive")}  # fmt: skip


def offences(source: str) -> list[str]:
    """What a module must not contain, as "line: what"."""
    found = []
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        found += [f"{node.lineno}: import {name}" for name in names if FORBIDDEN_MODULES & set(name.split("."))]
        if not isinstance(node, ast.Call):
            continue
        keywords = {keyword.arg: keyword.value for keyword in node.keywords}
        if isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            found.append(f"{node.lineno}: {node.func.id}()")
        if isinstance(node.func, ast.Attribute):
            owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
            method = node.func.attr
            if (owner, method) in FORBIDDEN_METHODS:
                found.append(f"{node.lineno}: {owner}.{method}()")
            if owner in ("np", "numpy", "jnp") and method == "load":
                allowed = keywords.get("allow_pickle")
                if not (isinstance(allowed, ast.Constant) and allowed.value is False):
                    found.append(f"{node.lineno}: {owner}.load() without allow_pickle=False")
            if method == "import_module" and isinstance(node.args[0], ast.Constant):
                name = node.args[0].value
                found += [f"{node.lineno}: import {name}"] if name in FORBIDDEN_MODULES else []
        for name in ("allow_pickle", "shell"):
            value = keywords.get(name)
            if isinstance(value, ast.Constant) and value.value is True:
                found.append(f"{node.lineno}: {name}=True")
    return found


@pytest.mark.parametrize(
    "bad",
    [
        "import pickle", "from cloudpickle import loads", "np.load('x')", "np.load('x', allow_pickle=True)",
        "eval('1')", "exec(text)", "import yaml\nyaml.load(text)", "torch.load(path)", "import joblib.memory",
        "subprocess.run(text, shell=True)", "importlib.import_module('marshal')", "from concurrent import shelve",
    ],
)  # fmt: skip
def test_the_search_finds_what_it_is_for(bad):
    assert offences(bad)


def test_no_module_can_unpickle_or_evaluate():
    assert len(MODULES) > 80
    found = {path.relative_to(ROOT).as_posix(): bad for path in MODULES if (bad := offences(path.read_text()))}
    assert found == {}
