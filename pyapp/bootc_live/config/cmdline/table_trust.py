"""The kernel arguments about trust."""

from __future__ import annotations

from bootc_live.config.cmdline.karg import Karg, Kind

TRUST = (
    Karg(
        "bootc.live.digest",
        Kind.DIGEST,
        "The only manifest digest that may boot. It applies to every source; an image with another digest is refused.",
        "bootc.live.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ),
    Karg(
        "bootc.registry.unsecure",
        Kind.BOOLEAN,
        "Reach the registry over plain HTTP, or over HTTPS without checking its certificate. This does not apply to "
        "mirrors, archives on web servers, or token services and storage on other hosts. Insecure: use it only on a "
        "network you trust. Digests are still checked.",
        "bootc.registry.unsecure",
        default="0",
    ),
    Karg(
        "bootc.trust.key",
        Kind.PATH,
        "A public key in the initramfs that must have signed the image with cosign: ECDSA on P-256 or P-384, Ed25519, "
        "or RSA. Of several keys, any one will do, unless `bootc.trust.threshold=` asks for more. Keys in "
        "`/etc/bootc-live/keys` of the initramfs count without this argument.",
        "bootc.trust.key=/etc/bootc-live/os.pub",
        many=True,
    ),
    Karg(
        "bootc.trust.threshold",
        Kind.NUMBER,
        "How many different keys must have signed the image, of those that are given by `bootc.trust.key=` or by one "
        "requirement of `bootc.trust.policy=`.",
        "bootc.trust.key=/a.pub bootc.trust.key=/b.pub bootc.trust.threshold=2",
        default="1",
    ),
    Karg(
        "bootc.trust.policy",
        Kind.PATH,
        "A policy in the initramfs, in the format of containers-policy.json(5). It must be met in addition to "
        "`/etc/bootc-live/policy.json` and `/etc/containers/policy.json` of the initramfs, which count without this "
        "argument. See docs/signing.md.",
        "bootc.trust.policy=/etc/bootc-live/fleet.json",
    ),
    Karg(
        "bootc.trust.require",
        Kind.CHOICE,
        "Refuse sources before anything is fetched. `digest`: the source must name a digest, or be signed. "
        "`signature`: the image must be signed, and come over a checked connection.",
        "bootc.trust.require=digest",
        default="none",
        choices=("none", "digest", "signature"),
    ),
    Karg(
        "bootc.trust.notbefore",
        Kind.TIME,
        "Refuse images that were created before this date or time (UTC), such as old versions that were signed, too. "
        "The time is that in the image's configuration, which is part of what is signed.",
        "bootc.trust.notbefore=2026-11-01",
    ),
    Karg(
        "bootc.trust.measure",
        Kind.CHOICE,
        "Measure the image's digest, what was decided about its signatures, and the kernel command line without its "
        "secrets into PCR 15 of a TPM 2.0 before the root is used. `auto`: if there is a TPM. `required`: the boot "
        "stops if it cannot be done. See docs/signing.md.",
        "bootc.trust.measure=required",
        default="auto",
        choices=("auto", "required", "off"),
    ),
    Karg(
        "bootc.trust.insecure",
        Kind.BOOLEAN,
        "Boot without checking signatures. If the initramfs contains a policy or keys, this is ignored unless it also "
        "contains the file `/etc/bootc-live/allow-insecure`.",
        "bootc.trust.insecure",
        default="0",
    ),
)
