"""Shopify's own Session and our storage for it, through the gateway with an API key."""

import asyncio
import os
from pathlib import Path

from testkit.stack import StackProcess

WITHIN_S = 60.0


async def test_sessions_are_stored_through_the_gateway(
    stack: StackProcess, node: str, session_storage: Path
) -> None:
    ran = await asyncio.create_subprocess_exec(
        node,
        "--test",
        "tests/storage.test.js",
        cwd=session_storage,
        env={**os.environ, "MAINSTAY_URL": stack.gateway_url, "MAINSTAY_KEY": stack.admin_key},
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await asyncio.wait_for(ran.communicate(), WITHIN_S)
    assert ran.returncode == 0, told.decode()
    assert b"# pass 0" not in told
