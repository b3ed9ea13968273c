# What the rules' inputs and parameters are: functions of the wildcards, over the checked config.

import atexit
import os
import sys
from pathlib import Path

from experiment import commands, content, demands, images, source
from experiment.config import Experiment
from experiment.datasets import image_endings
from experiment.encoders import Student
from experiment.errors import ConfigError
from experiment.plan import plan

try:
    experiment = Experiment(config)
    # It looks into folders, which a submitted job need not do again.
    if workflow.is_main_process:
        demands.check(experiment)
except ConfigError as error:
    sys.exit(f"error: config: {error}")


def say_plan():
    """Tell of the jobs that are to run what they need; of a config or a target that was refused, there are none."""
    to_come, known = {}, workflow.persistence
    for job in get_jobs_to_come():
        as_before = known.has_metadata(job) and not known.params_changed(job)
        to_come.update(dict.fromkeys(map(str, job.output), as_before))
    sys.stderr.writelines(f"{line}\n" for line in plan(experiment, to_come, get_mirror()))


def get_mirror():
    """Where checkpoints' files are taken from in place of their authors': a folder, a URL, or nothing."""
    return os.environ.get("DISTILLERY_MIRROR", "")


def get_jobs_to_come():
    return workflow.dag.needrun_jobs(exclude_finished=False) if workflow.dag else ()


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
    options = experiment.datasets[wildcards.dataset].options
    return commands.flags({name: value for name, value in options.items() if name != "path"})


def get_source_path(wildcards):
    options = experiment.datasets[wildcards.dataset].options
    return commands.flags({"path": options["path"]} if "path" in options else {})


def get_source_content(wildcards):
    """The fingerprint of the user's own images, for a source that reads a folder: of the parts that it reads."""
    folder, endings = get_source_folder(wildcards), image_endings(experiment.datasets[wildcards.dataset].source)
    try:
        return content.fingerprint(folder, get_source_parts(wildcards), endings) if folder else "of the package"
    except ConfigError as error:
        sys.exit(f"error: datasets.{wildcards.dataset}.path: {error}")


def get_source_folder(wildcards):
    return experiment.datasets[wildcards.dataset].options.get("path")


def get_source_parts(wildcards):
    options = experiment.datasets[wildcards.dataset].options
    parts = source.by_option(source.literal(get_source_module(wildcards), "FOLDER", "."), options)
    return (parts,) if isinstance(parts, str) else parts


def get_source_code(wildcards):
    return source.fingerprint("stages.fetch_dataset", get_source_module(wildcards))


def get_source_module(wildcards):
    return source.plugin_module("stages.datasets.sources", experiment.datasets[wildcards.dataset].source)


def get_encoder(wildcards):
    return experiment.encoders[wildcards.encoder]


def get_training_input(wildcards):
    """The images to train on and, for a student, what it learns from of its teacher."""
    encoder = get_encoder(wildcards)
    files = {"train": get_pack(encoder.dataset, "train")}
    if wildcards.encoder in experiment.distilled:
        of_teacher = get_teacher_files(encoder).values()
        files["teacher"] = [file for paths in of_teacher for path in paths for file in tracked(path)]
    return files


def get_teacher_files(student):
    """The files that a student learns from of its teacher, by the flag that takes them."""
    folder = f"results/encoders/{student.teacher}"
    heads = {"teacher_heads": [f"{folder}/heads.safetensors"]} if student.heads else {}
    if student.learns_from in ("weights", "networks"):
        return {"teacher_weights": [f"{folder}/weights.safetensors"], **heads}
    if student.learns_from == "assignments":
        clusters = f"{student.dataset}-k{student.options['clusters']}"
        return {"teacher_assignments": [f"results/clusters/{student.teacher}/{clusters}.h5"]}
    if student.teacher_views:
        return {"teacher_views": student.view_files, **heads}
    return {"teacher_embeddings": [f"results/embeddings/{student.teacher}/{student.dataset}-train.h5"], **heads}


def get_teacher_flags(wildcards):
    return commands.flags(get_teacher_files(get_encoder(wildcards)))


def get_teacher_architecture(wildcards):
    return experiment.encoders[get_encoder(wildcards).teacher].architecture


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
        "label": encoder.label if isinstance(encoder, Student) else encoder.method,
    }
    return commands.flags({**facts, **encoder.options})


def get_training_code(wildcards, stage):
    """The fingerprint of the training stage, its method, its augmentation, and the architectures it builds."""
    encoder = get_encoder(wildcards)
    package = "stages.pretraining" if stage == "pretrain" else "stages.distillation"
    architectures = [encoder.architecture]
    if isinstance(encoder, Student) and encoder.learns_from in ("weights", "networks", "online"):
        architectures.append(get_teacher_architecture(wildcards))
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


def get_backbone_code(wildcards, stage, augmentation=None):
    """The fingerprint of a stage that runs an encoder on a dataset's images, and of what it builds for that."""
    return source.fingerprint(
        f"stages.{stage}",
        get_augmentation_module(augmentation or get_augmentation(wildcards)),
        get_architecture_module(get_encoder(wildcards).architecture),
    )


def get_costed(wildcards):
    """The encoder and, of a student, its teacher, by the flags that take their weights."""
    names = {"weights": wildcards.encoder}
    if wildcards.encoder in experiment.students:
        names["teacher"] = get_encoder(wildcards).teacher
    return names


def get_cost_files(wildcards):
    """Their weights and, of an encoder that was trained here, the history of that."""
    files = {flag: f"results/encoders/{name}/weights.safetensors" for flag, name in get_costed(wildcards).items()}
    trained = wildcards.encoder in experiment.trained
    return {**files, "history": f"results/encoders/{wildcards.encoder}/history.csv"} if trained else files


def get_cost_input(wildcards):
    """The history is written with the weights, so these tell whether it has changed."""
    files = get_cost_files(wildcards)
    return {flag: ancient(path) if flag == "history" else tracked(path) for flag, path in files.items()}


def get_cost_flags(wildcards):
    return commands.flags(get_cost_files(wildcards))


def get_cost_code(wildcards):
    """The fingerprint of the stage and of the architectures that it builds."""
    architectures = [experiment.encoders[name].architecture for name in get_costed(wildcards).values()]
    return source.fingerprint("stages.cost", *map(get_architecture_module, architectures))


def get_detection_code(wildcards):
    return source.fingerprint("stages.voc_detection", get_architecture_module(get_encoder(wildcards).architecture))


def get_caches(encoder, dataset):
    """The caches of an encoder's embeddings of a dataset."""
    folder = f"results/embeddings/{encoder}/{dataset}"
    return {split: tracked(f"{folder}-{split}.h5") for split in ("train", "val")}


def get_embeddings(wildcards):
    return get_caches(wildcards.encoder, wildcards.dataset)


def get_shards(wildcards):
    """The shards of both splits' embeddings: of each job its files, in the order in which they are joined."""
    count = experiment.datasets[wildcards.dataset].shards
    names = [f"{number}of{count}.h5" for number in range(1, count + 1)]
    splits = zip(("train", "val"), get_shard_folders(wildcards))
    return {split: [file for name in names for file in tracked(f"{folder}/{name}")] for split, folder in splits}


def get_shard_folders(wildcards):
    return [f"results/embeddings/{wildcards.encoder}/{wildcards.dataset}-{split}.shards" for split in ("train", "val")]


def get_subsets(wildcards):
    """The lists of labelled images that an evaluation with fewer than all labels takes."""
    labels = experiment.evaluations[wildcards.evaluation].options["labels"]
    percents = labels if isinstance(labels, (list, tuple)) else [labels]
    return [f"results/subsets/{wildcards.dataset}-{percent}.txt" for percent in percents if percent != 100]


def get_subset_files(wildcards):
    return [file for path in get_subsets(wildcards) for file in tracked(path)]


def get_subset_flags(wildcards):
    return commands.flags({"subsets": get_subsets(wildcards)} if get_subsets(wildcards) else {})


def get_probed_files(wildcards):
    """What the encoder embeds augmented views with and of, where a linear probe takes those, by the flag."""
    if experiment.evaluations[wildcards.evaluation].options["views"] == "cached":
        return {}
    return {
        "weights": f"results/encoders/{wildcards.encoder}/weights.safetensors",
        "images": f"results/datasets/{wildcards.dataset}/train.h5",
    }


def get_probe_input(wildcards):
    files = {name: tracked(path) for name, path in get_probed_files(wildcards).items()}
    return {**get_embeddings(wildcards), **files, "subsets": get_subset_files(wildcards)}


def get_probe_flags(wildcards):
    return " ".join([commands.flags(get_probed_files(wildcards)), get_subset_flags(wildcards)]).strip()


def get_probe_code(wildcards):
    """The fingerprint of the linear probe and, where it sees augmented views, of what makes them."""
    modules = ["stages.linear_probe"]
    options = experiment.evaluations[wildcards.evaluation].options
    if options["views"] == "augmented":
        modules.append(get_augmentation_module(options["augmentation"]))
        modules.append(get_architecture_module(get_encoder(wildcards).architecture))
    return source.fingerprint(*modules)


def get_evaluation_options(wildcards):
    return commands.flags(experiment.evaluations[wildcards.evaluation].options)


def get_canary_input(wildcards):
    return get_caches(wildcards.encoder, get_encoder(wildcards).dataset)


def get_canary_options(wildcards):
    encoder = get_encoder(wildcards)
    protocol, accuracy = encoder.published
    return commands.flags({"protocol": protocol, "published": accuracy, "tolerance": encoder.canary})


def get_canaries():
    return [f"results/canaries/{name}.json" for name in experiment.canaries]


def get_metrics(wildcards):
    """All that is measured, in the order of the config."""
    return [measurement.file for measurement in experiment.measurements]


def get_table_input(wildcards):
    """The metrics of a table's cells and, if it has them, the paper's numbers: by content, so not by date."""
    table = experiment.tables[wildcards.table]
    files = {"metrics": sorted({m.file for cell in table.cells for m in cell.measurements})}
    if table.reported:
        files["paper"] = ancient(table.reported.file)
    return files


def get_cells(wildcards):
    """What stands where in a table, as `stages.write_table` takes it."""
    return " ".join(
        commands.flags({"cell": [c.group, c.row, c.column, c.value, *(m.file for m in c.measurements)]})
        for c in experiment.tables[wildcards.table].cells
    )


def get_layout(wildcards):
    """A table's headings, labels and texts, as `stages.write_table` takes them."""
    table = experiment.tables[wildcards.table]
    options = {"groups": table.groups, "rows": table.rows, "columns": table.columns, "references": table.references}
    options |= {"title": table.title, "note": table.note}
    if table.reported:
        options |= {"paper": table.reported.file, "table": table.reported.table, "comparable": table.comparable}
    return commands.flags(options)


def get_reported(wildcards):
    reported = experiment.tables[wildcards.table].reported
    return reported.digest if reported else "nothing"


def get_figures_of(table):
    """The figures of a table, in the order of the config."""
    return [f"results/figures/{name}.png" for name, figure in experiment.figures.items() if figure.table == table]


def get_figure_options(wildcards):
    figure = experiment.figures[wildcards.figure]
    references = experiment.tables[figure.table].references
    lines = {"over": figure.over, "x": figure.x} if figure.kind == "lines" else {}
    return commands.flags({**lines, "y": figure.y, "references": references})


def get_common_figures():
    """The figures of every experiment: curves only where something was trained."""
    curves = ["results/figures/training-curves.png"] if experiment.trained else []
    pictures = [f"results/figures/clusters/{name}.png" for name in experiment.cluster_pictures]
    return ["results/figures/comparison.png", *curves, *pictures]


def get_figures():
    """The figures of the experiment: common ones, and those of its tables."""
    return [*get_common_figures(), *(f"results/figures/{name}.png" for name in experiment.figures)]


def get_claims():
    """The claims about tables, as `stages.judge_claims` takes them."""
    return " ".join(
        commands.flags({"claim": [c.text, f"results/tables/{c.table}.csv", c.margin, c.better, *c.worse]})
        for c in experiment.claims
    )


def get_sections():
    """The results page's parts, as `stages.results_page` takes them: the tables, each with its figures, and the rest."""
    comparison = ["results/tables/comparison.md", *get_common_figures()]
    head = {"about": experiment.about} if experiment.about else {}
    claims = {"claims": "results/tables/claims.md"} if experiment.claims else {}
    return " ".join(
        [
            *(commands.flags({name: value}) for name, value in {**head, **claims}.items()),
            *(commands.flags({"table": get_section(table)}) for table in experiment.tables),
            commands.flags({"comparison": comparison}),
        ]
    )


def get_section(table):
    return [
        experiment.tables[table].heading,
        f"results/tables/{table}.md",
        f"results/tables/{table}.csv",
        *get_figures_of(table),
    ]


def get_histories(wildcards):
    """Those of the encoders that were trained here; one for a student and a teacher trained along."""
    return [f"results/encoders/{name}/history.csv" for name in experiment.trained]


def get_clustering(wildcards):
    """The clusters and the val images that a cluster picture shows."""
    dataset = get_encoder(wildcards).dataset
    evaluation = experiment.pictured(wildcards.encoder)[0]
    return {
        "assignments": tracked(f"results/clusters/{wildcards.encoder}/{dataset}-{evaluation}.h5"),
        "images": get_pack(dataset, "val"),
    }


def any_of(names):
    """A wildcard's constraint: one of these names, or nothing at all where there is none."""
    return "|".join(map(re.escape, names)) or r"(?!)"


wildcard_constraints:
    dataset=any_of(experiment.datasets),
    evaluation=any_of(experiment.evaluations),
