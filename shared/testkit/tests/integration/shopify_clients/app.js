/** An app with Shopify's own library, all of whose calls reach our Shopify instead. */

import "@shopify/shopify-api/adapters/node";
import { ApiVersion, LogSeverity, shopifyApi } from "@shopify/shopify-api";
import { setAbstractFetchFunc } from "@shopify/shopify-api/runtime";

export const { SHOPIFY_URL, SHOPIFY_KEY, SHOPIFY_SECRET } = process.env;

let shops = 0;

/** Of one test alone. */
export function newShop() {
  shops += 1;
  return `p${process.pid}-${shops}.myshopify.com`;
}

const here = (url) => String(url).replace(/^https?:\/\/([^/:]+)(:443)?\//, `${SHOPIFY_URL}/$1/`);
setAbstractFetchFunc((url, options) => fetch(here(url), options));

export const shopify = shopifyApi({
  apiKey: SHOPIFY_KEY,
  apiSecretKey: SHOPIFY_SECRET,
  apiVersion: ApiVersion.July26,
  scopes: ["write_products"],
  hostName: "app.example.com",
  hostScheme: "https",
  isEmbeddedApp: true,
  logger: { level: LogSeverity.Error, log: () => {} },
});

/** Moves a switch of our Shopify. */
export async function control(path, given = {}) {
  const answer = await fetch(`${SHOPIFY_URL}/_ctl/${path}`, {
    method: "POST",
    body: JSON.stringify(given),
  });
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
  return answer.json();
}

export async function sessionToken(shop, claims = {}) {
  return (await control(`shops/${shop}/session-token`, claims)).session_token;
}
