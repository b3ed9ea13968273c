"""What can be read from the stages' source without importing them: torch alone would take seconds at every start."""

import ast
import functools
import hashlib
import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "stages"


@functools.cache
def fingerprint(*modules: str) -> str:
    """A digest of what ``modules`` and all they import from the stages compute.

    Comments, formatting, docstrings and help texts do not count; nor does the Python version that parses.
    """
    digest = hashlib.sha256()
    for module in sorted(closure(*modules)):
        digest.update(f"{module}\n{_canonical_module(module)}\n".encode())
    return digest.hexdigest()[:16]


def closure(*modules: str) -> set[str]:
    """``modules``, their packages, and what all of these import from the stages, at the top or in functions."""
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += _imports(module)
            waiting += [module.rpartition(".")[0]] if "." in module else []
    return found


def plugins(package: str) -> list[str]:
    """The names that `stages.plugins` finds in ``package``: each is a file, with dashes for underscores."""
    folder = ROOT / package.replace(".", "/")
    return sorted(path.stem.replace("_", "-") for path in folder.glob("*.py") if path.stem != "__init__")


def plugin_module(package: str, name: str) -> str:
    """The module of the plugin ``name``, by the same rule as `stages.plugins`."""
    return f"{package}.{name.replace('-', '_')}"


def architecture_family(name: str) -> str:
    """The family that `stages.architectures` looks an architecture up in: the letters its name begins with."""
    return re.split(r"[^a-z]", name, maxsplit=1)[0]


@functools.cache
def tree(module: str) -> ast.Module:
    """The module's source, with relative imports (``from . import``) by their full names."""
    path = _path_of(module)
    if path is None:
        raise ModuleNotFoundError(f"no source for {module} under {ROOT}")
    parsed = ast.parse(path.read_text(), filename=str(path))
    package = module if path.stem == "__init__" else module.rpartition(".")[0]
    for node in ast.walk(parsed):
        if isinstance(node, ast.ImportFrom) and node.level:
            node.module = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
            node.level = 0
    return parsed


def _path_of(module: str) -> Path | None:
    base = ROOT / module.replace(".", "/")
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


@functools.cache
def _imports(module: str) -> list[str]:
    """What of the stages ``module`` imports; a name imported from a package may be a module of it."""
    names = []
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    ours = [name for name in names if name == PACKAGE or name.startswith(f"{PACKAGE}.")]
    return [name for name in ours if _path_of(name) is not None]


@functools.cache
def _canonical_module(module: str) -> str:
    return _canonical(tree(module))


def _canonical(node: Any) -> str:
    """A node as text, without positions, without what is only there to be read, and without empty fields."""
    if isinstance(node, list):
        return ",".join(_canonical(each) for each in node if not _is_only_text(each))
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
    if isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id == "Annotated":
        assert isinstance(node.slice, ast.Tuple)
        return _canonical(node.slice.elts[0])
    return f"{type(node).__name__}({','.join(f'{name}={_canonical(value)}' for name, value in fields)})"


def _is_only_text(node: Any) -> bool:
    """Whether a node is a docstring, or an argument's help."""
    if isinstance(node, ast.keyword):
        return node.arg == "help"
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@dataclass(frozen=True)
class Option:
    """A field of a stage's ``Options`` dataclass; ``kind`` is int, float, str, bool or a tuple of int, float or str.

    A value, or each entry of a tuple, is one of the ``choices`` where there are any.
    """

    name: str
    kind: str
    choices: tuple[str, ...]
    default: Any
    required: bool
    help: str

    def accepts(self, value: Any) -> bool:
        if self.kind.startswith("tuple"):
            return isinstance(value, (list, tuple)) and all(map(self.accepts_entry, value))
        return self.accepts_entry(value)

    def accepts_entry(self, value: Any) -> bool:
        if self.choices:
            return value in self.choices
        return type(value).__name__ in (("int", "float") if self._entry == "float" else (self._entry,))

    def converted(self, value: Any) -> Any:
        """An accepted value as the option's default is written: 1 as 1.0, where it is a float, and lists as tuples."""
        if self.kind.startswith("tuple"):
            return tuple(map(self._converted_entry, value))
        return self._converted_entry(value)

    def _converted_entry(self, value: Any) -> Any:
        return float(value) if self._entry == "float" else value

    @property
    def _entry(self) -> str:
        return self.kind.removeprefix("tuple[").removesuffix(", ...]")

    @property
    def expected(self) -> str:
        if self.choices:
            several = "a list of some" if self.kind.startswith("tuple") else "one"
            return f"{several} of {', '.join(self.choices)}"
        return {
            "int": "a whole number",
            "float": "a number",
            "bool": "true or false",
            "str": "text",
            "tuple[str, ...]": "a list of words",
            "tuple[float, ...]": "a list of numbers",
            "tuple[int, ...]": "a list of whole numbers",
        }[self.kind]


def literal(module: str, name: str, default: Any) -> Any:
    """The literal that ``module`` assigns to ``name`` at its top, or ``default``."""
    for node in tree(module).body:
        if isinstance(node, ast.Assign) and name in _bound(node):
            return ast.literal_eval(node.value)
    return default


def by_option(value: Any, options: Mapping[str, Any]) -> Any:
    """``value`` or, of one that an option decides, ``{"variant": {"small": ..., "large": ...}}``, the option's."""
    if not isinstance(value, dict):
        return value
    ((option, values),) = value.items()
    return values[options[option]]


def defines(module: str, function: str) -> bool:
    """Whether ``module`` has a function of this name at its top."""
    return any(isinstance(node, ast.FunctionDef) and node.name == function for node in tree(module).body)


@functools.cache
def options(module: str) -> dict[str, Option]:
    """The options that ``module`` declares in its dataclass ``Options``, inherited ones first."""
    return {option.name: option for option in _fields(module, "Options")}


def refusal(module: str, values: Mapping[str, Any]) -> str | None:
    """Why ``module``'s ``Options`` refuses ``values``, each of its option's type, in the config's words; or None.

    The class and what its checks call are made of their own source, without an import of what the stage imports. A
    check that needs another package than Python's own is left to the job.
    """
    made = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    try:
        _definition(module, "Options")(**made)
    except _definition("stages.errors", "UserError") as error:
        return re.sub(r"--([a-z][a-z-]*)", lambda flag: flag[1].replace("-", "_"), str(error))
    except NameError:
        pass
    return None


def _definition(module: str, name: str) -> Any:
    """What ``module`` defines as ``name``, without an import of it."""
    _define(module, name, _scope(module))
    return _scope(module)[name]


@functools.cache
def _scope(module: str) -> dict[str, Any]:
    """The names of ``module`` that are defined so far; dataclasses look for the module that they are of."""
    return {"__name__": __name__}


def _define(module: str, name: str, scope: dict[str, Any]) -> None:
    """Put ``name`` into ``scope`` and what its statement mentions, as far as it is of the stages or Python's own."""
    node = next((node for node in tree(module).body if name in _bound(node)), None)
    origin = node.module if isinstance(node, ast.ImportFrom) else name
    if node is None or name in scope:
        return
    if str(origin).startswith(f"{PACKAGE}."):
        scope[name] = _definition(str(origin), name)
    elif not isinstance(node, (ast.Import, ast.ImportFrom)) or str(origin).partition(".")[0] in sys.stdlib_module_names:
        scope[name] = None
        for used in ast.walk(node):
            if isinstance(used, ast.Name) and isinstance(used.ctx, ast.Load):
                _define(module, used.id, scope)
        # Annotations stay text: they may name what only the type checker imports.
        exec(compile(ast.Module([*ANNOTATIONS, node], []), module, "exec"), scope)


ANNOTATIONS = ast.parse("from __future__ import annotations").body


def _bound(node: ast.stmt) -> set[str]:
    """The names that a statement at the top of a module binds."""
    if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
        return {node.name}
    if isinstance(node, (ast.Import, ast.ImportFrom)):
        return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else ()
    return {target.id for target in targets if isinstance(target, ast.Name)}


def _fields(module: str, name: str) -> Iterator[Option]:
    (found,) = (node for node in tree(module).body if isinstance(node, ast.ClassDef) and node.name == name)
    for base in found.bases:
        assert isinstance(base, ast.Name)
        yield from _fields(_origin_of(module, base.id), base.id)
    for node in found.body:
        if isinstance(node, ast.AnnAssign):
            yield _option(node, _annotation(module, node.annotation))


def _origin_of(module: str, name: str) -> str:
    """The module that ``module`` imports ``name`` from, or itself."""
    for node in tree(module).body:
        if isinstance(node, ast.ImportFrom) and node.module and any(alias.name == name for alias in node.names):
            return node.module
    return module


def _annotation(module: str, node: ast.expr) -> ast.expr:
    """``node`` or, of a name, what that stands for in ``module`` or where it is imported from."""
    if isinstance(node, ast.Name):
        body = tree(_origin_of(module, node.id)).body
        (node,) = (found.value for found in body if isinstance(found, ast.Assign) and node.id in _bound(found))
    return node


def _option(node: ast.AnnAssign, annotation: ast.expr) -> Option:
    """The field ``name: Annotated[type, "help"] = default``; its annotation may have a name of its own."""
    assert isinstance(node.target, ast.Name)
    assert isinstance(annotation, ast.Subscript)
    assert isinstance(annotation.slice, ast.Tuple)
    kind, text = annotation.slice.elts
    entry = kind
    if isinstance(kind, ast.Subscript) and isinstance(kind.slice, ast.Tuple) and ast.unparse(kind.value) == "tuple":
        entry = kind.slice.elts[0]
    choices = ()
    if isinstance(entry, ast.Subscript) and ast.unparse(entry.value) == "Literal":
        choices = tuple(ast.literal_eval(entry.slice)) if isinstance(entry.slice, ast.Tuple) else ()
    return Option(
        name=node.target.id,
        kind=ast.unparse(kind),
        choices=choices,
        default=None if node.value is None else ast.literal_eval(node.value),
        required=node.value is None,
        help=ast.literal_eval(text),
    )
