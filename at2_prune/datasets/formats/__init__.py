"""Data formats. Each format has its own file. A new format needs a file in this folder and an entry in `FORMATS`."""
