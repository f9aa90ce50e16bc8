-- Authorizations that were begun and not ended. Nothing here is a secret: of the state and of what
-- the browser keeps there are only digests.
create table oauth_state (
    state_hash bytea primary key,
    browser_hash bytea not null,
    shop text collate "C" not null,
    is_online boolean not null,
    return_to text,
    host text,
    expires_at timestamptz not null,
    -- Who is ending it now; should that one die, another may after a while.
    claimed_by uuid,
    claimed_until timestamptz
);

create index oauth_state_expires on oauth_state (expires_at);
create index oauth_state_shop on oauth_state (shop);
