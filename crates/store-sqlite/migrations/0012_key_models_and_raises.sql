-- Models that a key may call, and more than its limit for a while.

ALTER TABLE keys ADD COLUMN allowed_models TEXT;    -- JSON
ALTER TABLE keys ADD COLUMN raise_amount   INTEGER; -- nano-dollars
ALTER TABLE keys ADD COLUMN raise_until    INTEGER; -- microseconds
