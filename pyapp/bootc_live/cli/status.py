"""``bootc-live status``: the receipt of this boot."""

from __future__ import annotations

import argparse
import json

from bootc_live.landing.receipt import DEFAULT_PATH, read_receipt
from bootc_live.landing.receipt_text import describe


def main(arguments: argparse.Namespace) -> int:
    """Run the verb; raises LandingError where there is no receipt."""
    receipt = read_receipt(arguments.receipt or DEFAULT_PATH)
    print(json.dumps(receipt, indent=2) if arguments.json else describe(receipt))
    return 0
