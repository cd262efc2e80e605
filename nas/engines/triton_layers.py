"""The layers of a block as Triton kernels for CUDA devices, which read their sources from an index on the device."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.autograd.function import once_differentiable

from nas.engines.layer_operation import EPSILON, Index, LayerOutputs, Parameters, RunningStatistics
from nas.engines.triton_kernels import (
    CUTS,
    MIN_DOT,
    finish_gradients,
    join_statistics,
    join_sums,
    push_gradients,
    run_layer,
    weigh_gradients,
)

MIN_CHANNELS = 4  # least channels of a node, after padding


def run_probe(device: torch.device) -> None:
    """Compile and run the smallest kernel on a device; what it raises says why Triton does not work there."""
    sums = torch.ones(4, 1, device=device)
    join_statistics[(1,)](
        sums[0], sums[1], sums[2], sums[3], sums[3], node=0, n_members=1, n_rows=1, width=1, n_programs=1, n_repeats=1,
        epsilon=EPSILON, GROWTH=1, CHANNELS=MIN_CHANNELS, ROWS=1, PROGRAMS=1, SUMS=tl.float32,
    )  # fmt: skip


N_PROGRAMS, MIN_PROGRAMS = 2048, 64  # over all members, and of each: several for a multiprocessor, few to join
MAX_PARTS = 32  # partial sums of the weights' gradients
FINISHED = 512  # pixels that finish_gradients takes at a time


class _Launch(NamedTuple):
    """Programs of each member, tiles of each program, and what a kernel is compiled for."""

    n_programs: int
    n_repeats: int
    constants: dict[str, Any]


@dataclass(frozen=True)
class _Layers:
    """The layers of one block and the tensors that they read and write.

    Args:
        index: nodes that they read.
        n_inputs: number of the block's input nodes.
        maps: maps of all nodes, (nodes, cohort, batch, height, width, growth).
        scales, shifts: BN's parameters, (cohort, slots, growth).
        weights: (cohort, slots, 3, growth read, 3, growth written), rows of the kernel first.
        means, inverses: mean and 1 / standard deviation of each node's channels, (nodes, cohort, growth).
    """

    index: Index
    n_inputs: int
    maps: Tensor
    scales: Tensor
    shifts: Tensor
    weights: Tensor
    means: Tensor
    inverses: Tensor

    @property
    def n_members(self) -> int:
        return self.maps.shape[1]

    @property
    def n_pixels(self) -> int:
        """Pixels of a node of one member, over all images."""
        return self.maps[0, 0].numel() // self.maps.shape[-1]

    @property
    def shape(self) -> dict[str, int]:
        _, n_members, n_images, height, width, _ = self.maps.shape
        n_slots = self.scales.shape[1]
        sizes = {"n_rows": n_images * height, "height": height, "width": width}
        return {"n_slots": n_slots, "n_members": n_members, **sizes}

    @property
    def reads(self) -> dict[str, Tensor]:
        """Tensors that every kernel over tiles reads."""
        names = ("maps", "scales", "shifts", "means", "inverses")
        return {"sources": self.index.sources, **{name: getattr(self, name) for name in names}}

    @property
    def constants(self) -> dict[str, Any]:
        """Constants that every kernel is compiled for."""
        growth = self.maps.shape[-1]
        channels = max(MIN_CHANNELS, triton.next_power_of_2(growth))
        sums = tl.float64 if self.means.dtype == torch.float64 else tl.float32
        return {"GROWTH": growth, "CHANNELS": channels, "SUMS": sums}

    def cut(self, kernel: str, most: int | None = None) -> _Launch:
        """Divide a kernel's work.

        Args:
            most: most programs of each member; None: as many as keep a device busy.
        """
        _, n_members, n_images, height, width, growth = self.maps.shape
        constants = self.constants
        cut = CUTS[kernel, min(4, self.maps.element_size()), constants["CHANNELS"] < MIN_DOT]
        n_columns = triton.next_power_of_2(width)
        n_rows = max(1, cut.pixels // n_columns)
        n_tiles = triton.cdiv(n_images * height, n_rows)
        n_repeats = triton.cdiv(n_tiles, most or max(MIN_PROGRAMS, N_PROGRAMS // n_members))
        constants |= {
            "SLOTS": triton.cdiv(cut.columns, constants["CHANNELS"]),
            "ALIGNED": growth & -growth,
            "ROWS": n_rows,
            "COLUMNS": n_columns,
            "PRECISION": self._precision,
            "num_warps": cut.n_warps,
            "num_stages": cut.n_stages,
            **({"maxnreg": cut.max_registers} if cut.max_registers else {}),
        }
        return _Launch(triton.cdiv(n_tiles, n_repeats), n_repeats, constants)

    @property
    def _precision(self) -> str:
        """How matrices are multiplied: float32 as TF32 where torch does so for convolutions, else in three parts."""
        if self.maps.dtype != torch.float32:
            return "ieee"
        return "tf32" if torch.backends.cudnn.allow_tf32 else "tf32x3"

    def run(self, variances: Tensor | None, epsilon: float) -> None:
        """Write the maps of all layers.

        Args:
            variances: tensor that the nodes' variances are written to, while means and inverses are updated; None:
                means and inverses are final already.
        """
        n_programs, n_repeats, constants = self.cut("run")
        tiles = self.means.new_empty(2, n_programs, self.n_members, self.maps.shape[-1])
        written = max(MIN_DOT, constants["CHANNELS"])
        shape = self.shape
        for layer, degree in enumerate(self.index.degrees):
            of_node = {"node": self.n_inputs + layer, "n_repeats": n_repeats}
            of_tiles = {"tile_means": tiles[0], "tile_squares": tiles[1]}
            run_layer[(n_programs, self.n_members)](
                **self.reads, **of_tiles, weights=self.weights, first=self._first(layer), degree=degree,
                **of_node, **shape, WRITTEN=written, **constants,
            )  # fmt: skip
            if variances is not None:
                join_statistics[(self.n_members,)](
                    self.means, variances, self.inverses, **of_tiles, **of_node, n_members=self.n_members,
                    n_rows=shape["n_rows"], width=shape["width"], n_programs=n_programs, epsilon=epsilon,
                    ROWS=constants["ROWS"], PROGRAMS=triton.next_power_of_2(n_programs), **self.constants,
                )  # fmt: skip

    def _first(self, layer: int) -> int:
        return sum(self.index.degrees[:layer])

    def differentiate(self, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """Complete the gradients of all nodes; return those of shifts and scales, and those of the weights.

        Args:
            gradients: gradients of the maps, with what reaches each node from outside the block.

        Returns:
            (2, cohort, slots, growth), and the shape of the weights, in the statistics' type.
        """
        n_programs, n_repeats, constants = self.cut("push")
        n_degrees = max(self.index.degrees)
        tile_sums = self.means.new_empty(n_programs, self.n_members, n_degrees, 2, self.maps.shape[-1])
        sums = self.means.new_zeros(2, *self.scales.shape)
        node_sums = self.means.new_zeros(2, *self.means.shape)
        n_layers = len(self.index.degrees)
        for node in range(self.n_inputs + n_layers - 1, -1, -1):
            layer = node - self.n_inputs
            if layer < n_layers - 1:
                self._finish(gradients, node_sums, node)
            if layer < 0:
                continue
            first, degree = self._first(layer), self.index.degrees[layer]
            push_gradients[(n_programs, self.n_members)](
                **self.reads, gradients=gradients, weights=self.weights, tile_sums=tile_sums, first=first,
                degree=degree, node=node, **self.shape, n_repeats=n_repeats, n_degrees=n_degrees, **constants,
            )  # fmt: skip
            join_sums[(self.n_members, degree)](
                sums, node_sums, tile_sums, self.index.sources, self.scales, self.means, self.inverses, first=first,
                n_slots=self.scales.shape[1], n_members=self.n_members, n_nodes=len(self.maps), n_programs=n_programs,
                n_degrees=n_degrees, PROGRAMS=triton.next_power_of_2(n_programs), **self.constants,
            )  # fmt: skip
        return sums, self._weigh(gradients)

    def _finish(self, gradients: Tensor, node_sums: Tensor, node: int) -> None:
        finish_gradients[(triton.cdiv(self.n_pixels, FINISHED), self.n_members)](
            self.maps, gradients, self.means, self.inverses, node_sums, node=node, n_nodes=len(self.maps),
            n_members=self.n_members, n_pixels=self.n_pixels, PIXELS=FINISHED, **self.constants,
        )  # fmt: skip

    def _weigh(self, gradients: Tensor) -> Tensor:
        """Return the gradients of the weights, once those of all nodes are complete."""
        n_parts, n_repeats, constants = self.cut("weigh", MAX_PARTS)
        parts = self.means.new_empty(n_parts, *self.weights.shape)
        n_layers = len(self.index.degrees)
        n_programs = n_layers * triton.cdiv(max(self.index.degrees), constants["SLOTS"])
        weigh_gradients[(n_programs, n_parts, self.n_members)](
            **self.reads, gradients=gradients, firsts=self.index.firsts, parts=parts, n_inputs=self.n_inputs,
            n_layers=n_layers, **self.shape, n_repeats=n_repeats, **constants,
        )  # fmt: skip
        return parts.sum(0)


def run_layers_in_triton(
    inputs: Sequence[Tensor],
    index: Index,
    outputs: Sequence[int],
    parameters: Parameters,
    running: RunningStatistics | None = None,
    epsilon: float = EPSILON,
) -> LayerOutputs:
    """Run every layer of a block as layer_operation.run_layers does, on a CUDA device and inside CUDA graphs.

    Concatenations are never written. Members of a cohort do not affect each other. Inputs in bfloat16 are convolved in
    bfloat16; sums and statistics are float32. Parameters may be float32 all the same, and each gradient has its
    parameter's type.

    Args:
        inputs: the block's input nodes, each (cohort, batch, growth, height, width).
        index: nodes that each layer reads.
        outputs: nodes of layers to return.
        parameters: parameters of each layer; where a member has no source, scale and shift do not matter.
        running: statistics to normalise by, which allow no gradient; None: the batch's own.
        epsilon: number added to variances.
    """
    scales, shifts, weights = parameters
    if running:
        with torch.no_grad():
            groups = zip(*running, scales, shifts, strict=True)
            folded = [_fold_statistics(*group, epsilon) for group in groups]
            tensors = (*inputs, *(factor for factor, _ in folded), *(offset for _, offset in folded), *weights)
            return _run(index, len(inputs), outputs, epsilon, tensors, takes_statistics=False)[1]
    apply = cast(Callable[..., tuple[Tensor, ...]], _TritonLayers.apply)
    mean, variance, *nodes = apply(index, len(inputs), tuple(outputs), epsilon, *inputs, *scales, *shifts, *weights)
    return LayerOutputs(nodes, mean, variance)


def _fold_statistics(
    mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor, epsilon: float
) -> tuple[Tensor, Tensor]:
    """Return BN by given statistics as factor and offset of its input."""
    factor = scale * torch.rsqrt(variance + epsilon)
    return factor, shift - mean * factor


def _as_images(node: Tensor) -> Tensor:
    """View (cohort, batch, height, width, growth) as (cohort, batch, growth, height, width)."""
    return node.permute(0, 1, 4, 2, 3)


def _run(
    index: Index,
    n_inputs: int,
    outputs: Sequence[int],
    epsilon: float,
    tensors: Sequence[Tensor],
    takes_statistics: bool,
) -> tuple[_Layers, LayerOutputs]:
    """Run the layers; return them and their outputs.

    Args:
        tensors: inputs, then scales, shifts and weights of all layers.
        takes_statistics: whether to normalise by the batch; if not, every mean counts as 0, every variance as 1.
    """
    n_layers = len(index.degrees)
    inputs, parameters = tensors[:n_inputs], tensors[n_inputs:]
    scales, shifts, weights = (parameters[k * n_layers : (k + 1) * n_layers] for k in range(3))
    n_members, n_images, growth, height, width = inputs[0].shape
    dtype, sums = inputs[0].dtype, torch.promote_types(inputs[0].dtype, torch.float32)
    maps = inputs[0].new_empty(n_inputs + n_layers, n_members, n_images, height, width, growth)
    for node, x in zip(maps, inputs, strict=False):
        _as_images(node).copy_(x)
    means, variances = maps.new_zeros(2, len(maps), n_members, growth, dtype=sums)
    inverses = torch.ones_like(means)
    if takes_statistics:
        variance, mean = torch.var_mean(maps[:n_inputs].to(sums), dim=(2, 3, 4), correction=0)
        means[:n_inputs], variances[:n_inputs], inverses[:n_inputs] = mean, variance, torch.rsqrt(variance + epsilon)
    by_slot = maps.new_empty(n_members, sum(index.degrees), 3, growth, 3, growth, dtype=dtype)
    for slots, weight in zip(torch.split(by_slot, list(index.degrees), dim=1), weights, strict=True):
        slots.copy_(weight.view(n_members, growth, -1, growth, 3, 3).permute(0, 2, 4, 3, 5, 1))
    by_member = ([part.view(n_members, -1, growth) for part in parts] for parts in (scales, shifts))
    scale, shift = (torch.cat(parts, dim=1).to(sums) for parts in by_member)
    layers = _Layers(index, n_inputs, maps, scale, shift, by_slot, means, inverses)
    layers.run(variances if takes_statistics else None, epsilon)
    mean, variance = (part.transpose(0, 1).flatten(1) for part in (means, variances))
    return layers, LayerOutputs([_as_images(maps[node]) for node in outputs], mean, variance)


class _TritonLayers(torch.autograd.Function):
    """run_layers_in_triton by the batch's statistics, with its gradient."""

    @staticmethod
    def forward(
        ctx: Any, index: Index, n_inputs: int, outputs: tuple[int, ...], epsilon: float, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        layers, (nodes, mean, variance) = _run(index, n_inputs, outputs, epsilon, tensors, takes_statistics=True)
        ctx.index, ctx.outputs, ctx.n_inputs = index, outputs, n_inputs
        saved = (layers.maps, layers.scales, layers.shifts, layers.weights, layers.means, layers.inverses)
        ctx.save_for_backward(*saved, *tensors[n_inputs:])
        ctx.mark_non_differentiable(mean, variance)
        ctx.set_materialize_grads(False)
        return mean, variance, *nodes

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, _mean: None, _variance: None, *by_outputs: Tensor | None) -> tuple[Tensor | None, ...]:
        layers = _Layers(ctx.index, ctx.n_inputs, *ctx.saved_tensors[:6])
        parameters = ctx.saved_tensors[6:]
        gradients = torch.empty_like(layers.maps)
        by_node = dict(zip(ctx.outputs, by_outputs, strict=True))
        for node, gradient in enumerate(gradients):
            outer = by_node.get(node)
            if outer is None:
                gradient.zero_()
            else:
                _as_images(gradient).copy_(outer)
        (by_shifts, by_scales), by_weights = layers.differentiate(gradients)
        degrees = list(ctx.index.degrees)
        by_weights = by_weights.permute(0, 5, 1, 3, 2, 4)  # (cohort, growth, slots, growth read, 3, 3)
        by_layer = [part for by in (by_scales, by_shifts) for part in torch.split(by, degrees, dim=1)]
        by_layer += torch.split(by_weights, degrees, dim=2)
        by_parameters = [by.reshape(like.shape).to(like.dtype) for by, like in zip(by_layer, parameters, strict=True)]
        by_inputs = [_as_images(gradients[node]) for node in range(ctx.n_inputs)]
        return None, None, None, None, *by_inputs, *by_parameters
