"""Data formats, one in each file. A new format needs a file in this folder and an entry in `parse.FORMATS`."""
