"""Train an encoder without a teacher: self-supervised, supervised, or not at all.

    python -m stages.pretrain --method simclr --name teacher --architecture resnet18 --train train.h5 \\
        --augmentation affine-elastic --size 32 --epochs 60 --batch-size 256 --learning-rate 0.3 \\
        --weights weights.safetensors --heads heads.safetensors --history history.csv --checkpoints checkpoints/teacher

Killed or asked to terminate, it goes on from its last checkpoint when started again with the same arguments, and ends
with the weights of an unbroken run.
"""

from collections.abc import Sequence

from stages.command_line import add_plugin, parser_of, read_options, run
from stages.training.failure import first_to_fail
from stages.training.flags import add_training_arguments


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    add_training_arguments(parser)
    method = add_plugin(parser, argv, "stages.pretraining", "method")
    arguments = parser.parse_args(argv)

    from stages import architectures, plugins, pretraining
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

    seed_here(*first_position(arguments.seed, 0))
    encoder = architectures.build(arguments.architecture, InputContract.named(arguments.size, arguments.normalisation))
    objective = plugins.class_in(method, pretraining.Pretraining)(encoder, options, len(pack.classes))
    accelerate(objective, options)
    if getattr(method, "LABELS", "") == "one":
        pack.single_labels()

    history = train_encoder(arguments, objective, training, pack, augmentation)

    origin = {"way": "pretrain", "method": arguments.label or arguments.method}
    write_encoder(arguments, encoder, objective.heads(), pack, history, origin)
    training.checkpoint.remove()


if __name__ == "__main__":
    run(main, first_to_fail)
