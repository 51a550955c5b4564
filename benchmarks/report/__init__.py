"""How does a result become pages?"""
