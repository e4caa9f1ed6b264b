"""Functions that are called as ever, and counted."""


def count_calls(patch, module, *names):
    """The list to which each call of these functions of a module adds the name of the function."""
    calls = []

    def counted(name, function):
        def call(*given, **more):
            calls.append(name)
            return function(*given, **more)

        return call

    for name in names:
        patch.setattr(module, name, counted(name, getattr(module, name)))
    return calls
