"""Whoever gives us an address reaches through us nothing that they could not reach themselves."""

from __future__ import annotations

import datetime
import ipaddress
import socket
import ssl
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from service import outbound
from service.outbound import Allowed, NotAllowed, Unanswered, check_url, is_public, post, resolve
from tests.helpers.receiver import Receiver, status

NOBODY = Allowed()
LOOPBACK = Allowed.read(["127.0.0.0/8"])


class Names:
    """A name server that gives other answers each time, and counts the questions."""

    def __init__(self, *answers: list[str]):
        self.answers, self.asked = list(answers), 0

    def __call__(self, host, port, **_):
        self.asked += 1
        found = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


def send(url, **more):
    return post(url, b"{}", {"Content-Type": "application/json"}, **{"allowed": LOOPBACK, "seconds": 20.0, **more})


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1", "127.8.9.10", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0",
        "100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "198.18.0.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "127.0.0.1.", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1",
        "017700000001", "0", "\uff11\uff12\uff17.0.0.1", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
        "[::ffff:169.254.169.254]", "[::127.0.0.1]", "[0:0:0:0:0:0:0:1]", "[64:ff9b::7f00:1]",
        "[64:ff9b::169.254.169.254]", "[64:ff9b:1::1]", "[2002:7f00:1::]", "[2002:a9fe:a9fe::1]", "[fe80::1]",
        "[fe80::1%25lo]", "[fc00::1]", "[fd00:ec2::254]", "[fec0::1]", "[ff02::1]", "[2001:db8::1]", "[5f00::1]",
        "[3fff::1]", "[2001::7f00:1]",
    ],
)  # fmt: skip
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_addresses_that_are_not_public_are_refused_however_they_are_written(scheme, host):
    with pytest.raises(NotAllowed):
        check_url(f"{scheme}://{host}:8080/x", NOBODY)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("ftp://example.org/", "https://"),
        ("file:///etc/passwd", "https://"),
        ("gopher://example.org/", "https://"),
        ("//example.org/", "https://"),
        ("example.org", "https://"),
        ("https://user:secret@example.org/", "user name"),
        ("https://user@example.org/", "user name"),
        ("https://example.org@127.0.0.1/", "user name"),
        ("https:///x", "no host"),
        ("https://", "no host"),
        ("https://example.org:0/", "port"),
        ("https://example.org:70000/", "address|port"),
        ("https://example.org\\@127.0.0.1/", "backslash"),
        ("https://example.org/a b", "spaces"),
        ("https://example.org/a\r\nHost: x", "spaces"),
        ("https://example.org/" + "a" * 2000, "2000"),
        ("https://[::1/", "no address"),
    ],
)
def test_odd_addresses_are_refused_with_the_reason(url, why):
    with pytest.raises(NotAllowed, match=why):
        check_url(url, NOBODY)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700:4700::1111", "64:ff9b::808:808", "::ffff:8.8.8.8"])
def test_public_addresses_are_public(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["::1", "8.8.8.8"],
        ["8.8.8.8", "::ffff:192.168.0.1"],
        ["169.254.169.254"],
        ["fe80::1%eth0"],
        ["168.63.129.16"],
    ],
)
def test_a_name_with_any_address_that_is_not_public_is_refused(addresses):
    target = check_url("https://innocent.example/", NOBODY)
    with pytest.raises(NotAllowed, match="not public"):
        resolve(target, NOBODY, Names(addresses))


def test_the_reason_tells_nothing_about_our_network():
    with pytest.raises(NotAllowed) as caught:
        resolve(check_url("https://db.internal/", NOBODY), NOBODY, Names(["10.1.2.3"]))
    assert "10.1" not in str(caught.value)


@pytest.mark.parametrize("entry", ["hooks.internal", "HOOKS.internal.", "10.0.0.0/8", "10.1.2.3"])
def test_what_the_administrator_allows_may_be_reached(entry):
    allowed = Allowed.read([entry])
    target = check_url("http://Hooks.Internal./x", allowed)
    assert resolve(target, allowed, Names(["10.1.2.3"])) == ["10.1.2.3"]
    with pytest.raises(NotAllowed):
        resolve(check_url("http://other.internal/x", allowed), allowed, Names(["192.168.0.1"]))


def test_a_name_that_changes_its_address_is_asked_once_and_taken_at_its_word(receiver):
    names = Names(["127.0.0.1"], ["169.254.169.254"])
    assert send(f"http://rebind.example:{receiver.port}/x", resolver=names) == 200
    assert names.asked == 1
    assert receiver.got[0].headers["host"] == f"rebind.example:{receiver.port}"


def test_redirects_are_not_followed(receiver):
    with Receiver() as secret:
        receiver.answer = status(302, Location=secret.url)
        assert send(receiver.url) == 302
        assert secret.got == []


def test_of_several_addresses_the_next_is_tried_when_one_is_dead(receiver):
    assert send(f"http://two.example:{receiver.port}/x", resolver=Names(["127.0.0.2", "127.0.0.1"])) == 200


def test_no_proxy_is_used(receiver, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert send(receiver.url) == 200


def test_of_a_giant_answer_only_the_beginning_is_read(receiver):
    sent, broken = [], threading.Event()

    def giant(handler):
        handler.send_response(200)
        handler.end_headers()
        try:
            for _ in range(10_000):  # 640 MB
                handler.wfile.write(b"x" * 64_000)
                sent.append(64_000)
        except OSError:
            broken.set()

    receiver.answer = giant
    assert send(receiver.url) == 200
    assert broken.wait(20)
    assert sum(sent) < 100_000_000


def test_an_answer_that_drips_ends_at_the_deadline(receiver):
    left = threading.Event()

    def drip(handler):
        try:
            while True:
                handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-More: 1\r\n"[len(drips) % 26 :][:1])
                drips.append(1)
                left.wait(0.02)
        except OSError:
            left.set()

    drips: list[int] = []
    receiver.answer = drip
    with pytest.raises(Unanswered, match=r"within 0\.5 seconds|ProtocolError"):
        send(receiver.url, seconds=0.5)


def test_silence_ends_at_the_deadline(receiver):
    end = threading.Event()
    receiver.answer = lambda handler: end.wait(30)
    with pytest.raises(Unanswered, match=r"did not answer within 0\.3 seconds"):
        send(receiver.url, seconds=0.3)
    end.set()


def test_nobody_listening_and_nonsense_are_told(receiver):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(Unanswered, match="ConnectError"):
        send(f"http://127.0.0.1:{port}/")
    receiver.answer = lambda handler: handler.wfile.write(b"nonsense\r\n\r\n") and None
    with pytest.raises(Unanswered, match="ProtocolError"):
        send(receiver.url)


def test_a_name_that_does_not_exist_is_told():
    def nothing(*_, **__):
        raise socket.gaierror(-2, "Name or service not known")

    with pytest.raises(Unanswered, match="cannot be resolved"):
        send("http://nowhere.example/", resolver=nothing)


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS for the name hooks.example, whose certificate we trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "hooks.example")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "certificate.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + private)
    trusting = ssl.create_default_context(cafile=str(pem))
    monkeypatch.setattr(outbound, "_tls", lambda: trusting)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(pem)
    return server


def test_over_tls_the_certificate_must_be_that_of_the_name_not_of_the_address(certified):
    with Receiver(tls=certified) as receiver:
        names = Names(["127.0.0.1"])
        assert send(f"https://hooks.example:{receiver.port}/x", resolver=names) == 200
        with pytest.raises(Unanswered, match=r"(?i)certificate"):
            send(f"https://other.example:{receiver.port}/x", resolver=names)
        assert len(receiver.got) == 1
