"""Settings from the environment: clear refusals, secrets by file, and children that load the same again."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from service.auth import ensure_key, ensure_secrets, owner_token
from service.settings import Settings
from service.variables import VARIABLES

KEY = "0123456789abcdef" * 4


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("BCD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secrets" / "one"
    path.parent.mkdir()
    path.write_text(f"{KEY}\n")
    return path


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("BCD_API_PORT", "80a", "must be a port"),
        ("BCD_API_PORT", "65536", "must be a port"),
        ("BCD_LEASE_SECONDS", "0", "number of seconds above 0"),
        ("BCD_LEASE_SECONDS", "nan", "number of seconds above 0"),
        ("BCD_MAX_ATTEMPTS", "-1", "whole number above 0"),
        ("BCD_MLFLOW_URL", "mlflow:5000", "http://host"),
        ("BCD_API_URL", "ftp://api", "http://host"),
        ("BCD_RAY_ADDRESS", "ray-head", "host:port"),
        ("BCD_RAY_ADDRESS", "ray-head:x", "host:port"),
        ("BCD_ALLOWED_HOSTS", "http://api", "without port"),
        ("BCD_ALLOWED_HOSTS", "*", "without port"),
    ],
)
def test_what_cannot_be_read_is_refused_with_name_and_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str, said: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(SystemExit) as caught:
        Settings.load(tmp_path)
    assert name in str(caught.value)
    assert repr(text) in str(caught.value)
    assert said in str(caught.value)


def test_every_variable_sets_a_field_of_its_own() -> None:
    names = [name for name, _ in VARIABLES.values()]
    assert len(names) == len(set(names))
    assert set(names) < {field.name for field in fields(Settings)}


def test_a_child_loads_the_settings_of_its_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings.load(
        tmp_path / "home",
        database_url="postgresql+psycopg://u:p@h/d",
        api_port=1234,
        lease_seconds=2.5,
        other_hosts=("a", "b"),
        mlflow_address="http://m:1",
        ray_address="r:2",
    )
    for name, value in given.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings.load() == given


def test_the_password_of_the_database_is_read_from_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: Path
) -> None:
    secret.write_text("p@ss/w:rd\n")
    monkeypatch.setenv("BCD_DATABASE_URL", "postgresql+psycopg://bcd@db:5432/bcd")
    monkeypatch.setenv("BCD_DATABASE_PASSWORD_FILE", str(secret))
    settings = Settings.load(tmp_path)
    assert settings.database_url == "postgresql+psycopg://bcd:p%40ss%2Fw%3Ard@db:5432/bcd"
    assert "p@ss" not in repr(settings)
    assert "p%40ss" not in repr(settings)
    assert "BCD_DATABASE_URL" not in settings.environment()  # children inherit the file's name


def test_the_whole_address_of_the_database_may_be_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: Path
) -> None:
    secret.write_text("postgresql+psycopg://bcd:secret@db/bcd\n")
    monkeypatch.setenv("BCD_DATABASE_URL_FILE", str(secret))
    assert Settings.load(tmp_path).database_url == "postgresql+psycopg://bcd:secret@db/bcd"
    monkeypatch.setenv("BCD_DATABASE_URL", "sqlite:///x.db")
    with pytest.raises(SystemExit, match="keep one"):
        Settings.load(tmp_path)


@pytest.mark.parametrize(("content", "said"), [(None, "cannot read"), ("", "one line"), ("a\nb", "one line")])
def test_a_file_without_a_password_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: Path, content: str | None, said: str
) -> None:
    secret.unlink() if content is None else secret.write_text(content)
    monkeypatch.setenv("BCD_DATABASE_URL", "postgresql+psycopg://bcd@db/bcd")
    monkeypatch.setenv("BCD_DATABASE_PASSWORD_FILE", str(secret))
    with pytest.raises(SystemExit, match=said) as caught:
        Settings.load(tmp_path)
    assert "BCD_DATABASE_PASSWORD_FILE" in str(caught.value)


def test_mounted_secrets_are_used_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: Path) -> None:
    secret.chmod(0o444)
    secret.parent.chmod(0o555)
    monkeypatch.setenv("BCD_ADMIN_TOKEN_FILE", str(secret))
    monkeypatch.setenv("BCD_ATTEMPT_KEY_FILE", str(secret))
    settings = Settings.load(tmp_path / "home")
    ensure_secrets(settings)
    assert owner_token(settings) == KEY
    assert secret.stat().st_mode & 0o777 == 0o444
    assert list(settings.run.iterdir()) == []
    secret.parent.chmod(0o755)


def test_a_mounted_secret_that_is_missing_or_weak_stops_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: Path
) -> None:
    monkeypatch.setenv("BCD_ATTEMPT_KEY_FILE", str(secret))
    secret.write_text("admin")
    with pytest.raises(SystemExit, match="openssl rand -hex 32"):
        ensure_key(Settings.load(tmp_path / "home"))
    secret.unlink()
    with pytest.raises(SystemExit, match="BCD_ATTEMPT_KEY_FILE: cannot read"):
        ensure_key(Settings.load(tmp_path / "home"))
    assert not secret.exists()


def test_the_dispatcher_needs_no_api_token(tmp_path: Path) -> None:
    settings = Settings.load(tmp_path)
    ensure_key(settings)
    assert not settings.token_file.exists()


def test_the_api_answers_for_the_names_that_it_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BCD_ALLOWED_HOSTS", "bcd.example.org, Train ")
    monkeypatch.setenv("BCD_API_URL", "http://api:8765")
    monkeypatch.setenv("BCD_PUBLIC_URL", "https://people.example.org")
    names = {"bcd.example.org", "train", "api", "people.example.org", "127.0.0.1"}
    assert set(Settings.load(tmp_path).allowed_hosts) >= names


def test_an_api_on_every_interface_is_reached_on_loopback_from_its_own_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BCD_API_HOST", "0.0.0.0")
    assert Settings.load(tmp_path).api_url == "http://127.0.0.1:8765"
