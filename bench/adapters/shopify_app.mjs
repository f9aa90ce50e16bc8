// An app with Shopify's own Express package, called over HTTP; the packages are in
// BENCH_NODE/node_modules. BENCH_STORAGE says who keeps its sessions, BENCH_STORE where.
import { once } from "node:events";
import http from "node:http";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const { BENCH_STORAGE, BENCH_STORE, BENCH_SHOPIFY, SHOPIFY_API_KEY } = process.env;
const require = createRequire(`${process.env.BENCH_NODE}/`);

// Before the packages are loaded: they keep the `fetch` that they find.
const outside = globalThis.fetch;
const isShop = /^https:\/\/([^/]+\.myshopify\.com)\//;
globalThis.fetch = (url, options) =>
  outside(String(url).replace(isShop, `${BENCH_SHOPIFY}/$1/`), options);

const { shopifyApp } = require("@shopify/shopify-app-express");
const { LogSeverity, Session } = require("@shopify/shopify-api");

const STORAGES = {
  postgres: () => {
    const { PostgreSQLSessionStorage } = require("@shopify/shopify-app-session-storage-postgresql");
    return new PostgreSQLSessionStorage(BENCH_STORE);
  },
  redis: () => {
    const { RedisSessionStorage } = require("@shopify/shopify-app-session-storage-redis");
    return new RedisSessionStorage(BENCH_STORE);
  },
  // Its key lives for a minute, so it comes with every call.
  mainstay: async () => {
    const file = pathToFileURL(require.resolve("mainstay-session-storage"));
    const { MainstaySessionStorage } = await import(file);
    return (key) => new MainstaySessionStorage(BENCH_STORE, key);
  },
};

const made = await STORAGES[BENCH_STORAGE]();
let storage = typeof made === "function" ? undefined : made;
const names = ["storeSession", "loadSession", "deleteSession", "deleteSessions", "findSessionsByShop"];
const forwarded = Object.fromEntries(names.map((name) => [name, (given) => storage[name](given)]));

const app = shopifyApp({
  api: {
    apiVersion: "2026-07",
    apiKey: SHOPIFY_API_KEY,
    apiSecretKey: process.env.SHOPIFY_API_SECRET,
    scopes: ["write_products"],
    hostName: "app.example.com",
    hostScheme: "https",
    isEmbeddedApp: true,
    logger: { level: LogSeverity.Error, log: () => {} },
  },
  auth: { path: "/auth", callbackPath: "/back" },
  webhooks: { path: "/webhooks" },
  future: { expiringOfflineAccessTokens: true },
  sessionStorage: forwarded,
});

const DAY_MS = 86_400_000;

function sessionOf(shop, more = {}) {
  return new Session({
    id: `offline_${shop}`, shop, state: "", isOnline: false, scope: "write_products",
    accessToken: "shpat_a", ...more,
  });
}

function onlineOf(shop, user, more = {}) {
  const associated_user = { id: user, first_name: "A", last_name: "B", email: "a@b.example" };
  const onlineAccessInfo = { expires_in: 3600, associated_user_scope: "read_products", associated_user };
  return sessionOf(shop, { id: `${shop}_${user}`, isOnline: true, onlineAccessInfo, ...more });
}

async function again(session) {
  await storage.storeSession(session);
  return storage.loadSession(session.id);
}

// Each answers whether what was stored is what is found.
const CHECKS = {
  async milliseconds(shop) {
    const expires = new Date(Date.now() + DAY_MS);
    expires.setMilliseconds(123);
    return (await again(sessionOf(shop, { expires }))).expires.getTime() === expires.getTime();
  },
  async far(shop) {
    const expires = new Date("2051-03-04T05:06:07.000Z");
    return (await again(sessionOf(shop, { expires }))).expires.getTime() === expires.getTime();
  },
  async long(shop) {
    const accessToken = "t".repeat(300);
    return (await again(sessionOf(shop, { accessToken }))).accessToken === accessToken;
  },
  async whole(shop) {
    const { onlineAccessInfo } = await again(onlineOf(shop, 5));
    return onlineAccessInfo.associated_user_scope === "read_products";
  },
  async extra(shop) {
    return (await again(sessionOf(shop, { colour: "blue" }))).colour === "blue";
  },
  async replaced(shop) {
    await storage.storeSession(sessionOf(shop, { refreshToken: "r", expires: new Date() }));
    const { refreshToken, expires } = await again(sessionOf(shop));
    return !refreshToken && !expires;
  },
  async none() {
    return storage.deleteSessions([]);
  },
  async crowd(shop) {
    const users = Array.from({ length: 20 }, (_, n) => n + 1);
    await Promise.all(users.map((user) => storage.storeSession(onlineOf(shop, user))));
    return (await storage.findSessionsByShop(shop)).length === users.length;
  },
  async secret(shop, token) {
    return storage.storeSession(sessionOf(shop, { accessToken: token, refreshToken: token }));
  },
};

const DEEDS = {
  store: async ({ session }) => {
    for (const name of ["expires", "refreshTokenExpires"]) session[name] = new Date(session[name]);
    return storage.storeSession(new Session(session));
  },
  token: async ({ shop }) => (await app.ensureValidOfflineSession(shop))?.accessToken,
  check: async ({ name, shop, token }) => CHECKS[name](shop, token),
};

const server = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  if (typeof made === "function") storage = made(request.headers["mainstay-key"]);
  try {
    const value = await DEEDS[request.url.slice(1)](JSON.parse(Buffer.concat(chunks)));
    response.end(JSON.stringify({ value }));
  } catch (error) {
    const status = error.response?.code ?? error.status;
    response.writeHead(500).end(JSON.stringify({ error: error.name, status, detail: error.message }));
  }
});
server.keepAliveTimeout = 0;
server.listen(0, "127.0.0.1");
await once(server, "listening");
console.log(`listening on ${server.address().port}`);
