"""A study compares methods for several readers, data sets and values of k, and writes one page.

The stages are `rank` (order the passages by every method), `answer` (answer from every different set of kept passages)
and `page`. An interrupted stage continues where it stopped. The stage `page` needs only the files of the other stages.
"""
