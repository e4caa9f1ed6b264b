"""From files to the rows of tokens that training takes.

Nothing here needs JAX. Random choices are made by hashing names. So they do not depend on the order
of the documents, the process or the machine.
"""
