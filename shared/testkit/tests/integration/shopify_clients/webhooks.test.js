/** Shopify's own library takes the webhooks that our Shopify sends, and no others. */

import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";

import { control, newShop, shopify } from "./app.js";

let told = [];

const app = http.createServer(async (rawRequest, rawResponse) => {
  const chunks = [];
  for await (const chunk of rawRequest) chunks.push(chunk);
  const rawBody = Buffer.concat(chunks).toString();
  const said = await shopify.webhooks.validate({ rawBody, rawRequest, rawResponse });
  told.push({ ...said, rawBody });
  rawResponse.writeHead(said.valid ? 200 : 401).end();
});

before(async () => {
  await new Promise((listening) => app.listen(0, "127.0.0.1", listening));
  await control("webhooks", { url: `http://127.0.0.1:${app.address().port}` });
});
after(() => app.close());

async function sent(shop, more) {
  told = [];
  return control(`shops/${shop}/webhook`, { topic: "orders/create", payload: { id: 1, name: "Ω" }, ...more });
}

for (const family of ["webhooks", "events"]) {
  test(`a delivery of the family ${family} is valid, and says what it is`, async () => {
    const shop = newShop();
    const { statuses, webhook_id } = await sent(shop, { family });
    assert.deepEqual(statuses, [200]);
    const [{ valid, webhookType, topic, domain, webhookId, triggeredAt, rawBody }] = told;
    assert.deepEqual([valid, webhookType, domain, webhookId], [true, family, shop, webhook_id]);
    assert.match(topic, /^orders.create$/i);
    assert.ok(Date.now() - Date.parse(triggeredAt) < 60_000);
    assert.equal(JSON.parse(rawBody).name, "Ω");
  });
}

test("an uninstallation is told", async () => {
  told = [];
  const shop = newShop();
  await control(`shops/${shop}/uninstall`);
  assert.deepEqual([told[0].valid, told[0].domain], [true, shop]);
  assert.match(told[0].topic, /^app.uninstalled$/i);
});

test("what a secret signs that the library does not know is refused, and sent again", async () => {
  await control("secret");
  const { statuses } = await sent(newShop());
  assert.deepEqual(statuses, [401]);
  assert.equal(told[0].reason, "invalid_hmac");
  await control("clock", { advance: 61 });
  const { sent: repeated } = await control("webhooks");
  assert.ok(repeated.some((each) => each.statuses.length === 2));
});
