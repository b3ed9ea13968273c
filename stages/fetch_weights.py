"""Fetch a public checkpoint, and write its backbone as an encoder, and its projector, if it has one, as heads.

    python -m stages.fetch_weights --checkpoint moco_v2_800ep --name moco-r50 --size 224 \\
        --weights weights.safetensors --heads heads.safetensors --downloads results/downloads --lock checkpoints.lock

A broken download goes on where it stopped. The file's sha256 is recorded in the lock file the first time; another
file under the same name is refused from then on. Without internet, bring the folder of downloads from a machine that
has it, and name it with --mirror. Mirrors, folders and servers alike, keep files as the folder of downloads does:
<checkpoint>/<file>.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from stages import downloads
from stages.checkpoints import catalogue, lock
from stages.checkpoints.catalogue import Entry
from stages.command_line import output, parser_of, run
from stages.errors import UserError, at_least, unknown


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--checkpoint", required=True, help="a name in the catalogue")
    parser.add_argument("--name", required=True, help="the encoder's name in the file")
    parser.add_argument("--size", type=int, help="the images' side in pixels (default: the catalogue's)")
    parser.add_argument("--weights", type=output, required=True, help="the encoder file to write")
    parser.add_argument("--heads", type=output, required=True, help="the head it was trained behind, to write")
    parser.add_argument("--downloads", type=Path, required=True, help="the folder that keeps downloaded files")
    parser.add_argument("--lock", type=Path, required=True, help="the file that keeps the hashes of first downloads")
    parser.add_argument(
        "--mirror",
        default=os.environ.get("DISTILLERY_MIRROR"),
        help="a folder or a URL to take files from in place of their authors' (default: $DISTILLERY_MIRROR)",
    )
    parser.add_argument(
        "--catalogue", type=Path, default=catalogue.CATALOGUE, help="another catalogue (default: the project's)"
    )
    arguments = parser.parse_args(argv)

    entry = catalogue.named(arguments.checkpoint, arguments.catalogue)
    if entry.unsupported:
        raise UserError(f"checkpoint {entry.name!r} cannot be used: {entry.unsupported}")
    size = entry.size if arguments.size is None else arguments.size
    at_least(1, size=size)

    from stages import architectures
    from stages.artifacts.heads import save_heads
    from stages.artifacts.weights import EncoderCard, InputContract, save_weights
    from stages.checkpoints import layouts

    if entry.layout not in layouts.LAYOUTS:
        raise unknown("checkpoint layout", entry.layout, layouts.LAYOUTS)
    contract = InputContract.named(size, entry.normalisation, entry.interpolation)
    encoder = architectures.build(entry.architecture, contract)

    file = obtain(entry, arguments.downloads, arguments.mirror)
    sha256 = lock.verify(entry, file, arguments.lock)
    expected = encoder.backbone.state_dict()
    content = layouts.read(file)
    state = layouts.backbone_of(content, entry.layout, entry.architecture, expected, file)
    projector = layouts.projector_of(content, entry.layout, file)
    # Only now: an error page that came in place of the file must not become what later files are held to.
    lock.record(entry, sha256, arguments.lock)

    card = EncoderCard(
        name=arguments.name,
        architecture=entry.architecture,
        dimension=encoder.dimension,
        contract=encoder.contract,
        origin={
            "way": "fetch",
            "method": entry.method,
            "checkpoint": entry.name,
            "dataset": entry.dataset,
            "sha256": sha256,
        },
    )
    save_weights(arguments.weights, state, card)
    save_heads(arguments.heads, {f"projector.{name}": tensor for name, tensor in projector.items()}, arguments.weights)


def obtain(entry: Entry, folder: Path, mirror: str | None) -> Path:
    """The checkpoint's file: the one in ``folder``, or the mirror folder's, or a download."""
    path = folder / entry.place
    otherwise = f"put it at {path}, or name a mirror that has it by DISTILLERY_MIRROR"
    if path.is_file():
        return path
    if mirror and "://" not in mirror:
        return _in_folder(entry, Path(mirror))
    if mirror:
        downloads.fetch(f"{mirror.rstrip('/')}/{entry.place}", path, otherwise)
    elif entry.convert:
        raise UserError(f"{path}: no such file, and it cannot be downloaded: {entry.convert}, as {path}")
    elif not entry.url:
        raise UserError(f"{path}: no such file, and the catalogue has no url of it: put it there")
    else:
        downloads.fetch(entry.url, path, otherwise)
    return path


def _in_folder(entry: Entry, folder: Path) -> Path:
    path = folder / entry.place
    if not path.is_file():
        todo = entry.convert or (f"download {entry.url}" if entry.url else "copy it")
        raise UserError(f"{path}: no such file in the mirror: {todo}, as {path}")
    return path


if __name__ == "__main__":
    run(main)
