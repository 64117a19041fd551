"""What docker-compose.yml wires, as plain processes on this machine: the same commands, variables and secrets by file.

A container becomes a process tree with a home of its own; named volumes become shared folders, the names of services
become addresses on 127.0.0.1, `restart: unless-stopped` a thread that starts again what has ended. Only what the
compose file says about privileges and networks needs Docker.
"""

from __future__ import annotations

import contextlib
import functools
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from service.processes import ray_folder
from service.settings import Settings
from tests.helpers.compose import ROOT, command, compose
from tests.helpers.installation import eventually, free_ports
from tests.helpers.postgres import PostgresServer

HOME = "/var/lib/bcd"
INHERITED = ("PATH", "LANG", "TMPDIR", "OMP_NUM_THREADS")
PAUSE = 1.0  # seconds before a container is started again


@dataclass
class Container:
    name: str
    service: dict[str, Any]
    environment: dict[str, str]
    home: Path
    process: subprocess.Popen[bytes] | None = None
    start_at: float = 0.0


class Fleet:
    """`with Fleet(folder, api=2, dispatcher=2) as fleet:` all services, started in their order and healthy."""

    def __init__(self, folder: Path, environment: dict[str, str] | None = None, **replicas: int):
        self.folder, self.id = folder, uuid.uuid4().hex
        self._extra, self._replicas = environment or {}, replicas
        self.postgres = PostgresServer()
        self.containers: dict[str, Container] = {}
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._ports: dict[str, int] = {}
        self._addresses: dict[str, str] = {}
        self._database = ""
        self._lock = threading.Lock()

    def __enter__(self) -> Fleet:
        try:
            self._prepare()
            self._start_in_order()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------------------------------------ for tests

    def url(self, name: str) -> str:
        """The address of one replica of the api, or of MLflow."""
        container = self.containers[name]
        port = container.environment.get("BCD_API_PORT") or self._ports["mlflow:5000"]
        return f"http://127.0.0.1:{port}"

    @property
    def settings(self) -> Settings:
        """For tests that look behind the api."""
        return Settings.load(
            self.folder,
            database_url=self._database,
            storage_uri=str(self.folder / "volumes" / "storage"),
            mlflow_address=self.url("mlflow-1"),
        )

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text().strip()

    def kill(self, name: str) -> None:
        """SIGKILL for everything in a container; a second later it is started again."""
        container = self.containers[name]
        with self._lock:
            found = self.processes(container)
            for process in found:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(found, timeout=10)

    def healthy(self, name: str) -> bool:
        container = self.containers[name]
        check = container.service["healthcheck"]["test"][1:]
        done = subprocess.run([sys.executable, *check[1:]], env=container.environment, capture_output=True)
        return done.returncode == 0

    def processes(self, container: Container | None = None) -> list[psutil.Process]:
        """Every process of a container, or of all: found by its mark, its session, or as a child of such a one."""
        containers = self.containers.values() if container is None else [container]
        marks = {f"{self.id}-{one.name}" for one in containers}
        leaders = {one.process.pid for one in containers if one.process is not None}
        found: dict[int, psutil.Process] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.status() == psutil.STATUS_ZOMBIE or process.pid == os.getpid():
                    continue
                if os.getsid(process.pid) in leaders or process.environ().get("BCD_TREE") in marks:
                    found[process.pid] = process
                    found.update((child.pid, child) for child in process.children(recursive=True))
        return list(found.values())

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    # ------------------------------------------------------------------------------------------ life

    def _prepare(self) -> None:
        secrets = self.folder / "secrets"
        secrets.mkdir(parents=True)
        (secrets / "database-password").write_text(self.postgres.password + "\n")
        subprocess.run([ROOT / "docker" / "secrets.sh", secrets], check=True, capture_output=True)
        self.postgres.start()
        self._database = self.postgres.create_database()
        mlflow, ray, balancer = free_ports(3)
        self._ports = {"mlflow:5000": mlflow, "ray-head:6379": ray, "api:8765": balancer}
        self._addresses = {
            "postgres:5432/bcd": f"127.0.0.1:{self.postgres.port}/{self._database.rpartition('/')[2]}",
            **{name: f"127.0.0.1:{port}" for name, port in self._ports.items()},
        }
        services = compose(BCD_STORAGE=str(self.folder / "volumes" / "storage"))["services"]
        for service, described in services.items():
            if "build" not in described or service == "ray-worker-gpu":
                continue
            for number in range(1, self._replicas.get(service, 1) + 1):
                name = f"{service}-{number}"
                self.containers[name] = self._container(name, described)

    def _container(self, name: str, service: dict[str, Any]) -> Container:
        home = self.folder / name
        home.mkdir()
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            shared = self.folder / "volumes" / source
            if target.startswith(f"{HOME}/"):
                shared.mkdir(parents=True, exist_ok=True)
                (home / target.removeprefix(f"{HOME}/")).symlink_to(shared)
        environment = {key: os.environ[key] for key in INHERITED if key in os.environ}
        environment |= {
            "HOME": str(home), "PYTHONPATH": str(ROOT), "BCD_HOME": str(home), "BCD_TREE": f"{self.id}-{name}",
            "RAY_START_HOOK": "tests.helpers.ray_loopback.stay", **self._extra,
        }  # fmt: skip
        environment |= {key: self._here(value) for key, value in service["environment"].items()}
        if "BCD_API_PORT" in environment:
            environment |= {"BCD_API_PORT": str(free_ports(1)[0]), "BCD_API_HOST": "127.0.0.1"}
        return Container(name, service, environment, home)

    def _here(self, value: str | None) -> str:
        """A value of the compose file on this machine."""
        value = (value or "").replace("/run/secrets/", f"{self.folder / 'secrets'}/")
        for there, here in self._addresses.items():
            value = value.replace(there, here)
        return value

    def _start_in_order(self) -> None:
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._restart, self._balance)]
        for thread in self._threads:
            thread.start()
        services: dict[str, list[Container]] = {}
        for container in self.containers.values():
            services.setdefault(container.name.rpartition("-")[0], []).append(container)
        healthy = {"postgres"}
        while not set(services) <= healthy:
            for container in self.containers.values():
                if container.process is None and set(container.service.get("depends_on", {})) <= healthy:
                    self._spawn(container)
            waited_for = {name: group for name, group in services.items() if name not in healthy}
            healthy |= eventually(functools.partial(self._healthy_of, waited_for), bool)

    def _healthy_of(self, services: dict[str, list[Container]]) -> set[str]:
        """Those all of whose containers run and are healthy."""
        time.sleep(1.0)  # asking takes a part of what they need to get there
        return {
            service
            for service, group in services.items()
            if all(one.process is not None and self.healthy(one.name) for one in group)
        }

    def _spawn(self, container: Container) -> None:
        python, *arguments = command(container.service)
        assert python == "python"
        with (self.folder / f"{container.name}.log").open("ab") as log:
            container.process = subprocess.Popen(
                [sys.executable, *arguments], env=container.environment, cwd=container.home, start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    def _restart(self) -> None:
        while not self._closing.wait(0.2):
            with self._lock:
                for container in self.containers.values():
                    if container.process is not None and container.process.poll() is not None:
                        container.start_at = container.start_at or time.monotonic() + PAUSE
                        if time.monotonic() > container.start_at:
                            container.start_at = 0.0
                            self._spawn(container)

    def stop(self) -> None:
        """End everything. Nothing of it is left afterwards."""
        self._closing.set()
        for thread in self._threads:
            thread.join()
        left = self.processes()
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal.SIGKILL)
        psutil.wait_procs(left, timeout=10)
        for container in self.containers.values():
            if container.process is not None:
                container.process.wait()
        self.postgres.stop()
        if "ray-head-1" in self.containers:
            shutil.rmtree(ray_folder(Settings.load(self.containers["ray-head-1"].home)), ignore_errors=True)

    # ------------------------------------------------------------------------------------------ api:8765

    def _balance(self) -> None:
        """The address `api:8765`, behind which are all replicas: each connection goes to one that accepts it."""
        targets = [int(c.environment["BCD_API_PORT"]) for n, c in self.containers.items() if n.startswith("api-")]
        with socket.create_server(("127.0.0.1", self._ports["api:8765"])) as server:
            server.settimeout(0.2)
            turn = 0
            while not self._closing.is_set():
                with contextlib.suppress(TimeoutError):
                    connection, _ = server.accept()
                    turn += 1
                    order = targets[turn % len(targets) :] + targets[: turn % len(targets)]
                    threading.Thread(target=_forward, args=(connection, order), daemon=True).start()


def _forward(client: socket.socket, targets: list[int]) -> None:
    with client, contextlib.suppress(OSError):
        target = next(_connections(targets))
        with target, selectors.DefaultSelector() as both:
            both.register(client, selectors.EVENT_READ, target)
            both.register(target, selectors.EVENT_READ, client)
            while True:
                for key, _ in both.select():
                    data = key.fileobj.recv(65536)  # type: ignore[union-attr]
                    if not data:
                        return
                    key.data.sendall(data)


def _connections(targets: list[int]) -> Iterator[socket.socket]:
    for port in targets:
        with contextlib.suppress(OSError):
            yield socket.create_connection(("127.0.0.1", port), timeout=1.0)
