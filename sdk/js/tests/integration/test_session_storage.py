"""Shopify's own packages with the session storage, before a real session-service."""

import asyncio
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testkit.shopify.server import MockShopify

WITHIN_S = 60.0
TYPES = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022")


def environ(service: Any) -> dict[str, str]:
    return {"MAINSTAY_URL": service.url, "MAINSTAY_KEY": service.key}


async def said(*argv: str | Path, cwd: Path, more: Mapping[str, str] | None = None) -> str:
    ran = await asyncio.create_subprocess_exec(
        *argv,
        cwd=cwd,
        env={**os.environ, **(more or {})},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    told, _ = await asyncio.wait_for(ran.communicate(), WITHIN_S)
    assert ran.returncode == 0, told.decode()
    return told.decode()


async def test_the_tests_of_node_pass(
    node: str, session_storage: Path, session_service: Any, shopify: MockShopify
) -> None:
    files = sorted((session_storage / "tests").glob("*.test.js"))
    more = {**environ(session_service), "SHOPIFY_URL": shopify.url}
    told = await said(node, "--test", *files, cwd=session_storage, more=more)
    assert "# pass 0" not in told


async def test_the_types_are_those_that_shopify_asks_for(node: str, session_storage: Path) -> None:
    compiler = session_storage / "node_modules" / "typescript" / "bin" / "tsc"
    assert await said(node, compiler, *TYPES, "tests/types.ts", cwd=session_storage) == ""


async def test_the_readme_s_example_runs(
    node: str, session_storage: Path, session_service: Any
) -> None:
    (code,) = re.findall(r"```js\n(.*?)```", (session_storage / "README.md").read_text(), re.DOTALL)
    example = session_storage / "example.mjs"
    example.write_text(code.replace("http://127.0.0.1:18080", session_service.url))
    assert await said(node, example, cwd=session_storage, more=environ(session_service)) == "0\n"
