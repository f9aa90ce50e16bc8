"""The token endpoint: every grant, its checks in Shopify's order, its errors in Shopify's words."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qsl

import jwt
import orjson
from aiohttp import web

from testkit.shopify.rules import Dead
from testkit.shopify.wallet import Access, Pair, Refused, User, scope_line
from testkit.shopify.world import Shop, World

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
OFFLINE = "urn:shopify:params:oauth:token-type:offline-access-token"
ONLINE = "urn:shopify:params:oauth:token-type:online-access-token"

Fields = Mapping[str, Any]
Answer = dict[str, Any]


class Denied(Exception):
    """A refusal of the token endpoint; a `body` of text is a page."""

    def __init__(self, status: int, body: Answer | str) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


def error(status: int, code: str, description: str | None = None) -> Denied:
    said = {"error": code}
    return Denied(
        status, said if description is None else said | {"error_description": description}
    )


def page(code: str, description: str) -> Denied:
    text = f"Oauth error {code}: {description}"
    return Denied(400, f"<!DOCTYPE html><html><body><h1>{text}</h1></body></html>")


def fields_of(body: bytes, content_type: str) -> Fields:
    """JSON or a form; what is neither has no fields."""
    if content_type == "application/x-www-form-urlencoded":
        return dict(parse_qsl(body.decode("utf-8", "replace")))
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return fields if isinstance(fields, dict) else {}


def grant_of(fields: Fields) -> str:
    """In our own short words: code, exchange, migrate, refresh, client_credentials, unknown."""
    match fields.get("grant_type"):
        case None | "authorization_code":
            return "code" if "code" in fields else "unknown"
        case "refresh_token" | "refresh":
            return "refresh"
        case "client_credentials":
            return "client_credentials"
        case str() as given if given == EXCHANGE:
            return "migrate" if fields.get("subject_token_type") == OFFLINE else "exchange"
        case _:
            return "unknown"


class TokenEndpoint:
    def __init__(self, world: World) -> None:
        self._world = world

    async def handle(self, request: web.Request, shop: Shop) -> web.Response:
        fields = fields_of(await request.read(), request.content_type)
        try:
            return web.json_response(self.answer(shop, fields))
        except Denied as denied:
            if isinstance(denied.body, str):
                return web.Response(
                    status=denied.status, text=denied.body, content_type="text/html"
                )
            return web.json_response(denied.body, status=denied.status)

    def answer(self, shop: Shop, fields: Fields) -> Answer:
        """Shopify's answer to the fields of a request; raises Denied."""
        self._know_client(fields)
        match grant_of(fields):
            case "code":
                return self._code(shop, fields)
            case "exchange":
                return self._exchange(shop, fields)
            case "migrate":
                return self._migrate(shop, fields)
            case "refresh":
                return self._refresh(shop, fields)
            case "client_credentials":
                return self._client_credentials(shop)
            case _:
                raise error(400, "invalid_request", "Could not find a grant in the request.")

    def _know_client(self, fields: Fields) -> None:
        if not fields.get("client_id") or not fields.get("client_secret"):
            raise error(400, "invalid_request", "Missing client_id or client_secret.")
        known = (
            fields["client_id"] == self._world.api_key
            and fields["client_secret"] in self._world.secrets
        )
        if not known:
            raise self._invalid_client()

    def _invalid_client(self) -> Denied:
        status = self._world.rules.invalid_client_status
        return error(status, "invalid_client", "Client authentication failed.")

    def _code(self, shop: Shop, fields: Fields) -> Answer:
        code = shop.codes.get(str(fields["code"]))
        now = self._world.clock.now()
        if code is None or code.used or code.expires_at <= now:
            raise page(
                "invalid_request", "The authorization code was not found or was already used"
            )
        code.used = True
        shop.installed = True
        if code.user is not None:
            return self._online(shop, code.user)
        return self._offline(shop, fields)

    def _exchange(self, shop: Shop, fields: Fields) -> Answer:
        if fields.get("subject_token_type") != ID_TOKEN:
            raise error(400, "invalid_request", "Unknown subject_token_type.")
        user = shop.user(self._user_id(shop, str(fields.get("subject_token", ""))))
        if not shop.installed:
            raise page("app_not_installed", "The app is not installed on this shop")
        match fields.get("requested_token_type", OFFLINE):
            case str() as wanted if wanted == OFFLINE:
                return self._offline(shop, fields)
            case str() as wanted if wanted == ONLINE:
                return self._online(shop, user)
            case _:
                raise error(400, "invalid_request", "Unknown requested_token_type.")

    def _user_id(self, shop: Shop, token: str) -> int:
        """Of a session token that is really one."""
        for secret in self._world.secrets:
            try:
                claims = jwt.decode(
                    token,
                    secret,
                    algorithms=["HS256"],
                    audience=self._world.api_key,
                    options={
                        "require": ["exp", "nbf", "dest", "iss", "sub"],
                        "verify_exp": False,
                        "verify_nbf": False,
                        "verify_iat": False,
                        "enforce_minimum_key_length": False,
                    },
                )
            except jwt.InvalidTokenError:
                continue
            if self._is_timely(claims) and _names(claims, shop.name):
                return int(claims["sub"])
        raise error(400, "invalid_subject_token", "The subject token is invalid or has expired.")

    def _is_timely(self, claims: Mapping[str, Any]) -> bool:
        now, leeway_s = self._world.clock.now(), self._world.rules.leeway_s
        return bool(claims["nbf"] - leeway_s <= now < claims["exp"] + leeway_s)

    def _migrate(self, shop: Shop, fields: Fields) -> Answer:
        wants_pair = fields.get("requested_token_type") == OFFLINE and _expiring(fields)
        if not wants_pair:
            raise error(400, "invalid_request", "Only an expiring offline token can be had.")
        token, scope = str(fields.get("subject_token", "")), self._scope(shop)
        try:
            return self._told(shop.wallet.migrate(token, scope, self._world.clock.now()))
        except Refused:
            raise error(400, "invalid_subject_token", "The subject token is invalid.") from None

    def _refresh(self, shop: Shop, fields: Fields) -> Answer:
        if not fields.get("refresh_token"):
            raise error(400, "invalid_request", "Missing refresh_token.")
        if not shop.installed and self._world.rules.uninstalled_is_invalid_client:
            raise self._invalid_client()
        token, scope = str(fields["refresh_token"]), self._scope(shop)
        try:
            return self._told(shop.wallet.refresh(token, scope, self._world.clock.now()))
        except Refused:
            raise self._dead_refresh() from None

    def _dead_refresh(self) -> Denied:
        status = self._world.rules.dead_refresh_status
        if self._world.rules.dead_refresh is Dead.INVALID_GRANT:
            return error(status, "invalid_grant")
        return error(status, "invalid_request", "This request requires an active refresh_token")

    def _client_credentials(self, shop: Shop) -> Answer:
        if not shop.installed:
            raise error(400, "app_not_installed")
        if not shop.own_organisation:
            raise error(400, "shop_not_permitted")
        access = shop.wallet.client_credentials(self._scope(shop), self._world.clock.now())
        return self._of_access(access)

    def _offline(self, shop: Shop, fields: Fields) -> Answer:
        if _expiring(fields):
            return self._told(shop.wallet.new_pair(self._scope(shop), self._world.clock.now()))
        return self._of_access(shop.wallet.never_expiring(self._scope(shop)))

    def _online(self, shop: Shop, user: User) -> Answer:
        access = shop.wallet.online(self._scope(shop), user, self._world.clock.now())
        return self._of_access(access) | {
            "associated_user_scope": access.scope,
            "associated_user": asdict(user),
        }

    def _scope(self, shop: Shop) -> str:
        return scope_line(shop.scopes.split(","))

    def _told(self, pair: Pair) -> Answer:
        left_s = pair.refresh_expires_at - self._world.clock.now()
        return self._of_access(pair.access) | {
            "refresh_token": pair.refresh,
            "refresh_token_expires_in": round(left_s),
        }

    def _of_access(self, access: Access) -> Answer:
        answer: Answer = {"access_token": access.token, "scope": access.scope}
        if access.expires_at is not None:
            answer["expires_in"] = round(access.expires_at - self._world.clock.now())
        return answer


def _expiring(fields: Fields) -> bool:
    return str(fields.get("expiring", "0")).lower() in ("1", "true")


def _names(claims: Mapping[str, Any], shop: str) -> bool:
    hosts = (str(claims[each]).removeprefix("https://").split("/")[0] for each in ("iss", "dest"))
    return all(host == shop for host in hosts)
