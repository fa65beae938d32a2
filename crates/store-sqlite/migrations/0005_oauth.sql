-- Authorization codes that were not exchanged yet. Of a code and of its verifier only hashes are kept.

CREATE TABLE codes (
    hash            BLOB PRIMARY KEY, -- SHA-256 of the code
    method          TEXT NOT NULL,    -- S256 | plain
    verifier        BLOB NOT NULL,    -- SHA-256 of the verifier
    wrong_verifiers INTEGER NOT NULL,
    created_at      INTEGER NOT NULL,
    name            TEXT NOT NULL,    -- of the key that it is good for, as all that follows
    workspace       INTEGER NOT NULL,
    credit_limit    INTEGER,
    limit_reset     TEXT,
    expires_at      INTEGER
) STRICT, WITHOUT ROWID;
