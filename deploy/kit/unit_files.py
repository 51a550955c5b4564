"""What are the files of a service? A systemd unit, its user, its folders, and a loop for systems without systemd."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

MEBIBYTE = 1 << 20
UNIT = "edge-seg.service"
HOMES = ("/home/", "/root/", "/run/user/")


@dataclass(frozen=True)
class ServiceSettings:
    """The service's folders and user; absolute paths without spaces, quotes or percent signs."""

    root: str = "/opt/edge-seg"
    inbox: str = "/var/lib/edge-seg/inbox"
    out: str = "/var/lib/edge-seg/out"
    user: str = "edge-seg"


def find_memory_limit(model_bytes: int, pixels: int) -> int:
    """Return the memory limit of a service, in bytes.

    A fixed part, three times the model (LiteRT keeps it and a packed copy of its weights), and 2 KiB for each pixel (or
    voxel) of the input; rounded up to 64 MiB. A quantized Res-UNet of 34 MB at 224 × 224 took 189 MB with 512 × 512
    images, and gets 512 MiB.
    """
    needed = 256 * MEBIBYTE + 3 * model_bytes + 2048 * pixels
    return -(-needed // (64 * MEBIBYTE)) * 64 * MEBIBYTE


def to_unit(settings: ServiceSettings, memory_bytes: int) -> str:
    """Return the systemd unit."""
    at_home = (f"{settings.inbox}/".startswith(HOMES), f"{settings.out}/".startswith(HOMES))
    inbox_option = "BindReadOnlyPaths" if at_home[0] else "ReadOnlyPaths"
    out_option = "BindPaths" if at_home[1] else "ReadWritePaths"
    return UNIT_TEXT.format(
        root=settings.root,
        inbox=settings.inbox,
        out=settings.out,
        user=settings.user,
        memory=memory_bytes,
        home="ProtectHome=tmpfs" if any(at_home) else "ProtectHome=yes",
        paths=f"{inbox_option}={settings.inbox}\n{out_option}={settings.out}",
    )


UNIT_TEXT = """\
[Unit]
Description=edge-seg: masks for the images that arrive in {inbox}
After=local-fs.target
RequiresMountsFor={root} {inbox} {out}
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=notify
NotifyAccess=main
ExecStart={root}/current/venv/bin/edge-seg --watch {inbox} -o {out} --model {root}/current/kit/model.tflite
User={user}
Group={user}
WorkingDirectory=/
UMask=0027
Environment=PYTHONDONTWRITEBYTECODE=1 XDG_CACHE_HOME=/var/cache/edge-seg
CacheDirectory=edge-seg
# What a stopped service has done goes into the audit log, which is not the service's own to write.
ExecStopPost=-+{root}/current/venv/bin/edge-deploy audit record {out}/run.json --root {root}
TimeoutStartSec=180
TimeoutStopSec=180
WatchdogSec=180
Restart=on-failure
RestartSec=5
StandardOutput=journal
StandardError=journal
SyslogIdentifier=edge-seg

# From the model's size; beyond it the process that segments is killed: it costs an image and is replaced.
MemoryMax={memory}
MemorySwapMax=0
TasksMax=128
OOMPolicy=continue
Nice=5

# It reads the inbox, writes the results and its cache, and talks to nobody.
ProtectSystem=strict
{home}
{paths}
PrivateNetwork=yes
RestrictAddressFamilies=AF_UNIX
IPAddressDeny=any
PrivateTmp=yes
PrivateDevices=yes
PrivateUsers=yes
PrivateIPC=yes
PrivateMounts=yes
DevicePolicy=closed
NoNewPrivileges=yes
CapabilityBoundingSet=
AmbientCapabilities=
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
# Not ProcSubset=pid: the interpreter asks /proc/cpuinfo for the cores.
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
RemoveIPC=yes
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @keyring
SystemCallErrorNumber=EPERM

[Install]
WantedBy=multi-user.target
"""


def to_check_unit(settings: ServiceSettings) -> str:
    """Return the unit that finishes or undoes an interrupted installation after the machine started."""
    return f"""\
[Unit]
Description=edge-seg: finish or undo an interrupted installation
After={UNIT}
ConditionPathExists={settings.root}/current

[Service]
Type=oneshot
# It reads all files of the slot: the service's own reads come first.
IOSchedulingPriority=7
Nice=10
ExecStart={settings.root}/current/venv/bin/edge-deploy check --root {settings.root}

[Install]
WantedBy=multi-user.target
"""


def to_sysusers(settings: ServiceSettings) -> str:
    """Return the sysusers.d line of the service's user: no home, no shell, no password."""
    return f'u {settings.user} - "edge-seg service" - -\n'


def to_tmpfiles(settings: ServiceSettings) -> str:
    """Return the tmpfiles.d lines of its folders: members of the user's group may put images in."""
    owner = f"{settings.user} {settings.user}"
    return f"d {settings.inbox} 2770 {owner} -\nd {settings.out} 2750 {owner} -\n"


def to_loop(settings: ServiceSettings) -> str:
    """Return the loop for a system without systemd: a folder run processes new images only, so it can be repeated."""
    root, inbox, out = (shlex.quote(path) for path in (settings.root, settings.inbox, settings.out))
    return f"""\
#!/bin/sh
# edge-seg without systemd: start it by hand, or from cron with  @reboot sh {root}/loop.sh
# Every 10 seconds it does what is new or changed in the inbox; after an update it goes on with the new slot.
umask 027
while :; do
    {root}/current/venv/bin/edge-seg {inbox} -o {out} --model {root}/current/kit/model.tflite --quiet
    sleep 10
done
"""
