"""How do many images become an output folder?"""
