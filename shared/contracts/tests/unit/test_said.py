"""Limits, sessions, keys and commands: what each refuses, and where."""

import json
from typing import Any

import pydantic
import pytest

from chassis.kernel import errors, ids
from chassis.web import body
from contracts import commands, gateway, ratelimits, sessions

CHECK = {"subject": {"ip": "127.0.0.1"}, "policies": ["shop"]}
POLICY = {"key": "sender", "rate": "100/s", "burst": 200}
SESSION = {"id": "offline_a", "shop": "a.myshopify.com", "accessToken": "shpat_1"}
KEY = {"name": "app", "scopes": ["jobs:read"]}
ACCEPTED = {
    "id": str(ids.new_id()),
    "accepted_at": "2026-01-01T00:00:00Z",
    "job": {"kind": "sms.send"},
    "fingerprint": "f",
}


def parse(model: type[pydantic.BaseModel], document: dict[str, Any]) -> Any:
    return body.parse(json.dumps(document).encode(), model)


@pytest.mark.parametrize(
    ("model", "least", "said", "pointer"),
    [
        (ratelimits.Check, CHECK, {"policies": []}, "/policies"),
        (ratelimits.Check, CHECK, {"policies": ["a"] * 9}, "/policies"),
        (ratelimits.Check, CHECK, {"policies": ["a", "a"]}, ""),
        (ratelimits.Check, CHECK, {"cost": -1}, "/cost"),
        (ratelimits.Check, CHECK, {"cost": 1.5}, "/cost"),
        (ratelimits.Check, CHECK, {"mode": "steal"}, "/mode"),
        (ratelimits.Check, CHECK, {"subject": {"name": "x"}}, "/subject/name"),
        (ratelimits.Reserve, CHECK, {"max_wait_ms": 600_001}, "/max_wait_ms"),
        (ratelimits.PolicyPut, POLICY, {"rate": "0/s"}, "/rate"),
        (ratelimits.PolicyPut, POLICY, {"rate": "fast"}, "/rate"),
        (ratelimits.PolicyPut, POLICY, {"burst": 0}, "/burst"),
        (ratelimits.PolicyPut, POLICY, {"key": "colour"}, "/key"),
        (ratelimits.PolicyPut, POLICY, {"floors": {"batch": 1}}, "/floors/batch"),
        (sessions.SessionBody, SESSION, {"id": ""}, "/id"),
        (sessions.SessionBody, SESSION, {"shop": "  "}, "/shop"),
        (sessions.SessionBody, SESSION, {"expires": "2026-01-01T00:00:00Z"}, "/expires"),
        (sessions.SessionBody, SESSION, {"expires": -1}, "/expires"),
        (gateway.KeyCreate, KEY, {"scopes": []}, "/scopes"),
        (gateway.KeyCreate, KEY, {"scopes": ["everything"]}, "/scopes/0"),
        (gateway.KeyCreate, KEY, {"name": ""}, "/name"),
        (gateway.KeyCreate, KEY, {"expires_at": "2026-01-01T00:00:00"}, "/expires_at"),
        (gateway.EventsPosted, {"events": []}, {}, "/events"),
        (commands.AcceptJobs, {"jobs": []}, {}, "/jobs"),
        (commands.AcceptJobs, {"jobs": [{**ACCEPTED, "id": "7"}]}, {}, "/jobs/0/id"),
        (commands.AcceptJobs, {"jobs": [ACCEPTED], "type": "other"}, {}, "/type"),
    ],
)
def test_each_wrong_member_is_named(
    model: type[pydantic.BaseModel], least: dict[str, Any], said: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(errors.Invalid) as caught:
        parse(model, {**least, **said})
    assert any(flaw.pointer.startswith(pointer) for flaw in caught.value.flaws)
    assert "shpat_1" not in str(caught.value.flaws)


@pytest.mark.parametrize(
    ("model", "least"),
    [(ratelimits.Check, CHECK), (ratelimits.Reserve, CHECK), (ratelimits.PolicyPut, POLICY),
     (sessions.SessionBody, SESSION), (gateway.KeyCreate, KEY),
     (commands.AcceptJobs, {"jobs": [ACCEPTED]})],
)  # fmt: skip
def test_the_least_of_each_is_taken(model: type[pydantic.BaseModel], least: dict[str, Any]) -> None:
    parse(model, least)


@pytest.mark.parametrize("rate", ["1/s", "100/10s", "60/m", "5/h", "1000/2d", "999999999/s"])
def test_rates(rate: str) -> None:
    assert parse(ratelimits.PolicyPut, {**POLICY, "rate": rate}).rate == rate


def test_a_session_comes_back_as_it_was_given_with_what_we_do_not_know() -> None:
    given = {**SESSION, "isOnline": False, "onlineAccessInfo": {"a": [1]}, "new": {"b": None}}
    assert parse(sessions.SessionBody, given).document() == given


def test_tokens_do_not_show_themselves() -> None:
    read = parse(sessions.SessionBody, {**SESSION, "refreshToken": "shprt_1"})
    assert "shpat_1" not in repr(read)
    assert "shprt_1" not in repr(read)


@pytest.mark.parametrize(
    ("said", "good"),
    [({}, True), ({"mode": "online", "user_id": "7"}, True), ({"mode": "online"}, False),
     ({"user_id": "7"}, False), ({"mode": "offline", "user_id": "7"}, False)],
)  # fmt: skip
def test_a_token_is_of_the_shop_or_of_one_user(said: dict[str, str], good: bool) -> None:
    if good:
        sessions.TokenQuery.model_validate_strings(said)
    else:
        with pytest.raises(pydantic.ValidationError):
            sessions.TokenQuery.model_validate_strings(said)
