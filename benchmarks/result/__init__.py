"""What is in a result.json, and how is it read?"""
