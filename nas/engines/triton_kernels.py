"""The kernels of triton_layers.py, which describes their arguments.

Maps and gradients have the axes (nodes, cohort, batch, height, width, growth). A tile is some rows of images, each
padded to a power of two; a slot is one node that a layer may read. Statistics and sums are float32, or float64 for
float64 maps.
"""

from dataclasses import dataclass

import triton
import triton.language as tl

MIN_DOT = 16  # the least side of a matrix product
INTEGERS = (  # arguments whose values no kernel is compiled for
    "first", "degree", "node", "n_slots", "n_members", "n_rows", "height", "width", "n_repeats", "n_programs",
    "n_nodes", "n_pixels", "n_degrees", "n_inputs", "n_layers",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Cut:
    """How a kernel divides its work; chosen by measurement, and any choice is correct.

    Args:
        pixels: pixels of a tile.
        columns: channels that are read at a time, from one slot or several.
        n_warps, n_stages, max_registers: see triton.Config.
    """

    pixels: int
    columns: int
    n_warps: int = 4
    n_stages: int = 1
    max_registers: int | None = None


CUTS = {  # by kernel, bytes of a number, and whether nodes are narrower than MIN_DOT; tuned on an H200
    ("run", 2, False): Cut(256, 16, n_stages=2),
    ("push", 2, False): Cut(256, 32),
    ("weigh", 2, False): Cut(128, 64),
    ("run", 2, True): Cut(128, 16, max_registers=128),
    ("push", 2, True): Cut(256, 16, max_registers=128),
    ("weigh", 2, True): Cut(128, 32, max_registers=128),
    ("run", 4, False): Cut(128, 32, max_registers=128),
    ("push", 4, False): Cut(128, 64),
    ("weigh", 4, False): Cut(64, 32, n_stages=2),
    ("run", 4, True): Cut(256, 32),
    ("push", 4, True): Cut(256, 32),
    ("weigh", 4, True): Cut(128, 64),
}


@triton.jit
def _place(tile, n_rows, height, width, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Return for each pixel of a tile its row over all images and in its own, its column, and whether it exists."""
    pixel = tl.arange(0, ROWS * COLUMNS)
    row = tile * ROWS + pixel // COLUMNS
    column = pixel % COLUMNS
    return row, row % height, column, (row < n_rows) & (column < width)


@triton.jit
def _find_columns(
    sources, scales, shifts, means, inverses, first, end, member, n_slots, n_members, plane,
    GROWTH: tl.constexpr, CHANNELS: tl.constexpr, SLOTS: tl.constexpr, ALIGNED: tl.constexpr,
):  # fmt: skip
    """Return the start in the maps, BN's factor and offset, and existence of each channel that some slots read."""
    place = tl.arange(0, SLOTS * CHANNELS)
    channel = place % CHANNELS
    slot = first + place // CHANNELS
    exists = slot < end
    if GROWTH < CHANNELS:
        exists &= channel < GROWTH
    at = tl.load(sources + member * n_slots + slot, mask=exists, other=-1)
    exists = tl.max_constancy(at >= 0, GROWTH if GROWTH == CHANNELS else 1)
    at = tl.maximum(at, 0) * n_members + member
    mean = tl.load(means + at * GROWTH + channel, mask=exists, other=0.0)
    inverse = tl.load(inverses + at * GROWTH + channel, mask=exists, other=0.0)
    parameter = (member * n_slots + slot) * GROWTH + channel
    factor = tl.load(scales + parameter, mask=exists, other=0.0) * inverse
    offset = tl.load(shifts + parameter, mask=exists, other=0.0) - mean * factor
    begin = tl.multiple_of(tl.max_contiguous(at * plane + channel, CHANNELS), ALIGNED)
    return begin, factor, offset, exists


@triton.jit
def _activate(x, factor, offset):
    """Apply BN, then ReLU, which passes NaN on as torch's does."""
    return tl.maximum(x * factor[None, :] + offset[None, :], 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _widen(CHANNELS: tl.constexpr, GROWTH: tl.constexpr):
    """Return column and channel of the 3 x CHANNELS products of a kernel's row, padded to 4 x CHANNELS."""
    wide = tl.arange(0, 4 * CHANNELS)
    dx = wide // CHANNELS
    exists = dx < 3
    if GROWTH < CHANNELS:
        exists &= wide % CHANNELS < GROWTH
    return dx, wide % CHANNELS, exists


@triton.jit(do_not_specialize=INTEGERS)
def run_layer(
    maps, sources, scales, shifts, means, inverses, weights, tile_means, tile_squares,
    first, degree, node, n_slots, n_members, n_rows, height, width, n_repeats,
    GROWTH: tl.constexpr, CHANNELS: tl.constexpr, SLOTS: tl.constexpr, WRITTEN: tl.constexpr, ALIGNED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute some tiles of a node, BN-ReLU and convolution; write their mean, and squares about it, too.

    The three columns of the kernel are summed separately, each at the pixel that it reads, and shifted at the end, so
    activations are computed three times rather than nine.
    """
    program, member = tl.program_id(0), tl.program_id(1)
    plane = n_rows.to(tl.int64) * width * GROWTH
    pixel = tl.arange(0, ROWS * COLUMNS)
    channel = tl.arange(0, WRITTEN)
    read = tl.arange(0, SLOTS * CHANNELS)
    n_seen = 0
    mean_seen = tl.zeros((WRITTEN,), SUMS)
    squares_seen = tl.zeros((WRITTEN,), SUMS)
    for repeat in range(n_repeats):
        row, image_row, column, inside = _place(program * n_repeats + repeat, n_rows, height, width, ROWS, COLUMNS)
        left = tl.zeros((ROWS * COLUMNS, WRITTEN), SUMS)
        out = tl.zeros((ROWS * COLUMNS, WRITTEN), SUMS)
        right = tl.zeros((ROWS * COLUMNS, WRITTEN), SUMS)
        for k in range(first, first + degree, SLOTS):
            begin, factor, offset, exists = _find_columns(
                sources, scales, shifts, means, inverses, k, first + degree, member, n_slots, n_members, plane,
                GROWTH, CHANNELS, SLOTS, ALIGNED,
            )  # fmt: skip
            weight = ((member * n_slots + k + read // CHANNELS) * 3 * GROWTH + read % CHANNELS) * 3 * GROWTH
            weight = weight[:, None] + channel[None, :]
            weight_exists = exists[:, None] & (channel < GROWTH)[None, :]
            for dy in tl.static_range(3):
                seen = inside & (image_row + dy >= 1) & (image_row + dy <= height)
                where = ((row + dy - 1) * width + column)[:, None] * GROWTH + begin[None, :]
                x = tl.load(maps + where, mask=seen[:, None] & exists[None, :], other=0.0)
                x = _activate(x.to(SUMS), factor, offset)
                x = tl.where(seen[:, None], x, 0.0).to(maps.dtype.element_ty)
                where = weights + weight + dy * 3 * GROWTH * GROWTH
                w = tl.load(where, mask=weight_exists, other=0.0)
                left = tl.dot(x, w, left, input_precision=PRECISION, out_dtype=SUMS)
                w = tl.load(where + GROWTH, mask=weight_exists, other=0.0)
                out = tl.dot(x, w, out, input_precision=PRECISION, out_dtype=SUMS)
                w = tl.load(where + 2 * GROWTH, mask=weight_exists, other=0.0)
                right = tl.dot(x, w, right, input_precision=PRECISION, out_dtype=SUMS)
        before = tl.broadcast_to(tl.maximum(pixel - 1, 0)[:, None], (ROWS * COLUMNS, WRITTEN))
        after = tl.broadcast_to(tl.minimum(pixel + 1, ROWS * COLUMNS - 1)[:, None], (ROWS * COLUMNS, WRITTEN))
        out += tl.where((column > 0)[:, None], tl.gather(left, before, 0), 0.0)
        out += tl.where((column < width - 1)[:, None], tl.gather(right, after, 0), 0.0)
        kept = inside[:, None] & (channel < GROWTH)[None, :]
        rounded = out.to(maps.dtype.element_ty)
        where = (node.to(tl.int64) * n_members + member) * plane
        where = where + (row * width + column)[:, None] * GROWTH + channel[None, :]
        tl.store(maps + where, rounded, mask=kept)
        # Squares about the mean of each tile, joined by Chan's formula: plain sums of squares would cancel.
        value = tl.where(kept, rounded.to(SUMS), 0.0)
        n_new = tl.maximum(tl.minimum(n_rows - (program * n_repeats + repeat) * ROWS, ROWS), 0) * width
        mean = tl.sum(value, 0) / tl.maximum(n_new, 1)
        deviation = tl.where(kept, value - mean[None, :], 0.0)
        n_both = n_seen + n_new
        step = mean - mean_seen
        share = n_new.to(SUMS) / tl.maximum(n_both, 1).to(SUMS)
        squares_seen += tl.sum(deviation * deviation, 0) + step * step * (n_seen * share)
        mean_seen += step * share
        n_seen = n_both
    where = (program * n_members + member) * GROWTH + channel
    tl.store(tile_means + where, mean_seen, mask=channel < GROWTH)
    tl.store(tile_squares + where, squares_seen, mask=channel < GROWTH)


@triton.jit(do_not_specialize=INTEGERS)
def join_statistics(
    means, variances, inverses, tile_means, tile_squares,
    node, n_members, n_rows, width, n_programs, n_repeats, epsilon,
    GROWTH: tl.constexpr, CHANNELS: tl.constexpr, ROWS: tl.constexpr, PROGRAMS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Compute mean, variance and 1 / standard deviation of a node's channels from those of its tiles."""
    member = tl.program_id(0)
    channel = tl.arange(0, CHANNELS)
    program = tl.arange(0, PROGRAMS)
    exists = (program < n_programs)[:, None] & (channel < GROWTH)[None, :]
    where = (program * n_members + member)[:, None] * GROWTH + channel[None, :]
    mean = tl.load(tile_means + where, mask=exists, other=0.0)
    squares = tl.load(tile_squares + where, mask=exists, other=0.0)
    rows = tl.minimum(tl.maximum(n_rows - program * n_repeats * ROWS, 0), n_repeats * ROWS)
    count = (rows * width).to(SUMS)[:, None]
    n_pixels = (n_rows * width).to(SUMS)
    total = tl.sum(mean * count, 0) / n_pixels
    deviation = tl.where(exists, mean - total[None, :], 0.0)
    variance = (tl.sum(squares, 0) + tl.sum(deviation * deviation * count, 0)) / n_pixels
    where_to = (node * n_members + member) * GROWTH + channel
    tl.store(means + where_to, total, mask=channel < GROWTH)
    tl.store(variances + where_to, variance, mask=channel < GROWTH)
    tl.store(inverses + where_to, 1.0 / tl.sqrt(variance + epsilon), mask=channel < GROWTH)


@triton.jit(do_not_specialize=INTEGERS)
def finish_gradients(
    maps, gradients, means, inverses, node_sums, node, n_nodes, n_members, n_pixels,
    GROWTH: tl.constexpr, CHANNELS: tl.constexpr, PIXELS: tl.constexpr, SUMS: tl.constexpr,
):  # fmt: skip
    """Add the way through its own mean and variance to a node's gradient, once all readers have added theirs."""
    member = tl.program_id(1)
    channel = tl.arange(0, CHANNELS)
    exists = channel < GROWTH
    at = node * n_members + member
    mean = tl.load(means + at * GROWTH + channel, mask=exists, other=0.0)
    inverse = tl.load(inverses + at * GROWTH + channel, mask=exists, other=0.0)
    by_mean = tl.load(node_sums + at * GROWTH + channel, mask=exists, other=0.0)
    at_second = n_nodes * n_members + at
    by_deviation = tl.load(node_sums + at_second * GROWTH + channel, mask=exists, other=0.0)
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    kept = (pixel < n_pixels)[:, None] & exists[None, :]
    where = at.to(tl.int64) * n_pixels * GROWTH + pixel[:, None] * GROWTH + channel[None, :]
    normal = (tl.load(maps + where, mask=kept, other=0.0).to(SUMS) - mean[None, :]) * inverse[None, :]
    by = tl.load(gradients + where, mask=kept, other=0.0).to(SUMS)
    by -= (inverse / n_pixels)[None, :] * (by_mean[None, :] + normal * by_deviation[None, :])
    tl.store(gradients + where, by.to(gradients.dtype.element_ty), mask=kept)


@triton.jit(do_not_specialize=INTEGERS)
def push_gradients(
    maps, gradients, sources, scales, shifts, means, inverses, weights, tile_sums,
    first, degree, node, n_slots, n_members, n_rows, height, width, n_repeats, n_degrees,
    GROWTH: tl.constexpr, CHANNELS: tl.constexpr, SLOTS: tl.constexpr, ALIGNED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add a layer's part to the gradients of its sources in some tiles, except the way through mean and variance.

    Write each slot's sums over these tiles for the gradients of BN's shift and scale to tile_sums.
    """
    program, member = tl.program_id(0), tl.program_id(1)
    plane = n_rows.to(tl.int64) * width * GROWTH
    dx, written, wide_exists = _widen(CHANNELS, GROWTH)
    read = tl.arange(0, SLOTS * CHANNELS)
    own = gradients + (node.to(tl.int64) * n_members + member) * plane
    for k in range(first, first + degree, SLOTS):
        begin, factor, offset, exists = _find_columns(
            sources, scales, shifts, means, inverses, k, first + degree, member, n_slots, n_members, plane,
            GROWTH, CHANNELS, SLOTS, ALIGNED,
        )  # fmt: skip
        weight = ((member * n_slots + k + read // CHANNELS) * 3 * GROWTH + read % CHANNELS) * 3 * GROWTH
        weight = weight[None, :] + (dx * GROWTH + written)[:, None]
        weight_exists = exists[None, :] & wide_exists[:, None]
        by_shift = tl.zeros((SLOTS * CHANNELS,), SUMS)
        by_product = tl.zeros((SLOTS * CHANNELS,), SUMS)
        for repeat in range(n_repeats):
            row, image_row, column, inside = _place(program * n_repeats + repeat, n_rows, height, width, ROWS, COLUMNS)
            from_column = column[:, None] - dx[None, :]
            there = inside[:, None] & wide_exists[None, :] & (from_column >= -1) & (from_column < width - 1)
            where = (row * width + column)[:, None] * GROWTH + ((1 - dx) * GROWTH + written)[None, :]
            by = tl.zeros((ROWS * COLUMNS, SLOTS * CHANNELS), SUMS)
            for dy in tl.static_range(3):
                seen = (image_row - dy >= -1) & (image_row - dy < height - 1)
                y = tl.load(own + where + (1 - dy) * width * GROWTH, mask=there & seen[:, None], other=0.0)
                w = tl.load(weights + weight + dy * 3 * GROWTH * GROWTH, mask=weight_exists, other=0.0)
                by = tl.dot(y, w, by, input_precision=PRECISION, out_dtype=SUMS)
            kept = inside[:, None] & exists[None, :]
            where = (row * width + column)[:, None] * GROWTH + begin[None, :]
            x = tl.load(maps + where, mask=kept, other=0.0).to(SUMS)
            by = tl.where(x * factor[None, :] + offset[None, :] <= 0, 0.0, by)
            by_shift += tl.sum(by, 0)
            by_product += tl.sum(by * x, 0)
            before = tl.load(gradients + where, mask=kept, other=0.0).to(SUMS)
            tl.store(gradients + where, (before + by * factor[None, :]).to(gradients.dtype.element_ty), mask=kept)
        slot = (program * n_members + member) * n_degrees + k - first + read // CHANNELS
        tl.store(tile_sums + slot * 2 * GROWTH + read % CHANNELS, by_shift, mask=exists)
        tl.store(tile_sums + (slot * 2 + 1) * GROWTH + read % CHANNELS, by_product, mask=exists)


@triton.jit(do_not_specialize=INTEGERS)
def join_sums(
    sums, node_sums, tile_sums, sources, scales, means, inverses,
    first, n_slots, n_members, n_nodes, n_programs, n_degrees,
    GROWTH: tl.constexpr, CHANNELS: tl.constexpr, PROGRAMS: tl.constexpr, SUMS: tl.constexpr,  # noqa: ARG001
):  # fmt: skip
    """Compute the gradients of a slot's BN from its tiles' sums, and add their effect on the node that it reads."""
    member = tl.program_id(0)
    slot = member * n_slots + first + tl.program_id(1)
    source = tl.load(sources + slot)
    if source >= 0:
        channel = tl.arange(0, CHANNELS)
        exists = channel < GROWTH
        program = tl.arange(0, PROGRAMS)
        where = ((program * n_members + member) * n_degrees + tl.program_id(1))[:, None] * 2 * GROWTH + channel[None, :]
        there = (program < n_programs)[:, None] & exists[None, :]
        by_shift = tl.sum(tl.load(tile_sums + where, mask=there, other=0.0), 0)
        by_product = tl.sum(tl.load(tile_sums + where + GROWTH, mask=there, other=0.0), 0)
        at = (source * n_members + member) * GROWTH + channel
        mean = tl.load(means + at, mask=exists, other=0.0)
        by_scale = (by_product - mean * by_shift) * tl.load(inverses + at, mask=exists, other=0.0)
        where = slot * GROWTH + channel
        scale = tl.load(scales + where, mask=exists, other=0.0)
        tl.store(sums + where, by_shift, mask=exists)
        tl.store(sums + n_members * n_slots * GROWTH + where, by_scale, mask=exists)
        by_mean = tl.load(node_sums + at, mask=exists, other=0.0) + scale * by_shift
        tl.store(node_sums + at, by_mean, mask=exists)
        at += n_nodes * n_members * GROWTH
        by_deviation = tl.load(node_sums + at, mask=exists, other=0.0) + scale * by_scale
        tl.store(node_sums + at, by_deviation, mask=exists)


@triton.jit(do_not_specialize=INTEGERS)
def weigh_gradients(
    maps, gradients, sources, firsts, scales, shifts, means, inverses, parts,
    n_inputs, n_layers, n_slots, n_members, n_rows, height, width, n_repeats,
    GROWTH: tl.constexpr, CHANNELS: tl.constexpr, SLOTS: tl.constexpr, ALIGNED: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, SUMS: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Compute some tiles' part of the gradients of the weights that read some slots."""
    layer, part, member = tl.program_id(0) % n_layers, tl.program_id(1), tl.program_id(2)
    first = tl.load(firsts + layer) + tl.program_id(0) // n_layers * SLOTS
    end = tl.load(firsts + layer + 1)
    if first >= end:  # this layer has fewer slots than others
        return
    plane = n_rows.to(tl.int64) * width * GROWTH
    dx, written, wide_exists = _widen(CHANNELS, GROWTH)
    begin, factor, offset, exists = _find_columns(
        sources, scales, shifts, means, inverses, first, end, member, n_slots, n_members, plane,
        GROWTH, CHANNELS, SLOTS, ALIGNED,
    )  # fmt: skip
    own = gradients + ((n_inputs + layer).to(tl.int64) * n_members + member) * plane
    above = tl.zeros((SLOTS * CHANNELS, 4 * CHANNELS), SUMS)
    level = tl.zeros((SLOTS * CHANNELS, 4 * CHANNELS), SUMS)
    below = tl.zeros((SLOTS * CHANNELS, 4 * CHANNELS), SUMS)
    for repeat in range(n_repeats):
        row, image_row, column, inside = _place(part * n_repeats + repeat, n_rows, height, width, ROWS, COLUMNS)
        where = (row * width + column)[:, None] * GROWTH + begin[None, :]
        x = tl.load(maps + where, mask=inside[:, None] & exists[None, :], other=0.0)
        x = _activate(x.to(SUMS), factor, offset)
        x = tl.trans(tl.where(inside[:, None], x, 0.0).to(maps.dtype.element_ty))
        from_column = column[:, None] - dx[None, :]
        there = inside[:, None] & wide_exists[None, :] & (from_column >= -1) & (from_column < width - 1)
        where = (row * width + column)[:, None] * GROWTH + ((1 - dx) * GROWTH + written)[None, :]
        y = tl.load(own + where + width * GROWTH, mask=there & (image_row < height - 1)[:, None], other=0.0)
        above = tl.dot(x, y, above, input_precision=PRECISION, out_dtype=SUMS)
        y = tl.load(own + where, mask=there, other=0.0)
        level = tl.dot(x, y, level, input_precision=PRECISION, out_dtype=SUMS)
        y = tl.load(own + where - width * GROWTH, mask=there & (image_row > 0)[:, None], other=0.0)
        below = tl.dot(x, y, below, input_precision=PRECISION, out_dtype=SUMS)
    read = tl.arange(0, SLOTS * CHANNELS)
    slot = ((part * n_members + member).to(tl.int64) * n_slots + first + read // CHANNELS) * 3 * GROWTH
    where = ((slot + read % CHANNELS) * 3 * GROWTH)[:, None] + (dx * GROWTH + written)[None, :]
    kept = ((first + read // CHANNELS < end) & (read % CHANNELS < GROWTH))[:, None] & wide_exists[None, :]
    tl.store(parts + where, above, mask=kept)
    tl.store(parts + where + 3 * GROWTH * GROWTH, level, mask=kept)
    tl.store(parts + where + 6 * GROWTH * GROWTH, below, mask=kept)
