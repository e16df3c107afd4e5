"""Where claims are, and what of them can be known without running anything: names, docstrings, differences."""

import ast
import importlib
import sys
from pathlib import Path
from types import ModuleType

from jaxrl.errors import UserError, unknown
from jaxrl.reproduce.verdict import check

PARTS = ("DIFFERENCES", "SCALES", "measure")
SCALES = ("smoke", "cpu", "gpu")


def folder() -> Path:
    """The directory of the claims: experiments/ of the checkout that this code belongs to."""
    found = Path(__file__).parents[2] / "experiments"
    if not found.is_dir():
        raise UserError(f"there is no {found}: claims are part of a checkout, not of an installed package")
    return found


def names() -> list[str]:
    """Every claim: the files of experiments/ that register differences, sorted."""
    found = []
    for path in folder().glob("*.py"):
        targets: list[ast.expr] = []
        for node in _parsed(path).body:
            targets += node.targets if isinstance(node, ast.Assign) else []
            targets += [node.target] if isinstance(node, ast.AnnAssign) else []
        if any(isinstance(target, ast.Name) and target.id == "DIFFERENCES" for target in targets):
            found.append(path.stem.replace("_", "-"))
    return sorted(found)


def path(name: str) -> Path:
    """The file of a claim; raises UserError naming the nearest one."""
    if name not in names():
        raise unknown("claim", name, names())
    return folder() / f"{name.replace('-', '_')}.py"


def doc(name: str) -> str:
    """The docstring of a claim's file."""
    return ast.get_docstring(_parsed(path(name))) or ""


def title(name: str) -> str:
    """The first sentence of the docstring."""
    return " ".join(doc(name).partition("\n\n")[0].split())


def load(name: str) -> ModuleType:
    """The claim itself, imported; raises UserError where a part of it is missing."""
    file = path(name)
    if str(file.parents[1]) not in sys.path:  # its own environments and bonuses are named experiments.NAME:thing
        sys.path.insert(0, str(file.parents[1]))
    module = importlib.import_module(f"experiments.{file.stem}")
    if missing := [part for part in PARTS if not hasattr(module, part)]:
        raise UserError(f"{file.name} has no {' and no '.join(missing)}")
    if lacking := [scale for scale in SCALES if scale not in module.SCALES]:
        raise UserError(f"{file.name}: SCALES has no {' and no '.join(lacking)}")
    check(module.DIFFERENCES)
    return module


def _parsed(file: Path) -> ast.Module:
    try:
        return ast.parse(file.read_text(encoding="utf-8"), filename=str(file))
    except SyntaxError as error:
        raise UserError(f"{file}, line {error.lineno}: {error.msg}") from None
