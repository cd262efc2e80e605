"""Arrays of bytes in a record: as they were packed, and refused where they are anything else."""

import base64
import zlib
from typing import Any

import pytest

from nas.records.safe_files import pack_bytes, unpack_bytes
from search_spaces.errors import InputError


def test_an_array_is_unpacked_as_it_was_packed() -> None:
    content = bytes(range(240))
    assert unpack_bytes(pack_bytes(content, (4, 60)), 240) == (content, (4, 60))


def compress(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content)).decode()


@pytest.mark.parametrize(
    "packed",
    [
        None,
        [],
        {"shape": [2, 2]},
        {"shape": [2, -2], "zlib": compress(bytes(4))},
        {"shape": [2, True], "zlib": compress(bytes(2))},
        {"shape": [2, 2.0], "zlib": compress(bytes(4))},
        {"shape": [2, 2], "zlib": compress(bytes(5))},
        {"shape": [2, 2], "zlib": compress(bytes(3))},
        {"shape": [2, 2], "zlib": compress(bytes(10**7))},
        {"shape": [2, 2], "zlib": "AAAA"},
        {"shape": [2, 2], "zlib": "no base 64 at all"},
        {"shape": [2, 2], "zlib": 3},
        {"shape": 4, "zlib": compress(bytes(4))},
        {"shape": [200, 2], "zlib": compress(bytes(400))},
    ],
)
def test_what_no_program_of_ours_packed_is_refused(packed: Any) -> None:
    with pytest.raises(InputError, match="at most 100 bytes"):
        unpack_bytes(packed, 100)
