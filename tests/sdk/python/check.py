"""What all scripts share: the environment, one line per operation, plain HTTP, exact money."""

import json
import math
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from datetime import datetime, timezone
from decimal import Decimal

# A client that retries server errors would otherwise keep a failing run alive for an hour.
DEADLINE_SECONDS = 180
DAY_SECONDS = 86_400


def _variable(name):
    value = os.environ.get(name)
    if not value:
        sys.exit(f"{name} is not set")
    return value


BASE_URL = _variable("TOLLGATE_URL").rstrip("/") + "/api/v1"
MANAGEMENT_KEY = _variable("TOLLGATE_MANAGEMENT_KEY")
MODEL = _variable("TOLLGATE_MODEL")

# The clients fall back to these; the scripts must see only what they pass themselves.
for _name in [name for name in os.environ if name.startswith(("OPENAI_", "OPENROUTER_"))]:
    del os.environ[_name]

# Windows of a day, week or month must not roll between two calls.
_left_of_day = DAY_SECONDS - time.time() % DAY_SECONDS
if _left_of_day < 60:
    time.sleep(_left_of_day + 1)

signal.alarm(DEADLINE_SECONDS)

_operations = 0


@contextmanager
def operation(name):
    """Runs one operation, prints its line, and ends the process at the first failure."""
    global _operations
    try:
        yield
    except BaseException:
        print(f"not ok {name}", flush=True)
        raise
    _operations += 1
    print(f"ok {name}", flush=True)


def finish():
    global _operations
    print(f"{_operations} operations", flush=True)
    _operations = 0


def plain(method, path, body=None, key=MANAGEMENT_KEY, base=BASE_URL):
    """A request without any client, for what the clients do not know: its status, and what was answered."""
    text = body if isinstance(body, (str, type(None))) else json.dumps(body)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(base + path, text and text.encode(), headers, method=method)
    try:
        with urllib.request.urlopen(request) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def exact(number):
    """A decimal from the shortest text that names the same double: sums are then exact."""
    assert type(number) in (int, float), f"not a number: {number!r}"
    return Decimal(repr(number))


def assert_money(actual, expected, what):
    assert exact(actual) == expected, f"{what}: {actual} is not {expected}"


def assert_recent(text, what):
    age = abs(datetime.now(timezone.utc) - datetime.fromisoformat(text.replace("Z", "+00:00")))
    assert age.total_seconds() < 300, f"{what} is not a time of these minutes: {text}"


def unaffordable(prompt_price, completion_price, request_price, max_output_tokens):
    """A limit that leaves room for the prompt but not for the answer.

    Returns what to leave beyond what is spent, and the max_tokens to ask for.
    """
    prompt, completion = Decimal(prompt_price), Decimal(completion_price)
    assert completion > 0, "the model costs nothing"
    room = prompt * 1000 + completion * 2 + Decimal(request_price or "0")
    max_tokens = math.floor(room / completion) + 100
    assert max_output_tokens is None or max_tokens <= max_output_tokens, (
        "the model's answers are too short for this test"
    )
    return room, max_tokens
