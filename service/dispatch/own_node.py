"""A node of the Ray cluster beside the dispatcher, where the cluster is elsewhere: a driver needs one on its machine.

It trains nothing. `python -m service.dispatch.own_node` runs it for as long as the process that started it lives, so
it is gone also after the dispatcher was killed.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

from service.processes import ray_node
from service.settings import Settings


def join(settings: Settings) -> None:
    """Start it where `BCD_RAY_ADDRESS` names a cluster; `ray.init` then waits until it is there."""
    if settings.ray_address:
        environment = {**os.environ, **settings.environment()}
        subprocess.Popen([sys.executable, "-m", __name__], env=environment, stdin=subprocess.DEVNULL)


def main() -> int:
    parent, stop = os.getppid(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    node = ray_node(Settings.load(), cpus=0)
    process = subprocess.Popen(
        node.command, env=node.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, start_new_session=True
    )
    while process.poll() is None and os.getppid() == parent:
        if stop.wait(0.5):
            break
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


if __name__ == "__main__":
    sys.exit(main())
