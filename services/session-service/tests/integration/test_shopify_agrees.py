"""What we take for Shopify's, Shopify's own library takes too, and the other way round."""

import asyncio
import base64
import json
import random
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from chassis.kernel.shopify import Shops
from session_service.core import hmacs, hosts, id_tokens
from testkit.shopify import signing

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it is of Python 2
    from shopify import Session

KEY, SECRET = "client-id-0123456789", "the-secret-of-the-app-in-these-tests"
SHOP = "greek-olives.myshopify.com"
SCRIPT = Path(__file__).with_name("shopify_agrees.mjs")
LETTERS = "aZ09-._~*'()!:@/?&=%+ \"<>éΩ漢🙂\u0301\x7f"
HOSTS = ("admin.shopify.com/store/greek-olives", f"{SHOP}/admin")
FORGED = ("evil.example/admin", "admin.shopify.com.evil.example/store/a")


def random_query(dice: random.Random) -> dict[str, str]:
    """As a callback's, with values that no shop has."""
    code, host = ("".join(dice.choices(LETTERS, k=dice.randint(0, 12))) for _ in range(2))
    return {
        "code": code,
        "host": host,
        "shop": SHOP,
        "state": "0" * 64,
        "timestamp": str(int(time.time())),
    }


def queries() -> list[tuple[dict[str, str], bool]]:
    """(a query with its hmac, is it signed right?)"""
    dice, made = random.Random(7), []
    for number in range(300):
        query, is_right = random_query(dice), number % 3 != 0
        signature = signing.query_hmac(list(query.items()), SECRET)
        if not is_right:
            query["code"] += "x"
        made.append((query | {"hmac": signature}, is_right))
    return made


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest_asyncio.fixture
async def judged(node: str, shopify_packages: Path, tmp_path: Path) -> Any:
    (tmp_path / "node_modules").symlink_to(shopify_packages)
    script = shutil.copy(SCRIPT, tmp_path)
    asked = {
        "key": KEY,
        "secret": SECRET,
        "store": SHOP.partition(".")[0],
        "queries": [query for query, _ in queries()],
        "hosts": [coded(text) for text in (*HOSTS, *FORGED)],
    }
    ran = await asyncio.create_subprocess_exec(
        node, script, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await asyncio.wait_for(ran.communicate(json.dumps(asked).encode()), 60)
    assert ran.returncode == 0
    return json.loads(told)


async def test_shopify_s_library_and_ours_believe_the_same(judged: Any) -> None:
    ours = [hmacs.is_signed(list(query.items()), query["hmac"], [SECRET]) for query, _ in queries()]
    assert ours == judged["queries"] == [is_right for _, is_right in queries()]
    claims = id_tokens.verify(
        judged["token"], secrets=[SECRET], audience=KEY, shops=Shops(), now_s=time.time()
    )
    assert claims.shop == SHOP
    assert judged["hosts"] == [True, True, False, False]
    for text in HOSTS:
        assert hosts.admin_at(coded(text), shop=SHOP, shops=Shops()) == f"https://{text}"


def test_the_older_python_library_makes_the_older_form(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = random.Random(3)
    monkeypatch.setattr(Session, "secret", SECRET)
    for number in range(300):
        query: dict[str, Any] = random_query(dice) | {"a b&=": "".join(dice.choices(LETTERS, k=6))}
        query |= {"ids[]": ["1", "2"]} if number % 3 == 0 else {}
        pairs = [
            (name, each)
            for name, value in query.items()
            for each in (value if isinstance(value, list) else [value])
        ]
        assert hmacs.is_signed(pairs, Session.calculate_hmac(query), [SECRET]), query
