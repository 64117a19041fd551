"""A comparison in tables: every figure and every judging word as the service gave it."""

from __future__ import annotations

from service.cli.render_compare import comparison
from tests.unit.cli.helpers import text_of, words


def group(role: str, label: str, aps: dict[int, float], std: float | None) -> dict:
    jobs = [
        {"id": f"{role}{seed}", "name": role, "seed": seed, "AP": ap, "AP50": 60.0, "AP75": 40.0, "APs": None,
         "APm": 30.0, "APl": 50.0}
        for seed, ap in aps.items()
    ]  # fmt: skip
    return {
        "role": role,
        "label": label,
        "jobs": jobs,
        "n": len(jobs),
        "mean": sum(aps.values()) / len(aps),
        "std": std,
    }


def answer(**changes) -> dict:
    one = {
        "label": "bckd gfl-tiny-8", "baseline_label": "baseline gfl-tiny-8", "n": 3, "mean": -0.29, "low": -2.84,
        "high": 2.25, "verdict": "no clear difference", "gap_closed": -0.07, "sentence": "No clear difference at all.",
        "differences": [{"seed": 0, "value": -0.3}, {"seed": 1, "value": 0.7}, {"seed": 2, "value": -1.27}],
    }  # fmt: skip
    groups = [
        group("distilled", "bckd gfl-tiny-8", {0: 6.1, 1: 8.6, 2: 6.7}, 1.3),
        group("baseline", "baseline gfl-tiny-8", {0: 6.4, 1: 7.9, 2: 8.0}, 0.9),
        group("teacher", "teacher gfl-tiny-16", {0: 11.5}, None),
    ]
    return {"metric": "AP", "groups": groups, "comparisons": [{**one, **changes}], "warnings": []}


def test_the_tables_read_from_teacher_to_difference():
    assert words(text_of(*comparison(answer(), details=False))) == [
        ["seeds", "AP", "sd", "seed", "0", "seed", "1", "seed", "2"],
        ["teacher", "gfl-tiny-16", "1", "11.5", "-", "11.5", "-", "-"],
        ["baseline", "gfl-tiny-8", "3", "7.4", "0.9", "6.4", "7.9", "8.0"],
        ["bckd", "gfl-tiny-8", "3", "7.1", "1.3", "6.1", "8.6", "6.7"],
        ["difference", "3", "-0.3", "-0.3", "+0.7", "-1.3"],
        ["distilled", "against", "diff", "95", "%", "interval", "gap", "closed", "verdict"],
        ["bckd", "gfl-tiny-8", "baseline", "gfl-tiny-8", "-0.3", "-2.8", "to", "+2.2", "-7", "%",
         "no", "clear", "difference"],
        ["No", "clear", "difference", "at", "all."],
    ]  # fmt: skip


def test_the_verdict_is_the_services_word_whatever_the_figures_say():
    text = text_of(*comparison(answer(verdict="worse", mean=5.0, sentence="It is worse.")))
    assert "worse" in text
    assert "better" not in text


def test_what_is_not_known_is_a_dash_and_not_a_zero():
    few = answer(low=None, high=None, gap_closed=None, verdict="not enough seeds")
    row = words(text_of(*comparison(few, details=False)))[6]
    assert row == ["bckd", "gfl-tiny-8", "baseline", "gfl-tiny-8", "-0.3", "-", "-", "not", "enough", "seeds"]


def test_details_show_thresholds_and_sizes():
    rows = words(text_of(*comparison(answer())))
    assert ["teacher", "gfl-tiny-16", "60.0", "40.0", "-", "30.0", "50.0"] in rows


def test_many_seeds_are_told_by_their_range_within_100_columns():
    many = answer()
    many["groups"][0] = group("distilled", "bckd gfl-tiny-8", {seed: 40.0 + seed for seed in range(12)}, 3.6)
    text = text_of(*comparison(many, details=False))
    assert ["bckd", "gfl-tiny-8", "12", "45.5", "3.6", "40.0", "51.0"] in words(text)
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 100


def test_warnings_are_never_left_out():
    warned = {**answer(), "groups": [], "comparisons": [], "warnings": ["job x is failed and is left out"]}
    assert text_of(*comparison(warned)) == "note: job x is failed and is left out\n"
