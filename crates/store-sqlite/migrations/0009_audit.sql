-- Who changed what, and the answers that a request which is made again gets again.

CREATE TABLE audit (
    id         INTEGER PRIMARY KEY,
    at         INTEGER NOT NULL,  -- microseconds
    actor      TEXT    NOT NULL,  -- management_key | operator | config | app
    actor_id   INTEGER,           -- of a management key
    actor_name TEXT,              -- its name at the time
    kind       TEXT    NOT NULL,  -- what the action begins with
    action     TEXT    NOT NULL,
    target     TEXT    NOT NULL,
    workspace  TEXT,
    before     TEXT,              -- JSON
    after      TEXT               -- JSON
) STRICT;

CREATE INDEX audit_target ON audit (target, id);
CREATE INDEX audit_workspace ON audit (workspace, id);
CREATE INDEX audit_kind ON audit (kind, id);

CREATE TABLE kept_answers (
    id         BLOB    PRIMARY KEY,
    request    BLOB    NOT NULL,  -- SHA-256
    sealed     BLOB    NOT NULL,
    created_at INTEGER NOT NULL   -- microseconds
) STRICT;

CREATE INDEX kept_answers_age ON kept_answers (created_at);
