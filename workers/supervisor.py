"""The Ray actor that runs attempts, one at a time. It is created early, so that torch is already imported.

It outlives the dispatcher (detached). Once everything is delivered it ends its own process, so nothing stays behind.
Where nothing was reserved for it and all went well it waits for another attempt: a new process takes 8 s of a CPU.
"""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import threading
import traceback
from collections.abc import Callable
from typing import Any

import psutil

from bcd.spec import JobSpec
from workers.attempt import AttemptArgs, run_alone, run_attempt
from workers.team import Order, Team
from workers.training import Append, Work

NAMESPACE = "bcd"
MOST_SERVED = 50  # attempts of one process: what leaks somewhere must not add up for ever


class Supervisor:
    """Wrapped by `ray.remote` in the dispatcher. Its methods return at once; training runs in a thread."""

    def __init__(self) -> None:
        self._lock, self._importing = threading.Lock(), threading.Lock()
        self._attempt: str | None = None
        self._served: set[str] = set()
        self._ready = False
        self._team: Team | None = None
        self._me: Any = None
        born = psutil.Process().create_time()
        self._process = {"pid": os.getpid(), "host": socket.gethostname(), "born": born, "node": _node_id()}

    def warm(self) -> bool:
        """Import what training needs (about 8 s). True when done."""
        # One thread at a time: torchvision imported by two at once fails with a circular import.
        with self._importing:
            import torch
            import torchvision

            import bcd.api

            self._ready = all((torch, torchvision, bcd.api))
        return self._ready

    def ping(self) -> dict[str, Any]:
        """Answers while training runs. `ready` means that all is imported, in an attempt's other processes too."""
        ready = self._ready if self._team is None else self._team.begun
        return {**self._process, "attempt": self._attempt, "ready": ready}

    def start(self, args: dict[str, Any]) -> bool:
        """Begin an attempt. One that was begun here before is not again; False if this process has another one."""
        import ray

        given = AttemptArgs(**args)
        with self._lock:
            if given.attempt_id in self._served:
                return True
            if self._attempt is None:
                self._attempt, self._me = given.attempt_id, ray.get_runtime_context().current_actor
                threading.Thread(target=self._run_and_exit, args=(given,), name="attempt", daemon=True).start()
            return self._attempt == given.attempt_id

    # --- calls of the processes of an attempt that has several; see `workers.team`

    def record(self, kind: str, fields: dict[str, Any]) -> bool | BaseException:
        return self._team is not None and self._team.record(kind, fields)

    def ask(self) -> Order:
        return "end" if self._team is None else self._team.ask()

    def report(self, rank: int, error: BaseException) -> None:
        if self._team is not None:
            self._team.report(rank, error)

    # ---------------------------------------------------------------------------------

    def _run_alone(self, spec: JobSpec, **given: Any) -> Any:
        with contextlib.suppress(Exception):  # a fault of the imports comes again
            self.warm()
        return run_alone(spec, **given)

    def _train_together(self, work: Work, append: Append, should_stop: Callable[[], bool]) -> None:
        team = self._team = Team(append, should_stop)
        from workers.ray_train import train_together  # seconds

        train_together(work, team, self._me)

    def _run_and_exit(self, args: AttemptArgs) -> None:
        code = 0
        try:
            final = run_attempt(args, run=self._run_alone, together=self._train_together)
            if args.again and final in ("succeeded", "cancelled") and len(self._served) + 1 < MOST_SERVED:
                gc.collect()
                with self._lock:
                    self._served.add(args.attempt_id)
                    self._attempt = None
                return
        except BaseException:
            traceback.print_exc()
            code = 1
        # Not ray.actor.exit_actor: it needs a live cluster, and was seen to leave the process hanging in its own
        # shutdown with all its memory. Ray notes a crashed worker instead; nothing reads that note.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())
