"""How large is what was found in a series, and where is it written down?"""
