"""How the blocks of code on each page are tried. A new page needs an entry only if HOW does not do.

A block is named by how it begins (in its first line). Everything is typed by bash, in an empty folder on a machine that
is the page's own (sandbox.py); "$1" is a file with the block's text, $CHECKOUT this project. `mailvane run`, `listen`
and `events tail` return when they are ready, and go on behind what follows; `stop` ends them (programs/).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from support.postgresql import program

HOW: Mapping[str, str] = {
    "sh": 'bash -e -o pipefail "$1"',
    "console": 'console "$1"',
    "json": 'configuration "$1"',
    "python": 'python "$1"',
    "sql": 'psql -X -q -v ON_ERROR_STOP=1 -f "$1"',
}
"""By the language of its fence."""


def _none() -> Mapping[str, str]:
    return {}


@dataclass(frozen=True)
class Page:
    before: str = ""
    """What the page takes for granted."""
    first: Mapping[str, str] = field(default_factory=_none)
    """What is done before a block: what the page says in words there, or leaves to the reader."""
    by: Mapping[str, str] = field(default_factory=_none)
    """How a block is tried that HOW is not for."""
    languages: Mapping[str, str] = field(default_factory=_none)
    """The languages of blocks whose page does not tell."""
    left: Mapping[str, str] = field(default_factory=_none)
    """Why a block is not tried."""
    environment: Mapping[str, str] = field(default_factory=_none)
    postgresql: bool = False
    """psql leads to a server of the page's own, as its administrator."""
    mariadb: bool = False
    """So does mysql."""


LONG = "takes long; other tests and `make check` do it"
DRAWING = "a drawing"
POSTFIX = "a part of Postfix's own configuration"
EXIM = "a part of Exim's own configuration"
PSQL_AT_HAND = 'PATH=$PATH:$POSTGRES bash -e "$1"\n'
AS_ROOT = "needs root and a machine: tests/operations/test_layout.py has one"
INSTALLING = "needs package registries; `make install` has made what is tried here"
PARTS = ("outbox", "models", "views", "unsubscribing", "unsubscribing_async")
PRINTED = "what is printed; the tests of mistakes hold it"

HOME = """
mailvane init --home mailvane-home
mailvane enable all
"""
EVENTS = """
for type in bounce_all bounce_bad_address scomp engine_open engine_click engine_unsub; do mailvane trigger $type; done
"""
FORWARD = 'forward 5432 "$POSTGRESQL"\n'

COMMANDS = Page(
    postgresql=True,
    mariadb=True,
    # Each of these makes a home where there is none.
    by={
        "# a home for this machine": """
while read -r line; do
    rm -rf /var/lib/mailvane mailvane-home
    bash -e -c "$line"
done <"$1"
"""
    },
    first={
        "# what a service manager starts": r"""
mailvane init --home /var/lib/mailvane
sed 's/^ *//' >/var/lib/mailvane/control/event_processor.json <<'END'
{"use_json_for_http_post": true, "event_destinations": [
  {"matches": {"all": true}, "destination": {"type": "http_post", "url": "https://hook.example.com/notification"}}]}
END
printf '%s\n' 'keep_delivered 7d' 'maildir mail' >>/var/lib/mailvane/mailvane.conf
mkdir -p /var/lib/mailvane/mail/{new,cur,tmp}
cp "$CHECKOUT"/tests/data/mta/postfix/pipe-send1-m1-5.1.1.eml bounce.eml
cp /var/lib/mailvane/control/event_processor.json new.json
echo '{"event_type": "scomp", "email": "user@example.com"}' >events.ndjson
""",
        "# delivers what is due, as from cron": "stop",
        "mailvane events list ": """
mailvane enable all
seq 4720 | sed 's/.*/{"event_type": "scomp", "email": "user@example.com"}/' | mailvane record
""",
        "# makes the table event_queue": "mysql -e 'CREATE DATABASE customer'; createdb customer",
        "# to PostgreSQL": "psql -q -c 'CREATE ROLE mailvane LOGIN' -c 'CREATE DATABASE mailvane OWNER mailvane'\n"
        "mkdir /etc/mailvane && echo postgresql://mailvane@db.example.com/mailvane >/etc/mailvane/queue.url\nstop\n"
        + FORWARD,
        "# the queue of the home, into": """
rm /var/lib/mailvane/queue.db*
mailvane trigger scomp
mkdir /backup
sqlite3 /var/lib/mailvane/queue.db ".backup /backup/queue.db"
""",
    },
    left={
        "# what it would make": AS_ROOT,
        "event_processor.json:5:15: ": PRINTED,
        '{"file": "bounce.eml"': PRINTED,
        "mailvane  unix  -": POSTFIX,
        "mailvane demo": LONG,
    },
)

PAGES: Mapping[str, Page] = {
    "README.md": Page(
        before="""
ln -s "$CHECKOUT"/{Makefile,pyproject.toml,requirements,scripts,src,tests} .
mkdir -p .venv/bin
ln -s "$REAL"/* .venv/bin/
ln -sf "$(command -v mailvane)" .venv/bin/mailvane
touch .venv/.installed
""",
        languages={
            "make install ": "sh",
            ".venv/bin/mailvane listen --port 3000": "sh",
            ".venv/bin/mailvane processor --check-syntax": "sh",
            "from mailvane import Event, Recorder": "python",
        },
        by={"{": 'cp "$1" mailvane-home/control/event_processor.json'},
        left={
            "make demo ": LONG,
            "a bounce comes in ": DRAWING,
            "mailvane unix - n n - - pipe user=mailvane": POSTFIX,
        },
    ),
    "CONTRIBUTING.md": Page(left={"make test ": LONG}),
    "docs/api.md": Page(
        before=HOME + "mailvane run",
        by={
            '{"ids": [7, 8]': """
for act in retry drop; do
    curl -sS --fail-with-body -H 'Content-Type: application/json' -d @"$1" "http://127.0.0.1:8425/v1/events/$act?dry_run=true"
done
"""
        },
    ),
    "docs/architecture.md": Page(left={"sources ──► recording ──► queue ──► processor ──► destinations": DRAWING}),
    "docs/configuration.md": Page(
        before=HOME,
        by={
            '{"enabled": false,': """
cp "$1" mailvane-home/control/record_events.delivery_attempt.json
mailvane enabled --json | grep '"delivery_attempt": "off"'
""",
            "UPDATE s_system_configs": """
mailvane disable --studio all
sqlite3 mailvane-home/queue.db <"$1"
mailvane enabled | grep -E 'studio_unsub +Studio +on'
""",
        },
        left={
            "event_processor.json:6:47: ": PRINTED,
        },
    ),
    "docs/destinations-logfile.md": Page(left={"/var/log/mailvane/events.log {": "logrotate is not at hand"}),
    "docs/destinations-sql.md": Page(before="mkdir /etc/mailvane && echo secret >/etc/mailvane/db-password"),
    "docs/layout.md": Page(
        by={
            "mailvane layout greenarrow --dry-run": PSQL_AT_HAND,
            "mailvane layout greenarrow --root": PSQL_AT_HAND
            + "test -e /tmp/tree/var/hvmail/control/event_processor.json",
        },
        environment={"POSTGRES": str(program("postgres").parent)},
        left={
            "apt-get install postgresql": AS_ROOT,
            "mailvane layout greenarrow --postgresql": AS_ROOT,
            "systemctl daemon-reload": AS_ROOT,
            "mailvane layout greenarrow --uninstall": AS_ROOT,
        },
    ),
    "docs/maildir.md": Page(
        before="mailvane init --home /var/lib/mailvane --enable bounce_all",
        by={
            "maildir mail": 'cat "$1" >>/var/lib/mailvane/mailvane.conf',
            # Without a user of its own: the pages are tried without root, too.
            "install -d -o mailvane": r"""
sed 's/-o mailvane -g mailvane//' "$1" | bash -e
mailvane run
cp "$CHECKOUT"/tests/data/mta/postfix/pipe-send1-m1-5.1.1.eml /var/lib/mailvane/mail/tmp/1
mv /var/lib/mailvane/mail/tmp/1 /var/lib/mailvane/mail/new/
until mailvane events list --all | grep bounce_all; do sleep 0.1; done
""",
        },
        left={"virtual_mailbox_domains": POSTFIX, "# a router": EXIM},
    ),
    "docs/metrics.md": Page(before=HOME + "mailvane run", left={"scrape_configs:": "Prometheus is not at hand"}),
    "docs/outbox.md": Page(
        postgresql=True,
        before=r"""
psql -q -c "CREATE ROLE mailvane LOGIN" -c "CREATE ROLE shop LOGIN" -c "CREATE DATABASE shop OWNER shop"
psql -q -U shop -d shop -c "CREATE TABLE subscribers (id int, subscribed bool)"
mailvane init --home mailvane-home --queue "postgresql://mailvane@db.example.com/shop?schema=mailvane"
mailvane enable all
"""
        + FORWARD,
        # The first is what all that follows is for: it is tried again at the end.
        by={
            "BEGIN;": 'cp "$1" first.sql',
            "CREATE SCHEMA": 'psql -X -q -v ON_ERROR_STOP=1 -d shop -f "$1"; mailvane run',
            "GRANT USAGE": """psql -X -q -v ON_ERROR_STOP=1 -d shop -f "$1"
psql -X -q -v ON_ERROR_STOP=1 -U shop -d shop -f first.sql
until mailvane events list --type engine_unsub --all | grep user@example.com; do sleep 0.1; done
""",
        },
        left={f"# shop/{name}.py": "a part of a program: tests/queue/test_outbox.py runs it" for name in PARTS},
    ),
    "docs/postgresql.md": Page(
        postgresql=True,
        before=FORWARD,
        first={
            "SELECT event_type, count(*)": "mailvane enable all\n" + EVENTS + "mailvane run",
            "mailvane queue move": """
stop
mkdir /etc/mailvane && echo 'postgresql://mailvane:secret@db.example.com/mailvane?schema=other' >/etc/mailvane/queue.url
mailvane queue move postgresql://mailvane:secret@db.example.com/mailvane sqlite:queue.db
""",
        },
        by=dict.fromkeys(
            ("SELECT event_type, count(*)", "UPDATE kept"),
            'psql -X -q -v ON_ERROR_STOP=1 -U mailvane -d mailvane -f "$1"',
        ),
    ),
    "docs/queue.md": Page(before=HOME + "mailvane run\n" + EVENTS),
    "docs/start.md": Page(
        before='ln -s "$CHECKOUT/tests" .',
        first={"$ mailvane events status": "until mailvane events count | grep -qx 0; do sleep 0.05; done"},
        by={
            "POST /notification": """
{ echo '$ head -10 "$BEHIND/listen.log" | tail -9'; cat "$1"; } >shown
console shown
"""
        },
        left={"pipx install .": INSTALLING},
    ),
    "docs/greenarrow.md": Page(
        first={
            "hvmail_event_processor --check-syntax": "cp whole.json /var/lib/mailvane/control/event_processor.json",
            "sqlite3 /var/lib/mailvane/queue.db": "mailvane trigger scomp",
        },
        by={
            "{": """
mkdir -p /etc/mailvane && echo secret >/etc/mailvane/db-password
configuration "$1"
cp "$1" whole.json
""",
            "control_directory": """
mkdir -p /var/hvmail && cp -r /var/lib/mailvane/control /var/hvmail
cat "$1" >>/var/lib/mailvane/mailvane.conf
echo 0 >/var/hvmail/control/record_events.simplemh.unsub
mailvane enabled | grep -E 'engine_unsub +Engine +off'
""",
        },
    ),
    "docs/guide-transcript.md": Page(left={"# ": "tests/guide types it"}),
    "docs/operations.md": Page(
        before="""
mailvane init --home /var/lib/mailvane --enable scomp --post-to https://hook.example.com/notification
mkdir /backup
mailvane run
mailvane trigger scomp
""",
        first={"cd /var/lib/mailvane": 'stop\nsqlite3 /var/lib/mailvane/queue.db "$EPOCH" >epoch_before'},
        by={
            "cd /var/lib/mailvane": """bash -e "$1"
mailvane events list --all | grep scomp
mailvane doctor
sqlite3 /var/lib/mailvane/queue.db "$EPOCH" | diff - epoch_before && exit 1 || [ $? = 1 ]
"""
        },
        environment={"EPOCH": "SELECT value FROM kept WHERE name = 'epoch'"},
    ),
    "docs/commands.md": COMMANDS,
}
