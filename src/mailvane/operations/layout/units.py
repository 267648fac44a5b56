"""Units of systemd, as hardened as their work allows. Pure."""

import shlex
from collections.abc import Sequence

from mailvane.operations.layout.facts import Facts
from mailvane.operations.layout.places import HOME, MAIL, POSTGRES, SERVE, USER
from mailvane.operations.layout.scripts import MADE_BY

_HARDENED = """\
CapabilityBoundingSet=
LockPersonality=yes
MemoryDenyWriteExecute=yes
NoNewPrivileges=yes
PrivateDevices=yes
PrivateTmp=yes
ProcSubset=pid
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome={home}
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies={families}
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
SystemCallErrorNumber=EPERM
UMask={mask}
"""


def unit(about: str, command: Sequence[str], facts: Facts, log: str) -> str:
    """A service. Destinations that are log files need ReadWritePaths= of their own, in a drop-in."""
    database = command[0] == SERVE
    at_home = command[0].startswith(("/home/", "/root/"))
    hardened = _HARDENED.format(
        home="read-only" if at_home else "yes",
        families="AF_UNIX" if database else "AF_UNIX AF_INET AF_INET6",
        mask="0077" if database else "0027",
    )
    # A server that asks who is at the other end of its socket has to see the users as they are.
    users = "" if database else "PrivateUsers=yes\n"
    places = POSTGRES if database else f"{HOME} {MAIL}"
    after = "network.target" if database or not facts.private else "network.target hvmail-postgres.service"
    return f"""\
{MADE_BY}
[Unit]
Description=mailvane: {about}
After={after}

[Service]
User={USER}
Group={USER}
Environment=MAILVANE_HOME={HOME} HOME={HOME}
WorkingDirectory={HOME}
ExecStart={shlex.join(command)}
KillMode=mixed
Restart=always
RestartSec=1
TimeoutStopSec=15
LimitNOFILE=65536
SyslogIdentifier={log}
ReadWritePaths={places}
{hardened}{users}
[Install]
WantedBy=multi-user.target
"""
