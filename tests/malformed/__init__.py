"""Generators of hostile files: what a careless disk, a careless program or an attacker leaves behind."""
