"""The pinned packages, the container images and the conda environment agree; the Makefile installs and builds them."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import yaml
from experiment.images import identity

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "containers" / "requirements"
IMAGES = ("torch", "faiss")
MAKE = shutil.which("make") or "make"

# The names that these packages are installed by, where they are not the ones they are imported by.
DISTRIBUTIONS = {"sklearn": "scikit-learn", "PIL": "pillow", "faiss": "faiss-gpu", "yaml": "pyyaml"}

Pin = tuple[str, str, frozenset[str]]


def requirement_lines(path: Path) -> list[str]:
    """The file's requirements, each on one line, without comments."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    return [line for line in lines if line.strip() and not line.lstrip().startswith("#")]


def pins(name: str) -> set[Pin]:
    """What a lock pins: name, version, and the digests of the files it may be installed from."""
    found = set()
    for line in requirement_lines(REQUIREMENTS / f"{name}.txt"):
        package, version = line.split()[0].split("==")
        found.add((package, version, frozenset(re.findall(r"--hash=(\S+)", line))))
    return found


def asked_for(name: str) -> set[str]:
    return {line.strip().lower() for line in requirement_lines(REQUIREMENTS / f"{name}.in")}


@pytest.mark.parametrize("name", ["all", *IMAGES])
def test_every_requirement_is_pinned_and_hashed(name: str) -> None:
    requirement = re.compile(r"[\w.-]+==[\w.+!]+( ; [^:/]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*")
    lines = requirement_lines(REQUIREMENTS / f"{name}.txt")
    assert lines
    assert [line for line in lines if not requirement.fullmatch(line)] == []


@pytest.mark.parametrize("path", sorted(REQUIREMENTS.iterdir()), ids=lambda path: path.name)
def test_requirements_name_no_address_and_no_path_of_a_machine(path: Path) -> None:
    assert re.findall(r"\S*://\S*|--\S*index\S*|--find-links\S*|(?<!\S)[/~]\S*", path.read_text()) == []


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_holds_the_versions_and_files_that_the_host_does(name: str) -> None:
    assert pins(name) - pins("all") == set()


@pytest.mark.parametrize(
    ("lock", "sources"), [("torch", ["torch"]), ("faiss", ["faiss"]), ("all", ["torch", "faiss", "workflow", "dev"])]
)
def test_a_lock_holds_all_that_is_asked_for(lock: str, sources: list[str]) -> None:
    assert {name for source in sources for name in asked_for(source)} - {
        package for package, _, _ in pins(lock)
    } == set()


@pytest.mark.parametrize("name", IMAGES)
def test_no_image_holds_the_workflow(name: str) -> None:
    assert {package for package, _, _ in pins(name)} & (asked_for("workflow") - {"pyyaml"}) == set()


def test_the_dockerfile_installs_its_pins_and_nothing_else_on_a_base_of_choice() -> None:
    lines = (ROOT / "containers/Dockerfile").read_text().splitlines()
    assert [line for line in lines if line.startswith(("ARG BASE", "FROM"))] == [
        "ARG BASE=python:3.11-slim-bookworm",
        "FROM ${BASE}",
    ]
    assert [line for line in lines if line.startswith(("COPY", "ADD"))] == ["COPY ${IMAGE}.txt /opt/pins.txt"]
    (install,) = [line for line in lines if "pip install " in line]
    assert install.endswith("--require-hashes -r /opt/pins.txt")


def test_apptainer_alone_builds_what_the_dockerfile_does() -> None:
    dockerfile = (ROOT / "containers/Dockerfile").read_text()
    definition = (ROOT / "containers/image.def").read_text()
    steps = [step for step in re.findall(r"^RUN (.*)", dockerfile, flags=re.MULTILINE) if "useradd" not in step]
    assert len(steps) == 3
    commands = [line.strip() for step in steps[:2] for line in step.splitlines()]
    assert [command for command in commands if f"    {command}\n" not in definition] == []
    (compiler,) = re.findall(r"apt-get update .*", dockerfile)
    assert compiler.removesuffix(" && \\") in definition
    assert re.findall(r"BASE=(\S+)", definition) == re.findall(r"BASE=(\S+)", dockerfile)
    assert "containers/requirements/{{ IMAGE }}.txt /opt/pins.txt" in definition


def test_conda_users_install_what_make_installs() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [each["pip"] for each in environment["dependencies"] if isinstance(each, dict)]
    steps = make(ROOT, "--dry-run", "--always-make", ".venv/installed").stdout
    (installed,) = re.findall(r"--require-hashes -r (\S+)", steps)
    assert pip == ["--require-hashes", f"-r {installed}"]
    assert (ROOT / installed).is_file()
    assert "python=3.11" in environment["dependencies"]


# What the stages import.


def images_of_stages() -> dict[str, str]:
    """The image that each stage runs in, as the workflow's rules say."""
    found = {}
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        for rule in re.split(r"^rule ", path.read_text(), flags=re.MULTILINE)[1:]:
            for stage in re.findall(r"python -m (?:stages\.training\.launch \S+ )?(stages\.\w+)", rule):
                (found[stage],) = re.findall(r'get_container\("(\w+)"\)', rule)
    return found


def source_of(module: str) -> Path | None:
    base = ROOT / module.replace(".", "/")
    return next((path for path in (base.with_suffix(".py"), base / "__init__.py") if path.is_file()), None)


def reached(node: ast.AST, used: set[str] | None = None) -> Iterator[ast.AST]:
    """The nodes of a module that run, at its top or in functions; if ``used`` is given, in those that it names."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            continue
        if isinstance(child, ast.FunctionDef) and used is not None:
            names = {f".{child.name}"} if isinstance(node, ast.ClassDef) else {child.name, f".{child.name}"}
            if not names & used:
                continue
        yield child
        yield from reached(child, used)


def imports(node: ast.AST, used: set[str] | None = None) -> Iterator[str]:
    """What the `reached` nodes import."""
    for each in reached(node, used):
        if isinstance(each, ast.Import):
            yield from (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom):
            assert each.module, "the stages use no relative imports"
            yield from (f"{each.module}.{alias.name}" for alias in each.names)


def closure(stage: str) -> dict[str, ast.Module]:
    """The syntax trees of all of our modules that a stage may import."""
    found: dict[str, ast.Module] = {}
    waiting = [stage]
    while waiting:
        name = waiting.pop()
        path = source_of(name)
        if "." in name:
            waiting.append(name.rpartition(".")[0])
        if path is None or name in found:
            continue
        found[name] = ast.parse(path.read_text())
        for target in imports(found[name]):
            if target.startswith("stages."):
                waiting.append(target)
                package = source_of(target)
                # Of a package that is itself imported, the modules are looked up by name.
                if package and package.name == "__init__.py":
                    waiting += [f"{target}.{each.stem}" for each in package.parent.glob("*.py") if each != package]
    return found


def named(trees: Iterable[ast.Module], used: set[str]) -> set[str]:
    """The names and, with a dot before them, the attributes in what runs."""
    nodes = [node for tree in trees for node in reached(tree, used)]
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        f".{node.attr}" for node in nodes if isinstance(node, ast.Attribute)
    }


def third_party(stage: str) -> dict[str, str]:
    """The packages that a stage may import, each with a module that does.

    A function that nothing names that runs is not called: reading a packed file needs no torch, although one of its
    methods does.
    """
    trees = closure(stage)
    nodes = [node for tree in trees.values() for node in ast.walk(tree)]
    used = {f".{node.name}" for node in nodes if isinstance(node, ast.FunctionDef) and node.name.startswith("__")}
    while (found := used | named(trees.values(), used)) != used:
        used = found
    return {
        DISTRIBUTIONS.get(top, top): module
        for module, tree in trees.items()
        for top in (name.partition(".")[0] for name in imports(tree, used))
        if top != "stages" and top not in sys.stdlib_module_names
    }


STAGES = images_of_stages()


def test_every_program_has_an_image() -> None:
    programs = {f"stages.{path.stem}" for path in (ROOT / "stages").glob("*.py") if "__main__" in path.read_text()}
    assert programs - {"stages.__init__"} == set(STAGES)


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_imports_only_what_its_image_holds(stage: str) -> None:
    held = asked_for(STAGES[stage])
    assert {package: module for package, module in third_party(stage).items() if package not in held} == {}


def test_imports_are_followed_through_functions_and_modules_found_by_name() -> None:
    found = third_party("stages.pretrain")
    assert found["lightly"].startswith("stages.pretraining.")
    assert {"torch", "numpy"} <= set(found)
    assert "torch" not in third_party("stages.knn")
    assert "stages.figures.clusters" in closure("stages.plot")


# The Makefile, with stand-ins for the programs it calls.


def make(folder: Path, *arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run make as a user would, not as a part of the ``make test`` that may be running this."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    }
    environment |= {"PATH": str(path)} if path else {}
    return subprocess.run([MAKE, *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)


def stand_in(path: Path, script: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what the Makefile builds from."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("containers", "workflow/experiment"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("*.sif*", "__pycache__"))
    return tmp_path


def test_make_repairs_an_interrupted_installation(project: Path) -> None:
    stand_in(project / "pip", 'echo "$@" >> pip.log; exec test -e allowed -a ! -e .venv/installed')
    python = stand_in(project / "python", '[ "$1" = -c ] || { mkdir -p .venv/bin && cp pip .venv/bin/pip; }')
    install = (".venv/installed", f"PYTHON={python}")

    assert make(project, *install).returncode != 0
    assert not (project / ".venv" / "installed").exists()

    (project / "allowed").touch()
    assert make(project, *install).returncode == 0
    assert (project / ".venv" / "installed").exists()

    assert make(project, *install).returncode == 0
    calls = (project / "pip.log").read_text().splitlines()
    assert len(calls) == 2, "the third time there was nothing to do"
    assert calls[1].endswith("--require-hashes -r containers/requirements/all.txt")


@pytest.mark.parametrize(
    ("fails_at", "says"), [("version_info", "older than Python 3.11"), ("ensurepip", "apt-get install python3-venv")]
)
def test_make_says_what_python_lacks(project: Path, fails_at: str, says: str) -> None:
    python = stand_in(project / "python", f'case "$2" in *{fails_at}*) exit 1;; esac')
    result = make(project, ".venv/installed", f"PYTHON={python}")
    assert result.returncode != 0
    assert says in result.stderr.splitlines()[0]
    assert not (project / ".venv").exists()


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A PATH with nothing on it but what every system has."""
    folder = tmp_path / "tools"
    folder.mkdir()
    (folder / "mv").symlink_to(shutil.which("mv") or "/bin/mv")
    return folder


# Writes the image that it was asked for: the argument that ends in .part.
APPTAINER = 'echo "$@" >> apptainer.log; for each; do case "$each" in *.part) echo made > "$each";; esac; done'


@pytest.mark.parametrize("docker", ["answers", "has no daemon", "is missing"])
def test_images_are_built_on_the_base_asked_for_and_labelled_as_the_workflow_knows_them(
    docker: str, project: Path, tools: Path
) -> None:
    if docker != "is missing":
        stand_in(tools / "docker", 'echo "$@" >> docker.log' if docker == "answers" else "exit 1")
    stand_in(tools / "apptainer", APPTAINER)
    result = make(project, "images", "BASE=another", f"PYTHON={sys.executable}", path=tools)
    assert result.returncode == 0, result.stderr
    packed = (project / "apptainer.log").read_text().splitlines()
    calls = (project / "docker.log").read_text().splitlines() if docker == "answers" else packed
    for name in IMAGES:
        (call,) = [call for call in calls if f"--build-arg IMAGE={name} " in call]
        assert "--build-arg BASE=another " in call
        assert f"SOURCE_DIGEST={identity(name, {})} " in call
        assert (project / "containers" / f"{name}.sif").exists()
        if docker == "answers":
            assert len([line for line in packed if line.endswith(f"docker-daemon:distillery-{name}:latest")]) == 1


def test_make_images_says_that_apptainer_is_missing(project: Path, tools: Path) -> None:
    result = make(project, "images", f"PYTHON={sys.executable}", path=tools)
    assert result.returncode != 0
    assert result.stderr.splitlines()[0].startswith("apptainer is not installed: it would have made containers/")
    assert list((project / "containers").glob("*.sif*")) == []
