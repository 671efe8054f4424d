"""Configuration of boot loaders: what each one reads is the command line that was meant."""

from __future__ import annotations

import shlex

import pytest

from bootc_live.artifacts.netboot.loader_files import Entry, loader_files
from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline.tokens import split_cmdline

ROOT = "root=bootc-live:docker://registry.example:5000/os@sha256:00ff"
LINES = (
    ROOT,
    f"{ROOT} console=ttyS0,115200n8 rw ip=192.0.2.7::192.0.2.1:255.255.255.0:node:eth0:none",
    f'{ROOT} dyndbg="file svcsock.c +p; file net.c +p" quiet',
    f'{ROOT} "name=a value" bootclabel="the label"',
    f"{ROOT} a=b;c|d&e a~b (c) <d> [e] $f *",
    f"{ROOT} a#b",
)


def files(cmdline: str, base: str | None = None, initrds: tuple[str, ...] = ("initrd.img",)) -> dict[str, str]:
    return loader_files(Entry("Linux 6.12, image 00ff", "vmlinuz", initrds, cmdline, base))


def ipxe_reads(script: str) -> str:
    """The arguments of the kernel as iPXE joins them, without those about initrds."""
    (line,) = [line for line in script.splitlines() if line.startswith("kernel ")]
    words = line.split()[2:]
    return " ".join(word for word in words if not word.startswith("initrd="))


def grub_reads(config: str) -> str:
    """The arguments as GRUB joins them: single quotes as in a shell, double quotes around what has blanks."""
    (line,) = [line for line in config.splitlines() if line.lstrip().startswith("linux ")]
    words = shlex.split(line)[2:]
    return " ".join(f'"{word}"' if " " in word else word for word in words)


def pxelinux_reads(config: str) -> str:
    (line,) = [line for line in config.splitlines() if line.lstrip().startswith("APPEND ")]
    return line.lstrip().removeprefix("APPEND ")


@pytest.mark.parametrize("cmdline", LINES)
def test_every_loader_passes_on_what_was_meant(cmdline: str) -> None:
    made = files(cmdline)
    wanted = split_cmdline(cmdline)
    assert split_cmdline(ipxe_reads(made["boot.ipxe"])) == wanted
    assert split_cmdline(grub_reads(made["grub.cfg"])) == wanted
    assert split_cmdline(pxelinux_reads(made["pxelinux.cfg/default"])) == wanted


@pytest.mark.parametrize(
    ("word", "loader"),
    [
        ("a=${net0/mac}", "iPXE"),
        ("#a", "iPXE"),
        ('a="b #c"', "iPXE"),
        ('a="b  c"', "iPXE"),
        ('a="b || c"', "iPXE"),
        ("a='b'", "GRUB"),
        ('a=b"c d"', "GRUB"),
        ("a=b\\c", "GRUB"),
    ],
)
def test_what_a_loader_would_change_is_an_error(word: str, loader: str) -> None:
    with pytest.raises(ConfigError, match=f"cannot be written for {loader}") as caught:
        files(f"{ROOT} {word}")
    assert repr(word) in str(caught.value)


def test_no_secret_is_told() -> None:
    with pytest.raises(ConfigError) as caught:
        files("root=bootc-live:https://me:pass@files.example/os.oci#${x}")
    assert "pass" not in str(caught.value)


def test_what_is_loaded() -> None:
    made = files(ROOT, initrds=("initrd.img", "rootfs.cpio"))
    assert made["boot.ipxe"] == (
        f"#!ipxe\nkernel vmlinuz initrd=initrd.img initrd=rootfs.cpio {ROOT}\n"
        "initrd initrd.img\ninitrd rootfs.cpio\nboot\n"
    )
    assert made["grub.cfg"] == (
        'if [ -z "$timeout" ]; then set timeout=3; fi\n'
        "menuentry 'Linux 6.12, image 00ff' \"$config_directory\" {\n"
        f'    linux "$2/vmlinuz" {ROOT}\n'
        '    initrd "$2/initrd.img" "$2/rootfs.cpio"\n'
        "}\n"
    )
    assert made["pxelinux.cfg/default"] == (
        "DEFAULT bootc-live\nLABEL bootc-live\n  MENU LABEL Linux 6.12, image 00ff\n"
        f"  KERNEL vmlinuz\n  INITRD initrd.img,rootfs.cpio\n  APPEND {ROOT}\n"
    )


def test_a_base_stands_in_the_script_alone() -> None:
    """GRUB and PXELINUX have other ways of writing URLs; their names count from where they lie."""
    plain, based = files(ROOT), files(ROOT, "http://boot.example/os")
    assert "kernel http://boot.example/os/vmlinuz initrd=initrd.img root=" in based["boot.ipxe"]
    assert "\ninitrd http://boot.example/os/initrd.img\n" in based["boot.ipxe"]
    assert {**based, "boot.ipxe": ""} == {**plain, "boot.ipxe": ""}
