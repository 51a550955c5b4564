"""How is the paper's Table I trained, measured and printed anew?"""
