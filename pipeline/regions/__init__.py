"""Regions: where on a candidate the instruction was meant to act, and where it did."""
