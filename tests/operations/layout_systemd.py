"""The units of systemd, judged by systemd-analyze: what is wrong with them, and how exposed each is (0 to 10)."""

import json
import re
import subprocess
from pathlib import Path

from operations.layout_on_a_machine import MAILVANE, run


def main() -> None:
    run(MAILVANE, "layout", "greenarrow", "--supervisor", "systemd")
    units = sorted(Path("/etc/systemd/system").glob("hvmail-*.service"))
    verified = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    exposed: dict[str, float] = {}
    for unit in units:
        said = run("systemd-analyze", "security", "--offline=true", "--no-pager", str(unit))
        found = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
        assert found, said
        exposed[unit.name] = float(found[1])
    print(json.dumps({"verified": verified.stdout + verified.stderr, "exposed": exposed}))


if __name__ == "__main__":
    main()
