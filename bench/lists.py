#!/usr/bin/env python3
"""Asks for pages of keys and for single keys, among few and among many: a page must cost the same.

One command: python3 bench/lists.py [--binary PATH] [--few N] [--many N] [--repetitions R]
Page reads of the database are counted (strace), medians are timed in alternating paired runs. See bench/README.md.
"""
import argparse, contextlib, pathlib, statistics, sys, tempfile, time

import cost
import run as bench

RATIO_MAX = 1.3
REQUESTS = 60


def median_us(request):
    """The median of one run, in microseconds."""
    times = []
    for _ in range(REQUESTS):
        start = time.perf_counter_ns()
        request()
        times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


def requests_of(server, keys):
    """What is measured, by name."""
    def get(path):
        return lambda: server.ask("GET", path, cost.MANAGEMENT_KEY)

    some = get("/keys")()["data"][0]["hash"]
    return {"first page": get("/keys"), "middle page": get(f"/keys?offset={keys // 2}"),
            "last page": get(f"/keys?offset={keys - 100}"), "one key": get(f"/keys/{some}")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--binary", default=bench.TARGET / "release/tollgate", help="with bench-upstream beside it")
    parser.add_argument("--few", type=int, default=1_000)
    parser.add_argument("--many", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=15)
    arguments = parser.parse_args()
    bench.need("strace", "strace")
    binary, wrong = pathlib.Path(arguments.binary).resolve(), []
    bench.TARGET.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=bench.TARGET, prefix="lists-") as name, contextlib.ExitStack() as stack:
        folder, upstream = pathlib.Path(name), bench.free_port()
        stack.enter_context(bench.running("upstream", [str(binary.parent / "bench-upstream"), "--listen", f"127.0.0.1:{upstream}"], upstream, folder))
        servers = {}
        for keys in (arguments.few, arguments.many):
            file = cost.databases(folder / str(keys), binary, upstream, keys, keys)["full"]
            servers[keys] = cost.Server(stack, folder, file, binary, upstream, "process")
        wanted = {keys: requests_of(server, keys) for keys, server in servers.items()}
        rows = []
        for what in wanted[arguments.few]:
            reads = {keys: cost.system_calls(server, folder, wanted[keys][what]).get("pread64", 0) for keys, server in servers.items()}
            few, many = [], []
            for repetition in range(arguments.repetitions):
                order = [(few, arguments.few), (many, arguments.many)]
                for times, keys in order if repetition % 2 == 0 else reversed(order):
                    times.append(median_us(wanted[keys][what]))
            ratio = statistics.median(m / f for f, m in zip(few, many))
            rows.append([what, f"{statistics.median(few):.0f}", f"{statistics.median(many):.0f}", f"{ratio:.2f}x",
                         f"{reads[arguments.few]:.2f}", f"{reads[arguments.many]:.2f}"])
            if ratio > RATIO_MAX:
                wrong.append(f"{what}: {ratio:.2f}x among {arguments.many} keys")
            if reads[arguments.many] > reads[arguments.few] + 0.01:
                wrong.append(f"{what}: {reads[arguments.many]:.2f} page reads among {arguments.many} keys")
        heads = ["request", f"µs, {arguments.few} keys", f"µs, {arguments.many} keys", "ratio", "reads, few", "reads, many"]
        print("\n".join(bench.table(heads, rows)))
    for problem in wrong:
        bench.say(f"FAILED: {problem}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
