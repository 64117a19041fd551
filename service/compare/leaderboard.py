"""What is best so far: groups over seeds, side by side where their AP means the same."""

from __future__ import annotations

from collections.abc import Mapping

from service.compare.compare import Group, Matched, build
from service.compare.costs import RunCost, build_costs
from service.compare.schemas import Board, BoardRow, ComparisonOut, GroupCost, LeaderboardOut

ROWS = 8  # of a board


def build_leaderboard(matched: Matched, costs: Mapping[str, RunCost], runs: int) -> LeaderboardOut:
    """One board for each protocol, the one with the newest run first; the best mean first within a board."""
    compared = {one.label: one for one in build(matched).comparisons}
    priced = {(one.label, one.role, one.protocol): one for one in build_costs(matched, costs).groups}
    by_protocol: dict[str, list[Group]] = {}
    for group in matched.groups:
        by_protocol.setdefault(group.protocol, []).append(group)
    boards = []
    for protocol, groups in by_protocol.items():
        rows = [
            _row(group, compared.get(group.label), priced[group.label, group.role, group.protocol]) for group in groups
        ]
        rows.sort(key=lambda row: (-row.mean, row.label))
        newest = max((run.job for group in groups for run in group.runs), key=lambda job: job.created_at)
        board = Board(protocol=protocol, data=newest.dataset, groups=len(rows), rows=rows[:ROWS])
        boards.append((newest.created_at, board))
    boards.sort(key=lambda one: -one[0])
    return LeaderboardOut(boards=[board for _, board in boards], runs=runs)


def _row(group: Group, comparison: ComparisonOut | None, cost: GroupCost) -> BoardRow:
    summary = group.summary
    return BoardRow(
        label=group.label,
        role=group.role,
        job_ids=[run.job.id for run in group.runs],
        n=summary.n,
        mean=summary.mean or 0.0,
        std=summary.std,
        difference=comparison.mean if comparison is not None else None,
        verdict=comparison.verdict if comparison is not None else None,
        gap_closed=comparison.gap_closed if comparison is not None else None,
        parameters=cost.parameters,
        latencies=cost.latencies,
    )
