"""The command: `python -m deploy`, also edge-deploy and, on a device, edge-deploy.pyz. Data on stdout, words on stderr.

0 done; 1 error; 2 usage; 8 the kit was refused, nothing of it was run; 9 the kit failed a test here, what was there
before goes on; 10 the audit log is not the one that was written; 130 interrupted, nothing changed or gone back.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from edge_runtime.errors import EdgeSegError, UsageError

from .manifest import Manifest

PROGRAM = "edge-deploy"


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        raise UsageError("usage", message, f"see {PROGRAM} --help")


def build_parser() -> Parser:
    """Return the command's parser."""
    parser = Parser(PROGRAM, description="Kits for devices without internet: make, sign, install, test, go back.")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)

    def add(name: str, run: Callable[[argparse.Namespace], int], says: str) -> Parser:
        command: Parser = commands.add_parser(name, help=says, description=says)
        command.set_defaults(run=run)
        return command

    def add_root(command: Parser) -> None:
        command.add_argument("--root", type=place, required=True, metavar="DIR", help="where slots live: /opt/edge-seg")

    keygen = add("keygen", run_keygen, "make a pair of keys: PATH (keep it secret) and PATH.pub (goes to devices)")
    keygen.add_argument("-o", dest="out", type=Path, required=True, metavar="PATH")
    add("targets", run_targets, "list the systems that kits can be made for")

    bundle = add("bundle", run_bundle, "make a signed kit of a stamped model and all that runs it on one target")
    bundle.add_argument("model", type=Path, metavar="MODEL.tflite")
    bundle.add_argument("--target", required=True, metavar="NAME", help="see edge-deploy targets")
    bundle.add_argument("--key", type=Path, required=True, metavar="K", help="the secret key; it never is in a kit")
    bundle.add_argument("-o", dest="out", type=Path, required=True, metavar="KIT")
    bundle.add_argument("--release", type=count, default=0, metavar="N", help="tells kits of the same versions apart; "
                        "devices take higher ones only (default: 0)")  # fmt: skip
    bundle.add_argument(
        "--latency-ms", type=milliseconds, metavar="X", help="refuse on a device where an image takes longer"
    )
    bundle.add_argument(
        "--wheel", type=Path, metavar="FILE", help="edge-seg's own wheel (default: built from the sources)"
    )
    bundle.add_argument(
        "--wheels", type=Path, metavar="DIR", help="take the other wheels from a folder, not the network"
    )
    bundle.add_argument("--lock", type=Path, metavar="LOCK", help="take the versions of an earlier kit's lock.txt")
    bundle.add_argument("--no-wheels", action="store_true", help="for devices with a package index of their own: "
                        "the lock, without the dependencies")  # fmt: skip
    bundle.add_argument("--force", action="store_true", help="overwrite KIT")

    installer = add("installer", run_installer, "write the device's installer: one file for any Python 3.11 to 3.13")
    installer.add_argument("-o", dest="out", type=Path, required=True, metavar="PATH")
    installer.add_argument("--key", type=Path, metavar="K", help="sign it too: PATH.sig, for openssl pkeyutl -verify")

    verify = add("verify", run_verify, "check every byte of a kit against its signature; writes nothing")
    verify.add_argument("kit", type=Path, metavar="KIT")
    verify.add_argument("--pub", type=Path, required=True, metavar="P")
    verify.add_argument("--json", action="store_true", help="print the manifest")

    install = add("install", run_install, "install a kit beside what is there, test it, and only then switch to it")
    install.add_argument("kit", type=Path, metavar="KIT")
    add_root(install)
    install.add_argument(
        "--pub", type=Path, required=True, metavar="P", help="the public key of whoever makes your kits"
    )
    install.add_argument("--keep", type=count, default=1, metavar="N", help="old slots to keep (default: 1)")
    install.add_argument(
        "--allow-downgrade", action="store_true", help="take an older kit, or another of the same versions"
    )
    install.add_argument("--change-key", action="store_true", help="trust another key than this device did so far")
    install.add_argument("--force", action="store_true", help="install the current kit once more")
    install.add_argument("--json", action="store_true", help="print the new slot's record")

    rollback = add("rollback", run_rollback, "go back to the slot before the current one")
    add_root(rollback)
    rollback.add_argument("--reason", default="rolled back by hand", metavar="TEXT", help="is kept and shown by status")

    check = add(
        "check", run_check, "finish or undo an interrupted installation, and look whether the service is healthy"
    )
    add_root(check)
    status = add("status", run_status, "show slots, versions, reasons, and since when")
    add_root(status)
    status.add_argument("--json", action="store_true")

    service = add("service", run_service, "make a service of it: systemd where that runs, a loop script elsewhere")
    add_root(service)
    service.add_argument("--inbox", type=place, required=True, metavar="DIR", help="where images arrive")
    service.add_argument("--out", type=place, required=True, metavar="DIR", help="where results go")
    service.add_argument(
        "--user", default="edge-seg", metavar="NAME", help="the service's own user (default: edge-seg)"
    )
    service.add_argument("--print", action="store_true", help="print the systemd unit and do nothing")

    audit = add("audit", run_audit, "the log of installations and runs: verify it, or record a run in it")
    audit.add_argument("action", choices=("verify", "record"))
    audit.add_argument("facts", nargs="?", type=Path, metavar="RUN.json", help="record: OUT/run.json of edge-seg")
    add_root(audit)
    audit.add_argument("--head", metavar="N:HASH", help="verify: a head kept elsewhere, from edge-deploy status")
    audit.add_argument("--names", action="store_true", help="record: the run's arguments too, which may name patients")

    table = add("fleet-table", run_fleet_table, "one table of many devices, from what they said of themselves")
    table.add_argument("folder", type=Path, metavar="FOLDER", help="with DEVICE/status.json and DEVICE/result.json")
    table.add_argument("-o", dest="out", type=Path, action="append", default=[], metavar="PATH",
                       help=".md, .html or .csv; may be repeated (default: Markdown on stdout)")  # fmt: skip
    table.add_argument("--force", action="store_true", help="overwrite PATH")
    return parser


def place(text: str) -> Path:
    """Return a folder's absolute path: a slot's scripts are bound to theirs."""
    return Path(text).absolute()


def count(text: str) -> int:
    """Return a whole number from 0 on."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return int(text)


def milliseconds(text: str) -> float:
    """Return a number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds")
    return value


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    signal.signal(signal.SIGTERM, interrupt)
    try:
        options = build_parser().parse_args(arguments)
        return int(options.run(options))
    except EdgeSegError as error:
        print(f"{PROGRAM}: error: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return 130
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(("deploy.", "edge_runtime.")):
            why = "this is the device's installer, which makes no kits"
            print(f"{PROGRAM}: error: {options.command}: {why}; use edge-deploy of edge-seg", file=sys.stderr)
            return 2
        raise


def interrupt(*_: Any) -> NoReturn:
    """Treat SIGTERM as Ctrl-C: clean up, then leave."""
    raise KeyboardInterrupt


def say(text: str) -> None:
    """Tell on stderr what is being done."""
    print(f"{PROGRAM}: {text}", file=sys.stderr, flush=True)


def describe(manifest: Manifest) -> str:
    """Return one line on a kit."""
    versions = f"edge-seg {manifest.software}, model {manifest.model_id} {manifest.model_version}"
    return f"{len(manifest.files)} files for {manifest.target}: {versions}, release {manifest.release}"


def run_keygen(args: argparse.Namespace) -> int:
    """Make a pair of keys."""
    from .keys import make_keys, name_key, read_public_key

    public = make_keys(args.out)
    print(
        f"{args.out}: keep it secret, and a copy of it safe\n{public}: {name_key(read_public_key(public))}, for devices"
    )
    return 0


def run_targets(args: argparse.Namespace) -> int:
    """List the targets."""
    from .targets import TARGETS

    for target in TARGETS.values():
        print(f"{target.name:<32} Python {target.python}  glibc {target.glibc}  {target.says}")
    return 0


def run_bundle(args: argparse.Namespace) -> int:
    """Make a kit."""
    from .bundle import Order, make_kit
    from .targets import find_target

    order = Order(args.model, find_target(args.target), args.key, args.out, args.wheel, args.wheels, args.lock,
                  not args.no_wheels, args.release, args.latency_ms, args.force)  # fmt: skip
    manifest = make_kit(order)
    print(f"{args.out}: {args.out.stat().st_size / 1e6:.1f} MB, {describe(manifest)}")
    return 0


def run_installer(args: argparse.Namespace) -> int:
    """Write the device's installer."""
    import hashlib

    from .disk import write_whole
    from .installer import build_installer
    from .keys import sign

    data = build_installer()
    if args.key:
        write_whole(args.out.with_name(f"{args.out.name}.sig"), sign(args.key, data)[0])
    write_whole(args.out, data)
    print(f"{hashlib.sha256(data).hexdigest()}  {args.out}")
    return 0


def run_verify(args: argparse.Namespace) -> int:
    """Check a kit."""
    from .archive import read_kit
    from .keys import name_key, read_public_key
    from .manifest import to_json

    public = read_public_key(args.pub)
    manifest, digest = read_kit(args.kit, public)
    if args.json:
        print(to_json(manifest).decode(), end="")
        return 0
    print(f"{args.kit}: whole, and signed with {name_key(public)}\n{describe(manifest)}\nkit {digest}")
    return 0


def run_install(args: argparse.Namespace) -> int:
    """Install a kit."""
    from dataclasses import asdict

    from .install import Wishes, Works, install_kit
    from .keys import read_public_key
    from .service import Service

    os.umask(0o022)  # the service's own user reads what root installs
    wishes = Wishes(args.keep, args.allow_downgrade, args.change_key, args.force)
    works = Works(Service(args.root), step=say)
    slot, done = install_kit(args.kit, args.root, read_public_key(args.pub), works, wishes)
    if args.json:
        print(json.dumps(asdict(slot) | {"changed": done}, indent=1))
    else:
        print(f"{slot.name} is current" if done else f"{slot.name} is current already, from this very kit")
    return 0


def run_rollback(args: argparse.Namespace) -> int:
    """Go back by hand."""
    from .install import Works, roll_back
    from .service import Service

    print(f"{roll_back(args.root, args.reason, Works(Service(args.root), step=say)).name} is current")
    return 0


def run_check(args: argparse.Namespace) -> int:
    """Settle what was interrupted."""
    from .install import Works, check_root
    from .service import Service

    print(f"{check_root(args.root, Works(Service(args.root), step=say)).name} is current and healthy")
    return 0


def run_status(args: argparse.Namespace) -> int:
    """Show what is installed."""
    from .status import read_status, to_text

    status = read_status(args.root)
    print(json.dumps(status, indent=1) if args.json else to_text(status))
    return 0


def run_service(args: argparse.Namespace) -> int:
    """Make a service."""
    from .service import check_setting, set_up
    from .slots import find_slot, read_current
    from .units import Setting, need_memory, to_unit

    setting = Setting(str(args.root), str(args.inbox), str(args.out), args.user)
    check_setting(setting)
    if args.print:
        slot = find_slot(args.root, read_current(args.root))
        print(to_unit(setting, slot.memory_bytes if slot else need_memory(0, 0)), end="")
        return 0
    for line in set_up(setting):
        print(line)
    return 0


def run_audit(args: argparse.Namespace) -> int:
    """Verify the audit log, or add a run to it."""
    from .audit import read_kept, record_run, verify_log

    if args.action == "record":
        if args.facts is None:
            raise UsageError("audit record", "no run is given", "edge-deploy audit record OUT/run.json --root DIR")
        head = record_run(args.root, args.facts, args.names)
        print(f"line {head.n}" if head else "recorded already")
        return 0
    head, note = verify_log(args.root, read_kept(args.head) if args.head else None)
    print(f"{args.root}: {head.n} lines, unbroken; head {head.n}:{head.hash}{f' ({note})' if note else ''}")
    return 0


def run_fleet_table(args: argparse.Namespace) -> int:
    """Write a table of devices."""
    from .devices import find_format, read_devices, to_markdown
    from .disk import write_whole

    outs = [(path, find_format(path)) for path in args.out]
    if (taken := next((path for path in args.out if path.exists()), None)) and not args.force:
        raise UsageError(f"-o {taken}", "it exists", "--force overwrites it")
    devices = read_devices(args.folder)
    for path, to_text in outs:
        write_whole(path, to_text(devices).encode())
    if not outs:
        print(to_markdown(devices), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
