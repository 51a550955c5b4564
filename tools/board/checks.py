"""Does the installed unit hold on a booted board? Its masks, its sandbox, its watchdog, and an update that fails."""

from __future__ import annotations

import json
import time
from pathlib import Path

from board import (
    DEPLOY,
    INBOX,
    OUT,
    SLOTS,
    START_S,
    STICK,
    UNIT,
    Reference,
    ask,
    check_results,
    drop,
    read_current,
    read_rows,
    require,
    wait_for_service,
    wait_until_idle,
)
from machine import Machine

ALLOWED = {"write out", "write cache", "write private /tmp", "socket AF_UNIX"}  # of probe.py
INSTALL_S = 7200.0
STOP = """\
set -e
pid=$({find})
until grep -q '"state": "busy"' {out}/health.json; do sleep 0.05; done
kill -STOP $pid
grep -q '"state": "busy"' {out}/health.json
echo $pid
"""
SLICES = [f"d{number:04d}.png" for number in range(1, 5)]


def install(machine: Machine) -> str:
    """Install the first kit and set up its service, as docs/operate.md says."""
    started = time.monotonic()
    machine.run(f"cd {STICK} && {DEPLOY} install first.kit --root {SLOTS} --pub key.pub", timeout_s=INSTALL_S)
    seconds = time.monotonic() - started
    machine.run(f"{DEPLOY} service --root {SLOTS} --inbox {INBOX} --out {OUT}", timeout_s=START_S)
    wait_for_service(machine)
    return f"installed in {seconds:.0f} s; {read_current(machine)['name']} is current, the service is active"


def check_masks(machine: Machine, reference: Reference) -> str:
    """Put slices into the inbox of the running service; its masks are this machine's."""
    drop(machine, SLICES)
    wait_until_idle(machine, SLICES)
    worst = check_results(machine, reference, SLICES)
    return f"{len(SLICES)} slices against this machine's masks: IoU at least {worst:.4f}; allowed {reference.least:.4f}"


def check_sandbox(machine: Machine) -> str:
    """Try what the unit must refuse, in the unit's sandbox, and outside of it, where it must work."""
    probe = (Path(__file__).parent / "probe.py").read_text()
    machine.run("cat >/usr/local/sbin/probe.py", stdin=probe)
    start = f"{SLOTS}/current/venv/bin/python -I /usr/local/sbin/probe.py"
    machine.run(
        f"sed -e 's|^ExecStart=.*|ExecStart={start} {OUT}/probe.json|' -e 's/^Type=.*/Type=oneshot/' "
        f"-e '/^ExecStopPost/d' -e '/^Restart/d' -e '/^Watchdog/d' "
        f"/etc/systemd/system/{UNIT} >/run/systemd/system/probe.service && "
        "systemctl daemon-reload && systemctl start probe.service"
    )
    inside = json.loads(machine.run(f"cat {OUT}/probe.json && rm {OUT}/probe.json"))
    machine.run(f"{start} /tmp/probe.json")
    outside = json.loads(machine.run("cat /tmp/probe.json"))
    allowed = {name for name, result in inside.items() if result == "done"}
    require(allowed == ALLOWED, f"allowed inside: {allowed}")
    require(set(outside.values()) == {"done"}, f"refused outside too, which proves nothing: {outside}")
    check_processes(machine)
    security = machine.run(f"systemd-analyze security {UNIT} --no-pager | tail -n 1")
    refused = ", ".join(f"{name} {result}" for name, result in inside.items() if result != "done")
    return f"{security.strip()}; allowed: {', '.join(sorted(allowed))}; refused: {refused}"


def check_processes(machine: Machine) -> None:
    """Require the sandbox of the service's own processes: filter, no capabilities, own namespaces."""
    main = ask(machine, "MainPID")["MainPID"]
    for pid in (main, *machine.run(f"pgrep -P {main}").split()):
        status = machine.run(f"cat /proc/{pid}/status")
        facts = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        require(facts["Seccomp"] == "2" and facts["NoNewPrivs"] == "1", status)
        require(int(facts["CapEff"], 16) == int(facts["CapBnd"], 16) == 0, status)
        for space in ("net", "mnt", "user", "ipc"):
            links = machine.run(f"readlink /proc/1/ns/{space} /proc/{pid}/ns/{space}").split()
            require(links[0] != links[1], f"{space}: the namespace of the system")
    # Even root, once in the service's namespaces, finds a disk that is read-only and no way out.
    inside = f"nsenter -t {main} -m -n"
    text = machine.run(f"{inside} touch /opt/edge-seg/x /etc/x {INBOX}/x", expect=1)
    require(text.count("Read-only file system") == 3, text)
    text = machine.run(f"{inside} cat /proc/net/dev")
    require([line.split(":")[0].strip() for line in text.splitlines()[2:]] == ["lo"], text)


def check_stopped_child(machine: Machine) -> str:
    """Stop the process that segments in the middle of an image: the service replaces it, and nothing is lost."""
    names = [f"d{number:04d}.png" for number in range(5, 9)]
    main, restarts = ask(machine, "MainPID", "NRestarts").values()
    before = {row["file"] for row in read_rows(machine)}
    child = stop_when_busy(machine, names, f"pgrep -P {main}")
    seconds = machine.until(f"pgrep -P {main}", 600, lambda text: bool(text) and child not in text.split())[1]
    wait_until_idle(machine, names)
    rows = [row for row in read_rows(machine) if row["file"] not in before]
    require(sorted(row["file"] for row in rows) == names, rows)
    require((main, restarts) == tuple(ask(machine, "MainPID", "NRestarts").values()), "the service itself restarted")
    failed = [f"{row['file']}: {row['error']}" for row in rows if row["status"] != "ok"]
    # What the stopped process cost is put in again, under the same name: a failed file is done again when it changes.
    for row in rows:
        if row["status"] != "ok":
            machine.run(f"touch {INBOX}/{row['file']}")
    machine.until(f"cat {OUT}/health.json", START_S, lambda text: json.loads(text)["state"] == "idle")
    return f"child stopped: replaced after {seconds:.0f} s; {len(rows)} rows, failed: {failed or 'none'}"


def stop_when_busy(machine: Machine, names: list[str], find: str) -> str:
    """Put slices into the inbox; stop the one process that a command finds as soon as they are in work; return it."""
    machine.run("cat >/run/stop", stdin=STOP.format(find=find, out=OUT))
    number = machine.start("bash /run/stop")
    drop(machine, names)
    status, output = machine.wait(number, START_S)
    require(status == 0 and output.isdigit(), f"none, or more than one: {output!r}")
    return output


def check_stopped_service(machine: Machine) -> str:
    """Stop the service's main process: the watchdog ends it, it is started again, and nothing is lost."""
    names = [f"d{number:04d}.png" for number in range(9, 12)]
    main = stop_when_busy(machine, names, f"systemctl show {UNIT} -p MainPID --value")
    started = time.monotonic()
    show = f"systemctl show {UNIT} -p ActiveState,SubState,MainPID"
    fired = machine.until(show, 600, lambda text: "SubState=running" not in text)[1]
    machine.until(show, 1200, lambda text: "SubState=running" in text and f"MainPID={main}\n" not in f"{text}\n")
    seconds = time.monotonic() - started
    wait_until_idle(machine, names)
    rows = [row for row in read_rows(machine) if row["file"] in names]
    require(sorted(row["file"] for row in rows) == names and {row["status"] for row in rows} == {"ok"}, rows)
    journal = f"journalctl -b -u {UNIT} --no-pager -o cat"
    lines = machine.run(f"{journal} | grep -Ei 'watchdog|abort|kill|result' | tail -n 6")
    require("watchdog" in lines.lower(), lines)
    return f"service stopped: watchdog after {fired:.0f} s, running again {seconds:.0f} s after the stop; {lines!r}"


def check_starts(machine: Machine) -> str:
    """Restart the service more often than the unit's StartLimitBurst allows, as an installation and its undoing do."""
    limit = int(ask(machine, "StartLimitBurst")["StartLimitBurst"])
    code = f"from pathlib import Path; from deploy.device.service import Service; Service(Path('{SLOTS}')).restart()"
    for _ in range(limit + 2):
        machine.run(f'{SLOTS}/current/venv/bin/python -I -c "{code}"', timeout_s=START_S)
    state = ask(machine, "ActiveState")["ActiveState"]
    require(state == "active", f"it is {state}")
    return f"{limit + 2} restarts in a row, the unit's limit being {limit} starts in ten minutes: active"
