-- The hash of a key's first secret stays its id; these are the hashes of the secrets that open it.

ALTER TABLE keys ADD COLUMN secret BLOB;            -- null is the first one
ALTER TABLE keys ADD COLUMN previous_secret BLOB;   -- opens it too,
ALTER TABLE keys ADD COLUMN previous_until INTEGER; -- until then
