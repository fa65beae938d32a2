"""Runs every script of the OpenRouter SDK, and says which operations that the SDK offers the server has answered.

An operation that nobody called is asked for by plain HTTP: the server must not know it, and `not_served.json` must say
why. So whatever the server begins to serve, and whatever a new SDK begins to offer, shows up here.
"""

import importlib
import json
import re
from pathlib import Path
from urllib.parse import urljoin

from check import BASE_URL, operation, plain
from client import called, offered

for _script in ["openrouter_keys", "openrouter_organization", "openrouter_catalogue", "openrouter_oauth", "openrouter_byok"]:
    importlib.import_module(_script)

# What the server serves, and each SDK must find.
RESOURCES = ["api_keys", "credits", "workspaces", "guardrails", "organization", "models", "providers", "o_auth", "byok"]

REASONS = json.loads((Path(__file__).parent.parent / "not_served.json").read_text(encoding="utf-8"))


def reason_of(path):
    prefix = max((prefix for prefix in REASONS if path.startswith(prefix)), key=len, default=None)
    return REASONS.get(prefix)


def is_served(method, path):
    """Whether the server knows a request. No body is ever good enough to be obeyed."""
    base = urljoin(BASE_URL, "/")[:-1] if path.startswith("/api/") else BASE_URL
    body = None if method in ("GET", "DELETE") else "{"
    status, answer = plain(method, re.sub(r"\{\w+\}", "none", path), body, base=base)
    return status != 405 and not (status == 404 and answer["error"]["message"] == "Resource not found")


with operation("every operation that is served was called"):
    operations = sorted(offered())
    gaps, missing = [], {}
    for name, method, path in operations:
        if name in called:
            print(f"called      {name}  {method} {path}")
        elif is_served(method, path):
            gaps.append(f"not called  {name}  {method} {path}")
        elif not reason_of(path):
            gaps.append(f"not served  {name}  {method} {path}  and not_served.json gives no reason")
        else:
            missing.setdefault(reason_of(path), []).append(name)
    for reason, names in missing.items():
        print(f"not served  {', '.join(names)}: {reason}")
    for gap in gaps:
        print(gap)
    absent = sum(map(len, missing.values()))
    print(f"{len(called)} called, {absent} not served, of {len(operations)} that the SDK offers")
    assert not gaps, gaps
    names = {name for name, _, _ in operations}
    assert called <= names, f"called, and not offered: {called - names}"
    for resource in RESOURCES:
        assert any(name.startswith(f"{resource}.") for name in names), f"no {resource}"
