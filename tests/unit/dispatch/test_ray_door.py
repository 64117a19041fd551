"""Whether a Ray head lets in whoever comes, judged by what Ray 2.60 answered when it was asked without a token.

`tests/e2e/test_open_ray.py` asks a real one.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from service.dispatch.ray_door import refuse_open_door, try_door

SETTINGS = bytes.fromhex("00001804000000000000040040000000050040000000060000" + "4000fe0300000001")
WINDOW = bytes.fromhex("000004080000000000003f0001")
ACK = bytes.fromhex("000000040100000000")
GREETING = SETTINGS + WINDOW + ACK


def frame(kind: int, flags: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + (1).to_bytes(4, "big") + payload


OPEN = GREETING + b"".join(
    [
        frame(1, 4, b"\x88@\x0ccontent-type\x10application/grpc@\x14grpc-accept-encoding\x17identity, deflate, gzip"),
        frame(0, 0, b"\x00\x00\x00\x00\x0c\n\x00\x12\x062.60.0 \x01"),
        frame(1, 5, b"@\x0bgrpc-status\x010"),
    ]
)
SHUT = GREETING + frame(
    1, 5, b"\x88@\x0ccontent-type\x10application/grpc\x00\x0bgrpc-status\x0216\x00\x0cgrpc-message\x11InvalidAuthToken:"
)
UNKNOWN_CALL = GREETING + frame(1, 5, b"\x88@\x0ccontent-type\x10application/grpc@\x0bgrpc-status\x0212")


@contextmanager
def server(answer: bytes) -> Iterator[int]:
    """Listens, reads what comes, answers with these bytes and hangs up; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    heard: list[bytes] = []

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):  # who has heard enough hangs up
            connection.settimeout(10)
            heard.append(connection.recv(65536))
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    yield listener.getsockname()[1]
    thread.join()
    listener.close()
    assert heard[0].startswith(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert b"CheckAlive" in heard[0]
    assert b"authorization" not in heard[0].lower()


def test_a_head_that_answers_is_open_and_refused() -> None:
    with server(OPEN) as port:
        assert try_door("127.0.0.1", port) == "open"
    with server(OPEN) as port, pytest.raises(SystemExit, match=r"without a token.*RAY_AUTH_MODE=token"):
        refuse_open_door("127.0.0.1", port)


@pytest.mark.parametrize("answer", [SHUT, UNKNOWN_CALL])
def test_a_head_that_asks_for_the_token_is_shut(answer: bytes) -> None:
    with server(answer) as port:
        assert try_door("127.0.0.1", port) == "shut"
    with server(answer) as port:
        refuse_open_door("127.0.0.1", port)


@pytest.mark.parametrize(
    "answer",
    [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", GREETING, OPEN[:40], b"\xff" * 100, b"\x15\x03\x01\x00\x02\x02\x46"],
)
def test_what_is_no_ray_is_neither(answer: bytes) -> None:
    with server(answer) as port:
        assert try_door("127.0.0.1", port, patience=10) == "unknown"


def test_where_nobody_listens_there_is_no_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    assert try_door("127.0.0.1", port) == "unknown"
