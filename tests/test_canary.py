"""The canary: a public checkpoint on its way to a nearest-neighbour accuracy that is, or is not, the published one."""

import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from sklearn.neighbors import KNeighborsClassifier

from stages import canary, embed, fetch_weights, knn
from stages.artifacts.embeddings import read_embeddings
from stages.artifacts.metrics import read_metrics
from stages.artifacts.weights import load_weights
from stages.errors import UserError
from tests.checkpoint_fixtures import serving
from tests.conftest import assert_refused, card, flags, program
from tests.project import TINY, Project


def fetched_and_embedded(weights: Path, digits: SimpleNamespace, published: dict[str, float], folder: Path) -> Any:
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
        lines = [f"{key} = {json.dumps(value)}" for group in (table, published) for key, value in group.items()]
        lines.insert(len(table), "[toy.published]")
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
    for name in ("first", "as-published", "another"):
        (tmp_path / name).mkdir()
    accuracy = reference(fetched_and_embedded(weights, digits, {"1-nn": 1.5}, tmp_path / "first"))
    right = fetched_and_embedded(weights, digits, {"linear": 50.0, "1-nn": accuracy - 0.4}, tmp_path / "as-published")
    metrics = tmp_path / "canary.json"
    canary.main(flags({"train": right.train, "val": right.val, "metrics": metrics, "tolerance": 0.5}))
    found = read_metrics(metrics)
    assert found.values == {"top1": pytest.approx(accuracy), "published": accuracy - 0.4}
    assert (found.dataset, found.encoder["name"]) == ("digits", "public")

    wrong = fetched_and_embedded(weights, digits, {"1-nn": accuracy - 0.6}, tmp_path / "another")
    before = set(tmp_path.rglob("*"))
    arguments = {"train": wrong.train, "val": wrong.val, "metrics": tmp_path / "refused.json", "tolerance": 0.5}
    done = program("canary", *flags(arguments))
    parts = (f"public: 1-nn is {accuracy:.1f} on digits (1347 train", f"and {accuracy - 0.6:g} was published for toy")
    assert_refused(done, *parts, "no more than 0.5 points", folder=tmp_path, before=before)


@pytest.mark.parametrize(
    ("published", "options"),
    [
        ({"knn": 70.0, "20-nn": 60.0, "1-nn": 50.0}, knn.Options(k=1)),
        ({"knn": 70.0, "20-nn": 60.0}, knn.Options(k=20)),
        ({"linear": 80.0, "knn": 70.0}, knn.Options(k=20, votes="weighted", temperature=0.07)),
    ],
)
def test_neighbours_vote_as_those_of_the_published_accuracy(published: dict[str, float], options: knn.Options) -> None:
    name, asked = canary.protocol_of(SimpleNamespace(card=card(origin={"published": published})))  # type: ignore[arg-type]
    assert name in published
    assert knn.Options(**asked) == options


@pytest.mark.parametrize("origin", [{"way": "pretrain"}, {"way": "fetch", "published": {"linear": 70.0}}])
def test_an_encoder_without_a_published_accuracy_is_refused(make_embeddings: Any, origin: dict[str, Any]) -> None:
    rows = torch.eye(4).numpy()
    pair = [make_embeddings(split, rows, range(4), card=card(origin=origin)) for split in ("train", "val")]
    with pytest.raises(
        UserError, match=r"train\.h5: no published accuracy .* with toy; expected one of 1-nn, 20-nn, k"
    ):
        canary.main(flags({"train": pair[0], "val": pair[1], "metrics": pair[0].with_name("canary.json")}))
    assert not pair[0].with_name("canary.json").exists()


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
