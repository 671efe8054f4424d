"""The next kernel's command line: what it takes over, what it leaves out, and in which order."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.model import Kexec
from bootc_live.config.next_kernel.cmdline import next_cmdline

DIGEST = "sha256:" + "ab" * 32
OTHER = "sha256:" + "cd" * 32
ROOT = "root=bootc-live:/root.oci"
REMOTE = "root=bootc-live:docker://r.example:5000/os:stable"


def made(
    text: str, *image: str, append: tuple[str, ...] = (), remove: tuple[str, ...] = (), digest: str | None = None
) -> str:
    """The next command line, of a boot whose command line is all the kernel's."""
    return next_cmdline(text, image, Kexec(append=append, remove=remove), digest, text)


def test_image_then_this_boot_then_what_is_appended() -> None:
    text = f"quiet {ROOT} bootc.kexec bootc.kexec.append=x console=ttyS0"
    assert made(text, "i1", "i2=3", append=("x",)) == f"i1 i2=3 quiet {ROOT} console=ttyS0 x"


def test_white_space_and_quotes() -> None:
    """White space between arguments is of no account, in them it is."""
    text = f'  a="b  c"\t"d e=f"  {ROOT} '
    assert made(text, 'i="j  k"', append=('x="y  z" v',)) == f'i="j  k" a="b  c" "d e=f" {ROOT} x="y  z" v'


@pytest.mark.parametrize(
    "argument",
    [
        "bootc.kexec",
        "bootc.kexec=1",
        '"bootc.kexec=1"',
        "bootc.kexec.reuse-image=0",
        'bootc.kexec.append="a b"',
        "bootc.kexec.remove=x",
        "bootc.kexec.onfail=boot",
        "BOOT_IMAGE=(hd0,gpt2)/vmlinuz",
        "initrd=initrd.img",
        r"initrd=\EFI\initrd.img",
    ],
)
def test_left_out(argument: str) -> None:
    """What would do the same again, and what was for the boot loader: this boot's and the image's."""
    assert made(f"a {argument} {ROOT} {argument} b", argument, "i") == f"i a {ROOT} b"


@pytest.mark.parametrize("argument", ["bootc.kexecx=1", "xbootc.kexec", "initrd", "initrdx=1", "boot_image=x"])
def test_others_stay(argument: str) -> None:
    assert made(f"{argument} {ROOT}") == f"{'' if argument == 'initrd' else argument + ' '}{ROOT}"


def test_what_our_hook_added_is_left_out() -> None:
    """It adds it again where it has to; what somebody typed stays."""
    text = f" rd.neednet=1 {ROOT}"
    assert next_cmdline(text, (), Kexec(), None, ROOT) == ROOT
    assert next_cmdline(f"{text} rd.neednet=1", (), Kexec(), None, f"{ROOT} rd.neednet=1").count("rd.neednet") == 2
    assert next_cmdline(f" rd.neednet=0 {ROOT}", (), Kexec(), None, ROOT) == f"rd.neednet=0 {ROOT}"


def test_what_an_image_cannot_ask_for() -> None:
    assert made(ROOT, REMOTE, "root=LABEL=x", "bootc.live.layout=tree") == f"bootc.live.layout=tree {ROOT}"
    assert made(ROOT, f"bootc.live.digest={OTHER}", digest=DIGEST) == f"{ROOT} bootc.live.digest={DIGEST}"


def test_what_stands_here_is_not_taken_twice() -> None:
    text = f"console=ttyS0 quiet {ROOT} console=ttyS0"
    image = ("console=tty0", "console=ttyS0", "quiet", 'x="y"', "quiet=1")
    assert made(text, *image) == f'console=tty0 x="y" quiet=1 {text}'


@pytest.mark.parametrize(
    ("remove", "left"),
    [
        (("console",), "i i=2 a a=1 a=2"),
        (("console=ttyS0",), "i i=2 console=tty0 a a=1 a=2"),
        (("a",), "i i=2 console=tty0 console=ttyS0"),
        (("a=1", "i=2"), "i console=tty0 console=ttyS0 a a=2"),
        (("a=",), "i i=2 console=tty0 console=ttyS0 a a=1 a=2"),
        (("nothing", "ttyS0", "consol"), "i i=2 console=tty0 console=ttyS0 a a=1 a=2"),
        (("a", "i", "console"), ""),
    ],
)
def test_removed(remove: tuple[str, ...], left: str) -> None:
    text = f"console=tty0 console=ttyS0 a a=1 a=2 {ROOT}"
    assert made(text, "i", "i=2", remove=remove) == f"{left} {ROOT}".strip()


def test_a_pin_by_the_digest_of_an_index_stays_right() -> None:
    """The manifest that was found in it is another one; asked for together, they would be a contradiction."""
    remote = "root=bootc-live:docker://r.example/os:stable"
    result = made(f"{remote} bootc.live.digest={OTHER}", digest=DIGEST)
    assert result == f"{remote}@{OTHER} bootc.live.digest={OTHER}"
    assert parse_cmdline(result).pin == OTHER


def test_values_with_spaces_can_be_removed() -> None:
    assert made(f'a="b c" {ROOT}', remove=("a=b c",)) == ROOT


def test_what_is_appended_stays_and_counts() -> None:
    text = f"console=ttyS0 {ROOT}"
    assert made(text, remove=("console",), append=("console=hvc0", "b c")) == f"{ROOT} console=hvc0 b c"


def test_arguments_for_init_stay_last() -> None:
    text = f'{ROOT} bootc.kexec -- single x="y  z" bootc.kexec'
    assert made(text, "i", append=("a",)) == f'i {ROOT} a -- single x="y  z" bootc.kexec'
    assert made(f"{ROOT} --") == ROOT


def test_an_open_quote_takes_nothing_in() -> None:
    text = f'{ROOT} dyndbg="file x +p'
    assert made(text, append=("a",)) == f'{ROOT} dyndbg="file x +p" a'


@pytest.mark.parametrize(
    ("text", "pinned"),
    [
        (REMOTE, f"{REMOTE}@{DIGEST} bootc.live.digest={DIGEST}"),
        (f"{REMOTE}@{DIGEST}", f"{REMOTE}@{DIGEST} bootc.live.digest={DIGEST}"),
        # That of an index, which has the manifest's in it.
        (f"{REMOTE}@{OTHER}", f"{REMOTE}@{OTHER}"),
        (
            f"{REMOTE}@{OTHER} bootc.live.fallback=/x",
            f"{REMOTE}@{OTHER} bootc.live.fallback=/x bootc.live.digest={DIGEST}",
        ),
        (f'"{REMOTE}" a', f"{REMOTE}@{DIGEST} a bootc.live.digest={DIGEST}"),
        (ROOT, f"{ROOT} bootc.live.digest={DIGEST}"),
        (f"{ROOT} bootc.live.digest={OTHER}", f"{ROOT} bootc.live.digest={OTHER}"),
        (
            f"{ROOT} bootc.live.fallback=docker://a/b bootc.live.fallback=/x",
            f"{ROOT} bootc.live.fallback=docker://a/b@{DIGEST} bootc.live.fallback=/x bootc.live.digest={DIGEST}",
        ),
        ("root=bootc-live:https://a.example/x", f"root=bootc-live:https://a.example/x bootc.live.digest={DIGEST}"),
        (f"{ROOT} x=docker://a/b", f"{ROOT} x=docker://a/b bootc.live.digest={DIGEST}"),
    ],
)
def test_both_kernels_run_the_same_image(text: str, pinned: str) -> None:
    assert made(text, digest=DIGEST) == pinned
    assert made(text) == text
    assert parse_cmdline(pinned).pin in {DIGEST, OTHER, None}


def test_what_is_appended_is_pinned() -> None:
    done = made(ROOT, append=(f"{REMOTE} quiet",), digest=DIGEST)
    assert done == f"{ROOT} {REMOTE}@{DIGEST} quiet bootc.live.digest={DIGEST}"


def test_doing_it_again_changes_nothing() -> None:
    once = made(f"{REMOTE} bootc.kexec rw -- x", "i", append=("a",), digest=DIGEST)
    assert made(once, "i", digest=DIGEST) == once


@pytest.mark.parametrize(
    ("remove", "append"), [(("root",), ()), ((ROOT,), ()), ((), ("root=LABEL=x",)), (("root",), ("quiet root=x",))]
)
def test_a_root_has_to_be_left(remove: tuple[str, ...], append: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="leaves the next kernel without a root=bootc-live:") as caught:
        made(ROOT, remove=remove, append=append)
    for source_text in (*remove, *append):
        assert source_text in caught.value.message


def test_a_root_may_be_replaced() -> None:
    assert made(ROOT, remove=("root",), append=(REMOTE,)) == REMOTE
