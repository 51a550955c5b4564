"""What is in a signed kit, and how is one made?"""
