"""One tree of real processes for all tests of a file."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.installation import PATIENCE, Installation, eventually, free_ports, spec

__all__ = ["PATIENCE", "Installation", "eventually", "free_ports", "installation", "spec"]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    installation = Installation(tmp_path_factory.mktemp("home"))
    with installation.tree as tree:
        tree.wait_ready(PATIENCE)
        yield installation
    assert tree.processes() == []
