/** Shopify's own clients of the Admin API read our answers. */

import assert from "node:assert/strict";
import { test } from "node:test";

import {
  GraphqlQueryError, HttpResponseError, HttpThrottlingError, RequestedTokenType,
} from "@shopify/shopify-api";

import { control, newShop, sessionToken, shopify } from "./app.js";

const CREATE = `mutation Create($title: String!) {
  productCreate(product: { title: $title }) { product { id title } userErrors { field message } }
}`;

async function clients(shop = newShop()) {
  const { session } = await shopify.auth.tokenExchange({
    shop,
    sessionToken: await sessionToken(shop),
    requestedTokenType: RequestedTokenType.OfflineAccessToken,
    expiring: true,
  });
  return {
    session,
    graphql: new shopify.clients.Graphql({ session }),
    rest: new shopify.clients.Rest({ session }),
  };
}

async function add(graphql, ...titles) {
  for (const title of titles) await graphql.request(CREATE, { variables: { title } });
}

test("a query brings data and what it cost", async () => {
  const { graphql } = await clients();
  await add(graphql, "Olives");
  const { data, extensions } = await graphql.request("{ products(first: 5) { nodes { title } } }");
  assert.deepEqual(data.products.nodes, [{ title: "Olives" }]);
  const { requestedQueryCost, throttleStatus } = extensions.cost;
  assert.ok(requestedQueryCost > 0);
  assert.ok(throttleStatus.currentlyAvailable <= throttleStatus.maximumAvailable);
});

test("a user's error is data, a wrong query and a missing scope are errors", async () => {
  const { graphql } = await clients();
  const { data } = await graphql.request(CREATE, { variables: { title: "" } });
  assert.equal(data.productCreate.userErrors[0].field[0], "title");
  await assert.rejects(graphql.request("{ nothing }"), GraphqlQueryError);
  const thrown = await graphql.request("{ orders(first: 1) { nodes { id } } shop { name } }").catch((e) => e);
  assert.ok(thrown instanceof GraphqlQueryError);
  assert.equal(thrown.body.errors.graphQLErrors[0].extensions.code, "ACCESS_DENIED");
  assert.ok(thrown.body.data.shop.name);
});

test("too much at once is throttled, in an answer that is no failure of HTTP", async () => {
  const { graphql } = await clients();
  const dear = "# cost:999\n{ shop { name } }";
  const thrown = await Promise.all([1, 2, 3].map(() => graphql.request(dear))).catch((e) => e);
  assert.ok(thrown instanceof GraphqlQueryError);
  assert.equal(thrown.body.errors.graphQLErrors[0].extensions.code, "THROTTLED");
});

test("a dead token is refused as Shopify refuses it", async () => {
  const { session, graphql, rest } = await clients();
  await control(`shops/${session.shop}`, { installed: false });
  for (const ask of [() => graphql.request("{ shop { name } }"), () => rest.get({ path: "shop" })]) {
    const thrown = await ask().catch((error) => error);
    assert.ok(thrown instanceof HttpResponseError, thrown);
    assert.equal(thrown.response.code, 401);
  }
});

test("products come by the page, numbers whole", async () => {
  const { graphql, rest } = await clients();
  await add(graphql, "A", "B", "C");
  const first = await rest.get({ path: "products", query: { limit: 2 } });
  assert.deepEqual(first.body.products.map(({ title }) => title), ["A", "B"]);
  assert.equal(typeof first.body.products[0].id, "string");
  const next = await rest.get(first.pageInfo.nextPage);
  assert.deepEqual(next.body.products.map(({ title }) => title), ["C"]);
  assert.ok(next.pageInfo.prevPage);
  assert.equal(next.pageInfo.nextPage, undefined);
});

test("too many calls are refused with the time to wait", async () => {
  const { rest } = await clients();
  const calls = Array.from({ length: 41 }, () => rest.get({ path: "shop" }));
  const ended = await Promise.allSettled(calls);
  const refused = ended.filter(({ status }) => status === "rejected").map(({ reason }) => reason);
  assert.ok(refused.length > 0);
  assert.ok(refused.every((each) => each instanceof HttpThrottlingError));
  assert.equal(refused[0].response.retryAfter, 2);
});

test("what is written by REST is read by GraphQL", async () => {
  const { graphql, rest } = await clients();
  const { body } = await rest.post({ path: "products", data: { product: { title: "Feta" } } });
  const { data } = await graphql.request(`{ product(id: "gid://shopify/Product/${body.product.id}") { title } }`);
  assert.equal(data.product.title, "Feta");
  await rest.delete({ path: `products/${body.product.id}` });
  await assert.rejects(rest.get({ path: `products/${body.product.id}` }), HttpResponseError);
});
