-- Workspaces with budgets, members, guardrails, credits.

ALTER TABLE workspaces ADD COLUMN description TEXT;
ALTER TABLE workspaces ADD COLUMN preferences TEXT;             -- JSON; null is all at their defaults
ALTER TABLE workspaces ADD COLUMN include_byok INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workspaces ADD COLUMN created_by TEXT;
ALTER TABLE workspaces ADD COLUMN updated_at INTEGER;
ALTER TABLE workspaces ADD COLUMN deleted_at INTEGER;

ALTER TABLE keys ADD COLUMN creator INTEGER;                    -- a member; creator_user_id was never filled

CREATE TABLE workspace_budgets (
    workspace  INTEGER NOT NULL,
    span       TEXT NOT NULL, -- lifetime | daily | weekly | monthly
    uuid       TEXT NOT NULL UNIQUE,
    amount     INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (workspace, span)
) STRICT, WITHOUT ROWID;

-- People who were removed stay, for the history.
CREATE TABLE members (
    id         INTEGER PRIMARY KEY,
    user_id    TEXT NOT NULL UNIQUE,
    email      TEXT NOT NULL,
    first_name TEXT,
    last_name  TEXT,
    role       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    removed_at INTEGER
) STRICT;

CREATE TABLE workspace_members (
    workspace  INTEGER NOT NULL,
    member     INTEGER NOT NULL,
    uuid       TEXT NOT NULL,
    role       TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (workspace, member)
) STRICT, WITHOUT ROWID;

CREATE TABLE guardrails (
    id           INTEGER PRIMARY KEY,
    uuid         TEXT NOT NULL UNIQUE,
    workspace    INTEGER NOT NULL,
    name         TEXT NOT NULL,
    description  TEXT,
    amount       INTEGER,
    limit_reset  TEXT,
    include_byok INTEGER NOT NULL,
    lists        TEXT NOT NULL, -- JSON: allowed and ignored models and providers
    switches     TEXT NOT NULL, -- JSON: what is only stored
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER
) STRICT;

CREATE TABLE guardrail_keys (
    key        INTEGER PRIMARY KEY,
    guardrail  INTEGER NOT NULL,
    uuid       TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE TABLE guardrail_members (
    member     INTEGER PRIMARY KEY,
    guardrail  INTEGER NOT NULL,
    uuid       TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

-- What the account was topped up by. No row is an account without a limit.
CREATE TABLE credits (
    id         INTEGER PRIMARY KEY,
    amount     INTEGER NOT NULL,
    note       TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
