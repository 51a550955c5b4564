"""How do float weights and activations become integers?"""
