"""Every ready-made table can be kept as it is, and says what its files say."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcd.spec import parse_spec
from service.cli.files import read_values
from service.cli.tables import read_manifest
from service.tables.manifest import cells, parse_manifest

FOLDER = Path(__file__).parents[3] / "recipes" / "tables"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_has_no_faults(path: Path) -> None:
    manifest = parse_manifest(read_manifest(path))
    assert len(list(cells(manifest))) == len(manifest.students) * len(manifest.methods) * len(manifest.seeds)
    assert f"`tables/{path.name}`" in (FOLDER.parent / "README.md").read_text()


@pytest.mark.parametrize("student", ["18", "34", "50"])
@pytest.mark.parametrize(("method", "ending"), [("labels", ""), ("ld", "-ld"), ("bckd", "-bckd")])
def test_cells_of_the_published_table_are_the_published_recipes(student: str, method: str, ending: str) -> None:
    manifest = parse_manifest(read_manifest(FOLDER / "gfl-bckd.yaml"))
    (cell,) = [one for one in cells(manifest) if (one.student, one.method, one.seed) == (f"R{student}", method, 0)]
    recipe = parse_spec(read_values(FOLDER.parent / "published" / f"gfl-r{student}-1x{ending}.yaml"))
    mine, theirs = cell.spec.canonical(), recipe.canonical()
    for spec in (mine, theirs):
        for block in ("name", "resources"):
            spec.pop(block)
        spec["data"].pop("root")  # made absolute when it is read
        if spec["teacher"]:
            spec["teacher"].pop("path")
    assert mine == theirs


def test_the_digits_table_trains_the_demo_student() -> None:
    manifest = parse_manifest(read_manifest(FOLDER / "digits.yaml"))
    mine = next(iter(cells(manifest))).spec.canonical()
    theirs = parse_spec(read_values(FOLDER.parent / "demo-baseline.yaml")).canonical()
    assert {key: mine[key] for key in ("student", "data", "schedule")} == {
        key: theirs[key] for key in ("student", "data", "schedule")
    }
