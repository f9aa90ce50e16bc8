"""The environment of the stack, judged before anything starts."""

from pathlib import Path

import pytest

from chassis import crypto
from localstack import settings
from localstack.settings import SettingsError, SmsProvider


def refused(**environ: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings.load(environ)
    assert "hunter2" not in str(caught.value)
    return caught.value.faults


def test_nothing_said_is_a_stack_of_its_own() -> None:
    loaded = settings.load({})
    assert loaded.mainstay_bind == "127.0.0.1"
    assert loaded.mainstay_port_base == 18080
    assert loaded.sms_provider is SmsProvider.SANDBOX
    assert (loaded.database_url, loaded.redis_url, loaded.amqp_url) == (None, None, None)
    assert loaded.egress_allowed_networks == "127.0.0.0/8"


def test_empty_is_unset_and_strangers_are_ignored() -> None:
    loaded = settings.load({"REDIS_URL": "", "MAINSTAY_PORT_BASE": "", "HOME": "/root"})
    assert loaded.redis_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAINSTAY_PORT_BASE", "80"),
        ("MAINSTAY_PORT_BASE", "65500"),
        ("MAINSTAY_PORT_BASE", "many"),
        ("MAINSTAY_BIND", "example.com"),
        ("MAINSTAY_BIND", "::1"),
        ("MAINSTAY_ADMIN_KEY", "hunter2"),
        ("DATABASE_URL", "mysql://u:hunter2@db/x"),
        ("REDIS_URL", "http://:hunter2@cache"),
        ("AMQP_URL", "hunter2"),
        ("EGRESS_ALLOWED_NETWORKS", "10.0.0.0/99"),
        ("QUEUE_CONCURRENCY", "sms=0"),
        ("QUEUE_CONCURRENCY", "sms"),
        ("QUEUE_POLL_INTERVAL_S", "0"),
        ("SMS_PROVIDER", "pigeon"),
        ("TWILIO_BASE_URL", "http://example.com"),
        ("SHOPIFY_APP_URL", "http://app.example"),
        ("SHOPIFY_SHOP_ORIGIN", "https://shop.example"),
        ("SHOPIFY_SHOP_ORIGIN", "http://{shop}"),
        ("SESSION_KEYS", "k1:hunter2"),
        ("QUEUE_KEYS", "k1:hunter2"),
        ("LOG_LEVEL", "LOUD"),
        ("DRAIN_TIMEOUT_S", "0"),
        ("TRUSTED_HOPS", "-1"),
    ],
)
def test_each_wrong_value_is_named_by_its_variable(name: str, value: str) -> None:
    (fault,) = refused(**{name: value})
    assert fault.startswith(f"{name}: ")


@pytest.mark.parametrize(
    ("name", "value", "field", "kept"),
    [
        ("MAINSTAY_BIND", "localhost", "mainstay_bind", "127.0.0.1"),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("EGRESS_ALLOWED_NETWORKS", "none", "egress_allowed_networks", ""),
        ("EGRESS_ALLOWED_NETWORKS", "10.0.0.0/8, ::1/128", "egress_allowed_networks",
         "10.0.0.0/8,::1/128"),
        ("QUEUE_CONCURRENCY", "sms=20,campaign=5", "queue_concurrency", "sms=20,campaign=5"),
        ("SHOPIFY_SHOP_ORIGIN", "https://{shop}", "shopify_shop_origin", "https://{shop}"),
        ("SHOPIFY_SHOP_ORIGIN", "http://127.0.0.1:1/{shop}", "shopify_shop_origin",
         "http://127.0.0.1:1/{shop}"),
    ],
)  # fmt: skip
def test_right_values(name: str, value: str, field: str, kept: str) -> None:
    assert getattr(settings.load({name: value}), field) == kept


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    told = refused(LOG_LEVEL="LOUD", SMS_PROVIDER="twilio", REDIS_URL_FILE=str(tmp_path / "none"))
    assert sorted(fault.partition(":")[0] for fault in told) == [
        "LOG_LEVEL", "REDIS_URL_FILE", "TWILIO_ACCOUNT_SID", "TWILIO_AUTH_TOKEN",
    ]  # fmt: skip


def test_files_give_values(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"k1:{crypto.new_key()}\n")
    loaded = settings.load({"SESSION_KEYS_FILE": str(keys)})
    assert loaded.session_keys is not None
    keys.write_bytes(b"\xff\xfe")
    assert "SESSION_KEYS_FILE" in refused(SESSION_KEYS_FILE=str(keys))[0]
