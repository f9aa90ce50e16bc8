"""What README.md and the Greek API document tell people to type does what they say.

The commands are read from the documents and carried out here: `curl` by a client of our own, since
a bare machine has none, `kill` by the number in the named pid file.
"""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from testkit.signals import eventually
from testkit.stack import StackProcess

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
GREEK = ROOT / "docs" / "el" / "API_DOCUMENTATION_GR.md"
BLOCK = re.compile(r"```(\w+)\n(.*?)```", re.DOTALL)
SIGNAL = re.compile(r"kill -(STOP|CONT) \$\(cat \$MAINSTAY_HOME/run/([\w-]+)\.pid\)")
WITHIN_S = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: Any


def blocks(path: Path, language: str) -> list[str]:
    return [code for found, code in BLOCK.findall(path.read_text()) if found == language]


def commands(block: str) -> Iterator[str]:
    """Whole commands: lines that end in a backslash, or in the middle of a quote, go on."""
    command = ""
    for line in block.splitlines():
        command += line + "\n"
        if line.endswith("\\") or command.count("'") % 2:
            continue
        if command.strip() and not command.startswith("#"):
            yield command.replace("\\\n", " ").strip()
        command = ""


class Typist:
    """Types what a document says at a stack; `last_id` is what stands for `<id>`."""

    def __init__(self, stack: StackProcess) -> None:
        self._stack = stack
        self.last_id = ""

    async def type(self, command: str) -> Answer | None:
        if command.startswith("curl "):
            return await self._curl(self._filled(command))
        if found := SIGNAL.fullmatch(command):
            act = {"STOP": self._stack.freeze, "CONT": self._stack.thaw}[found[1]]
            act(found[2])
        return None

    def _filled(self, command: str) -> str:
        places = {
            "http://127.0.0.1:18080": self._stack.gateway_url,
            "http://127.0.0.1:18100": self._stack.sandbox_url,
            "$KEY": self._stack.admin_key,
            "<id>": self.last_id,
        }
        for place, value in places.items():
            command = command.replace(place, value)
        return command

    async def _curl(self, command: str) -> Answer:
        method, url, headers, data = "", "", {}, None
        words = iter(shlex.split(command, comments=True)[1:])
        for word in words:
            match word:
                case "-i" | "-s" | "-si":
                    continue
                case "-X":
                    method = next(words)
                case "-H":
                    name, _, value = next(words).partition(":")
                    headers[name] = value.strip()
                case "-d":
                    data = next(words).encode()
                case "--data-binary":
                    data = (ROOT / next(words).removeprefix("@")).read_bytes()
                case _:
                    assert word.startswith("http"), word
                    url = word
        method = method or ("GET" if data is None else "POST")
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, headers=headers, data=data) as answer,
        ):
            text = await answer.text()
            body = json.loads(text) if text else None
            if isinstance(body, dict) and method == "POST" and "id" in body:
                self.last_id = body["id"]
            return Answer(answer.status, dict(answer.headers), body)


def block_with(path: Path, what: str) -> str:
    (found,) = [block for block in blocks(path, "sh") if what in block]
    return found


async def typed(typist: Typist, block: str) -> list[Answer]:
    answers = [await typist.type(command) for command in commands(block)]
    return [each for each in answers if each is not None]


async def finished(stack: StackProcess, job_id: str) -> dict[str, Any]:
    async def seen() -> dict[str, Any]:
        async with stack.session() as session, session.get(f"/v1/jobs/{job_id}") as answer:
            job: dict[str, Any] = await answer.json()
            assert job.get("finished_at")
            return job

    return await eventually(seen, within_s=WITHIN_S)


async def test_the_first_job_of_the_readme_is_one_message_however_often_it_is_sent(
    stack: StackProcess,
) -> None:
    typist, first = Typist(stack), block_with(README, "hello-eleni")
    (created,) = await typed(typist, first)
    (again,) = await typed(typist, first)
    assert (created.status, again.status) == (201, 200)
    assert again.headers["Idempotent-Replay"] == "true"
    assert again.body["id"] == created.body["id"]
    await finished(stack, created.body["id"])
    job, messages, system = await typed(typist, block_with(README, "/sandbox/messages"))
    assert job.body["state"] == "completed"
    bodies = [each["body"] for each in messages.body["messages"]]
    assert bodies.count("Γεια σου Ελένη!") == 1
    assert system.body["roads"]["enqueue"] == "direct"


def test_the_first_job_by_python_completes(stack: StackProcess, tmp_path: Path) -> None:
    (code,) = blocks(README, "python")
    script = tmp_path / "first_job.py"
    script.write_text(code.replace("http://127.0.0.1:18080", stack.gateway_url))
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "MAINSTAY_HOME": str(stack.home)},
        capture_output=True, text=True, check=False, timeout=WITHIN_S,
    )  # fmt: skip
    assert done.stdout.startswith("completed "), done.stderr


async def test_a_frozen_queue_service_costs_no_job(stack: StackProcess) -> None:
    typist = Typist(stack)
    accepted, _soon = await typed(typist, block_with(README, "kill -STOP"))
    assert accepted.status == 202
    assert accepted.headers["Mainstay-Road"] == "spool"
    assert accepted.body["state"] == "accepted"
    assert (await finished(stack, accepted.body["id"]))["state"] == "completed"


async def test_the_greek_document_can_be_typed_from_top_to_bottom(stack: StackProcess) -> None:
    typist = Typist(stack)
    (job,) = await typed(typist, block_with(GREEK, "kalimera-eleni"))
    assert job.status == 201
    batch, items, closed = await typed(typist, block_with(GREEK, "/v1/batches"))
    assert (batch.status, items.status, closed.status) == (201, 200, 200)
    assert items.body["accepted"] + len(items.body["rejected"]) == items.body["rows"]
    assert closed.body["total"] == items.body["accepted"]


async def test_the_greek_limit_check_is_what_the_service_understands(stack: StackProcess) -> None:
    (asked,) = [json.loads(each) for each in blocks(GREEK, "json") if '"subject"' in each]
    (told,) = [json.loads(each) for each in blocks(GREEK, "json") if '"allowed"' in each]
    async with stack.session() as session:
        answer = await session.post("/v1/ratelimits/check", json=asked)
        decision = await answer.json()
    assert decision["allowed"] is True
    assert set(told) <= set(decision)
    assert set(told["limits"][0]) == set(decision["limits"][0])
