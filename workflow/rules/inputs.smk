# What the rules' inputs and parameters are: functions of the wildcards, over the checked config.

import sys

from experiment import commands, content, images, source
from experiment.config import ConfigError, Experiment

try:
    experiment = Experiment(config)
except ConfigError as error:
    sys.exit(f"error: config: {error}")


def tracked(path):
    """A file by its content: a large file's date is ignored, its digest beside it tells whether it has changed."""
    return [ancient(path), f"{path}.sha256"]


def with_digest(path):
    """A file that a stage writes, and the digest that it writes beside it."""
    return [path, f"{path}.sha256"]


def get_container(name):
    return images.location(name, experiment.containers)


def get_image(name):
    """What is in the image: a change of it makes a job run again, a move does not."""
    return images.identity(name, experiment.containers)


def get_pack(dataset, split):
    return tracked(f"results/datasets/{dataset}/{split}.h5")


def get_source_options(wildcards):
    return commands.flags(experiment.datasets[wildcards.dataset].options)


def get_source_content(wildcards):
    """The fingerprint of the user's own images, for a source that reads a folder."""
    folder = experiment.datasets[wildcards.dataset].options.get("path")
    return content.fingerprint(folder) if folder else "of the package"


def get_source_code(wildcards):
    name = experiment.datasets[wildcards.dataset].source
    return source.fingerprint("stages.fetch_dataset", source.plugin_module("stages.datasets.sources", name))


def get_encoder(wildcards):
    return experiment.encoders[wildcards.encoder]


def get_training_input(wildcards):
    """The images to train on and, for a student, what it learns from of its teacher."""
    encoder = get_encoder(wildcards)
    files = {"train": get_pack(encoder.dataset, "train")}
    if wildcards.encoder in experiment.students:
        files["teacher"] = [file for path in get_teacher_files(encoder).values() for file in tracked(path)]
    return files


def get_teacher_files(student):
    """What a student learns from of its teacher, by the flag that takes it."""
    folder = f"results/encoders/{student.teacher}"
    if student.learns_from == "weights":
        return {"teacher_weights": f"{folder}/weights.safetensors"}
    if student.learns_from == "networks":
        return {"teacher_weights": f"{folder}/weights.safetensors", "teacher_heads": f"{folder}/heads.safetensors"}
    if student.learns_from == "assignments":
        clusters = f"{student.dataset}-k{student.options['clusters']}"
        return {"teacher_assignments": f"results/clusters/{student.teacher}/{clusters}.h5"}
    return {"teacher_embeddings": f"results/embeddings/{student.teacher}/{student.dataset}-train.h5"}


def get_teacher_flags(wildcards):
    return commands.flags(get_teacher_files(get_encoder(wildcards)))


def get_training_options(wildcards):
    """All that the training stages are told about an encoder, but for the files."""
    encoder = get_encoder(wildcards)
    dataset = experiment.datasets[encoder.dataset]
    facts = {
        "method": encoder.method,
        "architecture": encoder.architecture,
        "augmentation": encoder.augmentation,
        "size": dataset.size,
        "normalisation": encoder.normalisation,
        "seed": encoder.seed,
        "label": getattr(encoder, "label", encoder.method),
    }
    return commands.flags({**facts, **encoder.options})


def get_training_code(wildcards, stage):
    """The fingerprint of the training stage, its method, its augmentation, and the architectures it builds."""
    encoder = get_encoder(wildcards)
    package = {"pretrain": "stages.pretraining", "distill": "stages.distillation"}[stage]
    architectures = [encoder.architecture]
    if getattr(encoder, "learns_from", None) in ("weights", "networks"):
        architectures.append(experiment.encoders[encoder.teacher].architecture)
    return source.fingerprint(
        f"stages.{stage}",
        source.plugin_module(package, encoder.method),
        get_augmentation_module(encoder.augmentation),
        *map(get_architecture_module, architectures),
    )


def get_checkpoint_code(wildcards):
    return source.fingerprint("stages.fetch_weights", get_architecture_module(get_encoder(wildcards).architecture))


def get_augmentation_module(name):
    return source.plugin_module("stages.datasets.augmentations", name)


def get_architecture_module(architecture):
    return source.plugin_module("stages.architectures", source.architecture_family(architecture))


def get_augmentation(wildcards):
    return experiment.datasets[wildcards.dataset].augmentation


def get_embedding_code(wildcards):
    return source.fingerprint(
        "stages.embed",
        get_augmentation_module(get_augmentation(wildcards)),
        get_architecture_module(get_encoder(wildcards).architecture),
    )


def get_backbone_code(wildcards, stage):
    """The fingerprint of an evaluation that runs the encoder's network."""
    return source.fingerprint(stage, get_architecture_module(get_encoder(wildcards).architecture))


def get_embeddings(wildcards):
    """The caches of an encoder's embeddings of a dataset."""
    folder = f"results/embeddings/{wildcards.encoder}/{wildcards.dataset}"
    return {split: tracked(f"{folder}-{split}.h5") for split in ("train", "val")}


def get_evaluation_options(wildcards):
    return commands.flags(experiment.evaluations[wildcards.evaluation].options)


def get_metrics(wildcards):
    """All that is measured, in the order of the config."""
    return [f"results/metrics/{m.encoder}/{m.dataset}-{m.evaluation}.json" for m in experiment.measurements]


def get_histories(wildcards):
    return [f"results/encoders/{name}/history.csv" for name in get_trained()]


def get_trained():
    """The encoders that were trained here, and so have a history."""
    return [name for name in experiment.encoders if name not in experiment.fetched]


def get_clustering(wildcards):
    """The clusters and the val images that a cluster picture shows."""
    dataset = get_encoder(wildcards).dataset
    evaluation = experiment.evaluations_of("cluster-alignment")[0]
    return {
        "assignments": tracked(f"results/clusters/{wildcards.encoder}/{dataset}-{evaluation}.h5"),
        "images": get_pack(dataset, "val"),
    }


def any_of(names):
    """A wildcard's constraint: one of these names, or nothing at all where there is none."""
    return "|".join(map(re.escape, names)) or r"(?!)"
