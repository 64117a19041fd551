"""Every ready-made sweep can be submitted as it is, once its teacher is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from bcd.spec import SpecError
from bcd.sweep import check, parse_sweep
from service.cli.sweeps import read_sweep

FOLDER = Path(__file__).parents[3] / "recipes" / "sweeps"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_has_no_faults_and_stands_in_the_readme(path: Path):
    assert check(parse_sweep(read_sweep(path, []))) == []
    assert f"`{path.name}`" in (FOLDER / "README.md").read_text()


def test_changes_reach_the_job_that_a_file_names():
    values = read_sweep(FOLDER / "digits-weights.yaml", ["job.teacher.job=job_1", "budget.trials=3"])
    assert values["job"]["teacher"]["job"] == "job_1"
    assert values["job"]["schedule"]["steps"] == 300  # `set` of the file
    assert values["budget"] == {"trials": 3}
    assert "set" not in values


def test_what_cannot_be_set_is_told(tmp_path):
    sweep = tmp_path / "sweep.yaml"
    sweep.write_text("job: {data: {type: voc}}\nset: {data.type.x: 1}\n")
    with pytest.raises(SpecError, match=r"set: data.type.x: data.type is a plain value"):
        read_sweep(sweep, [])
    sweep.write_text("job: {data: {type: voc}}\nset: [1]\n")
    with pytest.raises(SpecError, match="must map paths"):
        read_sweep(sweep, [])
    sweep.write_text("job: nothing.yaml\n")
    with pytest.raises(SpecError, match="no such spec file"):
        read_sweep(sweep, [])
