"""Train a student and its teacher at once, each from scratch: the teacher by itself, the student by it.

    python -m stages.distill_online --method simdis-on --name student --architecture resnet18 --train train.h5 \\
        --teacher-name teacher --teacher-architecture resnet50 --augmentation byol --size 224 \\
        --weights student/weights.safetensors --heads student/heads.safetensors --history student/history.csv \\
        --teacher-weights teacher/weights.safetensors --teacher-heads teacher/heads.safetensors \\
        --teacher-history teacher/history.csv --checkpoints checkpoints/student

Two encoders come out, each with its files; the history is of both. Killed or asked to terminate, it goes on from its
last checkpoint when started again with the same arguments, and ends with the weights of an unbroken run.
"""

from collections.abc import Sequence

from stages.command_line import add_plugin, output, parser_of, read_options, run
from stages.training.failure import first_to_fail
from stages.training.flags import add_training_arguments


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    add_training_arguments(parser)
    parser.add_argument("--teacher-name", required=True, help="the teacher's name in files and tables")
    parser.add_argument("--teacher-architecture", required=True, help="the teacher's, such as resnet50")
    parser.add_argument("--teacher-weights", type=output, required=True, help="the teacher's weights to write")
    parser.add_argument("--teacher-heads", type=output, required=True, help="what else of its training, to write")
    parser.add_argument("--teacher-history", type=output, required=True, help="the same history, to write beside it")
    method = add_plugin(parser, argv, "stages.distillation", "method")
    arguments = parser.parse_args(argv)
    if getattr(method, "TEACHER", "embeddings") != "online":
        parser.error(f"{arguments.method} learns from a teacher that has been trained: python -m stages.distill")

    from stages import architectures, distillation, plugins
    from stages.artifacts.weights import InputContract
    from stages.datasets import augmentations
    from stages.datasets.packed import read_pack
    from stages.training.acceleration import accelerate
    from stages.training.arguments import train_encoder, training_of, write_encoder
    from stages.training.position import first_position, seed_here

    options = read_options(method.Options, arguments)
    pack = read_pack(arguments.train)
    augmentation = augmentations.named(arguments.augmentation, arguments.size)
    training = training_of(arguments, options, pack)

    contract = InputContract.named(arguments.size, arguments.normalisation)
    seed_here(*first_position(arguments.seed, 1))
    student = architectures.build(arguments.architecture, contract)
    # The same teacher whichever student learns from it.
    seed_here(*first_position(arguments.seed, 0))
    teacher = architectures.build(arguments.teacher_architecture, contract)
    objective = plugins.class_in(method, distillation.Distillation)(
        student, distillation.Setting(teacher.dimension, len(pack), teacher=teacher), options
    )
    accelerate(objective, options)

    history = train_encoder(arguments, objective, training, pack, augmentation)

    label = arguments.label or arguments.method
    origin = {"way": "pretrain", "method": label, "student_architecture": arguments.architecture}
    write_encoder(arguments, teacher, objective.teacher_heads(), pack, history, origin, prefix="teacher_")
    origin = {
        "way": "distill",
        "method": label,
        "teacher": arguments.teacher_name,
        "teacher_architecture": arguments.teacher_architecture,
        "generation": 1,
    }
    write_encoder(arguments, student, objective.heads(), pack, history, origin)
    training.checkpoint.remove()


if __name__ == "__main__":
    run(main, first_to_fail)
