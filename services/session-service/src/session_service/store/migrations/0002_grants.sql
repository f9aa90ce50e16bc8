alter table shopify_session
    -- By which grant the pair came: tokens of client credentials are renewed by asking again.
    add column granted_by text,
    -- When a token that Shopify refused was last renewed.
    add column rejected_at timestamptz,
    -- Renewals that Shopify forbade, in a row; failures are those that it did not answer.
    add column refusals int not null default 0;

-- For keeping pairs warm that nobody uses.
create index shopify_session_warm on shopify_session (refresh_expires_ms)
    where status = 'active' and not is_online and refresh_token is not null;

-- For finding tokens without an end.
create index shopify_session_endless on shopify_session (id)
    where status = 'active' and not is_online and access_token is not null
      and refresh_token is null and expires_ms is null;
