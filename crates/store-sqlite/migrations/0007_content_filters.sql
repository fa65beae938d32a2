-- What guardrails filter out of calls.

ALTER TABLE guardrails ADD COLUMN filters TEXT NOT NULL DEFAULT '{}'; -- JSON: content filters, and those that come built in
