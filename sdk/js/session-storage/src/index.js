/** Shopify's SessionStorage on Mainstay: what it stores is sealed, and renewed once for all who ask. */

import { setTimeout as sleep } from "node:timers/promises";

import { Session } from "@shopify/shopify-api";

import { ApiError, Transport } from "./transport.js";

export { ApiError };

const LONGEST_ID = 512;
const IDS_AT_ONCE = 1000;
const PAGE = 200;
// Shopify's app packages renew by themselves what has less than five minutes: it never comes to that.
const RENEWED_S = 600;
const AWAITED_S = 310;
const PATIENCE_MS = 1_500;
const LOOK_AGAIN_MS = 100;
const DATES = ["expires", "refreshTokenExpires"];

export class MainstaySessionStorage {
  #api;
  #renews;

  constructor(baseUrl, apiKey, { timeoutMs = 10_000, attempts = 4, renews = true } = {}) {
    this.#api = new Transport(baseUrl, apiKey, { timeoutMs, attempts });
    this.#renews = renews;
  }

  async storeSession(session) {
    const dates = DATES.map((name) => [name, milliseconds(session[name])]);
    await this.#api.call("PUT", pathOf(session.id), { ...session, ...Object.fromEntries(dates) });
    return true;
  }

  async loadSession(id) {
    if (!isAddressable(id)) return undefined;
    const found = await this.#find(id);
    if (!this.#renews || !isEnding(found, RENEWED_S)) return session(found);
    return session(await this.#renewed(found));
  }

  async deleteSession(id) {
    return this.deleteSessions([id]);
  }

  async deleteSessions(ids) {
    const known = [...new Set(ids)].filter(isAddressable);
    for (let from = 0; from < known.length; from += IDS_AT_ONCE) {
      const some = known.slice(from, from + IDS_AT_ONCE);
      await this.#api.call("POST", "/v1/sessions:batchDelete", { ids: some });
    }
    return true;
  }

  async findSessionsByShop(shop) {
    if (!isAddressable(shop)) return [];
    const found = [];
    let cursor = null;
    do {
      const query = new URLSearchParams({ limit: PAGE, ...(cursor === null ? {} : { cursor }) });
      const page = await this.#api.call("GET", `${pathOfShop(shop)}/sessions?${query}`);
      found.push(...page.items.map(session));
      cursor = page.next_cursor;
    } while (cursor !== null);
    return found;
  }

  async #find(id) {
    try {
      return await this.#api.call("GET", pathOf(id));
    } catch (error) {
      if (error.code === "session_not_found") return undefined;
      throw error;
    }
  }

  /**
   * Asked of the deployment, which asks Shopify once. While another is asking already, one that has
   * too little time to be used is asked for again. If it cannot be renewed now, the session is as
   * it was.
   */
  async #renewed(found) {
    const path = `${pathOfShop(found.shop)}/token?mode=offline&min_ttl=${RENEWED_S}`;
    for (let until; ; await sleep(LOOK_AGAIN_MS)) {
      try {
        await this.#api.call("GET", path, undefined, { attempts: 1 });
      } catch (error) {
        if (!(error instanceof ApiError)) throw error;
        return error.code === "reauth_required" ? withoutRefresh(found) : found;
      }
      until ??= performance.now() + PATIENCE_MS;
      const now = await this.#find(found.id);
      if (!isEnding(now, AWAITED_S) || performance.now() > until) return now;
    }
  }
}

/** With a pair that can be renewed, and that ends within so many seconds; a shop's own session. */
function isEnding(document, withinS) {
  if (document === undefined) return false;
  const { id, shop, isOnline, expires, refreshToken } = document;
  const isOfShop = !isOnline && id.toLowerCase() === `offline_${shop}`.toLowerCase();
  const endsSoon = typeof expires === "number" && expires - withinS * 1000 < Date.now();
  return isOfShop && endsSoon && Boolean(refreshToken);
}

/** It is dead: nobody need ask Shopify again. */
function withoutRefresh({ refreshToken: _token, refreshTokenExpires: _expires, ...rest }) {
  return rest;
}

function session(document) {
  if (document === undefined) return undefined;
  const dates = DATES.filter((name) => typeof document[name] === "number");
  return new Session({
    ...document,
    ...Object.fromEntries(dates.map((name) => [name, new Date(document[name])])),
  });
}

/** Of a Date, or of what was a Date before it went through JSON. */
function milliseconds(date) {
  return date === undefined || date === null ? undefined : new Date(date).getTime();
}

/** No other id was ever stored: these are no piece of a path. */
function isAddressable(id) {
  const isText = typeof id === "string" && id.length > 0 && id.length <= LONGEST_ID;
  return isText && !/^\.{1,2}$/.test(id) && id.isWellFormed() && !id.includes("\0");
}

function pathOf(id) {
  if (!isAddressable(id)) throw new TypeError("no id for a session: 1 to 512 characters, not . or ..");
  return `/v1/sessions/${encodeURIComponent(id)}`;
}

function pathOfShop(shop) {
  return `/v1/shops/${encodeURIComponent(shop)}`;
}
