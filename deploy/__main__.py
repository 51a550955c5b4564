"""What does `edge-deploy` do? Its command line, also `python -m deploy` and, on a device, edge-deploy.pyz.

Data goes to stdout, messages to stderr. Exit status: 0 done; 1 error; 2 usage; 8 the kit was refused, nothing of it was
run; 9 the kit failed a test on this device, the previous slot stays in use; 10 the audit log differs from what was
written; 130 interrupted, the previous slot is current or was restored.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from deploy.kit.manifest import Manifest
from edge_runtime.errors import OutputError, UsageError
from edge_runtime.system.command import Parser, run_command_line, to_count, to_number
from edge_runtime.system.command.common_options import add_common_options
from edge_runtime.system.terminal import print_message, print_output

PROGRAM = "edge-deploy"


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser(PROGRAM, description="Kits for devices without internet: make, sign, install, test, roll back.")
    add_common_options(parser)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, run: Callable[[argparse.Namespace], int], help_text: str) -> Parser:
        command: Parser = commands.add_parser(name, help=help_text, description=help_text)
        command.set_defaults(run=run)
        return command

    def add_root(command: Parser) -> None:
        command.add_argument(
            "--root", type=to_folder, required=True, metavar="DIR", help="the folder of the slots: /opt/edge-seg"
        )

    keygen = add("keygen", run_keygen, "make a pair of keys: PATH (keep it secret) and PATH.pub (for the devices)")
    keygen.add_argument("-o", dest="out", type=Path, required=True, metavar="PATH")
    add("targets", run_targets, "list the systems that kits can be made for")

    bundle = add("bundle", run_bundle, "make a signed kit: a stamped model and the software that runs it on one target")
    bundle.add_argument("model", type=Path, metavar="MODEL.tflite")
    bundle.add_argument("--target", required=True, metavar="NAME", help="see edge-deploy targets")
    bundle.add_argument(
        "--key", type=Path, required=True, metavar="K", help="the secret key; it is not put into the kit"
    )
    bundle.add_argument("-o", dest="out", type=Path, required=True, metavar="KIT")
    bundle.add_argument("--release", type=to_count, default=0, metavar="N", help="orders kits of the same versions; "
                        "a device accepts a higher number only (default: 0)")  # fmt: skip
    bundle.add_argument(
        "--latency-ms", type=to_number, metavar="X", help="a device refuses the kit if an image takes longer there"
    )
    bundle.add_argument(
        "--wheel", type=Path, metavar="FILE", help="edge-seg's own wheel (default: made of this very edge-seg)"
    )
    bundle.add_argument(
        "--wheels", type=Path, metavar="DIR", help="take the other wheels from a folder, not the network"
    )
    bundle.add_argument("--lock", type=Path, metavar="LOCK", help="use the versions of an earlier kit's lock.txt")
    bundle.add_argument("--no-wheels", action="store_true", help="leave the dependencies out and keep their hashes: "
                        "for devices with a package index of their own")  # fmt: skip
    bundle.add_argument("--force", action="store_true", help="overwrite KIT")

    installer = add("installer", run_installer, "write the device's installer: one file for any Python 3.11 to 3.13")
    installer.add_argument("-o", dest="out", type=Path, required=True, metavar="PATH")
    installer.add_argument("--key", type=Path, metavar="K", help="sign it too: PATH.sig, for openssl pkeyutl -verify")

    verify = add("verify", run_verify, "check every byte of a kit against its signature; write nothing")
    verify.add_argument("kit", type=Path, metavar="KIT")
    verify.add_argument("--pub", type=Path, required=True, metavar="P")
    verify.add_argument("--json", action="store_true", help="print the manifest")

    install = add("install", run_install, "install a kit into a new slot, test it, and only then switch to it")
    install.add_argument("kit", type=Path, metavar="KIT")
    add_root(install)
    install.add_argument("--pub", type=Path, required=True, metavar="P", help="the public key of the kits' maker")
    install.add_argument("--keep", type=to_count, default=1, metavar="N", help="old slots to keep (default: 1)")
    install.add_argument(
        "--allow-downgrade", action="store_true", help="accept an older kit, or another of the same versions"
    )
    install.add_argument("--change-key", action="store_true", help="accept a key that differs from the trusted one")
    install.add_argument("--force", action="store_true", help="install the current kit again")
    install.add_argument("--json", action="store_true", help="print the new slot's record")

    rollback = add("rollback", run_rollback, "go back to the slot before the current one")
    add_root(rollback)
    rollback.add_argument("--reason", default="rolled back by hand", metavar="TEXT", help="recorded; status shows it")

    check = add("check", run_check, "finish or undo an interrupted installation, and check the service's health")
    add_root(check)
    status = add("status", run_status, "show the slots: versions, states, since when, reasons of failures")
    add_root(status)
    status.add_argument("--json", action="store_true")

    service = add("service", run_service, "set up a service: a systemd unit, or a loop script where systemd is missing")
    add_root(service)
    service.add_argument("--inbox", type=to_folder, required=True, metavar="DIR", help="where images arrive")
    service.add_argument("--out", type=to_folder, required=True, metavar="DIR", help="where results go")
    service.add_argument(
        "--user", default="edge-seg", metavar="NAME", help="the service's own user (default: edge-seg)"
    )
    service.add_argument("--print", action="store_true", help="print the systemd unit and change nothing")

    audit = add("audit", run_audit, "the log of installations and runs: verify it, or record a run in it")
    audit.add_argument("action", choices=("verify", "record"))
    audit.add_argument("facts", nargs="?", type=Path, metavar="RUN.json", help="record: OUT/run.json of edge-seg")
    add_root(audit)
    audit.add_argument("--head", metavar="N:HASH", help="verify: a head kept elsewhere, from edge-deploy status")
    audit.add_argument("--names", action="store_true", help="record: also the run's arguments, which may name patients")

    table = add("fleet-table", run_fleet_table, "make one table of many devices, from their status and result files")
    table.add_argument("folder", type=Path, metavar="FOLDER", help="with DEVICE/status.json and DEVICE/result.json")
    table.add_argument("-o", dest="out", type=Path, action="append", default=[], metavar="PATH",
                       help=".md, .html or .csv; may be repeated (default: Markdown on stdout)")  # fmt: skip
    table.add_argument("--force", action="store_true", help="overwrite PATH")
    return parser


def to_folder(text: str) -> Path:
    """Return a folder's absolute path: the scripts of a virtual environment contain theirs."""
    return Path(text).absolute()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    args = build_parser().parse_args(arguments)
    interrupted = "edge-deploy check finishes or undoes it" if "root" in args else "nothing was written"
    return run_command_line(PROGRAM, lambda: run(args), interrupted)


def run(args: argparse.Namespace) -> int:
    """Run one command. Raises: UsageError if the device's installer does not have it; OutputError."""
    if "root" in args:
        os.umask(0o022)  # the service's own user reads what root installs, and anyone its status
    try:
        return int(args.run(args))
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith(("deploy.", "edge_runtime.")):
            raise
        why = "this is the device's installer, which makes no kits"
        raise UsageError(args.command, why, "use edge-deploy of edge-seg") from None
    except OSError as error:
        # Of a path that no code above had reason to expect: a folder that may not be entered, a full disk.
        what, fix = str(error.filename or args.command), "check who owns it, or run the command with sudo"
        raise OutputError(what, error.strerror or str(error), fix) from None


def check_out(path: Path) -> None:
    """Require a path to write to that is free or a file: a device or a pipe would be replaced. Raises: UsageError."""
    if os.path.lexists(path) and not path.is_file():
        raise UsageError(f"-o {path}", "it is no regular file", "choose another path")


def print_step(text: str) -> None:
    """Print on stderr which step begins."""
    print_message(PROGRAM, text)


def describe_kit(manifest: Manifest) -> str:
    """Return one line about a kit."""
    versions = f"edge-seg {manifest.software}, model {manifest.model_id} {manifest.model_version}"
    return f"{len(manifest.files)} files for {manifest.target}: {versions}, release {manifest.release}"


def run_keygen(args: argparse.Namespace) -> int:
    """Make a pair of keys."""
    from deploy.kit.keys import find_fingerprint, make_keys, read_public_key

    public = make_keys(args.out)
    print_output(f"{args.out}: keep it secret, and a copy of it safe")
    print_output(f"{public}: {find_fingerprint(read_public_key(public))}, for devices")
    return 0


def run_targets(args: argparse.Namespace) -> int:
    """List the targets."""
    from deploy.kit.targets import TARGETS

    for target in TARGETS.values():
        print_output(f"{target.name:<32} Python {target.python}  glibc {target.glibc}  {target.description}")
    return 0


def run_bundle(args: argparse.Namespace) -> int:
    """Make a kit."""
    from deploy.kit.bundle import KitOptions, make_kit
    from deploy.kit.targets import find_target

    options = KitOptions(args.model, find_target(args.target), args.key, args.out, args.wheel, args.wheels, args.lock,
                         not args.no_wheels, args.release, args.latency_ms, args.force)  # fmt: skip
    check_out(args.out)
    manifest = make_kit(options)
    print_output(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, {describe_kit(manifest)}")
    return 0


def run_installer(args: argparse.Namespace) -> int:
    """Write the device's installer."""
    import hashlib

    from deploy.files import write_durably
    from deploy.kit.keys import sign

    from .installer import build_installer

    check_out(args.out)
    data = build_installer()
    if args.key:
        write_durably(args.out.with_name(f"{args.out.name}.sig"), sign(args.key, data)[0])
    write_durably(args.out, data)
    print_output(f"{hashlib.sha256(data).hexdigest()}  {args.out}")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Check a kit."""
    from deploy.kit.archive import read_kit
    from deploy.kit.keys import find_fingerprint, read_public_key
    from deploy.kit.manifest import to_json

    public = read_public_key(args.pub)
    manifest, digest = read_kit(args.kit, public)
    if args.json:
        print_output(to_json(manifest).decode(), end="")
        return 0
    print_output(
        f"{args.kit}: whole, and signed with {find_fingerprint(public)}\n{describe_kit(manifest)}\nkit {digest}"
    )
    return 0


def run_install(args: argparse.Namespace) -> int:
    """Install a kit."""
    from dataclasses import asdict

    from deploy.device.install import InstallOptions, InstallSteps, install_kit
    from deploy.device.service import Service
    from deploy.kit.keys import read_public_key

    options = InstallOptions(args.keep, args.allow_downgrade, args.change_key, args.force)
    steps = InstallSteps(Service(args.root), print_step)
    slot, changed = install_kit(args.kit, args.root, read_public_key(args.pub), steps, options)
    if args.json:
        print_output(json.dumps(asdict(slot) | {"changed": changed}, indent=1))
    else:
        print_output(f"{slot.name} is current" if changed else f"{slot.name} is current already, from this very kit")
    return 0


def run_rollback(args: argparse.Namespace) -> int:
    """Return to the slot before the current one."""
    from deploy.device.install import InstallSteps, roll_back
    from deploy.device.service import Service

    slot = roll_back(args.root, args.reason, InstallSteps(Service(args.root), print_step))
    print_output(f"{slot.name} is current")
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Finish or undo what was interrupted, and check the service."""
    from deploy.device.install import InstallSteps, check_root
    from deploy.device.service import Service

    print_output(f"{check_root(args.root, InstallSteps(Service(args.root), print_step)).name} is current and healthy")
    return 0


def run_status(args: argparse.Namespace) -> int:
    """Show what is installed."""
    from deploy.device.status import format_status, read_status

    status = read_status(args.root)
    print_output(json.dumps(status, indent=1) if args.json else format_status(status))
    return 0


def run_service(args: argparse.Namespace) -> int:
    """Set up a service."""
    from deploy.device.service import check_settings, set_up_service
    from deploy.device.slots import find_slot, read_current
    from deploy.kit.unit_files import ServiceSettings, find_memory_limit, to_unit

    settings = ServiceSettings(str(args.root), str(args.inbox), str(args.out), args.user)
    check_settings(settings)
    if args.print:
        slot = find_slot(args.root, read_current(args.root))
        print_output(to_unit(settings, slot.memory_bytes if slot else find_memory_limit(0, 0)), end="")
        return 0
    for line in set_up_service(settings):
        print_output(line)
    return 0


def run_audit(args: argparse.Namespace) -> int:
    """Verify the audit log, or add a run to it."""
    from deploy.device.audit_log import parse_head, record_run, verify_log

    if args.action == "record":
        if args.facts is None:
            raise UsageError("audit record", "no run is given", "edge-deploy audit record OUT/run.json --root DIR")
        head = record_run(args.root, args.facts, args.names)
        print_output(f"line {head.n}" if head else "recorded already")
        return 0
    head, note = verify_log(args.root, parse_head(args.head) if args.head else None)
    print_output(f"{args.root}: {head.n} lines, unbroken; head {head.n}:{head.hash}{f' ({note})' if note else ''}")
    return 0


def run_fleet_table(args: argparse.Namespace) -> int:
    """Write a table of devices."""
    from deploy.files import write_durably
    from deploy.fleet.table import find_format, read_devices, to_markdown

    outs = [(path, find_format(path)) for path in args.out]
    if (existing := next((path for path in args.out if os.path.lexists(path)), None)) and not args.force:
        raise UsageError(f"-o {existing}", "it exists", "--force overwrites it")
    for path in args.out:
        check_out(path)
    devices = read_devices(args.folder)
    for path, render in outs:
        write_durably(path, render(devices).encode())
    if not outs:
        print_output(to_markdown(devices), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
