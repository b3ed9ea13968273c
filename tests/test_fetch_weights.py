"""Public checkpoints, from a server or a folder to an encoder file, and what stops on the way."""

import hashlib
import io
import json
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from stages import architectures, downloads, fetch_weights
from stages.artifacts.heads import load_heads
from stages.artifacts.weights import NORMALISATIONS, InputContract, load_weights
from stages.checkpoints import catalogue, layouts, lock
from stages.errors import UserError
from tests.checkpoint_fixtures import LAYOUTS, PROJECTORS, FileServer, State, assert_same, public
from tests.conftest import assert_refused, flags, program

pytest_plugins = ["tests.checkpoint_fixtures"]

RESNET = "resnet18_x0.125"
PLACE = "toy/toy.pth"
ENTRIES = catalogue.read()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No mirror of whoever runs the tests."""
    monkeypatch.delenv("DISTILLERY_MIRROR", raising=False)


def file_of(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def write_catalogue(path: Path, server: FileServer, **changes: Any) -> Path:
    """A catalogue of one checkpoint called toy, in DINO's layout unless changed."""
    table = {
        "method": "dino",
        "url": server.url("released/toy.pth"),
        "layout": "dino",
        "architecture": RESNET,
        "size": 48,
        "normalisation": "swav",
        "interpolation": "bicubic",
        **changes,
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in table.items() if value is not None]
    path.write_text("\n".join(["[toy]", *lines, "[toy.published]", "linear = 71.1", "1-nn = 57.3", ""]))
    return path


@pytest.fixture
def arguments(server: FileServer, backbone: State, tmp_path: Path) -> dict[str, object]:
    """Those that fetch the toy checkpoint from the server."""
    server.files["released/toy.pth"] = file_of(backbone)
    return {
        "checkpoint": "toy",
        "name": "mine",
        "size": 32,
        "weights": tmp_path / "weights.safetensors",
        "heads": tmp_path / "heads.safetensors",
        "downloads": tmp_path / "downloads",
        "lock": tmp_path / "checkpoints.lock",
        "catalogue": write_catalogue(tmp_path / "catalogue.toml", server),
    }


def fetch(arguments: dict[str, object], **changes: object) -> State:
    """What the stage writes."""
    fetch_weights.main(flags({**arguments, **changes}))
    return load_weights(Path(str(arguments["weights"])))[0]


def refused(arguments: dict[str, object], **changes: object) -> str:
    """The one line that the stage ends with; it has written no weights."""
    with pytest.raises(UserError) as error:
        fetch(arguments, **changes)
    assert not Path(str(arguments["weights"])).exists()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_tensor_arrives_from_a_server(
    layout: str, server: FileServer, backbone: State, arguments: dict[str, object], tmp_path: Path
) -> None:
    content = file_of(public(layout, backbone))
    server.files["released/toy.pth"] = content
    server.faults = [("stop", len(content) // 2), ("status", 503)]
    write_catalogue(tmp_path / "catalogue.toml", server, layout=layout)
    assert_same(fetch(arguments), backbone)
    heads = load_heads(Path(str(arguments["heads"])), Path(str(arguments["weights"])))
    names = PROJECTORS[layout].state_dict() if layout in PROJECTORS else {}
    assert set(heads) == {f"projector.layers.{name}" for name in names}
    assert len(server.requests) == 3
    assert (tmp_path / "downloads" / PLACE).read_bytes() == content


def test_the_card_says_where_it_is_from(server: FileServer, arguments: dict[str, object], tmp_path: Path) -> None:
    fetch(arguments)
    card = load_weights(tmp_path / "weights.safetensors")[1]
    assert (card.name, card.architecture, card.dimension) == ("mine", RESNET, 64)
    assert card.contract == InputContract(32, *NORMALISATIONS["swav"], "bicubic")
    assert card.origin == {
        "way": "fetch",
        "method": "dino",
        "checkpoint": "toy",
        "dataset": "imagenet",
        "sha256": hashlib.sha256(server.files["released/toy.pth"]).hexdigest(),
    }


def test_the_encoder_embeds_as_the_one_it_was_made_of(
    weights: Path, arguments: dict[str, object], tmp_path: Path
) -> None:
    fetch(arguments)
    encoders = []
    for path in (weights, tmp_path / "weights.safetensors"):
        state, card = load_weights(path)
        encoders.append(architectures.load(card.architecture, InputContract(32), state, str(path)).eval())
    images = torch.rand(3, 3, 32, 32)
    assert torch.equal(encoders[0](images), encoders[1](images))


def test_the_size_is_the_catalogues_unless_given(arguments: dict[str, object], tmp_path: Path) -> None:
    del arguments["size"]
    fetch(arguments)
    assert load_weights(tmp_path / "weights.safetensors")[1].contract.size == 48


def test_the_program_runs_and_ends_in_one_line(server: FileServer, arguments: dict[str, object]) -> None:
    done = program("fetch_weights", *flags(arguments))
    assert done.returncode == 0, done.stderr
    assert load_weights(Path(str(arguments["weights"])))[1].name == "mine"
    folder = Path(str(arguments["lock"])).parent
    before = set(folder.rglob("*"))
    done = program("fetch_weights", *flags({**arguments, "checkpoint": "tyo"}))
    assert_refused(done, "unknown checkpoint 'tyo': did you mean 'toy'? known are toy", folder=folder, before=before)


# The lock file.


def test_the_first_download_is_recorded_as_sha256sum_would(server: FileServer, arguments: dict[str, object]) -> None:
    fetch(arguments)
    sha256 = hashlib.sha256(server.files["released/toy.pth"]).hexdigest()
    assert Path(str(arguments["lock"])).read_text() == f"{sha256}  {PLACE}\n"


def test_a_second_run_downloads_and_records_nothing(server: FileServer, arguments: dict[str, object]) -> None:
    first = fetch(arguments)
    recorded = Path(str(arguments["lock"])).read_text()
    assert_same(fetch(arguments), first)
    assert len(server.requests) == 1
    assert Path(str(arguments["lock"])).read_text() == recorded


def test_others_records_are_kept(arguments: dict[str, object]) -> None:
    other = f"{'a' * 64}  other/file.pth\n"
    Path(str(arguments["lock"])).write_text(other)
    fetch(arguments)
    assert Path(str(arguments["lock"])).read_text().startswith(other)


def test_jobs_record_one_after_the_other(tmp_path: Path) -> None:
    path, entry = tmp_path / "checkpoints.lock", ENTRIES["moco_v2_800ep"]
    with ThreadPoolExecutor(1) as thread:
        with path.open("ab") as file:
            downloads.wait_for_others(file)
            waiting = thread.submit(lock.record, entry, "a" * 64, path)
            with pytest.raises(TimeoutError):
                waiting.result(timeout=0.2)
            file.write(f"{'a' * 64}  {entry.place}\n".encode())
        waiting.result()
    assert path.read_text() == f"{'a' * 64}  {entry.place}\n"


def test_another_file_than_the_first_is_refused(arguments: dict[str, object], tmp_path: Path) -> None:
    locked = tmp_path / "checkpoints.lock"
    locked.write_text(f"{'a' * 64}  {PLACE}\n")
    message = refused(arguments)
    for part in (
        f"{tmp_path / 'downloads' / PLACE}: not the file that toy is",
        f"{locked} recorded {'a' * 64}",
        "delete",
    ):
        assert part in message
    assert locked.read_text() == f"{'a' * 64}  {PLACE}\n"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sha256": "b" * 64}, f"the catalogue has {'b' * 64}"),
        ({"md5_prefix": "a04e12f8"}, "its authors' begins with a04e12f8"),
    ],
)
def test_another_file_than_the_authors_is_refused_and_not_recorded(
    changes: dict[str, str], message: str, server: FileServer, arguments: dict[str, object], tmp_path: Path
) -> None:
    write_catalogue(tmp_path / "catalogue.toml", server, **changes)
    assert message in refused(arguments)
    assert not (tmp_path / "checkpoints.lock").exists()


def test_the_authors_hashes_are_accepted(server: FileServer, arguments: dict[str, object], tmp_path: Path) -> None:
    content = server.files["released/toy.pth"]
    hashes = {"sha256": hashlib.sha256(content).hexdigest(), "md5_prefix": hashlib.md5(content).hexdigest()[:8]}
    write_catalogue(tmp_path / "catalogue.toml", server, **hashes)
    fetch(arguments)


def test_an_error_page_is_refused_and_not_recorded(
    server: FileServer, arguments: dict[str, object], tmp_path: Path
) -> None:
    server.files["released/toy.pth"] = b"<!DOCTYPE html><title>Please log in</title>"
    assert "not a whole checkpoint file, it begins with b'<!DOCTYPE html><'; delete it" in refused(arguments)
    assert not (tmp_path / "checkpoints.lock").exists()


def test_a_damaged_lock_file_is_refused(arguments: dict[str, object]) -> None:
    Path(str(arguments["lock"])).write_text(f"{'a' * 64}  other/file.pth\n<<<<<<< HEAD\n")
    assert "line 2 is '<<<<<<< HEAD'; expected a sha256" in refused(arguments)


# Other places than the authors' server.


@pytest.mark.parametrize("slash", ["", "/"])
def test_a_mirror_is_asked_in_place_of_the_authors(
    slash: str, server: FileServer, backbone: State, arguments: dict[str, object]
) -> None:
    server.files[f"mirror/{PLACE}"] = server.files.pop("released/toy.pth")
    assert_same(fetch(arguments, mirror=f"{server.url('mirror')}{slash}"), backbone)
    assert server.requests == [(f"mirror/{PLACE}", None)]


def test_the_environment_names_a_mirror(
    server: FileServer, backbone: State, arguments: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files[f"mirror/{PLACE}"] = server.files.pop("released/toy.pth")
    monkeypatch.setenv("DISTILLERY_MIRROR", server.url("mirror"))
    assert_same(fetch(arguments), backbone)


def test_a_folder_of_downloads_is_a_mirror_for_another_machine(
    server: FileServer, backbone: State, arguments: dict[str, object], tmp_path: Path
) -> None:
    fetch(arguments)
    server.files.clear()
    elsewhere = {"downloads": tmp_path / "elsewhere", "mirror": tmp_path / "downloads"}
    assert_same(fetch(arguments, **elsewhere), backbone)
    assert len(server.requests) == 1
    assert not (tmp_path / "elsewhere").exists()


def test_a_mirror_folder_without_the_file_says_what_to_put_there(
    server: FileServer, arguments: dict[str, object], tmp_path: Path
) -> None:
    message = refused(arguments, mirror=tmp_path / "mirror")
    assert message.startswith(f"{tmp_path / 'mirror' / PLACE}: no such file in the mirror: download ")
    assert server.url("released/toy.pth") in message
    assert not server.requests


def test_a_file_that_is_not_there_is_one_line(server: FileServer, arguments: dict[str, object]) -> None:
    server.files.clear()
    message = refused(arguments)
    assert f"{server.url('released/toy.pth')}: the server answered 404" in message
    assert f"put it at {Path(str(arguments['downloads'])) / PLACE}, or name a mirror" in message


# What cannot be fetched.


def test_what_has_to_be_converted_is_asked_for(
    server: FileServer, backbone: State, arguments: dict[str, object], tmp_path: Path
) -> None:
    write_catalogue(tmp_path / "catalogue.toml", server, file="own.pth", convert="run convert.py, and save the result")
    place = tmp_path / "downloads/toy/own.pth"
    assert refused(arguments).endswith(f"run convert.py, and save the result, as {place}")
    assert not server.requests
    place.parent.mkdir(parents=True)
    place.write_bytes(file_of(backbone))
    assert_same(fetch(arguments), backbone)


def test_a_file_of_one_s_own_needs_no_url(
    server: FileServer, backbone: State, arguments: dict[str, object], tmp_path: Path
) -> None:
    write_catalogue(tmp_path / "catalogue.toml", server, url=None, file="own.pth")
    place = tmp_path / "downloads/toy/own.pth"
    assert refused(arguments) == f"{place}: no such file, and the catalogue has no url of it: put it there"
    place.parent.mkdir(parents=True)
    place.write_bytes(file_of(backbone))
    assert_same(fetch(arguments), backbone)
    elsewhere = {"downloads": tmp_path / "elsewhere", "mirror": tmp_path / "downloads"}
    assert_same(fetch(arguments, **elsewhere), backbone)
    assert not server.requests


def test_what_is_not_supported_says_why(server: FileServer, arguments: dict[str, object], tmp_path: Path) -> None:
    write_catalogue(tmp_path / "catalogue.toml", server, unsupported="nobody has a converter; take another")
    assert refused(arguments) == "checkpoint 'toy' cannot be used: nobody has a converter; take another"
    assert not server.requests


def test_another_architectures_checkpoint_is_refused(
    server: FileServer, arguments: dict[str, object], tmp_path: Path
) -> None:
    write_catalogue(tmp_path / "catalogue.toml", server, architecture="resnet34_x0.125")
    message = refused(arguments)
    assert "not the weights of a resnet34_x0.125 in the layout 'dino': 96 missing ('layer1.2.conv1.weight', " in message
    assert not (tmp_path / "checkpoints.lock").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layuot": "dino"}, "catalogue.toml: toy: unknown key 'layuot': did you mean 'layout'?"),
        ({"method": None, "size": None}, "catalogue.toml: toy: has no method, size"),
        (
            {"layout": None, "url": None},
            "catalogue.toml: toy: has no layout, url (where the file is downloaded) or file",
        ),
        ({"normalisation": "swaw"}, "catalogue.toml: toy: unknown normalisation 'swaw': did you mean 'swav'?"),
        ({"interpolation": "bicubik"}, "toy: unknown interpolation 'bicubik': did you mean 'bicubic'?"),
        ({"size": "48"}, "catalogue.toml: toy: size is '48'; expected a whole number"),
        ({"url": 3}, "catalogue.toml: toy: url is 3; expected text"),
        ({"normalisation": ["swav"]}, "catalogue.toml: toy: normalisation is ['swav']; expected text"),
        ({"layout": "dinno"}, "unknown checkpoint layout 'dinno': did you mean 'dino'?"),
    ],
)
def test_a_wrong_catalogue_is_one_line(
    changes: dict[str, Any], message: str, server: FileServer, arguments: dict[str, object], tmp_path: Path
) -> None:
    write_catalogue(tmp_path / "catalogue.toml", server, **changes)
    assert message in refused(arguments)
    assert not server.requests


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such catalogue"),
        ("[toy", "not a TOML file: "),
        ("x = 1", "x is 1; expected a table, [x]"),
        ("# \xff", "not a TOML file: "),
    ],
)
def test_a_catalogue_that_cannot_be_read_is_one_line(
    text: str | None, message: str, arguments: dict[str, object], tmp_path: Path
) -> None:
    (tmp_path / "catalogue.toml").unlink()
    if text is not None:
        (tmp_path / "catalogue.toml").write_bytes(text.encode("latin-1"))
    assert f"{tmp_path / 'catalogue.toml'}: {message}" in refused(arguments)


# The project's own catalogue.


def test_the_catalogue_has_the_teachers_of_the_papers() -> None:
    assert {"moco_v2_800ep", "swav_800ep", "simclr_r50_4x", "byol_r50", "dino_r50", "dinov2_vitb14"} <= ENTRIES.keys()


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_of_an_architecture_that_can_be_built(name: str) -> None:
    entry = ENTRIES[name]
    with torch.device("meta"):
        encoder = architectures.build(entry.architecture, InputContract.named(entry.size, entry.normalisation))
    assert encoder.dimension > 0
    assert entry.layout in layouts.LAYOUTS
    assert entry.url.startswith("https://")
    assert re.fullmatch(r"([0-9a-f]{64})?", entry.sha256)
    assert all(1 < accuracy < 100 for accuracy in entry.published.values())


def test_every_layout_is_in_the_documentation() -> None:
    page = (Path(__file__).resolve().parents[1] / "docs/checkpoints.md").read_text()
    rows = {row.split("|")[1].strip(" `"): row.split("|") for row in page.splitlines() if row.startswith("| `")}
    assert rows.keys() == layouts.LAYOUTS.keys()
    for name, layout in layouts.LAYOUTS.items():
        assert rows[name][3].strip(" `\u2013") == layout.prefix
        assert all(f"`{step}`" in rows[name][2] for step in layout.path)


def test_no_two_entries_share_a_file() -> None:
    assert len({entry.place for entry in ENTRIES.values()}) == len({entry.url for entry in ENTRIES.values()})
    assert len({entry.place for entry in ENTRIES.values()}) == len(ENTRIES)
