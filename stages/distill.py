"""Train a student to keep a teacher's neighbourhoods, from cached teacher embeddings or with the teacher at hand.

    python -m stages.distill --method compress-2q --name student --architecture mobilenet_v2 --train train.h5 \\
        --teacher-embeddings teacher-train.h5 --augmentation affine-elastic --size 32 --epochs 40 \\
        --schedule cosine --queue-length 1024 --weights student.safetensors --heads student-heads.safetensors \\
        --history student.csv --checkpoints checkpoints/student

With --teacher-embeddings the teacher has seen each image once, unaugmented; with --teacher-weights it sees the same
augmented view as the student, at the cost of its forward pass; with --teacher-views it has seen several views of each
image (stages.embed --view), and the student sees these in turn, one an epoch. Methods that learn from the teacher's
projections take --teacher-heads with any of these, those that run its networks with its weights, and those that learn
from the clusters of its embeddings --teacher-assignments. Killed or asked to terminate, it goes on from its last
checkpoint when started again with the same arguments, and ends with the weights of an unbroken run.
"""

from collections.abc import Sequence
from pathlib import Path

from stages.command_line import add_plugin, parser_of, read_options, run
from stages.training.failure import first_to_fail
from stages.training.flags import add_training_arguments

TAKEN: dict[str, tuple[tuple[str, ...], ...]] = {
    "embeddings": (("embeddings",), ("views",), ("weights",)),
    "projections": (("embeddings", "heads"), ("views", "heads"), ("weights", "heads")),
    "assignments": (("assignments",),),
    "networks": (("weights", "heads"),),
}
"""By which files a method can be given its teacher, by what it learns from."""


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    add_training_arguments(parser)
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--teacher-embeddings", type=Path, help="the teacher's cache of the same train split")
    either.add_argument(
        "--teacher-views", type=Path, nargs="+", help="its caches of the augmentation's views 0, 1, ..."
    )
    either.add_argument("--teacher-weights", type=Path, help="the teacher's weights, to embed every augmented view")
    either.add_argument("--teacher-assignments", type=Path, help="the clusters of the teacher's train embeddings")
    parser.add_argument(
        "--teacher-heads", type=Path, help="beside weights or embeddings, what else its training has left"
    )
    method = add_plugin(parser, argv, "stages.distillation", "method")
    arguments = parser.parse_args(argv)
    options = read_options(method.Options, arguments)
    kind = getattr(method, "TEACHER", "embeddings")
    if kind == "online":
        parser.error(f"{arguments.method} trains its teacher along: python -m stages.distill_online")
    if getattr(options, "teacher_head", False):
        kind = "projections"
    names = ("embeddings", "views", "weights", "assignments", "heads")
    files = {name: path for name in names if (path := getattr(arguments, f"teacher_{name}")) is not None}
    if set(files) not in map(set, TAKEN[kind]):
        ways = (" and ".join(f"--teacher-{name}" for name in way) for way in TAKEN[kind])
        parser.error(f"{arguments.method} takes its teacher by {' or '.join(ways)}")

    import dataclasses

    from stages import architectures, distillation, plugins
    from stages.artifacts.weights import InputContract
    from stages.datasets import augmentations
    from stages.datasets.packed import read_pack
    from stages.training.acceleration import accelerate
    from stages.training.arguments import train_encoder, training_of, write_encoder
    from stages.training.batches import Batch
    from stages.training.position import first_position, seed_here
    from stages.training.teacher import teacher_from

    pack = read_pack(arguments.train)
    augmentation = augmentations.named(arguments.augmentation, arguments.size)
    teacher = teacher_from(kind, files, pack, arguments.size, options, arguments.augmentation)
    training = training_of(arguments, options, pack, teacher.identity)
    generation = 1 + teacher.card.generation

    seed_here(*first_position(arguments.seed, generation))
    student = architectures.build(arguments.architecture, InputContract.named(arguments.size, arguments.normalisation))
    objective = plugins.class_in(method, distillation.Distillation)(
        student, distillation.Setting(teacher.dimension, len(pack), teacher.clusters, teacher.networks), options
    )
    accelerate(objective, options)
    teacher.to(training.device)

    def prepare(batch: Batch) -> Batch:
        augmented = batch.augmented(augmentation, training.device)
        return dataclasses.replace(augmented, frozen_output=teacher(augmented))

    history = train_encoder(arguments, objective, training, pack, augmentation, prepare, teacher.views)

    label = arguments.label or arguments.method
    origin = {"way": "distill", "method": label, "teacher": teacher.card.name, "generation": generation}
    write_encoder(arguments, student, objective.heads(), pack, history, origin)
    training.checkpoint.remove()


if __name__ == "__main__":
    run(main, first_to_fail)
