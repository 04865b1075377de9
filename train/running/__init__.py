"""How a command runs: its processes, its device, one command at a time in a folder, progress on the terminal."""
