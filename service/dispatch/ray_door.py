"""Does a Ray head let in whoever comes? Who talks to an open one may run any code, so we do not work with it.

Ray's own client always sends the token that it has. So this asks without one, in the few frames of HTTP/2 that a call
takes: an answer with a body means that nobody checked.
"""

from __future__ import annotations

import socket
import struct
from typing import Literal

# Asks the head whether given nodes are alive, about none: changes nothing, and takes a token like every other call.
_CALL = "/ray.rpc.NodeInfoGcsService/CheckAlive"
_EMPTY_MESSAGE = bytes(5)  # gRPC: not compressed, length 0
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_LARGEST = 1_000_000  # bytes of a frame; what is larger is no answer of Ray's

Door = Literal["open", "shut", "unknown"]


def try_door(host: str, port: int, *, patience: float = 5.0) -> Door:
    """`open`: the head answers a call without a token. `unknown`: what listens there is no Ray as we know it."""
    try:
        with socket.create_connection((host, port), timeout=patience) as connection:
            connection.sendall(_request(f"{host}:{port}"))
            return _answer(connection)
    except (OSError, ValueError):
        return "unknown"


def refuse_open_door(host: str, port: int) -> None:
    """Raises SystemExit for a Ray head that lets in whoever comes."""
    if try_door(host, port) == "open":
        raise SystemExit(
            f"the Ray head at {host}:{port} answers without a token, so anybody who reaches it may run code there; "
            "start it with RAY_AUTH_MODE=token"
        )


def _request(authority: str) -> bytes:
    fields = {
        ":method": "POST",
        ":scheme": "http",
        ":path": _CALL,
        ":authority": authority,
        "content-type": "application/grpc",
        "te": "trailers",
    }
    headers = b"".join(b"\x10" + _text(name) + _text(value) for name, value in fields.items())
    return (
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        + _frame(_SETTINGS, 0, 0)
        + _frame(_HEADERS, _END_HEADERS, 1, headers)
        + _frame(_DATA, _END_STREAM, 1, _EMPTY_MESSAGE)
    )


def _text(text: str) -> bytes:
    """A text of a header (RFC 7541, not Huffman-coded); ours are shorter than the 127 bytes that one byte can tell."""
    raw = text.encode("ascii")
    if len(raw) >= 127:
        raise ValueError("too long for a header")
    return bytes([len(raw)]) + raw


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def _answer(connection: socket.socket) -> Door:
    while True:
        head = _exactly(connection, 9)
        length, kind, flags = int.from_bytes(head[:3], "big"), head[3], head[4]
        stream = int.from_bytes(head[5:], "big")
        if length > _LARGEST:
            raise ValueError("no HTTP/2")
        _exactly(connection, length)
        if kind == _SETTINGS and not flags & _ACK:
            connection.sendall(_frame(_SETTINGS, _ACK, 0))
        elif stream == 1 and kind == _DATA and length > len(_EMPTY_MESSAGE):
            return "open"
        elif stream == 1 and flags & _END_STREAM:
            return "shut"


def _exactly(connection: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = connection.recv(count - len(found))
        if not more:
            raise ValueError("the connection was closed")
        found += more
    return found
