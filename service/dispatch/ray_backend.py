"""The Ray cluster as a backend: one detached supervisor actor for each attempt, made early where possible.

Ray's own calls block for a minute when its head is away, so every question begins with a look whether it listens.
"""

from __future__ import annotations

import logging
import os
import secrets
import signal
import socket
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil
import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from bcd.records import TRAINS
from service.auth import attempt_token, sweep_token
from service.dispatch.backend import BackendAway, Launch, Liveness, Needs, NodeInfo, SweepLaunch
from service.settings import Settings
from workers.attempt import AttemptArgs
from workers.supervisor import NAMESPACE, Supervisor
from workers.tune.channel import DriverArgs
from workers.tune.driver import SweepDriver

log = logging.getLogger("bcd.dispatch.ray")

GIB = 2**30
PING_EVERY = 2.0  # seconds between pings of one worker
SOON = 0.4  # seconds between pings of a worker whose attempt has ended: it may be free for the next one
SURPLUS = 20.0  # seconds for which more idle workers than wanted are kept
PING_PATIENCE = 10.0  # seconds after the last answer for which a worker counts as alive


@dataclass
class _Contact:
    """What we last heard of one worker."""

    ping: Any = None  # the ping under way
    start: Any = None  # the start under way
    sent: float = 0.0
    answered: float = float("-inf")
    answer: dict[str, Any] | None = None


class RayBackend:
    """Connected to a running Ray cluster as its driver. One thread at a time."""

    def __init__(self, settings: Settings):
        self._settings = settings
        self._address = settings.ray_head
        self._supervisor = ray.remote(Supervisor)
        self._driver = ray.remote(SweepDriver)
        self._spares: dict[str, Any] = {}  # name -> its warm-up under way, None once it is warm
        self._spare_nodes: dict[str, str] = {}
        self._idle_since: dict[str, float] = {}  # of spares that are not new
        self._contacts: dict[str, _Contact] = {}
        self._nodes: Sequence[NodeInfo] = ()
        self._nodes_at = float("-inf")

    def listening(self) -> bool:
        """Does the head accept connections? Takes well under a millisecond."""
        try:
            with socket.create_connection(self._address, timeout=1.0):
                return True
        except OSError:
            return False

    def connect(self) -> None:
        """Become the cluster's driver. Raises what `ray.init` raises."""
        ray.init(
            address=f"{self._address[0]}:{self._address[1]}",
            namespace=NAMESPACE,
            log_to_driver=False,
            configure_logging=False,
        )

    # ------------------------------------------------------------------------------------------ Backend

    def nodes(self) -> Sequence[NodeInfo]:
        if time.monotonic() - self._nodes_at > 5:
            self._ask()
            found = [_node(row) for row in ray.nodes()]
            if not any(node.alive and node.cpus for node in found):
                raise BackendAway("Ray has no node right now")
            self._nodes, self._nodes_at = found, time.monotonic()
        spares = Counter(node for name, node in self._spare_nodes.items() if name in self._spares)
        return [replace(node, spares=spares[node.id]) for node in self._nodes]

    def warm(self, count: int) -> None:
        for name, warming in list(self._spares.items()):
            if warming is None:
                continue
            done, _ = ray.wait([warming], timeout=0)
            if not done:
                return  # one at a time: importing torch takes a core
            try:
                ray.get(done[0])
                self._spares[name] = None
            except Exception as error:
                log.warning("spare worker %s did not come up: %s", name, error)
                self._take_spare(name)
                return
        self._end_surplus(count)
        # Nor next to an attempt that is still importing: it has a job to do.
        busy = any(contact.answer is None or not contact.answer["ready"] for contact in self._contacts.values())
        if len(self._spares) < count and not busy and self.listening():
            name, nodes = _new_name(), [node for node in self.nodes() if node.alive and node.cpus]
            self._spare_nodes[name] = min(nodes, key=lambda node: (node.spares, node.gpus, node.id)).id
            self._spares[name] = self._actor(name, self._spare_nodes[name]).warm.remote()

    def _end_surplus(self, count: int) -> None:
        """End idle workers beyond those wanted, which have had nothing to do for a while."""
        for name in sorted(set(self._idle_since) & set(self._spares), key=self._idle_since.__getitem__):
            if len(self._spares) > count and time.monotonic() - self._idle_since[name] > SURPLUS:
                self._take_spare(name)
                self.kill(name)

    def _take_spare(self, name: str) -> None:
        self._spares.pop(name, None)
        self._spare_nodes.pop(name, None)
        self._idle_since.pop(name, None)

    def warm_spares(self) -> int:
        """How many idle workers have finished importing."""
        return sum(warming is None for warming in self._spares.values())

    def pick_actor(self, needs: Needs, nodes: Sequence[str], taken: Collection[str]) -> tuple[str, str | None]:
        # Ray reserves when an actor is made, so idle workers serve attempts whose worker reserves nothing.
        if not _reserved(needs.gpus, needs.memory, needs.processes):
            place = {name: nodes.index(node) for name, node in self._spare_nodes.items() if node in nodes}
            idle = [name for name in self._spares if name not in taken and (name in place or not nodes)]
            if idle:
                name = min(idle, key=lambda name: (place.get(name, 0), self._spares[name] is not None))
                return name, self._spare_nodes[name] if nodes else None
        return _new_name(), nodes[0] if nodes else None

    def launch(self, launch: Launch) -> None:
        self._ask()
        self._take_spare(launch.actor)
        reserved = _reserved(launch.gpus, launch.memory, launch.processes)
        args = AttemptArgs(
            attempt_id=launch.attempt_id,
            epoch=launch.epoch,
            api_url=self._settings.worker_api_url,
            storage=self._settings.storage_uri,
            work=str(self._settings.work),
            data_cache=str(self._settings.data_cache),
            token=attempt_token(self._settings, launch.attempt_id, launch.epoch),
            # What was reserved in Ray stays so as long as the process lives: others may need it.
            again=not reserved and launch.processes == 1,
        )
        contact = self._contacts.setdefault(launch.actor, _Contact())
        if contact.answer is not None:
            contact.answer = {**contact.answer, "attempt": launch.attempt_id}  # what it said while it was idle
        contact.start = self._actor(launch.actor, launch.node, **reserved).start.remote(asdict(args))

    def launch_driver(self, launch: SweepLaunch) -> None:
        self._ask()
        args = DriverArgs(
            sweep_id=launch.sweep_id,
            epoch=launch.epoch,
            api_url=self._settings.worker_api_url,
            work=str(self._settings.work),
            token=sweep_token(self._settings, launch.sweep_id, launch.epoch),
        )
        contact = self._contacts.setdefault(launch.actor, _Contact())
        actor = self._driver.options(
            name=launch.actor,
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            num_cpus=0,
            resources={TRAINS: 0.001},
            max_concurrency=8,
            max_restarts=0,
            max_task_retries=0,
        ).remote()
        contact.start = actor.start.remote(asdict(args))

    def liveness(self, actor: str) -> Liveness:
        if not self.listening():
            return "unknown"
        try:
            handle = ray.get_actor(actor, namespace=NAMESPACE)
        except ValueError:  # the head answers, and knows of no such living actor
            self._contacts.pop(actor, None)
            return "dead"
        except Exception as error:
            log.warning("asking for worker %s failed: %s", actor, error)
            return "unknown"
        contact = self._contacts.setdefault(actor, _Contact())
        if self._start_failed(actor, contact):
            self.kill(actor)
            return "dead"
        self._ping(handle, contact)
        return "alive" if time.monotonic() - contact.answered < PING_PATIENCE else "unknown"

    def kill(self, actor: str) -> None:
        if self.listening():
            try:
                ray.kill(ray.get_actor(actor, namespace=NAMESPACE), no_restart=True)
            except Exception as error:
                log.info("worker %s was not there to be ended: %s", actor, error)
        contact = self._contacts.pop(actor, None)
        if contact is not None and contact.answer is not None:
            _kill_here(contact.answer)

    def strays(self, known: set[str]) -> list[str]:
        if not self.listening():
            return []
        names = {
            row["name"] for row in ray.util.list_named_actors(all_namespaces=True) if row["namespace"] == NAMESPACE
        }
        self._contacts = {name: c for name, c in self._contacts.items() if name in names or name in known}
        found = []
        for name in sorted(names - known - set(self._spares)):
            try:
                handle = ray.get_actor(name, namespace=NAMESPACE)
            except ValueError:
                continue
            contact = self._contacts.setdefault(name, _Contact())
            self._ping(handle, contact, every=SOON)
            self._start_failed(name, contact)  # an attempt may have been shorter than a round
            if contact.answer is not None and contact.answer["attempt"] is None and contact.start is None:
                # Left idle by an earlier dispatcher, or done with its attempt.
                self._spares[name] = handle.warm.remote()
                self._spare_nodes[name] = contact.answer["node"]
                self._idle_since[name] = time.monotonic()
            else:
                found.append(name)
        return found

    # ------------------------------------------------------------------------------------------ details

    def _ask(self) -> None:
        if not self.listening():
            raise BackendAway(f"Ray does not answer at {self._address[0]}:{self._address[1]}")

    def _actor(self, name: str, node: str | None, **reserved: float) -> Any:
        options = {"name": name, "namespace": NAMESPACE, "get_if_exists": True, "lifetime": "detached"}
        if node is not None:
            # Elsewhere where the node is gone, or Ray knows that its GPUs are taken.
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=True, _spill_on_unavailable=True)
        # num_cpus=0: what a job occupies is counted in the database, where it survives everything.
        return self._supervisor.options(
            **options,
            **reserved,
            num_cpus=0,
            resources={TRAINS: 0.001},
            max_concurrency=8,
            max_restarts=0,
            max_task_retries=0,
        ).remote()

    def _ping(self, handle: Any, contact: _Contact, *, every: float = PING_EVERY) -> None:
        """Take an answer that has come and ask again from time to time; never waits."""
        now = time.monotonic()
        if contact.ping is not None and ray.wait([contact.ping], timeout=0)[0]:
            try:
                contact.answer, contact.answered = ray.get(contact.ping), now
            except Exception as error:
                log.info("a ping failed: %s", error)
            contact.ping = None
        if contact.ping is None and now - contact.sent > every:
            contact.ping, contact.sent = handle.ping.remote(), now

    def _start_failed(self, actor: str, contact: _Contact) -> bool:
        if contact.start is None or not ray.wait([contact.start], timeout=0)[0]:
            return False
        try:
            right, contact.start = ray.get(contact.start), None
        except Exception as error:
            log.warning("starting an attempt in worker %s failed: %s", actor, error)
            return True
        if not right:
            log.error("worker %s is busy with another attempt", actor)
        return not right


def _node(row: dict[str, Any]) -> NodeInfo:
    """A machine as Ray describes it."""
    has = row["Resources"]
    return NodeInfo(
        id=row["NodeID"],
        name=row["NodeName"] or row["NodeManagerHostname"],
        alive=row["Alive"],
        cpus=int(has.get("CPU", 0)),
        gpus=int(has.get("GPU", 0)),
        memory=has.get("memory", 0.0) / GIB,
    )


def _reserved(gpus: float, memory: float | None, processes: int) -> dict[str, float]:
    """What an attempt's worker reserves in Ray. Several processes reserve theirs themselves, through Ray Train."""
    if processes > 1 or gpus > 1:
        return {}
    reserved: dict[str, float] = {"num_gpus": gpus} if gpus else {}
    return reserved if memory is None else {**reserved, "memory": int(memory * GIB)}


def _new_name() -> str:
    return f"worker-{secrets.token_hex(6)}"


def _kill_here(answer: dict[str, Any]) -> None:
    """End a worker process on this machine that Ray could not end (one that is stopped takes no message)."""
    if answer.get("host") != socket.gethostname():
        return
    try:
        process = psutil.Process(answer["pid"])
        if abs(process.create_time() - answer["born"]) < 1.0:
            process.send_signal(signal.SIGKILL)
    except psutil.Error:
        pass


def require_token() -> None:
    """Refuse to talk to Ray without token authentication: its ports would run anybody's code."""
    if os.environ.get("RAY_AUTH_MODE") != "token":
        raise SystemExit("RAY_AUTH_MODE=token is not set: bcd uses Ray with token authentication only")
