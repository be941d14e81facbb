"""The operators' web page and its API.

Read :mod:`console.picture` first: everything that pages show is one picture in memory, made from
the topics by one reader (:mod:`console.reader`). :mod:`console.sync` brings it to each tab.
``flows/console.py`` builds what the console needs (:mod:`console.ports`) and starts it.
"""
