"""The sandbox: Twilio's shape to callers, a record that outlives it, and faults on demand."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from localstack.sandbox import record as records
from localstack.sandbox.record import Full, Record
from localstack.sandbox.server import Sandbox
from localstack.servers import ports
from testkit.signals import eventually

Client = TestClient[web.Request, web.Application]
SID, TOKEN = "AC1", "secret"
PATH = f"/2010-04-01/Accounts/{SID}/Messages.json"
AUTH = {"Authorization": aiohttp.encode_basic_auth(SID, TOKEN)}
FORM = {"To": "+306912345678", "From": "+12125550100", "Body": "Γεια 🌷"}


@pytest.fixture
def record(tmp_path: Path) -> Record:
    return Record(tmp_path / "state" / "messages.ndjson")


@pytest_asyncio.fixture
async def client(record: Record) -> AsyncIterator[Client]:
    app = Sandbox(sid=SID, token=TOKEN, record=record).app()
    async with TestClient(TestServer(app)) as made:
        yield made
    record.close()


async def create(client: Client, **form: str) -> tuple[int, dict[str, Any]]:
    said = {name: value for name, value in {**FORM, **form}.items() if value}
    async with client.post(PATH, data=said, headers=AUTH) as answer:
        return answer.status, await answer.json()


async def misbehave(client: Client, **fault: Any) -> None:
    async with client.put("/sandbox/faults", json=fault) as answer:
        assert answer.status == 200


async def test_a_message_is_taken_shown_and_listed_newest_first(client: Client) -> None:
    status, first = await create(client)
    assert status == 201
    assert (first["to"], first["body"], first["status"]) == (FORM["To"], FORM["Body"], "queued")
    _, second = await create(client, Body="again")
    shown = await client.get(PATH.replace(".json", f"/{first['sid']}.json"), headers=AUTH)
    assert await shown.json() == first
    listed = await (await client.get(f"{PATH}?PageSize=1", headers=AUTH)).json()
    assert [one["sid"] for one in listed["messages"]] == [second["sid"]]
    ours = await (await client.get("/sandbox/messages", params={"to": FORM["To"]})).json()
    assert [one["sid"] for one in ours["messages"]] == [first["sid"], second["sid"]]
    stats = await (await client.get("/sandbox/stats")).json()
    assert stats == {"total": 2, "distinct": 1, "duplicates": 1, "duplicated": [FORM["To"]]}


@pytest.mark.parametrize(
    ("form", "code"),
    [
        ({"To": ""}, 21604),
        ({"To": "6912345678"}, 21211),
        ({"From": ""}, 21603),
        ({"From": "Ο ανθοπώλης"}, 21212),
        ({"From": "", "MessagingServiceSid": "nope"}, 21701),
        ({"Body": ""}, 21602),
        ({"Body": "x" * 1601}, 21617),
    ],
)
async def test_wrong_messages_are_refused_as_twilio_does(
    client: Client, record: Record, form: dict[str, str], code: int
) -> None:
    status, told = await create(client, **form)
    assert 400 <= status < 500
    assert told["code"] == code
    assert told["status"] == status
    assert record.messages == []


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic ???",
        AUTH["Authorization"].replace("Basic", "Bearer"),
        aiohttp.encode_basic_auth(SID, "wrong"),
        "Basic é",
    ],
)
async def test_who_does_not_know_the_token_is_refused(
    client: Client, record: Record, authorization: str
) -> None:
    answer = await client.post(PATH, data=FORM, headers={"Authorization": authorization})
    assert answer.status == 401
    assert record.messages == []


async def test_another_account_is_not_found(client: Client) -> None:
    answer = await client.post(PATH.replace(SID, "AC2"), data=FORM, headers=AUTH)
    assert answer.status == 404


@pytest.mark.parametrize(("before_record", "recorded"), [(True, 0), (False, 1)])
@pytest.mark.parametrize(("mode", "status"), [("fail", 500), ("throttle", 429)])
async def test_it_fails_before_or_after_it_has_sent(
    client: Client, record: Record, mode: str, status: int, before_record: bool, recorded: int
) -> None:
    await misbehave(client, mode=mode, before_record=before_record, count=1)
    assert (await create(client))[0] == status
    assert len(record.messages) == recorded
    assert (await create(client))[0] == 201, "only once"
    told = await (await client.get("/sandbox/faults")).json()
    assert told["struck"] == 1


async def test_it_drops_the_connection(client: Client, record: Record) -> None:
    await misbehave(client, mode="drop", before_record=False)
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await create(client)
    assert len(record.messages) == 1


async def test_it_is_slow(client: Client) -> None:
    await misbehave(client, mode="slow", delay_ms=60)
    loop = asyncio.get_running_loop()
    started = loop.time()
    assert (await create(client))[0] == 201
    assert loop.time() - started >= 0.06


async def test_a_share_of_nothing_strikes_nobody(client: Client) -> None:
    await misbehave(client, mode="fail", ratio=0)
    assert (await create(client))[0] == 201


@pytest.mark.parametrize("raw", [b"{", b'{"mode":"angry"}', b'{"ratio":2}', b"\xff", b'{"x":1}'])
async def test_a_wrong_fault_is_refused_and_changes_nothing(client: Client, raw: bytes) -> None:
    answer = await client.put("/sandbox/faults", data=raw)
    assert answer.status == 422
    assert (await answer.json())["errors"]
    assert (await (await client.get("/sandbox/faults")).json())["mode"] == "ok"


async def test_clearing_forgets_everything(client: Client, record: Record) -> None:
    await create(client)
    assert await (await client.delete("/sandbox/messages")).json() == {"deleted": 1}
    await create(client, Body="after")
    record.close()
    again = Record(record._path)
    assert [one["body"] for one in again.messages] == ["after"]
    again.close()


def test_the_record_outlives_its_process_and_forgets_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "messages.ndjson"
    first = Record(path)
    first.append({"to": "+1", "body": "ω"})
    first.append({"to": "+2", "body": "x"})
    first.close()
    with path.open("a") as file:
        file.write('{"to": "+3", "bo')
    second = Record(path)
    assert [one["to"] for one in second.messages] == ["+1", "+2"]
    second.append({"to": "+4", "body": ""})
    second.close()
    third = Record(path)
    assert [one["to"] for one in third.messages] == ["+1", "+2", "+4"]
    third.close()


def test_a_full_record_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MESSAGES_MAX", 1)
    record = Record(tmp_path / "m")
    record.append({"to": "+1"})
    with pytest.raises(Full):
        record.append({"to": "+2"})
    record.close()


async def test_as_a_process_it_keeps_what_it_answered_over_a_kill(tmp_path: Path) -> None:
    port, state = ports.free_port(), tmp_path / "m"
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
        for turn in (1, 2):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "localstack.sandbox", "--port", str(port),
                "--state", str(state), stdout=asyncio.subprocess.DEVNULL,
                env={"TWILIO_ACCOUNT_SID": SID, "TWILIO_AUTH_TOKEN": TOKEN},
            )  # fmt: skip

            async def answers() -> bool:
                try:
                    return (await http.get("/healthz")).status == 200
                except aiohttp.ClientConnectorError:
                    return False

            await eventually(answers, within_s=15)
            async with http.post(PATH, data=FORM, headers=AUTH) as answer:
                assert answer.status == 201
            assert len(state.read_text().splitlines()) == turn
            process.send_signal(signal.SIGKILL if turn == 1 else signal.SIGTERM)
            assert await process.wait() == (-9 if turn == 1 else 0)


async def test_without_its_secret_it_does_not_start(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "localstack.sandbox", "--port", "1", "--state", str(tmp_path / "m"),
        env={}, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    _, said = await process.communicate()
    assert process.returncode == 2
    assert b"TWILIO_ACCOUNT_SID" in said


def test_lines_are_json(record: Record) -> None:
    record.append({"to": "+1", "body": "a\nb"})
    assert json.loads(record._path.read_text()) == {"to": "+1", "body": "a\nb"}
    record.close()
