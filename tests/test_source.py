"""What the workflow reads from the stages' source: fingerprints, import closures, options."""

import dataclasses
import importlib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from experiment import commands, images, source
from experiment.datasets import PACKING
from experiment.evaluations import EVALUATIONS

from stages.command_line import add_options, parser_of, read_options
from stages.errors import UserError

MODULES = [
    *(f"stages.distillation.{name.replace('-', '_')}" for name in source.plugins("stages.distillation")),
    *(f"stages.pretraining.{name.replace('-', '_')}" for name in source.plugins("stages.pretraining")),
    *(f"stages.datasets.sources.{name.replace('-', '_')}" for name in source.plugins("stages.datasets.sources")),
    "stages.knn",
    "stages.cluster",
    "stages.linear_probe",
]


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small package called stages, which the functions under test read instead of ours."""
    caches = (source.fingerprint, source.tree, source._imports, source._canonical_module, source.options, source._scope)
    monkeypatch.setattr(source, "ROOT", tmp_path)
    for cache in caches:
        cache.cache_clear()
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__init__.py").write_text('"""A package."""\n')
    (tmp_path / "stages/helper.py").write_text("VALUE = 1\n")
    (tmp_path / "stages/other.py").write_text("VALUE = 2\n")
    (tmp_path / "stages/job.py").write_text("def main():\n    from stages.helper import VALUE\n    return VALUE\n")
    yield tmp_path / "stages"
    for cache in caches:
        cache.cache_clear()


def fingerprint_now(*modules: str) -> str:
    for cache in (source.fingerprint, source.tree, source._imports, source._canonical_module):
        cache.cache_clear()
    return source.fingerprint(*modules)


SAME = {
    "a comment": ("job.py", "def main():\n    # why\n    from stages.helper import VALUE\n    return VALUE\n"),
    "a docstring": ("job.py", 'def main():\n    """Why."""\n    from stages.helper import VALUE\n    return VALUE\n'),
    "formatting": ("job.py", "def main( ):\n\n    from stages.helper import ( VALUE )\n    return (VALUE)\n"),
    "a module it does not import": ("other.py", "VALUE = 3\n"),
}
OTHER = {
    "the code": ("job.py", "def main():\n    from stages.helper import VALUE\n    return -VALUE\n"),
    "a module imported in a function": ("helper.py", "VALUE = 1.5\n"),
    "the package around it": ("__init__.py", "import os\n"),
    "another import": ("job.py", "def main():\n    from stages.other import VALUE\n    return VALUE\n"),
}
RELATIVE = {
    "from a module beside it": "from .shared import VALUE\n",
    "of a module beside it": "from . import shared\n",
    "from a module above": "from ..helper import VALUE\n",
}


@pytest.mark.parametrize("edit", SAME)
def test_the_fingerprint_ignores(package: Path, edit: str) -> None:
    before = fingerprint_now("stages.job")
    name, text = SAME[edit]
    (package / name).write_text(text)
    assert fingerprint_now("stages.job") == before


@pytest.mark.parametrize("empty", [None, []])
def test_the_fingerprint_is_the_same_under_a_python_whose_functions_have_a_field_more(
    package: Path, monkeypatch: pytest.MonkeyPatch, empty: list[str] | None
) -> None:
    """As type_params, which came with 3.12: or an upgrade would make all jobs run again."""
    before = fingerprint_now("stages.job")
    monkeypatch.setattr(source.ast.FunctionDef, "_fields", (*source.ast.FunctionDef._fields, "later"))
    monkeypatch.setattr(source.ast.FunctionDef, "later", empty, raising=False)
    assert fingerprint_now("stages.job") == before


@pytest.mark.parametrize("edit", OTHER)
def test_the_fingerprint_follows(package: Path, edit: str) -> None:
    before = fingerprint_now("stages.job")
    name, text = OTHER[edit]
    (package / name).write_text(text)
    assert fingerprint_now("stages.job") != before


@pytest.mark.parametrize("imported", RELATIVE)
@pytest.mark.parametrize("place", ["methods/mine.py", "methods/__init__.py"])
def test_the_fingerprint_follows_relative_imports(package: Path, imported: str, place: str) -> None:
    (package / "methods").mkdir()
    (package / "methods/__init__.py").write_text("")
    (package / "methods/shared.py").write_text("VALUE = 1\n")
    (package / place).write_text(RELATIVE[imported])
    module = "stages.methods" if place.endswith("__init__.py") else "stages.methods.mine"
    before = fingerprint_now(module)
    for name in ("methods/shared.py", "helper.py"):
        (package / name).write_text("VALUE = 3\n")
    assert fingerprint_now(module) != before


def test_the_closure_holds_transitive_imports_and_packages() -> None:
    found = source.closure("stages.distillation.compress_2q")
    assert {"stages", "stages.distillation", "stages.similarity.divergence", "stages.training.recipe"} <= found
    assert "stages.distillation.compress_1q" not in found
    assert "stages.knn" not in found


@pytest.mark.parametrize("module", MODULES)
def test_options_read_from_source_are_those_of_the_dataclass(module: str) -> None:
    declared = importlib.import_module(module).Options
    read = source.options(module)
    hints = typing.get_type_hints(declared, include_extras=True)
    assert list(read) == [field.name for field in dataclasses.fields(declared)]
    for field in dataclasses.fields(declared):
        option = read[field.name]
        kind, text = typing.get_args(hints[field.name])
        assert option.required == (field.default is dataclasses.MISSING)
        assert option.default == (None if option.required else field.default)
        assert option.help == text
        entry = typing.get_args(kind)[0] if typing.get_origin(kind) is tuple else kind
        assert option.choices == (typing.get_args(entry) if typing.get_origin(entry) is typing.Literal else ())


@pytest.mark.parametrize(
    ("kind", "choices", "good", "bad"),
    [
        ("tuple[float, ...]", (), [[], [1, 0.5]], [[True], ["1"], 0.5]),
        ("tuple[int, ...]", (), [[1, 2]], [[0.5], [True], 1]),
        ("tuple[str, ...]", (), [["a"]], [[1], "a"]),
        ("tuple[Literal['a', 'b'], ...]", ("a", "b"), [["b"], []], [["c"], "a"]),
        ("float", (), [1, 0.5], [True, "1", [1]]),
        ("int", (), [1], [True, 1.0]),
        ("bool", (), [True], [1]),
    ],
)
def test_an_option_accepts_values_of_its_type_alone(kind: str, choices: Any, good: Any, bad: Any) -> None:
    option = source.Option("name", kind, choices, None, False, "help")
    assert [option.accepts(value) for value in [*good, *bad]] == [True] * len(good) + [False] * len(bad)
    assert option.expected


@pytest.mark.parametrize(
    ("module", "wrong"),
    [
        ("stages.distillation.compress_2q", {"momentum": 1.0}),
        ("stages.distillation.seed", {"precision": "half", "temperature": 1e-5}),
        ("stages.distillation.pkt", {"optimizer": "lars", "weight_decay": 0.0}),
        ("stages.distillation.simdis_on", {"views": ["t-sv", "t-sv"]}),
        ("stages.pretraining.untrained", {"epochs": 3}),
        ("stages.linear_probe", {"learning_rates": [0.1, 0.1]}),
        ("stages.voc_classification", {"costs": [31]}),
        ("stages.retrieval", {"ks": []}),
        ("stages.retrieval", {"ks": [0]}),
        ("stages.fetch_dataset", {"val_fraction": 0.0}),
    ],
)
def test_options_are_refused_as_their_class_refuses_them(module: str, wrong: dict[str, Any]) -> None:
    values = {name: option.default for name, option in source.options(module).items()} | wrong
    with pytest.raises(UserError) as expected:
        importlib.import_module(module).Options(**values)
    found = source.refusal(module, values)
    assert found is not None
    assert found.replace("-", "_") == str(expected.value).replace("--", "").replace("-", "_")


@pytest.mark.parametrize("module", sorted({*MODULES, *(kind.stage for kind in EVALUATIONS.values()), PACKING}))
def test_no_check_of_options_needs_more_than_the_stages_and_python(module: str) -> None:
    """Else the workflow could not make it: it has no torch."""
    values = {name: "here" if option.required else option.default for name, option in source.options(module).items()}
    source._definition(module, "Options")(**values)


def test_a_check_that_needs_another_package_is_left_to_the_job(package: Path) -> None:
    (package / "job.py").write_text(
        "import dataclasses\n"
        "import numpy as np\n"
        "@dataclasses.dataclass\n"
        "class Options:\n"
        "    rate: float = 1.0\n"
        "    def __post_init__(self):\n"
        "        np.isfinite(self.rate)\n"
    )
    (package / "errors.py").write_text("class UserError(Exception):\n    pass\n")
    assert source.refusal("stages.job", {"rate": 2.0}) is None


@pytest.mark.parametrize("module", MODULES)
def test_options_as_flags_come_back_the_same(module: str) -> None:
    declared = importlib.import_module(module).Options
    values = {
        name: option.default if not option.required else "somewhere else"
        for name, option in source.options(module).items()
    }
    parser = parser_of(None)
    add_options(parser, declared)
    import shlex

    assert read_options(declared, parser.parse_args(shlex.split(commands.flags(values)))) == declared(**values)


@pytest.mark.parametrize(
    ("name", "options", "parts"),
    [
        ("folder", {}, ("train", "val")),
        ("cub200", {}, "CUB_200_2011"),
        ("imagenette", {"path": "p", "variant": "160px"}, "imagenette2-160"),
        ("imagenette", {"path": "full", "variant": "160px"}, "imagenette2-160"),
        ("places365", {"path": "p", "variant": "large"}, "data_large_standard"),
        ("places365", {"path": "large", "variant": "small"}, "val_256"),
    ],
)
def test_a_source_says_what_it_reads_of_its_folder(name: str, options: dict[str, Any], parts: Any) -> None:
    found = source.by_option(
        source.literal(source.plugin_module("stages.datasets.sources", name), "FOLDER", "."), options
    )
    assert parts == found or parts in found


def test_every_source_with_a_folder_says_what_it_reads_of_it() -> None:
    for module in (
        source.plugin_module("stages.datasets.sources", n) for n in source.plugins("stages.datasets.sources")
    ):
        defaults = {option.name: option.default for option in source.options(module).values()}
        assert ("path" in defaults) == (source.by_option(source.literal(module, "FOLDER", ""), defaults) != ""), module


def test_an_image_is_known_by_its_recipe_not_by_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "CONTAINERS", tmp_path)
    (tmp_path / "requirements").mkdir()
    dockerfile, pins = tmp_path / "Dockerfile", tmp_path / "requirements/torch.txt"
    dockerfile.write_text("FROM a\n")
    pins.write_text("torch==1\n")
    first = images.identity("torch", {})
    dockerfile.write_text("# Why.\nFROM a\n\n")
    pins.write_text("torch==1  # via x\n")
    assert images.identity("torch", {}) == images.identity("torch", {"torch": "/else/torch.sif"}) == first
    pins.write_text("torch==2\n")
    assert images.identity("torch", {}) != first
    assert images.identity("torch", {"torch": "docker://x@sha256:1"}) == "docker://x@sha256:1"
