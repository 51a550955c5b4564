"""How good are a model's masks on labelled slices?"""
