"""The kernel command line of machines that boot what the verbs make."""

from __future__ import annotations

from pathlib import Path

import pytest

from bootc_live.artifacts.node_cmdline import (
    boots_other_image,
    check_append,
    check_base,
    node_cmdline,
    node_source,
)
from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline.tokens import Token
from bootc_live.config.source_spec import parse_source

DIGEST = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
PINNED = f"docker://registry.example/os:stable@{DIGEST}"


def line(image: tuple[str, ...] = (), append: str = "", root: str = PINNED) -> str:
    return node_cmdline([Token("root", f"bootc-live:{root}")], image, append, DIGEST)


def test_image_first_then_root_then_what_was_added() -> None:
    assert line(("console=tty0", "quiet"), "console=ttyS0 rw") == (
        f"console=tty0 quiet root=bootc-live:{PINNED} console=ttyS0 rw bootc.live.digest={DIGEST}"
    )


def test_an_image_does_not_say_where_it_comes_from() -> None:
    assert "elsewhere" not in line(("root=bootc-live:docker://elsewhere.example/os", "bootc.kexec"))


def test_kexec_may_be_asked_for() -> None:
    assert "bootc.kexec bootc.kexec.reuse-image=0" in line(append="bootc.kexec bootc.kexec.reuse-image=0")


@pytest.mark.parametrize(
    ("append", "told"),
    [
        ("bootc.live.layuot=erofs", "'bootc.live.layuot=erofs' is not a known argument; did you mean"),
        ("bootc.live.etc.rw=maybe", "'bootc.live.etc.rw=maybe' is not a boolean"),
        (f"bootc.live.digest={OTHER}", "is not the digest in"),
        ("x" * 2047, "kernels accept at most 2047"),
    ],
)
def test_mistakes_are_found_here(append: str, told: str) -> None:
    """Not by a thousand machines that will not boot."""
    with pytest.raises(ConfigError) as caught:
        line(append=append)
    assert told in str(caught.value)


@pytest.mark.parametrize(
    ("append", "root"),
    [
        ("", None),
        ("rw console=ttyS0", None),
        ("root=bootc-live:docker://r.example/os quiet", "bootc-live:docker://r.example/os"),
        ('root=bootc-live:/a "root=bootc-live:/b c"', "bootc-live:/b c"),
    ],
)
def test_a_root_of_its_own(append: str, root: str | None) -> None:
    assert check_append(append) == root


@pytest.mark.parametrize(
    ("append", "any_image"),
    [
        ("bootc.kexec root=bootc-live:docker://r.example/any", True),
        ('root=bootc-live:/any bootc.kexec=yes "x y=1"', True),
        ("bootc.kexec bootc.kexec=0 root=bootc-live:/any", False),
        ("bootc.kexec", False),
        ("root=bootc-live:/any", False),
        ("", False),
    ],
)
def test_kexec_into_any_image(append: str, any_image: bool) -> None:
    """The kernel that is made ready here is not that image's, nor is the digest."""
    assert boots_other_image(append) == any_image


@pytest.mark.parametrize("append", ["root=UUID=1234", "root=", "root", 'a="b', "a -- b", "a\nb", "a\x1bb"])
def test_what_cannot_be_added(append: str) -> None:
    with pytest.raises(ConfigError, match="'--append "):
        check_append(append)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("http://boot.example", "http://boot.example"),
        ("https://boot.example:8443/os/", "https://boot.example:8443/os"),
        ("tftp://192.0.2.1/os", "tftp://192.0.2.1/os"),
        ("boot.example/os", None),
        ("nfs://boot.example/os", None),
        ("http://", None),
        ("http://boot.example/a b", None),
        ("http://boot.example/${mac}", None),
    ],
)
def test_base(text: str, base: str | None) -> None:
    if base is not None:
        assert check_base(text) == base
        return
    with pytest.raises(ConfigError, match="is not the URL of a directory"):
        check_base(text)


@pytest.mark.parametrize(
    ("source_text", "source"),
    [
        ("docker://registry.example/os:stable", PINNED),
        # An index of several platforms: its kernel is that of one of them.
        (f"docker://registry.example/os:stable@{OTHER}", PINNED),
        ("docker://registry.example:5000/os", f"docker://registry.example:5000/os@{DIGEST}"),
        ("https://files.example/os.oci?key=1", "https://files.example/os.oci?key=1"),
        ("tftp://files.example/os.oci", "tftp://files.example/os.oci"),
        ("LABEL=USB:/os.oci", "LABEL=USB:/os.oci"),
        ("/srv/os.oci", None),
    ],
)
def test_where_the_image_is(source_text: str, source: str | None) -> None:
    assert node_source(parse_source(source_text), source_text, DIGEST, None) == source


def test_an_archive_is_served_and_a_directory_is_not(tmp_path: Path) -> None:
    archive = parse_source("/srv/os.oci")
    assert node_source(archive, "os.oci", DIGEST, "http://boot.example/os") == "http://boot.example/os/rootfs.oci"
    with pytest.raises(ConfigError, match="'layout' is a directory"):
        node_source(parse_source(str(tmp_path)), "layout", DIGEST, "http://boot.example/os")
