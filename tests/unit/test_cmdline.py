"""A whole kernel command line: every argument of the table, all mistakes at once, strangers left alone."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline import HINT, parse_cmdline
from bootc_live.config.model import Config
from bootc_live.config.source_spec import ArchiveFile, RegistryImage
from bootc_live.config.table import BY_NAME, KARGS, MODIFIERS, OWN_PREFIXES, Karg, Kind

ROOT = "root=bootc-live:/root.oci"
SOURCE = ArchiveFile("/root.oci", "/root.oci")
BUILT = [karg for karg in KARGS if karg.built]
LATER = [karg for karg in KARGS if not karg.built]
BOOLEANS = [karg for karg in KARGS if karg.kind is Kind.BOOLEAN and karg.name != "ro"]
SAMPLES = {Kind.BOOLEAN: "1", Kind.TEXT: "some", Kind.SIZE: "8G", Kind.LIST: "some", Kind.SOURCE: "bootc-live:/r"}


def mistakes(text: str) -> list[str]:
    """The mistakes found in a command line that has some."""
    with pytest.raises(ConfigError) as caught:
        parse_cmdline(text)
    assert caught.value.hint == HINT
    return caught.value.message.split("; '")


def test_nothing_asked_for() -> None:
    assert parse_cmdline("") == Config(source=None)
    assert parse_cmdline(ROOT) == Config(
        source=SOURCE,
        label=None,
        registry_unsecure=False,
        root_rw=False,
        etc_rw=True,
        var_rw=True,
        rootflags="",
        quiet=False,
    )


@pytest.mark.parametrize(
    ("argument", "field", "value"),
    [
        (ROOT, "source", SOURCE),
        ("root=bootc-live:docker://a.example/b", "source", RegistryImage("a.example/b", "docker://a.example/b")),
        ("bootclabel=stable", "label", "stable"),
        ('bootclabel="two words"', "label", "two words"),
        ("rw", "root_rw", True),
        ("rw=1", "root_rw", True),
        ("rw=0", "root_rw", False),
        ("rw=Off", "root_rw", False),
        ("rootflags=noatime,nodev", "rootflags", "noatime,nodev"),
        ("rootflags=context=a:b:c", "rootflags", "context=a:b:c"),
        ("rootflags=", "rootflags", ""),
        ("rootflags", "rootflags", ""),
        ("bootc.quiet", "quiet", True),
        ("bootc.quiet=n", "quiet", False),
        ("bootc.live.etc.rw=0", "etc_rw", False),
        ("bootc.live.etc.rw=false", "etc_rw", False),
        ("bootc.live.etc.rw", "etc_rw", True),
        ("bootc.live.var.rw=no", "var_rw", False),
        ("bootc.live.var.rw=Y", "var_rw", True),
        ("bootc.registry.unsecure", "registry_unsecure", True),
        ("bootc.registry.unsecure=TRUE", "registry_unsecure", True),
        ("bootc.registry.unsecure=0", "registry_unsecure", False),
    ],
)
def test_each_argument(argument: str, field: str, value: object) -> None:
    assert getattr(parse_cmdline(f"quiet {argument} console=ttyS0"), field) == value


def test_every_built_argument_is_covered() -> None:
    """Each of them changes the config, or is one that is documented as ignored."""
    changing = {"rw": "rw", "bootc.live.etc.rw": "bootc.live.etc.rw=0", "bootc.live.var.rw": "bootc.live.var.rw=0"}
    for karg in BUILT:
        text = changing.get(karg.name, f"{karg.name}={SAMPLES[karg.kind]}")
        assert (parse_cmdline(text) == Config(source=None)) is (karg.name == "ro"), text


def test_defaults_of_the_table_are_the_defaults() -> None:
    """Writing every default of a built argument out changes nothing."""
    written = [f"{karg.name}={karg.default}" for karg in BUILT if karg.default and karg.name != "bootclabel"]
    assert parse_cmdline(" ".join([ROOT, *written])) == parse_cmdline(ROOT)


@pytest.mark.parametrize("text", ["ro", "ro=0", "ro=1", "ro rw=0"])
def test_ro_is_ignored(text: str) -> None:
    assert parse_cmdline(f"{ROOT} {text}") == parse_cmdline(ROOT)


@pytest.mark.parametrize("text", ["rw ro", "ro rw"])
def test_ro_takes_no_rw_back(text: str) -> None:
    assert parse_cmdline(f"{ROOT} {text}").root_rw is True


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("rw rw=0", "root_rw", False),
        ("rw=0 rw", "root_rw", True),
        ("bootclabel=a bootclabel=b", "label", "b"),
        ("root=/dev/sda1 root=bootc-live:/root.oci", "source", SOURCE),
        ("root=bootc-live:/a root=bootc-live:/root.oci", "source", SOURCE),
        ("root=bootc-live:/a root=/dev/sda1", "source", None),
        ("rootflags=a rootflags=b", "rootflags", "b"),
        (f"{ROOT} -- root=bootc-live:/init-has-this rw", "source", SOURCE),
    ],
)
def test_last_one_wins(text: str, field: str, value: object) -> None:
    assert getattr(parse_cmdline(text), field) == value


@pytest.mark.parametrize("karg", BOOLEANS, ids=lambda karg: karg.name)
def test_bad_booleans_name_the_argument(karg: Karg) -> None:
    (only,) = mistakes(f"{ROOT} {karg.name}=maybe")
    assert only.startswith(f"'{karg.name}=maybe' is not a boolean")


@pytest.mark.parametrize("karg", LATER, ids=lambda karg: karg.name)
def test_unbuilt_features_are_errors_that_say_so(karg: Karg) -> None:
    typed = f"{karg.name}={SAMPLES[karg.kind]}"
    if karg.name in MODIFIERS:
        assert parse_cmdline(f"{ROOT} {typed}") == parse_cmdline(ROOT)
        return
    (only,) = mistakes(f"{ROOT} {typed}")
    assert only.startswith(f"'{typed}' asks for a feature that this version does not have yet")


@pytest.mark.parametrize("karg", [karg for karg in BOOLEANS if not karg.built], ids=lambda karg: karg.name)
@pytest.mark.parametrize("word", ["0", "no", "Off", "FALSE"])
def test_switching_an_unbuilt_feature_off_is_fine(karg: Karg, word: str) -> None:
    assert parse_cmdline(f"{ROOT} {karg.name}={word}") == parse_cmdline(ROOT)


@pytest.mark.parametrize("karg", [karg for karg in KARGS if karg.kind is Kind.SIZE], ids=lambda karg: karg.name)
def test_bad_sizes_name_the_argument(karg: Karg) -> None:
    (only,) = mistakes(f"{ROOT} {karg.name}=lots")
    assert only.startswith(f"'{karg.name}=lots' is not a size")


@pytest.mark.parametrize("text", ["bootclabel=", "bootclabel"])
def test_a_label_needs_a_value(text: str) -> None:
    (only,) = mistakes(f"{ROOT} {text}")
    assert only == f"'{text}' needs a value"


@pytest.mark.parametrize(
    ("typed", "near"),
    [
        ("bootc.live.etc.ro=0", "bootc.live.etc.rw"),
        ("bootc.live.etc.wr=0", "bootc.live.etc.rw"),
        ("bootc.live.erof", "bootc.live.erofs"),
        ("bootc.registry.insecure", "bootc.registry.unsecure"),
        ("bootc.kexec.reuse_image=0", "bootc.kexec.reuse-image"),
    ],
)
def test_a_misspelt_name_gets_a_near_match(typed: str, near: str) -> None:
    (only,) = mistakes(f"{ROOT} {typed}")
    assert only == f"'{typed}' is not a known argument; did you mean '{near}'?"


@pytest.mark.parametrize("prefix", OWN_PREFIXES)
def test_strangers_below_our_prefixes_are_errors(prefix: str) -> None:
    (only,) = mistakes(f"{ROOT} {prefix}zzzzzzzzzzzzzzzzzzzzzzzz=1")
    assert "is not a known argument" in only


@pytest.mark.parametrize(
    "text",
    [
        "quiet splash console=ttyS0,115200n8 ip=dhcp rd.neednet=1 systemd.unit=rescue.target",
        "rd.live.image bootcamp=1 bootc=1 bootcx.live=1 rwx ros=1 rootfstype=ext4",
        "BOOTC.LIVE.ETC.RW=0",
        "=x \"\" 'a b'",
        "selinux=0 enforcing=0 ostree=/ostree/boot.1",
        "rd.net.wait-any-iff=1",
    ],
)
def test_arguments_of_others_are_left_alone(text: str) -> None:
    assert parse_cmdline(f"{text} {ROOT}") == parse_cmdline(ROOT)


def test_all_mistakes_are_reported_at_once() -> None:
    found = mistakes(
        "root=bootc-live:ftp://x/y bootclabel= rw=maybe bootc.live.etc.rw=2 bootc.zram=much bootc.kexec "
        "bootc.live.typo=1 quiet"
    )
    assert [text.lstrip("'").split("'")[0] for text in found] == [
        "root=bootc-live:ftp://x/y",
        "bootclabel=",
        "rw=maybe",
        "bootc.live.etc.rw=2",
        "bootc.zram=much",
        "bootc.kexec",
        "bootc.live.typo=1",
    ]


def test_names_suit_dracut() -> None:
    """Our own names have letters, digits and dots only, where no predecessor forces another."""
    inherited = {"bootc.kexec.reuse-image", "rd.net.wait-any-if"}
    for name in BY_NAME.keys() - inherited:
        assert name.replace(".", "").isalnum(), name
        assert not name.startswith("rd."), name


def test_table_is_sound() -> None:
    assert len(BY_NAME) == len(KARGS)
    assert BY_NAME.keys() >= MODIFIERS
    for karg in KARGS:
        assert karg.help.endswith("."), karg.name
        assert karg.kind in SAMPLES
