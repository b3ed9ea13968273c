"""The canary: a public checkpoint on its way to a nearest-neighbour accuracy that is, or is not, the published one."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from experiment import encoders
from experiment.config import Experiment
from sklearn.neighbors import KNeighborsClassifier

from stages import canary, embed, fetch_weights, knn
from stages.artifacts.embeddings import read_embeddings
from stages.artifacts.metrics import read_metrics
from stages.artifacts.weights import load_weights
from tests.checkpoint_fixtures import serving
from tests.conftest import assert_refused, flags, program
from tests.project import TINY, Project


def fetched_and_embedded(weights: Path, digits: SimpleNamespace, folder: Path) -> Any:
    """The train and val embeddings of the digits by a checkpoint that is fetched from a server."""
    content = io.BytesIO()
    torch.save(load_weights(weights)[0], content)
    with serving() as server, pytest.MonkeyPatch.context() as environment:
        environment.setenv("no_proxy", "127.0.0.1")
        environment.delenv("DISTILLERY_MIRROR", raising=False)
        server.files["toy.pth"] = content.getvalue()
        table = {
            "method": "dino",
            "url": server.url("toy.pth"),
            "layout": "dino",
            "architecture": "resnet18_x0.125",
            "size": 32,
            "normalisation": "imagenet",
        }
        lines = [f"{key} = {json.dumps(value)}" for key, value in table.items()]
        (folder / "catalogue.toml").write_text("\n".join(["[toy]", *lines]))
        outputs = {"weights": folder / "weights.safetensors", "heads": folder / "heads.safetensors"}
        places = {"downloads": folder, "lock": folder / "lock", "catalogue": folder / "catalogue.toml"}
        fetch_weights.main(flags({"checkpoint": "toy", "name": "public", **outputs, **places}))
    pair = SimpleNamespace(train=folder / "train.h5", val=folder / "val.h5")
    arguments = flags({"weights": folder / "weights.safetensors", "augmentation": "affine-elastic"})
    arguments += ["--images", str(digits.train), str(digits.val), "--embeddings", str(pair.train), str(pair.val)]
    embed.main(arguments)
    return pair


def reference(pair: Any) -> float:
    """The accuracy of scikit-learn's nearest neighbour by cosine, in percent."""
    train, val = read_embeddings(pair.train), read_embeddings(pair.val)
    classifier = KNeighborsClassifier(1, metric="cosine", algorithm="brute").fit(train.unit(), train.labels)
    return 100 * float(classifier.score(val.unit(), val.labels))


def test_a_checkpoint_passes_where_it_is_as_good_as_published_and_nowhere_else(
    weights: Path, digits: SimpleNamespace, tmp_path: Path
) -> None:
    pair = fetched_and_embedded(weights, digits, tmp_path)
    accuracy, metrics = reference(pair), tmp_path / "canary.json"
    arguments = {"train": pair.train, "val": pair.val, "metrics": metrics, "tolerance": 0.5}
    canary.main(flags({**arguments, "protocol": "1-nn", "published": accuracy - 0.4}))
    found = read_metrics(metrics)
    assert found.values == {"top1": pytest.approx(accuracy), "published": accuracy - 0.4}
    assert (found.dataset, found.encoder["name"]) == ("digits", "public")

    before = set(tmp_path.rglob("*"))
    arguments["metrics"] = tmp_path / "refused.json"
    done = program("canary", *flags({**arguments, "protocol": "1-nn", "published": accuracy - 0.6}))
    parts = (f"public: 1-nn is {accuracy:.1f} on digits (1347 train", f"and {accuracy - 0.6:g} was published for toy")
    assert_refused(done, *parts, "no more than 0.5 points", folder=tmp_path, before=before)


@pytest.mark.parametrize(
    ("published", "name", "options"),
    [
        ({"knn": 70.0, "20-nn": 60.0, "1-nn": 50.0}, "1-nn", knn.Options(k=1)),
        ({"knn": 70.0, "20-nn": 60.0}, "20-nn", knn.Options(k=20)),
        ({"linear": 80.0, "knn": 70.0}, "knn", knn.Options(k=20, votes="weighted", temperature=0.07)),
    ],
)
def test_neighbours_vote_as_those_of_the_published_accuracy(
    published: dict[str, float], name: str, options: knn.Options
) -> None:
    assert encoders._published("here", "toy", published) == (name, published[name])
    assert knn.Options(**dict(canary.PROTOCOLS)[name]) == options


def test_canaries_are_jobs_of_their_own_and_make_nothing_else_run(tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "project")
    encoders = {"public": {"fetch": "moco_v2_800ep", "dataset": "numerals"}}
    config = {**TINY, "encoders": encoders, "students": [], "cluster_pictures": [], "evaluations": {"knn": {}}}
    project.write_config(config)
    without = project.would_run()
    (tmp_path / "with.yaml").write_text(
        yaml.safe_dump({**config, "encoders": {"public": {**encoders["public"], "canary": 2}}})
    )
    asked = ("--configfile", str(tmp_path / "with.yaml"))
    assert project.would_run(*asked) == without | {"canary public"}
    expected = {"fetch_dataset", "fetch_weights public", "embed public", "canary public", "canaries"}
    assert project.would_run("canaries", *asked) == expected


def test_what_the_catalogue_says_of_where_a_file_is_and_how_good_makes_nothing_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The students of a teacher would be trained anew, for a number that no weights depend on."""
    text = encoders.CATALOGUE.read_text()
    monkeypatch.setattr(encoders, "CATALOGUE", tmp_path / "catalogue.toml")

    def teacher(old: str, new: str) -> encoders.Encoder:
        assert old in text
        encoders.CATALOGUE.write_text(text.replace(old, new))
        return Experiment({**TINY, "encoders": {**TINY["encoders"], "public": entry}}).encoders["public"]

    entry = {"fetch": "swav_800ep", "dataset": "numerals"}
    before = teacher("linear = 75.3", "linear = 75.3")
    assert teacher("linear = 75.3", "linear = 75.3, 1-nn = 60.7") == before
    host = "https://dl.fbaipublicfiles.com/deepcluster/"
    assert teacher(f"{host}swav_800ep", "https://mirror.example/swav_800ep") == before
    assert teacher(f"{host}swav_800ep", f"{host}another_800ep") != before
