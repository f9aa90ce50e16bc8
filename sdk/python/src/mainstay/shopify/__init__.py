"""Shopify's Admin API.

`mainstay.shopify.admin` calls it, `mainstay.shopify.tokens` says with which token,
`mainstay.shopify.errors` what may come instead of an answer. `graphql`, `throttle`, `retries` and
`rest` hold the rules, without input or output.
"""
