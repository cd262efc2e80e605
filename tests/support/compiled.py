"""The compiled layers, which tests need or skip."""

import os
import shutil

import pytest

from nas.engines.layer_operation import _is_compiled
from nas.engines.native import load_library


def ensure_compiled() -> None:
    """Skip where there is no compiler; where there is one, a library that cannot be built is a failure."""
    if not load_library():
        if shutil.which(os.environ.get("CXX", "c++")) is None and shutil.which("g++") is None:
            pytest.skip("there is no C++ compiler")
        pytest.fail("the library of the compiled layers was not built: see the log")
    assert _is_compiled()
