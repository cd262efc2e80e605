"""Versions and commit: those of what is installed, and nothing of what is not."""

import platform
import re

import networkx as nx

from nas.settings.environment import describe_versions


def test_installed_packages_are_told_and_others_left_out() -> None:
    found = describe_versions(("networkx", "no-such-package"))
    assert set(found) == {"python", "networkx", "skipsearch", "commit"}
    assert (found["python"], found["networkx"]) == (platform.python_version(), nx.__version__)
    assert re.fullmatch(r"unknown|[0-9a-f]{12,40}(-dirty)?", found["commit"])
