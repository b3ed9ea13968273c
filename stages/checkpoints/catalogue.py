"""The catalogue of public checkpoints, ``catalogue.toml``: one table a checkpoint, whose keys are `Entry`'s fields."""

import dataclasses
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.artifacts.weights import NORMALISATIONS
from stages.errors import UserError, unknown

CATALOGUE = Path(__file__).with_name("catalogue.toml")

INTERPOLATIONS = ("bilinear", "bicubic")

KINDS: dict[Any, str] = {str: "text", int: "a whole number"}


@dataclasses.dataclass(frozen=True)
class Entry:
    """A public checkpoint. What is not known (a hash before the first download, an accuracy) is left empty."""

    name: str
    method: str
    """How it was trained, by the name that this project's own method has or would have."""
    architecture: str
    layout: str
    """How the file is laid out, a name in `stages.checkpoints.layouts`."""
    size: int
    normalisation: str
    """A name in `stages.artifacts.weights`."""
    interpolation: str = "bilinear"
    """By which its authors bring images to ``size`` for evaluation: one of `INTERPOLATIONS`."""
    dataset: str = "imagenet"
    url: str = ""
    """Where it is downloaded; without one, the user brings ``file``."""
    file: str = ""
    """The file's name here; if empty, that in the URL."""
    published: Mapping[str, float] = dataclasses.field(default_factory=dict)
    """Its authors' (or a reproduction's) accuracies on ImageNet, in percent."""
    sha256: str = ""
    md5_prefix: str = ""
    convert: str = ""
    """What the user has to do to get ``file``, if it is not what the URL holds."""
    unsupported: str = ""
    """Why it cannot be loaded, and what to do instead."""

    @property
    def place(self) -> str:
        """Where the file is in the folder of downloads and in every mirror; several authors have a resnet50.pth."""
        return f"{self.name}/{self.file or self.url.rpartition('/')[2]}"


def read(path: Path = CATALOGUE) -> dict[str, Entry]:
    """All entries, by name."""
    try:
        with path.open("rb") as file:
            tables = tomllib.load(file)
    except FileNotFoundError:
        raise UserError(f"{path}: no such catalogue") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a TOML file: {error}") from None
    return {name: _entry(name, table, path) for name, table in tables.items()}


def named(name: str, path: Path = CATALOGUE) -> Entry:
    """The entry called ``name``; a `UserError` names the nearest one if there is none."""
    entries = read(path)
    if name not in entries:
        raise unknown("checkpoint", name, entries)
    return entries[name]


def _entry(name: str, table: Any, path: Path) -> Entry:
    fields = {field.name: field for field in dataclasses.fields(Entry) if field.name != "name"}
    if not isinstance(table, dict):
        raise UserError(f"{path}: {name} is {table!r}; expected a table, [{name}]")
    for key, value in table.items():
        if key not in fields:
            raise UserError(f"{path}: {name}: {unknown('key', key, fields)}")
        kind: Any = fields[key].type
        if kind in KINDS and not isinstance(value, kind):
            raise UserError(f"{path}: {name}: {key} is {value!r}; expected {KINDS[kind]}")
    missing = [
        key
        for key, field in fields.items()
        if key not in table and field.default is field.default_factory is dataclasses.MISSING
    ]
    if not {"url", "file"} & table.keys():
        missing.append("url (where the file is downloaded) or file (the name of one that is there)")
    if missing:
        raise UserError(f"{path}: {name}: has no {', '.join(missing)}")
    if table["normalisation"] not in NORMALISATIONS:
        raise UserError(f"{path}: {name}: {unknown('normalisation', table['normalisation'], NORMALISATIONS)}")
    if table.get("interpolation", "bilinear") not in INTERPOLATIONS:
        raise UserError(f"{path}: {name}: {unknown('interpolation', table['interpolation'], INTERPOLATIONS)}")
    return Entry(name=name, **table)
