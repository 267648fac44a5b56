"""What test_machine.py runs on a machine: does what would harm the real one, and says what it sees."""

import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path


def main() -> None:
    for name in ("/etc/hosts", "/etc/mailvane-was-here", "/usr/bin/true", "/tmp/mailvane-was-here"):
        Path(name).write_text("written on the machine\n")
    subprocess.run(["useradd", "--system", "mvguest"], check=True)
    guest = pwd.getpwnam("mvguest")
    with socket.create_server(("127.0.0.1", 25)) as server, socket.create_connection(server.getsockname()[:2]):
        pass
    # Its parent ends at once: the machine's first process takes it in, else it would stay in /proc.
    orphan = subprocess.run(["sh", "-c", "sleep 0 & echo $!"], stdout=subprocess.PIPE, text=True, check=True).stdout
    late = time.monotonic() + 10
    while Path(f"/proc/{orphan.strip()}").exists():
        if time.monotonic() > late:
            raise SystemExit("a process whose parent is gone was not taken in")
        os.sched_yield()
    service = subprocess.run(
        [sys.executable, "-c", "import mailvane; print(mailvane.__file__)"],
        user=guest.pw_uid,
        group=guest.pw_gid,
        extra_groups=[],
        capture_output=True,
        text=True,
        check=False,
    )
    subprocess.Popen(["sleep", "1000"], start_new_session=True)
    print("this line is not the last")
    seen = {
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
        "interfaces": [name for _, name in socket.if_nameindex()],
        "host": socket.gethostname(),
        "svscan": shutil.which("svscan"),
        "lib": os.path.islink("/lib"),
        "mailvane of a service": service.stdout.strip() or service.stderr,
        "pids outside": os.readlink("/proc/self/ns/pid"),
    }
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
