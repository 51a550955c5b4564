"""How is a model file read without running code that it carries?"""
