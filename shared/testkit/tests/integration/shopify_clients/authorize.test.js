/** Shopify's own library begins at our consent page and comes back with a session. */

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";

import { BotActivityDetected, CookieNotFound, InvalidOAuthError } from "@shopify/shopify-api";

import { control, newShop, shopify } from "./app.js";

const BROWSER = { "user-agent": "Mozilla/5.0 (X11; Linux x86_64) Firefox/140.0" };
const APP = "https://app.example.com";

let port;
let outcome;

const app = http.createServer(async (rawRequest, rawResponse) => {
  const { pathname, searchParams } = new URL(rawRequest.url, APP);
  try {
    if (pathname === "/auth") {
      const [shop, isOnline] = [searchParams.get("shop"), searchParams.has("online")];
      await shopify.auth.begin({ shop, isOnline, callbackPath: "/back", rawRequest, rawResponse });
    } else {
      outcome = await shopify.auth.callback({ expiring: true, rawRequest, rawResponse });
      rawResponse.end();
    }
  } catch (error) {
    outcome = error;
    rawResponse.writeHead(500).end();
  }
});

before(async () => {
  await new Promise((listening) => app.listen(0, "127.0.0.1", listening));
  port = app.address().port;
});
after(() => app.close());

const visit = (url, headers = {}) => fetch(url, { redirect: "manual", headers: { ...BROWSER, ...headers } });
const ours = (url) => String(url).replace(APP, `http://127.0.0.1:${port}`);
const theirs = (url) => String(url).replace("https://", `${process.env.SHOPIFY_URL}/`);

/** (where the browser is sent with what Shopify says, the app's cookies) */
async function consent(shop, more = "") {
  const begun = await visit(`http://127.0.0.1:${port}/auth?shop=${shop}${more}`);
  assert.equal(begun.status, 302);
  const cookie = begun.headers.getSetCookie().map((each) => each.split(";")[0]).join("; ");
  const agreed = await visit(theirs(begun.headers.get("location")));
  assert.equal(agreed.status, 302);
  return [new URL(agreed.headers.get("location")), cookie];
}

test("a merchant who agrees makes a session of the shop", async () => {
  const shop = newShop();
  const [back, cookie] = await consent(shop);
  await visit(ours(back), { cookie });
  assert.equal(outcome.session.id, shopify.session.getOfflineId(shop));
  assert.ok(outcome.session.isActive(shopify.config.scopes));
  assert.ok(outcome.session.refreshToken);
  const host = shopify.utils.sanitizeHost(back.searchParams.get("host"), true);
  const embedded = await shopify.auth.buildEmbeddedAppUrl(host);
  assert.match(embedded, /^https:\/\/admin\.shopify\.com\/store\/.*\/apps\//);
});

test("for a user it is an online one", async () => {
  const [back, cookie] = await consent(newShop(), "&online=1");
  await visit(ours(back), { cookie });
  assert.ok(outcome.session.isOnline);
  assert.ok(outcome.session.onlineAccessInfo.associated_user.id);
});

test("padded hosts are understood as well", async () => {
  await control("rules", { pads_host: true });
  const [back, cookie] = await consent(newShop());
  await control("rules", { pads_host: false });
  await visit(ours(back), { cookie });
  assert.ok(outcome.session, outcome);
});

test("what was altered, or has no cookie, or comes from a robot, makes none", async () => {
  const [back, cookie] = await consent(newShop());
  await visit(ours(back));
  assert.ok(outcome instanceof CookieNotFound);
  await visit(ours(back), { cookie, "user-agent": "Googlebot/2.1" });
  assert.ok(outcome instanceof BotActivityDetected);
  back.searchParams.set("shop", newShop());
  await visit(ours(back), { cookie });
  assert.ok(outcome instanceof InvalidOAuthError);
});
