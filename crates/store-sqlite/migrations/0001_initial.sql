-- The ledger, its keys and the catalogue. Money is in nano-dollars, time in microseconds since 1970 UTC.

CREATE TABLE workspaces (
    id         INTEGER PRIMARY KEY,
    uuid       TEXT NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    slug       TEXT NOT NULL UNIQUE,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE keys (
    id                    INTEGER PRIMARY KEY,
    hash                  BLOB NOT NULL UNIQUE,
    name                  TEXT NOT NULL,
    label                 TEXT NOT NULL,
    workspace             INTEGER NOT NULL,
    disabled              INTEGER NOT NULL,
    credit_limit          INTEGER,
    limit_reset           TEXT,
    include_byok_in_limit INTEGER NOT NULL,
    expires_at            INTEGER,
    creator_user_id       TEXT,
    external_user         TEXT,
    created_at            INTEGER NOT NULL,
    updated_at            INTEGER,
    deleted_at            INTEGER
) STRICT;

CREATE TABLE management_keys (
    id         INTEGER PRIMARY KEY,
    hash       BLOB NOT NULL UNIQUE,
    name       TEXT NOT NULL,
    label      TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT;

-- One row a version of an endpoint's price. Rows are never changed: a settlement names one for ever.
CREATE TABLE price_versions (
    id         INTEGER PRIMARY KEY,
    model      TEXT NOT NULL,
    provider   TEXT NOT NULL,
    content    TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- The two tables of the hot path: each call adds one row to each. No index besides the rising row number.
CREATE TABLE reservations (
    row         INTEGER PRIMARY KEY,
    key         INTEGER NOT NULL,
    workspace   INTEGER NOT NULL,
    admitted_at INTEGER NOT NULL,
    credits     INTEGER NOT NULL,
    byok        INTEGER NOT NULL,
    price       INTEGER NOT NULL
) STRICT;

CREATE TABLE settlements (
    row              INTEGER PRIMARY KEY,
    epoch            INTEGER NOT NULL, -- the fold that was current when it was booked
    outcome          TEXT NOT NULL,
    key              INTEGER NOT NULL,
    workspace        INTEGER NOT NULL,
    admitted_at      INTEGER NOT NULL,
    credits          INTEGER NOT NULL,
    byok             INTEGER NOT NULL,
    price            INTEGER NOT NULL,
    cost_total       INTEGER NOT NULL,
    cost_prompt      INTEGER NOT NULL,
    metered          INTEGER,          -- 1 reported, 0 estimated, null unknown
    prompt           INTEGER,
    cached           INTEGER,
    cache_write      INTEGER,
    prompt_audio     INTEGER,
    completion       INTEGER,
    reasoning        INTEGER,
    completion_audio INTEGER,
    completion_image INTEGER,
    streamed         INTEGER NOT NULL,
    cancelled        INTEGER NOT NULL,
    finish_reason    TEXT,
    native_finish    TEXT,
    upstream_id      TEXT,
    latency_ms       INTEGER,
    generation_ms    INTEGER,
    user_agent       TEXT,
    http_referer     TEXT,
    session_id       TEXT,
    attempts         TEXT
) STRICT;

-- Changes to settlements that were booked before.
CREATE TABLE corrections (
    id          INTEGER PRIMARY KEY,
    epoch       INTEGER NOT NULL,
    row         INTEGER NOT NULL,
    key         INTEGER NOT NULL,
    workspace   INTEGER NOT NULL,
    admitted_at INTEGER NOT NULL,
    credits     INTEGER NOT NULL,
    byok        INTEGER NOT NULL,
    reason      TEXT NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT;
CREATE INDEX corrections_by_row ON corrections (row);

-- What settlements and corrections sum to, up to the fold in `meta`. The tail behind it is replayed at start.
CREATE TABLE balances (
    scope  TEXT NOT NULL,    -- account | workspace | key
    id     INTEGER NOT NULL, -- 0 for the account
    kind   TEXT NOT NULL,    -- credits | byok
    span   TEXT NOT NULL,    -- lifetime | daily | weekly | monthly
    number INTEGER NOT NULL, -- of the window among those of its span
    spent  INTEGER NOT NULL,
    PRIMARY KEY (scope, id, kind, span)
) STRICT, WITHOUT ROWID;

CREATE TABLE key_use (
    key          INTEGER PRIMARY KEY,
    last_used_at INTEGER NOT NULL
) STRICT;

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value ANY NOT NULL
) STRICT, WITHOUT ROWID;
