"""Which machine is it, and in what state was it while measuring?"""
