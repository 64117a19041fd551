"""Which queued jobs start now and where, and why the others wait. Knows no database and no cluster.

Order: priority, then the project with the smaller share of what is in use (of CPUs or GPUs, whichever it has more of;
a job counts from its turn on, also while it waits), then age. A job of one process must fit one node, others process
by process. A job whose turn has come and that does not fit keeps what it lacks on the node nearest to having it, and
its GPU, so that smaller and later jobs cannot starve it. A job that waits for its project's quota, for the pause after
a fault, or for a node that is not there keeps nothing.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from service.dispatch.backend import Needs, NodeInfo
from service.dispatch.rooms import KINDS, Room, of_each_process, place
from service.dispatch.words import MANY, Count, Quota, amount, behind_many, clock_time, over_quota, why_too_large


@dataclass(frozen=True)
class Occupied:
    """A live attempt. `node` is None where nobody knows or several are meant."""

    project: str
    needs: Needs
    node: str | None = None


@dataclass(frozen=True)
class Waiting:
    """A queued job. `last_cause` is what ended its last attempt, after which it pauses until `not_before`.

    `avoid`: the node where that attempt was; `alone`: it did not start there, so trust no layout of shares.
    """

    id: str
    project: str
    priority: int
    created_at: float
    needs: Needs
    not_before: float = 0.0
    last_cause: str = ""
    avoid: str | None = None
    alone: bool = False


@dataclass
class Plan:
    """`starts` in order, `reasons` of those that wait by job id, in order; `too_large` for every node there is."""

    starts: list[Waiting] = field(default_factory=list)
    reasons: dict[str, str] = field(default_factory=dict)
    too_large: dict[str, str] = field(default_factory=dict)


# Of the nodes that fit, the best first, the one that is taken; None: it is not known.
Seat = Callable[[Waiting, Sequence[str]], str | None]


def plan(
    nodes: Sequence[NodeInfo],
    occupied: Iterable[Occupied],
    waiting: Iterable[Waiting],
    quotas: Mapping[str, Quota],
    *,
    now: float,
    seat: Seat = lambda job, nodes: nodes[0] if nodes else None,
) -> Plan:
    planner = _Planner([node for node in nodes if node.alive], quotas, now, seat)
    for one in sorted(occupied, key=lambda one: one.node is None):  # first those of which is known where they are
        planner.occupy(one)
    for job in planner.in_order(waiting):
        planner.decide(job)
    return planner.plan


class _Planner:
    def __init__(self, nodes: Sequence[NodeInfo], quotas: Mapping[str, Quota], now: float, seat: Seat):
        self.plan = Plan()
        self._nodes, self._quotas, self._now, self._seat = nodes, quotas, now, seat
        self._rooms, self._empty = [Room(node) for node in nodes], [Room(node) for node in nodes]
        self._too_large: dict[Needs, str | None] = {}
        self._no_room: set[tuple[Needs, bool]] = set()
        self._total = {
            "cpus": float(sum(node.cpus for node in nodes)),
            "gpus": float(sum(node.gpus for node in nodes)),
            "memory": sum(node.memory for node in nodes),
        }
        self._unused = dict(self._total)
        self._running: dict[str, Count] = defaultdict(Count)  # by project
        self._next: dict[str, Count] = defaultdict(Count)  # wait for their turn or for room
        self._turn: dict[str, dict[str, float]] = defaultdict(lambda: {"cpus": 0.0, "gpus": 0.0})
        self._ahead = 0

    def occupy(self, one: Occupied) -> None:
        needs = one.needs
        rooms = [room for room in self._rooms if room.node.id == one.node and needs.processes == 1]
        place(rooms or self._rooms, needs, force=True)
        self._count(one.project, needs)
        self._take_turn(one.project, needs)

    # ------------------------------------------------------------------------------------------- whose turn

    def in_order(self, waiting: Iterable[Waiting]) -> Iterable[Waiting]:
        """Job after job by whose turn it is. Decide each before you ask for the next one."""
        queues: dict[str, deque[Waiting]] = defaultdict(deque)
        for job in sorted(waiting, key=lambda job: (-job.priority, job.created_at, job.id)):
            queues[job.project].append(job)
        while queues:
            project = min(queues, key=lambda project: self._rank(queues[project][0]))
            yield queues[project].popleft()
            if not queues[project]:
                del queues[project]

    def _rank(self, job: Waiting) -> tuple[float, float, float, str]:
        turn = self._turn[job.project]
        share = max((turn[kind] / self._total[kind] for kind in turn if self._total[kind]), default=0.0)
        return -job.priority, round(share, 9), job.created_at, job.id

    def _take_turn(self, project: str, needs: Needs) -> None:
        self._turn[project]["cpus"] += needs.cpus
        self._turn[project]["gpus"] += needs.gpus

    def _count(self, project: str, needs: Needs) -> None:
        self._running[project].add(needs)
        self._unused["cpus"] -= needs.cpus
        self._unused["gpus"] -= needs.gpus
        self._unused["memory"] -= needs.memory or 0.0

    # ------------------------------------------------------------------------------------------- one job

    def decide(self, job: Waiting) -> None:
        if job.needs not in self._too_large:
            self._too_large[job.needs] = why_too_large(job.needs, self._nodes)
        too_large = self._too_large[job.needs]
        if too_large is not None:
            self.plan.too_large[job.id] = too_large
            return
        reason = self._why_not_yet(job) or over_quota(
            job.project,
            self._quotas.get(job.project, Quota()),
            job.needs,
            self._running[job.project],
            self._next[job.project],
        )
        if reason is not None:
            self.plan.reasons[job.id] = reason
            return
        if (job.needs, job.alone) not in self._no_room and self._start(job):
            self.plan.starts.append(job)
            self._count(job.project, job.needs)
        else:
            self._no_room.add((job.needs, job.alone))  # and room only gets less
            lacking = self._keep_room(job)
            self.plan.reasons[job.id] = self._why_waiting(job, lacking)
            self._next[job.project].add(job.needs)
            self._ahead += 1
        self._take_turn(job.project, job.needs)

    def _why_not_yet(self, job: Waiting) -> str | None:
        if job.not_before <= self._now:
            return None
        return f"tries again at {clock_time(job.not_before)}; the last attempt ended: {job.last_cause}"

    def _start(self, job: Waiting) -> bool:
        if job.needs.processes > 1:
            if not place(self._rooms, job.needs):
                return False
            self._seat(job, ())
            return True
        fitting = [room for room in self._rooms if room.holds(job.needs, alone=job.alone)]
        if not fitting:
            return False
        fitting.sort(key=lambda room: self._preference(job, room))
        chosen = self._seat(job, [room.node.id for room in fitting])
        place([room for room in fitting if room.node.id == chosen] or fitting, job.needs, force=True)
        return True

    def _preference(self, job: Waiting, room: Room) -> tuple[bool, bool, float, float, str]:
        """Not where it just failed; beside GPUs only with need; then where least is left."""
        wasted = room.node.gpus > 0 and not job.needs.gpus
        return room.node.id == job.avoid, wasted, sum(room.gpus), room.cpus, room.node.id

    def _keep_room(self, job: Waiting) -> list[str]:
        """Keep free what the job lacks, where it will most likely get it. Returns the kinds that it lacks."""
        if all(room.cpus < 1 for room in self._rooms):  # nobody can start any more, and nothing need be kept
            no_gpu = job.needs.gpus > self._unused["gpus"] + 1e-6
            return ["gpus" if no_gpu else "cpus"]
        process, lacking = of_each_process(job.needs), list[str]()
        able = [room for room, empty in zip(self._rooms, self._empty, strict=True) if empty.holds(process)]
        for _ in range(job.needs.processes):
            room = min(able, key=lambda room: (room.missing(process), room.node.id))
            lacking += self._keep(room, process, alone=job.alone)
        return sorted(set(lacking), key=KINDS.index)

    def _keep(self, room: Room, process: Needs, *, alone: bool) -> list[str]:
        if room.holds(process, alone=alone):  # one of several that start together
            room.take(process)
            return []
        lacking = room.lacks(process, alone=alone)
        for kind in lacking:
            room.close(kind)
        if "gpus" not in lacking:
            room.take_gpu(process.gpus)
        return lacking

    def _why_waiting(self, job: Waiting, lacking: Sequence[str]) -> str:
        if self._ahead >= MANY:
            return behind_many()
        kind = lacking[0]
        need = getattr(job.needs, kind) or 0.0
        free, total = max(0.0, self._unused[kind]), self._total[kind]
        text = f"waits for {amount(kind, need)}: {free:.4g} of {total:.4g} free"
        if free + 1e-6 >= need:
            text += " but kept for jobs ahead" if self._ahead else " but not together"
        if self._ahead:
            text += f", {self._ahead} {'job' if self._ahead == 1 else 'jobs'} ahead"
        return text
