"""The runtime type checker of the tests: beartype, where an int is a float as PEP 484 says."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
