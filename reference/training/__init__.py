"""How is a net trained by a recipe?"""
