"""The processes of a one-machine installation as one supervised tree: api, dispatcher, Ray head, MLflow server.

Each child leads a session of its own and carries BCD_HOME and BCD_TREE in its environment. A child that crashes is
started again; `stop` leaves no process behind; `start` first ends what a killed tree left. Everything listens on
loopback. Nothing is printed: what a person should know goes through the `status` callback.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

import httpx
import psutil

from service.settings import Settings

STOP_ORDER = ("dispatcher", "api", "mlflow", "ray")
# Seconds from SIGTERM to SIGKILL. Ray and MLflow's server hold nothing unsaved and would take their time.
STOP_PATIENCE = {"dispatcher": 4.0, "api": 5.0, "mlflow": 1.0, "ray": 0.5}
SHORTEST_PAUSE, LONGEST_PAUSE = 0.2, 10.0  # seconds before a crashed child is started again
STEADY_AFTER = 30.0  # seconds; a child that ran for so long starts with the shortest pause again
MLFLOW_WAITS = 20.0  # seconds at most for which MLflow lets the others go first
OBJECT_STORE_BYTES = 200_000_000  # nothing uses Ray's object store yet
LONGEST_TEMP = 30  # characters; Ray's socket paths must stay below 107


class UpError(Exception):
    """The tree cannot start; the message says what to change."""


@dataclass
class _Child:
    name: str
    command: list[str]
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    pause: float = SHORTEST_PAUSE
    start_at: float = 0.0


class Tree:
    """`with Tree(settings) as tree: tree.wait_ready()`. One at a time for each home; all methods from one thread.

    `status` is called with one line of text at each step, from any thread.
    """

    def __init__(
        self, settings: Settings, *, cpus: int | None = None, status: Callable[[str], None] = lambda text: None
    ):
        self.settings = settings
        self.id = uuid.uuid4().hex
        self._cpus = cpus or _usable_cpus()
        self._status = status
        self._lock_file: IO[str] | None = None
        self._stopping = threading.Event()
        self._monitor: threading.Thread | None = None
        self._children = {name: _Child(name, command) for name, command in self._commands().items()}

    def __enter__(self) -> Tree:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start everything; returns at once. Raises `UpError`: already running, or a port is taken."""
        s = self.settings
        try:
            for folder in (s.home, s.logs, s.work, s.storage, s.home / "mlflow"):
                folder.mkdir(parents=True, exist_ok=True)
            s.run.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise UpError(f"cannot make the folder {error.filename}: {error.strerror}; choose another --home") from None
        self._lock()
        try:
            left = end_leftovers(self.settings)
            if left:
                self._status(f"ended {left} processes that an earlier run had left")
            self._check_ports()
            self._prepare()
            # MLflow takes a core for some ten seconds and nobody waits for it: it starts once the rest is ready.
            self._children["mlflow"].start_at = time.monotonic() + MLFLOW_WAITS
            for name in ("ray", "api", "dispatcher"):
                self._spawn(self._children[name])
            self._monitor = threading.Thread(target=self._watch, name="tree", daemon=True)
            self._monitor.start()
        except BaseException:
            self.stop()
            raise

    def wait_ready(self, timeout: float = 120.0) -> None:
        """Wait until jobs can be submitted and run. MLflow is not waited for: it only mirrors. Raises `UpError`."""
        deadline = time.monotonic() + timeout
        for what, is_ready in (("api", self.api_ready), ("dispatcher", self.dispatcher_ready)):
            while not is_ready():
                if self._stopping.wait(0.1):
                    raise UpError("stopped before it was ready")
                if time.monotonic() > deadline:
                    raise UpError(f"the {what} did not come up in {timeout:.0f} s; see {self.settings.logs}/{what}.log")
            self._status(f"{what} is ready")

    def api_ready(self) -> bool:
        try:
            return httpx.get(f"{self.settings.api_url}/healthz", timeout=2.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def dispatcher_ready(self) -> bool:
        """Is the dispatcher connected to Ray?"""
        process = self._children["dispatcher"].process
        return process is not None and self._dispatcher_state().get("pid") == process.pid

    def mlflow_ready(self) -> bool:
        try:
            return httpx.get(f"{self.settings.mlflow_url}/health", timeout=2.0, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def warm_workers(self) -> int:
        """How many idle workers have everything imported and wait for a job."""
        count = self._dispatcher_state().get("warm_workers") if self.dispatcher_ready() else None
        return count if isinstance(count, int) else 0

    def pids(self) -> dict[str, int]:
        """The process ids of the running children by name."""
        return {c.name: c.process.pid for c in self._children.values() if c.process and c.process.poll() is None}

    def processes(self) -> list[psutil.Process]:
        """Every process of this home's tree, grandchildren and Ray's workers too, without this one."""
        return find_processes(self.settings)

    def stop(self) -> None:
        """End everything and wait for it; safe to call twice. Jobs go on from a checkpoint at the next start."""
        self._stopping.set()
        if self._monitor is not None:
            self._monitor.join()
            self._monitor = None
        if self._lock_file is None:
            return
        everything = self.processes()
        for name in STOP_ORDER:
            child = self._children[name]
            if child.process is not None:
                if name == "mlflow" and child.process.poll() is None:
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.killpg(child.process.pid, signal.SIGTERM)  # its server is a grandchild
                self._status(f"stopping {name}")
                _end_child(child.process, STOP_PATIENCE[name])
            (self.settings.run / f"{name}.pid").unlink(missing_ok=True)
        _kill_all(everything + self.processes())
        shutil.rmtree(ray_folder(self.settings), ignore_errors=True)
        (self.settings.run / "dispatcher.json").unlink(missing_ok=True)
        self._lock_file.close()
        self._lock_file = None

    # --------------------------------------------------------------------------------------------- start

    def _lock(self) -> None:
        file = (self.settings.run / "lock").open("a", encoding="utf-8")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            raise UpError(
                f"bcd is already running in {self.settings.home}; stop it first, or use another folder with --home"
            ) from None
        self._lock_file = file

    def _check_ports(self) -> None:
        for name, host, port in (
            ("api", self.settings.api_host, self.settings.api_port),
            ("mlflow", "127.0.0.1", self.settings.mlflow_port),
            ("ray", "127.0.0.1", self.settings.ray_port),
        ):
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((host, port))
                except OSError as error:
                    variable = f"BCD_{name.upper()}_PORT"
                    raise UpError(
                        f"port {port} ({name}) is not free: set {variable} to another one ({error})"
                    ) from None

    def _prepare(self) -> None:
        # FastAPI: half a second that a refused start need not spend
        from service.auth import create_once, ensure_secrets

        ensure_secrets(self.settings)
        token = self.settings.run / "ray-token"
        if not token.exists():
            create_once(token, secrets.token_hex(32))
        (self.settings.run / "dispatcher.json").unlink(missing_ok=True)
        _make_private(ray_folder(self.settings))

    def _spawn(self, child: _Child) -> None:
        if child.name == "ray":
            _make_private(ray_folder(self.settings))
        child.started = time.monotonic()
        log = self.settings.logs / f"{child.name}.log"
        with log.open("ab") as output:
            child.process = subprocess.Popen(
                child.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.settings.run,
                env=self._environment(),
                start_new_session=True,
            )
        with contextlib.suppress(psutil.Error):
            born = psutil.Process(child.process.pid).create_time()
            text = json.dumps({"pid": child.process.pid, "born": born, "tree": self.id})
            (self.settings.run / f"{child.name}.pid").write_text(text, encoding="utf-8")
        self._status(f"started {child.name}")

    def _environment(self) -> dict[str, str]:
        s = self.settings
        root = str(Path(__file__).resolve().parent.parent)
        path = os.environ.get("PYTHONPATH")
        # This tree has a Ray of its own.
        others = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "BCD_RAY_ADDRESS")
        inherited = {key: value for key, value in os.environ.items() if key not in others}
        return {
            **inherited,
            "PYTHONPATH": root if not path else f"{root}{os.pathsep}{path}",
            "PYTHONUNBUFFERED": "1",
            "BCD_TREE": self.id,
            "BCD_HOME": str(s.home),
            "BCD_DATABASE_URL": s.database_url,
            "BCD_API_PORT": str(s.api_port),
            "BCD_MLFLOW_PORT": str(s.mlflow_port),
            "BCD_RAY_PORT": str(s.ray_port),
            "BCD_LEASE_SECONDS": str(s.lease_seconds),
            "BCD_POLL_SECONDS": str(s.poll_seconds),
            "BCD_MAX_ATTEMPTS": str(s.max_attempts),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(s.run / "ray-token"),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # on every system: keeps a local cluster on loopback
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_DISABLE_IMPORT_WARNING": "1",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # 2 processes instead of 10
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
        }

    def _commands(self) -> dict[str, list[str]]:
        s, python = self.settings, sys.executable
        ray = [
            python, "-m", "ray.scripts.scripts", "start", "--head", "--block",
            "--port", str(s.ray_port), "--node-ip-address", "127.0.0.1", "--include-dashboard=false",
            "--disable-usage-stats", "--temp-dir", str(ray_folder(s)),
            "--object-store-memory", str(OBJECT_STORE_BYTES), "--include-log-monitor=false", "--no-monitor",
            # Ray's default ranges and fixed ports may be taken, by another installation for one: let the system choose.
            "--min-worker-port", "0", "--max-worker-port", "0", "--dashboard-agent-listen-port", "0",
            "--num-cpus", str(self._cpus),
        ]  # fmt: skip
        mlflow = [
            python, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(s.mlflow_port), "--workers", "1",
            "--backend-store-uri", f"sqlite:///{s.home / 'mlflow' / 'mlflow.db'}",
            "--artifacts-destination", str(s.home / "mlflow" / "artifacts"),
        ]  # fmt: skip
        return {
            "ray": ray,
            "api": [python, "-m", "service.app", "--home", str(s.home)],
            "dispatcher": [python, "-m", "service.dispatch", "--home", str(s.home)],
            "mlflow": mlflow,
        }

    def _dispatcher_state(self) -> dict[str, object]:
        try:
            value = json.loads((self.settings.run / "dispatcher.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    # --------------------------------------------------------------------------------------------- watch

    def _watch(self) -> None:
        while not self._stopping.wait(0.2):
            for child in self._children.values():
                try:
                    self._look_after(child)
                except (OSError, psutil.Error, UpError) as error:  # a full disk, say: this thread must outlive it
                    child.start_at = time.monotonic() + LONGEST_PAUSE
                    self._status(f"{child.name} cannot be started: {error}")

    def _look_after(self, child: _Child) -> None:
        now = time.monotonic()
        if child.process is not None and child.process.poll() is not None:
            code, child.process = child.process.returncode, None
            child.pause = SHORTEST_PAUSE if now - child.started > STEADY_AFTER else min(LONGEST_PAUSE, child.pause * 2)
            child.start_at = now + child.pause
            self._status(f"{child.name} ended (status {code}) and is started again; see logs/{child.name}.log")
            if child.name == "ray":
                self._after_ray()
        if child.process is None and (now >= child.start_at or self._may_start_early(child)):
            self._spawn(child)

    def _may_start_early(self, child: _Child) -> bool:
        return child.name == "mlflow" and child.started == 0.0 and self.dispatcher_ready()

    def _after_ray(self) -> None:
        """Ray's head is gone: its workers must go too, and its driver belongs to a cluster that is no more."""
        _kill_all([p for p in self.processes() if _session(p) == _recorded(self.settings).get("ray", (0, 0.0))[0]])
        shutil.rmtree(ray_folder(self.settings), ignore_errors=True)
        dispatcher = self._children["dispatcher"].process
        if dispatcher is not None:
            dispatcher.kill()


# ------------------------------------------------------------------------------------------- processes


def find_processes(settings: Settings) -> list[psutil.Process]:
    """Processes that belong to the tree of this home, whoever started them, except the calling one.

    Found by BCD_HOME and BCD_TREE in their environment, or by the session that a recorded child leads (Ray's helpers
    overwrite their environment with their title).
    """
    home, own = str(settings.home), os.getpid()
    leaders = dict(_recorded(settings).values())
    found = []
    for process in psutil.process_iter():
        if process.pid == own or process.pid == 0:
            continue
        with contextlib.suppress(psutil.Error, OSError):
            if process.status() == psutil.STATUS_ZOMBIE:
                continue
            if _of_session(process, leaders) or _of_home(process, home):
                found.append(process)
    return found


def end_leftovers(settings: Settings) -> int:
    """End what a killed tree left behind; returns how many processes that were. Call with the home's lock held."""
    left = find_processes(settings)
    _kill_all(left)
    for name in STOP_ORDER:
        (settings.run / f"{name}.pid").unlink(missing_ok=True)
    shutil.rmtree(ray_folder(settings), ignore_errors=True)
    return len(left)


def ray_folder(settings: Settings) -> Path:
    """Ray's folder for this home: short, because the paths of its sockets may have 107 characters at most."""
    base = tempfile.gettempdir()
    if len(base) > LONGEST_TEMP and os.path.isdir("/tmp"):
        base = "/tmp"
    return Path(base) / f"bcd-{hashlib.sha256(str(settings.home).encode()).hexdigest()[:10]}"


def _usable_cpus() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _make_private(folder: Path) -> None:
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.getuid():
        raise UpError(f"{folder} belongs to somebody else; remove it, or set TMPDIR to a folder of your own")
    folder.chmod(0o700)


def _recorded(settings: Settings) -> dict[str, tuple[int, float]]:
    """Children by name as their pid files say: (pid, time of birth)."""
    found = {}
    for name in STOP_ORDER:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            value = json.loads((settings.run / f"{name}.pid").read_text(encoding="utf-8"))
            found[name] = int(value["pid"]), float(value["born"])
    return found


def _of_session(process: psutil.Process, leaders: dict[int, float]) -> bool:
    session = _session(process)
    if session not in leaders:
        return False
    born = leaders[session]
    try:
        leader = psutil.Process(session)
    except psutil.NoSuchProcess:
        # A pid is not given out again while a session of that number exists, so this session is still ours.
        return process.create_time() >= born - 1.0
    return abs(leader.create_time() - born) < 1.0


def _of_home(process: psutil.Process, home: str) -> bool:
    if process.uids().real != os.getuid():
        return False
    environment = process.environ()
    return environment.get("BCD_HOME") == home and "BCD_TREE" in environment


def _session(process: psutil.Process) -> int:
    try:
        return os.getsid(process.pid)
    except OSError:
        return -1


def _end_child(process: subprocess.Popen[bytes], patience: float) -> None:
    """SIGTERM, then SIGKILL to the child's whole process group."""
    if process.poll() is None:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _kill_all(processes: list[psutil.Process]) -> None:
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(processes, timeout=10)
