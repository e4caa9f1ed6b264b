"""The solvers of this package against those of others, on real and generated instances.

``copyreg bench`` runs it. `problems` has the instances, `peers` the other libraries, `run` measures
and judges, `plot` draws. The peers and the data are packages of the extra ``bench``; a package that
is missing is named in the results, and the rest runs.
"""
