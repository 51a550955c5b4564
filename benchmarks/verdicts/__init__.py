"""Is a result valid, how do results differ, and does a result reproduce a claim?"""
