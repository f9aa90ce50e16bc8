// Shopify's own judgement of what stands on stdin, and session tokens of its making, on stdout.

import '@shopify/shopify-api/adapters/node';
import { LogSeverity, shopifyApi } from '@shopify/shopify-api';
import { getJwt } from '@shopify/shopify-api/test-helpers';

const chunks = [];
for await (const chunk of process.stdin) chunks.push(chunk);
const { key, secret, store, queries, hosts } = JSON.parse(Buffer.concat(chunks).toString());

const shopify = shopifyApi({
  apiKey: key,
  apiSecretKey: secret,
  hostName: 'app.example',
  apiVersion: '2026-10',
  isEmbeddedApp: true,
  logger: { level: LogSeverity.Error, log: () => {} },
});
const isValid = (query) => shopify.utils.validateHmac(query).catch(() => false);
const { token } = await getJwt(store, key, secret);
process.stdout.write(
  JSON.stringify({
    queries: await Promise.all(queries.map(isValid)),
    hosts: hosts.map((host) => shopify.utils.sanitizeHost(host) !== null),
    token,
  }),
);
