-- Everything. Money is in nano-dollars, time in microseconds since 1970 UTC. Tables that every node keeps in memory have a column
-- `changed`: the version that wrote the row.

-- The clock of the ledger, on all nodes.
CREATE FUNCTION ledger_clock() RETURNS BIGINT LANGUAGE sql VOLATILE AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

CREATE TABLE config (
    only_row BOOLEAN PRIMARY KEY DEFAULT true CHECK (only_row),
    version  BIGINT NOT NULL,
    protocol BIGINT NOT NULL         -- what nodes must agree on to count together
);
INSERT INTO config (version, protocol) VALUES (1, 1);

CREATE TABLE meta (
    name    TEXT PRIMARY KEY,
    value   BYTEA NOT NULL,
    changed BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE workspaces (
    id           BIGINT PRIMARY KEY,
    uuid         TEXT NOT NULL UNIQUE,
    name         TEXT NOT NULL,
    slug         TEXT NOT NULL UNIQUE,
    description  TEXT,
    preferences  TEXT,               -- JSON; null is all at their defaults
    include_byok BOOLEAN NOT NULL DEFAULT false,
    created_by   TEXT,
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT,
    deleted_at   BIGINT,
    changed      BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE workspace_budgets (
    workspace  BIGINT NOT NULL,
    span       TEXT NOT NULL,        -- lifetime | daily | weekly | monthly
    uuid       TEXT NOT NULL UNIQUE,
    amount     BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    changed    BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace, span)
);

CREATE TABLE members (
    id         BIGINT PRIMARY KEY,
    user_id    TEXT NOT NULL UNIQUE,
    email      TEXT NOT NULL,
    first_name TEXT,
    last_name  TEXT,
    role       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    removed_at BIGINT,
    changed    BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE workspace_members (
    workspace  BIGINT NOT NULL,
    member     BIGINT NOT NULL,
    uuid       TEXT NOT NULL,
    role       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed    BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (workspace, member)
);

CREATE TABLE guardrails (
    id           BIGINT PRIMARY KEY,
    uuid         TEXT NOT NULL UNIQUE,
    workspace    BIGINT NOT NULL,
    name         TEXT NOT NULL,
    description  TEXT,
    amount       BIGINT,
    limit_reset  TEXT,
    include_byok BOOLEAN NOT NULL,
    lists        TEXT NOT NULL,      -- JSON: allowed and ignored models and providers
    switches     TEXT NOT NULL,      -- JSON: what is only stored
    filters      TEXT NOT NULL,      -- JSON: content filters
    created_at   BIGINT NOT NULL,
    updated_at   BIGINT,
    changed      BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE guardrail_keys (
    key        BIGINT PRIMARY KEY,
    guardrail  BIGINT NOT NULL,
    uuid       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed    BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE guardrail_members (
    member     BIGINT PRIMARY KEY,
    guardrail  BIGINT NOT NULL,
    uuid       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed    BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE keys (
    id                    BIGINT PRIMARY KEY,
    hash                  BYTEA NOT NULL UNIQUE,
    name                  TEXT NOT NULL,
    label                 TEXT NOT NULL,
    workspace             BIGINT NOT NULL,
    disabled              BOOLEAN NOT NULL,
    credit_limit          BIGINT,
    limit_reset           TEXT,
    include_byok_in_limit BOOLEAN NOT NULL,
    expires_at            BIGINT,
    creator               BIGINT,
    external_user         TEXT,
    created_at            BIGINT NOT NULL,
    updated_at            BIGINT,
    deleted_at            BIGINT,
    secret                BYTEA,     -- null is the first one
    previous_secret       BYTEA,     -- opens it too,
    previous_until        BIGINT,    -- until then
    requests_per_minute   BIGINT,
    calls_in_flight_max   BIGINT,
    allowed_models        TEXT,      -- JSON
    raise_amount          BIGINT,
    raise_until           BIGINT,
    changed               BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE management_keys (
    id         BIGINT PRIMARY KEY,
    hash       BYTEA NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    label      TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    read_only  BOOLEAN NOT NULL DEFAULT false,
    expires_at BIGINT,
    workspace  BIGINT,
    revoked_at BIGINT,
    changed    BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE credentials (
    id                  BIGINT PRIMARY KEY,
    uuid                TEXT NOT NULL UNIQUE,
    workspace           BIGINT,      -- null is every workspace
    provider            TEXT NOT NULL,
    label               TEXT NOT NULL,
    sealed              BYTEA,       -- null once deleted
    name                TEXT,
    disabled            BOOLEAN NOT NULL,
    is_fallback         BOOLEAN NOT NULL,
    is_required         BOOLEAN NOT NULL,
    is_byok_only        BOOLEAN NOT NULL,
    lists               TEXT NOT NULL,
    region              TEXT,
    zero_data_retention BOOLEAN,
    sort_order          BIGINT NOT NULL,
    created_at          BIGINT NOT NULL,
    updated_at          BIGINT,
    deleted_at          BIGINT,
    changed             BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE credits (
    id         BIGINT PRIMARY KEY,
    amount     BIGINT NOT NULL,
    note       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed    BIGINT NOT NULL DEFAULT 0
);

CREATE TABLE codes (
    hash            BYTEA PRIMARY KEY,
    method          TEXT NOT NULL,
    verifier        BYTEA NOT NULL,
    wrong_verifiers BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    name            TEXT NOT NULL,
    workspace       BIGINT NOT NULL,
    credit_limit    BIGINT,
    limit_reset     TEXT,
    expires_at      BIGINT,
    changed         BIGINT NOT NULL DEFAULT 0
);

-- Rows are never changed: a settlement names one for ever.
CREATE TABLE price_versions (
    id         BIGINT PRIMARY KEY,
    model      TEXT NOT NULL,
    provider   TEXT NOT NULL,
    content    TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    changed    BIGINT NOT NULL DEFAULT 0
);
CREATE INDEX price_versions_by_endpoint ON price_versions (model, provider, id);

-- Rows that were deleted from the tables above, for nodes that still know them.
CREATE TABLE removed (
    changed BIGINT NOT NULL,
    source  TEXT NOT NULL,
    old     TEXT NOT NULL            -- JSON
);
CREATE INDEX removed_by_change ON removed (changed);

CREATE FUNCTION stamp_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.changed := (SELECT version FROM config);
    RETURN NEW;
END $$;

CREATE FUNCTION keep_removed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO removed (changed, source, old) SELECT version, TG_TABLE_NAME, to_jsonb(OLD)::text FROM config;
    RETURN OLD;
END $$;

DO $$
DECLARE source TEXT;
BEGIN
    FOREACH source IN ARRAY ARRAY['meta', 'workspaces', 'workspace_budgets', 'members', 'workspace_members', 'guardrails',
        'guardrail_keys', 'guardrail_members', 'keys', 'management_keys', 'credentials', 'credits', 'codes', 'price_versions']
    LOOP
        EXECUTE format('CREATE INDEX %I ON %I (changed)', source || '_by_change', source);
        EXECUTE format('CREATE TRIGGER stamp BEFORE INSERT OR UPDATE ON %I FOR EACH ROW EXECUTE FUNCTION stamp_change()', source);
        EXECUTE format('CREATE TRIGGER keep AFTER DELETE ON %I FOR EACH ROW EXECUTE FUNCTION keep_removed()', source);
    END LOOP;
END $$;

CREATE TABLE audit (
    id         BIGINT PRIMARY KEY,
    at         BIGINT NOT NULL,
    actor      TEXT NOT NULL,        -- management_key | operator | config | app
    actor_id   BIGINT,
    actor_name TEXT,
    kind       TEXT NOT NULL,
    action     TEXT NOT NULL,
    target     TEXT NOT NULL,
    workspace  TEXT,
    before     TEXT,                 -- JSON
    after      TEXT                  -- JSON
);
CREATE INDEX audit_target ON audit (target, id);
CREATE INDEX audit_workspace ON audit (workspace, id);
CREATE INDEX audit_kind ON audit (kind, id);

CREATE TABLE kept_answers (
    id         BYTEA PRIMARY KEY,
    request    BYTEA NOT NULL,       -- SHA-256
    sealed     BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX kept_answers_age ON kept_answers (created_at);

-- One row a node. Whoever sees `beats` stand still for as long as a lease lasts takes the boot away; then the number may be taken
-- over. A lease is no time in here: a database that was down for a minute must not give up all of its nodes.
CREATE SEQUENCE boots MAXVALUE 4194303;
CREATE TABLE nodes (
    number INTEGER PRIMARY KEY,
    boot   BIGINT UNIQUE,
    beats  BIGINT NOT NULL,
    seen   BIGINT NOT NULL           -- the latest time that it decided at
) WITH (fillfactor = 50);

-- What is held by calls in flight. The boot of the node stands in the high bits of the row.
CREATE TABLE holds (
    row         BIGINT PRIMARY KEY,
    key         BIGINT NOT NULL,
    workspace   BIGINT NOT NULL,
    member      BIGINT,
    admitted_at BIGINT NOT NULL,
    credits     BIGINT NOT NULL,
    byok        BIGINT NOT NULL,
    price       BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE settlements (
    row              BIGINT PRIMARY KEY,
    outcome          TEXT NOT NULL,
    key              BIGINT NOT NULL,
    workspace        BIGINT NOT NULL,
    member           BIGINT,
    admitted_at      BIGINT NOT NULL,
    hold_credits     BIGINT NOT NULL,
    hold_byok        BIGINT NOT NULL,
    credits          BIGINT NOT NULL,
    byok             BIGINT NOT NULL,
    price            BIGINT NOT NULL,
    cost_total       BIGINT NOT NULL,
    cost_prompt      BIGINT NOT NULL,
    metered          BOOLEAN,        -- reported, estimated, or unknown
    prompt           BIGINT,
    cached           BIGINT,
    cache_write      BIGINT,
    prompt_audio     BIGINT,
    completion       BIGINT,
    reasoning        BIGINT,
    completion_audio BIGINT,
    completion_image BIGINT,
    streamed         BOOLEAN NOT NULL,
    cancelled        BOOLEAN NOT NULL,
    finish_reason    TEXT,
    native_finish    TEXT,
    upstream_id      TEXT,
    latency_ms       BIGINT,
    generation_ms    BIGINT,
    user_agent       TEXT,
    http_referer     TEXT,
    session_id       TEXT,
    attempts         TEXT,
    credential       BIGINT,
    late             BOOLEAN NOT NULL DEFAULT false -- booked as lost, and settled after that
);

CREATE TABLE corrections (
    id          BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY,
    row         BIGINT NOT NULL,
    key         BIGINT NOT NULL,
    workspace   BIGINT NOT NULL,
    member      BIGINT,
    admitted_at BIGINT NOT NULL,
    credits     BIGINT NOT NULL,
    byok        BIGINT NOT NULL,
    reason      TEXT NOT NULL,
    created_at  BIGINT NOT NULL
);
CREATE INDEX corrections_by_row ON corrections (row);

-- What was spent and is held. A balance is the sum of its rows: that of node 0, which all nodes write under its lock where a
-- budget limits the scope, and one of each node. Of each sum there are eight: credits and BYOK usage, each for life, by day, by
-- week and by month; `number` says which day, week or month.
CREATE TABLE balances (
    scope   TEXT NOT NULL,           -- account | workspace | key | member
    id      BIGINT NOT NULL,         -- 0 for the account
    node    INTEGER NOT NULL,
    number  BIGINT[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0}',
    spent   BIGINT[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0}',
    held    BIGINT[] NOT NULL DEFAULT '{0,0,0,0,0,0,0,0}',
    used_at BIGINT,                  -- of a key: the newest admission that settled
    PRIMARY KEY (scope, id, node)
) WITH (fillfactor = 50);

-- What was used, by hour, key, workspace and price version. A sum is that of all nodes' rows.
CREATE TABLE rollups (
    hour       BIGINT NOT NULL,      -- of admission, counted from 1970 UTC
    key        BIGINT NOT NULL,
    workspace  BIGINT NOT NULL,
    price      BIGINT NOT NULL,
    node       INTEGER NOT NULL,
    requests   BIGINT NOT NULL,
    prompt     BIGINT NOT NULL,
    cached     BIGINT NOT NULL,
    completion BIGINT NOT NULL,
    reasoning  BIGINT NOT NULL,
    credits    BIGINT NOT NULL,
    byok       BIGINT NOT NULL,
    PRIMARY KEY (hour, key, workspace, price, node)
) WITH (fillfactor = 50);
