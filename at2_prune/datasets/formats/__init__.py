"""Data formats, one a file. A new format needs its file here and an entry in `parse.FORMATS`."""
