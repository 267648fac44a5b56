"""The shell scripts of the layout. Pure."""

import shlex
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, unquote, urlsplit

from mailvane.operations.layout.places import DATABASE, HOME, POSTGRES, ROLE, SOCKETS, USER

MADE_BY = "# Made by `mailvane layout greenarrow`, which overwrites it: changes belong elsewhere."

HBA = f"""\
{MADE_BY}
# By the Unix socket alone, and who may be whom stands in pg_ident.conf.
local all all peer map=mailvane
"""

_AS_USER = f"""\
as_user() {{
    if command -v setuidgid >/dev/null; then exec setuidgid {USER} "$@"; fi
    if command -v chpst >/dev/null; then exec chpst -u {USER} "$@"; fi
    exec setpriv --reuid {USER} --regid {USER} --init-groups "$@"
}}
"""


def ident() -> str:
    """Who of the machine may be which role. A program of another user's that records gets a line of its own."""
    return f"""\
{MADE_BY}
mailvane {USER} {ROLE}
mailvane root {ROLE}
mailvane root postgres
"""


def run(command: Sequence[str]) -> str:
    """A service, for daemontools and runit: its log is its output, and has its times from multilog or svlogd."""
    return f"""\
#!/bin/sh
{MADE_BY}
exec 2>&1
export MAILVANE_HOME={HOME} HOME={HOME} MAILVANE_LOG_TIMES=no
cd {HOME} || exit 1
{_AS_USER}as_user {shlex.join(command)}
"""


def log(folder: str) -> str:
    """A log with TAI64N times, in a folder of its own, in which the newest lines are in `current`."""
    return f"""\
#!/bin/sh
{MADE_BY}
{_AS_USER}if command -v multilog >/dev/null; then
    as_user multilog t s16777215 n10 {folder}
fi
as_user svlogd -t {folder}
"""


def command(mailvane: Sequence[str], words: Sequence[str]) -> str:
    """A command of GreenArrow's."""
    return f"""\
#!/bin/sh
{MADE_BY}
export MAILVANE_HOME="${{MAILVANE_HOME:-{HOME}}}"
exec {shlex.join([*mailvane, *words])} "$@"
"""


def psql(program: str, environment: Mapping[str, str]) -> str:
    """psql, led to our database unless it is told another."""
    lines = "\n".join(f'export {name}="${{{name}:-{value}}}"' for name, value in environment.items())
    return f'#!/bin/sh\n{MADE_BY}\n{lines}\nexec {shlex.quote(program)} "$@"\n'


def environment_of(url: str) -> dict[str, str]:
    """What psql is told of a queue's URL: all but its role and its password, which it asks for, or ~/.pgpass has."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    host, _, port = parts.netloc.rpartition("@")[2].rpartition(":")
    if not port.isdigit():
        host, port = parts.netloc.rpartition("@")[2], ""
    found = {
        "PGHOST": query.get("host") or unquote(host).strip("[]"),
        "PGPORT": query.get("port") or port,
        "PGDATABASE": unquote(parts.path.lstrip("/")),
        "PGSSLMODE": query.get("sslmode", ""),
        "PGSSLROOTCERT": query.get("sslrootcert", ""),
    }
    if schema := query.get("schema"):
        found["PGOPTIONS"] = f"-c search_path={schema}"
    return {name: value for name, value in found.items() if value}


def serve(programs: str) -> str:
    """The database: made at the first start, whole or not at all. Asked to end it ends, whoever is connected."""
    return f"""\
#!/bin/sh
{MADE_BY}
set -e
umask 077
programs={shlex.quote(programs)}
data={POSTGRES}/instance/data
if [ ! -e "$data" ]; then
    rm -rf "$data.new"
    "$programs/initdb" -D "$data.new" -U postgres -E UTF8 --locale=C.UTF-8 --auth=reject >/dev/null
    printf '%s\\n' 'CREATE ROLE {ROLE} LOGIN' 'CREATE DATABASE {DATABASE} OWNER {ROLE}' |
        "$programs/postgres" --single -D "$data.new" postgres >/dev/null
    mv "$data.new" "$data"
fi
with=
# Where it is forbidden to, as in systemd's unit, the server ends by other means.
if setpriv --pdeathsig INT true 2>/dev/null; then with="setpriv --pdeathsig INT"; fi
$with "$programs/postgres" -D "$data" -c listen_addresses= -c unix_socket_directories={SOCKETS} \\
    -c hba_file={POSTGRES}/pg_hba.conf -c ident_file={POSTGRES}/pg_ident.conf -c jit=off &
server=$!
trap 'kill -INT $server' TERM INT
set +e
while kill -0 $server 2>/dev/null; do wait $server; done
"""
