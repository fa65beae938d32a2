-- Provider credentials that workspaces bring (BYOK).

CREATE TABLE credentials (
    id                  INTEGER PRIMARY KEY,
    uuid                TEXT NOT NULL UNIQUE,
    workspace           INTEGER,          -- null is every workspace
    provider            TEXT NOT NULL,
    label               TEXT NOT NULL,
    sealed              BLOB,             -- the secret under the server's key, for this uuid only; null once deleted
    name                TEXT,
    disabled            INTEGER NOT NULL,
    is_fallback         INTEGER NOT NULL,
    is_required         INTEGER NOT NULL,
    is_byok_only        INTEGER NOT NULL,
    lists               TEXT NOT NULL,    -- JSON: allowed keys, models and users
    region              TEXT,
    zero_data_retention INTEGER,
    sort_order          INTEGER NOT NULL,
    created_at          INTEGER NOT NULL,
    updated_at          INTEGER,
    deleted_at          INTEGER
) STRICT;

-- The credential that an answer came under; null is the account's own capacity.
ALTER TABLE settlements ADD COLUMN credential INTEGER;
