"""Shopify's own packages with the session storage, before a real session-service."""

import asyncio
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from testkit.shopify.server import MockShopify

PACKAGE = Path(__file__).resolve().parents[2] / "session-storage"
WITHIN_S = 60.0
TYPES = ("--noEmit", "--strict", "--skipLibCheck", "--module", "nodenext", "--target", "es2022")


@pytest.fixture
def package(shopify_packages: Path, tmp_path: Path) -> Path:
    """Beside what it stands on, as an app has it."""
    own = tmp_path / "session-storage"
    shutil.copytree(PACKAGE, own, ignore=shutil.ignore_patterns("node_modules"))
    (own / "node_modules").symlink_to(shopify_packages)
    return own


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
    node: str, package: Path, session_service: Any, shopify: MockShopify
) -> None:
    files = sorted((package / "tests").glob("*.test.js"))
    more = {**environ(session_service), "SHOPIFY_URL": shopify.url}
    told = await said(node, "--test", *files, cwd=package, more=more)
    assert "# pass 0" not in told


async def test_the_types_are_those_that_shopify_asks_for(node: str, package: Path) -> None:
    compiler = package / "node_modules" / "typescript" / "bin" / "tsc"
    assert await said(node, compiler, *TYPES, "tests/types.ts", cwd=package) == ""


async def test_the_readme_s_example_runs(node: str, package: Path, session_service: Any) -> None:
    (code,) = re.findall(r"```js\n(.*?)```", (package / "README.md").read_text(), re.DOTALL)
    example = package / "example.mjs"
    example.write_text(code.replace("http://127.0.0.1:18080", session_service.url))
    assert await said(node, example, cwd=package, more=environ(session_service)) == "0\n"
