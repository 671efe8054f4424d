"""The arguments about kexec: what they ask for, and which of them cannot be meant."""

from __future__ import annotations

import pytest

from bootc_live.base.errors import ConfigError
from bootc_live.config.cmdline.parse import parse_cmdline
from bootc_live.config.model import Kexec

ROOT = "root=bootc-live:/root.oci"


def mistakes(text: str) -> list[str]:
    """The mistakes in a command line that has some."""
    with pytest.raises(ConfigError) as caught:
        parse_cmdline(f"{ROOT} {text}")
    return caught.value.message.split("; '")


@pytest.mark.parametrize(
    ("text", "kexec"),
    [
        ("", None),
        ("bootc.kexec", Kexec()),
        ("bootc.kexec=1", Kexec(reuse=True, append=(), remove=(), boot_on_failure=False)),
        ("bootc.kexec bootc.kexec=0", None),
        ("bootc.kexec bootc.kexec.reuse-image=0", Kexec(reuse=False)),
        ("bootc.kexec bootc.kexec.onfail=Boot", Kexec(boot_on_failure=True)),
        ("bootc.kexec bootc.kexec.onfail=boot bootc.kexec.onfail=stop", Kexec()),
        ("bootc.kexec.append=b bootc.kexec bootc.kexec.append=a", Kexec(append=("b", "a"))),
        ('bootc.kexec bootc.kexec.append="a=1 b"', Kexec(append=("a=1 b",))),
        ("bootc.kexec bootc.kexec.remove=a bootc.kexec.remove=b=c", Kexec(remove=("a", "b=c"))),
    ],
)
def test_what_is_asked_for(text: str, kexec: Kexec | None) -> None:
    assert parse_cmdline(f"{ROOT} {text}").kexec == kexec


@pytest.mark.parametrize(
    "argument", ["bootc.kexec.append=a", "bootc.kexec.remove=a", "bootc.kexec.onfail=boot", "bootc.kexec.remove=a=b"]
)
def test_arguments_about_kexec_need_it(argument: str) -> None:
    assert mistakes(argument) == [f"'{argument}' applies only to kexec; add bootc.kexec"]
    # Switching kexec off for once is no mistake.
    assert parse_cmdline(f"{ROOT} {argument} bootc.kexec=0") == parse_cmdline(ROOT)
    assert parse_cmdline(f"{ROOT} {argument} bootc.kexec").kexec is not None


@pytest.mark.parametrize(
    "argument", ["bootc.kexec.reuse-image=0", "bootc.kexec.reuse-image", "bootc.kexec.onfail=stop"]
)
def test_what_changes_nothing_passes(argument: str) -> None:
    assert parse_cmdline(f"{ROOT} {argument}") == parse_cmdline(ROOT)


def test_one_mistake_is_reported_as_one() -> None:
    assert mistakes("bootc.kexec=perhaps bootc.kexec.append=a") == [
        "'bootc.kexec=perhaps' is not a boolean; use one of 1 yes on true y / 0 no off false n"
    ]
    assert mistakes("bootc.kexec.onfail=reboot") == ["'bootc.kexec.onfail=reboot' is not one of stop, boot"]


@pytest.mark.parametrize("value", ["bootc.kexec", "bootc.kexec=0", '"quiet bootc.kexec.reuse-image=0"'])
def test_kexec_cannot_be_appended(value: str) -> None:
    (only,) = mistakes(f"bootc.kexec bootc.kexec.append={value}")
    source_text = value.strip('"')
    assert only.startswith(f"'bootc.kexec.append={source_text}' would start kexec again in the next kernel")


@pytest.mark.parametrize("value", ['"quiet -- single"', "--", '"  "'])
def test_only_kernel_arguments_can_be_appended(value: str) -> None:
    (only,) = mistakes(f"bootc.kexec bootc.kexec.append={value}")
    source_text = value.strip('"')
    assert only.startswith(f"'bootc.kexec.append={source_text}' must contain kernel arguments")


def test_what_is_appended_is_checked() -> None:
    """Here, where nothing has been fetched yet, and not in the next kernel."""
    found = mistakes('bootc.kexec bootc.kexec.append="quiet bootc.live.layot=tree rw=maybe" bootc.kexec.append=rw')
    assert found == [
        "'bootc.live.layot=tree' is not a known argument; did you mean 'bootc.live.layout'? (in bootc.kexec.append=)",
        "rw=maybe' is not a boolean; use one of 1 yes on true y / 0 no off false n (in bootc.kexec.append=)",
    ]


def test_mistakes_show_no_secrets() -> None:
    for argument in ("append=proxy=http://me:S3CRET@a.example", "remove=proxy=http://me:S3CRET@a.example"):
        (only,) = mistakes(f"bootc.kexec.{argument}")
        assert "S3CRET" not in only
    for value in ('"proxy=http://me:S3CRET@x bootc.kexec"', '"proxy=http://me:S3CRET@x -- y"', "proxy=s://me:S3CRET@x"):
        assert not any("S3CRET" in said for said in mistakes(f"bootc.kexec bootc.kexec.append={value}"))
    # The second is what becomes of the rest of the line where a quote is not closed; found by fuzzing.
    for value in ('"a https://me:S3CRET@x"', '"a root=bootc-live:https://me:S3CRET@x/y'):
        assert not any("S3CRET" in said for said in mistakes(f"bootc.kexec bootc.kexec.remove={value}"))


@pytest.mark.parametrize(
    ("text", "required"),
    [
        ("", False),
        ("bootc.live.modules=warn", False),
        ("bootc.live.modules=required", True),
        ("bootc.live.modules=required bootc.live.modules=warn", False),
    ],
)
def test_whether_modules_are_required(text: str, required: bool) -> None:
    assert parse_cmdline(f"{ROOT} {text}").modules_required is required


@pytest.mark.parametrize("text", ["quiet rhgb", "a b=c"])
def test_one_argument_is_removed_at_a_time(text: str) -> None:
    (said,) = mistakes(f'bootc.kexec bootc.kexec.remove="{text}"')
    assert "repeat bootc.kexec.remove= for each" in said
    assert parse_cmdline(f'{ROOT} bootc.kexec bootc.kexec.remove="a=b c"').kexec == Kexec(remove=("a=b c",))
