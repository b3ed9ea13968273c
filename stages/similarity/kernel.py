"""The similarity loss's sums on a GPU, by Triton, for ``precision: half``: operands in half, all sums in single.

Rounding to half (11 significant bits) puts an error of at most 2**-10 on the similarity of unit vectors, of 7e-5 in
practice, and 1 / temperature times that on a logit. Nothing is added atomically: a result is the same each time.

Anchors go by in chunks. `_weigh` computes a tile of both logits and leaves the weights under the tile's own maximum,
with what the loss needs of them; `_collect` multiplies the chunk's weights by its anchors. Each block of rows so reads
the teacher's anchors once and the student's three times, and what is held beside the sums is two matrices [B, CHUNK] in
half precision. The traffic in bytes is in docs/performance.md.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from stages.similarity.fused import Problem, Sums

CHUNK = 32_768
TILE = tl.constexpr(128)
"""Anchors whose weights share a maximum."""
ROWS = tl.constexpr(128)
DEPTH = tl.constexpr(64)
"""Dimensions at once."""
STEP = tl.constexpr(64)
"""Anchors at once, of a tile."""
LOWEST = tl.constexpr(-3.0e38)
PROGRAMS = 256
"""At least so many run at once where the work allows, to fill a GPU."""
LAUNCH = {"num_warps": 8, "num_stages": 2, "enable_fp_fusion": True}
"""Fused multiply-adds are named, as Triton 3.10 is to change its default, and with it the results."""


def sums(problem: Problem, chunk: int = CHUNK) -> Sums:
    """The sums over all anchors; ``chunk``, a multiple of the tile, of them at a time."""
    count, dimension = problem.student.shape
    anchors = len(problem.student_anchors)
    near, far = problem.student_anchors.contiguous(), problem.teacher_anchors.contiguous()
    student, teacher = problem.student.half().contiguous(), problem.teacher.half().contiguous()
    new = problem.student.new_empty
    # Of every tile: both maxima, both totals, the cross term.
    tiles = new(5, count, triton.cdiv(anchors, TILE.value))
    weights = new(2, count, min(chunk, anchors), dtype=torch.float16)
    row_blocks, depth_blocks = triton.cdiv(count, ROWS.value), triton.cdiv(dimension, DEPTH.value)
    splits = triton.cdiv(PROGRAMS, 2 * row_blocks * depth_blocks) if problem.with_gradient else 1
    outputs = torch.zeros_like(new(splits, 2, count, dimension if problem.with_gradient else 0))
    shift = torch.full_like(tiles[:2, :, 0], LOWEST.value)
    for start in range(0, anchors, chunk):
        size = min(chunk, anchors - start)
        _weigh[row_blocks, triton.cdiv(size, TILE.value)](
            student,
            near,
            teacher,
            far,
            weights,
            tiles,
            count,
            anchors,
            student.shape[1],
            teacher.shape[1],
            start,
            weights.shape[2],
            tiles.shape[2],
            1 / problem.temperatures[0],
            1 / problem.temperatures[1],
            problem.leave_out_own,
            **LAUNCH,
        )
        first = start // TILE.value
        of_chunk = tiles[:2, :, first : first + triton.cdiv(size, TILE.value)].amax(dim=2)
        before, shift = shift, torch.maximum(shift, of_chunk)
        if problem.with_gradient:
            _collect[row_blocks, depth_blocks, 2 * splits](
                weights,
                tiles,
                near,
                before,
                shift,
                outputs,
                count,
                size,
                dimension,
                start,
                weights.shape[2],
                tiles.shape[2],
                splits,
                **LAUNCH,
            )
    return _combined(tiles, shift, outputs.sum(dim=0))


def _combined(tiles: Tensor, shift: Tensor, output: Tensor) -> Sums:
    """The sums from those of the tiles [5, B, tiles], under the maximum ``shift`` [2, B] of all."""
    scales = torch.exp(tiles[:2] - shift[..., None])
    return Sums(shift, (tiles[2:4] * scales).sum(dim=2), (tiles[4] * scales[1]).sum(dim=1), output)


@triton.jit
def _product(queries, anchors, rows, columns, count, total, dimension):  # type: ignore[no-untyped-def]
    """Inner products [ROWS, TILE] of the queries at ``rows`` with the anchors at ``columns``."""
    products = tl.zeros((ROWS, TILE), tl.float32)
    for start in range(0, dimension, DEPTH):
        at = start + tl.arange(0, DEPTH)
        inside = at < dimension
        query = tl.load(
            queries + rows[:, None] * dimension + at[None, :],
            mask=(rows < count)[:, None] & inside[None, :],
            other=0.0,
        )
        anchor = tl.load(
            anchors + columns[None, :] * dimension + at[:, None],
            mask=(columns < total)[None, :] & inside[:, None],
            other=0.0,
        )
        products = tl.dot(query, anchor.to(tl.float16), products)
    return products


@triton.jit(do_not_specialize=["count"])  # type: ignore[untyped-decorator]
def _weigh(  # type: ignore[no-untyped-def]
    student,
    student_anchors,
    teacher,
    teacher_anchors,
    weights,
    tiles,
    count,
    total,
    student_dimension,
    teacher_dimension,
    start,
    chunk,
    tile_count,
    student_factor,
    teacher_factor,
    LEAVE_OUT_OWN: tl.constexpr,  # noqa: N803
):
    """One tile: weights [2, count, chunk], and of each row the maxima, totals and cross term, tiles [5, count, ...]."""
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    slots = tl.program_id(1) * TILE + tl.arange(0, TILE)
    columns = (start + slots).to(tl.int64)
    near = _product(student, student_anchors, rows, columns, count, total, student_dimension) * student_factor
    far = _product(teacher, teacher_anchors, rows, columns, count, total, teacher_dimension) * teacher_factor
    counted = (columns < total)[None, :] & (rows < count)[:, None]
    if LEAVE_OUT_OWN:
        counted = counted & (rows[:, None] != columns[None, :])
    tile = start // TILE + tl.program_id(1)
    own_tile = tiles + rows * tile_count + tile
    own_weights = weights + rows[:, None] * chunk + slots[None, :]
    side = count.to(tl.int64) * tile_count
    near_max = tl.maximum(tl.max(tl.where(counted, near, LOWEST), 1), LOWEST)
    far_max = tl.maximum(tl.max(tl.where(counted, far, LOWEST), 1), LOWEST)
    near_weight = tl.exp(tl.where(counted, near - near_max[:, None], LOWEST))
    far_weight = tl.exp(tl.where(counted, far - far_max[:, None], LOWEST))
    known = rows < count
    tl.store(own_tile, near_max, mask=known)
    tl.store(own_tile + side, far_max, mask=known)
    tl.store(own_tile + 2 * side, tl.sum(near_weight, 1), mask=known)
    tl.store(own_tile + 3 * side, tl.sum(far_weight, 1), mask=known)
    tl.store(own_tile + 4 * side, tl.sum(far_weight * (far - near), 1), mask=known)
    written = known[:, None] & (slots < chunk)[None, :]
    tl.store(own_weights, near_weight.to(tl.float16), mask=written)
    tl.store(own_weights + count.to(tl.int64) * chunk, far_weight.to(tl.float16), mask=written)


@triton.jit(do_not_specialize=["count", "size"])
def _collect(  # type: ignore[no-untyped-def]
    weights,
    tiles,
    anchors,
    before,
    shift,
    outputs,
    count,
    size,
    dimension,
    start,
    chunk,
    tile_count,
    splits,
):
    """Add a split of the chunk's weights times anchors to outputs [splits, 2, count, dimension], under ``shift``."""
    rows = (tl.program_id(0) * ROWS + tl.arange(0, ROWS)).to(tl.int64)
    at = tl.program_id(1) * DEPTH + tl.arange(0, DEPTH)
    split, side = tl.program_id(2) // 2, (tl.program_id(2) % 2).to(tl.int64)
    known, inside = rows < count, at < dimension
    own_row = side * count + rows
    own_shift = tl.load(shift + own_row, mask=known, other=0.0)
    own_before = tl.load(before + own_row, mask=known, other=0.0)
    per_split = tl.cdiv(tl.cdiv(size, STEP), splits)
    collected = tl.zeros((ROWS, DEPTH), tl.float32)
    for step in range(split * per_split, tl.minimum((split + 1) * per_split, tl.cdiv(size, STEP))):
        slots = step * STEP + tl.arange(0, STEP)
        here = slots < size
        weight = tl.load(
            weights + own_row[:, None] * chunk + slots[None, :], mask=known[:, None] & here[None, :], other=0.0
        )
        anchor = tl.load(
            anchors + (start + slots).to(tl.int64)[:, None] * dimension + at[None, :],
            mask=here[:, None] & inside[None, :],
            other=0.0,
        )
        tile = (start + step * STEP) // TILE
        highest = tl.load(tiles + own_row * tile_count + tile, mask=known, other=0.0)
        collected += tl.dot(weight, anchor.to(tl.float16)) * tl.exp(highest - own_shift)[:, None]
    own = outputs + ((split * 2 + side) * count + rows)[:, None] * dimension + at[None, :]
    mask = known[:, None] & inside[None, :]
    earlier = tl.load(own, mask=mask, other=0.0)
    tl.store(own, earlier * tl.exp(own_before - own_shift)[:, None] + collected, mask=mask)
