"""The newcomer's path of the SDK's README, and pulling through the gateway."""

import asyncio
import base64
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from localstack.servers import ports
from testkit.signals import eventually
from testkit.stack import StackProcess

from .test_documents import ROOT, Typist, block_with, blocks, commands, finished, typed

SDK = ROOT / "sdk" / "python" / "README.md"
WITHIN_S = 30.0


async def test_the_first_job_by_curl_is_leased_and_settled(stack: StackProcess) -> None:
    typist, block = Typist(stack), block_with(SDK, "greetings:lease")
    statuses, leased = [], None
    for command in commands(block):
        if leased is not None:
            token = leased["lease"]["token"]
            command = command.replace("<token>", token).replace("<id>", leased["id"])
        answer = await typist.type(command)
        if answer is None:
            continue
        statuses.append(answer.status)
        if "jobs" in answer.body:
            (leased,) = answer.body["jobs"]
        last = answer.body
    assert statuses[1:] == [201, 200, 200, 200]
    assert (last["state"], last["result"]) == ("completed", {"said": "Hello, Eleni"})


def script(stack: StackProcess, folder: Path, what: str) -> tuple[Path, dict[str, str]]:
    (code,) = [block for block in blocks(SDK, "python") if what in block]
    path = folder / "script.py"
    path.write_text(code.replace("http://127.0.0.1:18080", stack.gateway_url))
    return path, {**os.environ, "MAINSTAY_HOME": str(stack.home)}


async def make_queue(stack: StackProcess) -> None:
    path = "/v1/queues/greetings"
    async with stack.session() as session, session.put(path, json={}) as answer:
        assert answer.status in (200, 201)


async def test_the_same_in_python_settles_it(stack: StackProcess, tmp_path: Path) -> None:
    await make_queue(stack)
    path, environ = script(stack, tmp_path, "mainstay.lease(")
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, str(path)], env=environ, capture_output=True, text=True,
        check=False, timeout=WITHIN_S,
    )  # fmt: skip
    assert done.stdout == "settled {'said': 'Hello, Eleni'}\n", done.stderr


async def test_a_worker_of_ones_own_runs_jobs_and_stops_cleanly(
    stack: StackProcess, tmp_path: Path
) -> None:
    await make_queue(stack)
    path, environ = script(stack, tmp_path, "Worker(")
    worker = await asyncio.create_subprocess_exec(sys.executable, str(path), env=environ)
    try:
        async with stack.client() as client:
            job = await client.enqueue("greeting.send", {"name": "Ελένη"}, queue="greetings")

            async def completed() -> Any:
                found = await client.get_job(job.id)
                return found if found.state == "completed" else None

            assert (await eventually(completed, within_s=WITHIN_S)).result == {
                "said": "Hello, Ελένη"
            }
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(worker.wait(), 10) == 0
    finally:
        if worker.returncode is None:
            worker.kill()
            await worker.wait()


async def test_jobs_come_to_an_app_behind_a_url(stack: StackProcess, tmp_path: Path) -> None:
    port, secret = str(ports.free_port()), f"whsec_{base64.b64encode(os.urandom(32)).decode()}"
    (code,) = [block for block in blocks(SDK, "python") if "webhook-id" in block]
    (tmp_path / "hook.py").write_text(code.replace("8099", port))
    environ = {**os.environ, "HOOK_SECRET": secret}
    app = await asyncio.create_subprocess_exec(
        sys.executable, str(tmp_path / "hook.py"), env=environ, stdout=subprocess.DEVNULL
    )
    try:
        await eventually(lambda: not ports.is_free(int(port)), within_s=WITHIN_S)
        block = block_with(SDK, "HOOK_SECRET").replace("8099", port)
        put, job, _ = await typed(Typist(stack), block.replace("$HOOK_SECRET", secret))
        assert (put.status, job.status) == (201, 201)
        done = await finished(stack, job.body["id"])
        assert (done["state"], done["result"]) == ("completed", {"said": "Hello, Eleni"})
    finally:
        app.terminate()
        await app.wait()


async def test_the_operators_verbs_do_what_the_readme_shows(
    stack: StackProcess, tmp_path: Path
) -> None:
    path, environ = script(stack, tmp_path, "put_schedule(")
    done = await asyncio.to_thread(
        subprocess.run, [sys.executable, str(path)], env=environ, capture_output=True, text=True,
        check=False, timeout=WITHIN_S,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "ready", "1", "cancelled", "ready"], done.stderr


async def parked_are(stack: StackProcess, count: int) -> None:
    """As queue-service's own metrics tell."""

    async def so() -> bool:
        exposed = await stack.metrics("queue-service")
        return f"queue_parked_polls {count:.1f}" in exposed.splitlines()

    await eventually(so, within_s=WITHIN_S)


async def test_a_caller_who_hangs_up_at_the_gateway_costs_no_attempt(stack: StackProcess) -> None:
    async with stack.client() as client, stack.session() as session:
        await session.put("/v1/queues/hang-up", json={})
        parked = asyncio.create_task(client.lease("hang-up", wait_s=20))
        waits = asyncio.create_task(client.lease("hang-up", wait_s=20))
        await parked_are(stack, 2)
        parked.cancel()
        await parked_are(stack, 1)
        began = time.monotonic()
        job = await client.enqueue("test", queue="hang-up")
        (leased,) = (await waits).jobs
        assert (leased.id, leased.attempt) == (job.id, 1)
        assert time.monotonic() - began < 3
        await client.settle([leased.completed()])
