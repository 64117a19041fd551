"""The Ray actor that drives one sweep: it runs Ray Tune until the search is over, and exits.

Detached from the dispatcher. When it dies, its trainables die with it and the jobs go on; then another one is started.
"""

from __future__ import annotations

import os
import shutil
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any

import psutil

from bcd.sweep import AshaScheduler, HyperbandScheduler, MedianScheduler, SweepSpec, parse_sweep
from bcd.sweep.wire import EndSearch
from workers.tune.channel import DriverArgs, NotYet, Refused, Stale, SweepChannel

# Read by Tune when it is imported: no files of its loggers, no snapshots to resume from (the service knows more).
_TUNE = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}


class SweepDriver:
    """Wrapped by `ray.remote` in the dispatcher. Its methods return at once; Tune runs in a thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sweep: str | None = None
        born = psutil.Process().create_time()
        self._process = {"pid": os.getpid(), "host": socket.gethostname(), "born": born, "node": _node_id()}

    def ping(self) -> dict[str, Any]:
        return {**self._process, "attempt": self._sweep, "ready": True}

    def start(self, args: dict[str, Any]) -> bool:
        """Begin to drive. Doing it again for the same sweep does nothing; False if this process has another one."""
        given = DriverArgs(**args)
        with self._lock:
            if self._sweep is None:
                self._sweep = given.sweep_id
                threading.Thread(target=_drive_and_exit, args=(given,), name="sweep", daemon=True).start()
            return self._sweep == given.sweep_id


def drive(args: DriverArgs) -> None:
    """Search until nothing is left to try, and say so. Raises `Stale` when another driver has taken over."""
    channel = SweepChannel(args)
    ticket = channel.ticket()
    stop_beating = threading.Event()
    beating = threading.Thread(target=_beat, args=(args, ticket.lease_seconds, stop_beating), name="beat", daemon=True)
    beating.start()
    try:
        _tune(args, parse_sweep(ticket.spec), channel, ticket.trials)
        _end(channel)
    except Stale:
        raise
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        channel.end(EndSearch(failure=text[:4000], traceback=traceback.format_exc()[-100_000:]))
    finally:
        stop_beating.set()


def _end(channel: SweepChannel) -> None:
    """Once the jobs that were stopped have ended."""
    while True:
        try:
            channel.end(EndSearch())
            return
        except NotYet:
            time.sleep(0.5)


def _tune(args: DriverArgs, spec: SweepSpec, channel: SweepChannel, known: Any) -> None:
    # All that may be under way begin at once, not one after the other's follower.
    os.environ.update(_TUNE, TUNE_MAX_PENDING_TRIALS_PG=str(spec.concurrency))
    from ray import tune

    from workers.tune.follower import JobFollower
    from workers.tune.searcher import OBJECTIVE, JobSearcher

    searcher = JobSearcher(spec, channel, known)
    folder = Path(args.work) / f"{args.sweep_id}-{args.epoch}"
    trainable = tune.with_parameters(JobFollower, args=args, spec=spec)
    try:
        tune.Tuner(
            # A thousandth of a CPU: followers sleep, and what trials occupy is counted by the queue.
            tune.with_resources(trainable, {"cpu": 0.001}),
            tune_config=tune.TuneConfig(
                metric=OBJECTIVE,
                mode=spec.direction,
                search_alg=searcher,
                scheduler=_scheduler(spec),
                num_samples=-1,
                max_concurrent_trials=spec.concurrency,
                reuse_actors=True,
            ),
            run_config=tune.RunConfig(
                name="tune",
                storage_path=str(folder),
                verbose=0,
                failure_config=tune.FailureConfig(max_failures=0),
            ),
        ).fit()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if searcher.failure is not None:
        raise searcher.failure


def _scheduler(spec: SweepSpec) -> Any:
    """None: every trial runs to its end. Rungs are at numbers of training steps; there is no last rung, because a job
    that comes to its end ends by itself.
    """
    from ray.tune.schedulers import AsyncHyperBandScheduler, MedianStoppingRule

    given, endless = spec.scheduler, 10**9
    if isinstance(given, AshaScheduler | HyperbandScheduler):
        return AsyncHyperBandScheduler(
            time_attr="step",
            max_t=endless,
            grace_period=given.grace,
            reduction_factor=given.reduction,
            brackets=given.brackets if isinstance(given, HyperbandScheduler) else 1,
        )
    if isinstance(given, MedianScheduler):
        return MedianStoppingRule(
            time_attr="step", grace_period=given.grace, min_samples_required=given.least, hard_stop=True
        )
    return None


def _beat(args: DriverArgs, lease: float, stop: threading.Event) -> None:
    """Renew the lease. Once another driver has taken over there is nothing left to do for this process."""
    channel = SweepChannel(args)
    while not stop.wait(lease / 3):
        try:
            channel.beat()
        except Stale as error:
            _say(error)
            os._exit(0)
        except Refused:
            traceback.print_exc()


def _drive_and_exit(args: DriverArgs) -> None:
    code = 0
    try:
        drive(args)
    except Stale as error:
        _say(error)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # as workers do: Ray's own way was seen to leave the process hanging


def _say(error: Stale) -> None:
    sys.stderr.write(f"this driver ends: {error}\n")
    sys.stderr.flush()


def _node_id() -> str:
    import ray

    return str(ray.get_runtime_context().get_node_id())
