"""What the benchmarks measure with: ratios of things measured in turn in the same run, never absolute figures alone.

A benchmark is a file bench_NAME.py with `run(work) -> Figure | list[Figure]`; run.py finds it. It takes rounds with
`compare` (or `sample`, where there is nothing to divide by) and gives what `figure` makes of them.
"""

import contextlib
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

HERE = Path(__file__).resolve().parent
sys.path.append(str(HERE.parent / "scripts"))

import need  # noqa: E402


@dataclass(frozen=True)
class Work:
    """Where and how a run measures. The sink has a core of its own; what is measured has the other."""

    folder: Path
    rounds: int = 5
    seconds: float = 3.0
    sink_core: int = 0
    core: int = 1


@dataclass(frozen=True)
class Figure:
    """One row of the report: the median of its rounds, what it must reach, and what would be ambitious."""

    name: str
    what: str
    unit: str
    rounds: tuple[float, ...]
    must: float | None = None
    ambitious: float | None = None
    better: Literal["more", "less"] = "more"
    beside: Mapping[str, float] = field(default_factory=dict[str, float])
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.rounds)

    def reaches(self, wanted: float | None) -> bool | None:
        """None if nothing is wanted."""
        if wanted is None:
            return None
        return self.median >= wanted if self.better == "more" else self.median <= wanted

    @property
    def verdict(self) -> str:
        if self.must is None:
            return "for comparison"
        if not self.reaches(self.must):
            return "falls short"
        return "reached, the ambitious one too" if self.reaches(self.ambitious) else "reached"


@dataclass(frozen=True)
class Comparison:
    """Rounds of a measurement, each divided by the mean of the reference just before and just after it."""

    ratios: tuple[float, ...]
    measured: tuple[float, ...]
    reference: tuple[float, ...]

    def beside(self, measured: str, reference: str) -> dict[str, float]:
        """Both medians under these names, for `Figure.beside`."""
        return {measured: statistics.median(self.measured), reference: statistics.median(self.reference)}


def compare(work: Work, measure: Callable[[], float], reference: Callable[[], float]) -> Comparison:
    """Reference, measurement, reference, measurement … reference: what the machine does meanwhile falls on both."""
    references, measured = [reference()], list[float]()
    for _ in range(work.rounds):
        measured.append(measure())
        references.append(reference())
    ratios = [m / ((a + b) / 2) for m, a, b in zip(measured, references, references[1:], strict=False)]
    return Comparison(tuple(ratios), tuple(measured), tuple(references))


def sample(work: Work, measure: Callable[[], float]) -> tuple[float, ...]:
    return tuple(measure() for _ in range(work.rounds))


def pinned(core: int, *command: str | Path) -> list[str]:
    """The command on one core. On a machine with one core alone nothing is pinned, and no figure means much."""
    words = [str(word) for word in command]
    return [str(need.need("taskset")), "-c", str(core), *words] if core in os.sched_getaffinity(0) else words


# The disk


def fdatasyncs_a_second(work: Work) -> float:
    """How often a second this disk makes 8 KiB durable that overwrite what is there, as SQLite's WAL does."""
    block, blocks = os.urandom(8192), 128
    with tempfile.NamedTemporaryFile(dir=work.folder) as file:
        descriptor = file.fileno()
        os.write(descriptor, block * blocks)
        os.fsync(descriptor)
        count, start = 0, time.perf_counter()
        while (took := time.perf_counter() - start) < work.seconds / 2:
            os.pwrite(descriptor, block, count % blocks * len(block))
            os.fdatasync(descriptor)
            count += 1
    return count / took


# Endpoints


@dataclass(frozen=True)
class Sink:
    """An endpoint that answers 200 to everything, and the process that does its work."""

    url: str
    pid: int
    certificate: Path | None = None


@contextlib.contextmanager
def plain_sink(work: Work) -> Iterator[Sink]:
    """bench/sink.c on its own core."""
    program = work.folder / "sink"
    if not program.exists():
        subprocess.run([need.need("gcc"), "-O2", "-w", "-o", program, HERE / "sink.c"], check=True)
    port = _free_port()
    with _server(pinned(work.sink_core, program, str(port)), port) as pid:
        yield Sink(f"http://127.0.0.1:{port}/hook", pid)


NGINX = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 4096; multi_accept on; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    keepalive_requests 1000000000;
    keepalive_timeout 3600s;
    server {{
        listen 127.0.0.1:{port} ssl backlog=4096;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.3;
        location / {{ return 200 "ok"; }}
    }}
}}
"""


@contextlib.contextmanager
def tls_sink(work: Work) -> Iterator[Sink]:
    """nginx with one worker on its own core: TLS 1.3, an ECDSA P-256 certificate for localhost."""
    folder = Path(tempfile.mkdtemp(prefix="nginx-", dir=work.folder))
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    _make_certificate(certificate, key)
    port = _free_port()
    configuration = folder / "nginx.conf"
    configuration.write_text(NGINX.format(folder=folder, port=port, certificate=certificate, key=key))
    command = pinned(work.sink_core, need.need("nginx"), "-e", folder / "error.log", "-p", folder, "-c", configuration)
    with _server(command, port) as pid:
        worker = int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])
        yield Sink(f"https://localhost:{port}/hook", worker, certificate)


@contextlib.contextmanager
def _server(command: Sequence[str], port: int) -> Iterator[int]:
    """Starts it, waits until it listens, and ends it."""
    process = subprocess.Popen(command)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=5).close()
                break
            except ConnectionRefusedError:
                if process.poll() is not None:
                    raise SystemExit(f"{command} ended with exit status {process.returncode}") from None
                time.sleep(0.01)
        yield process.pid
    finally:
        process.terminate()
        process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _make_certificate(certificate: Path, key: Path) -> None:
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    signed = (
        x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key.write_bytes(private.private_bytes(pem, form, serialization.NoEncryption()))


# The reference client


@dataclass(frozen=True)
class Wrk:
    """What one run of wrk says. Latencies in milliseconds; failures are answers that were not 2xx, and errors."""

    rate: float
    p50: float
    p99: float
    failures: int


def wrk(work: Work, url: str, body: bytes, connections: int = 64, headers: Mapping[str, str] | None = None) -> Wrk:
    """POSTs the body over and over by `wrk -t1` on the measured core. A run with failures is no measurement."""
    heads = {"Content-Type": "application/json", **(headers or {})}
    script = work.folder / "post.lua"
    script.write_text(
        'wrk.method = "POST"\n'
        f"wrk.body = {_lua(body)}\n" + "".join(f"wrk.headers[{_lua(k)}] = {_lua(v)}\n" for k, v in heads.items())
    )
    command = pinned(
        work.core,
        need.need("wrk"),
        *("-t1", f"-c{connections}", f"-d{max(1, round(work.seconds))}s", "--latency", "-s", script, url),
    )
    result = parse_wrk(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    if result.failures:
        raise SystemExit(f"wrk counted {result.failures} failures against {url}: this is no measurement")
    return result


MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def parse_wrk(output: str) -> Wrk:
    """Reads what `wrk --latency` prints."""

    def latency(percentile: str) -> float:
        found = re.search(rf"^\s+{percentile}%\s+([0-9.]+)(us|ms|s|m)$", output, re.MULTILINE)
        return float(found[1]) * MILLISECONDS[found[2]] if found else float("nan")

    rate = re.search(r"^Requests/sec:\s+([0-9.]+)", output, re.MULTILINE)
    if not rate:
        raise SystemExit(f"wrk printed no rate:\n{output}")
    other = re.search(r"^\s+Non-2xx or 3xx responses: (\d+)", output, re.MULTILINE)
    errors = re.search(r"^\s+Socket errors: (.*)$", output, re.MULTILINE)
    failures = int(other[1]) if other else 0
    failures += sum(map(int, re.findall(r"\d+", errors[1]))) if errors else 0
    return Wrk(float(rate[1]), latency("50"), latency("99"), failures)


def _lua(text: bytes | str) -> str:
    """A Lua string literal: every byte as its number, so that nothing in it can end it."""
    data = text.encode() if isinstance(text, str) else text
    return '"' + "".join(f"\\{byte:03d}" for byte in data) + '"'


# The work of a process


def cpu_seconds(pid: int) -> float:
    """User and system time of a process so far, all its threads, its children not."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Share:
    """The share of one core that a process used while the block ran: 0 idle, 1 all of it."""

    value: float = 0.0


@contextlib.contextmanager
def core_share(pid: int) -> Iterator[Share]:
    share = Share()
    cpu, wall = cpu_seconds(pid), time.perf_counter()
    yield share
    share.value = (cpu_seconds(pid) - cpu) / (time.perf_counter() - wall)


def peak_memory_mib(pid: int) -> float:
    """VmHWM: the most memory a process has had resident so far."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE)[0]) / 1024


def event_body(size: int = 915) -> bytes:
    """A delivered event as JSON, of this many bytes."""
    head = (
        b'{"id":123456,"event_type":"bounce_all","event_time":1790000000,"email":"user123456@example.com",'
        b'"listid":"a1","list_name":"","list_label":"","sendid":"s1","bounce_type":"h","bounce_code":10,"bounce_text":"'
    )
    tail = (
        b'","click_url":"","click_tracking_id":"ct-123456","studio_rl_seq":null,"studio_rl_recipid":null,'
        b'"studio_campaign_id":null,"studio_autoresponder_id":null,"studio_is_unique":null,"studio_mailing_list_id":null,'
        b'"studio_subscriber_id":null,"studio_ip":"","studio_rl_seq_id":null,"engine_ip":"","user_agent":"",'
        b'"json_before":"","json_after":""}'
    )
    return head + b"x" * (size - len(head) - len(tail)) + tail
