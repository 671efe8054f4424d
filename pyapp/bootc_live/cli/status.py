"""``bootc-live status``: the receipt of this boot."""

from __future__ import annotations

import argparse

from bootc_live.base.output import answer, answer_json
from bootc_live.receipt.receipt import DEFAULT_PATH, read_receipt
from bootc_live.receipt.text import describe


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raises LandingError where there is no receipt."""
    receipt = read_receipt(arguments.receipt or DEFAULT_PATH)
    if arguments.json:
        answer_json(receipt)
    else:
        answer(describe(receipt))
    return 0
