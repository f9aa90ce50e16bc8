"""Owners that are told what has become of a shop, by their internal API."""

from collections.abc import Mapping
from urllib.parse import quote

import orjson

from chassis.kernel import errors
from gateway.clients.upstream import Upstream
from gateway.core import ports
from gateway.core.notices import Notice

JSON = (("Content-Type", "application/json"),)


class OwnersEars:
    def __init__(self, upstreams: Mapping[str, Upstream]) -> None:
        self._upstreams = upstreams

    async def hear(self, notice: Notice, *, within_s: float) -> None:
        order = ports.Order(
            method="POST",
            path=f"/internal/v1/shops/{quote(notice.shop, safe='')}:{notice.verb}",
            headers=JSON,
            body=orjson.dumps(notice.said),
            timeout_s=within_s,
            is_repeatable=True,
            is_own=True,
        )
        answer = await self._upstreams[notice.owner].call(order, essential=True)
        if answer.status >= 500:
            raise errors.Unavailable(f"{notice.owner} answered {answer.status}")
        if answer.status >= 300:
            raise errors.Invalid(f"{notice.owner} answered {answer.status}")
