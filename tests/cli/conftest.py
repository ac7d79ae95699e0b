"""A directory for tests that become another account."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A directory that every account can look into, which tmp_path is not."""
    path = tempfile.mkdtemp(prefix="postfix-trouble-")
    os.chmod(path, 0o755)
    yield Path(path)
    shutil.rmtree(path)
