"""The README's examples, as an app has them: installed, and run."""

import asyncio
import os
import re
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[2]
README = PACKAGE / "README.md"
WITHIN_S = 30.0
# Installed beside it, where there is no registry.
EXPRESS = "export default () => ({ use: (limit) => console.log(limit.length), post() {} });"


def block_with(what: str) -> str:
    blocks = re.findall(r"```js\n(.*?)```", README.read_text(), re.DOTALL)
    (found,) = [block for block in blocks if what in block]
    return str(found)


async def ran(node: str, folder: Path, code: str, service: Any) -> str:
    modules = folder / "node_modules"
    modules.mkdir()
    (modules / "mainstay").symlink_to(PACKAGE)
    (modules / "express").mkdir()
    (modules / "express" / "package.json").write_text('{"type": "module", "main": "index.js"}')
    (modules / "express" / "index.js").write_text(EXPRESS)
    file = folder / "example.mjs"
    file.write_text(code.replace("http://127.0.0.1:18080", service.url))
    process = await asyncio.create_subprocess_exec(
        node,
        str(file),
        env={**os.environ, "MAINSTAY_KEY": service.key},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, wrong = await asyncio.wait_for(process.communicate(), WITHIN_S)
    assert process.returncode == 0, wrong.decode()
    return said.decode()


async def test_the_middleware_is_made(node: str, limit_service: Any, tmp_path: Path) -> None:
    assert await ran(node, tmp_path, block_with("express()"), limit_service) == "3\n"


async def test_the_client_answers(node: str, limit_service: Any, tmp_path: Path) -> None:
    said = await ran(node, tmp_path, block_with("client.reserve"), limit_service)
    assert said == "true 99\ntrue 40\n"
