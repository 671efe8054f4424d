"""``bootc-live status``: the receipt of this boot."""

from __future__ import annotations

import argparse

from bootc_live.base.output import print_json, print_results
from bootc_live.receipt.file import DEFAULT_PATH, read_receipt
from bootc_live.receipt.text import describe


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raise LandingError if there is no receipt."""
    receipt = read_receipt(arguments.receipt or DEFAULT_PATH)
    if arguments.json:
        print_json(receipt)
    else:
        print_results(describe(receipt))
    return 0
