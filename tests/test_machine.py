"""What a machine and a site offer: GPUs, folders that containers see, caches, partitions and GPU models."""

import re
from pathlib import Path

import pytest
import torch
from experiment import images, machine, slurm
from experiment.errors import ConfigError

from tests.project import TINY, Project


@pytest.fixture(autouse=True)
def away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a project's folder; pytest's own are below /tmp, which containers see, so that is elsewhere."""
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")
    monkeypatch.setattr(machine, "SEEN", tmp_path / "seen")
    monkeypatch.setattr(machine, "DRIVER", tmp_path / "driver")


def with_gpus(tmp_path: Path, count: int) -> None:
    for number in range(count):
        (tmp_path / "driver" / str(number)).mkdir(parents=True)


@pytest.mark.parametrize(
    ("there", "visible", "expected"),
    [(0, None, ""), (0, "0,1", ""), (4, None, "0123"), (4, "0, 3", "03"), (4, "", ""), (4, "-1", ""), (1, "0,1", "0")],
)
def test_gpus_are_those_that_are_there_and_allowed(
    there: int, visible: str | None, expected: str, tmp_path: Path
) -> None:
    with_gpus(tmp_path, there)
    assert machine.gpus({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) == list(expected)


@pytest.mark.parametrize(
    ("there", "asked", "cores", "expected"),
    [
        (0, 1, 16, 1),
        (1, 1, 16, 16),
        (4, 1, 16, 4),
        (4, 2, 16, 8),
        (3, 1, 16, 5),
        (2, 9, 16, 16),
        (4, 0, 16, 1),
        (4, 1, 2, 1),
    ],
)
def test_a_job_gets_the_share_of_the_cores_that_its_gpus_are(
    there: int, asked: int, cores: int, expected: int, tmp_path: Path
) -> None:
    with_gpus(tmp_path, there)
    assert machine.cores_for(asked, cores, {}) == expected


def test_images_are_read_ahead_where_there_are_gpus(tmp_path: Path) -> None:
    """Two stand-ins for GPUs: what is to run with one has half of the cores, of which one is the job's own."""
    project = Project.tiny(tmp_path / "copy")
    project.replace("workflow/experiment/machine.py", '"/proc/driver/nvidia/gpus"', '"gpus"')
    project.replace("workflow/rules/machine.smk", "len(os.sched_getaffinity(0))", "12")

    def workers() -> dict[str, set[str]]:
        shown = project.snakemake("--dry-run", "--printshellcmds", "--cores", "8", "--set-resources", "distill:gpu=2")
        assert shown.returncode == 0, shown.stdout
        found: dict[str, set[str]] = {}
        for stage, cores in re.findall(r"stages\.(\w+) --.*--workers \$\(\((\d+) - 1\)\)", shown.stdout):
            found.setdefault(stage, set()).add(cores)
        return found

    stages = ("fetch_dataset", "pretrain", "distill", "embed", "linear_probe")
    assert workers() == {stage: {"1"} for stage in stages}
    for name in "01":
        (project.path / "gpus" / name).mkdir(parents=True)
    assert workers() == {**{stage: {"4"} for stage in stages}, "fetch_dataset": {"1"}, "distill": {"8"}}


@pytest.mark.parametrize(
    ("group", "says"),
    [
        (
            {"options": {**TINY["students"][0]["options"], "bfloat16": True}},
            "bfloat16: true, which needs an NVIDIA GPU",
        ),
        (
            {"options": {**TINY["students"][0]["options"], "precision": "half"}},
            "precision: half, which needs an NVIDIA",
        ),
    ],
)
def test_what_needs_a_gpu_is_refused_before_anything_runs(group: dict[str, object], says: str, tmp_path: Path) -> None:
    project = Project.tiny(tmp_path / "copy")
    project.replace("workflow/experiment/machine.py", '"/proc/driver/nvidia/gpus"', '"gpus"')
    project.write_config({**TINY, "students": [{**TINY["students"][0], **group}]})
    assert project.would_run()
    done = project.snakemake()
    assert done.returncode != 0
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("error: ")]
    assert f"error: teacher--resnet18_x0.125--compress-1q--seed0: has {says}" in line
    assert not (project.path / "results").exists()


@pytest.mark.parametrize("there", [0, 2])
def test_containers_get_the_gpus_where_there_are_some(there: int, tmp_path: Path) -> None:
    with_gpus(tmp_path, there)
    assert machine.container_arguments("", {}, []) == ("--nv" if there else "")
    assert machine.container_arguments("--nv", {}, []) == "--nv"


def test_containers_see_the_folders_of_data_scratch_and_caches(tmp_path: Path) -> None:
    for name in ("photos", "scratch", "hub", "far/train", "project/inside", "seen/own"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "photos/train").symlink_to(tmp_path / "far/train")
    (tmp_path / "project/linked").symlink_to(tmp_path / "far")
    environment = {"TMPDIR": str(tmp_path / "scratch"), "HF_HOME": str(tmp_path / "hub"), "TORCH_HOME": "inside"}
    data = [str(tmp_path / "photos"), "inside", "linked", "missing", str(tmp_path / "seen/own")]
    found = machine.container_arguments("--cleanenv", environment, data)
    bound = {tmp_path / name for name in ("photos", "scratch", "hub", "far", "far/train")}
    assert found.split()[0] == "--cleanenv"
    assert set(found.split()[1:]) == {f"--bind={folder}" for folder in bound}
    assert machine.container_arguments(found, environment, data) == found, "another job adds nothing twice"


def test_containers_see_where_linked_classes_lead(tmp_path: Path) -> None:
    """A subset of ImageNet is often a folder of links: one to each class that is in it."""
    for name in ("imagenet/n01", "imagenet/n02", "more/n03", "mirror/toy", "files"):
        (tmp_path / name).mkdir(parents=True)
    for split in ("train", "val"):
        (tmp_path / "subset" / split).mkdir(parents=True)
        for name in ("imagenet/n01", "imagenet/n02", "more/n03"):
            (tmp_path / "subset" / split / Path(name).name).symlink_to(tmp_path / name, target_is_directory=True)
    (tmp_path / "subset/train/itself").symlink_to("itself")
    (tmp_path / "mirror/toy/toy.pth").symlink_to(tmp_path / "files")
    found = machine.container_arguments("", {"DISTILLERY_MIRROR": str(tmp_path / "mirror")}, [str(tmp_path / "subset")])
    bound = {tmp_path / name for name in ("subset", "imagenet", "more/n03", "mirror", "files")}
    assert set(found.split()) == {f"--bind={folder}" for folder in bound}


def test_a_linked_class_at_the_root_does_not_bind_the_whole_host(tmp_path: Path) -> None:
    for name in ("proc", "sys"):
        (tmp_path / "photos/train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos/train" / name).symlink_to(f"/{name}", target_is_directory=True)
    found = machine.container_arguments("", {}, [str(tmp_path / "photos")])
    assert set(found.split()) == {f"--bind={tmp_path / 'photos'}", "--bind=/proc", "--bind=/sys"}


def test_caches_are_kept_out_of_the_home_folder_unless_the_user_says_where(tmp_path: Path) -> None:
    environment = {"HF_HOME": "/shared/hub"}
    machine.set_caches(environment, Path("caches"))
    assert environment.pop("HF_HOME") == "/shared/hub"
    assert {Path(folder).parent for folder in environment.values()} == {tmp_path / "project/caches"}
    assert len(set(environment.values())) == len(machine.CACHES) - 1


@pytest.mark.parametrize(
    "given", ["--bind=/missing", "--bind /missing", "-B /missing", "--nv --bind=/proc,/missing:/x:ro"]
)
def test_a_folder_to_bind_that_is_not_there_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match=r"--bind /missing\S*: /missing is not there: create it, or correct"):
        machine.check_binds(given)


@pytest.mark.parametrize("given", ["", "--nv", "--bind=/proc:/x:ro,/sys --bind /dev", "--network none"])
def test_folders_to_bind_that_are_there_pass(given: str) -> None:
    machine.check_binds(given)


def test_an_image_has_to_be_there_and_of_the_present_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, image = tmp_path / "apptainer", tmp_path / "torch.sif"
    program.write_text("#!/bin/sh\necho org.opencontainers.image.source-digest: 123abc\n")
    program.chmod(0o755)
    image.touch()
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    images.check({str(image): "no Apptainer, no label", "docker://somewhere/faiss@sha256:1": "its address"})
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    images.check({str(image): "123abc"})
    with pytest.raises(ConfigError, match=r"torch\.sif is of another recipe .* 123abc, not 456def\): build it anew by"):
        images.check({str(image): "456def"})
    with pytest.raises(ConfigError, match=r"faiss\.sif is not there: build it by `make images`"):
        images.check({str(tmp_path / "faiss.sif"): "123abc"})


@pytest.mark.parametrize("folder", ["my project", "it's", "a(1)", "$HOME"])
def test_an_image_that_a_shell_would_not_find_is_refused(folder: str, tmp_path: Path) -> None:
    (tmp_path / folder).mkdir()
    (tmp_path / folder / "torch.sif").touch()
    with pytest.raises(ConfigError, match=r"cannot be started from a path with spaces or other signs .*: move the"):
        images.check({str(tmp_path / folder / "torch.sif"): "123abc"})


def test_partitions_are_the_clusters_and_one_is_needed_where_there_is_no_default() -> None:
    slurm.check_partitions([], ["gpu*", "cpu"])
    slurm.check_partitions(["cpu,gpu"], ["gpu", "cpu"])
    slurm.check_partitions(["any"], [])
    with pytest.raises(ConfigError, match=r"no slurm_partition .* has no default: set it to one of cpu, gpu"):
        slurm.check_partitions([], ["gpu", "cpu"])
    with pytest.raises(ConfigError, match="unknown partition 'gpus', did you mean 'gpu'"):
        slurm.check_partitions(["gpus"], ["gpu*", "cpu"])


def test_gpu_models_are_read_of_sinfo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "sinfo"
    program.write_text("#!/bin/sh\necho 'gpu:a100:4(S:0-1),nvme:1'\necho '(null)'\necho gpu:8\necho gpu:rtx_6000:2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert slurm.gpu_models() == {"a100", "rtx_6000"}
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert slurm.gpu_models() == set()
    assert slurm.partitions() == []


@pytest.mark.parametrize(
    ("model", "half", "says"),
    [
        ("h1000", (), "unknown GPU model 'h1000', did you mean 'h100'"),
        ("k80", (), "k80 is older than the pinned PyTorch supports: choose one of compute capability 7.5 or later"),
        ("tesla_p100-pcie-16gb", (), "tesla_p100-pcie-16gb is older"),
        ("NVIDIA_GeForce_GTX_1080_Ti", (), "NVIDIA_GeForce_GTX_1080_Ti is older"),
        ("1080ti", (), "1080ti is older"),
        ("v100", (), "v100 is older than the pinned PyTorch supports"),
        ("t4", ("student",), "t4 cannot run precision: half, which student asks for"),
    ],
)
def test_a_gpu_that_cannot_be_used_is_refused(model: str, half: tuple[str, ...], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        slurm.check_gpu_models([model], {"h100", model} - {"h1000"}, half)


def test_what_the_pinned_torch_has_code_for_is_known() -> None:
    """Of the build: `torch.cuda.get_arch_list` tells none where there is no GPU."""
    oldest = torch._C._cuda_getArchFlags().split()[0]
    assert oldest == f"sm_{round(10 * slurm.NEEDED)}"


def test_gpus_that_can_be_used_pass() -> None:
    slurm.check_gpu_models(["h100", "t4"], {"h100", "t4"}, ())
    slurm.check_gpu_models(["gtx_1660_super", "quadro_rtx_8000", "2080ti"], set(), ())
    slurm.check_gpu_models(["h100", "a100", "rtx_3090", "l40s", "p5", "rtx_6000", "nvidia_a40"], set(), ("student",))
    slurm.check_gpu_models([], {"h100"}, ())
