"""The solvers of this package against those of others, on real and generated instances.

``copyreg bench`` runs it. `suite` has the instances, `peers` lists the methods, `contest` measures
and judges, `tables` writes the results, `profiles` draws them. The peers and the data are packages
of the extra ``bench``; a package that is missing is named in the results, and the rest runs.
"""
