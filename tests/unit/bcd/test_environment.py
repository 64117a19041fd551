"""The commit that a run reports is that of the code that runs, and of no other checkout around it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import bcd
from bcd.environment import git_commit


@pytest.fixture(autouse=True)
def afresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("BCD_GIT_COMMIT", raising=False)
    git_commit.cache_clear()
    yield
    git_commit.cache_clear()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository with this package in it, which counts as the running one."""
    root = tmp_path / "checkout"
    (root / "bcd").mkdir(parents=True)
    shutil.copy(bcd.__file__, root / "bcd" / "__init__.py")
    git(root, "init", "--quiet")
    git(root, "add", ".")
    git(root, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", "one")
    monkeypatch.setattr(bcd, "__file__", str(root / "bcd" / "__init__.py"))
    return root


def git(root: Path, *command: str) -> str:
    return subprocess.run(["git", "-C", str(root), *command], check=True, capture_output=True, text=True).stdout.strip()


def test_a_checkout_tells_its_commit(checkout):
    assert git_commit() == git(checkout, "rev-parse", "HEAD")


def test_a_checkout_whose_code_was_changed_says_so(checkout):
    with (checkout / "bcd" / "__init__.py").open("a") as file:
        file.write("# changed\n")
    assert git_commit() == git(checkout, "rev-parse", "HEAD") + "+changed"


def test_an_installation_inside_another_checkout_is_not_taken_for_it(checkout, monkeypatch):
    site = checkout / "env" / "site-packages" / "bcd"
    site.mkdir(parents=True)
    monkeypatch.setattr(bcd, "__file__", str(site / "__init__.py"))
    assert git_commit() != git(checkout, "rev-parse", "HEAD")


def test_an_image_without_a_checkout_names_its_commit_in_the_environment(checkout, monkeypatch):
    monkeypatch.setenv("BCD_GIT_COMMIT", "f" * 40)
    assert git_commit() == "f" * 40
