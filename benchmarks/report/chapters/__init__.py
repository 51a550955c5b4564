"""Which sections does a report have?"""
