"""Kits that go onto a device without internet: signed, tested there before they are used, and back when they fail."""
