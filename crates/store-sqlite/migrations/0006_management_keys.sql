-- Management keys with less power: that may look and not touch, and that end by themselves.

ALTER TABLE management_keys ADD COLUMN read_only INTEGER NOT NULL DEFAULT 0;
ALTER TABLE management_keys ADD COLUMN expires_at INTEGER;
