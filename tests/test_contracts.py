"""Input contracts: named normalisations from the config to the card, and what the encoder makes of them."""

import copy
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from experiment.config import ConfigError, Experiment
from experiment.outline import SCHEMA
from torch import Tensor
from torchvision.transforms import v2

from stages import architectures, distill, embed, fetch_dataset, pretrain
from stages.architectures import Backbone, Encoder
from stages.artifacts.embeddings import read_embeddings
from stages.artifacts.weights import NORMALISATIONS, EncoderCard, InputContract, read_card, save_weights
from stages.datasets.augmentations import to_float
from stages.datasets.packed import read_pack
from tests.conftest import card, flags
from tests.project import TINY, Project, write_numerals
from tests.training_fixtures import Training, embedded_by

pytest_plugins = ["tests.training_fixtures"]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BY_HAND = {
    "imagenet": IMAGENET,
    "none": ((0, 0, 0), (1, 1, 1)),
    "swav": (IMAGENET[0], (0.228, 0.224, 0.225)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}


class Flat(Backbone):
    """A backbone whose embedding is its input."""

    dimension = 3 * 8 * 8

    def forward(self, images: Tensor) -> Tensor:
        return images.flatten(1)


def test_the_schema_the_stages_and_these_tests_know_the_same_names() -> None:
    parts = yaml.safe_load(SCHEMA.read_text())["properties"]
    of_encoders = parts["encoders"]["additionalProperties"]["properties"]["normalisation"]["enum"]
    of_students = parts["students"]["items"]["properties"]["normalisation"]["enum"]
    assert of_encoders == of_students == list(NORMALISATIONS) == list(BY_HAND)


def test_without_normalisation_the_encoder_sees_the_image_itself() -> None:
    images = torch.rand(2, 3, 8, 8)
    assert torch.equal(Encoder(Flat(), InputContract.named(8, "none"))(images), images.flatten(1))


@pytest.mark.parametrize("name", BY_HAND)
def test_one_crop_under_each_contract_is_normalised_as_by_hand(name: str) -> None:
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    mean, std = BY_HAND[name]
    expected = torch.stack([(images[:, c].double() - mean[c]) / std[c] for c in range(3)], dim=1).flatten(1)
    found = Encoder(Flat(), InputContract.named(8, name))(images)
    torch.testing.assert_close(found, expected.float(), rtol=1e-6, atol=1e-6)


def test_the_embeddings_of_one_backbone_differ_by_its_contract_alone() -> None:
    first = architectures.build("resnet18_x0.125", InputContract.named(32, "swav")).eval()
    state = first.backbone.state_dict()
    second = architectures.load("resnet18_x0.125", InputContract.named(32, "none"), state, "w").eval()
    images = torch.rand(2, 3, 32, 32)
    by_hand = (images - torch.tensor(BY_HAND["swav"][0]).view(3, 1, 1)) / torch.tensor(BY_HAND["swav"][1]).view(3, 1, 1)
    with torch.no_grad():
        torch.testing.assert_close(first(images), second(by_hand))
        assert not torch.allclose(first(images), second(images))


@pytest.mark.parametrize("name", NORMALISATIONS)
def test_a_card_keeps_its_contract(name: str) -> None:
    before = card(contract=InputContract.named(32, name))
    assert EncoderCard.from_json(before.to_json()) == before


def test_programs_record_the_contract_and_embed_follows_it(
    small_splits: tuple[Path, Path], teacher_cache: Path, tmp_path: Path
) -> None:
    """A teacher and a student of timm's, each with a normalisation of its own."""
    options = {"train": small_splits[0], "architecture": "timm/test_vit", "size": 32}
    teacher = Training(tmp_path / "teacher", "pretrain", {**options, "method": "untrained", "normalisation": "half"})
    pretrain.main(teacher.argv)
    learning = {"method": "regression-bn", "normalisation": "none", "epochs": 1, "batch_size": 51}
    student = Training(tmp_path / "student", "distill", {**options, **learning, "teacher_embeddings": teacher_cache})
    distill.main(student.argv)
    plain = Training(tmp_path / "plain", "pretrain", {**options, "method": "untrained"})
    pretrain.main(plain.argv)
    for training, name in ((teacher, "half"), (student, "none"), (plain, "imagenet")):
        found = read_card(training.weights)
        assert found.architecture == "timm/test_vit"
        assert found.contract == InputContract(32, *BY_HAND[name])
    # The two teachers have the same tensors, so their embeddings differ by what they make of the images.
    caches = [
        read_embeddings(embedded_by(training.weights, small_splits[0], training.folder / "train.h5"))
        for training in (teacher, plain)
    ]
    assert caches[0].vectors.shape == caches[1].vectors.shape == (153, 64)
    assert not (caches[0].vectors == caches[1].vectors).all()


@pytest.mark.parametrize("main", [pretrain.main, distill.main])
def test_an_unknown_normalisation_is_no_argument(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as refusal:
        main(["--method", "untrained" if main is pretrain.main else "compress-1q", "--normalisation", "imagenett"])
    assert refusal.value.code == 2
    assert "'imagenett'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("where", "value", "words"),
    [
        ("encoders/teacher", "imagnet", ["encoders.teacher.normalisation", "did you mean 'imagenet'"]),
        ("encoders/untrained", "halb", ["encoders.untrained.normalisation", "did you mean 'half'"]),
        (
            "students/0",
            "swaw",
            ["students[0].normalisation", "did you mean 'swav'", "known are half, imagenet, none, swav"],
        ),
        ("students/0", None, ["students[0].normalisation", "None"]),
    ],
)
def test_an_unknown_normalisation_is_answered_with_the_nearest(where: str, value: Any, words: list[str]) -> None:
    config: Any = copy.deepcopy(TINY)
    part, entry = where.split("/")
    config[part][int(entry) if part == "students" else entry]["normalisation"] = value
    with pytest.raises(ConfigError) as refusal:
        Experiment(config)
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


def test_the_default_spelled_out_is_no_difference() -> None:
    config: Any = copy.deepcopy(TINY)
    config["encoders"]["teacher"]["normalisation"] = config["students"][0]["normalisation"] = "imagenet"
    assert Experiment(config).encoders == Experiment(TINY).encoders


def commands_of(project: Project, config: Any) -> dict[str, str]:
    """What a dry run would call for training, by the encoder's name."""
    project.write_config(config)
    done = project.snakemake("--dry-run", "--printshellcmds", "--forceall")
    assert done.returncode == 0, done.stdout
    lines = re.findall(r"stages\.(?:pretrain|distill) .*", done.stdout)
    return {re.search(r"--name (\S+)", line)[1]: line for line in lines}  # type: ignore[index]


def test_an_edit_of_one_groups_normalisation_changes_its_students_commands_alone(tmp_path: Path) -> None:
    """And a student of timm's architecture has it in its command as it is, in its files' names without the slash."""
    config: Any = copy.deepcopy(TINY)
    group = config["students"][0]
    config["students"] = [group, {**group, "architectures": ["timm/test_vit"], "methods": ["compress-1q"]}]
    project = Project.tiny(tmp_path / "project")
    before = commands_of(project, config)
    config["students"][1]["normalisation"] = "half"
    after = commands_of(project, config)
    name = "teacher--timm-test_vit--compress-1q--seed0"
    assert before.keys() == after.keys()
    assert {encoder for encoder in before if before[encoder] != after[encoder]} == {name}
    assert after[name] == before[name].replace("--normalisation imagenet", "--normalisation half")
    assert "--architecture timm/test_vit " in after[name]
    assert f"--weights results/encoders/{name}/weights.safetensors" in after[name]


@pytest.mark.parametrize("mode", ["bilinear", "bicubic"])
def test_the_evaluation_view_is_resized_as_the_contract_says(mode: str, tmp_path: Path) -> None:
    """The whole way, from the weights file through the embed stage."""
    write_numerals(tmp_path / "numerals", train=2, val=1)
    packs = {split: tmp_path / f"{split}.h5" for split in ("train", "val")}
    paths = [*flags({"train": packs["train"], "val": packs["val"], "path": tmp_path / "numerals"})]
    fetch_dataset.main(["--source", "folder", "--name", "numerals", *paths])
    contract = InputContract(16, interpolation=mode)
    torch.manual_seed(0)
    encoder = architectures.build("resnet18_x0.125", contract)
    weights, cache = tmp_path / "weights.safetensors", tmp_path / "embeddings.h5"
    save_weights(weights, encoder.backbone.state_dict(), EncoderCard("e", "resnet18_x0.125", 64, contract, {}))
    embed.main([*flags({"weights": weights, "augmentation": "crop-flip", "images": packs["val"], "embeddings": cache})])
    found = read_embeddings(cache)
    assert found.card.contract == contract
    assert found.transform.endswith(mode)
    resize = v2.Compose([v2.Resize(18, interpolation=v2.InterpolationMode(mode), antialias=True), v2.CenterCrop(16)])
    views = torch.stack([to_float(resize(read_pack(packs["val"]).image(row))) for row in range(5)])
    with torch.inference_mode():
        expected = encoder.eval()(views)
    torch.testing.assert_close(torch.from_numpy(np.array(found.vectors)).float(), expected, rtol=2e-3, atol=2e-3)
