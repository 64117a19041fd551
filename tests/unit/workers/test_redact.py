"""Secrets do not leave a worker in what its run says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from service.auth import new_secret
from workers import redact as module
from workers.redact import redact


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Values whose names say that they are secret, and some whose names do not."""
    values = {
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/" + "K7MDENG+bPxRfiCYEXAMPLEKEY",
        "DB_PASSWORD": "hunter2-hunter2",
        "DB_PASSWORD_LONGER": "hunter2-hunter2-and-more",
        "SHORT_TOKEN": "abc",
        "RAY_AUTH_TOKEN_PATH": "/home/someone/ray-token",
        "RAY_AUTH_MODE": "token-mode",
        "CITY": "Constantinople",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    module._values.cache_clear()
    yield
    module._values.cache_clear()


@pytest.mark.parametrize(
    "secret",
    [
        pytest.param(new_secret(), id="a token"),  # (random: its text would be another in each process of the tests)
        pytest.param(new_secret("bcs"), id="a session"),
        "wJalrXUtnFEMI/" + "K7MDENG+bPxRfiCYEXAMPLEKEY",
        "hunter2-hunter2",
        "hunter2-hunter2-and-more",
        "AKIA" + "IOSFODNN7EXAMPLE",
        "ghp_" + "a1B2" * 9,
        "hf_" + "a1B2c3" * 6,
        "-----BEGIN RSA " + "PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN OPENSSH " + "PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA",
    ],
)
def test_a_secret_is_masked_wherever_it_stands(secret: str) -> None:
    for text in (secret, f"cannot log in with {secret}: refused", f"{{'key': '{secret}'}}", f"x={secret}\ny={secret}"):
        shown = redact(text)
        assert secret not in shown
        assert secret[-12:] not in shown
        assert "***" in shown
    assert redact(f"before {secret} after") in ("before *** after", "before ***")


def test_what_surrounds_a_secret_stays() -> None:
    assert redact("Authorization: Bearer 0123456789abcdef0123") == "Authorization: Bearer ***"
    assert redact("postgresql://bcd:s3cret@db:5432/bcd is away") == "postgresql://***@db:5432/bcd is away"


@pytest.mark.parametrize(
    "text",
    [
        "step 100: loss 0.3",
        "abc",
        "/home/someone/ray-token is missing",
        "token-mode",
        "Constantinople",
        "the bearer of bad news",
        "http://127.0.0.1:8765/api/v1/jobs",
        "bcd_short",
        "sha256 " + "0123456789abcdef" * 4,
    ],
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text) == text
