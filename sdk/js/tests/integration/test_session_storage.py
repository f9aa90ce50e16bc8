"""Shopify's own packages with the session storage, before a real session-service."""

import asyncio
import os
import shutil
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[3] / "js" / "session-storage"
WITHIN_S = 60.0


def as_installed(folder: Path, packages: Path) -> Path:
    """The package beside what it stands on, as an app has it."""
    own = folder / "session-storage"
    shutil.copytree(PACKAGE, own, ignore=shutil.ignore_patterns("node_modules"))
    (own / "node_modules").symlink_to(packages)
    return own


async def test_the_tests_of_node_pass(
    node: str, shopify_packages: Path, session_service: Any, tmp_path: Path
) -> None:
    own = as_installed(tmp_path, shopify_packages)
    ran = await asyncio.create_subprocess_exec(
        node,
        "--test",
        *sorted(str(file) for file in (own / "tests").glob("*.test.js")),
        env={
            **os.environ,
            "MAINSTAY_URL": session_service.url,
            "MAINSTAY_KEY": session_service.key,
        },
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await asyncio.wait_for(ran.communicate(), WITHIN_S)
    assert ran.returncode == 0, told.decode()
    assert b"# pass 0" not in told
