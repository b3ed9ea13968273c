"""Randomness as a function of position.

Before anything random happens, the generators are seeded by what it is for: the run's seed and the step, or the epoch
and the image. So there is no generator state to save, a run continued in the middle goes on exactly as it would have,
and the number of loading processes changes nothing.
"""

import hashlib
import struct

import torch


def seed_of(*position: int) -> int:
    """A 63-bit seed for a position: well mixed, so that neighbouring positions have unrelated randomness."""
    packed = struct.pack(f"<{len(position)}q", *position)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little") >> 1


def seed_here(*position: int) -> None:
    """Seed torch's generators, on all devices, for this position."""
    torch.manual_seed(seed_of(*position))


def seed_cpu_here(*position: int) -> None:
    """Seed the CPU's generator alone, for each image: to tell the GPUs' as well takes a tenth of an image's time."""
    torch.default_generator.manual_seed(seed_of(*position))


def first_position(seed: int, generation: int) -> tuple[int, int]:
    """Where an encoder's first weights are drawn: a place of each generation's, which no step has.

    Without it, a student of its teacher's architecture and seed would start from what its teacher started from.
    """
    return seed, -1 - generation


def view_position(number: int, image: int) -> tuple[int, int, int]:
    """The position of a view of an image that is the same in every run: the seeds of these are from 0 on."""
    return -1, number, image


def permutation(length: int, *position: int) -> list[int]:
    """A random order of ``range(length)`` that belongs to this position."""
    order: list[int] = torch.randperm(length, generator=torch.Generator().manual_seed(seed_of(*position))).tolist()
    return order
