"""Measure what an encoder costs: parameters, multiply-adds, and how fast it is on the machine at hand.

    python -m stages.cost --weights student.safetensors --teacher weights.safetensors --dataset digits \\
        --metrics cost.json

All of the backbone alone, at the encoder's own input size. "FLOPs" are multiply-adds, as papers count them (4.1 G for a
ResNet-50, Table 1 of SimDis), those of convolutions and matrix products. The speed is that of the forward pass in
evaluation, without reading images: the median of several batches, after some that are not timed. With --teacher, how
many times as many parameters and FLOPs the teacher has.
"""

import dataclasses
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from stages import gpus
from stages.command_line import add_metrics_arguments, add_options, parser_of, read_options, run
from stages.errors import UserError, at_least

if TYPE_CHECKING:
    import torch

    from stages.architectures import Encoder

WARM_UP = 3
"""Batches before those that are timed, in which memory is found and kernels are chosen."""

UNITS = {
    "parameters": "M",
    "flops": "G",
    "dimension": "",
    "size": "px",
    "images_per_s": "images/s",
    "training_images_per_s": "images/s",
    "parameter_ratio": "",
    "flops_ratio": "",
}


@dataclasses.dataclass(frozen=True)
class Options:
    batch_size: Annotated[int, "images at a time, for the speed"] = 64
    batches: Annotated[int, "how many are timed"] = 10
    dtype: Annotated[Literal["float32", "bfloat16", "float16"], "numbers that the speed is measured with"] = "float32"

    def __post_init__(self) -> None:
        at_least(1, batch_size=self.batch_size, batches=self.batches)


def main(argv: Sequence[str] | None = None) -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the encoder's weights")
    parser.add_argument("--teacher", type=Path, help="the weights of its teacher, to compare with")
    parser.add_argument("--history", type=Path, help="the CSV of its training, if it was trained here")
    parser.add_argument("--dataset", required=True, help="the dataset in whose table this is to stand")
    add_metrics_arguments(parser, "cost")
    add_options(parser, Options)
    arguments = parser.parse_args(argv)

    from stages import architectures
    from stages.artifacts.metrics import metrics_of, write_metrics
    from stages.artifacts.weights import read_card

    start = time.monotonic()
    options = read_options(Options, arguments)
    encoder, card = architectures.read(arguments.weights)
    own = size_of(encoder)
    values = dict(own)
    if arguments.teacher:
        teacher = read_card(arguments.teacher)
        whole = size_of(architectures.build(teacher.architecture, teacher.contract))
        values["parameter_ratio"] = whole["parameters"] / own["parameters"]
        values["flops_ratio"] = whole["flops"] / own["flops"]
    device = gpus.device()
    values["images_per_s"] = speed(encoder, device, options)
    if arguments.history and (epochs := speeds_of(arguments.history)):
        values["training_images_per_s"] = statistics.median(epochs)
    metrics = metrics_of(
        card,
        arguments.dataset,
        {"train": 0, "val": 0},
        evaluation=arguments.name,
        protocol="the backbone at its own image size; FLOPs: multiply-adds of one image; images/s: forward "
        f"passes of {options.batch_size} images, {options.dtype}, the median of {options.batches}; in training: the "
        "median epoch",
        values=values,
        options=dataclasses.asdict(options),
        start=start,
        units={name: UNITS[name] for name in values},
        notes={"device": name_of(device)},
    )
    write_metrics(arguments.metrics, metrics)


def size_of(encoder: "Encoder") -> dict[str, float]:
    """The backbone's parameters in millions, its multiply-adds for an image in billions, its embeddings' dimension, and
    the size of its images, which two encoders in one table need not share.
    """
    return {
        "parameters": sum(parameter.numel() for parameter in encoder.backbone.parameters()) / 1e6,
        "flops": multiply_adds(encoder) / 1e9,
        "dimension": encoder.dimension,
        "size": encoder.contract.size,
    }


def multiply_adds(encoder: "Encoder") -> int:
    """Those of the convolutions and matrix products of one image's forward pass."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    size = encoder.contract.size
    counter = FlopCounterMode(display=False)
    # A fused attention kernel of the CPU would not be counted: in plain matrix products it is.
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
        encoder.eval()(torch.zeros(1, 3, size, size))
    # torch counts a multiplication and an addition each.
    return counter.get_total_flops() // 2


def speed(encoder: "Encoder", device: "torch.device", options: Options) -> float:
    """Images a second, of random images: the median batch."""
    import torch

    from stages.progress import track

    dtype: torch.dtype = getattr(torch, options.dtype)
    encoder.eval().to(device, dtype)
    size = encoder.contract.size
    images = torch.rand(options.batch_size, 3, size, size).to(device, dtype)
    seconds = []
    with torch.inference_mode():
        rounds = WARM_UP + options.batches
        for _ in track(range(rounds), f"timing at {size} pixels", total=rounds, unit="batches"):
            start = time.perf_counter()
            encoder(images)
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
    return options.batch_size / statistics.median(seconds[WARM_UP:])


def speeds_of(history: Path) -> list[float]:
    """The images a second of each epoch; nothing of what took none."""
    from stages.artifacts.rows import finite, read_rows

    rows = read_rows(history, ("images_per_second",), "pretrain or distill")
    try:
        return [finite(row["images_per_second"]) for row in rows]
    except ValueError as error:
        raise UserError(f"{history}: not a whole history ({error}); run the training that wrote it again") from None


def name_of(device: "torch.device") -> str:
    """A GPU's name; of a CPU, its kind and how many threads are used."""
    import platform

    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"{platform.machine()} CPU, {threads} thread{'s' if threads > 1 else ''}"


if __name__ == "__main__":
    run(main)
