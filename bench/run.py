#!/usr/bin/env python3
"""Measures tollgate against nginx as a plain proxy, on loopback, in alternating paired runs.

One command: python3 bench/run.py [--write] [--repetitions N] [--seconds S] [--only ns@256,...] [--durability power]
Prints a Markdown table; --write keeps it in docs/reference/performance.md.
"""
import argparse, datetime, json, os, pathlib, platform, re, shutil, signal, socket, statistics, subprocess, sys, tempfile, time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parent.parent
MANAGEMENT_KEY = "sk-or-v1-" + "b" * 64
SCENARIOS = [("ns", 1), ("ns", 32), ("ns", 256), ("burst", 1), ("burst", 32), ("burst", 256), ("paced", 256), ("slow", 32)]
TARGETS = {  # CPU per request over nginx
    "power": {("ns", 256): 1.6, ("ns", 1): 4.0, ("slow", 32): 2.5, ("burst", 256): 2.5, ("paced", 256): 1.2},
    "process": {("ns", 256): 1.5, ("ns", 1): 3.0, ("slow", 32): 1.8, ("burst", 256): 2.0, ("paced", 256): 1.2},
}
RSS_TARGET = 4.0
PROMPT = "Say something of the usual length about limits that hold. " * 19


def need(tool, package):
    if shutil.which(tool) or pathlib.Path(f"/usr/sbin/{tool}").exists():
        return
    print(f"installing {package} with apt-get", file=sys.stderr)
    subprocess.run(["apt-get", "install", "-y", "-q", "--no-install-recommends", package], check=True, stdout=subprocess.DEVNULL)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise SystemExit(f"nothing listens on port {port}")


def tree(pid):
    """The process and its children."""
    pids = [pid]
    for task in pathlib.Path(f"/proc/{pid}/task").iterdir():
        children = (task / "children").read_text().split()
        for child in children:
            pids += tree(int(child))
    return pids


def cpu_ns(pid):
    """Scheduler run time of all threads of the process and its children."""
    total = 0
    for p in tree(pid):
        for task in pathlib.Path(f"/proc/{p}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except (FileNotFoundError, ProcessLookupError):
                pass
    return total


def rss_kib(pid):
    total = 0
    for p in tree(pid):
        match = re.search(r"VmRSS:\s+(\d+)", pathlib.Path(f"/proc/{p}/status").read_text())
        total += int(match.group(1)) if match else 0
    return total


def flush_us(folder):
    """The median time of one fdatasync after appending 4 KiB."""
    path, times = folder / "flush", []
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    for _ in range(200):
        os.write(fd, b"x" * 4096)
        start = time.perf_counter_ns()
        os.fdatasync(fd)
        times.append(time.perf_counter_ns() - start)
    os.close(fd)
    path.unlink()
    return statistics.median(times) / 1000


def start(children, command, **more):
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, **more)
    children.append(child)
    return child


def nginx(children, folder, upstream_port):
    port = free_port()
    config = folder / "nginx.conf"
    user = "user root;" if os.geteuid() == 0 else ""
    config.write_text(f"""
{user} worker_processes 2; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s; keepalive_requests 100000000;
  upstream mock {{ server 127.0.0.1:{upstream_port}; keepalive 512; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{ proxy_pass http://mock; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }}
  }}
}}""")
    binary = shutil.which("nginx") or "/usr/sbin/nginx"
    child = start(children, [binary, "-c", str(config), "-p", str(folder)], stderr=subprocess.DEVNULL)
    wait_for(port)
    return child.pid, port, None


def tollgate(children, binary, folder, upstream_port, durability):
    port, config = free_port(), folder / f"{durability}.toml"
    models = "".join(
        f'[[models]]\nid = "bench/{s}"\nprovider = "mock"\nupstream_id = "bench-{s}"\ncontext_length = 100000\n'
        f'max_output_tokens = 1000\npricing = {{ prompt = "0.00000015", completion = "0.0000006" }}\n'
        for s in ("ns", "burst", "paced", "slow"))
    config.write_text(
        f'[server]\nlisten = "127.0.0.1:{port}"\n[database]\nurl = "sqlite://{folder}/{durability}.db"\ndurability = "{durability}"\n'
        f'[log]\nlevel = "warn"\n[[providers]]\nslug = "mock"\nkind = "openai"\nbase_url = "http://127.0.0.1:{upstream_port}/v1"\n' + models)
    environment = dict(os.environ, TOLLGATE_BOOTSTRAP_MANAGEMENT_KEY=MANAGEMENT_KEY)
    child = start(children, [str(binary), "serve", "--config", str(config)], env=environment, stdout=subprocess.DEVNULL)
    wait_for(port)
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/v1/keys", data=json.dumps({"name": "bench", "limit": 1000000, "limit_reset": "monthly"}).encode(),
        headers={"authorization": f"Bearer {MANAGEMENT_KEY}", "content-type": "application/json"})
    key = json.load(urllib.request.urlopen(request))["key"]
    return child.pid, port, key


def script(folder, name, scenario, key):
    body = json.dumps({"model": f"bench/{scenario}" if key else f"bench-{scenario}", "max_tokens": 400,
                       "stream": scenario in ("burst", "paced"), "messages": [{"role": "user", "content": PROMPT}]})
    path = folder / f"{name}-{scenario}.lua"
    bearer = f'wrk.headers["authorization"] = "Bearer {key}"\n' if key else ""
    path.write_text(f"wrk.method = 'POST'\nwrk.body = [==[{body}]==]\nwrk.headers['content-type'] = 'application/json'\n{bearer}")
    return path, "/api/v1/chat/completions" if key else "/v1/chat/completions"


UNITS = {"us": 1.0, "ms": 1000.0, "s": 1e6}


def drive(peer, lua, path, connections, seconds):
    pid, port, _ = peer
    before = cpu_ns(pid)
    done = subprocess.run(
        ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency", "--timeout", "10s", "-s", str(lua),
         f"http://127.0.0.1:{port}{path}"], capture_output=True, text=True, timeout=seconds + 60)
    spent, out = cpu_ns(pid) - before, done.stdout
    if "Non-2xx" in out or "Socket errors" in out:
        raise SystemExit(f"requests failed:\n{out}{done.stderr}")
    requests = int(re.search(r"(\d+) requests in", out).group(1))
    latency = {p: float(v) * UNITS[u] for p, v, u in re.findall(r"(50|99)%\s+([\d.]+)(us|ms|s)", out)}
    return {"cpu": spent / 1000 / requests, "rps": requests / seconds, "p50": latency["50"], "p99": latency["99"], "rss": rss_kib(pid)}


def measure(arguments, durability, folder, binary, upstream, children, only):
    rows, peers = [], {"nginx": nginx(children, folder, upstream), "tollgate": tollgate(children, binary, folder, upstream, durability)}
    for scenario, connections in only:
        scripts = {name: script(folder, name, scenario, peer[2]) for name, peer in peers.items()}
        for name, peer in peers.items():
            drive(peer, *scripts[name], connections, 1)
        runs = {name: [] for name in peers}
        for repetition in range(arguments.repetitions):
            order = list(peers) if repetition % 2 == 0 else list(reversed(peers))
            for name in order:
                runs[name].append(drive(peers[name], *scripts[name], connections, arguments.seconds))
        paired = lambda field: [t[field] / n[field] for t, n in zip(runs["tollgate"], runs["nginx"])]
        median = lambda name, field: statistics.median(run[field] for run in runs[name])
        cpu = paired("cpu")
        rows.append({"scenario": scenario, "connections": connections, "cpu": statistics.median(cpu), "low": min(cpu), "high": max(cpu),
                     "rps": statistics.median(paired("rps")), "rss": statistics.median(paired("rss")),
                     "over": statistics.median(t["p50"] - n["p50"] for t, n in zip(runs["tollgate"], runs["nginx"])),
                     **{f"{name}_{field}": median(name, field) for name in peers for field in ("cpu", "p50", "p99", "rps", "rss")}})
        print(f"{durability} {scenario} {connections}: CPU {rows[-1]['cpu']:.2f}x", file=sys.stderr)
    return rows


def table(durability, rows, flush):
    lines = [f"### `durability = \"{durability}\"`", "",
             "| scenario | connections | CPU/request over nginx (range) | target | requests/s over nginx | CPU µs (nginx) | p50 µs (nginx) | p99 µs (nginx) | RSS over nginx |",
             "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"]
    for row in rows:
        target = TARGETS[durability].get((row["scenario"], row["connections"]))
        verdict = "" if target is None else f"{target} {'met' if row['cpu'] <= target else 'MISSED'}"
        lines.append(
            f"| {row['scenario']} | {row['connections']} | {row['cpu']:.2f}x ({row['low']:.2f}-{row['high']:.2f}) | {verdict} | {row['rps']:.2f}x "
            f"| {row['tollgate_cpu']:.0f} ({row['nginx_cpu']:.0f}) | {row['tollgate_p50']:.0f} ({row['nginx_p50']:.0f}) "
            f"| {row['tollgate_p99']:.0f} ({row['nginx_p99']:.0f}) | {row['rss']:.1f}x |")
    alone = next((row for row in rows if (row["scenario"], row["connections"]) == ("ns", 1)), None)
    if alone:
        allowed = 60 + (2 * flush if durability == "power" else 0)
        verdict = "met" if alone["over"] <= allowed else "MISSED"
        lines += ["", f"p50 over nginx at 1 connection: {alone['over']:+.0f} µs; allowed {allowed:.0f} µs (one flush of this disk: {flush:.0f} µs): {verdict}."]
    rss = max(row["rss"] for row in rows)
    lines += ["", f"RSS at most {rss:.1f}x nginx; target {RSS_TARGET}x: {'met' if rss <= RSS_TARGET else 'MISSED'}.", ""]
    return lines


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--only", default="", help="such as ns@256,slow@32")
    parser.add_argument("--durability", choices=["power", "process"], action="append")
    parser.add_argument("--binary", help="measure this binary instead of building the `dist` profile")
    parser.add_argument("--write", action="store_true", help="keep the table in docs/reference/performance.md")
    arguments = parser.parse_args()
    need("nginx", "nginx-light")
    need("wrk", "wrk")
    only = [(s, c) for s, c in SCENARIOS if not arguments.only or f"{s}@{c}" in arguments.only.split(",")]
    if arguments.binary:
        binary = pathlib.Path(arguments.binary)
        mock = binary.parent / "bench-upstream"
    else:
        subprocess.run(["cargo", "build", "--profile", "dist", "-p", "tollgate-cli", "-p", "bench-upstream"], cwd=ROOT, check=True)
        binary, mock = ROOT / "target/dist/tollgate", ROOT / "target/dist/bench-upstream"
    children = []
    (ROOT / "target").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "target", prefix="bench-") as name:
        folder = pathlib.Path(name)
        try:
            upstream, flush, lines = free_port(), flush_us(folder), []
            start(children, [str(mock), f"127.0.0.1:{upstream}"])
            wait_for(upstream)
            for durability in arguments.durability or ["power", "process"]:
                lines += table(durability, measure(arguments, durability, folder, binary, upstream, children, only), flush)
        finally:
            for child in reversed(children):
                child.send_signal(signal.SIGTERM)
            for child in children:
                try:
                    child.wait(timeout=40)
                except subprocess.TimeoutExpired:
                    child.kill()
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    heading = ["# Performance", "",
               f"Measured {datetime.date.today()} by `python3 bench/run.py`: {os.cpu_count()} cores ({cpu.group(1) if cpu else platform.machine()}), "
               f"`{binary.parent.name}` profile, everything on one machine, {arguments.repetitions} paired runs of {arguments.seconds} s, medians. Keys, limits, metering and the durable "
               "ledger are on; nginx only forwards. Read the ratios, not the times.", ""]
    text = "\n".join(heading + lines)
    print(text)
    if arguments.write:
        (ROOT / "docs/reference/performance.md").write_text(text + "\n")


main()
