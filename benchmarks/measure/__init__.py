"""How are time, accuracy, memory and energy measured?"""
