"""Several processes through Ray Train: it places and starts them, sets up their process group and watches them.

Attempts are ours: Ray Train retries nothing, keeps no checkpoint and hears of no metric. All of that goes through the
supervisor (`workers.team`), from inside which this runs. Ray Train's actors belong to the supervisor and end with it.
Only the processes that train need torch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import shutil
import socket
import time
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import ray
import ray.train
from ray.train.backend import Backend, BackendConfig
from ray.train.v2._internal.callbacks.datasets import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2._internal.execution.controller import TrainController
from ray.train.v2._internal.execution.scaling_policy import FixedScalingPolicy
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer

from bcd.engine.errors import PROCESS_DIED, Cancelled, JobError
from bcd.engine.faults import process_died
from bcd.engine.report import RunSink, Silent
from bcd.records import TRAINS
from bcd.spec import ResourceSpec
from workers.team import Gone, Lost, Member, Team
from workers.training import AttemptSink, Work, files_of, train

GIB = 2**30
MEETING = timedelta(minutes=5)  # in which the processes must find one another
SETTINGS = {
    "RAY_TRAIN_HEALTH_CHECK_INTERVAL_S": "0.5",  # how soon an end is seen
    "RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S": "120",  # after which a process that is frozen counts as dead
    "RAY_TRAIN_ENABLE_PREEMPTION_WATCHER": "0",  # a process more, for news that comes with the death of a node anyway
    "RAY_TRAIN_METRICS_ENABLED": "0",
    "RAY_TRAIN_ENABLE_CONTROLLER_STRUCTURED_LOGGING": "0",
    "RAY_WARN_BLOCKING_GET_INSIDE_ASYNC": "0",
    "RAY_CHDIR_TO_TRIAL_DIR": "0",  # relative paths mean the same whatever the number of processes
}


def train_together(work: Work, team: Team, supervisor: Any) -> None:
    """Train in as many processes as the spec says. Raises what ended the training, as one process would."""
    team.run(partial(_fit, work, supervisor))


def _fit(work: Work, supervisor: Any) -> Lost:
    resources = work.spec.resources
    os.environ.update(SETTINGS)
    trainer = _Trainer(
        _take_part,
        train_loop_config={"work": work, "supervisor": supervisor},
        backend_config=_Group(),
        scaling_config=ray.train.ScalingConfig(
            num_workers=resources.world, use_gpu=resources.gpus > 0, resources_per_worker=_share(resources)
        ),
        run_config=ray.train.RunConfig(
            name="train",
            storage_path=str(Path(work.folder) / "ray"),
            failure_config=ray.train.FailureConfig(
                max_failures=0, controller_failure_limit=0, max_preemption_failures=0
            ),
            worker_runtime_env={"env_vars": _environment()},
        ),
    )
    try:
        trainer.fit()
    except ray.train.WorkerGroupError as error:
        return {rank: _died(rank, resources.world, fault) for rank, fault in error.worker_failures.items()}
    except (ray.train.TrainingFailedError, ray.exceptions.RayError) as error:
        # Processes report their own faults, so this is about places, connections and processes of Ray's.
        raise JobError(PROCESS_DIED, f"Ray Train could not run {resources.world} processes: {_short(error)}") from error
    return {}


def _share(resources: ResourceSpec) -> dict[str, float]:
    """What one process reserves.

    CPUs are counted in the database and supervisors reserve none. Ray refuses a share of nothing, though, and one CPU
    for each process spreads them over the machines: the database counts at least as many.
    """
    share: dict[str, float] = {**({"GPU": 1} if resources.gpus else {"CPU": 1}), TRAINS: 0.001}
    if resources.memory is not None:
        share["memory"] = int(resources.memory * GIB / resources.world)
    return share


def _environment() -> dict[str, str]:
    environment = {"TORCH_CPP_LOG_LEVEL": "ERROR"}  # DistributedDataParallel warns of a flag set for good reason
    # A cluster that lives on loopback stays there; gloo and NCCL would take the interface of the host's name.
    if ray.util.get_node_ip_address().startswith("127."):
        environment |= {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}
    return environment


def _died(rank: int, world: int, fault: BaseException) -> JobError:
    return process_died(rank, world, f"ended without a word: it was killed, or it crashed ({_short(fault)})")


def _short(error: BaseException) -> str:
    """The last line of an error that holds others, without Ray's guesses at causes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return re.split(r"(?:Some common|Potential) causes", (lines or [type(error).__name__])[-1])[0].strip()[:500]


class _Trainer(DataParallelTrainer):  # type: ignore[misc]
    """With Ray Train's controller in this process, and without two actors that serve nobody here.

    The controller makes the placement group. As an actor it would leave that behind when the supervisor is killed, with
    all that is reserved in it: Ray removes one with its maker only where the maker is a detached actor, as this is. The
    cleaner for that is told of ends by Ray's dashboard, which need not run. It and the asker for an autoscaler, which
    asks for what a waiting placement group asks for anyway, are detached and would stay when all is over.
    """

    def _create_default_callbacks(self) -> list[Any]:
        made: list[Any] = super()._create_default_callbacks()
        return [one for one in made if not isinstance(one, PlacementGroupCleanerCallback | DatasetsCallback)]

    def _initialize_and_run_controller(self, **given: Any) -> Any:
        controller = TrainController(**{**given, "scaling_policy": _AsAsked(self.scaling_config)})
        asyncio.run(controller.run())
        return controller.get_result()


class _AsAsked(FixedScalingPolicy):  # type: ignore[misc]
    def after_controller_start(self, train_run_context: Any) -> None: ...

    def _maybe_send_resource_request(self) -> None: ...


# --- the process group ------------------------------------------------------------------------------------------


class _Group(BackendConfig):  # type: ignore[misc]
    """torch's process group: nccl on GPUs, gloo elsewhere.

    Not Ray Train's own: its first process listens on every interface of its machine, and may lose the port between
    choosing and using it.
    """

    @property
    def backend_cls(self) -> type[Backend]:
        return _Meeting


class _Meeting(Backend):  # type: ignore[misc]
    share_cuda_visible_devices = True

    def on_start(self, worker_group: Any, backend_config: BackendConfig) -> None:
        world, gpu = len(worker_group), worker_group.get_resources_per_worker().get("GPU", 0) > 0
        host, port = worker_group.execute_single(0, _listen)
        ray.get([worker_group.execute_single_async(i, _join, i, world, host, port, gpu) for i in range(world)])


_listener: list[socket.socket] = []


def _listen() -> tuple[str, int]:
    """In the first process: where the others find it."""
    host = ray.util.get_node_ip_address()
    listener = socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    _listener.append(listener)
    return host, listener.getsockname()[1]


def _join(rank: int, world: int, host: str, port: int, gpu: bool) -> None:
    import torch
    import torch.distributed as dist
    from ray.train.torch import get_device

    from bcd.engine.processes import group_timeout

    first = rank == 0
    listener = _listener.pop().detach() if first else None
    store = dist.TCPStore(host, port, world, first, MEETING, wait_for_workers=False, master_listen_fd=listener)  # type: ignore[attr-defined]
    if gpu:
        torch.cuda.set_device(get_device())
    timeout = group_timeout(gpu)
    dist.init_process_group("nccl" if gpu else "gloo", store=store, rank=rank, world_size=world, timeout=timeout)


# --- within a process -------------------------------------------------------------------------------------------


def _take_part(config: dict[str, Any]) -> None:
    work: Work = config["work"]
    rank = ray.train.get_context().get_world_rank()
    member = Member(rank, partial(_call, config["supervisor"]))
    try:
        if member.should_stop():
            raise Cancelled("stopped before it began")
        _train(work, member, rank)
    except BaseException as error:
        member.fail(error)
        raise RuntimeError("the supervisor knows") from error
    finally:
        shutil.rmtree(_workdir(work, rank), ignore_errors=True)
        with contextlib.suppress(OSError):  # the supervisor's things are there: it is the same machine
            Path(work.folder).rmdir()


def _workdir(work: Work, rank: int) -> Path:
    return Path(work.folder) / f"run-{rank}"


def _train(work: Work, member: Member, rank: int) -> None:
    import torch
    from ray.train.torch import get_device

    from bcd.engine.processes import processes_of_group
    from bcd.engine.run import run_here

    resources = work.spec.resources
    torch.set_num_threads(max(1, resources.cpus // resources.world))
    processes = processes_of_group(get_device().index if resources.gpus else None)
    first = rank == 0
    files = files_of(work, member.should_stop, member.append if first else None)
    sink: RunSink = AttemptSink(member.append, files) if first else Silent()
    run = partial(run_here, processes=processes)
    train(work, run, sink, workdir=_workdir(work, rank), should_stop=member.should_stop, files=files, first=first)


def _call(supervisor: Any, name: str, *given: Any) -> Any:
    while True:
        try:
            return ray.get(getattr(supervisor, name).remote(*given))
        except ray.exceptions.ActorUnavailableError:  # the connection broke; a record that is sent twice is stored once
            time.sleep(1.0)
        except ray.exceptions.RayError as error:
            raise Gone from error
