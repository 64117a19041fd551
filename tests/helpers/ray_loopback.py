"""Lets a second Ray node of the same machine stay on loopback, where no other machine can reach it.

Ray has a mode that listens on 127.0.0.1 only (RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER=0); `ray start --address` refuses it.
Nobody but tests needs both. Ray calls what RAY_START_HOOK names before it looks.
"""

from __future__ import annotations

from typing import Any


def stay(parameters: Any, head: bool) -> None:
    from ray._private import ray_constants, services

    ray_constants.ENABLE_RAY_CLUSTER = True
    services.resolve_ip_for_localhost = lambda host: host
