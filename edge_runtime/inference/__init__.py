"""How does one image become a mask?"""
