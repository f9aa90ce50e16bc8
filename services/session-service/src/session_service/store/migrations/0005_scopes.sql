-- As of when Shopify told the scopes of a session last: what it said before that is no news.
alter table shopify_session add column scopes_at timestamptz;
