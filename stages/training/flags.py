"""The arguments that whatever trains an encoder has in common; by themselves, so that help needs no torch."""

import argparse
from pathlib import Path

from stages.artifacts.weights import NORMALISATIONS
from stages.command_line import add_run_arguments, output


def add_training_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--name", required=True, help="the encoder's name in files and tables")
    parser.add_argument("--label", help="the method's name in tables (default: the method)")
    parser.add_argument("--architecture", required=True, help="such as resnet18_x0.5, mobilenet_v2 or timm/NAME")
    parser.add_argument("--train", type=Path, required=True, help="the packed train split")
    parser.add_argument("--augmentation", required=True, help="such as crop-flip or affine-elastic")
    parser.add_argument("--size", type=int, required=True, help="the images' side in pixels, as the encoder sees them")
    parser.add_argument(
        "--normalisation",
        choices=tuple(NORMALISATIONS),
        default="imagenet",
        help="what the encoder does to its images first (default: imagenet)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="of the initialisation, the order and the augmentation (default: 0)"
    )
    parser.add_argument("--weights", type=output, required=True, help="the encoder's weights to write")
    parser.add_argument(
        "--heads", type=output, required=True, help="what else of its training a later method may need, to write"
    )
    parser.add_argument(
        "--history", type=output, required=True, help="the CSV to write: loss, learning rate and speed per epoch"
    )
    add_run_arguments(parser)
