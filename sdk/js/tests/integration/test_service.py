"""Node's tests before a real ratelimit-service."""

import asyncio
import os
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("service.test.js")
WITHIN_S = 60.0


async def test_the_tests_of_node_pass(node: str, limit_service: Any) -> None:
    environ = {**os.environ, "MAINSTAY_URL": limit_service.url, "MAINSTAY_KEY": limit_service.key}
    ran = await asyncio.create_subprocess_exec(
        node, "--test", str(FILE), env=environ, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await asyncio.wait_for(ran.communicate(), WITHIN_S)
    assert ran.returncode == 0, told.decode()
    assert b"# pass 0" not in told
