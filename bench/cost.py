#!/usr/bin/env python3
"""Counts what a call and a `GET /key` cost in a database that is empty and in one that is full: it must not grow.

One command: python3 bench/cost.py [--binary PATH] [--keys N] [--generations N]
Counted, not timed: instructions (valgrind's callgrind) and system calls (strace), each as the difference between few
and many requests, so that what happens once does not count. Fails if a full database costs more. See bench/README.md.
"""
import argparse, collections, contextlib, http.client, json, os, pathlib, re, secrets, signal, sqlite3, subprocess, sys, tempfile, time

import run as bench

INSTRUCTIONS_MORE_MAX = 0.10
# Calls a request, on average: one page of a table splits every few dozen rows, at different times in different files.
CALLS_MORE_MAX = 0.1
# How often a thread sleeps and is woken is the scheduler's affair; when unused memory goes back, the allocator's.
NOT_COMPARED = {"epoll_wait", "futex", "sched_yield", "write", "madvise"}
FEW = 200
DURABILITIES = ("power", "process")
MANAGEMENT_KEY = "sk-or-v1-" + secrets.token_hex(32)


class Server:
    """A server on one database, with the bench's mock provider behind it, on one core so that counts repeat."""

    def __init__(self, stack, folder, database, binary, upstream, durability, wrapper=()):
        self.port = bench.free_port()
        config = folder / f"{database.stem}.toml"
        environment = bench.configure(config, self.port, database, durability, upstream, MANAGEMENT_KEY)
        command = ["taskset", "-c", "0", *wrapper, str(binary), "serve", "--config", str(config)]
        self.pid = stack.enter_context(bench.running("tollgate", command, self.port, folder, patience=120, env=environment, cwd=folder))
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method, path, bearer, body=None):
        self.connection.request(method, f"/api/v1{path}", body, {"authorization": f"Bearer {bearer}", "content-type": "application/json"})
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            raise SystemExit(f"FAILED: {method} {path} answers {answer.status}: {text.decode(errors='replace')[:1000]}")
        return json.loads(text)

    def create_key(self):
        return self.ask("POST", "/keys", MANAGEMENT_KEY, json.dumps({"name": "cost", "limit": 1000}))["key"]

    def call(self, key):
        body = {"model": "bench/ns", "max_tokens": 400, "messages": [{"role": "user", "content": bench.PROMPT}]}
        return self.ask("POST", "/chat/completions", key, json.dumps(body))


def fill(database, keys, generations):
    """Multiplies the one key and the one generation that a server left, so that entries still sum to the balances."""
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as db:
        db.execute("BEGIN")

        def multiply(table, number, count, change):
            columns = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
            values = ", ".join(change.get(column, column) for column in columns)
            db.execute(f"WITH RECURSIVE n (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM n WHERE n < {count - 1}) "
                       f"INSERT INTO {table} SELECT {values} FROM n, (SELECT * FROM {table} WHERE {number} = (SELECT max({number}) FROM {table}))")

        first_key = db.execute("SELECT max(id) FROM keys").fetchone()[0]
        multiply("keys", "id", keys, {"id": "id + n", "hash": "randomblob(32)", "name": "'key ' || n"})
        other = {"row": "row + n", "key": f"{first_key} + n % {keys}"}
        multiply("reservations", "row", generations, other)
        multiply("settlements", "row", generations, other)
        windows = db.execute("SELECT kind, span, number FROM balances WHERE scope = 'account'").fetchall()
        for kind, span, number in windows:
            for scope, owner in (("account", "0"), ("workspace", "workspace"), ("key", "key")):
                db.execute(f"INSERT OR REPLACE INTO balances SELECT ?, {owner} AS owner, ?, ?, ?, sum({kind}) FROM settlements GROUP BY owner",
                           (scope, kind, span, number))
        db.execute("UPDATE meta SET value = (SELECT max(row) + 1 FROM settlements) WHERE name = 'low_row'")
        db.execute("UPDATE settlements SET epoch = epoch - 1 WHERE epoch >= (SELECT value FROM meta WHERE name = 'epoch')")
        db.execute("COMMIT")
        counted = [db.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in ("keys", "settlements")]
        if counted != [keys, generations]:
            raise SystemExit(f"FAILED: the full database holds {counted} keys and generations")


def databases(folder, binary, upstream, keys, generations):
    """An empty database and a full one."""
    folder.mkdir(exist_ok=True)
    full = folder / "full.db"
    with contextlib.ExitStack() as stack:
        server = Server(stack, folder, full, binary, upstream, "process")
        server.call(server.create_key())
    started = time.monotonic()
    fill(full, keys, generations)
    bench.say(f"filled a database with {keys} keys and {generations} generations in {time.monotonic() - started:.0f} s")
    return {"empty": folder / "empty.db", "full": full}


def requests_of(server):
    """What is measured, by name."""
    key = server.create_key()
    wanted = {"call": lambda: server.call(key), "GET /key": lambda: server.ask("GET", "/key", key)}
    for request in wanted.values():
        for _ in range(50):  # what is set up once is set up by then
            request()
    return wanted


def instructions(server, folder, request):
    """Instructions a request."""
    def control(*what):
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        subprocess.run(["callgrind_control", *what, str(server.pid)], check=True, timeout=120, **quiet)

    def counted(count):
        before = set(folder.glob("callgrind.*"))
        control("-i", "on")
        for _ in range(count):
            request()
        control("-i", "off")
        control("-d")
        end = time.monotonic() + 60
        while time.monotonic() < end:
            for path in set(folder.glob("callgrind.*")) - before:
                total = re.search(r"^totals: (\d+)", path.read_text(errors="replace"), re.M)
                if total:
                    return int(total.group(1))
            time.sleep(0.05)
        raise SystemExit("FAILED: valgrind wrote no counts")

    few, many = counted(FEW), counted(3 * FEW)
    return (many - few) / (2 * FEW)


def system_calls(server, folder, request):
    """System calls a request, by name."""
    def counted(count):
        table = folder / "strace.txt"
        tracer = subprocess.Popen(["strace", "-f", "-c", "-o", str(table), "-p", str(server.pid)], stderr=subprocess.PIPE)
        tracer.stderr.readline()  # it says so when it is attached
        for _ in range(count):
            request()
        tracer.send_signal(signal.SIGINT)
        tracer.wait(timeout=30)
        rows = [line.split() for line in table.read_text().splitlines()]
        return collections.Counter({row[-1]: int(row[3]) for row in rows if len(row) >= 5 and row[3].isdigit() and row[-1] != "total"})

    few, many = counted(FEW), counted(3 * FEW)
    return {name: (many[name] - few[name]) / (2 * FEW) for name in many | few}


def measure(folder, binary, upstream, files, durability):
    found = {}
    for name, file in files.items():
        with contextlib.ExitStack() as stack:
            server = Server(stack, folder, file, binary, upstream, durability)
            calls = {what: system_calls(server, folder, request) for what, request in requests_of(server).items()}
        with contextlib.ExitStack() as stack:
            counter = ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder}/callgrind.%p"]
            server = Server(stack, folder, file, binary, upstream, durability, counter)
            counts = {what: instructions(server, folder, request) for what, request in requests_of(server).items()}
        found[name] = (calls, counts)
    return found


def compare(durability, found):
    """Rows to print, and what is wrong."""
    rows, wrong = [], []
    (empty_calls, empty_counts), (full_calls, full_counts) = found["empty"], found["full"]
    for what in empty_counts:
        more = full_counts[what] / empty_counts[what] - 1
        rows.append([what, "instructions", f"{empty_counts[what]:.0f}", f"{full_counts[what]:.0f}", f"{more:+.1%}"])
        if not (empty_counts[what] > 1000 and more <= INSTRUCTIONS_MORE_MAX):
            wrong.append(f"{durability}: {what}: {more:+.1%} instructions in a full database")
        for name in sorted(set(empty_calls[what]) | set(full_calls[what])):
            empty, full = empty_calls[what].get(name, 0), full_calls[what].get(name, 0)
            if max(empty, full) < 0.005:
                continue
            rows.append([what, f"`{name}`", f"{empty:.2f}", f"{full:.2f}", f"{full - empty:+.2f}"])
            if name not in NOT_COMPARED and full - empty > CALLS_MORE_MAX:
                wrong.append(f"{durability}: {what}: {full - empty:+.2f} {name} in a full database")
        if not empty_calls[what].get("recvfrom", 0) >= 1:
            wrong.append(f"{durability}: {what}: strace saw no request")
    return rows, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=bench.TARGET / "release/tollgate", help="with bench-upstream beside it")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--generations", type=int, default=1_000_000)
    arguments = parser.parse_args()
    for tool in ("strace", "valgrind"):
        bench.need(tool, tool)
    binary, wrong = pathlib.Path(arguments.binary).resolve(), []
    bench.TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bench.TARGET, prefix="cost-") as name, contextlib.ExitStack() as stack:
        folder, upstream = pathlib.Path(name), bench.free_port()
        stack.enter_context(bench.running("upstream", [str(binary.parent / "bench-upstream"), "--listen", f"127.0.0.1:{upstream}"], upstream, folder))
        files = databases(folder, binary, upstream, arguments.keys, arguments.generations)
        for durability in DURABILITIES:
            rows, found = compare(durability, measure(folder, binary, upstream, files, durability))
            wrong += found
            heads = ["request", "counted", "empty", f"{arguments.keys} keys, {arguments.generations} generations", "more"]
            print("\n".join([f"### `durability = \"{durability}\"`", "", *bench.table(heads, rows), ""]))
    for problem in wrong:
        bench.say(f"FAILED: {problem}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
