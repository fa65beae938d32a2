-- What was used, by hour, key, workspace and price version (which names model and provider). Folded together with the
-- balances, exactly once. Rows that were settled before this table existed are summed here, up to the last fold.

CREATE TABLE rollups (
    hour       INTEGER NOT NULL, -- of admission, counted from 1970 UTC
    key        INTEGER NOT NULL,
    workspace  INTEGER NOT NULL,
    price      INTEGER NOT NULL,
    requests   INTEGER NOT NULL,
    prompt     INTEGER NOT NULL,
    cached     INTEGER NOT NULL,
    completion INTEGER NOT NULL,
    reasoning  INTEGER NOT NULL,
    credits    INTEGER NOT NULL,
    byok       INTEGER NOT NULL,
    PRIMARY KEY (hour, key, workspace, price)
) STRICT, WITHOUT ROWID;

INSERT INTO rollups (hour, key, workspace, price, requests, prompt, cached, completion, reasoning, credits, byok)
SELECT admitted_at / 3600000000, key, workspace, price, count(*), sum(coalesce(prompt, 0)), sum(coalesce(cached, 0)),
    sum(coalesce(completion, 0)), sum(coalesce(reasoning, 0)), sum(credits), sum(byok)
FROM settlements
WHERE outcome <> 'released' AND epoch < (SELECT value FROM meta WHERE name = 'epoch')
GROUP BY 1, 2, 3, 4;

INSERT INTO rollups (hour, key, workspace, price, requests, prompt, cached, completion, reasoning, credits, byok)
SELECT c.admitted_at / 3600000000, c.key, c.workspace, s.price, 0, 0, 0, 0, 0, c.credits, c.byok
FROM corrections c JOIN settlements s ON s.row = c.row
WHERE c.epoch < (SELECT value FROM meta WHERE name = 'epoch')
ON CONFLICT (hour, key, workspace, price) DO UPDATE SET credits = credits + excluded.credits, byok = byok + excluded.byok;
