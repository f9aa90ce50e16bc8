"""A Shopify of our own, for tests: tokens that rotate, buckets that leak, webhooks that repeat."""
