"""Which inference engine runs the model, and how is each one called?"""
