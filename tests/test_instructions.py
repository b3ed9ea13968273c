"""The programs that the documents print do what is said of them, word for word but for names and places."""

import copy
import hashlib
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import scipy.io
import torch
from PIL import Image

from stages import pretrain
from stages.architectures import load
from stages.artifacts.metrics import read_metrics
from stages.artifacts.weights import load_weights
from tests.conftest import flags
from tests.project import ROOT, TINY, Project
from tests.training_fixtures import packed_digits


def printed(document: str, start: str, **replaced: str) -> str:
    """The first block of a document that begins with ``start``, with other names in it."""
    blocks = re.findall(r"(?:^    .*\n|^\n)+", (ROOT / document).read_text(), flags=re.MULTILINE)
    (text,) = (block for block in blocks if block.strip().startswith(start))
    text = re.sub(r"^    ", "", text, flags=re.MULTILINE)
    for old, new in replaced.items():
        assert old in text
        text = text.replace(old, new)
    return text


def execute(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_published_list_of_labelled_images_takes_the_place_of_ours(tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "project")
    for number, file in enumerate(sorted((project.path / "numerals/train").rglob("*.png"))):
        file.rename(file.with_name(f"n{number:03}.png"))
    config = copy.deepcopy(TINY) | {"students": [], "cluster_pictures": []}
    config["encoders"] = {"untrained": TINY["encoders"]["untrained"]}
    config["evaluations"] = {"few": {"evaluation": "knn", "labels": 1}}
    project.write_config(config)
    packed = project.snakemake("results/datasets/numerals/train.h5")
    assert packed.returncode == 0, packed.stdout

    (project.path / "1percent.txt").write_text("n003.png\nn120.png\n")
    names = {"/data/imagenet": "numerals", "imagenet": "numerals"}
    code = printed("docs/evaluations.md", "from pathlib import Path\n\n    import numpy", **names)
    execute(code, project.path)
    assert "label_subset" not in {job.split()[0] for job in project.would_run()}
    done = project.snakemake()
    assert done.returncode == 0, done.stdout
    lines = (project.path / "results/subsets/numerals-1.txt").read_text().splitlines()
    assert [line for line in lines if not line.startswith("#")] == ["3", "120"]
    metrics = read_metrics(project.path / "results/metrics/untrained/numerals-few.json")
    assert metrics.notes["labelled"] == "2 of 200 train images"


def test_an_encoder_is_loaded_in_code_of_ones_own(tmp_path: Path) -> None:
    train, _ = packed_digits(tmp_path, val_images=450)
    weights = tmp_path / "weights.safetensors"
    files = {"heads": tmp_path / "heads.safetensors", "history": tmp_path / "history.csv", "checkpoints": tmp_path}
    how = {"name": "mine", "architecture": "resnet18_x0.25", "augmentation": "crop-flip", "size": 16}
    pretrain.main(flags({"method": "untrained", "train": train, "weights": weights, **how, **files}))
    place = "results/encoders/teacher--resnet18_x0.5--compress-2q--seed0/weights.safetensors"
    code = printed("docs/checkpoints.md", "from pathlib import Path\n\n    import torch", **{place: str(weights)})
    code += "\nimages[:] = 0.25\ntorch.save(encoder(images).detach(), 'found.pt')\n"
    assert execute(code, tmp_path) == "mine (8, 128)\n"
    state, card = load_weights(weights)
    expected = load(card.architecture, card.contract, state, "mine").eval()(torch.full((8, 3, 16, 16), 0.25))
    torch.testing.assert_close(torch.load(tmp_path / "found.pt"), expected.detach())


def test_the_val_images_of_imagenet_are_sorted_by_its_devkit(tmp_path: Path) -> None:
    """An imitation of the devkit: two classes and, as in the real one, what is above them."""
    data = tmp_path / "devkit/ILSVRC2012_devkit_t12/data"
    data.mkdir(parents=True)
    kinds = [("ILSVRC2012_ID", "O"), ("WNID", "O"), ("words", "O"), ("gloss", "O"), ("num_children", "O")]
    rows = [(1, "n02", "cat", "", 0), (2, "n01", "dog", "", 0), (3, "n03", "animal", "", 2)]
    scipy.io.savemat(data / "meta.mat", {"synsets": np.array(rows, dtype=kinds)})
    (data / "ILSVRC2012_validation_ground_truth.txt").write_text("2\n1\n2\n")
    folder = tmp_path / "imagenet"
    (folder / "val").mkdir(parents=True)
    for number in (1, 2, 3):
        Image.new("RGB", (4, 4), (number, 0, 0)).save(folder / f"val/ILSVRC2012_val_0000000{number}.JPEG")
    archive = folder / "ILSVRC2012_devkit_t12.tar.gz"
    with tarfile.open(archive, "w:gz") as file:
        file.add(data.parent, arcname=data.parent.name)
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    imitated = (
        f"from torchvision.datasets import imagenet\nimagenet.ARCHIVE_META['devkit'] = ({archive.name!r}, {md5!r})\n"
    )
    code = printed(
        "docs/datasets.md", "from pathlib import Path\n\n    from torchvision", **{"/data/imagenet": str(folder)}
    )
    execute(imitated + code, tmp_path)
    found = {path.name[-6]: path.parent.name for path in (folder / "val").glob("*/*.JPEG")}
    assert found == {"1": "n01", "2": "n02", "3": "n01"}
