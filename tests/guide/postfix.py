"""A real Postfix on a machine of the tests' own: what it cannot deliver comes back by its pipe to mailvane.

One instance has both ends. Messages go out by SMTP to the server of `CUSTOMERS`, which knows somebody alone; the report
goes to the return path, at `BOUNCES`, and that domain's transport is README's.
"""

import re
import subprocess
import time
from pathlib import Path

FOLDER = Path("/etc/postfix")
LOG = Path("/var/log/mail.log")
CUSTOMERS = "customers.example.com"
BOUNCES = "bounces.exampledomain.com"
SECONDS = 30.0

MAIN = f"""
compatibility_level = 3.6
maillog_file = {LOG}
inet_interfaces = loopback-only
inet_protocols = ipv4
mydestination =
alias_maps =
smtp_host_lookup = native
virtual_mailbox_domains = {CUSTOMERS}
virtual_mailbox_maps = inline:{{ somebody@{CUSTOMERS}=somebody }}
transport_maps = texthash:/etc/postfix/transport
"""
# On port 25 and under its own name the client would take the customers' server for itself: a loop.
MASTER = """
postlog   unix-dgram n - n - 1 postlogd
pickup    unix n - n 60   1 pickup
cleanup   unix n - n -    0 cleanup
qmgr      unix n - n 300  1 qmgr
rewrite   unix - - n -    - trivial-rewrite
bounce    unix - - n -    0 bounce
defer     unix - - n -    0 bounce
trace     unix - - n -    0 bounce
error     unix - - n -    - error
retry     unix - - n -    - error
proxymap  unix - - n -    - proxymap
anvil     unix - - n -    1 anvil
smtp      unix - - n -    - smtp
127.0.0.1:2525 inet n - n - - smtpd
  -o myhostname=mx.CUSTOMERS
mailvane  unix - n n -    - pipe user=USER
  argv=COMMAND --recipient=${original_recipient} -
"""
TRANSPORT = f"{CUSTOMERS} smtp:[127.0.0.1]:2525\n{BOUNCES} mailvane:\n"

# What the package's own script does, which does not run on these machines.
INSTALLING = (
    "groupadd --system postdrop",
    "useradd --system --user-group --home-dir /var/spool/postfix postfix",
    "chown postfix /var/lib/postfix",
    "chgrp postdrop /usr/sbin/postdrop /usr/sbin/postqueue",
    "chmod g+s /usr/sbin/postdrop /usr/sbin/postqueue",
)


def start(user: str, command: str) -> None:
    """Makes Postfix's users, writes its files and starts it; it runs until the machine ends.

    `command`, as `user`, gets each mail that comes back: ` --recipient=… -` is put behind it.
    """
    for command_line in INSTALLING:
        subprocess.run(command_line.split(), check=True)
    master = MASTER.replace("CUSTOMERS", CUSTOMERS).replace("USER", user).replace("COMMAND", command)
    for name, text in (("main.cf", MAIN), ("master.cf", master), ("transport", TRANSPORT)):
        (FOLDER / name).write_text(text.lstrip())
    done = subprocess.run(["postfix", "start"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise AssertionError(f"postfix start: {done.returncode}\n{done.stdout}{done.stderr}{_log()}")


def send(sender: str, recipient: str, message: str) -> None:
    """Hands a message in, as programs do: `sender` is its return path."""
    subprocess.run(["sendmail", "-i", "-f", sender, recipient], input=message, text=True, check=True)


def refused(recipient: str) -> str:
    """The queue id of the message to this recipient, once Postfix's log says that it was refused for good."""
    return _logged(rf"(\w+): to=<{re.escape(recipient)}>,.* status=bounced ")


def handed_over(recipient: str) -> str:
    """The queue id of the report to this return path, once the log says that mailvane has taken it."""
    return _logged(rf"(\w+): to=<{re.escape(recipient)}>, relay=mailvane,.* status=sent ")


def _logged(pattern: str) -> str:
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        if found := re.search(pattern, _log()):
            return found[1]
        time.sleep(0.02)  # a log tells nobody
    raise AssertionError(f"not in Postfix's log within {SECONDS:g} s: {pattern}\n{_log()}")


def _log() -> str:
    return LOG.read_text(errors="replace") if LOG.exists() else ""
