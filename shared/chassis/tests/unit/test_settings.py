"""The environment, judged at once and never told back."""

from pathlib import Path

import pytest

from chassis import settings

GOOD = {
    "DATABASE_URL": "postgresql://u:hunter2@db/x",
    "SERVICE_KEY": "-----PEM of hunter2-----",
    "SERVICE_KEYS_DIR": "/keys",
}


def load(**environ: str) -> settings.Settings:
    return settings.load(settings.Settings, {**GOOD, **environ})


def refused(environ: dict[str, str]) -> str:
    with pytest.raises(settings.SettingsError) as caught:
        settings.load(settings.Settings, environ)
    return str(caught.value)


def test_the_least_that_is_needed() -> None:
    loaded = load()
    assert loaded.mainstay_bind == "127.0.0.1"
    assert loaded.redis_url is None
    assert settings.secret(loaded.redis_url) is None
    assert settings.secret(loaded.database_url) == GOOD["DATABASE_URL"]


def test_every_fault_is_told_and_no_value() -> None:
    told = refused({**GOOD, "DATABASE_URL": "", "PORT": "sixty", "LOG_LEVEL": "hunter2"})
    for name in ("DATABASE_URL", "PORT", "LOG_LEVEL"):
        assert f"{name}: " in told
    assert "hunter2" not in told
    assert "sixty" not in told


def test_empty_is_unset() -> None:
    assert load(REDIS_URL="", PORT="").port == 0


def test_a_file_gives_the_value(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("redis://cache/0\n")
    loaded = load(REDIS_URL_FILE=str(secret))
    assert settings.secret(loaded.redis_url) == "redis://cache/0"
    assert settings.secret(load(REDIS_URL="", REDIS_URL_FILE=str(secret)).redis_url) is not None
    said = load(REDIS_URL="redis://said/0", REDIS_URL_FILE=str(secret))
    assert settings.secret(said.redis_url) == "redis://said/0"


def test_an_unreadable_file_is_one_fault_among_others(tmp_path: Path) -> None:
    told = refused({
        "DATABASE_URL_FILE": str(tmp_path / "none"),
        "SERVICE_KEYS_DIR": "/keys",
        "PORT": "-1",
    })  # fmt: skip
    assert "DATABASE_URL_FILE: cannot be read" in told
    assert "DATABASE_URL: " not in told
    assert "SERVICE_KEY: " in told
    assert "PORT: " in told


def test_files_of_other_people_are_not_opened(tmp_path: Path) -> None:
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff\xfe")
    load(SSL_CERT_FILE="/nowhere", HISTORY_FILE=str(binary))
    assert "REDIS_URL_FILE" in refused({**GOOD, "REDIS_URL_FILE": str(binary)})


def test_the_dump_hides_secrets() -> None:
    told = str(settings.redacted(load(REDIS_URL="redis://:hunter2@cache")))
    assert "hunter2" not in told
    assert "'redis_url': '**********'" in told
    assert "127.0.0.1" in told


def test_settings_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load().port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    "url",
    ["https://shop.example", "http://127.0.0.1:1", "http://localhost", "http://[::1]:8",
     "http://127.9.9.9"],
)  # fmt: skip
def test_secrets_may_travel_by_https_or_loopback(url: str) -> None:
    assert settings.https_or_loopback(url) == url


@pytest.mark.parametrize(
    "url",
    ["http://shop.example", "http://10.0.0.1", "http://localhost.evil.example", "ftp://127.0.0.1",
     "127.0.0.1", "", "http://", "http://127.0.0.1@evil.example"],
)  # fmt: skip
def test_and_by_nothing_else(url: str) -> None:
    with pytest.raises(ValueError):
        settings.https_or_loopback(url)
