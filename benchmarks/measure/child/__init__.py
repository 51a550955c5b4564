"""How does one process measure one model?"""
