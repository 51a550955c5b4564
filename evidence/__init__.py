"""Scores, intervals, strict schemas and document tables, which several packages share; imports none of them."""
