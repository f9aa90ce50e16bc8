"""Writers and readers of one session at once, on two replicas."""

import asyncio
from typing import Any

SHOP = "greek-olives.myshopify.com"
PATH = f"/v1/sessions/offline_{SHOP}"


def session(state: int) -> dict[str, Any]:
    return {
        "id": f"offline_{SHOP}",
        "shop": SHOP,
        "state": str(state),
        "accessToken": f"shpat_{state}",
    }


async def test_writers_do_not_mix_and_each_has_a_version(start: Any) -> None:
    replicas = [await start(), await start()]
    answers = await asyncio.gather(
        *(replicas[n % 2].call("PUT", PATH, session(n)) for n in range(24))
    )
    assert {answer.status for answer in answers} == {200}
    versions = {answer.body["version"]: n for n, answer in enumerate(answers)}
    assert len(versions) == 24
    last = versions[max(versions)]
    assert (await (await start()).call("GET", PATH)).body == session(last)


async def test_only_one_writer_passes_with_one_etag(start: Any) -> None:
    replicas = [await start(), await start()]
    etag = (await replicas[0].call("PUT", PATH, session(0))).headers["ETag"]
    answers = await asyncio.gather(
        *(
            replicas[n % 2].call("PUT", PATH, session(n), headers={"If-Match": etag})
            for n in range(1, 13)
        )
    )
    assert sorted(answer.status for answer in answers) == [200] + [412] * 11


async def test_a_thousand_shops_at_once_never_get_each_others_token(start: Any) -> None:
    """Of the replica that wrote, and of one that gathers its reads of the record."""
    service, other = await start(), await start()
    shops = [f"shop-{n}.myshopify.com" for n in range(1000)]
    await asyncio.gather(
        *(
            service.call(
                "PUT",
                f"/v1/sessions/offline_{shop}",
                {"id": f"offline_{shop}", "shop": shop, "accessToken": f"shpat_{shop}"},
            )
            for shop in shops
        )
    )
    answers = await asyncio.gather(
        *(
            replica.call("GET", f"/v1/shops/{shop}/token", shop=shop)
            for shop in shops
            for replica in (service, other)
        )
    )
    assert [answer.body["access_token"] for answer in answers] == [
        f"shpat_{shop}" for shop in shops for _replica in (service, other)
    ]
