#!/usr/bin/env python3
"""Measures tollgate against nginx as a plain proxy, on loopback, in alternating paired runs.

One command: python3 bench/run.py [--write] [--repetitions N] [--seconds S] [--only ns@256,...] [--durability power]
Prints a Markdown table; --write keeps it in docs/reference/performance.md. What is measured, and how: bench/README.md.
"""
import argparse, contextlib, datetime, json, os, pathlib, platform, re, resource, secrets, shutil, signal, socket, statistics, subprocess
import sys, tempfile, time, urllib.error, urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "target"
RESULT = ROOT / "docs/reference/performance.md"
SCENARIOS = [("ns", 1), ("ns", 32), ("ns", 256), ("burst", 1), ("burst", 32), ("burst", 256), ("paced", 256), ("slow", 32)]
STREAMED = ("burst", "paced")
TARGETS = {  # CPU per request over nginx
    "power": {("ns", 256): 1.6, ("ns", 1): 4.0, ("slow", 32): 2.5, ("burst", 256): 2.5, ("paced", 256): 1.2},
    "process": {("ns", 256): 1.5, ("ns", 1): 3.0, ("slow", 32): 1.8, ("burst", 256): 2.0, ("paced", 256): 1.2},
}
RSS_TARGET = 4.0
P50_OVER_US = 60
PROMPT = "Say something of the usual length about limits that hold. " * 19
BROWSER = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback goes through nobody's proxy


def say(text):
    print(text, file=sys.stderr, flush=True)


# --- What it needs ---------------------------------------------------------------------------------------------------------------


def find(tool):
    return shutil.which(tool, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def need(tool, package):
    if find(tool):
        return
    say(f"{tool} is missing: installing {package} with apt-get")
    apt = ["apt-get", "install", "-y", "-q", "--no-install-recommends", package]
    environment = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
    with contextlib.suppress(OSError):  # no apt-get here: told below
        if subprocess.run(apt, env=environment, stdout=subprocess.DEVNULL, timeout=300).returncode != 0:
            subprocess.run(["apt-get", "update", "-q"], env=environment, stdout=subprocess.DEVNULL, timeout=300)
            subprocess.run(apt, env=environment, stdout=subprocess.DEVNULL, timeout=300)
    if not find(tool):
        raise SystemExit(f"{tool} could not be installed; install {package}, then run this again")


def build(packages):
    say(f"building {', '.join(packages)} with the dist profile")
    command = ["cargo", "build", "--profile", "dist", "--target-dir", str(TARGET)]
    subprocess.run(command + [word for package in packages for word in ("-p", package)], cwd=ROOT, check=True, timeout=3600)
    return TARGET / "dist/tollgate"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# --- Processes -------------------------------------------------------------------------------------------------------------------


def tree(pid):
    """The process and all below it."""
    pids = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            for child in task.read_text().split():
                pids += tree(int(child))
    return pids


@contextlib.contextmanager
def running(name, command, port, folder, patience=15, **more):
    """Runs a server until the block ends, however it ends; then it and its children are gone."""
    log = folder / f"{name}.log"
    with log.open("wb") as out:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, **more)
    try:
        end = time.monotonic() + patience
        while True:
            with socket.socket() as s:
                if s.connect_ex(("127.0.0.1", port)) == 0:
                    break
            if child.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{name} does not listen on port {port}:\n{log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.02)
        yield child.pid
    finally:
        pids = tree(child.pid) if child.poll() is None else []
        child.terminate()
        try:
            child.wait(timeout=10)
        except subprocess.TimeoutExpired:
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            child.wait(timeout=10)


def cpu_ns(pid):
    """Scheduler run time of each thread of the process and its children, by thread: one that ends must not count as negative."""
    times = {}
    for process in tree(pid):
        for task in pathlib.Path(f"/proc/{process}/task").glob("*"):
            with contextlib.suppress(OSError):
                times[task.name] = int((task / "schedstat").read_text().split()[0])
    return times


def spent_ns(before, after):
    return sum(time_ns - before.get(task, 0) for task, time_ns in after.items())


def forget_peak(pid):
    for process in tree(pid):
        with contextlib.suppress(OSError):  # then the peak is that of its life
            pathlib.Path(f"/proc/{process}/clear_refs").write_text("5")


def peak_mib(pid):
    statuses = [pathlib.Path(f"/proc/{process}/status").read_text() for process in tree(pid)]
    return sum(int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) for status in statuses) / 1024


def flush_us(folder):
    """The median time of one fdatasync after appending 4 KiB."""
    times = []
    with tempfile.TemporaryFile(dir=folder, buffering=0) as file:
        for _ in range(200):
            file.write(b"x" * 4096)
            start = time.perf_counter_ns()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter_ns() - start)
    return statistics.median(times) / 1000


# --- Peers -----------------------------------------------------------------------------------------------------------------------


class Peer:
    def __init__(self, pid, ports, path, model, bearer=None):
        self.pid, self.ports, self.path, self.model, self.bearer = pid, ports, path, model, bearer

    def url(self, scenario):
        return f"http://127.0.0.1:{self.ports[scenario in STREAMED]}{self.path}"

    def body(self, scenario):
        messages = [{"role": "user", "content": PROMPT}]
        return json.dumps({"model": self.model + scenario, "max_tokens": 400, "stream": scenario in STREAMED, "messages": messages})

    def headers(self):
        more = {"authorization": f"Bearer {self.bearer}"} if self.bearer else {}
        return {"content-type": "application/json", **more}


def ask(url, headers, body=None):
    try:
        with BROWSER.open(urllib.request.Request(url, data=body and body.encode(), headers=headers), timeout=20) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as refused:
        raise SystemExit(f"FAILED: {url} answers {refused.code}: {refused.read().decode(errors='replace')[:2000]}") from None


@contextlib.contextmanager
def nginx(folder, upstream):
    whole, stream = free_port(), free_port()
    server = "location / { proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_buffering %s; }"
    config = folder / "nginx.conf"
    config.write_text(f"""{'user root;' if os.geteuid() == 0 else ''}
worker_processes 2; worker_rlimit_nofile 8192; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx-error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  upstream mock {{ server 127.0.0.1:{upstream}; keepalive 512; keepalive_requests 1000000000; }}
  server {{ listen 127.0.0.1:{whole} backlog=1024; {server % "on"} }}
  server {{ listen 127.0.0.1:{stream} backlog=1024; {server % "off"} }}
}}
""")
    command = [find("nginx"), "-e", f"{folder}/nginx-error.log", "-p", str(folder), "-c", str(config)]
    with running("nginx", command, whole, folder) as pid:
        yield Peer(pid, (whole, stream), "/v1/chat/completions", "bench-")


def configure(config, port, database, durability, upstream, management_key):
    """Writes tollgate's configuration, with a model for each scenario; the environment that goes with it."""
    models = "".join(f"""
[[models]]
id = "bench/{scenario}"
provider = "mock"
upstream_id = "bench-{scenario}"
context_length = 100000
max_output_tokens = 1000
pricing = {{ prompt = "0.00000015", completion = "0.0000006" }}
""" for scenario in ("ns", "burst", "paced", "slow"))
    config.write_text(f"""[server]
listen = "127.0.0.1:{port}"
grace_seconds = 2
[database]
url = "sqlite://{database}"
durability = "{durability}"
[limits]
management_requests_per_minute = 0
[log]
level = "warn"
[[providers]]
slug = "mock"
kind = "openai"
base_url = "http://127.0.0.1:{upstream}/v1"
api_key_env = "BENCH_PROVIDER_KEY"
{models}""")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOLLGATE_")}
    return environment | {"TOLLGATE_BOOTSTRAP_MANAGEMENT_KEY": management_key, "BENCH_PROVIDER_KEY": "none"}


@contextlib.contextmanager
def tollgate(folder, upstream, binary, durability):
    port, management_key = free_port(), "sk-or-v1-" + secrets.token_hex(32)
    config, database = folder / f"tollgate-{durability}.toml", folder / f"{durability}.db"
    environment = configure(config, port, database, durability, upstream, management_key)
    with running("tollgate", [str(binary), "serve", "--config", str(config)], port, folder, env=environment, cwd=folder) as pid:
        headers = {"authorization": f"Bearer {management_key}", "content-type": "application/json"}
        made = json.loads(ask(f"http://127.0.0.1:{port}/api/v1/keys", headers, json.dumps({"name": "bench", "limit": 1000000})))
        peer = Peer(pid, (port, port), "/api/v1/chat/completions", "bench/", made["key"])
        yield peer
        shown = json.loads(ask(f"http://127.0.0.1:{port}/api/v1/keys/{made['data']['hash']}", headers))
        if not shown["data"]["usage"] > 0:
            raise SystemExit("FAILED: the key shows no usage, so what was measured did not meter")


# --- Runs ------------------------------------------------------------------------------------------------------------------------


def check(name, peer, scenario):
    """One call, looked at: the peer forwards what the scenario says."""
    answer = ask(peer.url(scenario), peer.headers(), peer.body(scenario))
    if scenario in STREAMED:
        right = answer.count("data: {") >= 51 and answer.rstrip().endswith("data: [DONE]")
    else:
        right = json.loads(answer)["usage"]["completion_tokens"] == 260
    if not right:
        raise SystemExit(f"FAILED: {name} answers {scenario} with something else:\n{answer[:2000]}")


def script(folder, name, peer, scenario):
    """What wrk sends, and how it tells what came of it. Latencies are in microseconds."""
    path = folder / f"{name}-{scenario}.lua"
    headers = "".join(f"wrk.headers[{json.dumps(header)}] = {json.dumps(value)}\n" for header, value in peer.headers().items())
    path.write_text(f"""wrk.method = "POST"
wrk.body = [==[{peer.body(scenario)}]==]
{headers}
function done(summary, latency)
  local e = summary.errors
  io.write(string.format('\\nRESULT {{"requests": %d, "duration": %d, "p50": %d, "p99": %d, "status": %d, "socket": %d}}\\n',
    summary.requests, summary.duration, latency:percentile(50), latency:percentile(99),
    e.status, e.connect + e.read + e.write + e.timeout))
end
""")
    return path


def drive(name, peer, scenario, lua, connections, seconds):
    forget_peak(peer.pid)
    before = cpu_ns(peer.pid)
    command = [find("wrk"), "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency", "--timeout", "10s", "-s", str(lua)]
    done = subprocess.run(command + [peer.url(scenario)], capture_output=True, text=True, timeout=seconds + 30)
    after = cpu_ns(peer.pid)
    found = re.search(r"^RESULT (.*)$", done.stdout, re.M)
    if not found:
        raise SystemExit(f"wrk failed on {name} {scenario}@{connections}:\n{done.stdout}{done.stderr}")
    run = json.loads(found.group(1))
    if run["status"] or run["socket"] or not run["requests"]:
        raise SystemExit(f"FAILED: {name} {scenario}@{connections}: {run['status']} answers were not 2xx, {run['socket']} socket errors, "
                         f"{run['requests']} requests\n{done.stdout}{done.stderr}")
    run |= {"cpu": spent_ns(before, after) / 1000 / run["requests"], "rps": run["requests"] * 1e6 / run["duration"], "rss": peak_mib(peer.pid)}
    settle_down(peer.pid)
    return run


def settle_down(pid):
    """Lets the calls that wrk broke off at its end come to theirs, so that the next run does not pay for them."""
    end = time.monotonic() + 2
    while time.monotonic() < end:
        before = cpu_ns(pid)
        time.sleep(0.05)
        if spent_ns(before, cpu_ns(pid)) < 1_000_000:
            return


def measure(arguments, title, peers, folder, scenarios):
    rows = []
    for scenario, connections in scenarios:
        lua = {name: script(folder, name, peer, scenario) for name, peer in peers.items()}
        for name, peer in peers.items():
            check(name, peer, scenario)
            drive(name, peer, scenario, lua[name], connections, 1)
        runs = {name: [] for name in peers}
        for repetition in range(arguments.repetitions):
            for name in list(peers) if repetition % 2 == 0 else list(reversed(peers)):
                runs[name].append(drive(name, peers[name], scenario, lua[name], connections, arguments.seconds))
        rows.append(Row(scenario, connections, runs))
        say(f"{title} {scenario}@{connections}: " + ", ".join(f"{name} {rows[-1].median(name, 'cpu'):.0f} µs CPU" for name in peers)
            + (f", {rows[-1].over('cpu')}" if len(peers) == 2 else ""))
    return rows


class Row:
    def __init__(self, scenario, connections, runs):
        self.scenario, self.connections, self.runs = scenario, connections, runs

    def median(self, name, field):
        return statistics.median(run[field] for run in self.runs[name])

    def ratios(self, field):
        return [ours[field] / theirs[field] for ours, theirs in zip(self.runs["tollgate"], self.runs["nginx"], strict=True)]

    def over(self, field, digits=2):
        ratios = self.ratios(field)
        return f"{statistics.median(ratios):.{digits}f}x ({min(ratios):.{digits}f}-{max(ratios):.{digits}f})"

    def both(self, field):
        return f"{self.median('tollgate', field):.0f} ({self.median('nginx', field):.0f})"

    def p50_over(self):
        pairs = zip(self.runs["tollgate"], self.runs["nginx"], strict=True)
        return statistics.median(ours["p50"] - theirs["p50"] for ours, theirs in pairs)


# --- Tables ----------------------------------------------------------------------------------------------------------------------


def table(heads, rows):
    aligned = ["---"] + ["---:"] * (len(heads) - 1)
    return ["| " + " | ".join(cells) + " |" for cells in [heads, aligned, *rows]]


def verdict(met):
    return "met" if met else "MISSED"


def alone(name, rows):
    cells = [[f"{row.scenario}@{row.connections}"] + [f"{row.median(name, field):.0f}" for field in ("cpu", "rps", "p50", "p99", "rss")]
             for row in rows]
    return [f"### {name}", ""] + table(["scenario@connections", "CPU µs/request", "requests/s", "p50 µs", "p99 µs", "RSS MiB"], cells) + [""]


def compared(durability, rows, flush):
    cells = []
    for row in rows:
        target = TARGETS[durability].get((row.scenario, row.connections))
        met = "" if target is None else f"{target}x {verdict(statistics.median(row.ratios('cpu')) <= target)}"
        cells.append([f"{row.scenario}@{row.connections}", row.over("cpu"), met, row.both("cpu"), row.over("rps"), row.both("rps"),
                      row.both("p50"), row.both("p99"), row.over("rss", 1)])
    heads = ["scenario@connections", "CPU/request over nginx (range)", "target", "CPU µs (nginx)", "requests/s over nginx (range)",
             "requests/s (nginx)", "p50 µs (nginx)", "p99 µs (nginx)", "RSS over nginx (range)"]
    lines = [f"### `durability = \"{durability}\"`", ""] + table(heads, cells) + [""]
    for row in rows:
        if (row.scenario, row.connections) == ("ns", 1):
            allowed, said = (2 * flush + P50_OVER_US, f"2 x flush + {P50_OVER_US} µs = ") if durability == "power" else (P50_OVER_US, "")
            lines += [f"p50 over nginx at 1 connection: {row.p50_over():+.0f} µs; target {said}{allowed:.0f} µs "
                      f"(flush, the p50 of one fdatasync: {flush:.0f} µs): {verdict(row.p50_over() <= allowed)}.", ""]
    rss = max(statistics.median(row.ratios("rss")) for row in rows)
    return lines + [f"Peak RSS at most {rss:.1f}x nginx; target {RSS_TARGET:.0f}x: {verdict(rss <= RSS_TARGET)}.", ""]


def facts(arguments, profile):
    def first(path, pattern):
        found = re.search(pattern, pathlib.Path(path).read_text())
        return found.group(1) if found else "?"

    def version(command, pattern):
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        found = re.search(pattern, done.stdout + done.stderr)
        return found.group(1) if found else "?"

    memory = int(first("/proc/meminfo", r"MemTotal:\s+(\d+)")) / 1024 / 1024
    nginx_version, wrk_version = version([find("nginx"), "-v"], r"nginx/([0-9.]+)"), version([find("wrk"), "-v"], r"wrk \D*([0-9.]+)")
    return [
        f"Measured {datetime.date.today()} by `python3 bench/run.py`: {os.cpu_count()} cores ({first('/proc/cpuinfo', 'model name.*: (.*)')}), "
        f"{memory:.0f} GiB, Linux {platform.release().split('-')[0]}, nginx {nginx_version}, wrk {wrk_version}, `{profile}` profile; {arguments.repetitions} paired runs of "
        f"{arguments.seconds} s, everything on this one machine.",
        "",
        "tollgate runs with keys, limits, metering and the durable ledger; nginx only forwards. Ratios are medians of paired runs: read "
        "those, not the times.",
        "",
        "What a call costs does not grow with the number of keys or of logged generations: `bench/cost.py` counts the instructions and the "
        "system calls in an empty database and in one with 10,000 keys and 1,000,000 generations, and the tests fail where they differ.",
        "",
    ]


def run(arguments, scenarios, binary):
    lines = []
    with tempfile.TemporaryDirectory(dir=TARGET, prefix="bench-") as name, contextlib.ExitStack() as stack:
        folder, upstream = pathlib.Path(name), free_port()
        stack.enter_context(running("upstream", [str(binary.parent / "bench-upstream"), "--listen", f"127.0.0.1:{upstream}"], upstream, folder))
        if "tollgate" not in arguments.peers:
            with nginx(folder, upstream) as peer:
                return alone("nginx", measure(arguments, "nginx", {"nginx": peer}, folder, scenarios))
        for durability in arguments.durability or ["power", "process"]:
            flush, peers = flush_us(folder), {}
            with contextlib.ExitStack() as stack_of_peers:
                if "nginx" in arguments.peers:
                    peers["nginx"] = stack_of_peers.enter_context(nginx(folder, upstream))
                peers["tollgate"] = stack_of_peers.enter_context(tollgate(folder, upstream, binary, durability))
                rows = measure(arguments, durability, peers, folder, scenarios)
            lines += compared(durability, rows, flush) if len(peers) == 2 else alone(f"tollgate, {durability}", rows)
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2, help="of each run")
    parser.add_argument("--only", help="such as ns@256,slow@32")
    parser.add_argument("--peers", default="nginx,tollgate", help="nginx, tollgate, or both (default)")
    parser.add_argument("--durability", choices=["power", "process"], action="append", help="may be repeated; default is both")
    parser.add_argument("--binary", help="measure this binary, with bench-upstream beside it, instead of building the dist profile")
    parser.add_argument("--write", action="store_true", help=f"keep the table in {RESULT.relative_to(ROOT)}")
    arguments = parser.parse_args()
    arguments.peers = arguments.peers.split(",")
    names = [f"{scenario}@{connections}" for scenario, connections in SCENARIOS]
    only = arguments.only.split(",") if arguments.only else names
    if set(only) - set(names):
        parser.error(f"--only knows {', '.join(names)}")
    if set(arguments.peers) - {"nginx", "tollgate"}:
        parser.error("--peers knows nginx and tollgate")
    if arguments.repetitions < 1 or arguments.seconds < 1:
        parser.error("--repetitions and --seconds are at least 1")
    if arguments.write and (len(arguments.peers) < 2 or arguments.only or arguments.durability):
        parser.error("--write keeps the whole table: leave out --only, --peers and --durability")

    # A signal ends it like an exception, so that no process stays behind.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if most != resource.RLIM_INFINITY and most < 65536 else 65536, most))
    need("nginx", "nginx-light")
    need("wrk", "wrk")
    TARGET.mkdir(exist_ok=True)
    if arguments.binary:
        binary = pathlib.Path(arguments.binary).resolve()
    else:
        binary = build(["bench-upstream"] + (["tollgate-cli"] if "tollgate" in arguments.peers else []))
    lines = run(arguments, [(scenario, connections) for scenario, connections in SCENARIOS if f"{scenario}@{connections}" in only], binary)
    text = "\n".join(["# Performance", ""] + facts(arguments, binary.parent.name) + lines)
    print(text)
    if arguments.write:
        # What another bench measured follows, and stays.
        _, heading, others = RESULT.read_text().partition("## Storage engines\n")
        RESULT.write_text(text + "\n" + heading + others if heading else text)


if __name__ == "__main__":
    main()
