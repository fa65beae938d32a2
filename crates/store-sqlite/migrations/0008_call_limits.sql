-- How often a key may call, and how many of its calls may be in flight. Null is no limit.

ALTER TABLE keys ADD COLUMN requests_per_minute INTEGER;
ALTER TABLE keys ADD COLUMN calls_in_flight_max INTEGER;
