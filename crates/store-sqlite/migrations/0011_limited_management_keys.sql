-- Management keys that manage one workspace.

ALTER TABLE management_keys ADD COLUMN workspace INTEGER;
