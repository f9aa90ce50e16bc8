"""`/_ctl`: the same switches for tests in another process or language."""

import inspect
from collections.abc import Awaitable, Callable
from dataclasses import asdict, fields
from typing import Any, get_type_hints
from urllib.parse import urlencode

import orjson
from aiohttp import web

from testkit.shopify.authorize import callback_query
from testkit.shopify.faults import Fault
from testkit.shopify.rules import Rules
from testkit.shopify.webhooks import Delivery, Family, Webhooks
from testkit.shopify.world import Standing, World

Given = dict[str, Any]
Told = dict[str, Any]
Deed = Callable[[str, Given], Told | Awaitable[Told]]


class Control:
    """Takes and answers JSON."""

    def __init__(self, world: World, webhooks: Webhooks) -> None:
        self._world = world
        self._webhooks = webhooks

    def add_to(self, app: web.Application) -> None:
        deeds: dict[str, Deed] = {
            "clock": self._clock,
            "rules": self._rules,
            "faults": self._faults,
            "calls": self._calls,
            "secret": self._secret,
            "webhooks": self._run_webhooks,
            "shops/{shop}": self._shop,
            "shops/{shop}/webhook": self._webhook,
            "shops/{shop}/uninstall": self._uninstall,
            "shops/{shop}/products": self._products,
            "shops/{shop}/points": self._points,
            "shops/{shop}/callback": self._callback,
            "shops/{shop}/code": self._code,
            "shops/{shop}/pair": self._pair,
            "shops/{shop}/lasting-token": self._lasting_token,
            "shops/{shop}/session-token": self._session_token,
        }
        for path, deed in deeds.items():
            app.router.add_post(f"/_ctl/{path}", _told(deed))

    def _clock(self, _shop: str, given: Given) -> Told:
        """`{advance: seconds}`."""
        self._world.clock.advance(float(given.get("advance", 0)))
        return {"now": self._world.clock.now()}

    def _rules(self, _shop: str, given: Given) -> Told:
        kinds = get_type_hints(Rules)
        known = {each.name for each in fields(Rules)}
        for name, value in given.items():
            if name not in known:
                raise web.HTTPBadRequest(text=f"no rule {name}")
            setattr(self._world.rules, name, kinds[name](value))
        return asdict(self._world.rules)

    def _faults(self, _shop: str, given: Given) -> Told:
        """`{clear?, script: [{where, status, …}]}`, the fields of a Fault."""
        if given.get("clear"):
            self._world.faults.clear()
        for each in given.get("script", ()):
            self._world.faults.add(Fault(**each | {"drop": tuple(each.get("drop", ()))}))
        return {"left": self._world.faults.left}

    def _calls(self, _shop: str, given: Given) -> Told:
        """`{where?, shop?, detail?, clear?}`; without bodies, which hold secrets."""
        wanted = ("where", "shop", "detail")
        calls = [
            {"where": call.where, "shop": call.shop, "detail": call.detail, "status": call.status}
            for call in self._world.calls
            if all(given.get(each) in (None, getattr(call, each)) for each in wanted)
        ]
        if given.get("clear"):
            self._world.calls.clear()
        return {"count": len(calls), "calls": calls}

    def _shop(self, name: str, given: Given) -> Told:
        """`{installed?, scopes?, standing?, own_organisation?}`."""
        shop = self._world.shop(name)
        if given.get("installed") is False:
            self._world.uninstall(name)
        elif given.get("installed"):
            self._world.install(name)
        shop.scopes = given.get("scopes", shop.scopes)
        shop.standing = Standing(given.get("standing", shop.standing))
        shop.own_organisation = given.get("own_organisation", shop.own_organisation)
        return {"installed": shop.installed, "scopes": shop.scopes, "standing": shop.standing}

    def _secret(self, _shop: str, given: Given) -> Told:
        """A new client secret; the old one is taken too, unless `{drop: true}`."""
        self._world.rotate_secret()
        if given.get("drop"):
            self._world.drop_old_secrets()
        return {"api_secret": self._world.api_secret}

    async def _run_webhooks(self, _shop: str, given: Given) -> Told:
        """`{url?}`: where they go; and what is due is sent."""
        self._webhooks.url = given.get("url", self._webhooks.url)
        return {"sent": [_sent(each) for each in await self._webhooks.run_due()]}

    async def _webhook(self, name: str, given: Given) -> Told:
        """`{topic, payload, family?, triggered_at?, webhook_id?}`: sent now."""
        family = Family(given.pop("family", Family.WEBHOOKS))
        return _sent(await self._webhooks.deliver(name, family=family, **given))

    async def _uninstall(self, name: str, _given: Given) -> Told:
        delivery = self._webhooks.uninstall(name)
        await self._webhooks.send(delivery)
        return _sent(delivery)

    def _products(self, name: str, given: Given) -> Told:
        """`{number, variants?}` more of them."""
        catalog = self._world.shop(name).catalog
        catalog.fill(given["number"], variants=given.get("variants", 1))
        return {"count": len(catalog.products)}

    def _points(self, name: str, given: Given) -> Told:
        """`{maximum?, restore_rate?, empty?}` of the bucket of GraphQL."""
        points = self._world.shop(name).points
        points.maximum = given.get("maximum", points.maximum)
        points.restore_rate = given.get("restore_rate", points.restore_rate)
        if given.get("empty"):
            points.empty()
        return {"available": points.available}

    def _callback(self, name: str, given: Given) -> Told:
        """`{state, user_id?}`: the query that the app's callback would get."""
        return {"query": urlencode(callback_query(self._world, name, **given))}

    def _code(self, name: str, given: Given) -> Told:
        return {"code": self._world.code(name, user_id=given.get("user_id"))}

    def _pair(self, name: str, _given: Given) -> Told:
        pair = self._world.pair(name)
        return {"access_token": pair.access.token, "refresh_token": pair.refresh}

    def _lasting_token(self, name: str, _given: Given) -> Told:
        return {"access_token": self._world.lasting_token(name)}

    def _session_token(self, name: str, given: Given) -> Told:
        return {"session_token": self._world.session_token(name, **given)}


def _sent(delivery: Delivery) -> Told:
    return {
        "topic": delivery.topic,
        "shop": delivery.shop,
        "webhook_id": delivery.webhook_id,
        "statuses": delivery.statuses,
    }


def _told(deed: Deed) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def served(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        given = orjson.loads(body) if body else {}
        told = deed(request.match_info.get("shop", ""), given)
        return web.json_response(await told if inspect.isawaitable(told) else told)

    return served
