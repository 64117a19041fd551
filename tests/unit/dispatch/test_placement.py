"""Who starts, where and in which order, and what those who wait are told. No database, no cluster."""

from __future__ import annotations

import itertools
import random

import pytest

from service.dispatch.backend import Needs
from service.dispatch.fake_backend import node
from service.dispatch.placement import Occupied, Plan, Waiting, plan
from service.dispatch.words import Quota

NOW = 1_000_000.0
_ages = itertools.count()


def job(id: str, project: str = "p", **given) -> Waiting:
    needs = Needs(**{"cpus": 1, **given.pop("needs", {})})
    return Waiting(**{"id": id, "project": project, "priority": 0, "created_at": next(_ages), "needs": needs, **given})


def live(project: str = "p", on: str | None = "a", **needs) -> Occupied:
    return Occupied(project, Needs(**{"cpus": 1, **needs}), on)


def make(nodes, waiting, occupied=(), quotas=None, **given) -> Plan:
    return plan(nodes, occupied, waiting, quotas or {}, now=NOW, **given)


def started(*args, **given) -> list[str]:
    return [one.id for one in make(*args, **given).starts]


# ------------------------------------------------------------------------------------------------- order


def test_the_higher_priority_goes_first_whatever_the_age_and_the_project():
    jobs = [job("old"), job("urgent", "q", priority=5), job("low", priority=-1)]
    assert started([node("a", cpus=1)], jobs) == ["urgent"]
    assert started([node("a", cpus=2)], jobs) == ["urgent", "old"]


def test_within_a_project_the_oldest_goes_first():
    assert started([node("a", cpus=2)], [job("1"), job("2"), job("3")]) == ["1", "2"]


def test_the_project_with_the_smaller_share_goes_first():
    jobs = [job("p1", "p"), job("p2", "p"), job("q1", "q")]
    assert started([node("a", cpus=3)], jobs, [live("p"), live("p")]) == ["q1"]


def test_two_projects_take_turns_though_one_queued_all_its_jobs_earlier():
    jobs = [job(f"p{i}", "p") for i in range(4)] + [job(f"q{i}", "q") for i in range(4)]
    assert started([node("a", cpus=4)], jobs) == ["p0", "q0", "p1", "q1"]


def test_the_share_that_counts_is_that_of_the_scarcer_kind():
    """One of 2 GPUs is more than 2 of 16 CPUs."""
    occupied = [live("gpus", gpus=1), live("cpus", cpus=2)]
    jobs = [job("g", "gpus", needs={"gpus": 1}), job("c", "cpus", needs={"gpus": 1})]
    assert started([node("a", cpus=16, gpus=2)], jobs, occupied) == ["c"]


def test_a_project_whose_job_waits_for_room_has_had_its_turn():
    """Else all jobs of the project with the smallest share would come before those of the others."""
    jobs = [job("p0", "p", needs={"cpus": 4}), job("p1", "p", needs={"cpus": 4}), job("q0", "q")]
    nodes = [node("a", cpus=4), node("b", cpus=4)]
    assert started(nodes, jobs, [live("q", on="a"), live("q", on="b")]) == ["q0"]


# ------------------------------------------------------------------------------------------------- room


def test_a_job_of_one_process_needs_its_cpus_on_one_node():
    nodes = [node("a", cpus=4), node("b", cpus=4)]
    made = make(nodes, [job("big", needs={"cpus": 4})], [live(on="a"), live(on="b")])
    assert made.starts == []
    assert made.reasons["big"] == "waits for 4 CPUs: 6 of 8 free but not together"


def test_processes_that_train_together_may_be_on_several_nodes():
    pair = job("pair", needs={"cpus": 4, "processes": 2})
    nodes = [node("a", cpus=3), node("b", cpus=3)]
    assert started(nodes, [pair]) == ["pair"]
    assert started(nodes, [pair], [live(on="a", cpus=2)]) == []


def test_gpus_of_several_nodes_count_together_for_as_many_processes():
    four = job("four", needs={"cpus": 4, "gpus": 4, "processes": 4})
    assert started([node("a", cpus=8, gpus=2), node("b", cpus=8, gpus=2)], [four]) == ["four"]
    assert started([node("a", cpus=8, gpus=2), node("b", cpus=8, gpus=2)], [four], [live(on="b", gpus=1)]) == []


def test_halves_of_two_gpus_are_no_whole_one():
    """Whether they are on two nodes or two GPUs of one."""
    whole = job("whole", needs={"gpus": 1})
    halves = [live(on="a", gpus=0.6), live(on="b", gpus=0.6)]
    assert started([node("a", cpus=8, gpus=1), node("b", cpus=8, gpus=1)], [whole], halves) == []
    halves = [live(on="a", gpus=0.6), live(on="a", gpus=0.6)]
    assert started([node("a", cpus=8, gpus=2)], [whole], halves) == []


def test_shares_are_packed_so_that_whole_gpus_stay_free():
    jobs = [job(str(i), needs={"gpus": 0.5}) for i in range(2)] + [job("whole", needs={"gpus": 1})]
    assert started([node("a", cpus=8, gpus=2)], jobs) == ["0", "1", "whole"]


def test_thirds_fill_a_gpu_and_no_fourth_fits():
    jobs = [job(str(i), needs={"gpus": 0.33}) for i in range(4)]
    assert started([node("a", cpus=8, gpus=1)], jobs) == ["0", "1", "2"]


def test_after_a_failed_start_only_a_gpu_that_surely_nobody_shares_will_do():
    """Shares may lie otherwise than assumed here: Ray does not tell where they are."""
    halves = [live(gpus=0.5), live(gpus=0.5)]
    assert started([node("a", cpus=8, gpus=2)], [job("1", needs={"gpus": 1}, alone=True)], halves) == []
    assert started([node("a", cpus=8, gpus=3)], [job("1", needs={"gpus": 1}, alone=True)], halves) == ["1"]


def test_memory_is_counted_where_a_job_asks_for_it():
    jobs = [job("1", needs={"memory": 6}), job("2", needs={"memory": 6}), job("none")]
    made = make([node("a", cpus=8, memory=10)], jobs)
    assert [one.id for one in made.starts] == ["1", "none"]
    assert made.reasons == {"2": "waits for 6 GiB of memory: 4 of 10 free"}


def test_attempts_of_which_nobody_knows_where_they_are_count_all_the_same():
    nodes = [node("a", cpus=2), node("b", cpus=2)]
    somewhere = [live(on=None, cpus=2), live(on="a-node-that-is-gone")]
    assert started(nodes, [job("1"), job("2")], somewhere) == ["1"]


def test_a_node_that_is_away_holds_nothing():
    assert started([node("a", cpus=1), node("b", cpus=8, alive=False)], [job("1"), job("2")]) == ["1"]


def nodes_of(nodes, waiting, occupied=()) -> list[str | None]:
    chosen = []

    def seat(one, fitting):
        chosen.append(fitting[0] if fitting else None)
        return chosen[-1]

    make(nodes, waiting, occupied, seat=seat)
    return chosen


def test_jobs_without_gpus_keep_away_from_nodes_with_gpus():
    nodes = [node("gpu", cpus=4, gpus=2), node("plain", cpus=4)]
    assert nodes_of(nodes, [job(str(i)) for i in range(5)]) == ["plain"] * 4 + ["gpu"]


def test_small_jobs_go_where_least_is_left_so_that_large_ones_find_room():
    nodes = [node("a", cpus=4), node("b", cpus=4)]
    assert nodes_of(nodes, [job("small"), job("large", needs={"cpus": 4})], [live(on="b")]) == ["b", "a"]


def test_a_job_goes_elsewhere_than_where_its_last_attempt_was_lost():
    nodes = [node("a", cpus=4), node("b", cpus=4)]
    assert nodes_of(nodes, [job("1", avoid="a")], [live(on="a")]) == ["b"]
    assert nodes_of(nodes[:1], [job("1", avoid="a")]) == ["a"]


# ------------------------------------------------------------------------------------------------- waiting


def test_what_a_large_job_lacks_is_kept_for_it():
    """On one node: the others go on with small jobs."""
    nodes = [node("a", cpus=4), node("b", cpus=4)]
    occupied = [live(on="a", cpus=1), live(on="b", cpus=2)]
    jobs = [job("large", needs={"cpus": 4}), *(job(str(i)) for i in range(4))]
    made = make(nodes, jobs, occupied)
    assert [one.id for one in made.starts] == ["0", "1"]
    assert made.reasons["2"] == "waits for 1 CPU: 3 of 8 free but kept for jobs ahead, 1 job ahead"


def test_a_job_that_waits_for_a_gpu_holds_up_no_job_that_needs_none():
    nodes = [node("a", cpus=4, gpus=1)]
    jobs = [job("gpu", needs={"gpus": 1}), job("plain")]
    assert started(nodes, jobs, [live(gpus=1)]) == ["plain"]


def test_a_free_gpu_is_kept_for_the_job_that_still_lacks_cpus():
    nodes = [node("a", cpus=4, gpus=1)]
    jobs = [job("first", needs={"cpus": 4, "gpus": 1}), job("second", needs={"gpus": 0.5})]
    assert started(nodes, jobs, [live()]) == []


def test_a_job_of_several_processes_keeps_what_is_there_and_what_it_lacks():
    nodes = [node("a", cpus=2), node("b", cpus=2), node("c", cpus=2), node("too small", cpus=1)]
    jobs = [job("pair", needs={"cpus": 4, "processes": 2}), *(job(str(i)) for i in range(3))]
    occupied = [live(on="b"), live(on="c", cpus=2)]
    assert started(nodes, jobs, occupied) == ["0"]


@pytest.mark.parametrize("seed", range(20))
def test_no_job_starves_and_nothing_is_handed_out_twice(seed):
    """Ever new small jobs of another project arrive while large ones wait; jobs end at random."""
    rng = random.Random(seed)
    nodes = [node("a", cpus=4, gpus=2, memory=16), node("b", cpus=8, memory=32), node("c", cpus=8, gpus=4, memory=64)]
    shapes = [{"cpus": 8}, {"cpus": 4, "gpus": 4, "processes": 4}, {"gpus": 1, "memory": 40}, {"cpus": 2, "gpus": 0.5}]
    wanted = [job(f"large{i}", "large", needs=needs) for i, needs in enumerate(shapes * 2)]
    running: list[tuple[str, Occupied]] = []
    queue = list(wanted)
    for round_ in range(400):
        queue += [
            job(f"small{round_}-{i}", "small", needs=rng.choice([{}, {"gpus": 0.25}, {"gpus": 1}, {"memory": 8}]))
            for i in range(3)
        ]
        seats: dict[str, str | None] = {}

        def seat(one, fitting, seats=seats):
            seats[one.id] = fitting[0] if fitting else None
            return seats[one.id]

        made = make(nodes, queue, [one for _, one in running], seat=seat)
        running += [(one.id, Occupied(one.project, one.needs, seats[one.id])) for one in made.starts]
        begun = {one.id for one in made.starts}
        queue = [one for one in queue if one.id not in begun]
        assert_nothing_twice(nodes, [one for _, one in running])
        if not any(one.project == "large" for one in queue):
            return
        running = [one for one in running if rng.random() < 0.8]
    pytest.fail(f"still waiting: {[one.id for one in queue if one.project == 'large']}")


def assert_nothing_twice(nodes, occupied):
    for kind in ("cpus", "gpus", "memory"):
        total = sum(getattr(one, kind) for one in nodes)
        assert sum(getattr(one.needs, kind) or 0 for one in occupied) <= total + 1e-6
        for place in nodes:
            here = [one.needs for one in occupied if one.node == place.id]
            assert sum(getattr(needs, kind) or 0 for needs in here) <= getattr(place, kind) + 1e-6


# ------------------------------------------------------------------------------------------------- quotas


def test_a_project_runs_no_more_jobs_than_its_quota_and_others_pass():
    jobs = [job("p0", "cells"), job("p1", "cells"), job("q0", "q")]
    made = make([node("a", cpus=8)], jobs, [live("cells")], {"cells": Quota(jobs=2)})
    assert [one.id for one in made.starts] == ["q0", "p0"]
    assert made.reasons == {"p1": "project cells has its 2 jobs running (quota)"}


def test_a_project_uses_no_more_gpus_than_its_quota_but_may_run_jobs_without():
    jobs = [job("gpu", "cells", needs={"gpus": 1}), job("half", "cells", needs={"gpus": 0.5}), job("plain", "cells")]
    made = make([node("a", cpus=8, gpus=8)], jobs, [live("cells", gpus=1)], {"cells": Quota(gpus=1.5)})
    assert [one.id for one in made.starts] == ["half", "plain"]
    assert made.reasons["gpu"] == "project cells uses 1 of its 1.5 GPUs (quota), and this job needs 1"


def test_a_job_that_only_its_quota_holds_up_keeps_no_room():
    jobs = [job("large", "cells", needs={"cpus": 8}), job("small", "q")]
    assert started([node("a", cpus=8)], jobs, [live("cells")], {"cells": Quota(jobs=1)}) == ["small"]


def test_a_quota_of_none_at_all_is_said_so():
    made = make([node("a", cpus=8)], [job("1", "cells")], quotas={"cells": Quota(jobs=0)})
    assert made.reasons == {"1": "project cells may run no jobs (quota)"}


# ------------------------------------------------------------------------------------------------- words


def test_every_job_that_waits_says_for_what_and_behind_how_many():
    jobs = [job(str(i), needs={"gpus": 1}) for i in range(3)] + [job("half", needs={"gpus": 0.5})]
    made = make([node("a", cpus=8, gpus=2)], jobs, [live(gpus=1), live(gpus=1)])
    assert list(made.reasons.values()) == [
        "waits for 1 GPU: 0 of 2 free",
        "waits for 1 GPU: 0 of 2 free, 1 job ahead",
        "waits for 1 GPU: 0 of 2 free, 2 jobs ahead",
        "waits for 0.5 of a GPU: 0 of 2 free, 3 jobs ahead",
    ]


def test_a_job_that_pauses_after_a_fault_says_until_when_and_lets_others_pass():
    jobs = [job("1", not_before=NOW + 5, last_cause="the disk is full"), job("2")]
    made = make([node("a", cpus=1)], jobs)
    assert [one.id for one in made.starts] == ["2"]
    assert made.reasons == {"1": "tries again at 13:46:45 UTC; the last attempt ended: the disk is full"}


@pytest.mark.parametrize(
    ("needs", "nodes", "why"),
    [
        ({"cpus": 9}, [node("a", cpus=8)], "needs 9 CPUs and there are 8: lower resources.cpus"),
        ({"cpus": 9}, [node("a", cpus=8), node("b", cpus=4)], "needs 9 CPUs and the largest node has 8"),
        ({"gpus": 1}, [node("a", cpus=8)], "needs 1 GPU and there is none: set resources.gpus to 0"),
        (
            {"cpus": 4, "gpus": 4, "processes": 4},
            [node("a", cpus=8, gpus=1), node("b", cpus=8, gpus=1)],
            "needs 4 GPUs and there are 2: set resources.gpus to 2",
        ),
        ({"memory": 100}, [node("a", cpus=8)], "needs 100 GiB of memory and there are 64: lower resources.memory"),
        (
            {"cpus": 8, "gpus": 1},
            [node("a", cpus=8), node("b", cpus=4, gpus=1)],
            "needs 1 GPU and 8 CPUs, and no node has all of it",
        ),
    ],
)
def test_a_job_that_no_node_could_hold_says_what_to_change_and_holds_up_nobody(needs, nodes, why):
    made = make(nodes, [job("large", needs=needs), job("small")])
    assert made.too_large["large"].startswith(why)
    assert [one.id for one in made.starts] == ["small"]
    assert "large" not in made.reasons
