"""How is a process that opens a foreign model kept from everything but its work?"""
