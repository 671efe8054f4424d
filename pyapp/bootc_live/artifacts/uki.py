"""Make a unified kernel image (kernel, initrds and command line in one UEFI program) with systemd's ukify."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass

from bootc_live.artifacts.node_files import Initrd, NodeFiles
from bootc_live.base.errors import ConfigError, ImageError, RunError
from bootc_live.rootfs.boot_files.files import BootFile
from bootc_live.system.run import find_program, run

_UKIFY = "/usr/lib/systemd/ukify"
_STUBS = "/usr/lib/systemd/boot/efi/linux*.efi.stub"


@dataclass(frozen=True)
class Signing:
    """PEM files with the private key and the certificate for Secure Boot."""

    key: str
    certificate: str


@dataclass(frozen=True)
class UkiParts:
    """What a UKI is made of; ``version`` is the kernel's release if it is known."""

    kernel: BootFile
    initrds: tuple[Initrd, ...]
    cmdline: str
    os_release: str
    version: str = ""


def check_tools(signing: Signing | None) -> str:
    """Return the path of ukify; raise RunError or ConfigError if a program or file for UKIs is missing."""
    ukify = find_program("ukify") or (_UKIFY if os.access(_UKIFY, os.X_OK) else None)
    if ukify is None:
        raise _missing("the program 'ukify'", "systemd-ukify")
    if not glob.glob(_STUBS):
        raise _missing(f"systemd's stub for UEFI ({_STUBS})", "systemd-boot-efi (Fedora: systemd-boot-unsigned)")
    if signing is None:
        return ukify
    if find_program("sbsign") is None:
        raise _missing("the program 'sbsign'", "sbsigntool (Fedora: sbsigntools)")
    for option, path in (("--sign-key", signing.key), ("--sign-cert", signing.certificate)):
        try:
            with open(path, "rb") as file:
                file.read(1)
        except OSError as error:
            raise ConfigError(f"'{option} {path}' cannot be read: {error.strerror}", hint="name a PEM file") from error
    return ukify


def make_uki(ukify: str, output: str, files: NodeFiles, directory: str, signing: Signing | None) -> None:
    """Make the new file ``output``, with temporary files in ``directory``; raise ImageError, RunError and OSError."""
    release = os_release(files.title, files.version)
    parts = UkiParts(files.kernel, tuple(files.initrds.values()), files.cmdline, release, files.version)
    build_uki(ukify, output, parts, directory, signing)


def build_uki(ukify: str, output: str, parts: UkiParts, directory: str, signing: Signing | None) -> None:
    """Make the new file ``output`` of these parts, as ``make_uki`` does."""
    if parts.kernel.read_at(0, 2) != b"MZ":
        raise ImageError(
            f"the image's kernel{parts.version and f' {parts.version}'} is not a UEFI program: it was built without "
            "CONFIG_EFI_STUB",
            hint="use another kernel, or boot the image with: bootc-live netboot",
        )
    kernel = _write(os.path.join(directory, "uki.linux"), parts.kernel.chunks())
    # ukify does not change quotes and spaces in a file.
    cmdline = _write(os.path.join(directory, "uki.cmdline"), [parts.cmdline.encode()])
    argv = [ukify, "build", f"--linux={kernel}", f"--cmdline=@{cmdline}", f"--os-release={parts.os_release}"]
    if parts.version:
        argv.append(f"--uname={parts.version}")
    for number, initrd in enumerate(parts.initrds):
        argv.append(f"--initrd={_write(os.path.join(directory, f'uki.initrd{number}'), initrd.chunks())}")
    _ukify([*argv, f"--output={output}"], directory, signing)


def _ukify(argv: list[str], directory: str, signing: Signing | None) -> None:
    if signing is not None:
        argv = [*argv, f"--secureboot-private-key={signing.key}", f"--secureboot-certificate={signing.certificate}"]
    # ukify makes large copies, and /tmp may be in RAM.
    environment = {"TMPDIR": directory, "SOURCE_DATE_EPOCH": "0"}
    try:
        run(argv, hint="see what ukify said above", env=environment)
    except RunError as error:
        # ukify prints a Python traceback; keep only its message.
        said = error.message.replace("Traceback (most recent call last):", "").splitlines()
        error.message = " ".join(line.strip() for line in said if not line.startswith(" "))
        raise


def build_addon(ukify: str, output: str, cmdline: str, directory: str, signing: Signing | None) -> None:
    """Make the new file ``output``: an addon (systemd-stub(7)) that adds kernel arguments to a UKI; as ``make_uki``."""
    text = _write(os.path.join(directory, "addon.cmdline"), [cmdline.encode()])
    _ukify([ukify, "build", f"--cmdline=@{text}", f"--output={output}"], directory, signing)


def os_release(title: str, version: str = "") -> str:
    """Return the os-release(5) for boot menus; without it, ukify uses that of this machine.

    Boot menus sort by the version, and without one by the name of the file.
    """
    fields = {"ID": "bootc-live", "NAME": "bootc-live", "PRETTY_NAME": title}
    fields |= {"VERSION_ID": version} if version else {}
    return "".join(f'{name}="{value}"\n' for name, value in fields.items())


def _missing(what: str, package: str) -> RunError:
    return RunError(f"{what} is missing; it is needed to make a UKI", hint=f"install {package} on this machine")


def _write(path: str, chunks: Iterable[bytes]) -> str:
    with open(path, "xb") as file:
        for chunk in chunks:
            file.write(chunk)
    return path
