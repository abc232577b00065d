"""Compare methods for several readers, data sets and values of k in a study, and write one page.

A study has three stages. The stage `rank` orders the passages by every method. The stage `answer` answers from every
different set of kept passages. The stage `page` writes the page, and needs only the files of the other two stages. An
interrupted stage continues where it stopped.
"""
