"""Which nets are there, and which weights do they start from?"""
