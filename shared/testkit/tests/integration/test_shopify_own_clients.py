"""Shopify's own JavaScript is content with our Shopify, in every word that it reads."""

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from testkit.shopify.server import MockShopify

CLIENTS = Path(__file__).with_name("shopify_clients")
WITHIN_S = 60.0


@pytest.mark.parametrize("what", sorted(CLIENTS.glob("*.test.js")), ids=lambda path: path.stem)
async def test_the_tests_of_node_pass(
    what: Path, node: str, shopify_packages: Path, shopify: MockShopify, tmp_path: Path
) -> None:
    app = tmp_path / "app"
    shutil.copytree(CLIENTS, app)
    (app / "package.json").write_text('{"type": "module"}')
    (app / "node_modules").symlink_to(shopify_packages)
    ran = await asyncio.create_subprocess_exec(
        node,
        "--test",
        str(app / what.name),
        env={
            **os.environ,
            "SHOPIFY_URL": shopify.url,
            "SHOPIFY_KEY": shopify.api_key,
            "SHOPIFY_SECRET": shopify.api_secret,
        },
        stdout=asyncio.subprocess.PIPE,
    )
    told, _ = await asyncio.wait_for(ran.communicate(), WITHIN_S)
    assert ran.returncode == 0, told.decode()
    assert b"# pass 0" not in told
