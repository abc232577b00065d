"""A study: readers x data sets x methods x k, ranked once, answered once, and written as one page.

The stages are `rank` (order the passages by every method), `answer` (answer from every different set of kept passages)
and `page`. Each goes on where it stopped, and the last needs the files of the others only.
"""
