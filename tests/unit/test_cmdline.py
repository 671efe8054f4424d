"""A whole kernel command line: every argument of the table, all mistakes at once, strangers left alone."""

from __future__ import annotations

import re

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline.karg import Karg, Kind
from bootc_live.config.cmdline.parse import HINT, parse_cmdline
from bootc_live.config.cmdline.table import BY_NAME, EITHER_CASE, KARGS, OWN_PREFIXES
from bootc_live.config.model import (
    Backing,
    Compression,
    Config,
    Kexec,
    Layout,
    Mirror,
    Proxies,
    RetryLimits,
    WritableParts,
)
from bootc_live.config.source_spec import ArchiveFile, RegistryImage, WebArchive

ROOT = "root=bootc-live:/root.oci"
SOURCE = ArchiveFile("/root.oci", "/root.oci")
DIGEST = "sha256:" + "0123456789abcdef" * 4
OTHER_DIGEST = "sha256:" + "f" * 64
SAMPLES = {
    Kind.BOOLEAN: "1",
    Kind.TEXT: "some",
    Kind.SIZE: "8G",
    Kind.NUMBER: "3",
    Kind.SECONDS: "5m",
    Kind.DIGEST: DIGEST,
    Kind.SOURCE: "/r",
    Kind.MIRROR: "mirror.example/os",
    Kind.PROXY: "proxy.example:3128",
    Kind.LEVEL: "3",
    Kind.SHA256: DIGEST,
    Kind.ROOT_HASH: "ab" * 32,
    Kind.BLOCK_DEVICE: "LABEL=STATE",
    Kind.MPOL: "interleave",
    Kind.PATH: "/some/file",
    Kind.TIME: "2026-11-30",
}
# Documented as ignored, and what a hook acts on before this program runs.
NOT_IN_CONFIG = {"ro", "rd.net.wait-any-if"}


def sample(karg: Karg) -> str:
    """A value that is not the default."""
    return karg.choices[-1] if karg.choices else SAMPLES[karg.kind]


def mistakes(text: str) -> list[str]:
    """The mistakes found in a command line that has some."""
    with pytest.raises(ConfigError) as caught:
        parse_cmdline(text)
    assert caught.value.hint == HINT
    return caught.value.message.split("; '")


def test_nothing_asked_for() -> None:
    assert parse_cmdline("") == Config(sources=())
    assert parse_cmdline(ROOT) == Config(
        sources=(SOURCE,),
        label=None,
        pin=None,
        registry_unsecure=False,
        retry=RetryLimits(tries=6, stall=30.0, total=3600.0),
        mirrors=(),
        proxies=Proxies(None, None, ""),
        layout=Layout.INDEX,
        compress=Compression.NONE,
        erofs_times="epoch",
        erofs_digest=None,
        verity=False,
        root_hash=None,
        selinux=None,
        backing=Backing(size=None, huge="", mpol="", zram=None),
        parts=WritableParts(
            root=False, etc=True, var=True, backing="tmpfs", options="", state=None, state_required=False
        ),
        kexec=None,
        modules_required=False,
        quiet=False,
    )


@pytest.mark.parametrize(
    ("argument", "field", "value"),
    [
        (ROOT, "sources", (SOURCE,)),
        ("root=bootc-live:docker://a.example/b", "sources", (RegistryImage("a.example/b", "docker://a.example/b"),)),
        ("bootclabel=stable", "label", "stable"),
        ('bootclabel="two words"', "label", "two words"),
        ("rw", "parts", WritableParts(root=True)),
        ("rw=1", "parts", WritableParts(root=True)),
        ("rw=0", "parts", WritableParts(root=False)),
        ("rw=Off", "parts", WritableParts(root=False)),
        ("rootflags=noatime,nodev", "parts", WritableParts(options="noatime,nodev")),
        ("rootflags=context=a:b:c", "parts", WritableParts(options="context=a:b:c")),
        ("rootflags=", "parts", WritableParts(options="")),
        ("rootflags", "parts", WritableParts(options="")),
        ("bootc.quiet", "quiet", True),
        ("bootc.quiet=n", "quiet", False),
        ("bootc.live.etc.rw=0", "parts", WritableParts(etc=False)),
        ("bootc.live.etc.rw=false", "parts", WritableParts(etc=False)),
        ("bootc.live.etc.rw", "parts", WritableParts(etc=True)),
        ("bootc.live.var.rw=no", "parts", WritableParts(var=False)),
        ("bootc.live.var.rw=Y", "parts", WritableParts(var=True)),
        ("bootc.registry.unsecure", "registry_unsecure", True),
        ("bootc.registry.unsecure=TRUE", "registry_unsecure", True),
        ("bootc.registry.unsecure=0", "registry_unsecure", False),
        (f"bootc.live.digest={DIGEST}", "pin", DIGEST),
        ("bootc.live.retry.tries=2", "retry", RetryLimits(tries=2)),
        ("bootc.live.retry.stall=5", "retry", RetryLimits(stall=5.0)),
        ("bootc.live.retry.total=2h", "retry", RetryLimits(total=7200.0)),
        ("bootc.registry.mirror=m.example:5000/x", "mirrors", (Mirror("m.example:5000/x"),)),
        ("bootc.live.modules=required", "modules_required", True),
        ("bootc.live.modules=warn", "modules_required", False),
        ("bootc.kexec", "kexec", Kexec()),
        ("bootc.kexec=no", "kexec", None),
        ("bootc.registry.mirror=http://m.example", "mirrors", (Mirror("m.example", insecure=True),)),
    ],
)
def test_each_argument(argument: str, field: str, value: object) -> None:
    assert getattr(parse_cmdline(f"quiet {argument} console=ttyS0"), field) == value


def test_every_argument_is_covered() -> None:
    """Each of them changes the config, or is one that is documented as ignored."""
    default_on = (
        "bootc.live.etc.rw",
        "bootc.live.var.rw",
        "bootc.kexec.reuse-image",
        "bootc.disk.verity",
        "bootc.install.nvram",
    )
    installed = f"root=bootc-live:deployment:UUID=x:1@{'a' * 64}"
    changing = {"rw": "rw", **{name: f"{name}=0" for name in default_on}}
    needed = {
        "bootc.live.compress": "bootc.live.erofs",
        "bootc.trust.threshold": "bootc.trust.key=/a",
        "bootc.live.erofs.digest": "bootc.live.erofs",
        "bootc.live.verity": "bootc.live.erofs",
        "bootc.live.verity.roothash": "bootc.live.erofs",
        "bootc.live.erofs.times": "bootc.live.erofs",
        "bootc.zram.algorithm": "bootc.zram=1G",
        "bootc.zram.level": "bootc.zram=1G",
        "bootc.live.state.required": "bootc.live.state=/dev/sda1",
        "bootc.kexec.reuse-image": "bootc.kexec",
        "bootc.kexec.append": "bootc.kexec",
        "bootc.kexec.remove": "bootc.kexec",
        "bootc.kexec.onfail": "bootc.kexec",
        "bootc.disk.state": installed,
        "bootc.disk.subvolume": installed,
        **{karg.name: "bootc.install=smallest" for karg in KARGS if karg.name.startswith("bootc.install.")},
        "bootc.install.slot.size": "bootc.install=smallest bootc.install.storage=slots",
        "bootc.disk.verity": installed,
    }
    for karg in KARGS:
        if karg.name == "root":
            continue
        text = changing.get(karg.name, f"{karg.name}={sample(karg)}")
        without = f"{ROOT} {needed.get(karg.name, '')}"
        assert (parse_cmdline(f"{without} {text}") == parse_cmdline(without)) is (karg.name in NOT_IN_CONFIG), text
    assert parse_cmdline(ROOT) != parse_cmdline("")


def test_defaults_of_the_table_are_the_defaults() -> None:
    """Writing every default out changes nothing."""
    written = [f"{karg.name}={karg.default}" for karg in KARGS if karg.default and karg.name != "bootclabel"]
    assert parse_cmdline(" ".join([ROOT, *written])) == parse_cmdline(ROOT)


@pytest.mark.parametrize("text", ["ro", "ro=0", "ro=1", "ro rw=0"])
def test_ro_is_ignored(text: str) -> None:
    assert parse_cmdline(f"{ROOT} {text}") == parse_cmdline(ROOT)


@pytest.mark.parametrize("text", ["rw ro", "ro rw"])
def test_ro_takes_no_rw_back(text: str) -> None:
    assert parse_cmdline(f"{ROOT} {text}").parts.root is True


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("rw rw=0", "parts", WritableParts(root=False)),
        ("rw=0 rw", "parts", WritableParts(root=True)),
        ("bootclabel=a bootclabel=b", "label", "b"),
        ("root=/dev/sda1 root=bootc-live:/root.oci", "sources", (SOURCE,)),
        ("root=bootc-live:/a root=bootc-live:/root.oci", "sources", (SOURCE,)),
        ("root=bootc-live:/a root=/dev/sda1", "sources", ()),
        ("rootflags=a rootflags=b", "parts", WritableParts(options="b")),
        (f"{ROOT} -- root=bootc-live:/init-has-this rw", "sources", (SOURCE,)),
    ],
)
def test_last_one_wins(text: str, field: str, value: object) -> None:
    assert getattr(parse_cmdline(text), field) == value


def test_only_the_last_of_repeats_is_checked() -> None:
    assert parse_cmdline(f"{ROOT} rw=maybe bootc.live.digest=x rw bootc.live.digest={DIGEST}").pin == DIGEST


def test_fallbacks_follow_the_root_in_order() -> None:
    config = parse_cmdline(
        f"bootc.live.fallback=docker://a/b {ROOT} bootc.live.fallback=https://c.example/d bootc.live.fallback=/e"
    )
    assert config.sources == (
        SOURCE,
        RegistryImage("a/b", "docker://a/b"),
        WebArchive("https://c.example/d", "https://c.example/d"),
        ArchiveFile("/e", "/e"),
    )


def test_mirrors_stay_in_order() -> None:
    config = parse_cmdline(f"{ROOT} bootc.registry.mirror=b bootc.registry.mirror=a bootc.registry.mirror=b/x")
    assert [mirror.location for mirror in config.mirrors] == ["b", "a", "b/x"]


def test_every_occurrence_of_a_list_is_checked() -> None:
    found = mistakes(f"{ROOT} bootc.live.fallback=a bootc.live.fallback=/b bootc.live.fallback bootc.registry.mirror=/")
    assert [text.lstrip("'").split("'")[0] for text in found] == [
        "bootc.live.fallback=a",
        "bootc.live.fallback",
        "bootc.registry.mirror=/",
    ]


def test_a_fallback_has_no_prefix() -> None:
    (only,) = mistakes(f"{ROOT} bootc.live.fallback=bootc-live:/x")
    assert only == "'bootc.live.fallback=bootc-live:/x' must be written without 'bootc-live:'"


@pytest.mark.parametrize("others", ["", "root=/dev/sda1 "])
def test_a_fallback_needs_a_root(others: str) -> None:
    (only,) = mistakes(f"{others}bootc.live.fallback=https://u:p@a.example/x")
    assert only.startswith("'bootc.live.fallback=https://***@a.example/x' needs a root=bootc-live:")


def test_a_damaged_root_is_a_root() -> None:
    """One mistake is reported as one."""
    (only,) = mistakes(f"root=bootc-live:x bootc.live.fallback=/y bootc.live.digest={DIGEST}")
    assert only.startswith("'root=bootc-live:x' is neither")


def test_a_pin_must_be_the_digest_of_the_only_source() -> None:
    root = f"root=bootc-live:docker://a.example/os:tag@{OTHER_DIGEST}"
    (only,) = mistakes(f"{root} bootc.live.digest={DIGEST}")
    assert only == f"'bootc.live.digest={DIGEST}' is not the digest in '{root}'"
    assert parse_cmdline(f"{root} bootc.live.digest={OTHER_DIGEST}").pin == OTHER_DIGEST
    # Another source may have it, and two algorithms cannot be compared.
    assert parse_cmdline(f"{root} bootc.live.digest={DIGEST} bootc.live.fallback=/x").pin == DIGEST
    assert parse_cmdline(f"{root} bootc.live.digest=sha512:{'0' * 128}").pin == f"sha512:{'0' * 128}"


@pytest.mark.parametrize(
    ("argument", "reason"),
    [
        ("bootc.live.digest=abc", "is not a digest"),
        ("bootc.live.digest", "is not a digest"),
        ("bootc.live.retry.tries=0", "is not a whole number"),
        ("bootc.live.retry.stall=0", "is not a duration"),
        ("bootc.live.retry.total=soon", "is not a duration"),
        ("bootc.registry.mirror", "is not a mirror"),
        ("rd.net.wait-any-if=maybe", "is not a boolean"),
        ("bootc.zram=lots", "is not a size"),
        ("bootclabel=", "needs a value"),
        ("bootclabel", "needs a value"),
        ("proxy=socks5://x:1", "names a SOCKS proxy"),
        ("HTTPS_PROXY=socks5h://x:1", "names a SOCKS proxy"),
    ],
)
def test_bad_values_name_the_argument(argument: str, reason: str) -> None:
    (only,) = mistakes(f"{ROOT} {argument}")
    assert only.startswith(f"'{argument}' {reason}")


@pytest.mark.parametrize(
    "argument",
    [
        "root=bootc-live:https://me:S3CRET@a.example:x/y",
        "root=bootc-live:me:S3CRET@a.example/y",
        "root=bootc-live:LABEL=https://me:S3CRET@a.example/y:/",
        "bootc.live.fallback=gopher://me:S3CRET@a.example/y?token=S3CRET",
        "bootc.live.digest=?token=S3CRET",
        "bootc.registry.mirror=me:S3CRET@a.example",
        "proxy=me:S3CRET@a.example:x",
        "https_proxy=socks5://me:S3CRET@a.example",
        "http_proxy=http://me:S3CRET/x@a.example",
        '"https_proxy=http://me:x S3CRET@a.example"',
        "bootc.live.typo=https://me:S3CRET@a.example",
        'bootc.zram.algorithm="zstd x=https://me:S3CRET@a.example',
    ],
)
def test_mistakes_show_no_secrets(argument: str) -> None:
    (only,) = mistakes(f"{ROOT} {argument}" if not argument.startswith("root=") else argument)
    assert "S3CRET" not in only
    assert argument.strip('"').split("=")[0] in only


@pytest.mark.parametrize(
    ("source_text", "near"),
    [
        ("bootc.live.etc.ro=0", "bootc.live.etc.rw"),
        ("bootc.live.etc.wr=0", "bootc.live.etc.rw"),
        ("bootc.live.erof", "bootc.live.erofs"),
        ("bootc.registry.insecure", "bootc.registry.unsecure"),
        ("bootc.kexec.reuse_image=0", "bootc.kexec.reuse-image"),
    ],
)
def test_a_misspelt_name_gets_a_near_match(source_text: str, near: str) -> None:
    (only,) = mistakes(f"{ROOT} {source_text}")
    assert only == f"'{source_text}' is not a known argument; did you mean '{near}'?"


@pytest.mark.parametrize("prefix", OWN_PREFIXES)
def test_strangers_below_our_prefixes_are_errors(prefix: str) -> None:
    (only,) = mistakes(f"{ROOT} {prefix}zzzzzzzzzzzzzzzzzzzzzzzz=1")
    assert "is not a known argument" in only


@pytest.mark.parametrize(
    "text",
    [
        "quiet splash console=ttyS0,115200n8 ip=dhcp rd.neednet=1 systemd.unit=rescue.target",
        "rd.live.image bootcamp=1 bootc=1 bootcx.live=1 rwx ros=1 rootfstype=ext4",
        "HTTP-PROXY=1 ftp_proxy=x ROOT=/dev/sda RO RW TERM=vt100",
        "=x \"\" 'a b'",
        "selinux=0 enforcing=0 ostree=/ostree/boot.1",
        "rd.net.wait-any-iff=1",
    ],
)
def test_arguments_of_others_are_left_alone(text: str) -> None:
    assert parse_cmdline(f"{text} {ROOT}") == parse_cmdline(ROOT)


def test_all_mistakes_are_reported_at_once() -> None:
    found = mistakes(
        "root=bootc-live:s3://x/y bootclabel= rw=maybe bootc.live.etc.rw=2 bootc.zram=much bootc.kexec.onfail=go "
        "bootc.live.typo=1 quiet"
    )
    assert [text.lstrip("'").split("'")[0] for text in found] == [
        "root=bootc-live:s3://x/y",
        "bootclabel=",
        "rw=maybe",
        "bootc.live.etc.rw=2",
        "bootc.zram=much",
        "bootc.kexec.onfail=go",
        "bootc.live.typo=1",
    ]


def test_names_suit_dracut() -> None:
    """Our own names have letters, digits and dots only, where no predecessor forces another."""
    inherited = {"bootc.kexec.reuse-image", "rd.net.wait-any-if", *EITHER_CASE}
    for name in BY_NAME.keys() - inherited:
        assert name.replace(".", "").isalnum(), name
        assert not name.startswith("rd."), name


def test_table_is_sound() -> None:
    assert len(BY_NAME) == len(KARGS)
    for karg in KARGS:
        assert karg.help.endswith("."), karg.name
        assert karg.kind in SAMPLES or karg.choices
        assert (karg.kind is Kind.CHOICE) is bool(karg.choices), karg.name
        assert not karg.choices or karg.default in {"", *karg.choices[:-1]}, karg.name


def in_capitals(name: str) -> set[str]:
    return {name.upper(), name.capitalize(), name[:-1] + name[-1].upper(), name.swapcase()} - {name}


@pytest.mark.parametrize("name", sorted(set(BY_NAME) - EITHER_CASE - {"root", "ro", "rw"}))
def test_names_in_capitals_are_no_silence(name: str) -> None:
    for source_text in in_capitals(name):
        with pytest.raises(
            ConfigError, match=f"'{re.escape(source_text)}=1' is not a known argument.*'{re.escape(name)}'"
        ):
            parse_cmdline(f"root=bootc-live:/x {source_text}=1")


@pytest.mark.parametrize("source_text", ["ROOT=bootc-live:/y", "Root=bootc-live:docker://a/b"])
def test_a_root_of_ours_in_capitals_is_no_silence(source_text: str) -> None:
    with pytest.raises(ConfigError, match="did you mean 'root'"):
        parse_cmdline(f"root=bootc-live:/x {source_text}")


@pytest.mark.parametrize(
    "source_text", ["ROOT=/dev/sda", "RO", "RW", "BOOTCX.LIVE=1", "TERM=vt100", "No_Proxy=a", "HTTP_PROXY=a"]
)
def test_capitals_of_others_are_left_alone(source_text: str) -> None:
    assert parse_cmdline(f"root=bootc-live:/x {source_text}").sources
