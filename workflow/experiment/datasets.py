"""The config's datasets, and what others ask of them: labels that can be read, an augmentation that there is."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiment import source
from experiment.errors import ConfigError, require
from experiment.options import options_of

PACKING = "stages.fetch_dataset"
"""The stage whose options every dataset takes, beside those of its source."""


@dataclass(frozen=True)
class Dataset:
    name: str
    source: str
    size: int
    augmentation: str
    shards: int
    options: Mapping[str, Any]


def dataset_of(name: str, entry: Mapping[str, Any]) -> Dataset:
    where = f"datasets.{name}"
    require(f"{where}.source", "dataset source", entry["source"], source.plugins("stages.datasets.sources"))
    require_augmentation(where, entry["augmentation"])
    module = source.plugin_module("stages.datasets.sources", entry["source"])
    fixed = {"source", "size", "augmentation", "shards"}
    options = {
        **options_of(where, module, entry, {*fixed, *source.options(PACKING)}),
        **options_of(where, PACKING, entry, {*fixed, *source.options(module)}),
    }
    if str(options.get("path")).startswith("~/"):
        options["path"] = str(Path(options["path"]).expanduser())
    if options.get("path") == "" and not source.defines(module, "download"):
        text = source.options(module)["path"].help
        raise ConfigError(f"{where}.path: is empty, and {entry['source']} has no download; expected {text}")
    if 0 < options["short_side"] < entry["size"]:
        raise ConfigError(
            f"{where}.short_side is {options['short_side']}, so images of {entry['size']} pixels, its size, would be "
            "enlarged ones; expected 0, or 256/224 of size or more"
        )
    return Dataset(
        name=name,
        source=entry["source"],
        size=entry["size"],
        augmentation=entry["augmentation"],
        shards=entry.get("shards", 1),
        options=options,
    )


def image_endings(name: str) -> tuple[str, ...]:
    """How the files end that the source ``name`` takes from folders; none if it takes whatever it is told of."""
    return tuple(source.literal(source.plugin_module("stages.datasets.sources", name), "EXTENSIONS", ()))


def require_augmentation(where: str, name: str) -> None:
    require(f"{where}.augmentation", "augmentation", name, source.plugins("stages.datasets.augmentations"))


def require_labels(where: str, what: str, needed: str, dataset: Dataset) -> None:
    """Refuse, before anything runs, a dataset for ``what``, whose images need one label, several, or any if empty."""
    module = source.plugin_module("stages.datasets.sources", dataset.source)
    found = source.by_option(source.literal(module, "LABELS", "one"), dataset.options)
    if needed and found != needed:
        raise ConfigError(
            f"{where}: {what} on {dataset.name} needs images with {needed} "
            f"label{'s' if needed == 'several' else ''} each, but {dataset.source} has {found}; name other datasets or "
            "encoders"
        )
