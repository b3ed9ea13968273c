"""Write docs/config.md: every key of config.yaml, from the schema and the stages' own source.

PYTHONPATH=workflow python -m experiment.document > docs/config.md
"""

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml

from experiment import source
from experiment.datasets import PACKING
from experiment.evaluations import EVALUATIONS
from experiment.outline import SCHEMA

INTRODUCTION = """\
# The config

Made from the schema and the stages' source by `make docs`; edit those.

`config.yaml` is an experiment; `snakemake --configfile FILE` runs FILE's instead. An unknown key is refused, and the
nearest known one named. A default written out is the same as one left out: it makes nothing run again.
"""


def main() -> None:
    print("\n".join(document()), end="")


def document() -> Iterator[str]:
    """The page, line by line."""
    schema = yaml.safe_load(SCHEMA.read_text())
    yield INTRODUCTION
    for name, part in schema["properties"].items():
        needed = " Required." if name in schema["required"] else ""
        yield f"## {name}\n\n{_sentence(part['description'])}{needed}\n"
        yield from _keys(part)
        yield from _options_of(name)


def _keys(part: Mapping[str, Any]) -> Iterator[str]:
    """The keys that the schema itself names, for an entry of ``part``."""
    entry = part.get("items") or part.get("additionalProperties") or part
    required = entry.get("required", [])
    rows = [
        (f"`{key}`", "required" if key in required else "", text["description"])
        for key, text in entry.get("properties", {}).items()
    ]
    if rows:
        yield from _table(("key", "", "meaning"), rows)


def _options_of(part: str) -> Iterator[str]:
    """The options that the stages add to an entry."""
    packages = {
        "datasets": ("Source", "stages.datasets.sources"),
        "encoders": ("Method", "stages.pretraining"),
        "methods": ("Method", "stages.distillation"),
    }
    if part == "evaluations":
        for name, evaluation in EVALUATIONS.items():
            yield from _module(f"Evaluation `{name}`", evaluation.stage)
    if part == "datasets":
        yield "Whatever the source ([datasets.md](datasets.md) says of each what it downloads and reads):\n"
        yield from _option_table(PACKING)
    if part in packages:
        kind, package = packages[part]
        for name in source.plugins(package):
            yield from _module(f"{kind} `{name}`", source.plugin_module(package, name))


def _module(title: str, module: str) -> Iterator[str]:
    docstring = ast.get_docstring(source.tree(module)) or ""
    yield f"### {title}\n\n{docstring.split(chr(10) * 2)[0]}\n"
    if augmentation := source.literal(module, "AUGMENTATION", ""):
        yield f"Images are varied by `{augmentation}`, unless the config says otherwise.\n"
    yield from _option_table(module)


def _option_table(module: str) -> Iterator[str]:
    rows = [
        (f"`{option.name}`", "required" if option.required else f"`{_shown(option.default)}`", _meaning(option))
        for option in source.options(module).values()
    ]
    yield from _table(("key", "default", "meaning"), rows)


def _meaning(option: source.Option) -> str:
    return f"{option.help} ({option.expected})"


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return str(list(value)) if isinstance(value, tuple) else str(value) or '""'


def _table(heading: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"|{'---|' * len(heading)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


if __name__ == "__main__":
    main()
