"""The directives of `mailvane.conf`, as data: the parser, its messages, `init`'s file and the documentation are made
from it."""

import json
from dataclasses import dataclass
from textwrap import wrap


@dataclass(frozen=True)
class Directive:
    """A directive: how it is written, what holds without it, what it means; `later`: known, but not there yet."""

    name: str
    usage: str
    default: str
    about: str
    later: bool = False
    block: bool = False


DIRECTIVES = {
    d.name: d
    for d in (
        Directive("server_id", "NAME", "the host name", "what this server is called in the events it records"),
        Directive(
            "queue",
            "URL",
            "sqlite:queue.db",
            "where events wait: sqlite:FILE, relative to home, or postgresql://USER@HOST/DATABASE",
        ),
        Directive("control_directory", "DIR", "control", "where event_processor.json and the control files are"),
        Directive(
            "http_listen",
            "ADDR:PORT",
            "127.0.0.1:8425",
            "where the API listens; IPv6 in brackets. Beyond loopback an api_token is needed",
        ),
        Directive(
            "api_token",
            "TOKEN",
            "none",
            "bearer token of the API, or @file:PATH or @env:NAME that lead to it; the Unix socket in home needs none",
        ),
        Directive("tls_ca_file", "FILE", "none", "certificates (PEM) that are trusted beside the system's"),
        Directive(
            "destination_networks",
            "any|public",
            "any",
            "what destinations may reach: any is everything but link-local, metadata, multicast and unspecified "
            "addresses, which nothing opens; public leaves out loopback and private networks too",
        ),
        Directive(
            "allow_network",
            "CIDR…",
            "none",
            "networks that destinations may reach all the same; every line adds to those before it, and where "
            "deny_network names a network too, the narrower one wins",
        ),
        Directive(
            "deny_network",
            "CIDR…",
            "none",
            "networks that destinations may not reach; every line adds to those before it, and where allow_network "
            "names a network too, the narrower one wins, of two alike this one",
        ),
        Directive(
            "maildir",
            "DIR",
            "none",
            "a Maildir that mailvane run takes mail from: bounces, complaints, wishes to unsubscribe; every line adds "
            "one",
        ),
        Directive("bounce_text_length", "N", "1000", "characters to which bounce_text is cut"),
        Directive(
            "keep_delivered",
            "DURATION",
            "0",
            "how long delivered events are kept, with their failed attempts, for events show and events replay: 0, or "
            "such as 30min, 12h, 7d. Each is then written twice",
        ),
        Directive("public_url", "URL", "none", "where links lead", later=True),
        Directive("trusted_proxy", "CIDR", "none", "proxies whose word on the client is taken", later=True),
        Directive("bounce_address", "LOCAL@DOMAIN", "none", "return path of mail", later=True),
        Directive("lmtp_listen", "ADDR:PORT", "none", "where mail servers hand in bounces by LMTP", later=True),
        Directive("smtp_listen", "ADDR:PORT", "none", "where mail servers hand in bounces by SMTP", later=True),
        Directive("source", "NAME { … }", "none", "logs to follow, hooks", later=True, block=True),
        Directive("event_delivery_destination", "NAME { … }", "none", "a modern destination", later=True, block=True),
        Directive("database_connection", "NAME { … }", "none", "a database for destinations", later=True, block=True),
    )
}


def commented_file(queue_url: str = "") -> str:
    """What `mailvane init` writes: every directive as a comment, and what was asked for."""
    lines = [
        "# mailvane's settings. Of a directive that stands twice, the last holds; networks and Maildirs add up.",
        "",
    ]
    for directive in DIRECTIVES.values():
        if directive.later:
            continue
        about = f"{directive.about[0].upper()}{directive.about[1:]}."
        lines += [f"# {line}" for line in wrap(about, 98, break_on_hyphens=False)]
        default = directive.default
        example = directive.usage if default == "none" or " " in default else default
        lines.append(f"# {directive.name} {example}")
        if directive.name == "queue" and queue_url:
            lines.append(f"queue {json.dumps(queue_url)}")
        lines.append("")
    return "\n".join(lines)
