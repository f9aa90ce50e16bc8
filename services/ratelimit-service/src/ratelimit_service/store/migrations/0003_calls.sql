-- So many at once: one row for each that runs. Those past their time count no more.
create table permit (
    id uuid primary key,
    policy text not null,
    key text collate "C" not null,
    weight int not null,
    expires_at timestamptz not null
);
create index permit_key on permit (key, expires_at);
create index permit_expires on permit (expires_at);

-- Charges that were given back, or are about to be: each once.
create table refund (
    nonce bytea primary key,
    expires_at timestamptz not null
);
create index refund_expires on refund (expires_at);

-- What upstreams said of a shop's limit: it holds for policies that learn.
create table learned (
    policy text not null,
    shop text not null,
    rate text,
    burst bigint,
    version bigint not null default nextval('policy_version'),
    updated_at timestamptz not null default now(),
    primary key (policy, shop)
);
create index learned_version on learned (version);
