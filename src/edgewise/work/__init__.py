"""Work done once and kept: what it is, where it lies, what varies, who computes it.

identity.py   is this the same work?
journal.py    records of finished work, only ever added to
store.py      folders: of a run that is finished, of one that is not
grid.py       points as the product of what varies
executors.py  who computes them: this process, or several

No module here knows a method.
"""
