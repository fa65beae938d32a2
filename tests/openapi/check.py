"""Asks a running server whatever its OpenAPI document allows, and much that it does not, with each kind of key.

Every answer must have a status and a shape that the document declares, and none may be a 5xx.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import urllib.request

URL = os.environ["TOLLGATE_URL"]
MANAGEMENT_KEY = os.environ["TOLLGATE_MANAGEMENT_KEY"]
HERE = pathlib.Path(__file__).resolve().parent

CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "allow_header_conformance",
    "use_after_free",
]


def create(path, body):
    """What a management key makes."""
    request = urllib.request.Request(
        f"{URL}/api/v1{path}", data=json.dumps(body).encode(), headers={"Authorization": f"Bearer {MANAGEMENT_KEY}"}
    )
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def create_key():
    """An inference key with a limit, and its hash."""
    created = create("/keys", {"name": "openapi", "limit": 1})
    return created["key"], created["data"]["hash"]


def run(name, key, key_hash, *arguments):
    """One round; ends the program where it fails."""
    print(f"with {name}", flush=True)
    sign_in = ["--header", f"Authorization: Bearer {key}"] if key else []
    command = [
        pathlib.Path(sys.executable).parent / "schemathesis",
        *("run", f"{URL}/openapi.json", "--checks", ",".join(CHECKS), *sign_in, *arguments),
        *("--seed", "1", "--generation-database", "none", "--continue-on-failure", "--request-timeout", "10"),
        *("--suppress-health-check", "filter_too_much,too_slow", "--warnings", "off", "--no-color"),
    ]
    credential = create("/byok", {"provider": "simulated", "key": "sk-upstream"})["data"]["id"]
    known = {"TOLLGATE_KEY_HASH": key_hash, "TOLLGATE_CREDENTIAL": credential}
    settings = {"SCHEMATHESIS_HOOKS": "hooks", "PYTHONPATH": str(HERE), **known}
    # It keeps notes in its folder, and the next run must not read them.
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, **settings}
        done = subprocess.run(command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True, timeout=240)
    if done.returncode != 0:
        print(done.stdout)
        sys.exit(f"not ok with {name}")
    print("\n".join(line for line in done.stdout.splitlines() if "generated" in line), flush=True)


def main():
    key, key_hash = create_key()
    few, many = ("--max-examples", "3"), ("--max-examples", "12")
    run("no key", None, key_hash, "--phases", "coverage,fuzzing", *few)
    # What an inference key may not do is refused before anything is read, as it is without a key.
    mine = ["--include-tag", "Chat", "--include-tag", "Account", "--include-tag", "Models", "--include-tag", "Server"]
    run("an inference key", key, key_hash, "--phases", "coverage,fuzzing", *mine, *many)
    # Last, because it changes and deletes keys.
    run("a management key", MANAGEMENT_KEY, key_hash, "--phases", "coverage,fuzzing,stateful", *many)


if __name__ == "__main__":
    main()
