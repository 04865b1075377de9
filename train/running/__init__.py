"""How commands run: processes, devices, memory and progress."""
