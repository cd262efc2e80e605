"""Instructions that numba has no name for, for compiled functions: bits of words, and rows of 32 bytes as one value."""

# Rows are LLVM's vectors: any processor has a form of them, in one register or several.

from collections.abc import Callable
from functools import wraps
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

N_LANES = 32  # bytes of a row

_BIT, _BYTE, _SUM, _WIDE, _LONG = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
_BYTES, _SUMS, _WIDES = (ir.VectorType(lane, N_LANES) for lane in (_BYTE, _SUM, _WIDE))
_FIRST = ir.Constant(_WIDE, 0)


class _Vector(types.Type):
    """A value of 32 lanes in compiled functions."""


ROW, SUMS = _Vector("row of 32 bytes"), _Vector("row of 32 sums of 16 bits")  # all unsigned
ARRAY = types.Array(types.uint8, 1, "C")  # what rows are read from and written to


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _BYTES if kind == ROW else _SUMS)  # type: ignore[no-untyped-call]


def _instruction(returned: Any, *taken: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make of a function that emits code for some values one that compiled functions call.

    Args:
        returned: numba's type of the result.
        taken: types of the values; of an array, the function takes the pointer to its first byte.
    """

    def decorate(emit: Callable[..., Any]) -> Any:
        @wraps(emit)  # numba reads the number of values from it
        def declare(_typing: Any, *_kinds: Any) -> Any:
            return returned(*taken), build

        def build(context: Any, builder: Any, _signature: Any, values: Any) -> Any:
            pairs = zip(taken, values, strict=True)
            return emit(
                builder, *(context.make_array(ARRAY)(context, builder, v).data if t == ARRAY else v for t, v in pairs)
            )

        return intrinsic(declare)

    return decorate


def _call(builder: Any, name: str, returned: Any, *values: Any) -> Any:
    """Call one of LLVM's own functions."""
    kind = ir.FunctionType(returned, [value.type for value in values])
    function = cgutils.get_or_insert_function(builder.module, kind, name)  # type: ignore[no-untyped-call]
    return builder.call(function, values)


@_instruction(types.uint64, types.uint64)
def count_zeros(builder: Any, word: Any) -> Any:
    """Return the place of the lowest bit of a word that is not 0."""
    return builder.cttz(word, ir.Constant(_BIT, 1))


@_instruction(types.int64, types.uint64)
def count_bits(builder: Any, word: Any) -> Any:
    """Return the number of bits of a word that are set."""
    return builder.ctpop(word)


@_instruction(ROW, ARRAY, types.uint64)
def load(builder: Any, array: Any, place: Any) -> Any:
    """Return the row that begins at a place of an array; it must end inside."""
    row = builder.load(builder.bitcast(builder.gep(array, [place]), _BYTES.as_pointer()))
    row.align = 1
    return row


@_instruction(types.void, ARRAY, types.uint64, ROW)
def store(builder: Any, array: Any, place: Any, row: Any) -> Any:
    """Write a row to where it begins in an array; it must end inside."""
    written = builder.store(row, builder.bitcast(builder.gep(array, [place]), _BYTES.as_pointer()))
    written.align = 1


@_instruction(ROW, types.uint8)
def fill(builder: Any, byte: Any) -> Any:
    """Return a row of one byte."""
    first = builder.insert_element(ir.Constant(_BYTES, ir.Undefined), byte, _FIRST)
    places = ir.Constant(_WIDES, [0] * N_LANES)
    return builder.shuffle_vector(first, first, places)


@_instruction(ROW, ROW, ROW)
def lesser(builder: Any, row: Any, other: Any) -> Any:
    """Return the lesser byte in each lane."""
    return builder.select(builder.icmp_unsigned("<", row, other), row, other)


@_instruction(ROW, ROW, ROW)
def greater(builder: Any, row: Any, other: Any) -> Any:
    """Return the greater byte in each lane."""
    return builder.select(builder.icmp_unsigned(">", row, other), row, other)


@_instruction(ROW, ROW, ROW)
def keep(builder: Any, row: Any, bits: Any) -> Any:
    """Return a row with only those of its bits that are set in another."""
    return builder.and_(row, bits)


@_instruction(ROW, ROW)
def increase(builder: Any, row: Any) -> Any:
    """Add 1 to each byte below 255."""
    return _call(builder, "llvm.uadd.sat.v32i8", _BYTES, row, ir.Constant(_BYTES, [1] * N_LANES))


@_instruction(ROW, ROW)
def increase_round(builder: Any, row: Any) -> Any:
    """Add 1 to each byte; 255 becomes 0."""
    return builder.add(row, ir.Constant(_BYTES, [1] * N_LANES))


@_instruction(SUMS, ROW)
def widen(builder: Any, row: Any) -> Any:
    """Return the bytes of a row as sums."""
    return builder.zext(row, _SUMS)


@_instruction(SUMS, SUMS, ROW)
def add(builder: Any, sums: Any, row: Any) -> Any:
    """Add a row to sums, lane by lane."""
    return builder.add(sums, builder.zext(row, _SUMS))


@_instruction(types.int64, SUMS)
def total(builder: Any, sums: Any) -> Any:
    """Return the sum of all lanes."""
    return builder.zext(_call(builder, "llvm.vector.reduce.add.v32i32", _WIDE, builder.zext(sums, _WIDES)), _LONG)


@_instruction(types.int64, SUMS)
def first(builder: Any, sums: Any) -> Any:
    """Return the first lane."""
    return builder.zext(builder.extract_element(sums, _FIRST), _LONG)


@_instruction(types.int64, ROW)
def greatest(builder: Any, row: Any) -> Any:
    """Return the greatest byte."""
    return builder.zext(_call(builder, "llvm.vector.reduce.umax.v32i8", _BYTE, row), _LONG)
